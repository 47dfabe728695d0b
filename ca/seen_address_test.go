package ca_test

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"breakglass/ca/api"
	"breakglass/ca/catest"
	"breakglass/internal/sshcert"
	"breakglass/ledger"
)

// TestBothFamilies: a client that reaches the CA over IPv4 and IPv6 gets a certificate that is good from both, each of which was judged.
func TestBothFamilies(t *testing.T) {
	l, err := net.Listen("tcp", "[::1]:0")
	if err != nil {
		t.Skipf("this machine has no IPv6 on loopback: %v", err)
	}
	six := l.Addr().String()
	catest.Must(t, l.Close())
	c := catest.New(t, catest.Config{More: []string{six}})
	alice, jump := c.Enrol("alice"), c.Join("jump-a")
	if _, err := c.Enrol("bob").Recipient("age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p"); err != nil {
		t.Fatal(err)
	}
	key := catest.NewKey(t)
	seen := alice.Client.Seen(context.Background(), catest.Line(key.PublicKey()))
	if len(seen) != 2 || seen[0].Address != "127.0.0.1" || seen[1].Address != "::1" {
		t.Fatalf("seen from %+v", seen)
	}
	q := alice.Want(key.PublicKey())
	q.Seen = []string{seen[0].Token, seen[1].Token}
	ch, err := alice.Client.Ask(context.Background(), q)
	catest.Must(t, err)
	if !strings.Contains(ch.Statement, "\nsource: 127.0.0.1, ::1\n") {
		t.Errorf("signed is\n%s", ch.Statement)
	}
	granted, err := alice.Client.SignRequest(context.Background(), ch.ID, api.Signed{SSHSIG: alice.Sign(ch)})
	catest.Must(t, err)
	cert, err := sshcert.Parse([]byte(granted.Certificate))
	catest.Must(t, err)
	for a, ok := range map[string]bool{"127.0.0.1": true, "::1": true, "::ffff:127.0.0.1": true, "127.0.0.2": false, "::2": false} {
		if (sshcert.FromSource(cert, netip.MustParseAddr(a)) == nil) != ok {
			t.Errorf("%s: %v", a, sshcert.FromSource(cert, netip.MustParseAddr(a)))
		}
	}
	for _, peer := range []string{"127.0.0.1", "::1"} { // the jump sees one of them
		s := jump.Question(&catest.Grant{Granted: granted, Key: key})
		s.Peer = peer
		if _, err := jump.Open(s); err != nil {
			t.Errorf("%s: %v", peer, err)
		}
	}
	s := jump.Question(&catest.Grant{Granted: granted, Key: key})
	s.Peer = "127.0.0.2"
	if _, err := jump.Open(s); err == nil {
		t.Error("an address that was not signed for opens a session")
	}
	used := 0
	for _, e := range c.Entries() {
		if f, ok := e.Facts.(*ledger.GrantAllowed); ok {
			used = len(f.Used.Addresses)
		}
	}
	if used != 2 {
		t.Errorf("the decision stood on %d addresses", used)
	}
	c.Audit()
}

// TestSeenTokensAttacked: each is a way to get an address into a certificate that its holder was not seen at, or that the policy refuses.
func TestSeenTokensAttacked(t *testing.T) {
	now := time.Now()
	cfg := catest.Config{Now: func() time.Time { return now },
		Policy: strings.Replace(catest.Policy, "[networks]\n", "[networks]\nbad = [\"127.0.0.66/32\"]\n", 1)}
	cfg.Policy = strings.Replace(cfg.Policy, "[always]\n", "[always]\ndeny_networks = [\"bad\"]\n", 1)
	cfg.Proxies = []string{"127.0.0.7"}
	c := catest.New(t, cfg)
	other := catest.New(t, catest.Config{Now: cfg.Now})
	alice := c.Enrol("alice")
	key := catest.NewKey(t)
	line := catest.Line(key.PublicKey())
	from := func(ca *catest.CA, client, line string) (*api.Seen, error) { // seen there, through a proxy that says so
		at := ca.Client(nil)
		if client != "" {
			pins := ca.Pins
			ca.Pins.Site.Addresses = []string{proxy(t, ca.Address, client)}
			at = ca.Client(nil)
			ca.Pins = pins
		}
		return at.SeenHere(context.Background(), line)
	}
	token := func(s *api.Seen, err error) string {
		t.Helper()
		catest.Must(t, err)
		return s.Token
	}
	good := token(from(c, "203.0.113.9", line))
	ask := func(tokens ...string) error {
		q := alice.Want(key.PublicKey())
		q.Seen = tokens
		_, err := alice.Client.Ask(context.Background(), q)
		return err
	}
	if err := ask(good); err != nil {
		t.Fatalf("a good one: %v", err)
	}
	body, mac, _ := strings.Cut(good, ".")
	for _, x := range []struct {
		is, code string
		tokens   []string
	}{
		{"lent to another client key", api.CodeSeen, []string{token(from(c, "203.0.113.9", catest.Line(catest.NewKey(t).PublicKey())))}},
		{"of another CA", api.CodeSeen, []string{token(from(other, "", line))}},
		{"another MAC", api.CodeSeen, []string{body + "." + strings.Repeat("A", len(mac))}},
		{"no MAC", api.CodeSeen, []string{body}},
		{"an empty MAC", api.CodeSeen, []string{body + "."}},
		{"a changed body", api.CodeSeen, []string{"A" + body[1:] + "." + mac}},
		{"another writing of the same bytes", api.CodeSeen, []string{good + "="}},
		{"nothing", api.CodeSeen, []string{""}},
		{"one that is long", api.CodeSeen, []string{strings.Repeat("A", 4096)}},
		{"more than there may be", api.CodeBadRequest, slices.Repeat([]string{good}, api.MaxSeen+1)},
	} {
		var p *api.Problem
		if err := ask(x.tokens...); !errors.As(err, &p) || p.Code != x.code {
			t.Errorf("%s: %v", x.is, err)
		}
	}
	if _, err := from(c, "127.0.0.66", line); err == nil {
		t.Error("whoever comes from a denied network gets a token")
	}
	if err := ask(good, good); err != nil {
		t.Errorf("one twice is one: %v", err)
	}
	now = now.Add(61 * time.Second)
	var p *api.Problem
	if err := ask(good); !errors.As(err, &p) || p.Code != api.CodeSeen {
		t.Errorf("after its minute: %v", err)
	}
	good = token(from(c, "203.0.113.9", line))
	c.Stop()
	c.Start()
	alice.Client = c.Client(nil)
	if err := ask(good); !errors.As(err, &p) || p.Code != api.CodeSeen {
		t.Errorf("over a restart: %v", err)
	}
}
