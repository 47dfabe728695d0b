package ship

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"sync"
	"testing"
	"time"

	"breakglass/jump/journal"
	"breakglass/ledger"
	"breakglass/transcript"
)

// disk forgets at a power cut what wasn't flushed, in any order, a sector at a time.
type disk struct {
	mu    sync.Mutex
	off   bool // the power
	files map[string]*diskFile
}

type diskFile struct {
	d             *disk
	seen, durable []byte
	pending       []diskWrite
}

type diskWrite struct {
	off int64
	b   []byte
}

var errOff = errors.New("the power is off")

func (d *disk) Lock() error   { return nil }
func (d *disk) Unlock() error { return nil }

func (d *disk) Names() (names []string, err error) {
	for n := range d.files {
		names = append(names, n)
	}
	return names, nil
}

func (d *disk) Open(name string) (journal.File, error) { return d.files[name], nil }

func (d *disk) Create(name string, size int64) (journal.File, error) {
	f := &diskFile{d: d, seen: make([]byte, size), durable: make([]byte, size)}
	d.files[name] = f
	return f, nil
}

func (f *diskFile) ReadAt(b []byte, off int64) (int, error) {
	f.d.mu.Lock()
	defer f.d.mu.Unlock()
	return bytes.NewReader(f.seen).ReadAt(b, off)
}

func (f *diskFile) WriteAt(b []byte, off int64) (int, error) {
	f.d.mu.Lock()
	defer f.d.mu.Unlock()
	if f.d.off {
		return 0, errOff
	}
	f.pending = append(f.pending, diskWrite{off, bytes.Clone(b)})
	return copy(f.seen[off:], b), nil
}

func (f *diskFile) Datasync() error {
	f.d.mu.Lock()
	defer f.d.mu.Unlock()
	if f.d.off {
		return errOff
	}
	for _, w := range f.pending {
		copy(f.durable[w.off:], w.b)
	}
	f.pending = nil
	return nil
}

func (f *diskFile) Size() (int64, error) { return int64(len(f.seen)), nil }
func (f *diskFile) Close() error         { return nil }

// cut switches the power off and gives what is on the disk then: of what wasn't flushed, any sectors.
func (d *disk) cut(r *rand.Rand) *disk {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.off = true
	after := &disk{files: map[string]*diskFile{}}
	for n, f := range d.files {
		b := bytes.Clone(f.durable)
		for _, w := range f.pending {
			for at := int64(0); at < int64(len(w.b)); {
				end := min(int64(len(w.b)), (w.off+at)/512*512+512-w.off)
				if r.IntN(2) == 0 {
					copy(b[w.off+at:], w.b[at:end])
				}
				at = end
			}
		}
		after.files[n] = &diskFile{d: after, seen: b, durable: bytes.Clone(b)}
	}
	return after
}

// The power of the jump is cut while a session of several times the journal's size is on its way, and again while the rest of it is: whatever was acknowledged is
// in the store at the end, the stream is the recorder's, and the head that is told is its head.
func TestPowerCutsWhileShipping(t *testing.T) {
	rounds := cuts(t, 40)
	trimmed := 0
	for seed := range rounds {
		if gone := cutOnce(t, uint64(seed)); gone {
			trimmed++
		}
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
	}
	t.Logf("%d cuts, in %d the beginning was gone from the journal", rounds, trimmed)
	if trimmed < rounds/4 {
		t.Error("too few of them were behind a trim: the test shows nothing")
	}
}

// cuts is how often a test cuts the power: N is 2 in `make test` and 500 in `make soak`.
func cuts(t *testing.T, least int) int {
	t.Helper()
	if n, err := strconv.Atoi(os.Getenv("N")); err == nil {
		return max(least, 2*n)
	}
	return least
}

func cutOnce(t *testing.T, seed uint64) (trimmed bool) {
	r := rand.New(rand.NewPCG(seed, 7))
	d := &disk{files: map[string]*diskFile{}}
	cfg := journal.Config{FS: d, SegmentSize: 64 << 10, Segments: 5, Reserve: 16 << 10}
	j, _ := openJournal(t, cfg)
	store := newStore(t)
	s, stop := begin(t, j, store)
	s.trimming = 40 << 10
	rec := record(t, j, "k7f-2mq/1")
	rec.follow(s)
	var acked int64
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			if err := rec.try(r.IntN(9000) + 1); err != nil {
				if !errors.Is(err, journal.ErrFull) {
					return
				}
				time.Sleep(time.Millisecond)
				continue
			}
			acked = rec.bytes
		}
	})
	time.Sleep(time.Duration(5+seed%40) * time.Millisecond)
	next := d.cut(rand.New(rand.NewPCG(seed, 9)))
	wg.Wait()
	stop()
	j.Close()

	for again := range 2 {
		cfg.FS = next
		j, found := openJournal(t, cfg)
		for _, st := range found.Streams {
			trimmed = trimmed || st.First > 0
		}
		st, err := Inspect(j, rec.sid)
		if errors.Is(err, ErrNoStream) && again == 1 {
			j.Close() // all of it was stored before the second cut
			break
		}
		if err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		if st.Head.Bytes < acked || st.Head.Bytes > int64(len(rec.stream)) || st.Session != rec.id || st.Envelope != ledger.EntryHash(rec.env) {
			t.Fatalf("seed %d: found %+v; %d were acknowledged, %d written", seed, st, acked, len(rec.stream))
		}
		final := transcript.Head{Frames: uint64(st.Head.Frames), Chain: transcript.Hash(st.Head.Chain)}
		if _, err := transcript.Verify(bytes.NewReader(rec.stream[:st.Head.Bytes]), transcript.VerifyOptions{Final: &final}); err != nil {
			t.Fatalf("seed %d: the head is not the stream's: %v", seed, err)
		}
		s, stop := begin(t, j, store)
		if st.Told == 0 {
			if err := j.Append(journal.Entry{Stream: rec.sid, Kind: KindTold, Data: Mark(1), Last: true}); err != nil {
				t.Fatalf("seed %d: %v", seed, err)
			}
			st.Told = 1
		}
		s.Ship(st)
		if again == 0 && seed%2 == 0 { // cut in the middle of it
			time.Sleep(time.Duration(seed%7) * 100 * time.Microsecond)
			next = next.cut(rand.New(rand.NewPCG(seed, 11)))
			stop()
			j.Close()
			continue
		}
		rec.finished(store, st.Head)
		store.is("forgotten", func() bool { return len(j.Streams()) == 0 })
		stop()
		j.Close()
		break
	}
	store.is("finished", func() bool { return len(store.finished) == 1 })
	store.set(func() {
		if n := len(store.streams[rec.id]); int64(n) < acked || !bytes.Equal(store.streams[rec.id], rec.stream[:n]) {
			t.Errorf("seed %d: stored %d bytes, or others; %d were acknowledged", seed, n, acked)
		}
		rec.passes(store.streams[rec.id], store.heads[rec.id])
	})
	return trimmed
}

// try records n bytes unless the journal fails; a frame that isn't acknowledged may be found all the same.
func (r *rec) try(n int) error {
	if err := r.j.Err(); err != nil {
		return err
	}
	if left, _ := r.j.Room(); left < int64(n)+4096 {
		return journal.ErrFull // before anything is sealed
	}
	b := make([]byte, n)
	for i := 0; i < n; i += 97 {
		b[i] = byte(r.rand.Uint32())
	}
	f, err := r.w.Seal([]transcript.Event{{Kind: transcript.KindOutput, Chan: 1, Data: b}})
	if err != nil {
		return err
	}
	r.stream = append(r.stream, f...)
	if err := r.j.Append(journal.Entry{Stream: r.sid, Kind: KindFrame, Data: f}); err != nil {
		return fmt.Errorf("%w: %v", errOff, err)
	}
	r.bytes += int64(len(f))
	return nil
}

// finished demands that the store has the stream up to head.
func (r *rec) finished(store *memStore, head ledger.Head) {
	r.t.Helper()
	store.is("finished", func() bool { _, ok := store.finished[r.id]; return ok })
	store.set(func() {
		if store.finished[r.id] != head {
			r.t.Errorf("finished as %+v, want %+v", store.finished[r.id], head)
		}
		if !bytes.Equal(store.envelopes[r.id], r.env) {
			r.t.Error("another envelope")
		}
	})
}
