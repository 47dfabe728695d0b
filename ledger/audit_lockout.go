package ledger

import (
	"slices"
	"time"

	"breakglass/internal/name"
	"breakglass/internal/statement"
)

const (
	// LockoutTries refused signed acts within LockoutWindow lock a person out for LockoutTime: then an approval more is wanted.
	LockoutTries  = 10
	LockoutWindow = 10 * time.Minute
	LockoutTime   = 30 * time.Minute
)

// given is a yes to something that is no request: a key's unlocking.
type given struct {
	of, hash string
	person   name.Person
	key      string
	until    time.Time
}

// noteApproval keeps a yes for the entry that will stand on it.
func (a *Audit) noteApproval(f *ApprovalGiven) {
	g := given{of: f.About + "\x00" + f.Of, hash: f.Hash.String(), person: a.e.Subject.Person, key: f.Touch.Key, until: f.Until.Time}
	a.given = slices.DeleteFunc(a.given, func(o given) bool {
		return o.of == g.of && o.person == g.person || a.e.Time.After(o.until.Add(lateness))
	})
	if f.Verdict == statement.Approve {
		a.given = append(a.given, g)
	}
}

// lifted demands a live approval by each of the people named, each once, of exactly that entry. It gives the keys that signed.
func (a *Audit) lifted(by []name.Person, about, of string, lifts statement.Hash) (keys []string) {
	if len(by) == 0 {
		a.fault(FaultGrant, "lifted by nobody")
	}
	for i, p := range by {
		n := slices.IndexFunc(a.given, func(g given) bool {
			return g.of == about+"\x00"+of && g.hash == lifts.String() && g.person == p && !a.e.Time.After(g.until.Add(lateness))
		})
		switch {
		case slices.Contains(by[:i], p):
			a.fault(FaultGrant, "counts %s twice", p)
		case n < 0 && !a.cfg.Part:
			a.fault(FaultGrant, "%s did not approve it", p)
		case n >= 0:
			if k := a.keys[a.given[n].key]; k != nil && !a.counting(k) {
				a.fault(FaultKey, "%s approved it with a key that does not count", p)
			}
			keys = append(keys, a.given[n].key)
		}
	}
	return keys
}

// keyUnlocked: by the person with another key of theirs, or by two others.
func (a *Audit) keyUnlocked(f *KeyUnlocked) {
	keys := a.lifted(f.Approved, statement.AboutUnlock, a.e.Subject.Key, f.Lifts)
	k := a.keys[a.e.Subject.Key]
	if k == nil {
		if !a.cfg.Part {
			a.fault(FaultOrder, "unlocks %q, which no earlier entry enrolled", a.e.Subject.Key)
		}
		return
	}
	if !k.suspended {
		a.fault(FaultOrder, "unlocks a key that is not suspended")
	}
	switch own := slices.Contains(f.Approved, k.Person); {
	case f.How == "other_key" && (!own || len(f.Approved) != 1 || slices.Contains(keys, k.Fingerprint)):
		a.fault(FaultGrant, "unlocked by the other key of %s, which did not sign", k.Person)
	case f.How == "approvers" && (own || len(f.Approved) < UnlockApprovers):
		a.fault(FaultGrant, "unlocked by %d approvers", len(f.Approved))
	case f.How != "other_key" && f.How != "approvers":
		a.fault(FaultGrant, "unlocked by %q", f.How)
	}
	if !a.cfg.Part && (f.Lifts != k.suspension || f.Seen != k.seen) {
		a.fault(FaultGrant, "lifts another suspension than the last")
	}
	k.suspended, k.counter = false, f.Seen
}

// UnlockApprovers is how many people lift what one would lift alone with their other key.
const UnlockApprovers = 2

// uncounted are refusals that tell of no attack: the code is asked for after the first answer, answers cross on a bad line, and who types
// an override a minute early is no stranger.
var uncounted = []string{"totp_missing", "late", "override_too_early", TOTPCodeCurrent}

// CountsForLockout says whether a refused signed act counts towards locking its person out.
func CountsForLockout(e *Entry) bool {
	if e.Statement == "" { // nobody signed: a request that waited, and was not let in
		return false
	}
	var reasons []Reason
	switch f := e.Facts.(type) {
	case *RequestDenied:
		reasons = f.Reasons
	case *ActDenied:
		reasons = f.Reasons
	}
	return len(reasons) > 0 && !slices.Contains(uncounted, reasons[0].Code)
}

// noteRefusal counts a refused act.
func (a *Audit) noteRefusal() {
	if !CountsForLockout(a.e) {
		return
	}
	if a.refusals == nil {
		a.refusals = map[name.Person][]time.Time{}
	}
	p := a.e.Subject.Person
	a.refusals[p] = append(a.recent(p), a.e.Time.Time)
}

// recent are the refusals within the window.
func (a *Audit) recent(p name.Person) []time.Time {
	return slices.DeleteFunc(a.refusals[p], func(t time.Time) bool { return !t.After(a.e.Time.Add(-LockoutWindow)) })
}

func (a *Audit) personLocked(f *PersonLocked) {
	p := a.e.Subject.Person
	if n := len(a.recent(p)); !a.cfg.Part && (n < LockoutTries || f.Refused != n) {
		a.fault(FaultOrder, "locks %s out for %d refusals, the entries have %d", p, f.Refused, n)
	}
	if !f.Until.Equal(a.e.Time.Add(LockoutTime)) {
		a.fault(FaultOrder, "locks %s out until %s", p, f.Until.Format(time.RFC3339))
	}
	if a.lockouts == nil {
		a.lockouts = map[name.Person]time.Time{}
	}
	a.lockouts[p] = f.Until.Time
	delete(a.refusals, p)
}

// personUnlocked stands behind the grant that approvers gave while the lockout lasted.
func (a *Audit) personUnlocked(f *PersonUnlocked) {
	p := a.e.Subject.Person
	if until, ok := a.lockouts[p]; !a.cfg.Part && (!ok || !a.e.Time.Before(until)) {
		a.fault(FaultOrder, "%q is not locked out", p)
	}
	delete(a.lockouts, p)
	g := a.grants[a.e.Subject.Request]
	if g == nil || g.Allowed == nil || len(f.Approved) == 0 {
		a.fault(FaultGrant, "lifted by no approved grant")
		return
	}
	for _, who := range f.Approved {
		if !slices.Contains(g.Allowed.Used.Approved, who) || who == p {
			a.fault(FaultGrant, "lifted by %s, who did not approve %s", who, g.Request.ID)
		}
	}
}

// clockAccepted: it widens, so it takes an operator's touch; of the demo, which has no operators' keys to ask, local root is enough.
func (a *Audit) clockAccepted() {
	if a.e.Statement == "" {
		if a.e.Actor != ActorRoot || a.site.Profile != "demo" {
			a.fault(FaultSignature, "nobody signed for it")
		}
		return
	}
	a.order(statement.OrderClockAccept, statement.TargetClock)
}
