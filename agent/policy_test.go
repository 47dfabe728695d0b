package agent

import (
	"errors"
	"testing"
	"time"

	"breakglass/ca/api"
	"breakglass/internal/statement"
	"breakglass/ledger"
)

// TestAPolicysStatementIsHeldAgainstWhatWasRead: an owner signs the change that they saw, or nothing.
func TestAPolicysStatementIsHeldAgainstWhatWasRead(t *testing.T) {
	now := time.Now().UTC().Truncate(time.Second)
	cp := statement.Checkpoint{Size: 10, Root: statement.Hash{1}}
	seen := Seen{Site: ledger.Site{Origin: "example/production", Epoch: 1}, Checkpoint: cp}
	q := api.PolicyAsk{Person: "alice", Policy: statement.Hash{7}, Previous: statement.Hash{8}, Changes: statement.Hash{9}}
	for _, c := range []struct {
		what string
		edit func(*statement.Policy)
		ok   bool
	}{
		{"as it was read", func(*statement.Policy) {}, true},
		{"another policy", func(s *statement.Policy) { s.Policy[31] ^= 1 }, false},
		{"after another policy", func(s *statement.Policy) { s.Previous[31] ^= 1 }, false},
		{"with another diff", func(s *statement.Policy) { s.Changes[31] ^= 1 }, false},
		{"policy and previous changed about", func(s *statement.Policy) { s.Policy, s.Previous = s.Previous, s.Policy }, false},
		{"somebody else's", func(s *statement.Policy) { s.Person = "bob" }, false},
		{"from nowhere", func(s *statement.Policy) { s.Sources = nil }, false},
		{"of another installation", func(s *statement.Policy) { s.Origin = "example/demo" }, false},
		{"of another epoch", func(s *statement.Policy) { s.Epoch = 2 }, false},
		{"over a history that was rolled back", func(s *statement.Policy) { s.Checkpoint.Size = 9 }, false},
		{"over another history", func(s *statement.Policy) { s.Checkpoint.Root = statement.Hash{2} }, false},
		{"good for a day", func(s *statement.Policy) { s.Expires = now.Add(24 * time.Hour) }, false},
		{"without a nonce", func(s *statement.Policy) { s.Nonce = statement.Nonce{} }, false},
		{"of another id", func(s *statement.Policy) { s.ID = "c2" }, false},
	} {
		s := &statement.Policy{Origin: "example/production", Epoch: 1, Checkpoint: cp, ID: "c1", Nonce: statement.Nonce{1}, Issued: now, Expires: now.Add(statement.Validity),
			Person: "alice", Policy: q.Policy, Previous: q.Previous, Changes: q.Changes, Sources: []string{"192.0.2.1"}}
		c.edit(s)
		if _, err := CheckPolicy(challenge(t, s, "c1"), q, seen); (err == nil) != c.ok || err != nil && !errors.Is(err, ErrStatement) {
			t.Errorf("%s: %v", c.what, err)
		}
	}
	ch := challenge(t, &statement.Founding{Origin: "example/production", Epoch: 1, Checkpoint: cp, ID: "c1", Nonce: statement.Nonce{1}, Issued: now, Expires: now.Add(statement.Validity), Person: "alice", Policy: q.Policy}, "c1")
	if _, err := CheckPolicy(ch, q, seen); !errors.Is(err, ErrStatement) {
		t.Errorf("a founding in its place: %v", err)
	}
}
