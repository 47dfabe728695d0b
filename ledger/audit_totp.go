package ledger

import (
	"crypto/sha256"
	"time"

	"breakglass/internal/name"
	"breakglass/internal/statement"
)

// Codes of a person's other channel (RFC 6238). The CA and the audit reckon alike, so the numbers stand here.
const (
	// TOTPPeriod and TOTPSkew: a code counts in its own half minute and in the one before and after, for phones whose clock is off.
	TOTPPeriod = 30 * time.Second
	TOTPSkew   = 1
	// TOTPTries wrong codes lock for TOTPLock, the next as many for twice that, and so on up to TOTPLockMax: with three steps good at a time,
	// who guesses has 1 in 66,000 in the first hour, and 1 in 11,000 in the first week.
	TOTPTries   = 5
	TOTPLock    = 15 * time.Minute
	TOTPLockMax = 24 * time.Hour
)

// Codes of TOTPRefused, and of the refusals that follow from one.
const (
	TOTPCodeWrong   = "totp_wrong"
	TOTPCodeReplay  = "totp_used"
	TOTPCodeLocked  = "totp_locked"
	TOTPCodeNone    = "totp_not_enrolled"
	TOTPCodeCurrent = "totp_current"    // one of the device that is being replaced is wanted too
	TOTPCodeUnsound = "totp_unreadable" // the sealed seed can't be opened with this CA's state key
)

// TOTPLockFor is how long a number of wrong codes locks; 0 is not at all.
func TOTPLockFor(wrong int) time.Duration {
	if wrong == 0 || wrong%TOTPTries != 0 {
		return 0
	}
	d := TOTPLock
	for n := wrong/TOTPTries - 1; n > 0 && d < TOTPLockMax; n-- {
		d *= 2
	}
	return min(d, TOTPLockMax)
}

// TOTPStep is RFC 6238's T.
func TOTPStep(at time.Time) int64 { return at.Unix() / int64(TOTPPeriod/time.Second) }

// totpSeen is what the entries say of a person's codes.
type totpSeen struct {
	device   name.Key
	sealed   statement.Hash // SHA-256 of the sealed seed
	enrolled statement.Hash // of the totp.enrolled entry
	step     int64
	wrong    int
	refused  int64 // index of the last refusal for a wrong code
	usedAt   int64 // index of the last code that counted
	locked   statement.Hash
	until    time.Time
	used     map[name.RequestID]bool // requests that a code was used for
}

// codes finds the person's; nil is a fault, but in a part, where the enrolment may belong to another grant.
func (a *Audit) codes() *totpSeen {
	s := a.totp[a.e.Subject.Person]
	if s == nil && !a.cfg.Part {
		a.fault(FaultOrder, "no codes of %q were enrolled", a.e.Subject.Person)
	}
	return s
}

// inTime demands that a step is one that counted when the entry was written.
func (a *Audit) inTime(step int64) {
	if d := step - TOTPStep(a.e.Time.Time); d > TOTPSkew || d < -TOTPSkew {
		a.fault(FaultTOTP, "step %d counted at step %d", step, TOTPStep(a.e.Time.Time))
	}
}

func (a *Audit) totpEnrolled(f *TOTPEnrolled) {
	var st statement.TOTP
	key, t := a.human(&st, nil, true)
	if key == nil {
		return
	}
	a.sameTouch(key, t, f.Touch)
	sealed := statement.Hash(sha256.Sum256(f.Sealed))
	if st.Act != statement.TOTPEnrol || st.Device != f.Device || st.Seed != sealed {
		a.fault(FaultStatement, "another seed or device was signed for")
		return
	}
	a.inTime(f.Step)
	if a.totp == nil {
		a.totp = map[name.Person]*totpSeen{}
	}
	if old := a.totp[key.Person]; old != nil {
		if old.sealed == sealed {
			a.fault(FaultReplay, "the seed is enrolled already")
		}
		a.behindCode(old)
	}
	a.totp[key.Person] = &totpSeen{device: f.Device, sealed: sealed, enrolled: EntryHash(a.raw), step: f.Step, used: map[name.RequestID]bool{}}
}

// behindCode demands that a code of the device that goes was used for it: else a stolen key could put another in its place.
func (a *Audit) behindCode(old *totpSeen) {
	if old.usedAt != a.index-1 && !a.cfg.Part {
		a.fault(FaultTOTP, "%s goes without a code of it", old.device)
	}
}

func (a *Audit) totpRemoved(f *TOTPRemoved) {
	s := a.codes()
	switch f.How {
	case "person":
		var st statement.TOTP
		if key, _ := a.human(&st, nil, true); key == nil {
			return
		}
		if st.Act != statement.TOTPRemove || st.Device != f.Device {
			a.fault(FaultStatement, "another removal was signed for")
			return
		}
		if s != nil {
			a.behindCode(s)
		}
	case "approvers":
		a.lifted(f.Approved, statement.AboutUnlock, "totp:"+string(a.e.Subject.Person), f.Lifts)
	default:
		a.fault(FaultTOTP, "removed by %q", f.How)
	}
	if s == nil {
		return
	}
	if f.Device != s.device || f.Lifts != s.enrolled {
		a.fault(FaultTOTP, "removes another device than %s", s.device)
	}
	delete(a.totp, a.e.Subject.Person)
}

func (a *Audit) totpUsed(f *TOTPUsed) {
	a.inTime(f.Step)
	s := a.codes()
	if s == nil {
		return
	}
	switch {
	case f.Device != s.device:
		a.fault(FaultTOTP, "a code of %s, enrolled is %s", f.Device, s.device)
	case f.Step <= s.step:
		a.fault(FaultReplay, "step %d again: %d was used", f.Step, s.step)
	case a.e.Time.Before(s.until):
		a.fault(FaultTOTP, "counted while the codes were locked until %s", s.until.Format(time.RFC3339))
	}
	s.step, s.wrong, s.until = max(s.step, f.Step), 0, time.Time{}
	s.used[a.e.Subject.Request], s.usedAt = true, a.index
}

func (a *Audit) totpRefused(f *TOTPRefused) {
	s := a.totp[a.e.Subject.Person]
	if s == nil {
		if f.Code != TOTPCodeNone && !a.cfg.Part {
			a.fault(FaultOrder, "no codes of %q were enrolled", a.e.Subject.Person)
		}
		return
	}
	want := s.wrong
	if f.Code == TOTPCodeWrong {
		want++
		s.refused = a.index
	}
	if f.Wrong != want && !a.cfg.Part {
		a.fault(FaultTOTP, "says %d wrong codes, the entries have %d", f.Wrong, want)
	}
	s.wrong = f.Wrong
}

// totpLocked: the lock stands right behind the refusal that it follows from, and is as long as the number of wrong codes says.
func (a *Audit) totpLocked(f *TOTPLocked) {
	s := a.codes()
	if s == nil {
		return
	}
	if !a.cfg.Part && (f.Wrong != s.wrong || s.refused != a.index-1 || !f.Until.Equal(a.e.Time.Add(TOTPLockFor(f.Wrong))) || TOTPLockFor(f.Wrong) == 0) {
		a.fault(FaultTOTP, "locked until %s after %d wrong codes", f.Until.Format(time.RFC3339), s.wrong)
	}
	s.until, s.locked = f.Until.Time, EntryHash(a.raw)
}

func (a *Audit) totpUnlocked(f *TOTPUnlocked) {
	a.lifted(f.Approved, statement.AboutUnlock, "totp:"+string(a.e.Subject.Person), f.Lifts)
	s := a.codes()
	if s == nil {
		return
	}
	if f.Lifts != s.locked {
		a.fault(FaultTOTP, "lifts another lock than the last")
	}
	s.wrong, s.until = 0, time.Time{}
}

// withCode holds a decision that stood on a code against the entry of that code.
func (a *Audit) withCode(u *Used, id name.RequestID) {
	s := a.totp[a.e.Subject.Person]
	if u.TOTP != "" && (s == nil && !a.cfg.Part || s != nil && !s.used[id]) {
		a.fault(FaultTOTP, "stands on a code of %s that no entry has", id)
	}
}
