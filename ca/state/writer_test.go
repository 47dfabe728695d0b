package state

import (
	"bufio"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mattn/go-sqlite3"

	"breakglass/internal/statement"
	"breakglass/ledger"
)

const origin = "breakglass.test/state"

// ledgerKey is kept beside the database, so that a killed child and its parent sign alike.
func openAt(t testing.TB, dir string) (*State, string) {
	t.Helper()
	path := filepath.Join(dir, "key")
	b, err := os.ReadFile(path)
	if err != nil {
		skey, vkey, err := ledger.GenerateKey(origin)
		if err != nil {
			t.Fatal(err)
		}
		b = []byte(skey + "\n" + vkey)
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	skey, vkey, _ := strings.Cut(string(b), "\n")
	signer, err := ledger.NewSigner(skey)
	if err != nil {
		t.Fatal(err)
	}
	s, err := Open(Config{Dir: dir, Origin: origin, Signer: signer})
	if err != nil {
		t.Fatal(err)
	}
	return s, vkey
}

func started(v string) *ledger.Entry {
	return &ledger.Entry{Time: ledger.At(time.Now()), Actor: ledger.ActorCA, Facts: &ledger.CAStarted{Version: v}}
}

func invite(who string) (*ledger.Entry, statement.Hash) {
	h := statement.Hash(sha256.Sum256([]byte(who)))
	return &ledger.Entry{Time: ledger.At(time.Now()), Actor: ledger.ActorRoot,
		Facts: &ledger.InviteCreated{Invite: h, For: "jump", Name: who, Expires: ledger.At(time.Now().Add(time.Hour))}}, h
}

func join(who string, h statement.Hash) *ledger.Entry {
	return &ledger.Entry{Time: ledger.At(time.Now()), Actor: ledger.ActorCA, Facts: &ledger.JumpJoined{Jump: ledger.SiteJump{Name: "jump-a", Key: who}, Invite: h}}
}

func appends(e ...*ledger.Entry) func(*Tx) error {
	return func(tx *Tx) error {
		for _, e := range e {
			if _, _, err := tx.Append(e); err != nil {
				return err
			}
		}
		return nil
	}
}

func TestWriter(t *testing.T) {
	ctx := context.Background()
	boom := errors.New("boom")
	for _, c := range []struct {
		what string
		do   func(*testing.T, *State) error
		want error // nil and left describe what stands afterwards
		left int64
	}{
		{"what a function appended stands when Do returned", func(t *testing.T, s *State) error {
			return s.Do(ctx, appends(started("1"), started("2")))
		}, nil, 2},
		{"of a function that fails nothing stands", func(t *testing.T, s *State) error {
			return s.Do(ctx, func(tx *Tx) error {
				if err := appends(started("1"))(tx); err != nil {
					return err
				}
				return boom
			})
		}, boom, 0},
		{"a failure takes nothing of the others in its commit with it", func(t *testing.T, s *State) error {
			jobs := []*job{}
			for _, fn := range []func(*Tx) error{appends(started("1")), func(tx *Tx) error { appends(started("2"))(tx); return boom }, appends(started("3"))} {
				jobs = append(jobs, &job{fn: fn, done: make(chan struct{})})
			}
			hold := make(chan struct{})
			go s.Do(ctx, func(*Tx) error { <-hold; return nil }) // the writer is busy, so the three share the next commit
			for _, j := range jobs {
				s.work <- j
			}
			close(hold)
			for _, j := range jobs {
				<-j.done
			}
			return errors.Join(jobs[0].err, jobs[2].err, jobs[1].err)
		}, boom, 2},
		{"a panic is the caller's error and the writer lives", func(t *testing.T, s *State) error {
			if err := s.Do(ctx, func(*Tx) error { panic("no") }); err == nil {
				t.Error("a panic is no error")
			}
			return s.Do(ctx, appends(started("1")))
		}, nil, 1},
		{"an invite is spent once", func(t *testing.T, s *State) error {
			e, h := invite("a")
			return errors.Join(s.Do(ctx, appends(e)), s.Do(ctx, appends(join("a", h))), s.Do(ctx, appends(join("b", h))))
		}, ErrInviteSpent, 2},
		{"a caller that gave up before its turn wrote nothing", func(t *testing.T, s *State) error {
			gone, cancel := context.WithCancel(ctx)
			cancel()
			for range 50 { // the queue has room, so either branch of Do's select may win: what counts is that answer and effect agree
				if err := s.Do(gone, appends(started("1"))); err == nil {
					return s.Do(ctx, func(tx *Tx) error {
						if tx.Size() != 1 {
							return fmt.Errorf("acknowledged, but %d entries", tx.Size())
						}
						return boom
					})
				}
			}
			return s.Do(ctx, appends(started("1")))
		}, nil, 1},
	} {
		t.Run(c.what, func(t *testing.T) {
			s, _ := openAt(t, t.TempDir())
			defer s.Close()
			if err := c.do(t, s); !errors.Is(err, c.want) && !(c.want == nil && errors.Is(err, boom)) {
				t.Fatalf("got %v, want %v", err, c.want)
			}
			if err := s.View(ctx, func(tx *Tx) error {
				if tx.Size() != c.left {
					return fmt.Errorf("%d entries, want %d", tx.Size(), c.left)
				}
				return nil
			}); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestClosedStateSaysSo(t *testing.T) {
	s, _ := openAt(t, t.TempDir())
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := s.Do(context.Background(), appends(started("1"))); !errors.Is(err, ErrClosed) {
		t.Errorf("Do after Close: %v", err)
	}
}

func TestDirectoryHasOneOwner(t *testing.T) {
	dir := t.TempDir()
	s, _ := openAt(t, dir)
	defer s.Close()
	if _, err := Open(s.cfg); !errors.Is(err, ErrInUse) {
		t.Errorf("a second Open: %v", err)
	}
}

func TestDatabaseOfANewerVersionIsRefused(t *testing.T) {
	dir := t.TempDir()
	s, _ := openAt(t, dir)
	if _, err := s.write.Exec(fmt.Sprintf(`PRAGMA user_version = %d`, len(migrations)+1)); err != nil {
		t.Fatal(err)
	}
	cfg := s.cfg
	s.Close()
	if _, err := Open(cfg); !errors.Is(err, ErrNewer) {
		t.Errorf("got %v", err)
	}
}

// TestManyWriters: one of many wins an invite; every checkpoint that anybody reads meanwhile is one that the ledger passed through.
func TestManyWriters(t *testing.T) {
	ctx := context.Background()
	s, vkey := openAt(t, t.TempDir())
	defer s.Close()
	e, h := invite("a")
	if err := s.Do(ctx, appends(e)); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	var won atomic.Int64
	stop := make(chan struct{})
	var mu sync.Mutex
	notes := map[string]ledger.Checkpoint{}
	reading := make(chan struct{})
	go func() {
		defer close(reading)
		for {
			select {
			case <-stop:
				return
			default:
			}
			c, n := s.Head()
			mu.Lock()
			notes[n] = c
			mu.Unlock()
			time.Sleep(50 * time.Microsecond)
		}
	}()
	for i := range 64 {
		wg.Go(func() {
			if err := s.Do(ctx, appends(join(strconv.Itoa(i), h))); err == nil {
				won.Add(1)
			} else if !errors.Is(err, ErrInviteSpent) {
				t.Error(err)
			}
			if err := s.Do(ctx, appends(started(strconv.Itoa(i)))); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	close(stop)
	<-reading
	if won.Load() != 1 {
		t.Errorf("%d spent one invite", won.Load())
	}
	whole := &ledger.Memory{}
	if err := s.View(ctx, func(tx *Tx) error {
		return tx.Entries(0, func(_ int64, b []byte) error { return whole.Append(b) })
	}); err != nil {
		t.Fatal(err)
	}
	if whole.Size() != 66 {
		t.Errorf("%d entries", whole.Size())
	}
	for n, c := range notes {
		got, err := ledger.OpenCheckpoint(n, vkey)
		if err != nil || got != c {
			t.Fatalf("note and head differ: %v, %v: %v", got, c, err)
		}
		if want, err := whole.Checkpoint(c.Size); err != nil || want != c.Pin() {
			t.Fatalf("head %v is none that the ledger passed through: %v %v", c, want, err)
		}
	}
}

const childDir = "BREAKGLASS_STATE_TEST_DIR"

// TestKilled kills a process in the middle of its commits: what it said was durable is there, under a ledger that proves it.
func TestKilled(t *testing.T) {
	if dir := os.Getenv(childDir); dir != "" {
		s, _ := openAt(t, dir)
		for i := 0; ; i++ {
			var idx int64
			if err := s.Do(context.Background(), func(tx *Tx) (err error) {
				idx, _, err = tx.Append(started(strconv.Itoa(i)))
				return err
			}); err != nil {
				t.Fatal(err)
			}
			fmt.Printf("durable %d %d\n", idx, i)
		}
	}
	rounds := 3
	if n, err := strconv.Atoi(os.Getenv("N")); err == nil && n > 0 {
		rounds = n
	}
	var dir string
	var want map[int64]string
	for round := range rounds {
		if round%50 == 0 { // each round reads all of it
			dir, want = t.TempDir(), map[int64]string{}
		}
		cmd := exec.Command(os.Args[0], "-test.run=^TestKilled$", "-test.count=1")
		cmd.Env = append(os.Environ(), childDir+"="+dir)
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(out)
		for n := 0; lines.Scan(); n++ {
			var idx int64
			var v string
			if _, err := fmt.Sscanf(lines.Text(), "durable %d %s", &idx, &v); err != nil {
				continue
			}
			want[idx] = v
			if n == 50 {
				cmd.Process.Kill() // and goes on reading what the child had said before
			}
		}
		cmd.Wait()
		s, vkey := openAt(t, dir)
		head, note := s.Head()
		if got, err := ledger.OpenCheckpoint(note, vkey); err != nil || got != head {
			t.Fatalf("checkpoint after the kill: %v", err)
		}
		if err := s.View(context.Background(), func(tx *Tx) error {
			for idx, v := range want {
				b, err := tx.Entry(idx)
				if err != nil {
					return fmt.Errorf("entry %d was acknowledged: %w", idx, err)
				}
				e, err := ledger.Decode(b)
				if err != nil {
					return err
				}
				if got := e.Facts.(*ledger.CAStarted).Version; got != v {
					return fmt.Errorf("entry %d is %s, acknowledged was %s", idx, got, v)
				}
				p, err := tx.Inclusion(head.Size, idx)
				if err != nil {
					return err
				}
				if err := ledger.CheckInclusion(b, idx, p, head); err != nil {
					return err
				}
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		s.Close()
	}
	if len(want) < 50*rounds {
		t.Errorf("only %d entries were acknowledged", len(want))
	}
}

func TestFullDiskRefusesAndRecovers(t *testing.T) {
	ctx := context.Background()
	s, vkey := openAt(t, t.TempDir())
	defer s.Close()
	var pages int
	if err := s.write.QueryRow(`PRAGMA page_count`).Scan(&pages); err != nil {
		t.Fatal(err)
	}
	if _, err := s.write.Exec(fmt.Sprintf(`PRAGMA max_page_count = %d`, pages+4)); err != nil {
		t.Fatal(err)
	}
	var err error
	var stood int64
	for ; err == nil && stood < 1000; stood++ {
		err = s.Do(ctx, appends(started(strings.Repeat("x", 2000))))
	}
	stood--
	if !errors.Is(err, ErrFull) {
		t.Fatalf("after %d entries: %v", stood, err)
	}
	if head, _ := s.Head(); head.Size != stood {
		t.Errorf("head of %d entries, acknowledged were %d", head.Size, stood)
	}
	if _, err := s.write.Exec(`PRAGMA max_page_count = 1000000`); err != nil {
		t.Fatal(err)
	}
	if err := s.Do(ctx, appends(started("room again"))); err != nil {
		t.Fatal(err)
	}
	head, note := s.Head()
	if got, err := ledger.OpenCheckpoint(note, vkey); err != nil || got != head || head.Size != stood+1 {
		t.Errorf("head %v, note %v: %v", head, got, err)
	}
}

// TestFailedDiskEndsTheWriter: after a failed sync nothing that this process reads can be trusted to be on the disk.
func TestFailedDiskEndsTheWriter(t *testing.T) {
	ctx := context.Background()
	dir := t.TempDir()
	s, _ := openAt(t, dir)
	if err := s.Do(ctx, appends(started("1"))); err != nil {
		t.Fatal(err)
	}
	s.Close()
	cfg := s.cfg
	cfg.Commit = func(func() error) error {
		return sqlite3.Error{Code: sqlite3.ErrIoErr, ExtendedCode: sqlite3.ErrIoErrFsync}
	}
	s, err := Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Do(ctx, appends(started("2"))); !errors.Is(err, ErrFailed) {
		t.Errorf("a commit whose sync failed: %v", err)
	}
	select {
	case <-s.Done():
	case <-time.After(10 * time.Second):
		t.Fatal("the writer goes on")
	}
	if err := s.Err(); !errors.Is(err, ErrFailed) {
		t.Errorf("why it ended: %v", err)
	}
	if err := s.Do(ctx, appends(started("3"))); !errors.Is(err, ErrFailed) {
		t.Errorf("the next caller reads %v", err)
	}
	s.Close()
	s, _ = openAt(t, dir)
	defer s.Close()
	if head, _ := s.Head(); head.Size != 1 {
		t.Errorf("%d entries stand, want 1", head.Size)
	}
}

// TestFoldedLogStaysShort: the log is folded into the database beside the commits, and begun anew.
func TestFoldedLogStaysShort(t *testing.T) {
	ctx := context.Background()
	dir := t.TempDir()
	s, _ := openAt(t, dir)
	defer s.Close()
	text := strings.Repeat("x", 2000)
	for end := time.Now().Add(500 * time.Millisecond); time.Now().Before(end); {
		if err := s.Do(ctx, appends(started(text))); err != nil {
			t.Fatal(err)
		}
	}
	time.Sleep(3 * foldEvery)
	var busy, pages, folded int
	if err := s.wal.db.QueryRow(`PRAGMA wal_checkpoint(PASSIVE)`).Scan(&busy, &pages, &folded); err != nil {
		t.Fatal(err)
	}
	if pages != folded {
		t.Errorf("%d of %d pages are folded though nobody writes", folded, pages)
	}
	if st, err := os.Stat(filepath.Join(dir, "ca.db-wal")); err != nil || st.Size() > 2*maxLog*4096 {
		t.Errorf("the log: %v, %v", st, err)
	}
}
