package agent

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"net/netip"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"breakglass/ca/api"
	"breakglass/internal/name"
	"breakglass/internal/sshcert"
	"breakglass/internal/statement"
	"breakglass/ledger"
)

func newKey(t testing.TB) ssh.Signer {
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

var seen = Seen{
	Site:       ledger.Site{Origin: "example/demo", Epoch: 1},
	Checkpoint: statement.Checkpoint{Size: 100, Root: statement.Hash{1}},
}

var want = Want{Person: "alice", Login: "root", Host: "web01", Minutes: 30, Reason: "sso is down, web01 serves 500", Ticket: "INC-4711",
	Forwards: []string{"local db01:5432"}}

func honest(key ssh.PublicKey) *statement.Request {
	now := time.Date(2026, 11, 24, 3, 0, 0, 0, time.UTC)
	return &statement.Request{
		Origin: "example/demo", Epoch: 1, Checkpoint: statement.Checkpoint{Size: 120, Root: statement.Hash{2}}, ID: "k7f-2mq",
		Request: statement.RequestNew, Nonce: statement.Nonce{1}, Issued: now, Expires: now.Add(statement.Validity),
		Person: "alice", Login: "root", Host: "web01", Minutes: 30, Reason: want.Reason, Ticket: "INC-4711",
		Forwards: []string{"local db01:5432"}, Policy: statement.Hash{3}, ClientKey: ssh.FingerprintSHA256(key), Sources: []string{"198.51.100.7"},
	}
}

func challenge(t testing.TB, s statement.Statement, id string) *api.Challenge {
	b, err := statement.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	return &api.Challenge{ID: id, Statement: string(b), Namespace: s.Kind().Namespace()}
}

// TestEachFieldOfARequestIsChecked: whatever a lying CA changes in the statement, no key blinks.
func TestEachFieldOfARequestIsChecked(t *testing.T) {
	key, other := newKey(t).PublicKey(), newKey(t).PublicKey()
	for _, c := range []struct {
		what string
		edit func(s *statement.Request)
		ok   bool
	}{
		{"as it was asked", func(*statement.Request) {}, true},
		{"the same checkpoint as before", func(s *statement.Request) { s.Checkpoint = seen.Checkpoint }, true},
		{"another installation", func(s *statement.Request) { s.Origin = "example/production" }, false},
		{"another epoch", func(s *statement.Request) { s.Epoch = 2 }, false},
		{"an older history", func(s *statement.Request) { s.Checkpoint.Size = 99 }, false},
		{"another history of the same length", func(s *statement.Request) { s.Checkpoint = statement.Checkpoint{Size: 100, Root: statement.Hash{9}} }, false},
		{"another request's id", func(s *statement.Request) { s.ID = "q2c-9dd" }, false},
		{"an override in its place", func(s *statement.Request) { s.Request = statement.RequestOverride; s.Of = "q2c-9dd" }, false},
		{"acting on another request", func(s *statement.Request) { s.Of = "q2c-9dd" }, false},
		{"no nonce", func(s *statement.Request) { s.Nonce = statement.Nonce{} }, false},
		{"good for an hour", func(s *statement.Request) { s.Expires = s.Issued.Add(time.Hour) }, false},
		{"another person", func(s *statement.Request) { s.Person = "mallory" }, false},
		{"another login", func(s *statement.Request) { s.Login = "postgres" }, false},
		{"another host", func(s *statement.Request) { s.Host = "web02" }, false},
		{"more minutes", func(s *statement.Request) { s.Minutes = 60 }, false},
		{"another reason", func(s *statement.Request) { s.Reason = "nothing is down, all is well" }, false},
		{"another ticket", func(s *statement.Request) { s.Ticket = "" }, false},
		{"a failure that wasn't declared", func(s *statement.Request) { s.Failure = "sso" }, false},
		{"a severity that wasn't declared", func(s *statement.Request) { s.Severity = "sev1" }, false},
		{"one more forward", func(s *statement.Request) { s.Forwards = append(s.Forwards, "local *:*") }, false},
		{"a drill", func(s *statement.Request) { s.Drill = "sso-down" }, false},
		{"no policy", func(s *statement.Request) { s.Policy = statement.Hash{} }, false},
		{"another client key", func(s *statement.Request) { s.ClientKey = ssh.FingerprintSHA256(other) }, false},
		{"no source address", func(s *statement.Request) { s.Sources = nil }, false},
		{"a network for a source", func(s *statement.Request) { s.Sources = []string{"0.0.0.0/0"} }, false},
	} {
		s := honest(key)
		c.edit(s)
		_, err := CheckRequest(challenge(t, s, "k7f-2mq"), want, key, seen)
		if (err == nil) != c.ok || err != nil && !errors.Is(err, ErrStatement) {
			t.Errorf("%s: %v, want ok=%v", c.what, err, c.ok)
		}
	}
	ch := challenge(t, honest(key), "k7f-2mq")
	ch.Namespace = statement.KindPass.Namespace()
	if _, err := CheckRequest(ch, want, key, seen); !errors.Is(err, ErrStatement) {
		t.Errorf("under another namespace: %v", err)
	}
	ch = challenge(t, honest(key), "k7f-2mq")
	ch.Statement += "note: harmless\n"
	if _, err := CheckRequest(ch, want, key, seen); !errors.Is(err, ErrStatement) {
		t.Errorf("with an unknown line: %v", err)
	}
	ch = challenge(t, &statement.Pass{Origin: "example/demo", Person: "alice"}, "k7f-2mq")
	if _, err := CheckRequest(ch, want, key, seen); !errors.Is(err, ErrStatement) {
		t.Errorf("a pass in its place: %v", err)
	}
}

// TestEveryLineOfARequestMatters: no line of the statement can be blanked unseen but those that were asked empty.
func TestEveryLineOfARequestMatters(t *testing.T) {
	key := newKey(t).PublicKey()
	ch := challenge(t, honest(key), "k7f-2mq")
	for _, line := range strings.SplitAfter(ch.Statement, "\n")[1:] {
		field, value, ok := strings.Cut(line, ": ")
		if !ok || strings.TrimSpace(value) == "" {
			continue
		}
		blank := *ch
		blank.Statement = strings.Replace(ch.Statement, line, field+":\n", 1)
		if _, err := CheckRequest(&blank, want, key, seen); err == nil {
			t.Errorf("%s can be left out unseen", field)
		}
	}
}

func TestTheOtherKindsAreChecked(t *testing.T) {
	now := time.Date(2026, 11, 24, 3, 0, 0, 0, time.UTC)
	holder := authorized(newKey(t).PublicKey())
	cp := statement.Checkpoint{Size: 120, Root: statement.Hash{2}}
	pass := func() *statement.Pass {
		return &statement.Pass{Origin: "example/demo", Epoch: 1, Checkpoint: cp, ID: "p1", Nonce: statement.Nonce{1}, Issued: now, Expires: now.Add(statement.Validity),
			Person: "alice", Holder: holder, Until: now.Add(PassTime), Sources: []string{"198.51.100.7"}}
	}
	for _, c := range []struct {
		what string
		edit func(s *statement.Pass)
		ok   bool
	}{
		{"a pass as it was asked", func(*statement.Pass) {}, true},
		{"another person's", func(s *statement.Pass) { s.Person = "bob" }, false},
		{"for another key", func(s *statement.Pass) { s.Holder = authorized(newKey(t).PublicKey()) }, false},
		{"for a day", func(s *statement.Pass) { s.Until = now.Add(24 * time.Hour) }, false},
		{"another id", func(s *statement.Pass) { s.ID = "p2" }, false},
		{"an older history", func(s *statement.Pass) { s.Checkpoint.Size = 1 }, false},
	} {
		s := pass()
		c.edit(s)
		if _, err := CheckPass(challenge(t, s, "p1"), "alice", holder, seen); (err == nil) != c.ok {
			t.Errorf("%s: %v", c.what, err)
		}
	}
	q := api.RecipientAsk{Person: "alice", Age: "age1pq1x", Sealed: "passphrase"}
	for _, c := range []struct {
		what string
		edit func(s *statement.Recipient)
		ok   bool
	}{
		{"a recipient as it was asked", func(*statement.Recipient) {}, true},
		{"another age key", func(s *statement.Recipient) { s.Age = "age1pq1y" }, false},
		{"another person's", func(s *statement.Recipient) { s.Person = "bob" }, false},
		{"sealed otherwise", func(s *statement.Recipient) { s.Sealed = "hardware" }, false},
	} {
		s := &statement.Recipient{Origin: "example/demo", Epoch: 1, Checkpoint: cp, ID: "r1", Nonce: statement.Nonce{1}, Issued: now, Expires: now.Add(statement.Validity),
			Person: "alice", Age: q.Age, Sealed: q.Sealed}
		c.edit(s)
		if _, err := CheckRecipient(challenge(t, s, "r1"), q, seen); (err == nil) != c.ok {
			t.Errorf("%s: %v", c.what, err)
		}
	}
	cred := api.EnrolKey{PublicKey: holder, CredentialID: []byte("id"), AuthData: []byte("data")}
	for _, c := range []struct {
		what string
		edit func(s *statement.Enrolment)
		ok   bool
	}{
		{"an enrolment as it was made", func(*statement.Enrolment) {}, true},
		{"another person's", func(s *statement.Enrolment) { s.Person = "bob" }, false},
		{"another key's name", func(s *statement.Enrolment) { s.Key = "yubi-2" }, false},
		{"another public key", func(s *statement.Enrolment) { s.PublicKey = authorized(newKey(t).PublicKey()) }, false},
		{"another credential", func(s *statement.Enrolment) { s.Credential = statement.Hash{9} }, false},
		{"another attestation", func(s *statement.Enrolment) { s.Attestation = statement.Hash{} }, false},
		{"another invite", func(s *statement.Enrolment) { s.Invite = statement.Hash{9} }, false},
	} {
		s := &statement.Enrolment{Origin: "example/demo", Epoch: 1, Checkpoint: cp, ID: "e1", Nonce: statement.Nonce{1}, Issued: now, Expires: now.Add(statement.Validity),
			Person: "alice", Key: "yubi-desk", PublicKey: holder, Credential: sha256.Sum256([]byte("id")), Attestation: sha256.Sum256([]byte("data")), Invite: sha256.Sum256([]byte("secret"))}
		c.edit(s)
		if _, err := CheckEnrolment(challenge(t, s, "e1"), "alice", "yubi-desk", cred, "c2VjcmV0", seen); (err == nil) != c.ok {
			t.Errorf("%s: %v", c.what, err)
		}
	}
}

// TestTheAnswerIsHeldAgainstTheStatement: a certificate is taken only if it is what was signed for.
func TestTheAnswerIsHeldAgainstTheStatement(t *testing.T) {
	ca, mallory := newKey(t), newKey(t)
	key, other := newKey(t).PublicKey(), newKey(t).PublicKey()
	site := ledger.Site{ClientCA: []string{authorized(ca.PublicKey())}}
	s := honest(key)
	type made struct {
		key    ssh.PublicKey
		person name.Person
		grant  sshcert.Grant
		addr   string
		ca     ssh.Signer
		end    time.Time
	}
	for _, c := range []struct {
		what string
		cert func(m *made)
		edit func(g *api.Granted)
		ok   bool
	}{
		{"as it was signed for", nil, nil, true},
		{"fewer minutes", nil, func(g *api.Granted) { g.Minutes = 5 }, true},
		{"by another CA", func(m *made) { m.ca = mallory }, nil, false},
		{"over another key", func(m *made) { m.key = other }, nil, false},
		{"for another person", func(m *made) { m.person = "bob" }, nil, false},
		{"for another host", func(m *made) { m.grant.Host = "web02" }, nil, false},
		{"for another login", func(m *made) { m.grant.Login = "bob" }, nil, false},
		{"for another request", func(m *made) { m.grant.Request = "q2c-9dd" }, nil, false},
		{"from another address", func(m *made) { m.addr = "203.0.113.9" }, nil, false},
		{"longer than the grant", func(m *made) { m.end = m.end.Add(time.Hour) }, nil, false},
		{"more minutes than asked", nil, func(g *api.Granted) { g.Minutes = 60 }, false},
		{"a forward that wasn't asked for", nil, func(g *api.Granted) { g.Forwards = []string{"local *:*"} }, false},
		{"named as another host's", nil, func(g *api.Granted) { g.Host = "web02" }, false},
		{"no certificate", nil, func(g *api.Granted) { g.Certificate = "" }, false},
	} {
		m := made{key, "alice", sshcert.Grant{Request: "k7f-2mq", Login: "root", Host: "web01"}, "198.51.100.7", ca, s.Issued.Add(30 * time.Minute)}
		until := m.end
		if c.cert != nil {
			c.cert(&m)
		}
		l, err := sshcert.Lint(sshcert.NewClient(m.key, m.person, m.grant, []netip.Addr{netip.MustParseAddr(m.addr)}, s.Issued, m.end), sshcert.Client)
		if err != nil {
			t.Fatal(err)
		}
		cert, err := l.Sign(m.ca)
		if err != nil {
			t.Fatal(err)
		}
		g := &api.Granted{ID: "k7f-2mq", Person: "alice", Login: "root", Host: "web01", Minutes: 30, Until: until,
			Certificate: string(ssh.MarshalAuthorizedKey(cert)), Forwards: s.Forwards}
		if c.edit != nil {
			c.edit(g)
		}
		if err := CheckGranted(g, s, key, site); (err == nil) != c.ok || err != nil && !errors.Is(err, ErrAnswer) {
			t.Errorf("%s: %v, want ok=%v", c.what, err, c.ok)
		}
	}
}
