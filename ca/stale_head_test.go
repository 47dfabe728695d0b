package ca_test

import (
	"context"
	"testing"

	"breakglass/ca/catest"
	"breakglass/internal/statement"
	"breakglass/ledger"
)

// A jump is revoked after the night's backup, and then the CA is lost. The restored ledger doesn't know of the revocation, and the jump shows a head from before the backup, of
// nothing that the CA doesn't have: that is not all that it keeps, and the CA does not go on by the revoked jump's own word (`resume --without` is an operator's).
func TestAStaleHeadDoesNotThawARestoredCA(t *testing.T) {
	c := catest.New(t, catest.Config{})
	alice := c.Enrol("alice")
	j := c.Join("jump-a")
	_, err := alice.Request("root", "web01")
	catest.Must(t, err)
	stale := keep(t, c)
	for range 3 {
		_, err := alice.Request("root", "web01")
		catest.Must(t, err)
	}
	b := backup(t, c)
	_, err = order(alice, statement.OrderRevokeJump, "jump-a", "its machine was broken into", statement.Hash{})
	catest.Must(t, err)
	revoked := 0
	count := func() (n int) {
		for _, e := range c.Entries() {
			if _, ok := e.Facts.(*ledger.Revoked); ok {
				n++
			}
		}
		return n
	}
	if revoked = count(); revoked != 1 {
		t.Fatal(revoked)
	}
	lose(t, c, b)
	s, err := j.Client.OfferTail(context.Background(), stale)
	if err != nil {
		t.Fatal(err)
	}
	if !s.Wanted {
		t.Errorf("thawed by the revoked jump's word, with a head of %d entries from before the backup: %d revocations of 1 are left", len(stale.entries), count())
	}
}
