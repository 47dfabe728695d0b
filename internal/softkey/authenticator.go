package softkey

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/asn1"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"sync"
	"time"

	"golang.org/x/crypto/ssh"
)

// KeyType is the ssh key type of every credential made here (OpenSSH PROTOCOL.u2f).
const KeyType = "sk-ecdsa-sha2-nistp256@openssh.com"

// Authenticator data flags (WebAuthn section 6.1).
const (
	FlagUP = 0x01 // user present
	FlagUV = 0x04 // user verified
	flagBE = 0x08 // backup eligible
	flagBS = 0x10 // backed up
	flagAT = 0x40 // attested credential data included
	flagED = 0x80 // extension data included
)

var (
	// ErrNoCredential is returned for a credential that this key doesn't hold for that application.
	ErrNoCredential = errors.New("no such credential on this key")
	// ErrNoTouch is returned when the user walked away.
	ErrNoTouch = errors.New("not touched")
)

// Authenticator is the key without a plug. Its methods may be called at the same time.
type Authenticator struct {
	cfg   Config
	log   *slog.Logger
	store store

	mu     sync.Mutex // guards what a power cycle loses
	faults Faults
	pin    pinState
}

// NewAuthenticator powers a key up from its state, making that when there is none.
func NewAuthenticator(cfg Config) (*Authenticator, error) {
	switch cfg.Attestation {
	case "":
		cfg.Attestation = AttestSelf
	case AttestSelf, AttestBasic, AttestNone:
	default:
		return nil, fmt.Errorf("unknown attestation %q", cfg.Attestation)
	}
	if cfg.TouchTimeout == 0 {
		cfg.TouchTimeout = touchTimeout
	}
	if cfg.AAGUID == ([16]byte{}) {
		copy(cfg.AAGUID[:], "breakglass-soft!")
	}
	a := &Authenticator{cfg: cfg, log: cfg.Log, store: store{path: cfg.StatePath}, faults: cfg.Faults}
	if a.log == nil {
		a.log = slog.New(slog.DiscardHandler)
	}
	if err := a.pin.reset(); err != nil {
		return nil, err
	}
	err := a.store.update(func(st *state) error {
		if st.AAGUID == nil { // a new key
			st.AAGUID = cfg.AAGUID[:]
			if cfg.Batch != nil {
				st.Attestation = cfg.Batch.attestation()
			} else {
				var err error
				if st.Attestation, err = newAttestation(cfg.AAGUID[:]); err != nil {
					return err
				}
			}
			st.PINRetries, st.UVRetries = pinRetries, uvRetries
		}
		if cfg.PIN != "" && st.PINHash == nil {
			if !pinAllowed([]byte(cfg.PIN)) {
				return fmt.Errorf("a PIN is %d to %d bytes", minPIN, maxPIN)
			}
			st.PINHash = pinHash([]byte(cfg.PIN))
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return a, nil
}

// SetFaults changes the faults from the next command on.
func (a *Authenticator) SetFaults(f Faults) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.faults = f
}

func (a *Authenticator) currentFaults() Faults {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.faults
}

// AttestationRoot is the DER certificate under which AttestBasic attests.
func (a *Authenticator) AttestationRoot() ([]byte, error) {
	var root []byte
	err := a.store.update(func(st *state) error { root = st.Attestation.Root; return nil })
	return root, err
}

// Enrollment is a new credential.
type Enrollment struct {
	PublicKey    ssh.PublicKey
	CredentialID []byte
	AuthData     []byte // raw, not wrapped in CBOR
	Format       string // "packed" or "none"
	Cert         []byte // DER; nil unless AttestBasic
	Signature    []byte // over AuthData ‖ clientDataHash; nil for AttestNone
}

// Enroll makes a credential in process; clientDataHash is SHA-256 of challenge, as ssh-keygen does it.
func (a *Authenticator) Enroll(application string, challenge []byte, uv bool) (*Enrollment, error) {
	if !a.touchNow("enroll") {
		return nil, ErrNoTouch
	}
	var e *Enrollment
	cdh := sha256.Sum256(challenge)
	err := a.store.update(func(st *state) (err error) {
		e, err = a.create(st, newCredential{rpID: application, userID: []byte{0}, cdh: cdh[:], uv: uv})
		return err
	})
	return e, err
}

// SignSK signs data in process as an ssh sk key does (OpenSSH PROTOCOL.u2f): clientDataHash is
// SHA-256(data); the signature's Blob is Marshal{R, S}, its Rest flags ‖ counter. Faults apply.
func (a *Authenticator) SignSK(application string, data, credentialID []byte, uv bool) (*ssh.Signature, error) {
	if !a.touchNow("sign") {
		return nil, ErrNoTouch
	}
	return a.signSK(application, data, credentialID, true, uv)
}

// SignSilently is SignSK without touch and without the presence flag: what a key configured with
// no-touch-required gives.
func (a *Authenticator) SignSilently(application string, data, credentialID []byte) (*ssh.Signature, error) {
	return a.signSK(application, data, credentialID, false, false)
}

func (a *Authenticator) signSK(application string, data, credentialID []byte, up, uv bool) (*ssh.Signature, error) {
	cdh := sha256.Sum256(data)
	var authData, der []byte
	err := a.store.update(func(st *state) (err error) {
		c := st.find(credentialID, application)
		if c == nil {
			return ErrNoCredential
		}
		authData, der, err = a.sign(st, c, cdh[:], up, uv, nil)
		return err
	})
	if err != nil {
		return nil, err
	}
	var rs struct{ R, S *big.Int }
	if _, err := asn1.Unmarshal(der, &rs); err != nil {
		return nil, fmt.Errorf("reading own signature: %w", err)
	}
	return &ssh.Signature{Format: KeyType, Blob: ssh.Marshal(rs), Rest: authData[32:37]}, nil
}

// Signer is an ssh.Signer over one credential, for whatever signs through that interface.
func (a *Authenticator) Signer(pub ssh.PublicKey, application string, credentialID []byte, uv bool) ssh.Signer {
	return signer{a, pub, application, credentialID, uv}
}

type signer struct {
	a           *Authenticator
	pub         ssh.PublicKey
	application string
	id          []byte
	uv          bool
}

func (s signer) PublicKey() ssh.PublicKey { return s.pub }

func (s signer) Sign(_ io.Reader, data []byte) (*ssh.Signature, error) {
	return s.a.SignSK(s.application, data, s.id, s.uv)
}

// VerifyPIN checks a PIN in process, at the cost of a retry when it is wrong, as a platform would
// through ClientPIN.
func (a *Authenticator) VerifyPIN(pin string) error {
	return a.store.update(func(st *state) error {
		a.mu.Lock()
		defer a.mu.Unlock()
		if st.PINHash == nil {
			return errPINNotSet
		}
		return a.pin.verify(st, pinHash([]byte(pin)))
	})
}

// touchNow is the touch of an in-process call.
func (a *Authenticator) touchNow(op string) bool {
	f := a.currentFaults()
	if f.DenyTouch {
		return false
	}
	time.Sleep(f.TouchDelay)
	return a.cfg.Touch == nil || a.cfg.Touch(op)
}

type newCredential struct {
	rpID        string
	userID      []byte
	userName    string
	cdh         []byte
	uv          bool
	credProtect int // 0: not asked for
	hmacSecret  bool
}

// create makes the credential and its attestation (CTAP 2.1 section 6.1.2 from step 16 on).
func (a *Authenticator) create(st *state, n newCredential) (*Enrollment, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	id := make([]byte, 48)
	if _, err := rand.Read(id); err != nil {
		return nil, err
	}
	point, err := key.PublicKey.Bytes()
	if err != nil {
		return nil, err
	}
	cose, err := encode(coseKey{Kty: coseEC2, Alg: coseES256, Crv: coseP256, X: point[1:33], Y: point[33:]})
	if err != nil {
		return nil, err
	}
	f := a.currentFaults()
	flags := byte(FlagUP | flagAT)
	if f.NoUP {
		flags &^= FlagUP
	}
	if n.uv && !f.NoUV || f.ForgedUV {
		flags |= FlagUV
	}
	if f.BackedUp {
		flags |= flagBE | flagBS
	}
	cr := &credential{ID: id, RPID: n.rpID, UserID: n.userID, UserName: n.userName, CredProtect: n.credProtect, PrivateKey: privateBytes(key), key: key}
	made := map[string]any{}
	if n.credProtect != 0 {
		made["credProtect"] = n.credProtect
	}
	if n.hmacSecret {
		if err := cr.drawRandoms(); err != nil {
			return nil, err
		}
		made[extHMACSecret] = true
	}
	var ext []byte
	if len(made) > 0 {
		flags |= flagED
		if ext, err = encode(made); err != nil {
			return nil, err
		}
	}
	authData := authDataHead(n.rpID, flags, st.Counter, f)
	authData = append(authData, st.AAGUID...)
	authData = binary.BigEndian.AppendUint16(authData, uint16(len(id)))
	authData = append(authData, id...)
	authData = append(append(authData, cose...), ext...)

	e := &Enrollment{CredentialID: id, AuthData: authData, Format: "packed"}
	signKey := key
	switch a.cfg.Attestation {
	case AttestNone:
		e.Format = "none"
		signKey = nil
	case AttestBasic:
		e.Cert = st.Attestation.Cert
		if signKey, err = parseKey(st.Attestation.CertKey); err != nil {
			return nil, err
		}
	}
	if signKey != nil {
		if e.Signature, err = signES256(signKey, authData, n.cdh, f); err != nil {
			return nil, err
		}
	}
	e.PublicKey, err = ssh.ParsePublicKey(ssh.Marshal(struct {
		Type, Curve string
		Point       []byte
		Application string
	}{KeyType, "nistp256", point, n.rpID}))
	if err != nil {
		return nil, fmt.Errorf("making public key: %w", err)
	}
	st.Credentials = append(st.Credentials, cr)
	return e, nil
}

// sign makes an assertion (CTAP 2.1 section 6.2.2 from step 9 on) with the extensions' outputs; the signature is DER.
func (a *Authenticator) sign(st *state, c *credential, cdh []byte, up, uv bool, outputs map[string]any) (authData, sig []byte, err error) {
	f := a.currentFaults()
	var flags byte
	if up && !f.NoUP {
		flags |= FlagUP
	}
	if uv && !f.NoUV || f.ForgedUV {
		flags |= FlagUV
	}
	if !f.FrozenCounter {
		st.Counter++
	}
	if f.LongAuthData {
		outputs = map[string]any{"unasked": true}
	}
	if len(outputs) > 0 {
		flags |= flagED
	}
	authData = authDataHead(c.RPID, flags, st.Counter, f)
	if len(outputs) > 0 {
		ext, err := encode(outputs)
		if err != nil {
			return nil, nil, err
		}
		authData = append(authData, ext...)
	}
	sig, err = signES256(c.key, authData, cdh, f)
	return authData, sig, err
}

// authDataHead is the first 37 bytes of authenticator data: rpIdHash, flags, counter.
func authDataHead(rpID string, flags byte, counter uint32, f Faults) []byte {
	if f.WrongRPIDHash {
		rpID += ".example"
	}
	h := sha256.Sum256([]byte(rpID))
	return binary.BigEndian.AppendUint32(append(h[:], flags), counter)
}

func signES256(key *ecdsa.PrivateKey, authData, cdh []byte, f Faults) ([]byte, error) {
	h := sha256.New()
	h.Write(authData)
	h.Write(cdh)
	if f.BadSignature {
		h.Write([]byte("not what was asked"))
	}
	return ecdsa.SignASN1(rand.Reader, key, h.Sum(nil))
}

func parseKey(b []byte) (*ecdsa.PrivateKey, error) {
	k, err := ecdsa.ParseRawPrivateKey(elliptic.P256(), b)
	if err != nil {
		return nil, fmt.Errorf("private key: %w", err)
	}
	return k, nil
}

func privateBytes(k *ecdsa.PrivateKey) []byte {
	b, err := k.Bytes()
	if err != nil { // impossible: the key is on P-256
		panic(err)
	}
	return b
}
