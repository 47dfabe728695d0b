package ledger_test

import (
	"testing"
	"time"

	"breakglass/internal/name"
	"breakglass/internal/statement"
	"breakglass/ledger"
	"breakglass/ledger/ledgertest"
)

// guarded is a log in which alice has codes, and her key was suspended, each in order.
type guarded struct {
	*ledgertest.Log
	alice, bob, carol *ledgertest.Person
	enrolled          statement.Hash
}

func guard(t *testing.T) *guarded {
	g := &guarded{Log: ledgertest.New(t)}
	g.alice, g.bob, g.carol = g.Enrol("alice"), g.Enrol("bob"), g.Enrol("carol")
	g.enrolled = g.TOTP(g.alice, statement.TOTPEnrol, "phone", []byte("sealed"), statement.Hash{}, nil)
	g.later()
	return g
}

func (g *guarded) later() { g.Now = g.Now.Add(ledger.TOTPPeriod) }

func (g *guarded) of(p *ledgertest.Person) ledger.Subject { return ledger.Subject{Person: p.Name} }

func (g *guarded) used(off int64) statement.Hash {
	return g.About(g.of(g.alice), &ledger.TOTPUsed{Device: "phone", Step: ledger.TOTPStep(g.Now) + off})
}

func (g *guarded) wrong(n int) {
	g.About(g.of(g.alice), &ledger.TOTPRefused{Code: ledger.TOTPCodeWrong, Wrong: n})
}

func (g *guarded) locked() statement.Hash {
	for n := 1; n <= ledger.TOTPTries; n++ {
		g.wrong(n)
	}
	return g.About(g.of(g.alice), &ledger.TOTPLocked{Wrong: ledger.TOTPTries, Until: ledger.At(g.Now.Add(ledger.TOTPLock))})
}

func (g *guarded) suspended() statement.Hash {
	return g.About(ledger.Subject{Person: "alice", Key: g.alice.Fingerprint}, &ledger.KeySuspended{Why: "counter_went_back", Accepted: 9, Seen: 2})
}

func (g *guarded) unlocked(f *ledger.KeyUnlocked) {
	g.About(ledger.Subject{Person: "alice", Key: g.alice.Fingerprint}, f)
}

func (g *guarded) lockedOut(n int, until time.Duration) {
	for range n {
		g.Deny(g.alice, "login_not_allowed")
	}
	g.About(g.of(g.alice), &ledger.PersonLocked{Refused: n, Until: ledger.At(g.Now.Add(until))})
}

// TestCodesAndLocksAreAudited: each line is a log, and the fault that the audit has to find in it; "" is none.
func TestCodesAndLocksAreAudited(t *testing.T) {
	both := []name.Person{"bob", "carol"}
	for _, c := range []struct {
		what string
		make func(g *guarded)
		want ledger.Code
	}{
		{"codes, one after the other", func(g *guarded) { g.used(0); g.later(); g.used(0); g.later(); g.used(-1 + 1) }, ""},
		{"a code of the half minute ahead", func(g *guarded) { g.used(1) }, ""},
		{"a code of the half minute before", func(g *guarded) { g.later(); g.used(-1) }, ""},
		{"a code twice", func(g *guarded) { g.used(0); g.used(0) }, ledger.FaultReplay},
		{"an older code", func(g *guarded) { g.later(); g.used(0); g.used(-1) }, ledger.FaultReplay},
		{"the code that confirmed the seed", func(g *guarded) { g.used(-1) }, ledger.FaultReplay},
		{"a code of an hour ahead", func(g *guarded) { g.used(120) }, ledger.FaultTOTP},
		{"a code of another device", func(g *guarded) {
			g.About(g.of(g.alice), &ledger.TOTPUsed{Device: "tablet", Step: ledger.TOTPStep(g.Now)})
		}, ledger.FaultTOTP},
		{"a code of somebody without", func(g *guarded) {
			g.About(g.of(g.bob), &ledger.TOTPUsed{Device: "phone", Step: ledger.TOTPStep(g.Now)})
		}, ledger.FaultOrder},
		{"wrong ones, counted", func(g *guarded) { g.wrong(1); g.wrong(2); g.used(0); g.wrong(1) }, ""},
		{"a wrong one that is not counted", func(g *guarded) { g.wrong(1); g.wrong(1) }, ledger.FaultTOTP},
		{"a replayed one that is counted as wrong", func(g *guarded) {
			g.About(g.of(g.alice), &ledger.TOTPRefused{Code: ledger.TOTPCodeReplay, Wrong: 1})
		}, ledger.FaultTOTP},
		{"locked after five", func(g *guarded) { g.locked() }, ""},
		{"locked after none", func(g *guarded) {
			g.About(g.of(g.alice), &ledger.TOTPLocked{Wrong: 5, Until: ledger.At(g.Now.Add(ledger.TOTPLock))})
		}, ledger.FaultTOTP},
		{"locked for a second", func(g *guarded) {
			for n := 1; n <= ledger.TOTPTries; n++ {
				g.wrong(n)
			}
			g.About(g.of(g.alice), &ledger.TOTPLocked{Wrong: 5, Until: ledger.At(g.Now.Add(time.Second))})
		}, ledger.FaultTOTP},
		{"a code while locked", func(g *guarded) { g.locked(); g.later(); g.used(0) }, ledger.FaultTOTP},
		{"a code after the lock's time", func(g *guarded) { g.locked(); g.Now = g.Now.Add(ledger.TOTPLock); g.used(0) }, ""},
		{"a lock lifted by two", func(g *guarded) {
			h := g.locked()
			g.Lift(g.bob, "totp:alice", h)
			g.Lift(g.carol, "totp:alice", h)
			g.About(g.of(g.alice), &ledger.TOTPUnlocked{Approved: both, Lifts: h})
			g.later()
			g.used(0)
		}, ""},
		{"a lock lifted by nobody", func(g *guarded) { h := g.locked(); g.About(g.of(g.alice), &ledger.TOTPUnlocked{Lifts: h}) }, ledger.FaultGrant},
		{"a lock lifted by a yes to something else", func(g *guarded) {
			h := g.locked()
			g.Lift(g.bob, "totp:alice", g.enrolled)
			g.About(g.of(g.alice), &ledger.TOTPUnlocked{Approved: []name.Person{"bob"}, Lifts: h})
		}, ledger.FaultGrant},
		{"a lock lifted by one who is counted twice", func(g *guarded) {
			h := g.locked()
			g.Lift(g.bob, "totp:alice", h)
			g.About(g.of(g.alice), &ledger.TOTPUnlocked{Approved: []name.Person{"bob", "bob"}, Lifts: h})
		}, ledger.FaultGrant},
		{"another seed with a code of the present one", func(g *guarded) {
			g.used(0)
			g.TOTP(g.alice, statement.TOTPEnrol, "tablet", []byte("sealed 2"), statement.Hash{}, nil)
		}, ""},
		{"another seed without", func(g *guarded) {
			g.TOTP(g.alice, statement.TOTPEnrol, "tablet", []byte("sealed 2"), statement.Hash{}, nil)
		}, ledger.FaultTOTP},
		{"the same seed again", func(g *guarded) {
			g.used(0)
			g.TOTP(g.alice, statement.TOTPEnrol, "phone", []byte("sealed"), statement.Hash{}, nil)
		}, ledger.FaultReplay},
		{"another seed than was signed for", func(g *guarded) {
			g.TOTP(g.bob, statement.TOTPEnrol, "phone", []byte("s"), statement.Hash{}, func(_ *statement.TOTP, e *ledger.Entry) {
				e.Facts.(*ledger.TOTPEnrolled).Sealed = []byte("another")
			})
		}, ledger.FaultStatement},
		{"another device than was signed for", func(g *guarded) {
			g.TOTP(g.bob, statement.TOTPEnrol, "phone", []byte("s"), statement.Hash{}, func(_ *statement.TOTP, e *ledger.Entry) {
				e.Facts.(*ledger.TOTPEnrolled).Device = "tablet"
			})
		}, ledger.FaultStatement},
		{"a removal that was signed as an enrolment", func(g *guarded) {
			g.used(0)
			g.TOTP(g.alice, statement.TOTPRemove, "phone", nil, g.enrolled, func(s *statement.TOTP, _ *ledger.Entry) { s.Act = statement.TOTPEnrol })
		}, ledger.FaultStatement},
		{"removed with a code", func(g *guarded) { g.used(0); g.TOTP(g.alice, statement.TOTPRemove, "phone", nil, g.enrolled, nil) }, ""},
		{"removed without", func(g *guarded) { g.TOTP(g.alice, statement.TOTPRemove, "phone", nil, g.enrolled, nil) }, ledger.FaultTOTP},
		{"taken away by one", func(g *guarded) {
			g.About(g.of(g.alice), &ledger.TOTPRemoved{Device: "phone", How: "approvers", Approved: []name.Person{"bob"}, Lifts: g.enrolled})
		}, ledger.FaultGrant},
		{"taken away by fiat", func(g *guarded) {
			g.About(g.of(g.alice), &ledger.TOTPRemoved{Device: "phone", How: "root", Lifts: g.enrolled})
		}, ledger.FaultTOTP},
		{"a suspension lifted by two", func(g *guarded) {
			h := g.suspended()
			g.Lift(g.bob, g.alice.Fingerprint, h)
			g.Lift(g.carol, g.alice.Fingerprint, h)
			g.unlocked(&ledger.KeyUnlocked{How: "approvers", Approved: both, Lifts: h, Seen: 2})
			g.Grant(g.alice, nil)
		}, ""},
		{"a suspension lifted by one", func(g *guarded) {
			h := g.suspended()
			g.Lift(g.bob, g.alice.Fingerprint, h)
			g.unlocked(&ledger.KeyUnlocked{How: "approvers", Approved: []name.Person{"bob"}, Lifts: h, Seen: 2})
		}, ledger.FaultGrant},
		{"a suspension lifted by another's one key as if it were hers", func(g *guarded) {
			h := g.suspended()
			g.Lift(g.bob, g.alice.Fingerprint, h)
			g.unlocked(&ledger.KeyUnlocked{How: "other_key", Approved: []name.Person{"bob"}, Lifts: h, Seen: 2})
		}, ledger.FaultGrant},
		{"a suspension lifted with another counter", func(g *guarded) {
			h := g.suspended()
			g.Lift(g.bob, g.alice.Fingerprint, h)
			g.Lift(g.carol, g.alice.Fingerprint, h)
			g.unlocked(&ledger.KeyUnlocked{How: "approvers", Approved: both, Lifts: h, Seen: 1})
		}, ledger.FaultGrant},
		{"an approval that no longer counted", func(g *guarded) {
			h := g.suspended()
			g.Lift(g.bob, g.alice.Fingerprint, h)
			g.Now = g.Now.Add(time.Hour)
			g.Lift(g.carol, g.alice.Fingerprint, h)
			g.unlocked(&ledger.KeyUnlocked{How: "approvers", Approved: both, Lifts: h, Seen: 2})
		}, ledger.FaultGrant},
		{"a key lifted that was not suspended", func(g *guarded) {
			g.Lift(g.bob, g.alice.Fingerprint, statement.Hash{1})
			g.Lift(g.carol, g.alice.Fingerprint, statement.Hash{1})
			g.unlocked(&ledger.KeyUnlocked{How: "approvers", Approved: both, Lifts: statement.Hash{1}, Seen: 2})
		}, ledger.FaultOrder},
		{"a suspended key that signs", func(g *guarded) { g.suspended(); g.Grant(g.alice, nil) }, ledger.FaultSignature},
		{"locked out after ten", func(g *guarded) { g.lockedOut(ledger.LockoutTries, ledger.LockoutTime) }, ""},
		{"locked out after nine", func(g *guarded) { g.lockedOut(ledger.LockoutTries-1, ledger.LockoutTime) }, ledger.FaultOrder},
		{"locked out for a day", func(g *guarded) { g.lockedOut(ledger.LockoutTries, 24*time.Hour) }, ledger.FaultOrder},
		{"lifted without a grant", func(g *guarded) {
			g.lockedOut(ledger.LockoutTries, ledger.LockoutTime)
			g.About(g.of(g.alice), &ledger.PersonUnlocked{Approved: []name.Person{"bob"}})
		}, ledger.FaultGrant},
		{"a lockout lifted that was none", func(g *guarded) {
			g.About(g.of(g.alice), &ledger.PersonUnlocked{Approved: []name.Person{"bob"}})
		}, ledger.FaultOrder},
		{"the clock accepted by the CA itself", func(g *guarded) { g.About(ledger.Subject{}, &ledger.ClockAccepted{Newest: ledger.At(g.Now)}) }, ledger.FaultSignature},
		{"the clock accepted by local root, in the demo", func(g *guarded) {
			g.Append(&ledger.Entry{Actor: ledger.ActorRoot, Facts: &ledger.ClockAccepted{Newest: ledger.At(g.Now)}})
		}, ""},
	} {
		g := guard(t)
		c.make(g)
		r, err := ledger.Verify(ledgertest.All(g.Entries), g.Checkpoint(), g.VKey)
		if err != nil {
			t.Fatal(err)
		}
		switch {
		case c.want == "" && len(r.Findings) > 0:
			t.Errorf("%s: %v", c.what, r.Findings)
		case c.want != "" && !has(r, c.want):
			t.Errorf("%s: no %s in %v", c.what, c.want, r.Findings)
		}
	}
}

func TestTheLocksOfCodesDouble(t *testing.T) {
	for wrong, want := range map[int]time.Duration{0: 0, 1: 0, 4: 0, 5: 15 * time.Minute, 6: 0, 10: 30 * time.Minute, 15: time.Hour, 35: 16 * time.Hour, 40: 24 * time.Hour, 5000: 24 * time.Hour} {
		if got := ledger.TOTPLockFor(wrong); got != want {
			t.Errorf("%d wrong: %v, want %v", wrong, got, want)
		}
	}
}
