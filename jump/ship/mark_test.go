package ship

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"breakglass/jump/journal"
	"breakglass/ledger"
)

var goodMark = Shipped{Session: "k7f-2mq/1", Envelope: ledger.EntryHash([]byte("e")), Next: 12, Head: ledger.Head{Frames: 9, Chain: ledger.EntryHash([]byte("c")), Bytes: 4000}}

func TestMarks(t *testing.T) {
	b, err := goodMark.encode()
	if err != nil {
		t.Fatal(err)
	}
	want := goodMark
	want.V = 1
	if m, err := parseShipped(b); err != nil || m != want {
		t.Errorf("%+v, %v", m, err)
	}
	for what, s := range map[string]string{
		"nothing":                  "",
		"another version":          strings.Replace(string(b), `"v":1`, `"v":2`, 1),
		"an unknown field":         strings.Replace(string(b), `"v":1`, `"v":1,"w":1`, 1),
		"a field twice":            strings.Replace(string(b), `"v":1`, `"v":1,"v":1`, 1),
		"something behind it":      string(b) + " ",
		"no session":               strings.Replace(string(b), "k7f-2mq/1", "x", 1),
		"more frames than entries": strings.Replace(string(b), `"frames":9`, `"frames":12`, 1),
		"no frames":                strings.Replace(string(b), `"frames":9`, `"frames":0`, 1),
		"frames without bytes":     strings.Replace(string(b), `"bytes":4000`, `"bytes":9`, 1),
	} {
		if m, err := parseShipped([]byte(s)); !errors.Is(err, errMark) {
			t.Errorf("%s: %+v, %v", what, m, err)
		}
	}
}

func FuzzMark(f *testing.F) {
	b, err := goodMark.encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add([]byte(`{"v":1}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := parseShipped(b)
		if err != nil {
			return
		}
		if again, err := m.encode(); err != nil || !bytes.Equal(again, b) {
			t.Errorf("%q is written as %q, %v", b, again, err)
		}
	})
}

// What the journal holds is not believed where it can't be so.
func TestInspectRefuses(t *testing.T) {
	for what, add := range map[string]func(r *rec){
		"a mark of entries to come":     func(r *rec) { r.mark(90, r.head()) },
		"a mark behind an earlier one":  func(r *rec) { r.mark(4, r.head()); r.mark(3, r.head()) },
		"a mark that is none":           func(r *rec) { r.add(KindShipped, []byte("{}")) },
		"an entry of unknown kind":      func(r *rec) { r.add(99, []byte("x")) },
		"a frame that is none":          func(r *rec) { r.add(KindFrame, []byte("x")) },
		"two frames in one":             func(r *rec) { r.add(KindFrame, append(bytes.Clone(r.w.HeaderFrame()), r.w.HeaderFrame()...)) },
		"a told mark of another length": func(r *rec) { r.add(KindTold, []byte("x")) },
	} {
		j, _ := openJournal(t, journal.Config{Dir: t.TempDir(), SegmentSize: 1 << 20, Segments: 3})
		r := record(t, j, "k7f-2mq/1")
		r.output(100)
		r.output(100)
		if st, err := Inspect(j, r.sid); err != nil || st.Head != r.head() {
			t.Fatalf("%+v, %v", st, err)
		}
		add(r)
		if st, err := Inspect(j, r.sid); err == nil || errors.Is(err, ErrNoStream) {
			t.Errorf("%s: %+v, %v", what, st, err)
		}
		j.Close()
	}
}

func (r *rec) mark(next uint64, h ledger.Head) {
	m, err := Shipped{Session: r.id, Envelope: ledger.EntryHash(r.env), Next: next, Head: h}.encode()
	if err != nil {
		r.t.Fatal(err)
	}
	r.add(KindShipped, m)
}

// No head is signed behind the end of a session, however the two meet.
func TestNoHeadBehindTheEnd(t *testing.T) {
	for range 30 {
		j, _ := openJournal(t, journal.Config{Dir: t.TempDir(), SegmentSize: 1 << 20, Segments: 3})
		store := newStore(t)
		s, stop := begin(t, j, store)
		r := record(t, j, "k7f-2mq/1")
		r.follow(s)
		s.mu.Lock()
		s.lines[r.sid].at.headAt = time.Now().Add(-time.Hour) // one is due
		s.mu.Unlock()
		r.output(300_000)
		r.output(300_000)
		r.end()
		s.Hush(r.sid)
		store.set(func() { store.facts = 1000 }) // the end
		heads := 0
		store.set(func() { heads = len(store.heads[r.id]) })
		s.Ship(r.as(1000))
		r.stored(store)
		store.set(func() {
			if len(store.heads[r.id]) != heads {
				t.Error("a head was signed behind the end")
			}
		})
		stop()
		j.Close()
	}
}

// A session waits only for a store that takes something, when the journal is half full, with what is its own; not at its end.
func TestPace(t *testing.T) {
	j, _ := openJournal(t, journal.Config{Dir: t.TempDir(), SegmentSize: 1 << 20, Segments: 5})
	defer j.Close()
	store := newStore(t)
	store.hold = make(chan struct{})
	ctx, cancel := context.WithCancel(context.Background())
	s := New(ctx, Config{Journal: j, Store: store, Facts: store, Logger: slog.New(slog.DiscardHandler)})
	defer s.Wait()
	defer cancel()
	r, idle := record(t, j, "k7f-2mq/1"), record(t, j, "k7f-2mr/1")
	r.follow(s)
	idle.follow(s)
	var ending atomic.Bool
	waits := func(r *rec) bool {
		done := make(chan struct{})
		go func() { defer close(done); s.Pace(r.sid, &ending) }()
		select {
		case <-done:
			return false
		case <-time.After(100 * time.Millisecond):
			ending.Store(true)
			<-done
			ending.Store(false)
			return true
		}
	}
	good := func(ago time.Duration) {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.good = time.Now().Add(-ago)
	}
	good(0)
	if waits(r) {
		t.Error("waits with an empty journal")
	}
	for left, all := j.Room(); left > all/3; left, all = j.Room() {
		r.output(100_000)
	}
	good(0)
	if !waits(r) {
		t.Error("goes on although the journal fills")
	}
	if waits(idle) {
		t.Error("one that made nothing waits for another's")
	}
	good(2 * alive)
	if waits(r) {
		t.Error("waits for a store that is gone")
	}
	// The store takes it, and the session goes on.
	good(0)
	done := make(chan struct{})
	go func() { defer close(done); s.Pace(r.sid, &ending) }()
	close(store.hold)
	select {
	case <-done:
	case <-time.After(time.Minute):
		t.Error("waits for ever")
	}
	store.is("all stored", func() bool { return store.sizes[r.id] == r.bytes })
	if n, _ := s.Behind(); n != 0 {
		t.Errorf("%d bytes behind", n)
	}
	// A store that fails is not waited for.
	store.set(func() { store.away = true })
	for left, all := j.Room(); left > all/3; left, all = j.Room() {
		r.output(100_000)
	}
	good(0)
	for end := time.Now().Add(time.Minute); waits(r); {
		if time.Now().After(end) {
			t.Error("waits for a store that fails")
		}
	}
}
