package custody_test

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/pem"
	"errors"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"

	"breakglass/ca/custody"
	"breakglass/internal/sshcert"
)

const passphrase = "correct horse battery"

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func ed25519Key(t *testing.T) (ed25519.PrivateKey, []byte) {
	t.Helper()
	_, priv, err := ed25519.GenerateKey(rand.Reader)
	must(t, err)
	b, err := ssh.MarshalPrivateKey(priv, "")
	must(t, err)
	return priv, pem.EncodeToMemory(b)
}

func template(t *testing.T) *ssh.Certificate {
	t.Helper()
	pub, _, err := ed25519.GenerateKey(rand.Reader)
	must(t, err)
	key, err := ssh.NewPublicKey(pub)
	must(t, err)
	return sshcert.NewSession(key, "alice", sshcert.Grant{Request: "k7f-2mq", Login: "root", Host: "web01"}, []netip.Addr{netip.MustParseAddr("127.0.0.1")}, false, time.Now(), sshcert.SessionSlack)
}

func TestPlaces(t *testing.T) {
	fp := "SHA256:" + strings.Repeat("A", 43)
	for s, good := range map[string]bool{
		"sealed:keys/session_ca.age": true, "file:/a b": true, "credential:breakglass-ca-tls": true, "agent:" + fp: true,
		"": false, "keys/session_ca": false, "sealed:": false, "vault:x": false, "credential:../etc/shadow": false, "credential:..": false,
		"agent:" + fp[:20]: false, "agent:MD5:aa": false, "file:a\nb": false,
	} {
		p, err := custody.ParsePlace(s)
		if good && (err != nil || p.String() != s) || !good && !errors.Is(err, custody.ErrPlace) {
			t.Errorf("%q: %v, %v", s, p, err)
		}
	}
}

func TestASealedKeyOpensWithItsPassphraseAlone(t *testing.T) {
	_, secret := ed25519Key(t)
	b, err := custody.Seal(secret, []byte(passphrase), 1)
	must(t, err)
	if strings.Contains(string(b), "OPENSSH") {
		t.Error("it lies open")
	}
	got, err := custody.Unseal(b, []byte(passphrase))
	if err != nil || string(got) != string(secret) {
		t.Errorf("%v", err)
	}
	if _, err := custody.Unseal(b, []byte("another one altogether")); !errors.Is(err, custody.ErrPassphrase) {
		t.Errorf("with another: %v", err)
	}
	for _, i := range []int{0, 70, len(b) / 2, len(b) - 40} {
		bad := append([]byte{}, b...)
		bad[i] ^= 1
		if _, err := custody.Unseal(bad, []byte(passphrase)); err == nil {
			t.Errorf("byte %d changed, and it opens", i)
		}
	}
	if _, err := custody.Seal(secret, []byte("short"), 1); err == nil {
		t.Error("sealed under five characters")
	}
}

func TestWhatIsNotOursToUseIsRefused(t *testing.T) {
	dir := t.TempDir()
	_, secret := ed25519Key(t)
	put := func(name string, b []byte, mode os.FileMode) custody.Place {
		t.Helper()
		must(t, os.WriteFile(filepath.Join(dir, name), b, 0o600))
		must(t, os.Chmod(filepath.Join(dir, name), mode))
		return custody.Place{Kind: custody.File, At: name}
	}
	r, err := rsa.GenerateKey(rand.Reader, 2048)
	must(t, err)
	block, err := ssh.MarshalPrivateKey(r, "")
	must(t, err)
	k := &custody.Keeper{Dir: dir}
	for name, p := range map[string]custody.Place{
		"others may read it":        put("open", secret, 0o644),
		"want ed25519 or ecdsa":     put("rsa", pem.EncodeToMemory(block), 0o600),
		"no private key in OpenSSH": put("text", []byte("hello secret"), 0o600),
		"over 65536 bytes":          put("long", make([]byte, 1<<20), 0o600),
		"no such file":              {Kind: custody.File, At: "none"},
		"$CREDENTIALS_DIRECTORY":    {Kind: custody.Credential, At: "x"},
		"names no agent":            {Kind: custody.Agent, At: "SHA256:" + strings.Repeat("A", 43)},
		"no passphrase is at hand":  {Kind: custody.Sealed, At: "text"},
	} {
		_, err := k.Load(p)
		if err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
		if err != nil && strings.Contains(err.Error(), "hello secret") {
			t.Errorf("the error quotes the file: %v", err)
		}
	}
}

// agentAt serves an ssh-agent until stopped.
func agentAt(t *testing.T, socket string, keys ...any) (stop func()) {
	t.Helper()
	ring := agent.NewKeyring()
	for _, k := range keys {
		must(t, ring.Add(agent.AddedKey{PrivateKey: k}))
	}
	l, err := net.Listen("unix", socket)
	must(t, err)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() { agent.ServeAgent(ring, c); c.Close() }()
		}
	}()
	return func() { l.Close() }
}

func TestAnAgentThatDiesGivesNothingAndComesBack(t *testing.T) {
	ec, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	ed, _ := ed25519Key(t)
	for name, key := range map[string]any{"P-256": ec, "ed25519": &ed} {
		t.Run(name, func(t *testing.T) {
			socket := filepath.Join(t.TempDir(), "agent")
			other, _ := ed25519Key(t)
			stop := agentAt(t, socket, &other, key)
			s, err := ssh.NewSignerFromKey(key)
			must(t, err)
			p := custody.Place{Kind: custody.Agent, At: ssh.FingerprintSHA256(s.PublicKey())}
			k, err := (&custody.Keeper{AgentSocket: socket}).Load(p)
			must(t, err)
			recorded := 0
			certify := func() error {
				c, err := k.Certify(template(t), sshcert.Session, func(*ssh.Certificate) error { recorded++; return nil })
				if err == nil {
					return sshcert.Verify(c, sshcert.Session, []ssh.PublicKey{s.PublicKey()}, time.Now())
				}
				return err
			}
			must(t, certify())
			stop()
			if err := certify(); !errors.Is(err, custody.ErrUnavailable) || recorded != 1 {
				t.Fatalf("without its agent: %v, %d recorded", err, recorded)
			}
			stop = agentAt(t, socket, &other) // back, without its key
			if err := certify(); !errors.Is(err, custody.ErrUnavailable) || recorded != 1 {
				t.Fatalf("without its key: %v, %d recorded", err, recorded)
			}
			stop()
			defer agentAt(t, socket, key)()
			must(t, certify())
		})
	}
}

func TestNobodyHasACertificateThatIsNotRecorded(t *testing.T) {
	dir := t.TempDir()
	_, secret := ed25519Key(t)
	must(t, os.WriteFile(filepath.Join(dir, "k"), secret, 0o600))
	k, err := (&custody.Keeper{Dir: dir}).Load(custody.Place{Kind: custody.File, At: "k"})
	must(t, err)
	full := errors.New("disk full")
	if c, err := k.Certify(template(t), sshcert.Session, func(*ssh.Certificate) error { return full }); c != nil || !errors.Is(err, full) {
		t.Errorf("%v, %v", c, err)
	}
	bad := template(t)
	bad.ValidPrincipals = nil
	if _, err := k.Certify(bad, sshcert.Session, func(*ssh.Certificate) error { t.Error("recorded"); return nil }); !errors.Is(err, sshcert.ErrLint) {
		t.Errorf("everybody's certificate: %v", err)
	}
}

// FuzzParsePlace: a place that is accepted is spelled one way, and a credential never leaves its directory.
func FuzzParsePlace(f *testing.F) {
	for _, s := range []string{"sealed:a", "credential:x", "credential:a/b", "agent:SHA256:" + strings.Repeat("A", 43), "file:", ":x"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		p, err := custody.ParsePlace(s)
		if err != nil {
			return
		}
		if p.String() != s || p.Kind == custody.Credential && strings.ContainsRune(p.At, '/') {
			t.Fatalf("%q is %+v", s, p)
		}
	})
}
