package sshcert

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"sync/atomic"

	"golang.org/x/crypto/ssh"
)

// Linted is a certificate template that passed, with leave to be signed once.
type Linted struct {
	cert  *ssh.Certificate
	kind  Kind
	spent atomic.Bool
}

// throwAway is a public key drawn at random, whose secret nobody has or had.
type throwAway [ed25519.PublicKeySize]byte

func (throwAway) Type() string { return ssh.KeyAlgoED25519 }

func (k throwAway) Marshal() []byte {
	return ssh.Marshal(struct {
		Type string
		Key  []byte
	}{ssh.KeyAlgoED25519, k[:]})
}

func (throwAway) Verify([]byte, *ssh.Signature) error { return ErrIssuer }

// trial fills in what signing would, by a throw-away key: the nonce, the key, and a signature of the right form that is good nowhere. Of a
// trial only the bytes are judged.
func trial(c ssh.Certificate) *ssh.Certificate {
	var k throwAway
	rand.Read(k[:])
	c.Nonce = make([]byte, randomNonce)
	rand.Read(c.Nonce)
	c.SignatureKey = k
	c.Signature = &ssh.Signature{Format: ssh.KeyAlgoED25519, Blob: make([]byte, ed25519.SignatureSize)}
	return &c
}

// Lint fills the template in as if a throw-away key had signed it, parses the real bytes and checks them; only then may it meet the CA's key. What a template says
// and what its bytes say can differ (an unsorted or doubled option, a key that marshals as another): so the bytes are judged.
func Lint(c *ssh.Certificate, kind Kind) (*Linted, error) {
	if err := judge(trial(*c), kind); err != nil {
		return nil, err
	}
	return &Linted{cert: c, kind: kind}, nil
}

// Sign spends the token: it signs with the CA's key and checks the result once more.
func (l *Linted) Sign(ca ssh.Signer) (*ssh.Certificate, error) {
	if l.spent.Swap(true) {
		return nil, fmt.Errorf("%w: template was signed before", ErrLint)
	}
	c := *l.cert
	if err := sign(&c, ca, l.kind); err != nil {
		return nil, err
	}
	return &c, nil
}

func sign(c *ssh.Certificate, s ssh.Signer, kind Kind) error {
	if err := c.SignCert(rand.Reader, s); err != nil {
		return fmt.Errorf("signing certificate: %w", err)
	}
	return judge(c, kind)
}

// judge checks what the bytes of c say.
func judge(c *ssh.Certificate, kind Kind) error {
	blob := c.Marshal()
	if base64.StdEncoding.EncodedLen(len(blob)) > MaxSize {
		return fmt.Errorf("%w: %d bytes, limit %d in base64", ErrLint, len(blob), MaxSize)
	}
	back, err := ssh.ParsePublicKey(blob)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrLint, err)
	}
	cert, ok := back.(*ssh.Certificate)
	if !ok {
		return fmt.Errorf("%w: a plain key instead of a certificate", ErrLint)
	}
	return Check(cert, kind)
}

// MaxSize bounds a certificate in authorized_keys form, in bytes: a host certificate with 256 names has under 20 KiB.
const MaxSize = 32 << 10

// Parse reads a certificate in authorized_keys form. It judges the form only.
func Parse(text []byte) (*ssh.Certificate, error) {
	if len(text) > MaxSize {
		return nil, fmt.Errorf("%w: %d bytes, limit %d", ErrLint, len(text), MaxSize)
	}
	k, _, _, _, err := ssh.ParseAuthorizedKey(text)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrLint, err)
	}
	c, ok := k.(*ssh.Certificate)
	if !ok {
		return nil, fmt.Errorf("%w: a plain key instead of a certificate", ErrLint)
	}
	return c, nil
}
