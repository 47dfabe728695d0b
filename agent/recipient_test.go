package agent

import (
	"errors"
	"testing"
	"time"

	"breakglass/ca/api"
	"breakglass/internal/statement"
	"breakglass/ledger"
)

// TestARotationIsWhatWasAsked: a CA that words another one gets no signature.
func TestARotationIsWhatWasAsked(t *testing.T) {
	now := time.Date(2026, 11, 25, 3, 0, 0, 0, time.UTC)
	cp := statement.Checkpoint{Size: 3, Root: statement.Hash{1}}
	seen := Seen{Site: ledger.Site{Origin: "example/demo", Epoch: 1}}
	q := api.RotationAsk{Person: "bob", Old: "age1pq1old", Age: "age1pq1new", Sealed: "hardware"}
	for _, c := range []struct {
		what string
		edit func(*statement.ReadingRotation)
		ok   bool
	}{
		{"as it was asked", func(*statement.ReadingRotation) {}, true},
		{"another new key", func(s *statement.ReadingRotation) { s.Age = "age1pq1mallory" }, false},
		{"another old key", func(s *statement.ReadingRotation) { s.Old = "age1pq1other" }, false},
		{"another person's", func(s *statement.ReadingRotation) { s.Person = "alice" }, false},
		{"sealed otherwise", func(s *statement.ReadingRotation) { s.Sealed = "passphrase" }, false},
		{"of another CA", func(s *statement.ReadingRotation) { s.Origin = "other/demo" }, false},
		{"without a nonce", func(s *statement.ReadingRotation) { s.Nonce = statement.Nonce{} }, false},
	} {
		s := &statement.ReadingRotation{Origin: "example/demo", Epoch: 1, Checkpoint: cp, ID: "r1", Nonce: statement.Nonce{1}, Issued: now, Expires: now.Add(statement.Validity),
			Person: "bob", Old: q.Old, Age: q.Age, Sealed: q.Sealed}
		c.edit(s)
		if _, err := CheckRotation(challenge(t, s, "r1"), q, seen); (err == nil) != c.ok || err != nil && !errors.Is(err, ErrStatement) {
			t.Errorf("%s: %v", c.what, err)
		}
	}
	// A statement of another kind, though all its lines were the same.
	other := &statement.Recipient{Origin: "example/demo", Epoch: 1, Checkpoint: cp, ID: "r1", Nonce: statement.Nonce{1}, Issued: now, Expires: now.Add(statement.Validity), Person: "bob", Age: q.Age, Sealed: q.Sealed}
	if _, err := CheckRotation(challenge(t, other, "r1"), q, seen); !errors.Is(err, ErrStatement) {
		t.Errorf("a recipient's statement: %v", err)
	}
}
