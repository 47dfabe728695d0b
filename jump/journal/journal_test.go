package journal

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// memFS is a disk that forgets what wasn't flushed, in any order, a sector at a time.
type memFS struct {
	mu     sync.Mutex
	locked bool
	files  map[string]*memFile
	// fail is asked before each operation.
	fail func(op, name string) error
}

type memFile struct {
	fs      *memFS
	name    string
	now     []byte // what a reader sees
	durable []byte
	pending []write
}

type write struct {
	off int64
	b   []byte
}

const sector = 512

func newMemFS() *memFS { return &memFS{files: map[string]*memFile{}} }

func (m *memFS) ask(op, name string) error {
	if m.fail != nil {
		return m.fail(op, name)
	}
	return nil
}

func (m *memFS) Lock() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.locked {
		return ErrLocked
	}
	m.locked = true
	return nil
}

func (m *memFS) Unlock() error { m.mu.Lock(); defer m.mu.Unlock(); m.locked = false; return nil }

func (m *memFS) Names() ([]string, error) {
	var names []string
	for n := range m.files {
		names = append(names, n)
	}
	return names, nil
}

func (m *memFS) Open(name string) (File, error) { return m.files[name], nil }

func (m *memFS) Create(name string, size int64) (File, error) {
	if err := m.ask("create", name); err != nil {
		return nil, err
	}
	f := &memFile{fs: m, name: name, now: make([]byte, size), durable: make([]byte, size)}
	m.files[name] = f
	return f, nil
}

func (f *memFile) ReadAt(b []byte, off int64) (int, error) {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	return bytes.NewReader(f.now).ReadAt(b, off)
}

func (f *memFile) WriteAt(b []byte, off int64) (int, error) {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	if err := f.fs.ask("write", f.name); err != nil {
		return 0, err
	}
	if off+int64(len(b)) > int64(len(f.now)) {
		return 0, errors.New("write behind the end of a segment")
	}
	f.pending = append(f.pending, write{off, bytes.Clone(b)})
	return copy(f.now[off:], b), nil
}

func (f *memFile) Datasync() error {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	if err := f.fs.ask("sync", f.name); err != nil {
		return err
	}
	for _, w := range f.pending {
		copy(f.durable[w.off:], w.b)
	}
	f.pending = nil
	return nil
}

func (f *memFile) Size() (int64, error) { return int64(len(f.now)), nil }
func (f *memFile) Close() error         { return nil }

// cut gives the disk after a power cut: of what wasn't flushed, any sectors have made it.
func (m *memFS) cut(r *rand.Rand) *memFS {
	m.mu.Lock()
	defer m.mu.Unlock()
	after := newMemFS()
	for n, f := range m.files {
		d := bytes.Clone(f.durable)
		for _, w := range f.pending {
			for at := w.off; at < w.off+int64(len(w.b)); {
				to := min((at/sector+1)*sector, w.off+int64(len(w.b)))
				if r.IntN(2) == 0 {
					copy(d[at:to], w.b[at-w.off:to-w.off])
				}
				at = to
			}
		}
		after.files[n] = &memFile{fs: after, name: n, now: d, durable: bytes.Clone(d)}
	}
	return after
}

func open(t testing.TB, fs FS, size int64, n int) (*Journal, Recovered) {
	t.Helper()
	j, rec, err := Open(Config{FS: fs, SegmentSize: size, Segments: n, Reserve: 1})
	if err != nil {
		t.Fatal(err)
	}
	return j, rec
}

func sid(n int) SID {
	var s SID
	binary.BigEndian.PutUint64(s[8:], uint64(n))
	return s
}

func read(t testing.TB, j *Journal, s SID) []Entry {
	t.Helper()
	var es []Entry
	for e, err := range j.Read(s) {
		if err != nil {
			t.Fatal(err)
		}
		es = append(es, e)
	}
	return es
}

func TestAppendReadReopen(t *testing.T) {
	dir := t.TempDir()
	c := Config{Dir: filepath.Join(dir, "j"), SegmentSize: 64 << 10, Segments: 4}
	var want []Entry
	for round := range 3 {
		j, rec, err := Open(c)
		if err != nil {
			t.Fatal(err)
		}
		if rec.Entries != len(want) || rec.Torn || len(rec.Damage) != 0 {
			t.Fatalf("round %d recovered %+v, want %d entries", round, rec, len(want))
		}
		if _, _, err := Open(c); !errors.Is(err, ErrLocked) {
			t.Errorf("second owner: %v", err)
		}
		for i := range 20 {
			e := Entry{Stream: sid(1), Kind: Kind(i % 3), Data: bytes.Repeat([]byte{byte(i)}, i*97), N: uint64(len(want))}
			if err := j.Append(e); err != nil {
				t.Fatal(err)
			}
			want = append(want, e)
		}
		got := read(t, j, sid(1))
		if d := cmp.Diff(want, got); d != "" {
			t.Fatal(d)
		}
		var tail []Entry
		for e, err := range j.ReadFrom(sid(1), 15) {
			if err != nil {
				t.Fatal(err)
			}
			tail = append(tail, e)
		}
		if d := cmp.Diff(want[15:], tail); d != "" {
			t.Error(d)
		}
		if d := cmp.Diff([]Stream{{sid(1), 0, uint64(len(want))}}, j.Streams()); d != "" {
			t.Error(d)
		}
		if err := j.Close(); err != nil {
			t.Fatal(err)
		}
		if err := j.Append(want[0]); !errors.Is(err, ErrClosed) {
			t.Errorf("after Close: %v", err)
		}
	}
}

func TestForgottenSegmentsAreUsedAgain(t *testing.T) {
	fs := newMemFS()
	j, _ := open(t, fs, 4096, 4)
	keep := Entry{Stream: sid(1000), Data: []byte("stays")}
	if err := j.Append(keep); err != nil {
		t.Fatal(err)
	}
	for i := range 300 { // many times the journal's size
		s := sid(i)
		for k := range 3 {
			if err := j.Append(Entry{Stream: s, Data: bytes.Repeat([]byte{byte(i)}, 100+k)}); err != nil {
				t.Fatalf("session %d: %v", i, err)
			}
		}
		if err := j.Forget(s); err != nil {
			t.Fatal(err)
		}
	}
	if len(j.streams) > 60 {
		t.Errorf("%d streams are still known", len(j.streams))
	}
	ss := j.Streams()
	if len(ss) != 1 || ss[0].SID != sid(1000) {
		t.Errorf("not forgotten: %v", ss)
	}
	j.Close()
	j, rec := open(t, fs, 4096, 4)
	if len(rec.Streams) != 1 || len(rec.Damage) != 0 {
		t.Errorf("reopened: %+v", rec)
	}
	if es := read(t, j, sid(1000)); len(es) != 1 || string(es[0].Data) != "stays" {
		t.Errorf("kept: %v", es)
	}
}

// A stream that is trimmed and goes on (the jump's own facts) keeps its numbers, through segments used again and crashes.
func TestTrimmedStreamGoesOn(t *testing.T) {
	fs := newMemFS()
	for n := uint64(0); n < 400; {
		j, rec := open(t, fs, 4096, 3)
		if len(rec.Damage) != 0 {
			t.Fatal(rec.Damage)
		}
		for range 25 {
			if err := j.Append(Entry{Stream: sid(7), Data: binary.BigEndian.AppendUint64(make([]byte, 92), n)}); err != nil {
				t.Fatal(err)
			}
			n++
			if n%5 == 0 {
				if err := j.Trim(sid(7), n-1); err != nil {
					t.Fatal(err)
				}
			}
		}
		es := read(t, j, sid(7))
		for i, e := range es {
			if got := binary.BigEndian.Uint64(e.Data[92:]); got != n-uint64(len(es)-i) || e.N != got {
				t.Fatalf("entry %d holds %d as %d of %d", i, got, e.N, n)
			}
		}
		if len(es) != 1 {
			t.Errorf("%d entries left, want the last one", len(es))
		}
		fs = fs.cut(rand.New(rand.NewPCG(n, 0))) // a crash: not closed
	}
	j, _ := open(t, fs, 4096, 3)
	if err := j.Trim(sid(7), 1<<40); err == nil {
		t.Error("trimmed what was never written")
	}
}

func TestFull(t *testing.T) {
	fs := newMemFS()
	j, _, err := Open(Config{FS: fs, SegmentSize: 4096, Segments: 3, Reserve: 2000})
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for {
		err = j.Append(Entry{Stream: sid(n % 2), Data: make([]byte, 200)})
		if err != nil {
			break
		}
		n++
	}
	if !errors.Is(err, ErrFull) || n < 20 {
		t.Fatalf("after %d: %v", n, err)
	}
	if left, all := j.Room(); left > 264 || all < 11000 {
		t.Errorf("room %d of %d", left, all)
	}
	for i := range 4 {
		if err := j.Append(Entry{Stream: sid(i % 2), Data: make([]byte, 100), Last: true}); err != nil {
			t.Errorf("goodbye %d: %v", i, err)
		}
	}
	// Even the reserve ends; forgetting still works.
	for err = nil; err == nil; {
		err = j.Append(Entry{Stream: sid(0), Last: true})
	}
	if !errors.Is(err, ErrFull) {
		t.Errorf("beyond the reserve: %v", err)
	}
	for i := range 2 {
		if err := j.Forget(sid(i)); err != nil {
			t.Fatal(err)
		}
	}
	if err := j.Append(Entry{Stream: sid(5), Data: make([]byte, 200)}); err != nil {
		t.Errorf("after forgetting: %v", err)
	}
}

func TestNoRoomToReserve(t *testing.T) {
	fs := newMemFS()
	fs.fail = func(op, name string) error {
		if op == "create" && strings.HasSuffix(name, "2") {
			return syscall.ENOSPC
		}
		return nil
	}
	if _, _, err := Open(Config{FS: fs, SegmentSize: 4096, Segments: 4}); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("got %v", err)
	}
	fs.fail = nil
	j, _ := open(t, fs, 4096, 4) // the lock was let go
	j.Close()
}

func TestAFailedFlushIsTheEnd(t *testing.T) {
	for _, op := range []string{"sync", "write"} {
		fs := newMemFS()
		j, _ := open(t, fs, 64<<10, 3)
		if err := j.Append(Entry{Stream: sid(1), Data: []byte("good")}); err != nil {
			t.Fatal(err)
		}
		var asked int
		fs.mu.Lock()
		fs.fail = func(o, _ string) error {
			if o == op {
				asked++
				if asked == 1 {
					return syscall.EIO
				}
			}
			return nil // a second try would seem to work
		}
		fs.mu.Unlock()
		var wg sync.WaitGroup
		for i := range 20 {
			wg.Go(func() {
				if err := j.Append(Entry{Stream: sid(i), Data: []byte("lost")}); !errors.Is(err, ErrFailed) || !errors.Is(err, syscall.EIO) {
					t.Errorf("%s: %v", op, err)
				}
			})
		}
		wg.Wait()
		if asked != 1 {
			t.Errorf("%s was tried %d times", op, asked)
		}
		if err := j.Append(Entry{Stream: sid(1)}); !errors.Is(err, ErrFailed) {
			t.Errorf("later: %v", err)
		}
		if err := j.Err(); !errors.Is(err, ErrFailed) {
			t.Errorf("Err: %v", err)
		}
		if err := j.Close(); !errors.Is(err, ErrFailed) {
			t.Errorf("Close: %v", err)
		}
		j, rec := open(t, fs.cut(rand.New(rand.NewPCG(1, 2))), 64<<10, 3)
		if len(rec.Damage) != 0 {
			t.Errorf("%s: %v", op, rec.Damage)
		}
		if es := read(t, j, sid(1)); len(es) < 1 || string(es[0].Data) != "good" {
			t.Errorf("%s: recovered %v", op, es)
		}
	}
}

// count is a test's size: N in the environment, as make soak sets it, or a small one.
func count(small int) int {
	var n int
	if _, err := fmt.Sscan(os.Getenv("N"), &n); err == nil && n > 0 {
		return n
	}
	return small
}

// TestPowerCuts: of what was acknowledged nothing is missing, whichever sectors of the rest made it.
func TestPowerCuts(t *testing.T) {
	rounds := count(150)
	acked, missing := 0, 0
	fs := newMemFS()
	type key struct {
		s SID
		n int
	}
	sure := map[key][]byte{} // acknowledged and not forgotten
	next := map[SID]int{}
	for round := range rounds {
		r := rand.New(rand.NewPCG(uint64(round), 42))
		j, rec := open(t, fs, 16<<10, 6)
		if len(rec.Damage) != 0 {
			t.Fatalf("round %d: %v", round, rec.Damage)
		}
		have := map[key][]byte{}
		for _, s := range rec.Streams {
			for i, e := range read(t, j, s.SID) {
				if e.N != s.First+uint64(i) {
					t.Fatalf("round %d: numbers %d, %d", round, e.N, s.First)
				}
				have[key{s.SID, int(binary.BigEndian.Uint64(e.Data))}] = e.Data
			}
		}
		for k, want := range sure {
			if !bytes.Equal(have[k], want) {
				missing++
				t.Errorf("round %d: acknowledged entry %d of %v is missing", round, k.n, k.s)
			}
		}
		if missing > 0 {
			t.FailNow()
		}
		// All is shipped but for one stream at a time, which stays for a few rounds.
		for _, s := range rec.Streams {
			if s.SID == sid(round/4) {
				continue
			}
			for k := range sure {
				if k.s == s.SID {
					delete(sure, k)
				}
			}
			if err := j.Forget(s.SID); err != nil {
				t.Fatal(err)
			}
		}

		// Write until the power goes: at a flush that doesn't return in time.
		stop := r.IntN(40) + 3
		var after *memFS
		var mu sync.Mutex
		syncs := 0
		cutErr := errors.New("power cut")
		fs.mu.Lock()
		old := fs
		fs.fail = func(op, _ string) error {
			if op != "sync" {
				return nil
			}
			if syncs++; syncs >= stop {
				return cutErr
			}
			return nil
		}
		fs.mu.Unlock()
		var wg sync.WaitGroup
		for w := range 4 {
			s := sid(round/4 + w*1000)
			at := next[s]
			next[s] += 1000
			seed := r.Uint64()
			wg.Go(func() {
				r := rand.New(rand.NewPCG(seed, 0))
				for i := at; ; i++ {
					b := binary.BigEndian.AppendUint64(nil, uint64(i))
					for range r.IntN(40) {
						b = binary.BigEndian.AppendUint64(b, r.Uint64())
					}
					if err := j.Append(Entry{Stream: s, Data: b}); err != nil {
						if !errors.Is(err, cutErr) && !errors.Is(err, ErrFull) {
							t.Errorf("round %d: %v", round, err)
						}
						return
					}
					mu.Lock()
					sure[key{s, i}] = b
					acked++
					mu.Unlock()
				}
			})
		}
		wg.Wait()
		after = old.cut(r)
		j.Close()
		fs = after
	}
	t.Logf("%d power cuts, %d acknowledged, %d missing", rounds, acked, missing)
}

// Acknowledged data that a disk spoils later is reported, and what lies behind it is still read.
func TestDamageIsReported(t *testing.T) {
	build := func(roll bool) *memFS {
		fs := newMemFS()
		j, _ := open(t, fs, 8192, 4)
		n := 20
		if roll {
			n = 60
		}
		for i := range n {
			if err := j.Append(Entry{Stream: sid(i % 2), Data: bytes.Repeat([]byte{byte(i)}, 100)}); err != nil {
				t.Fatal(err)
			}
		}
		j.Close()
		return fs
	}
	for _, roll := range []bool{false, true} {
		for off := 64; off < 64+8*168; off += 24 {
			fs := build(roll)
			fs.files["segment-0000"].now[off] ^= 0x40
			j, rec := open(t, fs, 8192, 4)
			padding := (off-64)%168 >= 164
			if (len(rec.Damage) == 1) == padding {
				t.Fatalf("byte %d, roll %v: %v", off, roll, rec.Damage)
			}
			var lost, kept int
			for s := range 2 {
				for _, err := range j.Read(sid(s)) {
					if err != nil {
						lost++
						if !errors.Is(err, ErrDamaged) {
							t.Error(err)
						}
					} else {
						kept++
					}
				}
			}
			if !padding && off >= 64+336 && lost != 1 || kept == 0 {
				t.Fatalf("byte %d: %d errors, %d read", off, lost, kept)
			}
			j.Close()
		}
	}
	// Every bit of an entry that was acknowledged and closed behind. What the crc covers is its header and its data, not the zeros after them.
	for off := 64 + 168; off < 64+168+164; off++ {
		for bit := range 8 {
			fs := build(true)
			fs.files["segment-0000"].now[off] ^= 1 << bit
			j, rec := open(t, fs, 8192, 4)
			if len(rec.Damage) != 1 || rec.Damage[0].Segment != "segment-0000" {
				t.Fatalf("byte %d, bit %d: %v", off, bit, rec.Damage)
			}
			j.Close()
		}
	}
	// A header: the segment is set aside, and the journal works on.
	fs := build(true)
	fs.files["segment-0000"].now[10] ^= 1
	j, rec := open(t, fs, 8192, 4)
	if len(rec.Damage) == 0 || rec.Damage[0].Segment != "segment-0000" {
		t.Errorf("%+v", rec)
	}
	if err := j.Append(Entry{Stream: sid(9), Data: []byte("x")}); err != nil {
		t.Error(err)
	}
}

func TestForeignSegmentsAreRefused(t *testing.T) {
	a, b := newMemFS(), newMemFS()
	for _, fs := range []*memFS{a, b} {
		j, _ := open(t, fs, 4096, 3)
		j.Append(Entry{Stream: sid(1)})
		j.Close()
	}
	a.files["segment-0001"].now = bytes.Clone(b.files["segment-0000"].now)
	if _, _, err := Open(Config{FS: a, SegmentSize: 4096, Segments: 3}); err == nil {
		t.Error("a segment of another journal passed")
	}
	copy(a.files["segment-0001"].now, a.files["segment-0000"].now)
	if _, _, err := Open(Config{FS: a, SegmentSize: 4096, Segments: 3}); err == nil {
		t.Error("a copied segment passed")
	}
}

func TestLimits(t *testing.T) {
	j, _ := open(t, newMemFS(), 4096, 3)
	for _, c := range []struct {
		what string
		e    Entry
	}{
		{"more than a frame", Entry{Data: make([]byte, MaxEntry+1)}},
		{"more than a segment", Entry{Data: make([]byte, 5000)}},
		{"a kind of the journal's own", Entry{Kind: kindTrim}},
	} {
		if err := j.Append(c.e); err == nil {
			t.Errorf("%s passed", c.what)
		}
	}
	for _, c := range []Config{{SegmentSize: 10}, {Segments: 2}, {SegmentSize: 4097}} {
		c.FS = newMemFS()
		if _, _, err := Open(c); err == nil {
			t.Errorf("%+v passed", c)
		}
	}
}

func FuzzScan(f *testing.F) {
	fs := newMemFS()
	j, _ := open(f, fs, 4096, 3)
	for i := range 6 {
		j.Append(Entry{Stream: sid(i % 2), Data: bytes.Repeat([]byte{1}, i*40)})
	}
	j.Forget(sid(0))
	j.Close()
	f.Add(fs.files["segment-0000"].now)
	f.Fuzz(func(t *testing.T, b []byte) {
		fs := newMemFS()
		seg := make([]byte, 4096)
		copy(seg, b)
		fs.files["segment-0000"] = &memFile{fs: fs, name: "segment-0000", now: seg, durable: bytes.Clone(seg)}
		j, _, err := Open(Config{FS: fs, SegmentSize: 4096, Segments: 3})
		if err != nil {
			return
		}
		defer j.Close()
		for _, s := range j.Streams() {
			for _, err := range j.Read(s.SID) {
				if err != nil && !errors.Is(err, ErrDamaged) {
					t.Fatal(err)
				}
			}
		}
	})
}
