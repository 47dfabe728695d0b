package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"filippo.io/age"
	"github.com/creack/pty"

	"breakglass/ca/state"
	"breakglass/jump/journal"
	"breakglass/ledger"
	"breakglass/transcript"
)

// What recording costs by itself: from the arrival of an event to the moment in which it may be passed on, on this machine's disk; what a byte that somebody saw takes in the
// store; what the ledger takes and how fast both are verified. There is no peer for these: they are goals in themselves.

const (
	// eventSize and eventEvery are a session that is busy: 20 events a second of about 120 bytes.
	eventSize  = 120
	eventEvery = 50 * time.Millisecond
	// bulkRecord is what the jump reads at once in bulk.
	bulkRecord = 256 << 10
	// gatherFor is how long the shipper keeps a little back, to be folded with what follows.
	gatherFor = 400 * time.Millisecond
)

// disk is where the figures of the disk are measured: beside the results, which is no memory file system.
func (b *bench) disk() (string, func(), error) {
	dir, err := os.MkdirTemp(filepath.Dir(b.cfg.out), "disk-")
	return dir, func() { os.RemoveAll(dir) }, err
}

func (b *bench) store(ctx context.Context) error {
	dir, done, err := b.disk()
	if err != nil {
		return err
	}
	defer done()
	for _, n := range []int{1, 64, 1000} {
		p50, p99, err := recordLag(ctx, filepath.Join(dir, fmt.Sprint(n)), n, b.cfg.span)
		if err != nil {
			return err
		}
		b.figure(fmt.Sprintf("record_lag_p50_ms_%d", n), p50, "ms")
		b.figure(fmt.Sprintf("record_lag_p99_ms_%d", n), p99, "ms")
	}
	for _, n := range []int{1, 8} {
		mb, err := bulk(filepath.Join(dir, fmt.Sprintf("bulk%d", n)), n, b.cfg.span)
		if err != nil {
			return err
		}
		name := "bulk_mb_per_s"
		if n > 1 {
			name = fmt.Sprintf("bulk%d_mb_per_s", n)
		}
		b.figure(name, mb, "MB/s")
	}
	if err := b.restart(filepath.Join(dir, "restart")); err != nil {
		return err
	}
	if err := b.entries(ctx, filepath.Join(dir, "state")); err != nil {
		return err
	}
	if err := b.chain(); err != nil {
		return err
	}
	return b.folded(ctx)
}

func newStream() (*transcript.Writer, error) {
	k := transcript.NewKey()
	id, err := age.GenerateX25519Identity()
	if err != nil {
		return nil, err
	}
	env, err := transcript.Envelope([]age.Recipient{id.Recipient()}, k)
	if err != nil {
		return nil, err
	}
	return transcript.NewWriter(transcript.Header{Session: "k7f-2mq/1", Jump: "jump-a", Origin: "bench", Person: "alice", Login: "root", Host: "web01", Door: transcript.DoorHop,
		T0: 1, Bind: transcript.SHA256([]byte("x")), Env: transcript.SHA256(env)}, k)
}

// recordLag is arrival → durable of sessions with 20 events a second each, in milliseconds.
func recordLag(ctx context.Context, dir string, sessions int, span time.Duration) (p50, p99 float64, err error) {
	j, _, err := journal.Open(journal.Config{Dir: dir, SegmentSize: 64 << 20, Segments: 4})
	if err != nil {
		return 0, 0, err
	}
	defer j.Close()
	var mu sync.Mutex
	var lags []time.Duration
	var failed error
	var wg sync.WaitGroup
	begin := time.Now().Add(500 * time.Millisecond)
	for s := range sessions {
		w, err := newStream()
		if err != nil {
			return 0, 0, err
		}
		if _, err := w.Folder(); err != nil { // as in the jump
			return 0, 0, err
		}
		wg.Go(func() {
			var mine []time.Duration
			data := make([]byte, eventSize)
			sid := journal.SID(w.Header().SID)
			next := begin.Add(eventEvery * time.Duration(s) / time.Duration(sessions)) // not all at once
			for time.Since(begin) < span && ctx.Err() == nil {
				time.Sleep(time.Until(next))
				at := time.Now()
				done := make(chan error, 1)
				err := w.SealTo([]transcript.Event{{T: at.Sub(begin) + time.Second, Kind: transcript.KindOutput, Chan: 1, Data: data}}, func(f []byte) error {
					return j.AppendAsync(journal.Entry{Stream: sid, Kind: 1, Data: f}, func(err error) { done <- err })
				})
				if err == nil {
					err = <-done
				}
				if err != nil {
					mu.Lock()
					failed = err
					mu.Unlock()
					return
				}
				mine = append(mine, time.Since(at))
				next = next.Add(eventEvery)
			}
			mu.Lock()
			lags = append(lags, mine...)
			mu.Unlock()
		})
	}
	wg.Wait()
	if failed != nil || len(lags) == 0 {
		return 0, 0, errors.Join(failed, ctx.Err())
	}
	slices.Sort(lags)
	return ms(lags[len(lags)/2]), ms(lags[len(lags)*99/100]), nil
}

func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// bulk is what sessions get through sealing and journal together, with one record being sealed while another commits.
func bulk(dir string, sessions int, span time.Duration) (float64, error) {
	j, _, err := journal.Open(journal.Config{Dir: dir, SegmentSize: 64 << 20, Segments: 4})
	if err != nil {
		return 0, err
	}
	defer j.Close()
	var mu sync.Mutex
	var all int64
	var failed error
	var wg sync.WaitGroup
	began := time.Now()
	for range sessions {
		w, err := newStream()
		if err != nil {
			return 0, err
		}
		if _, err := w.Folder(); err != nil {
			return 0, err
		}
		wg.Go(func() {
			data := make([]byte, bulkRecord)
			sid := journal.SID(w.Header().SID)
			flight := make(chan struct{}, 2)
			var n, bytes int64
			for time.Since(began) < span {
				flight <- struct{}{}
				err := w.SealTo([]transcript.Event{{T: time.Since(began), Kind: transcript.KindOutput, Chan: 1, Data: data}}, func(f []byte) error {
					return j.AppendAsync(journal.Entry{Stream: sid, Kind: 1, Data: f}, func(err error) {
						transcript.Release(f)
						<-flight
					})
				})
				if err == nil && n%32 == 31 {
					err = j.Trim(sid, uint64(max(0, n-4))) // the store has it
				}
				if err != nil {
					mu.Lock()
					failed = err
					mu.Unlock()
					return
				}
				n++
				bytes += bulkRecord
			}
			mu.Lock()
			all += bytes
			mu.Unlock()
		})
	}
	wg.Wait()
	return float64(all) / 1e6 / time.Since(began).Seconds(), failed
}

// restart is how long it takes to open a journal that is full: 128 MiB, the default, of small records.
func (b *bench) restart(dir string) error {
	c := journal.Config{Dir: dir, SegmentSize: journal.DefaultSegmentSize, Segments: journal.DefaultSegments, Reserve: 1}
	j, _, err := journal.Open(c)
	if err != nil {
		return err
	}
	for i := 0; ; i++ {
		if err := j.AppendAsync(journal.Entry{Stream: journal.SID{byte(i % 50)}, Kind: 1, Data: make([]byte, 200)}, func(error) {}); err != nil {
			break
		}
	}
	if err := j.Close(); err != nil {
		return err
	}
	var took []float64
	for range max(3, b.cfg.rounds) {
		t := time.Now()
		j, rec, err := journal.Open(c)
		if err != nil {
			return err
		}
		took = append(took, time.Since(t).Seconds())
		if len(rec.Damage) > 0 || rec.Entries < 100_000 {
			return fmt.Errorf("a full journal came back with %d entries, %v", rec.Entries, rec.Damage)
		}
		j.Close()
	}
	b.figure("restart_full_journal_s", median(took), "s")
	return nil
}

// entries is the ledger on SQLite: one writer's entry, durable and under a signed checkpoint, and many at once.
func (b *bench) entries(ctx context.Context, dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	skey, _, err := ledger.GenerateKey("bench")
	if err != nil {
		return err
	}
	signer, err := ledger.NewSigner(skey)
	if err != nil {
		return err
	}
	s, err := state.Open(state.Config{Dir: dir, Origin: "bench", Signer: signer, Now: time.Now})
	if err != nil {
		return err
	}
	defer s.Close()
	one := func() error {
		return s.Do(ctx, func(tx *state.Tx) error {
			_, _, err := tx.Append(&ledger.Entry{Time: ledger.At(time.Now()), Actor: ledger.ActorCA, Facts: &ledger.CAStarted{Version: "bench", Keys: nil}})
			return err
		})
	}
	var lags []time.Duration
	for began := time.Now(); time.Since(began) < b.cfg.span; {
		t := time.Now()
		if err := one(); err != nil {
			return err
		}
		lags = append(lags, time.Since(t))
	}
	slices.Sort(lags)
	b.figure("entry_p50_ms", ms(lags[len(lags)/2]), "ms")
	before, _ := s.Head()
	var wg sync.WaitGroup
	var mu sync.Mutex
	var failed error
	began := time.Now()
	for range 512 {
		wg.Go(func() {
			for time.Since(began) < b.cfg.span {
				if err := one(); err != nil {
					mu.Lock()
					failed = err
					mu.Unlock()
					return
				}
			}
		})
	}
	wg.Wait()
	took := time.Since(began).Seconds()
	after, _ := s.Head()
	b.figure("entries_per_s_batched", float64(after.Size-before.Size)/took, "1/s")
	return failed
}

// chain is how fast a stream is held against its head without a key.
func (b *bench) chain() error {
	w, err := newStream()
	if err != nil {
		return err
	}
	stream := bytes.Clone(w.HeaderFrame())
	data := make([]byte, bulkRecord)
	for i := range 1024 {
		f, err := w.Seal([]transcript.Event{{T: time.Duration(i) * time.Millisecond, Kind: transcript.KindOutput, Chan: 1, Data: data}})
		if err != nil {
			return err
		}
		stream = append(stream, f...)
	}
	final := w.Head()
	var rates []float64
	for range max(3, b.cfg.rounds) {
		t := time.Now()
		if _, err := transcript.Verify(bytes.NewReader(stream), transcript.VerifyOptions{Final: &final}); err != nil {
			return err
		}
		rates = append(rates, float64(len(stream))/1e9/time.Since(t).Seconds())
	}
	b.figure("chain_verify_gb_per_s", median(rates), "GB/s")
	return nil
}

// session is a terminal's output as it came: real programs on a real terminal.
type session struct {
	name   string
	events []transcript.Event
	bytes  int64
}

// recordTerminal runs a command on a terminal and notes what it says, when.
func recordTerminal(ctx context.Context, name, script string, keys []string) (*session, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "bash", "-c", script)
	cmd.Env = append(os.Environ(), "TERM=xterm", "PS1=$ ", "LESSHISTFILE=-")
	f, err := pty.StartWithSize(cmd, &pty.Winsize{Rows: 40, Cols: 120})
	if err != nil {
		return nil, err
	}
	defer f.Close()
	s := &session{name: name}
	began := time.Now()
	go func() {
		for _, k := range keys {
			time.Sleep(150 * time.Millisecond)
			f.WriteString(k)
		}
	}()
	for {
		p := make([]byte, 32<<10)
		n, err := f.Read(p)
		if n > 0 {
			s.events = append(s.events, transcript.Event{T: time.Since(began), Kind: transcript.KindOutput, Chan: 1, Data: p[:n]})
			s.bytes += int64(n)
		}
		if err != nil {
			break
		}
	}
	cmd.Wait()
	if s.bytes == 0 {
		return nil, fmt.Errorf("%s said nothing", name)
	}
	return s, nil
}

// folded is how many bytes the store holds a byte that a terminal was shown.
func (b *bench) folded(ctx context.Context) error {
	where, err := exec.CommandContext(ctx, "go", "env", "GOROOT").Output()
	if err != nil {
		return fmt.Errorf("looking for code to list: %w", err)
	}
	root := strings.TrimSpace(string(where))
	down := slices.Repeat([]string{" "}, 25)
	var typed []string
	r := rand.New(rand.NewPCG(1, 2))
	for _, line := range []string{"ls -l /etc\r", "cat /etc/passwd | head -40\r", "ps aux | head -30\r", "df -h\r", "journal() { date; }; journal\r", "grep -rn root /etc/passwd /etc/group\r", "uname -a; id\r"} {
		for _, c := range line {
			typed = append(typed, string(c))
		}
		if r.IntN(2) == 0 {
			typed = append(typed, "\r")
		}
	}
	typed = append(typed, "exit\r")
	var terminal, stored int64
	for _, c := range []struct {
		name, script string
		keys         []string
	}{
		{"shell", "bash --norc -i", typed},
		{"less", "less /etc/services", append(down, "q")},
		{"top", "top -d 0.3 -n 25", nil},
		{"ls", "ls -lR " + root + "/src | head -c 4000000", nil},
		{"code", "cat " + root + "/src/net/http/*.go | head -c 4000000", nil},
	} {
		s, err := recordTerminal(ctx, c.name, c.script, c.keys)
		if err != nil {
			return err
		}
		n, err := storedSize(s)
		if err != nil {
			return err
		}
		fmt.Printf("  %-6s %8d bytes shown, %8d stored: %.2f\n", c.name, s.bytes, n, float64(n)/float64(s.bytes))
		// Each kind counts alike, however much of it there is: a person types more than they list.
		terminal += 1e6
		stored += int64(1e6 * float64(n) / float64(s.bytes))
	}
	b.figure("stored_bytes_per_terminal_byte", float64(stored)/float64(terminal), "")
	return nil
}

// storedSize seals a session as the jump does and folds it as its shipper does.
func storedSize(s *session) (int64, error) {
	w, err := newStream()
	if err != nil {
		return 0, err
	}
	folder, err := w.Folder()
	if err != nil {
		return 0, err
	}
	var size int64
	var waiting [][]byte
	var since time.Duration
	var n int
	flush := func() error {
		if len(waiting) == 0 {
			return nil
		}
		chunk, err := folder.Fold(waiting)
		switch {
		case errors.Is(err, transcript.ErrNoGain):
			size += int64(n)
		case err != nil:
			return err
		default:
			size += int64(len(chunk))
		}
		waiting, n = nil, 0
		return nil
	}
	for _, e := range s.events {
		f, err := w.Seal([]transcript.Event{e})
		if err != nil {
			return 0, err
		}
		if len(waiting) > 0 && (e.T-since > gatherFor || n+len(f) > 512<<10) {
			if err := flush(); err != nil {
				return 0, err
			}
		}
		if len(waiting) == 0 {
			since = e.T
		}
		waiting = append(waiting, f)
		n += len(f)
	}
	return size, flush()
}
