package softkey

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
)

// This file is the hmac-secret extension (CTAP 2.1 section 12.5): a secret that only this credential gives, for a salt that the platform chooses.
// A verified user and one who only touched get different ones.

const (
	extHMACSecret = "hmac-secret"
	hmacSalt      = 32 // bytes of a salt; one or two are sent
)

// hmacSecretInput is what a platform sends; the salts go encrypted under a secret agreed upon as for the PIN.
type hmacSecretInput struct {
	KeyAgreement *coseKey `cbor:"1,keyasint"`
	SaltEnc      []byte   `cbor:"2,keyasint"`
	SaltAuth     []byte   `cbor:"3,keyasint"`
	Protocol     uint     `cbor:"4,keyasint,omitempty"` // absent is one
}

// pinProtocols are those that this key knows.
func (a *Authenticator) pinProtocols() []int {
	if a.cfg.PINProtocols == nil {
		return []int{2, 1}
	}
	return a.cfg.PINProtocols
}

// drawRandoms makes CredRandomWithUV and CredRandomWithoutUV.
func (c *credential) drawRandoms() error {
	c.RandomUV, c.RandomNoUV = make([]byte, 32), make([]byte, 32)
	if _, err := rand.Read(c.RandomUV); err != nil {
		return err
	}
	_, err := rand.Read(c.RandomNoUV)
	return err
}

// hmacSecret gives the extension's output for one or two salts.
func (a *Authenticator) hmacSecret(c *credential, q *hmacSecretInput, uv bool) (map[string]any, error) {
	proto := q.Protocol
	if proto == 0 {
		proto = 1
	}
	known := false
	for _, p := range a.pinProtocols() {
		known = known || uint(p) == proto
	}
	if !known {
		return nil, ctapInvalidParameter
	}
	a.mu.Lock()
	s, err := a.pin.agree(proto, q.KeyAgreement)
	a.mu.Unlock()
	if err != nil {
		return nil, err
	}
	if !macOK(proto, s.macKey, q.SaltEnc, q.SaltAuth) {
		return nil, ctapPINAuthInvalid
	}
	salts, err := s.decrypt(q.SaltEnc)
	if err != nil || len(salts) != hmacSalt && len(salts) != 2*hmacSalt {
		return nil, ctapInvalidParameter
	}
	var plain []byte
	for ; len(salts) > 0; salts = salts[hmacSalt:] {
		plain = append(plain, c.secret(salts[:hmacSalt], uv)...)
	}
	out, err := s.encrypt(plain)
	if err != nil {
		return nil, err
	}
	return map[string]any{extHMACSecret: out}, nil
}

// secret is output1 or output2.
func (c *credential) secret(salt []byte, uv bool) []byte {
	random := c.RandomNoUV
	if uv {
		random = c.RandomUV
	}
	m := hmac.New(sha256.New, random)
	m.Write(salt)
	return m.Sum(nil)
}

// Secret gives in process what hmac-secret gives for one salt, so that a test can say what a key should have answered.
func (a *Authenticator) Secret(application string, credentialID, salt []byte, uv bool) ([]byte, error) {
	var out []byte
	err := a.store.update(func(st *state) error {
		c := st.find(credentialID, application)
		if c == nil || c.RandomUV == nil {
			return ErrNoCredential
		}
		out = c.secret(salt, uv)
		return nil
	})
	return out, err
}
