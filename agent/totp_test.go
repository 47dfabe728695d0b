package agent

import (
	"testing"
	"time"

	"breakglass/internal/statement"
)

// TestNoKeySignsForAnotherDevice: what a lying CA could put into the statement.
func TestNoKeySignsForAnotherDevice(t *testing.T) {
	seed := statement.Hash{1}
	for _, c := range []struct {
		what string
		edit func(*statement.TOTP)
		ok   bool
	}{
		{"as it was asked", func(*statement.TOTP) {}, true},
		{"another person", func(s *statement.TOTP) { s.Person = "mallory" }, false},
		{"a removal in its place", func(s *statement.TOTP) { s.Act = statement.TOTPRemove }, false},
		{"another device", func(s *statement.TOTP) { s.Device = "mallorys" }, false},
		{"another seed", func(s *statement.TOTP) { s.Seed = statement.Hash{2} }, false},
		{"another installation", func(s *statement.TOTP) { s.Origin = "example/production" }, false},
		{"an older history", func(s *statement.TOTP) { s.Checkpoint.Size = 1 }, false},
		{"good for an hour", func(s *statement.TOTP) { s.Expires = s.Issued.Add(time.Hour) }, false},
	} {
		now := time.Now().UTC().Truncate(time.Second)
		s := &statement.TOTP{Origin: seen.Site.Origin, Epoch: seen.Site.Epoch, Checkpoint: seen.Checkpoint, ID: "t1", Nonce: statement.NewNonce(), Issued: now,
			Expires: now.Add(statement.Validity), Person: "alice", Act: statement.TOTPEnrol, Device: "phone", Seed: seed}
		c.edit(s)
		if _, err := CheckTOTP(challenge(t, s, "t1"), "alice", statement.TOTPEnrol, "phone", seed, seen); (err == nil) != c.ok {
			t.Errorf("%s: %v", c.what, err)
		}
	}
}
