package ca

import (
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/mod/sumdb/note"

	"breakglass/internal/durable"
	"breakglass/ledger"
)

// keys are the active private keys. Each is used by one file: clientCA by request.go, sessionCA by session.go, hostCA by hostcert.go.
type keys struct {
	clientCA, sessionCA, hostCA ssh.Signer
	ledger                      note.Signer
	tls                         tls.Certificate
	seed                        []byte // of the TLS key; decoys are derived from it
}

// The files of the keys directory; the standby halves lie in a directory of their own, to be taken off the machine.
const (
	fileClientCA  = "client_ca"
	fileSessionCA = "session_ca"
	fileHostCA    = "host_ca"
	fileLedger    = "ledger"
	fileTLS       = "tls"
)

var sshKeys = []string{fileClientCA, fileSessionCA, fileHostCA}

// made is what makeKeys gives to the first site: public halves, active first.
type made struct {
	ssh       map[string]string // authorized_keys form
	tls       string            // SPKI hash
	ledgerKey string
}

// makeKeys makes a set of keys in dir. origin "" makes a standby set, which has no ledger key: a lost log goes on as a new one.
func makeKeys(dir, origin string) (made, error) {
	m := made{ssh: map[string]string{}}
	if err := durable.MkdirAll(dir, 0o700); err != nil {
		return m, err
	}
	for _, n := range append(sshKeys, fileTLS) {
		pub, priv, err := ed25519.GenerateKey(rand.Reader)
		if err != nil {
			return m, err
		}
		var block *pem.Block
		if n == fileTLS {
			der, err := x509.MarshalPKCS8PrivateKey(priv)
			if err != nil {
				return m, err
			}
			block = &pem.Block{Type: "PRIVATE KEY", Bytes: der}
			if m.tls, err = spki(pub); err != nil {
				return m, err
			}
		} else {
			if block, err = ssh.MarshalPrivateKey(priv, "breakglass "+n); err != nil {
				return m, err
			}
			p, err := ssh.NewPublicKey(pub)
			if err != nil {
				return m, err
			}
			m.ssh[n] = authorized(p)
		}
		if err := durable.WriteNew(filepath.Join(dir, n), pem.EncodeToMemory(block), 0o600); err != nil {
			return m, err
		}
	}
	if origin != "" {
		skey, vkey, err := ledger.GenerateKey(origin)
		if err != nil {
			return m, err
		}
		m.ledgerKey = vkey
		if err := durable.WriteNew(filepath.Join(dir, fileLedger), []byte(skey+"\n"), 0o600); err != nil {
			return m, err
		}
	}
	return m, nil
}

// authorized is the authorized_keys form without line end or comment, the one spelling of a key in entries and statements.
func authorized(k ssh.PublicKey) string {
	return strings.TrimSpace(string(ssh.MarshalAuthorizedKey(k)))
}

func spki(pub ed25519.PublicKey) (string, error) {
	der, err := x509.MarshalPKIXPublicKey(pub)
	if err != nil {
		return "", err
	}
	h := sha256.Sum256(der)
	return hex.EncodeToString(h[:]), nil
}

func loadKeys(dir string) (*keys, error) {
	k := &keys{}
	for n, dst := range map[string]*ssh.Signer{fileClientCA: &k.clientCA, fileSessionCA: &k.sessionCA, fileHostCA: &k.hostCA} {
		b, err := readKey(filepath.Join(dir, n))
		if err != nil {
			return nil, err
		}
		if *dst, err = ssh.ParsePrivateKey(b); err != nil {
			return nil, fmt.Errorf("reading key %s: %w", n, err)
		}
	}
	b, err := readKey(filepath.Join(dir, fileLedger))
	if err != nil {
		return nil, err
	}
	if k.ledger, err = ledger.NewSigner(strings.TrimSpace(string(b))); err != nil {
		return nil, fmt.Errorf("reading key %s: %w", fileLedger, err)
	}
	if b, err = readKey(filepath.Join(dir, fileTLS)); err != nil {
		return nil, err
	}
	block, _ := pem.Decode(b)
	if block == nil {
		return nil, fmt.Errorf("reading key %s: no PEM block", fileTLS)
	}
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	priv, ok := parsed.(ed25519.PrivateKey)
	if err != nil || !ok {
		return nil, fmt.Errorf("reading key %s: not an Ed25519 key: %v", fileTLS, err)
	}
	k.seed = priv.Seed()
	if k.tls, err = selfSigned(priv); err != nil {
		return nil, fmt.Errorf("making the TLS certificate: %w", err)
	}
	return k, nil
}

// readKey refuses a key that others can read.
func readKey(path string) ([]byte, error) {
	s, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("reading key: %w", err)
	}
	if s.Mode().Perm()&0o077 != 0 {
		return nil, fmt.Errorf("reading key %s: others may read it: chmod 600 %[1]s", path)
	}
	return os.ReadFile(path)
}

// selfSigned wraps the key for TLS: clients judge the key alone, so names and dates say nothing.
func selfSigned(priv ed25519.PrivateKey) (tls.Certificate, error) {
	t := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "breakglass-ca"},
		NotBefore: time.Unix(0, 0), NotAfter: time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC), // RFC 5280 4.1.2.5: no well-defined end
	}
	der, err := x509.CreateCertificate(rand.Reader, t, t, priv.Public(), priv)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: priv}, err
}

func (k *keys) decoySeed() (s [32]byte) {
	h := hmac.New(sha256.New, k.seed)
	h.Write([]byte("breakglass decoys v1"))
	copy(s[:], h.Sum(nil))
	return s
}

var errExists = errors.New("a CA is there already")
