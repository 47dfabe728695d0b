package state

import (
	"context"
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"breakglass/internal/name"
	"breakglass/ledger"
)

var ctx = context.Background()

// rosterOf reads the roster from the tables, whatever is remembered.
func rosterOf(t *testing.T, s *State) *Roster {
	t.Helper()
	r := &Roster{Keys: map[string]Key{}, ByPerson: map[name.Person][]Key{}}
	if err := s.View(ctx, r.read); err != nil {
		t.Fatal(err)
	}
	return r
}

func sameRoster(t *testing.T, want *Roster, s *State) {
	t.Helper()
	got, err := s.Roster(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(want, got, cmpopts.IgnoreUnexported(Roster{}), cmpopts.EquateEmpty()); d != "" {
		t.Errorf("the roster is not what the tables say:\n%s", d)
	}
}

// TestTheRosterIsWhatTheTablesSay after every type of entry, asked from outside and within the writer.
func TestTheRosterIsWhatTheTablesSay(t *testing.T) {
	l := lived(t)
	s, _ := openAt(t, t.TempDir())
	defer s.Close()
	moved, read := 0, int64(0)
	for i, raw := range l.Entries {
		e, err := ledger.Decode(raw)
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Do(ctx, func(tx *Tx) error {
			if _, _, err := tx.Append(e); err != nil {
				return err
			}
			for p := range rosterPeople(s) {
				all, err := tx.Keys(p)
				if err != nil {
					return err
				}
				for i := range all {
					all[i] = still(all[i])
				}
				if got, err := tx.Enrolled(p); err != nil || !cmp.Equal(all, got, cmpopts.EquateEmpty()) {
					t.Errorf("entry %d, within: %v, %v", i, got, err)
				}
			}
			return nil
		}); err != nil {
			t.Fatalf("entry %d: %v", i, err)
		}
		sameRoster(t, rosterOf(t, s), s)
		if now := s.rosters.Load(); now != read {
			moved, read = moved+1, now
		}
	}
	if moved == 0 || moved == len(l.Entries) {
		t.Errorf("%d of %d entries changed it: it is of no use, or was not tried", moved, len(l.Entries))
	}
	// Nobody's copy of the site is another's.
	if err := s.Do(ctx, func(tx *Tx) error {
		a, err := tx.Site()
		a.Site.Jumps = append(a.Site.Jumps[:0], ledger.SiteJump{Name: "other"})
		return err
	}); err != nil {
		t.Fatal(err)
	}
	sameRoster(t, rosterOf(t, s), s)
	if err := s.Rebuild(); err != nil {
		t.Fatal(err)
	}
	sameRoster(t, rosterOf(t, s), s)
}

func rosterPeople(s *State) map[name.Person][]Key {
	if r := s.roster.Load(); r != nil {
		return r.ByPerson
	}
	return nil
}

// TestAnUnknownCommitUnsettlesTheRoster: one that failed may have persisted, and one that a job gave up has changed nothing.
func TestAnUnknownCommitUnsettlesTheRoster(t *testing.T) {
	l := lived(t)
	s, _ := openAt(t, t.TempDir())
	defer s.Close()
	play := func(raw []byte) error {
		e, err := ledger.Decode(raw)
		if err != nil {
			t.Fatal(err)
		}
		return s.Do(ctx, appends(e))
	}
	gone := errors.New("gone")
	s.cfg.Commit = func(commit func() error) error { return errors.Join(commit(), gone) }
	for i, raw := range l.Entries[:8] {
		if err := play(raw); !errors.Is(err, ErrUnknown) {
			t.Fatalf("entry %d: %v", i, err)
		}
		sameRoster(t, rosterOf(t, s), s)
	}
	s.cfg.Commit = func(func() error) error { return gone }
	before := rosterOf(t, s)
	if err := play(l.Entries[8]); !errors.Is(err, ErrUnknown) {
		t.Fatal(err)
	}
	sameRoster(t, before, s)
	s.cfg.Commit = nil
	e, err := ledger.Decode(l.Entries[8])
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Do(ctx, func(tx *Tx) error {
		if _, _, err := tx.Append(e); err != nil {
			return err
		}
		return gone
	}); !errors.Is(err, gone) {
		t.Fatal(err)
	}
	sameRoster(t, before, s)
}
