package state

import (
	"cmp"
	"context"
	"math"
	"slices"
	"time"

	"breakglass/internal/name"
	"breakglass/ledger"
)

// Roster is the site, everybody's keys and what speaks against a person or the clock, as of a commit, in memory: every act wants them, and
// they change a few times a week. Outside of the writer it is for what is decided anew there, before anything follows from it.
//
// What changes with every act is not in it: each key's Counter is the highest there is, so that whoever judged one by mistake would refuse,
// and Issued is the zero time.
type Roster struct {
	Site Site
	// Keys by fingerprint. Nobody changes anything in here.
	Keys map[string]Key
	// ByPerson lists a person's keys as Tx.Keys does.
	ByPerson map[name.Person][]Key
	// CredentialLength is the commonest length of the keys' credential ids, in bytes; 0 if no key is enrolled. Made-up keys get that length,
	// for vendors' differ.
	CredentialLength int
	// Locked says until when people are, or were, locked out.
	Locked map[name.Person]time.Time

	clock Clock // but for the last entry's time
	of    int64
}

// rosterStands says that an entry leaves the roster as it is, whatever it holds. Those that are not named are taken to change it.
func rosterStands(f ledger.Facts) bool {
	switch f.(type) {
	case *ledger.RequestOpened, *ledger.RequestDenied, *ledger.ActDenied, *ledger.ApprovalGiven, *ledger.RequestOverridden, *ledger.GrantAllowed, *ledger.GrantExtended,
		*ledger.CertificateIssued, *ledger.PassGranted, *ledger.SessionOpened, *ledger.SessionRefused, *ledger.SessionEnded, *ledger.SessionCrashed, *ledger.SessionBlind, *ledger.SessionSighted, *ledger.SessionHead,
		*ledger.HostKeyMismatch, *ledger.TranscriptStored, *ledger.TranscriptRead, *ledger.SessionWatched, *ledger.SessionUnwatched, *ledger.StrangersSummed, *ledger.JumpGap, *ledger.TOTPUsed, *ledger.TOTPRefused,
		*ledger.RecipientsChanged:
		return true
	}
	return false
}

// Roster gives the roster of a commit that is not older than this call: what Do has returned for is in it.
func (s *State) Roster(ctx context.Context) (*Roster, error) {
	of := s.rosters.Load()
	if r := s.roster.Load(); r != nil && r.of == of {
		return r, nil
	}
	// What is read here may be newer than of says; then it is read once more by the next who asks. Older it is not: the number rises after
	// the commit.
	r := &Roster{of: of, Keys: map[string]Key{}, ByPerson: map[name.Person][]Key{}}
	if err := s.View(ctx, r.read); err != nil {
		return nil, err
	}
	s.roster.Store(r)
	return r, nil
}

func (r *Roster) read(t *Tx) error {
	var err error
	if r.Site, err = t.Site(); err != nil {
		return err
	}
	all, err := t.AllKeys()
	if err != nil {
		return err
	}
	lengths := map[int]int{}
	for _, k := range all {
		k = still(k)
		r.Keys[k.Fingerprint] = k
		r.ByPerson[k.Person] = append(r.ByPerson[k.Person], k)
		n := len(k.Credential)
		lengths[n]++
		if better := cmp.Compare(lengths[n], lengths[r.CredentialLength]); better > 0 || better == 0 && n < r.CredentialLength {
			r.CredentialLength = n
		}
	}
	if r.clock, err = t.clockRow(); err != nil {
		return err
	}
	r.Locked, err = t.lockouts()
	return err
}

// rosterNow is the roster as this transaction of the writer sees it, or nil: read it from the tables then.
func (t *Tx) rosterNow() *Roster {
	if t.readOnly || t.unrostered { // a View may be of another moment
		return nil
	}
	if r := t.s.roster.Load(); r != nil && r.of == t.s.rosters.Load() { // only the writer raises it, and we are within it
		return r
	}
	return nil
}

// still is a key without what its acts change.
func still(k Key) Key {
	k.Counter, k.Issued = math.MaxUint32, time.Time{}
	return k
}

// Enrolled lists a person's keys as Keys does, but for what their acts change: Roster says what stands in its place.
func (t *Tx) Enrolled(p name.Person) ([]Key, error) {
	if r := t.rosterNow(); r != nil {
		return slices.Clip(r.ByPerson[p]), nil
	}
	keys, err := t.Keys(p)
	for i := range keys {
		keys[i] = still(keys[i])
	}
	return keys, err
}
