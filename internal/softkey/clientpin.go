package softkey

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdh"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
)

const (
	pinRetries    = 8  // CTAP 2.1 section 6.5.3: at most 8
	uvRetries     = 3  // at most 25; few, so that a test gets there
	pinPerPower   = 3  // wrong PINs until the key wants to be plugged in again (section 6.5.5.7)
	minPIN        = 4  // section 6.5.1; in code points, bytes here
	maxPIN        = 63 // section 6.5.1
	paddedPIN     = 64 // section 6.5.5.5
	tokenLen      = 32
	permissionMC  = 0x01
	permissionGA  = 0x02
	permissionAll = permissionMC | permissionGA
)

// clientPIN subcommands (section 6.5.5).
const (
	subPINRetries   = 0x01
	subKeyAgreement = 0x02
	subSetPIN       = 0x03
	subChangePIN    = 0x04
	subPINToken     = 0x05
	subUVToken      = 0x06
	subUVRetries    = 0x07
	subPINTokenPerm = 0x09
)

// errPINNotSet is ctapPINNotSet for in-process callers too.
const errPINNotSet = ctapPINNotSet

// pinState is what a key keeps between commands and loses with its power.
type pinState struct {
	agreement *ecdh.PrivateKey
	token     []byte
	perms     byte
	rpID      string // that the permissions are for; "" until used
	wrong     int    // in a row since power up
}

// reset makes a new key agreement key and token.
func (p *pinState) reset() error {
	k, err := ecdh.P256().GenerateKey(rand.Reader)
	if err != nil {
		return err
	}
	p.agreement = k
	return p.newToken(0, "")
}

// newToken makes all tokens handed out before useless.
func (p *pinState) newToken(perms byte, rpID string) error {
	p.token, p.perms, p.rpID = make([]byte, tokenLen), perms, rpID
	_, err := rand.Read(p.token)
	return err
}

// verify holds a PIN hash against the key's, counting (section 6.5.5.7).
func (p *pinState) verify(st *state, hash []byte) error {
	if st.PINRetries <= 0 {
		return ctapPINBlocked
	}
	if p.wrong >= pinPerPower {
		return ctapPINAuthBlocked
	}
	st.PINRetries-- // before comparing, so that pulling the plug can't win a try
	if subtle.ConstantTimeCompare(hash, st.PINHash) != 1 {
		p.wrong++
		if err := p.reset(); err != nil {
			return err
		}
		switch {
		case st.PINRetries <= 0:
			return ctapPINBlocked
		case p.wrong >= pinPerPower:
			return ctapPINAuthBlocked
		}
		return ctapPINInvalid
	}
	st.PINRetries, st.UVRetries, p.wrong = pinRetries, uvRetries, 0
	return nil
}

// authorised says whether param authenticates cdh under a token with that permission for that rpID.
func (p *pinState) authorised(proto uint, param, cdh []byte, perm byte, rpID string) bool {
	if p.perms&perm == 0 || !macOK(proto, p.token, cdh, param) {
		return false
	}
	if p.rpID == "" {
		p.rpID = rpID // a token without a relying party gets the first that uses it (section 6.1.2)
	}
	return p.rpID == rpID
}

func pinHash(pin []byte) []byte {
	h := sha256.Sum256(pin)
	return h[:16]
}

func pinAllowed(pin []byte) bool { return len(pin) >= minPIN && len(pin) <= maxPIN }

type pinRequest struct {
	Protocol     uint     `cbor:"1,keyasint,omitempty"`
	Sub          uint     `cbor:"2,keyasint"`
	KeyAgreement *coseKey `cbor:"3,keyasint,omitempty"`
	AuthParam    []byte   `cbor:"4,keyasint,omitempty"`
	NewPINEnc    []byte   `cbor:"5,keyasint,omitempty"`
	PINHashEnc   []byte   `cbor:"6,keyasint,omitempty"`
	Permissions  byte     `cbor:"9,keyasint,omitempty"`
	RPID         string   `cbor:"10,keyasint,omitempty"`
}

type pinResponse struct {
	KeyAgreement *coseKey `cbor:"1,keyasint,omitempty"`
	Token        []byte   `cbor:"2,keyasint,omitempty"`
	PINRetries   *int     `cbor:"3,keyasint,omitempty"`
	PowerCycle   *bool    `cbor:"4,keyasint,omitempty"`
	UVRetries    *int     `cbor:"5,keyasint,omitempty"`
}

// clientPIN is authenticatorClientPIN (section 6.5).
func (c *command) clientPIN(body []byte) (any, error) {
	var q pinRequest
	if err := decode(body, &q); err != nil {
		return nil, err
	}
	a := c.auth
	switch q.Sub {
	case subPINRetries, subUVRetries, subKeyAgreement:
	default:
		if q.Protocol != 1 && q.Protocol != 2 {
			return nil, ctapInvalidParameter
		}
	}
	if q.Sub == subUVToken { // asks for a touch: not under the locks
		return c.uvToken(&q)
	}
	var out any
	err := a.store.update(func(st *state) error {
		a.mu.Lock()
		defer a.mu.Unlock()
		p := &a.pin
		switch q.Sub {
		case subPINRetries:
			again := p.wrong >= pinPerPower
			out = pinResponse{PINRetries: &st.PINRetries, PowerCycle: &again}
			return nil
		case subUVRetries:
			out = pinResponse{UVRetries: &st.UVRetries}
			return nil
		case subKeyAgreement:
			pt := p.agreement.PublicKey().Bytes()
			out = pinResponse{KeyAgreement: &coseKey{Kty: coseEC2, Alg: coseECDH, Crv: coseP256, X: pt[1:33], Y: pt[33:]}}
			return nil
		}
		sh, err := p.agree(q.Protocol, q.KeyAgreement)
		if err != nil {
			return err
		}
		switch q.Sub {
		case subSetPIN:
			if st.PINHash != nil {
				return ctapPINAuthInvalid
			}
			return sh.setPIN(st, p, &q, q.NewPINEnc)
		case subChangePIN:
			if st.PINHash == nil {
				return ctapPINNotSet
			}
			return sh.changePIN(st, p, &q)
		case subPINToken, subPINTokenPerm:
			out, err = sh.pinToken(st, p, &q)
			return err
		}
		return ctapInvalidSubcommand
	})
	return out, err
}

func (s *shared) setPIN(st *state, p *pinState, q *pinRequest, authed []byte) error {
	if !macOK(s.proto, s.macKey, authed, q.AuthParam) {
		return ctapPINAuthInvalid
	}
	padded, err := s.decrypt(q.NewPINEnc)
	if err != nil || len(padded) != paddedPIN {
		return ctapInvalidParameter
	}
	pin := bytes.TrimRight(padded, "\x00")
	if !pinAllowed(pin) {
		return ctapPINPolicy
	}
	st.PINHash, st.PINRetries, p.wrong = pinHash(pin), pinRetries, 0
	return p.newToken(0, "")
}

func (s *shared) changePIN(st *state, p *pinState, q *pinRequest) error {
	authed := append(bytes.Clone(q.NewPINEnc), q.PINHashEnc...)
	if !macOK(s.proto, s.macKey, authed, q.AuthParam) {
		return ctapPINAuthInvalid
	}
	old, err := s.decrypt(q.PINHashEnc)
	if err != nil {
		return ctapInvalidParameter
	}
	if err := p.verify(st, old); err != nil {
		return err
	}
	return s.setPIN(st, p, q, authed)
}

func (s *shared) pinToken(st *state, p *pinState, q *pinRequest) (any, error) {
	if st.PINHash == nil {
		return nil, ctapPINNotSet
	}
	perms := byte(permissionAll)
	if q.Sub == subPINTokenPerm {
		perms = q.Permissions
		if perms == 0 || perms&^permissionAll != 0 {
			return nil, ctapUnauthorizedPermission
		}
		if q.RPID == "" { // both permissions need one (section 6.5.5.7, table)
			return nil, ctapMissingParameter
		}
	} else if q.Permissions != 0 || q.RPID != "" {
		return nil, ctapInvalidParameter
	}
	hash, err := s.decrypt(q.PINHashEnc)
	if err != nil {
		return nil, ctapInvalidParameter
	}
	if err := p.verify(st, hash); err != nil {
		return nil, err
	}
	if err := p.newToken(perms, q.RPID); err != nil {
		return nil, err
	}
	tok, err := s.encrypt(p.token)
	return pinResponse{Token: tok}, err
}

// uvToken is getPinUvAuthTokenUsingUvWithPermissions: the finger instead of the PIN.
func (c *command) uvToken(q *pinRequest) (any, error) {
	a := c.auth
	if !a.cfg.BuiltInUV {
		return nil, ctapNotAllowed
	}
	if q.Permissions == 0 || q.Permissions&^permissionAll != 0 {
		return nil, ctapUnauthorizedPermission
	}
	if err := c.builtInUV("sign"); err != nil {
		return nil, err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	s, err := a.pin.agree(q.Protocol, q.KeyAgreement)
	if err != nil {
		return nil, err
	}
	if err := a.pin.newToken(q.Permissions, q.RPID); err != nil {
		return nil, err
	}
	tok, err := s.encrypt(a.pin.token)
	return pinResponse{Token: tok}, err
}

// builtInUV waits for a finger and judges it.
func (c *command) builtInUV(op string) error {
	a := c.auth
	var blocked bool
	if err := a.store.update(func(st *state) error { blocked = st.UVRetries <= 0; return nil }); err != nil {
		return err
	}
	if blocked {
		return ctapUVBlocked
	}
	if err := c.touch(op); err != nil {
		return err
	}
	f := a.currentFaults()
	return a.store.update(func(st *state) error {
		if !f.UVMismatch {
			st.UVRetries = uvRetries
			return nil
		}
		if st.UVRetries--; st.UVRetries <= 0 {
			return ctapUVBlocked
		}
		return ctapUVInvalid
	})
}

// shared is the shared secret of one clientPIN command (section 6.5.4).
type shared struct {
	proto          uint
	aesKey, macKey []byte
}

// agree is decapsulate of both protocols (sections 6.5.6 and 6.5.7).
func (p *pinState) agree(proto uint, peer *coseKey) (*shared, error) {
	if peer == nil {
		return nil, ctapMissingParameter
	}
	if peer.Kty != coseEC2 || peer.Crv != coseP256 || len(peer.X) != 32 || len(peer.Y) != 32 {
		return nil, ctapInvalidParameter
	}
	pub, err := ecdh.P256().NewPublicKey(append(append([]byte{4}, peer.X...), peer.Y...))
	if err != nil {
		return nil, ctapInvalidParameter
	}
	z, err := p.agreement.ECDH(pub)
	if err != nil {
		return nil, ctapInvalidParameter
	}
	if proto == 1 {
		k := sha256.Sum256(z)
		return &shared{proto: 1, aesKey: k[:], macKey: k[:]}, nil
	}
	s := &shared{proto: 2}
	salt := make([]byte, 32)
	if s.macKey, err = hkdf.Key(sha256.New, z, salt, "CTAP2 HMAC key", 32); err != nil {
		return nil, err
	}
	s.aesKey, err = hkdf.Key(sha256.New, z, salt, "CTAP2 AES key", 32)
	return s, err
}

func (s *shared) encrypt(plain []byte) ([]byte, error) {
	b, err := aes.NewCipher(s.aesKey)
	if err != nil {
		return nil, err
	}
	iv := make([]byte, aes.BlockSize)
	var out []byte
	if s.proto == 2 {
		if _, err := rand.Read(iv); err != nil {
			return nil, err
		}
		out = bytes.Clone(iv)
	}
	ct := make([]byte, len(plain))
	cipher.NewCBCEncrypter(b, iv).CryptBlocks(ct, plain)
	return append(out, ct...), nil
}

func (s *shared) decrypt(ct []byte) ([]byte, error) {
	b, err := aes.NewCipher(s.aesKey)
	if err != nil {
		return nil, err
	}
	iv := make([]byte, aes.BlockSize)
	if s.proto == 2 {
		if len(ct) < aes.BlockSize {
			return nil, errors.New("short ciphertext")
		}
		iv, ct = ct[:aes.BlockSize], ct[aes.BlockSize:]
	}
	if len(ct) == 0 || len(ct)%aes.BlockSize != 0 {
		return nil, errors.New("ciphertext is not whole blocks")
	}
	plain := make([]byte, len(ct))
	cipher.NewCBCDecrypter(b, iv).CryptBlocks(plain, ct)
	return plain, nil
}

// macOK is verify of both protocols: protocol one's signature is the first 16 bytes.
func macOK(proto uint, key, msg, sig []byte) bool {
	m := hmac.New(sha256.New, key)
	m.Write(msg)
	want := m.Sum(nil)
	if proto == 1 {
		want = want[:16]
	}
	return hmac.Equal(want, sig)
}
