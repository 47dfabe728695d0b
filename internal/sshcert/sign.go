package sshcert

import (
	"crypto/ed25519"
	"crypto/rand"
	"fmt"
	"sync"
	"sync/atomic"

	"golang.org/x/crypto/ssh"
)

// Linted is a certificate template that passed, with leave to be signed once.
type Linted struct {
	cert  *ssh.Certificate
	kind  Kind
	spent atomic.Bool
}

// throwAway is the key that a trial is signed with. No host and no jump trusts it, and what it signed is dropped within Lint, so it may live
// as long as the process; making one a certificate cost as much as both signatures.
var throwAway = sync.OnceValues(func() (ssh.Signer, error) {
	_, priv, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("making the lint key: %w", err)
	}
	s, err := ssh.NewSignerFromKey(priv)
	if err != nil {
		return nil, fmt.Errorf("making the lint key: %w", err)
	}
	return s, nil
})

// Lint signs the template with a throw-away key, parses the real bytes and checks them; only then may it meet the
// CA's key. What a template says and what its bytes say can differ (an unsorted or doubled option, a key that marshals as
// another): so the bytes are judged.
func Lint(c *ssh.Certificate, kind Kind) (*Linted, error) {
	s, err := throwAway()
	if err != nil {
		return nil, err
	}
	trial := *c
	if err := sign(&trial, s, kind); err != nil {
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
	back, err := Parse(ssh.MarshalAuthorizedKey(c))
	if err != nil {
		return err
	}
	return Check(back, kind)
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
