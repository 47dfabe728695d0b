package ca

import (
	"crypto/ed25519"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/mod/sumdb/note"

	"breakglass/ca/custody"
	"breakglass/ca/state"
	"breakglass/internal/sshcert"
	"breakglass/ledger"
	"breakglass/policy"
)

// The CA's keys by their names in config.toml and in the keys directory; the standby halves lie in a directory of their own, to be taken off the
// machine.
const (
	KeyClientCA  = "client_ca"
	KeySessionCA = "session_ca"
	KeyHostCA    = "host_ca"
	KeyLedger    = "ledger"
	KeyTLS       = "tls"
)

// CredentialPassphrase is the systemd credential with the passphrase of sealed keys.
const CredentialPassphrase = "breakglass-ca-passphrase"

var (
	sshKeys = []string{KeyClientCA, KeySessionCA, KeyHostCA}
	allKeys = []string{KeyClientCA, KeySessionCA, KeyHostCA, KeyLedger, KeyTLS}
)

// ErrPlainKey says that a production site's key lies in a plain file.
var ErrPlainKey = errors.New("a production CA keeps no key in a plain file")

// keyOf is the CA key of each kind of certificate.
func keyOf(k sshcert.Kind) string {
	switch k {
	case sshcert.Client:
		return KeyClientCA
	case sshcert.Session, sshcert.Via:
		return KeySessionCA
	}
	return KeyHostCA
}

// keys are the loaded private keys. Those of certificates can't be reached but through certify.
type keys struct {
	mu     sync.RWMutex
	ssh    map[string][]*custody.Key // active first
	tls    []tlsKey                  // active first
	ledger note.Signer
	// ledgerKey is the public half of it, as the site has it.
	ledgerKey string
	places    map[string]custody.Place // of the ledger's
	decoys    []byte
	state     []byte // the state key: what the ledger keeps and nobody may read there is sealed to it
}

type tlsKey struct {
	place custody.Place
	spki  string
	cert  tls.Certificate
}

// certify is the only way from a template to a certificate: lint, the CA key once, then, before anybody has it, what first appends and
// the certificate's own entry, in tx. An error leaves neither certificate nor entry.
func (c *CA) certify(tx *state.Tx, s ledger.Subject, kind sshcert.Kind, template *ssh.Certificate, first func(*ssh.Certificate) error) (*ssh.Certificate, error) {
	c.keys.mu.RLock()
	k := c.keys.ssh[keyOf(kind)][0]
	c.keys.mu.RUnlock()
	return k.Certify(template, kind, func(cert *ssh.Certificate) error {
		if first != nil {
			if err := first(cert); err != nil {
				return err
			}
		}
		_, _, err := tx.Append(c.issued(s, kind, cert))
		return err
	})
}

// trusted are the CA keys whose certificates of that kind are good: the active one, the standby ones and, during a rotation, the old one.
func trusted(site ledger.Site, kind sshcert.Kind) ([]ssh.PublicKey, error) {
	var out []ssh.PublicKey
	for _, s := range *keyList(&site, keyOf(kind)) {
		k, err := parseKey(s)
		if err != nil {
			return nil, err
		}
		out = append(out, k)
	}
	return out, nil
}

// keyList is the site's list of a key.
func keyList(s *ledger.Site, key string) *[]string {
	switch key {
	case KeyClientCA:
		return &s.ClientCA
	case KeySessionCA:
		return &s.SessionCA
	case KeyHostCA:
		return &s.HostCA
	case KeyTLS:
		return &s.TLS
	}
	return nil
}

// keeper opens the places of the configuration.
func (cfg Config) keeper(f FileKeys) *custody.Keeper {
	k := &custody.Keeper{Dir: cfg.Dir, Credentials: cfg.Credentials, AgentSocket: f.Agent, Passphrase: cfg.Passphrase}
	if cfg.Credentials != "" {
		path := filepath.Join(cfg.Credentials, CredentialPassphrase)
		if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
			k.Passphrase = func() ([]byte, error) {
				b, err := os.ReadFile(path)
				return []byte(strings.TrimRight(string(b), "\r\n")), err
			}
		}
	}
	return k
}

func loadKeys(cfg Config, f FileKeys) (*keys, error) {
	keeper := cfg.keeper(f)
	defer keeper.Forget()
	k := &keys{ssh: map[string][]*custody.Key{}, places: map[string]custody.Place{}}
	for _, n := range allKeys {
		places, err := f.places(n)
		if err != nil {
			return nil, err
		}
		for _, p := range places {
			if n == KeyLedger || n == KeyTLS {
				if err = k.loadSecret(keeper, n, p); err != nil {
					return nil, err
				}
				continue
			}
			key, err := keeper.Load(p)
			if err != nil {
				return nil, fmt.Errorf("loading %s: %w", n, err)
			}
			k.ssh[n] = append(k.ssh[n], key)
		}
	}
	return k, nil
}

func (k *keys) loadSecret(keeper *custody.Keeper, n string, p custody.Place) error {
	b, err := keeper.Secret(p)
	if err != nil {
		return fmt.Errorf("loading %s: %w", n, err)
	}
	defer custody.Wipe(b)
	if n == KeyTLS {
		t, err := parseTLS(p, b)
		if err == nil {
			k.tls = append(k.tls, t)
		}
		return err
	}
	text := strings.TrimSpace(string(b))
	if k.ledger, err = ledger.NewSigner(text); err != nil {
		return fmt.Errorf("loading %s: %s holds no ledger key", n, p) // the error could quote it
	}
	if k.ledgerKey, err = verifierKey(text); err != nil {
		return fmt.Errorf("loading %s: %s: %w", n, p, err)
	}
	// From the key that is never rotated, or a rotation would tell decoys from real keys.
	h := hmac.New(sha256.New, []byte(text))
	h.Write([]byte("breakglass decoys v2"))
	k.decoys, k.places[n] = h.Sum(nil), p
	// From the same: a rotation must not make seeds unreadable, and no production CA keeps one key more in a plain file.
	k.state, err = hkdf.Key(sha256.New, []byte(text), nil, "breakglass state key v1", sha256.Size)
	return err
}

// verifierKey is the public half of a note signer key, "PRIVATE+KEY+NAME+HASH+DATA", DATA being base64 of the algorithm 1 and an Ed25519 seed.
func verifierKey(skey string) (string, error) {
	fields := strings.SplitN(skey, "+", 5)
	bad := errors.New("not a note signer key of Ed25519")
	if len(fields) != 5 {
		return "", bad
	}
	b, err := base64.StdEncoding.DecodeString(fields[4])
	if err != nil || len(b) != 1+ed25519.SeedSize || b[0] != 1 {
		return "", bad
	}
	defer custody.Wipe(b)
	return note.NewEd25519VerifierKey(fields[2], ed25519.NewKeyFromSeed(b[1:]).Public().(ed25519.PublicKey))
}

func parseTLS(p custody.Place, b []byte) (tlsKey, error) {
	t := tlsKey{place: p}
	block, _ := pem.Decode(b)
	if block == nil {
		return t, fmt.Errorf("loading tls: %s holds no PEM block", p)
	}
	defer custody.Wipe(block.Bytes)
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	priv, ok := parsed.(ed25519.PrivateKey)
	if err != nil || !ok {
		return t, fmt.Errorf("loading tls: %s holds no Ed25519 key", p)
	}
	if t.spki, err = spki(priv.Public().(ed25519.PublicKey)); err != nil {
		return t, err
	}
	if t.cert, err = selfSigned(priv); err != nil {
		return t, fmt.Errorf("making the TLS certificate: %w", err)
	}
	return t, nil
}

// choose puts the keys that the ledger's site calls active in front: a rotation that a crash interrupted leaves two places in the
// configuration, and the ledger says which of them counts.
func (k *keys) choose(site ledger.Site) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, n := range sshKeys {
		i := -1
		for j, key := range k.ssh[n] {
			if authorized(key.Public()) == (*keyList(&site, n))[0] {
				i = j
			}
		}
		if i < 0 {
			return fmt.Errorf("loading %s: %s is %s, the site's active key is %s", n, k.ssh[n][0].Place, k.ssh[n][0].Fingerprint(), fingerprintOf((*keyList(&site, n))[0]))
		}
		k.ssh[n] = []*custody.Key{k.ssh[n][i]}
	}
	i := -1
	for j, t := range k.tls {
		if t.spki == site.TLS[0] {
			i = j
		}
	}
	if i < 0 {
		return fmt.Errorf("loading tls: the key at %s is not the site's active one, whose SHA-256 is %s", k.tls[0].place, site.TLS[0])
	}
	k.tls = []tlsKey{k.tls[i]}
	if site.Profile == string(policy.Production) {
		for _, l := range k.loadedLocked() {
			if l.Custody == string(custody.File) {
				return fmt.Errorf("%w: %s is one: move it with `breakglass-ca keys seal %[2]s`", ErrPlainKey, l.Name)
			}
		}
	}
	return nil
}

// loaded is what ca.started says of the keys.
func (k *keys) loaded() []ledger.LoadedKey {
	k.mu.RLock()
	defer k.mu.RUnlock()
	return k.loadedLocked()
}

func (k *keys) loadedLocked() []ledger.LoadedKey {
	var out []ledger.LoadedKey
	for _, n := range sshKeys {
		out = append(out, ledger.LoadedKey{Name: n, Fingerprint: k.ssh[n][0].Fingerprint(), Custody: string(k.ssh[n][0].Place.Kind)})
	}
	// The ledger's key is known by its verifier key's name and hash: "ORIGIN+HASH".
	out = append(out, ledger.LoadedKey{Name: KeyLedger, Fingerprint: fmt.Sprintf("%s+%08x", k.ledger.Name(), k.ledger.KeyHash()), Custody: string(k.places[KeyLedger].Kind)})
	return append(out, ledger.LoadedKey{Name: KeyTLS, Fingerprint: k.tls[0].spki, Custody: string(k.tls[0].place.Kind)})
}

// certificate is what TLS shows: the active key's, also right after a rotation.
func (k *keys) certificate(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	k.mu.RLock()
	defer k.mu.RUnlock()
	return &k.tls[0].cert, nil
}

// authorized is the authorized_keys form without line end or comment, the one spelling of a key in entries and statements.
func authorized(k ssh.PublicKey) string {
	return strings.TrimSpace(string(ssh.MarshalAuthorizedKey(k)))
}

// fingerprintOf is how a site's key is called: SHA256:… of an SSH key, the hash itself of TLS.
func fingerprintOf(s string) string {
	k, err := parseKey(s)
	if err != nil {
		return s
	}
	return ssh.FingerprintSHA256(k)
}

func spki(pub ed25519.PublicKey) (string, error) {
	der, err := x509.MarshalPKIXPublicKey(pub)
	if err != nil {
		return "", err
	}
	h := sha256.Sum256(der)
	return hex.EncodeToString(h[:]), nil
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
	copy(s[:], k.decoys)
	return s
}

var errExists = errors.New("a CA is there already")
