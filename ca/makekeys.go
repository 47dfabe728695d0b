package ca

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"path/filepath"

	"golang.org/x/crypto/ssh"

	"breakglass/ca/custody"
	"breakglass/internal/durable"
	"breakglass/ledger"
)

// Sealing says how Init keeps the keys that it makes.
type Sealing struct {
	// Kind is custody.Sealed, custody.Credential or, for the demo profile alone, custody.File; "" is File.
	Kind custody.Kind
	// Passphrase of custody.Sealed.
	Passphrase []byte
	// Standby is the passphrase of the standby keys; they are sealed whatever the kind but File.
	Standby []byte
	// Encrypt puts a credential of that name away, for custody.Credential: the secret must not lie on a disk in between.
	Encrypt func(name string, secret []byte) error
	// Existing are places of SSH keys that are there already, in an agent; the others are made.
	Existing map[string]custody.Place
	// Agent is the agent's socket.
	Agent string
	// WorkFactor of scrypt; 0 is custody.WorkFactor.
	WorkFactor int
}

func (s *Sealing) check(production bool) error {
	if s.Kind == "" {
		s.Kind = custody.File
	}
	for n, p := range s.Existing {
		if p.Kind != custody.Agent || keyList(&ledger.Site{}, n) == nil || n == KeyTLS {
			return fmt.Errorf("%w: %s at %s: only the SSH keys can be in an agent", custody.ErrPlace, n, p)
		}
	}
	switch {
	case s.Kind == custody.File && production:
		return fmt.Errorf("%w: say --seal passphrase or --seal credential", ErrPlainKey)
	case s.Kind == custody.File:
		return nil
	case s.Kind == custody.Sealed && len(s.Passphrase) < custody.MinPassphrase, len(s.Standby) < custody.MinPassphrase:
		return fmt.Errorf("sealing keys: a passphrase of at least %d characters is wanted, for the standby keys too", custody.MinPassphrase)
	case s.Kind == custody.Credential && s.Encrypt == nil:
		return errors.New("sealing keys: nothing encrypts credentials")
	}
	return nil
}

// made is what makeKeys gives to the first site: public halves, and where the private ones are.
type made struct {
	public    map[string]string // authorized_keys form; of tls the SPKI hash
	places    map[string]custody.Place
	ledgerKey string
}

// makeKeys makes a set of keys. origin "" makes a standby set, which has no ledger key: a lost log goes on as a new one.
func makeKeys(dir, sub, origin string, s Sealing) (made, error) {
	m := made{public: map[string]string{}, places: map[string]custody.Place{}}
	if err := durable.MkdirAll(filepath.Join(dir, sub), 0o700); err != nil {
		return m, err
	}
	for _, n := range append(append([]string{}, sshKeys...), KeyTLS) {
		if p, ok := s.Existing[n]; ok && origin != "" {
			k, err := (&custody.Keeper{AgentSocket: s.Agent}).Load(p)
			if err != nil {
				return m, fmt.Errorf("loading %s: %w", n, err)
			}
			m.public[n], m.places[n] = authorized(k.Public()), p
			continue
		}
		public, secret, err := makeKey(n)
		if err != nil {
			return m, err
		}
		m.public[n] = public
		m.places[n], err = s.keep(dir, filepath.Join(sub, n), origin == "", secret)
		custody.Wipe(secret)
		if err != nil {
			return m, err
		}
	}
	if origin != "" {
		skey, vkey, err := ledger.GenerateKey(origin)
		if err != nil {
			return m, err
		}
		m.ledgerKey = vkey
		if m.places[KeyLedger], err = s.keep(dir, filepath.Join(sub, KeyLedger), false, []byte(skey+"\n")); err != nil {
			return m, err
		}
	}
	return m, nil
}

// makeKey makes one key: its public half as a site has it, and its private half as a place keeps it.
func makeKey(n string) (string, []byte, error) {
	pub, priv, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return "", nil, err
	}
	if n == KeyTLS {
		der, err := x509.MarshalPKCS8PrivateKey(priv)
		if err != nil {
			return "", nil, err
		}
		h, err := spki(pub)
		return h, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), err
	}
	block, err := ssh.MarshalPrivateKey(priv, "breakglass "+n)
	if err != nil {
		return "", nil, err
	}
	p, err := ssh.NewPublicKey(pub)
	if err != nil {
		return "", nil, err
	}
	return authorized(p), pem.EncodeToMemory(block), nil
}

// keep puts a secret away under dir/path, which is also the end of its credential's name.
func (s Sealing) keep(dir, path string, standby bool, secret []byte) (custody.Place, error) {
	switch {
	case s.Kind == custody.File:
		return custody.Place{Kind: custody.File, At: path}, durable.WriteNew(filepath.Join(dir, path), secret, 0o600)
	case s.Kind == custody.Credential && !standby:
		name := "breakglass-ca-" + filepath.Base(path)
		return custody.Place{Kind: custody.Credential, At: name}, s.Encrypt(name, secret)
	}
	pass, factor := s.Passphrase, s.WorkFactor
	if standby {
		pass, factor = s.Standby, s.standbyFactor()
	}
	b, err := custody.Seal(secret, pass, factor)
	if err != nil {
		return custody.Place{}, err
	}
	path += ".age"
	return custody.Place{Kind: custody.Sealed, At: path}, durable.WriteNew(filepath.Join(dir, path), b, 0o600)
}

// standbyFactor is higher than that of keys that a start waits for.
func (s Sealing) standbyFactor() int {
	if s.WorkFactor == 0 {
		return custody.StandbyWorkFactor
	}
	return s.WorkFactor
}
