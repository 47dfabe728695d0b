package state

import (
	"context"
	"crypto/sha256"
	"errors"
	"strings"
	"sync"
	"testing"

	"breakglass/internal/policytext"
	"breakglass/internal/statement"
	"breakglass/ledger"
)

// TestNobodyRunsBetweenACommitAndWhatFollowsFromIt: jobs that arrived together with one that ends its transaction see what it left in memory.
func TestNobodyRunsBetweenACommitAndWhatFollowsFromIt(t *testing.T) {
	s, _ := openAt(t, t.TempDir())
	defer s.Close()
	ctx := context.Background()
	var told, known int64 // entries that the ledger had: as memory knows, as jobs see; both the writer's own
	var wg sync.WaitGroup
	for i := range 64 {
		wg.Go(func() {
			if err := s.Do(ctx, func(tx *Tx) error {
				if i%4 != 0 {
					if told != known {
						t.Errorf("a job runs while %d was told and %d is the case", told, known)
					}
					return appends(started("x"))(tx)
				}
				if i%8 == 4 { // it ends in nothing, and so does what it asked for
					tx.Then(func(*Tx) error { t.Error("what was rolled back is acted on"); return nil })
					return errors.New("no")
				}
				idx, _, err := tx.Append(started("y"))
				known = idx
				tx.Then(func(settled *Tx) error {
					if settled.Size() != idx+1 {
						t.Errorf("%d entries stand behind entry %d", settled.Size(), idx)
					}
					if err := appends(started("z"))(settled); err == nil {
						t.Error("it may append")
					}
					told = idx
					return nil
				})
				return err
			}); err != nil && i%8 != 4 {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if told == 0 && known == 0 {
		t.Error("nothing ran")
	}
}

// TestWhatFollowsFromACommitIsTriedAgain: while it fails, nobody writes; and it sees what stands, whatever the commit said of itself.
func TestWhatFollowsFromACommitIsTriedAgain(t *testing.T) {
	s, _ := openAt(t, t.TempDir())
	defer s.Close()
	ctx := context.Background()
	if err := s.Do(ctx, appends(started("x"))); err != nil {
		t.Fatal(err)
	}
	broken := errors.New("the disk can't be read, says the test")
	for _, persists := range []bool{false, true} {
		s.cfg.Commit = func(commit func() error) error {
			s.cfg.Commit = nil
			if persists {
				if err := commit(); err != nil {
					return err
				}
			}
			return errors.New("input/output error, says the test")
		}
		before, _ := s.Head()
		runs, saw := 0, int64(0)
		err := s.Do(ctx, func(tx *Tx) error {
			tx.Then(func(settled *Tx) error {
				if runs++; runs < 3 {
					return broken
				}
				saw = settled.Size()
				return nil
			})
			return appends(started("y"))(tx)
		})
		if !errors.Is(err, ErrUnknown) || runs != 0 {
			t.Errorf("%v, after %d runs", err, runs)
		}
		want := before.Size
		if persists {
			want++
		}
		for range 2 {
			if err := s.Do(ctx, appends(started("z"))); !errors.Is(err, broken) {
				t.Errorf("somebody writes before it was run: %v", err)
			}
		}
		if err := s.Do(ctx, appends(started("z"))); err != nil {
			t.Error(err)
		}
		if head, _ := s.Head(); saw != want || head.Size != want+1 {
			t.Errorf("persisted %v: it saw %d entries, then there are %d; there were %d", persists, saw, head.Size, want)
		}
	}
}

// TestAPolicyInPiecesIsReadWhole, and pieces are no more than stored once.
func TestAPolicyInPiecesIsReadWhole(t *testing.T) {
	s, _ := openAt(t, t.TempDir())
	defer s.Close()
	text := strings.Repeat("[hosts.x]\naddress = [\"10.0.0.1:22\"]\n", 5000)
	sum := statement.Hash(sha256.Sum256([]byte(text)))
	f := &ledger.PolicyAdopted{SHA256: sum, How: ledger.AdoptedByOwners}
	err := s.Do(context.Background(), func(tx *Tx) error {
		for _, p := range policytext.Cut(text) {
			h := statement.Hash(sha256.Sum256([]byte(p)))
			f.Pieces = append(f.Pieces, h)
			if _, err := tx.PolicyPiece(h); err == nil {
				continue
			} else if !errors.Is(err, ErrNotFound) {
				return err
			}
			if err := appends(&ledger.Entry{Actor: ledger.ActorCA, Facts: &ledger.PolicyText{SHA256: h, Text: p}})(tx); err != nil {
				return err
			}
		}
		return appends(&ledger.Entry{Actor: ledger.ActorCA, Facts: f})(tx)
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(f.Pieces) < 3 {
		t.Fatalf("%d pieces", len(f.Pieces))
	}
	if err := s.View(context.Background(), func(tx *Tx) error {
		got, err := tx.PolicyText(sum)
		if got != text {
			t.Errorf("read back %d of %d bytes", len(got), len(text))
		}
		if _, err := tx.PolicyText(statement.Hash{1}); !errors.Is(err, ErrNotFound) {
			t.Errorf("a policy that never was: %v", err)
		}
		return err
	}); err != nil {
		t.Error(err)
	}
}
