package custody

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"

	"breakglass/internal/sshcert"
)

// agentTimeout bounds one signature of an agent: the writer waits for it, and everybody behind it. A token takes milliseconds.
const agentTimeout = 2 * time.Second

// Keeper opens places.
type Keeper struct {
	// Dir is what relative paths are under.
	Dir string
	// Credentials is $CREDENTIALS_DIRECTORY, or "".
	Credentials string
	// AgentSocket is the agent's; "" is none.
	AgentSocket string
	// Passphrase gives the passphrase of sealed files. It is asked once and forgotten with Forget.
	Passphrase func() ([]byte, error)

	passphrase []byte
}

// Forget wipes the passphrase.
func (k *Keeper) Forget() {
	Wipe(k.passphrase)
	k.passphrase = nil
}

// Secret reads the bytes of a key that is kept as bytes. The caller wipes them.
func (k *Keeper) Secret(p Place) ([]byte, error) {
	switch p.Kind {
	case File:
		return k.read(k.path(p.At), 0o077)
	case Credential:
		if k.Credentials == "" {
			return nil, fmt.Errorf("reading credential %s: $CREDENTIALS_DIRECTORY is not set: only the service has it, by LoadCredentialEncrypted=%s", p.At, p.At)
		}
		return k.read(filepath.Join(k.Credentials, p.At), 0o007) // systemd shows it to the unit's user by an ACL, which is the group's bits
	case Sealed:
		b, err := k.read(k.path(p.At), 0o077)
		if err != nil {
			return nil, err
		}
		if k.passphrase == nil {
			if k.Passphrase == nil {
				return nil, fmt.Errorf("reading key %s: it is sealed, and no passphrase is at hand", p.At)
			}
			if k.passphrase, err = k.Passphrase(); err != nil {
				return nil, fmt.Errorf("reading the passphrase of %s: %w", p.At, err)
			}
		}
		secret, err := Unseal(b, k.passphrase)
		if err != nil {
			return nil, fmt.Errorf("reading key %s: %w", p.At, err)
		}
		return secret, nil
	case Agent:
		return nil, fmt.Errorf("%w: %s: only the three SSH keys can be in an agent", ErrPlace, p)
	}
	return nil, fmt.Errorf("%w: %s", ErrPlace, p)
}

func (k *Keeper) path(at string) string {
	if filepath.IsAbs(at) {
		return at
	}
	return filepath.Join(k.Dir, at)
}

// read refuses a file that others can read.
func (k *Keeper) read(path string, forbidden os.FileMode) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("reading key: %w", err)
	}
	defer f.Close()
	s, err := f.Stat() // of what was opened, not of what the name points to a moment later
	if err != nil {
		return nil, fmt.Errorf("reading key: %w", err)
	}
	if s.Mode().Perm()&forbidden != 0 {
		return nil, fmt.Errorf("reading key %s: others may read it: chmod 600 %[1]s", path)
	}
	b, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil || len(b) > maxFile {
		return nil, errors.Join(err, fmt.Errorf("reading key %s: over %d bytes", path, maxFile))
	}
	return b, nil
}

// Key is a CA key. Its signer is nobody's: Certify is its only use.
type Key struct {
	Place  Place
	public ssh.PublicKey
	sign   func() (ssh.Signer, func(), error)
}

// Public is the public half.
func (k *Key) Public() ssh.PublicKey { return k.public }

// Fingerprint is SHA256:… of the public half.
func (k *Key) Fingerprint() string { return ssh.FingerprintSHA256(k.public) }

// Load opens an SSH CA key. One of an agent proves itself by a signature.
func (k *Keeper) Load(p Place) (*Key, error) {
	if p.Kind == Agent {
		return k.fromAgent(p)
	}
	b, err := k.Secret(p)
	if err != nil {
		return nil, err
	}
	defer Wipe(b)
	return Parse(p, b)
}

// Parse is the key that the bytes at that place hold.
func Parse(p Place, secret []byte) (*Key, error) {
	s, err := ssh.ParsePrivateKey(secret)
	if err != nil {
		return nil, fmt.Errorf("reading key %s: %w", p, unsecret(err))
	}
	key := &Key{Place: p, public: s.PublicKey(), sign: func() (ssh.Signer, func(), error) { return s, func() {}, nil }}
	return key, check(p, key.public)
}

// check accepts the kinds of key that OpenSSH and PKCS#11 share with us (Ed25519 is not usable from a token: OpenSSH 9.2, SoftHSM2 2.6).
func check(p Place, k ssh.PublicKey) error {
	switch k.Type() {
	case ssh.KeyAlgoED25519, ssh.KeyAlgoECDSA256:
		return nil
	}
	return fmt.Errorf("key %s is %s: want ed25519 or ecdsa-sha2-nistp256", p, k.Type())
}

// unsecret keeps a parser's words about key material out of logs.
func unsecret(err error) error {
	if missing := new(ssh.PassphraseMissingError); errors.As(err, &missing) {
		return errors.New("it has a passphrase of its own: seal it with `breakglass-ca keys seal` instead")
	}
	return errors.New("no private key in OpenSSH or PEM form")
}

func (k *Keeper) fromAgent(p Place) (*Key, error) {
	if k.AgentSocket == "" {
		return nil, fmt.Errorf("%w: %s: [keys] names no agent", ErrPlace, p)
	}
	key := &Key{Place: p}
	// A connection a signature: an agent that was started anew, or whose token is back, is found without a restart of ours.
	key.sign = func() (ssh.Signer, func(), error) {
		ctx, cancel := context.WithTimeout(context.Background(), agentTimeout)
		defer cancel()
		c, err := (&net.Dialer{}).DialContext(ctx, "unix", k.AgentSocket)
		if err != nil {
			return nil, nil, fmt.Errorf("%w: the agent at %s: %w", ErrUnavailable, k.AgentSocket, err)
		}
		c.SetDeadline(time.Now().Add(agentTimeout))
		signers, err := agent.NewClient(c).Signers()
		if err != nil {
			c.Close()
			return nil, nil, fmt.Errorf("%w: the agent at %s: %w", ErrUnavailable, k.AgentSocket, err)
		}
		for _, s := range signers {
			if ssh.FingerprintSHA256(s.PublicKey()) == p.At {
				return s, func() { c.Close() }, nil
			}
		}
		c.Close()
		return nil, nil, fmt.Errorf("%w: the agent at %s does not hold %s", ErrUnavailable, k.AgentSocket, p.At)
	}
	s, done, err := key.sign()
	if err != nil {
		return nil, err
	}
	defer done()
	key.public = s.PublicKey()
	if err := check(p, key.public); err != nil {
		return nil, err
	}
	// A token lists its public keys also before its PIN was given; and an agent may ask somebody to confirm.
	probe := make([]byte, 32)
	rand.Read(probe)
	probe = append([]byte("breakglass key probe v1\n"), probe...)
	sig, err := s.Sign(rand.Reader, probe)
	if err != nil {
		return nil, fmt.Errorf("%w: the agent lists %s and does not sign with it: %w", ErrUnavailable, p.At, err)
	}
	if err := key.public.Verify(probe, sig); err != nil {
		return nil, fmt.Errorf("the agent signs with another key than %s: %w", p.At, err)
	}
	return key, nil
}

// Certify lints the template, signs it, and calls record before it gives the certificate out. An error of record is Certify's: then
// nobody has the certificate.
func (k *Key) Certify(template *ssh.Certificate, kind sshcert.Kind, record func(*ssh.Certificate) error) (*ssh.Certificate, error) {
	l, err := sshcert.Lint(template, kind)
	if err != nil {
		return nil, err
	}
	s, done, err := k.sign()
	if err != nil {
		return nil, err
	}
	defer done()
	c, err := l.Sign(s)
	if errors.Is(err, sshcert.ErrLint) {
		return nil, err
	} else if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	// An agent may answer with whatever it likes: the signature is held against the key that was loaded.
	if err := sshcert.Verify(c, kind, []ssh.PublicKey{k.public}, time.Time{}); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	if err := record(c); err != nil {
		return nil, err
	}
	return c, nil
}
