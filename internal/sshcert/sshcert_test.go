package sshcert

import (
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"net/netip"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"breakglass/internal/name"
)

func signer(t testing.TB) ssh.Signer {
	_, priv, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	s, err := ssh.NewSignerFromKey(priv)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

var (
	now   = time.Date(2026, 11, 24, 3, 0, 0, 0, time.UTC)
	grant = Grant{"k7f-2mq", "root", "web01"}
	addrs = []netip.Addr{netip.MustParseAddr("203.0.113.9"), netip.MustParseAddr("2001:db8::1")}
)

func client(t testing.TB) *ssh.Certificate {
	return NewClient(signer(t).PublicKey(), "alice", grant, addrs, now, now.Add(30*time.Minute))
}
func session(t testing.TB) *ssh.Certificate {
	return NewSession(signer(t).PublicKey(), "alice", grant, addrs[:1], false, now, SessionSlack)
}
func host(t testing.TB) *ssh.Certificate {
	return NewHost(signer(t).PublicKey(), "jump-a", []string{"web01", "web02"}, now)
}

func TestGood(t *testing.T) {
	ca := signer(t)
	for kind, c := range map[Kind]*ssh.Certificate{Client: client(t), Session: session(t), Host: host(t)} {
		l, err := Lint(c, kind)
		if err != nil {
			t.Fatal(kind, err)
		}
		signed, err := l.Sign(ca)
		if err != nil {
			t.Fatal(kind, err)
		}
		if _, err := l.Sign(ca); !errors.Is(err, ErrLint) {
			t.Errorf("%s: signed twice: %v", kind, err)
		}
		back, err := Parse(ssh.MarshalAuthorizedKey(signed))
		if err != nil {
			t.Fatal(err)
		}
		if err := Verify(back, kind, []ssh.PublicKey{ca.PublicKey()}, now); err != nil {
			t.Errorf("%s: %v", kind, err)
		}
		if err := Verify(back, kind, []ssh.PublicKey{signer(t).PublicKey()}, now); !errors.Is(err, ErrIssuer) {
			t.Errorf("%s: another CA: %v", kind, err)
		}
		if err := Verify(back, kind, []ssh.PublicKey{ca.PublicKey()}, now.Add(48*time.Hour)); !errors.Is(err, ErrExpired) {
			t.Errorf("%s: later: %v", kind, err)
		}
		if err := Verify(back, kind, []ssh.PublicKey{ca.PublicKey()}, now.Add(-time.Hour)); !errors.Is(err, ErrEarly) {
			t.Errorf("%s: earlier: %v", kind, err)
		}
		for other := range map[Kind]bool{Client: true, Session: true, Host: true} {
			if other != kind && Check(back, other) == nil {
				t.Errorf("a %s certificate passes as %s", kind, other)
			}
		}
		forged := *back
		forged.Serial++
		if err := Verify(&forged, kind, []ssh.PublicKey{ca.PublicKey()}, now); !errors.Is(err, ErrIssuer) {
			t.Errorf("%s: changed after signing: %v", kind, err)
		}
	}
}

// TestLintRefuses holds what must never be in a certificate, each a mistake that was made somewhere.
func TestLintRefuses(t *testing.T) {
	sk, err := ssh.ParsePublicKey(ssh.Marshal(struct{ T, C, P, A string }{ssh.KeyAlgoSKECDSA256, "nistp256",
		"\x04\x6b\x17\xd1\xf2\xe1\x2c\x42\x47\xf8\xbc\xe6\xe5\x63\xa4\x40\xf2\x77\x03\x7d\x81\x2d\xeb\x33\xa0\xf4\xa1\x39\x45\xd8\x98\xc2\x96\x4f\xe3\x42\xe2\xfe\x1a\x7f\x9b\x8e\xe7\xeb\x4a\x7c\x0f\x9e\x16\x2b\xce\x33\x57\x6b\x31\x5e\xce\xcb\xb6\x40\x68\x37\xbf\x51\xf5", "ssh:"}))
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		make   func(testing.TB) *ssh.Certificate
		kind   Kind
		mangle func(*ssh.Certificate)
	}{
		"no principal":                {client, Client, func(c *ssh.Certificate) { c.ValidPrincipals = nil }},
		"two principals":              {client, Client, func(c *ssh.Certificate) { c.ValidPrincipals = append(c.ValidPrincipals, "client:bob") }},
		"a comma":                     {client, Client, func(c *ssh.Certificate) { c.ValidPrincipals[0] = "client:alice,root" }},
		"another person's principal":  {client, Client, func(c *ssh.Certificate) { c.ValidPrincipals[0] = "client:bob" }},
		"no grant":                    {client, Client, func(c *ssh.Certificate) { delete(c.CriticalOptions, OptionGrant) }},
		"another grant":               {client, Client, func(c *ssh.Certificate) { c.CriticalOptions[OptionGrant] = "k7f-2mr root web01" }},
		"a grant in capitals":         {client, Client, func(c *ssh.Certificate) { c.CriticalOptions[OptionGrant] = "K7F-2MQ root web01" }},
		"no source address":           {client, Client, func(c *ssh.Certificate) { delete(c.CriticalOptions, OptionSourceAddress) }},
		"a source network":            {client, Client, func(c *ssh.Certificate) { c.CriticalOptions[OptionSourceAddress] = "203.0.113.0/24" }},
		"everywhere":                  {client, Client, func(c *ssh.Certificate) { c.CriticalOptions[OptionSourceAddress] = "0.0.0.0/0" }},
		"a forced command":            {client, Client, func(c *ssh.Certificate) { c.CriticalOptions["force-command"] = "x" }},
		"verify-required":             {client, Client, func(c *ssh.Certificate) { c.CriticalOptions["verify-required"] = "" }},
		"no-touch-required":           {client, Client, func(c *ssh.Certificate) { c.Extensions["no-touch-required"] = "" }},
		"agent forwarding":            {client, Client, func(c *ssh.Certificate) { c.Extensions["permit-agent-forwarding"] = "" }},
		"port forwarding on a client": {client, Client, func(c *ssh.Certificate) { c.Extensions[ExtensionPortForwards] = "" }},
		"no pty":                      {client, Client, func(c *ssh.Certificate) { c.Extensions = nil }},
		"for ever":                    {client, Client, func(c *ssh.Certificate) { c.ValidBefore = ssh.CertTimeInfinity }},
		"for days":                    {client, Client, func(c *ssh.Certificate) { c.ValidBefore += 2 * 86400 }},
		"for no time":                 {client, Client, func(c *ssh.Certificate) { c.ValidBefore = c.ValidAfter }},
		"serial 0":                    {client, Client, func(c *ssh.Certificate) { c.Serial = 0 }},
		"a security key's key":        {client, Client, func(c *ssh.Certificate) { c.Key = sk }},
		"a free key id":               {client, Client, func(c *ssh.Certificate) { c.KeyId = "x" }},
		"a host type":                 {client, Client, func(c *ssh.Certificate) { c.CertType = ssh.HostCert }},
		"a session for days":          {session, Session, func(c *ssh.Certificate) { c.ValidBefore += 86400 }},
		"a session with a grant":      {session, Session, func(c *ssh.Certificate) { c.CriticalOptions[OptionGrant] = grant.String() }},
		"a session for a bare login":  {session, Session, func(c *ssh.Certificate) { c.ValidPrincipals[0] = "root" }},
		"a session for no login":      {session, Session, func(c *ssh.Certificate) { c.ValidPrincipals[0] = "session:web01" }},
		"a host wildcard":             {host, Host, func(c *ssh.Certificate) { c.ValidPrincipals[0] = "*" }},
		"a host with options":         {host, Host, func(c *ssh.Certificate) { c.Extensions = map[string]string{ExtensionPTY: ""} }},
		"a host for a year":           {host, Host, func(c *ssh.Certificate) { c.ValidBefore += 365 * 86400 }},
	} {
		crt := c.make(t)
		c.mangle(crt)
		if _, err := Lint(crt, c.kind); !errors.Is(err, ErrLint) {
			t.Errorf("%s: %v", name, err)
		}
	}
	// What only real bytes can show: a certificate whose issuer is itself a certificate.
	inner := client(t)
	ca := signer(t)
	l, err := Lint(inner, Client)
	if err != nil {
		t.Fatal(err)
	}
	signed, err := l.Sign(ca)
	if err != nil {
		t.Fatal(err)
	}
	nested := *signed
	nested.SignatureKey = signed
	if err := Check(&nested, Client); !errors.Is(err, ErrLint) {
		t.Errorf("signed by a certificate: %v", err)
	}
}

func TestFromSource(t *testing.T) {
	c := client(t)
	for addr, ok := range map[string]bool{"203.0.113.9": true, "::ffff:203.0.113.9": true, "2001:db8::1": true, "203.0.113.10": false, "2001:db8::2": false} {
		if err := FromSource(c, netip.MustParseAddr(addr)); (err == nil) != ok {
			t.Errorf("%s: %v", addr, err)
		}
	}
}

func TestKeyID(t *testing.T) {
	r, p, err := ParseKeyID(KeyID("k7f-2mq", "alice"))
	if r != "k7f-2mq" || p != "alice" || err != nil {
		t.Error(r, p, err)
	}
	for _, bad := range []string{"", "breakglass:k7f-2mq", "breakglass:K7F-2MQ:alice", "breakglass:k7f-2mq:alice:x", "other:k7f-2mq:alice", "breakglass:k7f-2mq:Alice"} {
		if _, _, err := ParseKeyID(bad); err == nil {
			t.Errorf("%q passed", bad)
		}
	}
	if _, err := ParseGrant("k7f-2mq root web01 x"); err == nil {
		t.Error("a grant of four words passed")
	}
	if _, _, err := parseSessionPrincipal("session:root@web01"); err != nil || !strings.HasPrefix(SessionPrincipal("root", name.Host("web01")), "session:") {
		t.Error(err)
	}
}

func FuzzParse(f *testing.F) {
	l, _ := Lint(client(f), Client)
	c, _ := l.Sign(signer(f))
	f.Add(ssh.MarshalAuthorizedKey(c))
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := Parse(data)
		if err != nil {
			return
		}
		for _, k := range []Kind{Client, Session, Host} {
			Verify(c, k, nil, now) // must not panic, must not pass without a CA
			if Verify(c, k, nil, time.Time{}) == nil {
				t.Fatal("passed without a CA")
			}
		}
	})
}

// TestATrialIsGoodNowhere: the signature on it is nobody's, also to those who take its key at its word.
func TestATrialIsGoodNowhere(t *testing.T) {
	c, other := trial(*client(t)), trial(*client(t))
	back, err := Parse(ssh.MarshalAuthorizedKey(c))
	if err != nil {
		t.Fatal(err)
	}
	if err := Verify(back, Client, []ssh.PublicKey{back.SignatureKey}, time.Now()); !errors.Is(err, ErrIssuer) {
		t.Errorf("it verifies: %v", err)
	}
	if c.SignatureKey == other.SignatureKey || string(c.Nonce) == string(other.Nonce) {
		t.Error("two are alike")
	}
}
