package ship

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"filippo.io/age"

	"breakglass/ca/api"
	"breakglass/internal/name"
	"breakglass/internal/statement"
	"breakglass/jump/journal"
	"breakglass/ledger"
	"breakglass/transcript"
)

var errLine = errors.New("lost on the way")

// memStore is a store, and the jump's book of facts, in memory. It may be away, fail now and then, or be slow.
type memStore struct {
	t testing.TB

	mu        sync.Mutex
	streams   map[name.SessionID][]byte
	envelopes map[name.SessionID][]byte
	finished  map[name.SessionID]ledger.Head
	heads     map[name.SessionID][]ledger.Head
	facts     int64
	acked     int64 // -1: as told
	puts      int
	largest   int
	away      bool
	rand      *rand.Rand // fails one call in four before it does it, one after, maxLost in all
	lost      int
	slow      time.Duration
	hold      chan struct{} // no call ends before it is closed
	discard   bool          // keeps only how long streams are
	sizes     map[name.SessionID]int64
	gave      time.Time // when the last piece came
}

// maxLost bounds what a line loses: pauses between attempts grow, and by chance alone they could grow beyond a test's patience.
const maxLost = 6

func newStore(t testing.TB) *memStore {
	return &memStore{t: t, streams: map[name.SessionID][]byte{}, envelopes: map[name.SessionID][]byte{}, finished: map[name.SessionID]ledger.Head{},
		heads: map[name.SessionID][]ledger.Head{}, sizes: map[name.SessionID]int64{}, acked: -1}
}

func (s *memStore) call(f func() error) error {
	if s.slow > 0 {
		time.Sleep(s.slow)
	}
	if s.hold != nil {
		<-s.hold
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.away {
		return errLine
	}
	lossy := s.rand != nil && s.lost < maxLost
	before, after := lossy && s.rand.IntN(4) == 0, lossy && s.rand.IntN(4) == 0
	if before || after {
		s.lost++
	}
	if before {
		return errLine
	}
	if err := f(); err != nil {
		s.t.Error(err)
		return err
	}
	if after {
		return errLine
	}
	return nil
}

func (s *memStore) TranscriptSize(_ context.Context, id name.SessionID) (a *api.Size, err error) {
	err = s.call(func() error {
		_, done := s.finished[id]
		a = &api.Size{Size: s.sizes[id], Finished: done}
		return nil
	})
	return a, err
}

func (s *memStore) PutTranscript(_ context.Context, id name.SessionID, at int64, piece []byte) (a *api.Size, err error) {
	err = s.call(func() error {
		_, done := s.finished[id]
		if at != s.sizes[id] || done || len(piece) > api.MaxPiece || len(piece) == 0 {
			return fmt.Errorf("a piece of %d at %d of %d", len(piece), at, s.sizes[id])
		}
		if !s.discard {
			s.streams[id] = append(s.streams[id], piece...)
		}
		s.sizes[id] += int64(len(piece))
		s.puts++
		s.largest = max(s.largest, len(piece))
		s.gave = time.Now()
		a = &api.Size{Size: s.sizes[id]}
		return nil
	})
	return a, err
}

func (s *memStore) PutEnvelope(_ context.Context, id name.SessionID, env []byte) error {
	return s.call(func() error {
		if _, done := s.finished[id]; done {
			return errors.New("envelope after the end")
		}
		s.envelopes[id] = bytes.Clone(env)
		return nil
	})
}

func (s *memStore) FinishTranscript(_ context.Context, id name.SessionID, ask *api.FinishAsk) error {
	return s.call(func() error {
		if s.sizes[id] != ask.Head.Bytes {
			return fmt.Errorf("finished at %d of %d", ask.Head.Bytes, s.sizes[id])
		}
		s.finished[id] = ask.Head
		return nil
	})
}

func (s *memStore) Append(f ledger.Facts, id name.SessionID, then func(int64) error) (int64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.facts++
	h, ok := f.(*ledger.SessionHead)
	if !ok {
		return s.facts, then(s.facts)
	}
	if hs := s.heads[id]; len(hs) > 0 && (h.Head.Frames <= hs[len(hs)-1].Frames || h.Head.Bytes <= hs[len(hs)-1].Bytes) {
		s.t.Errorf("head %+v after %+v", h.Head, hs[len(hs)-1])
	}
	if h.Head.Bytes > s.sizes[id] {
		s.t.Errorf("a head at %d, the store has %d", h.Head.Bytes, s.sizes[id])
	}
	s.heads[id] = append(s.heads[id], h.Head)
	return s.facts, nil
}

func (s *memStore) Waiting() int64 { return 0 }

func (s *memStore) WaitAcked(ctx context.Context, n int64) error {
	for {
		s.mu.Lock()
		acked := s.acked
		s.mu.Unlock()
		if acked == -1 || n <= acked {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(time.Millisecond):
		}
	}
}

func (s *memStore) set(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f()
}

// is polls what the store holds.
func (s *memStore) is(what string, f func() bool) {
	s.t.Helper()
	for end := time.Now().Add(time.Minute); ; time.Sleep(5 * time.Millisecond) {
		s.mu.Lock()
		ok := f()
		s.mu.Unlock()
		if ok {
			return
		}
		if time.Now().After(end) {
			s.t.Fatalf("never: %s", what)
		}
	}
}

// rec is a recorder into a journal.
type rec struct {
	t      testing.TB
	j      *journal.Journal
	w      *transcript.Writer
	sid    journal.SID
	id     name.SessionID
	env    []byte
	stream []byte
	bytes  int64
	ended  bool
	rand   *rand.Rand
	who    *age.X25519Identity
}

func record(t testing.TB, j *journal.Journal, id name.SessionID) *rec {
	t.Helper()
	who, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	key := transcript.NewKey()
	env, err := transcript.Envelope([]age.Recipient{who.Recipient()}, key)
	if err != nil {
		t.Fatal(err)
	}
	w, err := transcript.NewWriter(transcript.Header{Session: id, Jump: "jump-a", Origin: "o", Person: "alice", Login: "root", Host: "web01", Door: transcript.DoorHop,
		T0: 1, Bind: transcript.SHA256([]byte("entry")), Env: transcript.SHA256(env)}, key)
	if err != nil {
		t.Fatal(err)
	}
	r := &rec{t: t, j: j, w: w, sid: w.Header().SID, id: id, env: env, who: who, rand: rand.New(rand.NewPCG(1, uint64(len(id))))}
	r.frame(w.HeaderFrame(), nil)
	r.add(KindEnvelope, env)
	return r
}

func (r *rec) add(k journal.Kind, b []byte) {
	r.t.Helper()
	if err := r.j.Append(journal.Entry{Stream: r.sid, Kind: k, Data: b, Last: true}); err != nil {
		r.t.Fatal(err)
	}
}

func (r *rec) frame(f []byte, err error) {
	r.t.Helper()
	if err != nil {
		r.t.Fatal(err)
	}
	r.add(KindFrame, f)
	r.bytes += int64(len(f))
	if r.stream != nil || r.bytes == int64(len(f)) {
		r.stream = append(r.stream, f...)
	}
}

// output records n bytes.
func (r *rec) output(n int) {
	r.t.Helper()
	b := make([]byte, n)
	for i := 0; i < n; i += 97 {
		b[i] = byte(r.rand.Uint32())
	}
	r.frame(r.w.Seal([]transcript.Event{{Kind: transcript.KindOutput, Chan: 1, Data: b}}))
}

func (r *rec) end() {
	r.t.Helper()
	r.frame(r.w.End("closed", nil, time.Second))
	r.ended = true
}

func (r *rec) head() ledger.Head {
	h := r.w.Head()
	return ledger.Head{Frames: int64(h.Frames), Chain: statement.Hash(h.Chain), Bytes: r.bytes}
}

func (r *rec) as(told int64) *Stream {
	return &Stream{SID: r.sid, Session: r.id, Envelope: ledger.EntryHash(r.env), Head: r.head(), Ended: r.ended, Told: told}
}

// over tells the end and has it shipped.
func (r *rec) over(s *Shipper, store *memStore) {
	r.t.Helper()
	s.Hush(r.sid)
	n, err := store.Append(&ledger.SessionEnded{}, r.id, func(n int64) error {
		return r.j.Append(journal.Entry{Stream: r.sid, Kind: KindTold, Data: Mark(n), Last: true})
	})
	if err != nil {
		r.t.Fatal(err)
	}
	s.Ship(r.as(n))
}

// stored demands that the store has exactly this recording, and that it passes through all heads.
func (r *rec) stored(store *memStore) {
	r.t.Helper()
	store.is("recording "+string(r.id)+" finished", func() bool { _, ok := store.finished[r.id]; return ok })
	store.mu.Lock()
	defer store.mu.Unlock()
	if store.finished[r.id] != r.head() {
		r.t.Errorf("finished as %+v, want %+v", store.finished[r.id], r.head())
	}
	if !bytes.Equal(store.envelopes[r.id], r.env) {
		r.t.Error("another envelope")
	}
	if !store.discard {
		if !bytes.Equal(store.streams[r.id], r.stream) {
			r.t.Errorf("%d bytes of %d, or others", len(store.streams[r.id]), len(r.stream))
		}
		r.passes(store.streams[r.id], store.heads[r.id])
	}
}

func (r *rec) passes(stream []byte, heads []ledger.Head) {
	r.t.Helper()
	o := transcript.VerifyOptions{Bytes: map[uint64]int64{}}
	for _, h := range heads {
		o.Heads = append(o.Heads, transcript.Head{Frames: uint64(h.Frames), Chain: transcript.Hash(h.Chain)})
		o.Bytes[uint64(h.Frames)] = h.Bytes
	}
	if _, err := transcript.Verify(bytes.NewReader(stream), o); err != nil {
		r.t.Error(err)
	}
}

func openJournal(t testing.TB, c journal.Config) (*journal.Journal, journal.Recovered) {
	t.Helper()
	j, rec, err := journal.Open(c)
	if err != nil || len(rec.Damage) > 0 {
		t.Fatal(err, rec.Damage)
	}
	return j, rec
}

func begin(t testing.TB, j *journal.Journal, store *memStore) (s *Shipper, stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	s = New(ctx, Config{Journal: j, Store: store, Facts: store, Logger: slog.New(slog.NewTextHandler(t.Output(), nil))})
	stop = func() { cancel(); s.Wait() }
	t.Cleanup(stop)
	return s, stop
}

func (r *rec) follow(s *Shipper) {
	s.Follow(r.sid, r.id, ledger.EntryHash(r.env), len(r.w.HeaderFrame()), nil)
}

// What was recorded is in the store before its session is over.
func TestARecordingIsStoredWhileItsSessionRuns(t *testing.T) {
	j, _ := openJournal(t, journal.Config{Dir: t.TempDir(), SegmentSize: 4 << 20, Segments: 4})
	defer j.Close()
	store := newStore(t)
	s, _ := begin(t, j, store)
	r := record(t, j, "k7f-2mq/1")
	r.follow(s)
	for _, n := range []int{10, 250_000, 1, 500_000, 500_000, 500_000, 10} {
		r.output(n)
		store.is("all stored", func() bool { return bytes.Equal(store.streams[r.id], r.stream) })
		if s.Left() != 0 {
			t.Error("a running session counts as one that is over")
		}
	}
	r.end()
	r.over(s, store)
	r.stored(store)
	store.is("forgotten", func() bool { return len(j.Streams()) == 0 && s.Left() == 0 })
}

// Over a bad line, half of the calls fail, before they did what they should or after.
func TestARecordingGetsThereOverABadLine(t *testing.T) {
	j, _ := openJournal(t, journal.Config{Dir: t.TempDir(), SegmentSize: 4 << 20, Segments: 4})
	defer j.Close()
	store := newStore(t)
	store.rand = rand.New(rand.NewPCG(3, 4))
	s, _ := begin(t, j, store)
	var all []*rec
	for i := range 3 {
		r := record(t, j, name.SessionID(fmt.Sprintf("k7f-2mq/%d", i+1)))
		r.follow(s)
		all = append(all, r)
	}
	for range 4 {
		for _, r := range all {
			r.output(50_000)
		}
	}
	for _, r := range all {
		r.end()
		r.over(s, store)
	}
	for _, r := range all {
		r.stored(store)
	}
	store.is("forgotten", func() bool { return len(j.Streams()) == 0 })
}

// A session of many times the journal's size goes through it; the journal is full in between, and an idle session beside it keeps nothing back.
func TestManyTimesTheJournal(t *testing.T) {
	j, _ := openJournal(t, journal.Config{Dir: t.TempDir(), SegmentSize: 1 << 20, Segments: 6})
	defer j.Close()
	store := newStore(t)
	store.discard = true
	s, _ := begin(t, j, store)
	idle := record(t, j, "k7f-2mr/1")
	idle.follow(s)
	idle.output(100)
	r := record(t, j, "k7f-2mq/1")
	r.stream = nil
	r.follow(s)
	_, all := j.Room()
	for r.bytes < 10*all {
		for left, _ := j.Room(); left < 1<<20; left, _ = j.Room() { // what the recorder does when the journal is full
			time.Sleep(time.Millisecond)
		}
		r.output(200_000)
	}
	r.end()
	r.over(s, store)
	r.stored(store)
	idle.output(10)
	idle.end()
	idle.over(s, store)
	idle.stored(store)
	store.is("forgotten", func() bool { return len(j.Streams()) == 0 })
	t.Logf("%d bytes through a journal of %d, in %d pieces of up to %d; %d heads", r.bytes, all, store.puts, store.largest, len(store.heads[r.id]))
}

// The end of a session that the CA doesn't know yet isn't given up as whole; it waits without work.
func TestNothingIsFinishedBeforeItsEndIsTold(t *testing.T) {
	j, _ := openJournal(t, journal.Config{Dir: t.TempDir(), SegmentSize: 4 << 20, Segments: 4})
	defer j.Close()
	store := newStore(t)
	store.acked = 0
	s, _ := begin(t, j, store)
	r := record(t, j, "k7f-2mq/1")
	r.follow(s)
	r.output(1000)
	r.end()
	r.over(s, store)
	store.is("all stored", func() bool { return bytes.Equal(store.streams[r.id], r.stream) })
	time.Sleep(50 * time.Millisecond)
	store.set(func() {
		if len(store.finished) != 0 {
			t.Error("finished before the CA knew of the end")
		}
		store.acked = -1
	})
	r.stored(store)
}

// The store is away for a while: recording goes on, and all of it is there when it is back.
func TestTheStoreComesBack(t *testing.T) {
	j, _ := openJournal(t, journal.Config{Dir: t.TempDir(), SegmentSize: 4 << 20, Segments: 4})
	defer j.Close()
	store := newStore(t)
	s, _ := begin(t, j, store)
	r := record(t, j, "k7f-2mq/1")
	r.follow(s)
	r.output(100_000)
	store.is("some stored", func() bool { return len(store.streams[r.id]) == len(r.stream) })
	store.set(func() { store.away = true })
	for range 30 {
		r.output(100_000)
	}
	store.set(func() { store.away = false })
	store.is("all stored", func() bool { return bytes.Equal(store.streams[r.id], r.stream) })
	r.end()
	r.over(s, store)
	r.stored(store)
}

// Whoever comes back after a crash finds what is left, and the head of the whole stream, however much of it is gone from the journal.
func TestRecoveryWithoutTheBeginning(t *testing.T) {
	for _, ended := range []bool{false, true} {
		dir := t.TempDir()
		cfg := journal.Config{Dir: dir, SegmentSize: 1 << 20, Segments: 5}
		j, _ := openJournal(t, cfg)
		store := newStore(t)
		s, stop := begin(t, j, store)
		r := record(t, j, "k7f-2mq/1")
		r.follow(s)
		for range 60 {
			r.output(100_000)
			store.is("nearly all stored", func() bool { return len(r.stream)-len(store.streams[r.id]) < 1<<20 })
		}
		store.set(func() { store.away = true })
		r.output(100_000)
		r.output(17)
		if ended {
			r.end()
		}
		stop()
		if err := j.Close(); err != nil {
			t.Fatal(err)
		}
		// The next start.
		j, found := openJournal(t, cfg)
		if len(found.Streams) != 1 || found.Streams[0].First == 0 {
			t.Fatalf("streams %+v: nothing was trimmed", found.Streams)
		}
		st, err := Inspect(j, r.sid)
		if err != nil {
			t.Fatal(err)
		}
		if st.Head != r.head() || st.Ended != ended || st.Session != r.id || st.Envelope != ledger.EntryHash(r.env) || st.Told != 0 {
			t.Errorf("found %+v, want head %+v", st, r.head())
		}
		store.set(func() { store.away = false })
		s, stop = begin(t, j, store)
		st.Told = 1
		s.Ship(st)
		r.stored(store)
		store.is("forgotten", func() bool { return len(j.Streams()) == 0 })
		stop()
		j.Close()
	}
}

// A store that lost what it acknowledged is never told that it has everything.
func TestAStoreThatLostSomething(t *testing.T) {
	j, _ := openJournal(t, journal.Config{Dir: t.TempDir(), SegmentSize: 1 << 20, Segments: 5})
	defer j.Close()
	store := newStore(t)
	s, _ := begin(t, j, store)
	r := record(t, j, "k7f-2mq/1")
	r.follow(s)
	for range 40 {
		r.output(100_000)
		store.is("nearly all stored", func() bool { return len(r.stream)-len(store.streams[r.id]) < 1<<20 })
	}
	store.is("all stored", func() bool { return bytes.Equal(store.streams[r.id], r.stream) })
	store.set(func() { // an old backup
		store.streams[r.id] = store.streams[r.id][:1000]
		store.sizes[r.id] = 1000
		store.away = true
	})
	r.output(100)
	time.Sleep(2 * gather)
	store.set(func() { store.away = false })
	r.end()
	r.over(s, store)
	time.Sleep(300 * time.Millisecond)
	store.set(func() {
		if len(store.finished) != 0 || store.sizes[r.id] != 1000 {
			t.Errorf("finished %v, %d bytes", store.finished, store.sizes[r.id])
		}
	})
	if len(j.Streams()) != 1 || s.Left() != 1 {
		t.Error("forgotten")
	}
}

// With many sessions at once each gets its turn, and small ones aren't behind the large.
func TestSessionsShareTheLine(t *testing.T) {
	j, _ := openJournal(t, journal.Config{Dir: t.TempDir(), SegmentSize: 4 << 20, Segments: 10})
	defer j.Close()
	store := newStore(t)
	store.slow = 10 * time.Millisecond
	s, _ := begin(t, j, store)
	var small, large []*rec
	for i := range 4 {
		l, m := record(t, j, name.SessionID(fmt.Sprintf("k7f-2mq/%d", i+1))), record(t, j, name.SessionID(fmt.Sprintf("k7f-2mr/%d", i+1)))
		l.follow(s)
		m.follow(s)
		large, small = append(large, l), append(small, m)
	}
	for range 16 {
		for _, l := range large {
			l.output(400_000)
		}
		for _, m := range small {
			m.output(20)
		}
	}
	done := slices.Concat(small, large)
	for _, r := range done {
		r.end()
		r.over(s, store)
	}
	for _, r := range done {
		r.stored(store)
	}
}
