package ca

import (
	"time"

	"breakglass/ca/state"
	"breakglass/internal/name"
	"breakglass/ledger"
	"breakglass/policy"
)

// This file is the one home of locking a person out. What counts are validly signed acts that were refused: only who holds a key of that
// person can bring it about, so nobody locks out somebody else. It denies nothing: while it lasts, what the person asks wants an approval more
// (which an override can replace), and the touch stays. It is in the ledger, so a restart forgives nothing.

// refusedAct is called behind the entry of a refusal, in its transaction.
func (c *CA) refusedAct(tx *state.Tx, p name.Person) error {
	now := c.now()
	n, err := tx.Refusals(p, ledger.At(now).Add(-ledger.LockoutWindow))
	if err != nil || n < ledger.LockoutTries {
		return err
	}
	_, _, err = tx.Append(c.entryAt(now, ledger.Subject{Person: p}, &ledger.PersonLocked{Refused: n, Until: ledger.At(ledger.At(now).Add(ledger.LockoutTime))}))
	return err
}

// lockedOut says whether a person is, as a circumstance for the policy.
func (c *CA) lockedOut(tx *state.Tx, p name.Person, now time.Time) ([]policy.Added, error) {
	until, err := tx.LockedOut(p)
	if err != nil || !now.Before(until) {
		return nil, err
	}
	return []policy.Added{policy.AddedLocked}, nil
}

// approvedIn is called behind grant.allowed: the first grant that approvers gave while the person was locked out ends that. An override
// replaces the approval for this once, and lifts nothing.
func (c *CA) approvedIn(tx *state.Tx, s ledger.Subject, approved []name.Person, overridden int) error {
	now := c.now()
	if len(approved) == 0 || overridden > 0 {
		return nil
	}
	locked, err := c.lockedOut(tx, s.Person, now)
	if err != nil || len(locked) == 0 {
		return err
	}
	_, _, err = tx.Append(c.entryAt(now, s, &ledger.PersonUnlocked{Approved: approved}))
	return err
}
