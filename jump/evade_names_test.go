package jump

import (
	"errors"
	"io"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"breakglass/internal/name"
	"breakglass/internal/sshcert"
)

// replayer signs once, and gives that signature again whatever is to be signed.
type replayer struct {
	ssh.Signer
	first *ssh.Signature
}

func (r *replayer) Sign(rand io.Reader, data []byte) (*ssh.Signature, error) {
	if r.first == nil {
		var err error
		if r.first, err = r.Signer.Sign(rand, data); err != nil {
			return nil, err
		}
	}
	return r.first, nil
}

// Certificates that the CA would never issue, although signed by its key, and proofs that are none: each is refused, counted, and asked the CA nothing.
func TestWhoIsWhoEvasions(t *testing.T) {
	w := newWorld(t)
	key, another := loadKey(t, t.TempDir(), "k"), loadKey(t, t.TempDir(), "k2")
	now := time.Now()
	g := sshcert.Grant{Request: name.NewRequestID(), Login: name.Login(w.login), Host: "web01"}
	good := w.ca.client(t, key.PublicKey(), g, "127.0.0.1", now, time.Minute)
	// changed is the good certificate, changed and signed again by the right key.
	changed := func(change func(c *ssh.Certificate)) ssh.AuthMethod {
		c := *good
		c.CriticalOptions, c.Extensions = map[string]string{}, map[string]string{}
		for k, v := range good.CriticalOptions {
			c.CriticalOptions[k] = v
		}
		for k, v := range good.Extensions {
			c.Extensions[k] = v
		}
		change(&c)
		check(t, c.SignCert(randReader, w.ca.clientCA))
		return ssh.PublicKeys(withCert(t, &c, key))
	}
	unsigned := *good // changed after it was signed
	unsigned.ValidBefore += 3600
	keys := func(n int, last ...ssh.Signer) ssh.AuthMethod {
		var all []ssh.Signer
		for range n {
			all = append(all, loadKey(t, t.TempDir(), "k"))
		}
		return ssh.PublicKeys(append(all, last...)...)
	}
	for _, c := range []struct {
		is     string
		auth   ssh.AuthMethod
		reason string
		times  int64
	}{
		{"a second principal", changed(func(c *ssh.Certificate) { c.ValidPrincipals = append([]string{"root"}, c.ValidPrincipals...) }), refusedShape, 1},
		{"the login as the principal", changed(func(c *ssh.Certificate) { c.ValidPrincipals = []string{w.login} }), refusedShape, 1},
		{"an option to run a command", changed(func(c *ssh.Certificate) { c.CriticalOptions["force-command"] = "sh" }), refusedShape, 1},
		{"an option that nobody knows", changed(func(c *ssh.Certificate) { c.CriticalOptions["x@example.com"] = "" }), refusedShape, 1},
		{"no address", changed(func(c *ssh.Certificate) { delete(c.CriticalOptions, sshcert.OptionSourceAddress) }), refusedShape, 1},
		{"every address", changed(func(c *ssh.Certificate) { c.CriticalOptions[sshcert.OptionSourceAddress] = "0.0.0.0/0" }), refusedShape, 1},
		{"no grant", changed(func(c *ssh.Certificate) { delete(c.CriticalOptions, sshcert.OptionGrant) }), refusedShape, 1},
		{"two grants", changed(func(c *ssh.Certificate) { c.CriticalOptions[sshcert.OptionGrant] = g.String() + " " + g.String() }), refusedShape, 1},
		{"an extension for agents", changed(func(c *ssh.Certificate) { c.Extensions["permit-agent-forwarding"] = "" }), refusedShape, 1},
		{"an extension that nobody knows", changed(func(c *ssh.Certificate) { c.Extensions["x@example.com"] = "" }), refusedShape, 1},
		{"a host certificate", changed(func(c *ssh.Certificate) { c.CertType = ssh.HostCert }), refusedShape, 1},
		{"a key ID of another shape", changed(func(c *ssh.Certificate) { c.KeyId = "alice" }), refusedShape, 1},
		{"expired by a second", changed(func(c *ssh.Certificate) {
			c.ValidAfter, c.ValidBefore = uint64(now.Add(-time.Minute).Unix()), uint64(now.Add(-time.Second).Unix())
		}), refusedExpired, 1},
		{"good from the next minute on", changed(func(c *ssh.Certificate) {
			c.ValidAfter, c.ValidBefore = uint64(now.Add(time.Minute).Unix()), uint64(now.Add(2*time.Minute).Unix())
		}), refusedEarly, 1},
		{"longer by an hour than what was signed", ssh.PublicKeys(withCert(t, &unsigned, key)), refusedIssuer, 1},
		{"the plain keys of an agent, seven of them", keys(7), refusedNoCert, maxAuthTries},
		{"the certificate behind more plain keys than tries", keys(maxAuthTries, withCert(t, good, key)), refusedNoCert, maxAuthTries},
		{"keyboard-interactive", ssh.KeyboardInteractive(func(string, string, []string, []bool) ([]string, error) { return nil, errors.New("asked") }), "", 0},
		{"a password, again and again", ssh.RetryableAuthMethod(ssh.Password(""), 10), "", 0},
		{"somebody else's signature", ssh.PublicKeys(withCert(t, good, &borrowed{key.PublicKey(), another})), "", 0},
	} {
		before := w.strangers()
		if _, err := w.dialAs(w.login, "web01", c.auth); err == nil {
			t.Errorf("%s: was let in", c.is)
			continue
		}
		if got := w.strangers()[c.reason] - before[c.reason]; c.reason != "" && got != c.times {
			t.Errorf("%s: %d more %s, want %d: %v", c.is, got, c.reason, c.times, w.strangers())
		}
	}
	if asked := w.askedSessions(); asked != 0 {
		t.Errorf("the CA was asked %d times about strangers", asked)
	}

	// A signature is over one connection's own session (RFC 4252 section 7): the one that let its maker in lets nobody in a second time.
	again := &replayer{Signer: key}
	auth := ssh.PublicKeys(withCert(t, good, again))
	if _, err := w.dialAs(w.login, "web01", auth); err != nil {
		t.Fatalf("the first time: %v", err)
	}
	if _, err := w.dialAs(w.login, "web01", auth); err == nil {
		t.Error("a signature was taken twice")
	}
	if asked := w.askedSessions(); asked != 1 {
		t.Errorf("the CA was asked %d times", asked)
	}
}

// borrowed shows one key and signs with another.
type borrowed struct {
	shown ssh.PublicKey
	with  ssh.Signer
}

func (b *borrowed) PublicKey() ssh.PublicKey { return b.shown }
func (b *borrowed) Sign(rand io.Reader, data []byte) (*ssh.Signature, error) {
	return b.with.Sign(rand, data)
}

func (w *world) askedSessions() int {
	w.ca.mu.Lock()
	defer w.ca.mu.Unlock()
	return w.ca.asked
}
