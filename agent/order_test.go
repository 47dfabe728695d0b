package agent

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"breakglass/agent/keys"
	"breakglass/ca/api"
	"breakglass/internal/sshsig"
	"breakglass/internal/statement"
	"breakglass/ledger"
)

// TestOrdersAreHeldAgainstWhatWasTyped: nothing is signed that the operator did not type.
func TestOrdersAreHeldAgainstWhatWasTyped(t *testing.T) {
	now := time.Now().UTC().Truncate(time.Second)
	cp := statement.Checkpoint{Size: 10, Root: statement.Hash{1}}
	seen := Seen{Site: ledger.Site{Origin: "example/demo", Epoch: 1}, Checkpoint: cp}
	q := api.OrderAsk{Person: "olga", Act: statement.OrderRevokePerson, Target: "alice", Reason: "left"}
	for _, c := range []struct {
		what string
		edit func(*statement.Order)
		ok   bool
	}{
		{"as it was typed", func(*statement.Order) {}, true},
		{"another's order", func(s *statement.Order) { s.Person = "mallory" }, false},
		{"another act", func(s *statement.Order) { s.Act = statement.OrderInvitePerson }, false},
		{"another target", func(s *statement.Order) { s.Target = "bob" }, false},
		{"another reason", func(s *statement.Order) { s.Reason = "on holiday" }, false},
		{"a detail that nobody asked for", func(s *statement.Order) { s.Detail = statement.Hash{9} }, false},
		{"from nowhere", func(s *statement.Order) { s.Sources = nil }, false},
		{"from no address", func(s *statement.Order) { s.Sources = []string{"here"} }, false},
		{"of another installation", func(s *statement.Order) { s.Origin = "other/demo" }, false},
		{"of another epoch", func(s *statement.Order) { s.Epoch = 2 }, false},
		{"over a history that was rolled back", func(s *statement.Order) { s.Checkpoint.Size = 9 }, false},
		{"over another history", func(s *statement.Order) { s.Checkpoint.Root = statement.Hash{2} }, false},
		{"good for a day", func(s *statement.Order) { s.Expires = now.Add(24 * time.Hour) }, false},
		{"without a nonce", func(s *statement.Order) { s.Nonce = statement.Nonce{} }, false},
		{"of another id", func(s *statement.Order) { s.ID = "o2" }, false},
	} {
		s := &statement.Order{Origin: "example/demo", Epoch: 1, Checkpoint: cp, ID: "o1", Nonce: statement.Nonce{1}, Issued: now, Expires: now.Add(statement.Validity),
			Person: "olga", Act: q.Act, Target: q.Target, Reason: q.Reason, Sources: []string{"192.0.2.1"}}
		c.edit(s)
		_, err := CheckOrder(challenge(t, s, "o1"), q, seen)
		if (err == nil) != c.ok {
			t.Errorf("%s: %v", c.what, err)
		}
		if err != nil && !errors.Is(err, ErrStatement) {
			t.Errorf("%s: %v is not ErrStatement", c.what, err)
		}
	}
	ch := challenge(t, &statement.Recipient{Origin: "example/demo", Epoch: 1, Checkpoint: cp, ID: "o1", Nonce: statement.Nonce{1}, Issued: now, Expires: now.Add(statement.Validity), Person: "olga"}, "o1")
	if _, err := CheckOrder(ch, q, seen); !errors.Is(err, ErrStatement) {
		t.Errorf("another kind of statement: %v", err)
	}
}

// scribe is a CA that takes orders and keeps what it saw.
type scribe struct {
	t    *testing.T
	asks []api.OrderAsk
	done func(*api.OrderDone)
}

func (s *scribe) Order(_ context.Context, q api.OrderAsk) (*api.Challenge, error) {
	s.asks = append(s.asks, q)
	now := time.Now().UTC().Truncate(time.Second)
	st := &statement.Order{Origin: "example/demo", Epoch: 1, Checkpoint: statement.Checkpoint{Size: 10}, ID: "o1", Nonce: statement.Nonce{1}, Issued: now,
		Expires: now.Add(statement.Validity), Act: q.Act, Target: q.Target, Reason: q.Reason, Detail: q.Detail, Sources: []string{"192.0.2.1"}}
	st.Person = "olga"
	return challenge(s.t, st, "o1"), nil
}

func (s *scribe) SignOrder(_ context.Context, _ string, _ api.SignedOrder) (*api.OrderDone, error) {
	q := s.asks[len(s.asks)-1]
	out := &api.OrderDone{Act: q.Act, Target: q.Target, Expires: time.Now().Add(time.Hour)}
	if s.done != nil {
		s.done(out)
	}
	return out, nil
}

// anyKey signs whatever it is given.
type anyKey struct{ key ssh.Signer }

func (k anyKey) Sign(_ context.Context, text []byte, namespace string, _ []api.KeyHandle) (*sshsig.Signature, error) {
	return sshsig.Sign(k.key, namespace, text)
}

var _ keys.Signer = anyKey{}

// TestAnInvitesSecretStaysHere: the CA is told its hash alone, and the token is the one that was ordered.
func TestAnInvitesSecretStaysHere(t *testing.T) {
	a := New(Config{Signer: anyKey{newKey(t)}, Seen: func() Seen { return Seen{Site: ledger.Site{Origin: "example/demo", Epoch: 1}} }})
	s := &scribe{t: t}
	var secrets []string
	for range 2 {
		token, err := a.Invite(context.Background(), s, "olga", api.ForPerson, "carol", api.Pins{})
		if err != nil {
			t.Fatal(err)
		}
		if token.For != api.ForPerson || token.Name != "carol" || token.Expires.IsZero() {
			t.Errorf("%+v", token)
		}
		b, err := base64.RawURLEncoding.DecodeString(token.Secret)
		if err != nil || len(b) != 32 {
			t.Fatalf("secret of %d bytes: %v", len(b), err)
		}
		q := s.asks[len(s.asks)-1]
		if q.Act != statement.OrderInvitePerson || q.Target != "carol" || q.Detail != sha256.Sum256(b) {
			t.Errorf("ordered %+v", q)
		}
		secrets = append(secrets, token.Secret)
	}
	if secrets[0] == secrets[1] {
		t.Error("the same secret twice")
	}
	for _, q := range s.asks {
		if strings.Contains(q.Detail.String(), secrets[0]) || q.Detail == (statement.Hash{}) {
			t.Errorf("the CA was told %+v", q)
		}
	}
	s.done = func(d *api.OrderDone) { d.Target = "mallory" }
	if _, err := a.Invite(context.Background(), s, "olga", api.ForPerson, "carol", api.Pins{}); !errors.Is(err, ErrAnswer) {
		t.Errorf("carried out for somebody else: %v", err)
	}
}
