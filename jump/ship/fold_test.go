package ship

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"breakglass/internal/name"
	"breakglass/jump/journal"
	"breakglass/ledger"
	"breakglass/transcript"
)

// folded records with a folder, as a jump does, and keeps what was said in the clear.
type folded struct {
	*rec
	said [][]byte
	size int64 // bytes of records
}

func recordFolded(t testing.TB, j *journal.Journal, s *Shipper, id name.SessionID) *folded {
	t.Helper()
	r := &folded{rec: record(t, j, id)}
	r.rec.stream = nil
	f, err := r.w.Folder()
	if err != nil {
		t.Fatal(err)
	}
	s.Follow(r.sid, r.id, ledger.EntryHash(r.env), len(r.w.HeaderFrame()), f)
	return r
}

// say records a text; an error is the journal's.
func (r *folded) say(text []byte) error {
	f, err := r.w.Seal([]transcript.Event{{Kind: transcript.KindOutput, Chan: 1, Data: text}})
	if err != nil {
		return err
	}
	r.said = append(r.said, text)
	r.size += int64(len(f))
	return r.j.Append(journal.Entry{Stream: r.sid, Kind: KindFrame, Data: f})
}

// lines is text as a shell prints it, or noise.
func (r *folded) lines(n int) []byte {
	if r.rand.IntN(5) == 0 {
		b := make([]byte, n)
		for i := range b {
			b[i] = byte(r.rand.Uint32())
		}
		return b
	}
	var b []byte
	for len(b) < n {
		b = fmt.Appendf(b, "-rw-r--r-- 1 root root %7d Nov 24 02:58 file-%d.log\r\n", r.rand.IntN(1e6), r.rand.IntN(1e4))
	}
	return b[:n]
}

// whole demands that the stream holds what was said, all of it or, if cut, at least the first n, and counts its chunks and records.
func (r *folded) whole(store *memStore, key transcript.Key, n int, ended bool) (chunks, records int, size int64) {
	r.t.Helper()
	var stream []byte
	var heads []ledger.Head
	store.set(func() { stream, heads = store.streams[r.id], store.heads[r.id] })
	r.passes(stream, heads)
	rd, err := transcript.NewReader(bytes.NewReader(stream))
	if err == nil {
		err = rd.Unlock(key)
	}
	if err != nil {
		r.t.Fatal(err)
	}
	var got [][]byte
	for {
		f, err := rd.Next()
		if err != nil {
			if rd.Ended() != ended {
				r.t.Errorf("ended %v: %v", rd.Ended(), err)
			}
			break
		}
		switch f.Type {
		case transcript.TypeChunk:
			chunks++
		case transcript.TypeRecord:
			records++
		}
		for _, e := range f.Events {
			got = append(got, bytes.Clone(e.Data))
		}
	}
	if len(got) < n || len(got) > len(r.said) {
		r.t.Fatalf("%d texts in the store, %d acknowledged, %d recorded", len(got), n, len(r.said))
	}
	for i := range got {
		if !bytes.Equal(got[i], r.said[i]) {
			r.t.Fatalf("text %d is another", i)
		}
	}
	return chunks, records, int64(len(stream))
}

// keyOf is a recording's key.
func keyOf(r *rec) transcript.Key {
	r.t.Helper()
	k, err := transcript.OpenEnvelope(r.w.Header(), r.env, r.who)
	if err != nil {
		r.t.Fatal(err)
	}
	return k
}

// end seals the stream and has it shipped under the head that the Shipper gives.
func (r *folded) over(s *Shipper, store *memStore) ledger.Head {
	r.t.Helper()
	f, err := r.w.End("closed", nil, time.Hour)
	if err != nil {
		r.t.Fatal(err)
	}
	r.add(KindFrame, f)
	head, err := s.Close(r.sid)
	if err != nil {
		r.t.Fatal(err)
	}
	s.Hush(r.sid)
	n, err := store.Append(&ledger.SessionEnded{}, r.id, func(n int64) error {
		return r.j.Append(journal.Entry{Stream: r.sid, Kind: KindTold, Data: Mark(n), Last: true})
	})
	if err != nil {
		r.t.Fatal(err)
	}
	s.Ship(&Stream{SID: r.sid, Session: r.id, Envelope: ledger.EntryHash(r.env), Head: head, Ended: true, Told: n})
	r.finished(store, head)
	return head
}

// What is stored is much smaller than what was recorded, holds exactly that, and a reader may start in the middle; over a line that fails half of the time, too.
func TestAStreamIsFolded(t *testing.T) {
	for _, bad := range []bool{false, true} {
		j, _ := openJournal(t, journal.Config{Dir: t.TempDir(), SegmentSize: 4 << 20, Segments: 6})
		store := newStore(t)
		s, stop := begin(t, j, store)
		if bad {
			store.rand = rand.New(rand.NewPCG(5, 6))
		}
		var all []*folded
		for i := range 3 {
			all = append(all, recordFolded(t, j, s, name.SessionID(fmt.Sprintf("k7f-2mq/%d", i+1))))
		}
		text := int64(0)
		for i := range 60 {
			for _, r := range all {
				b := r.lines(1 + r.rand.IntN(30_000))
				if i%3 == 0 {
					b = b[:min(len(b), 3)] // a key is pressed
				}
				if err := r.say(b); err != nil {
					t.Fatal(err)
				}
			}
			time.Sleep(5 * time.Millisecond)
		}
		for _, r := range all {
			r.over(s, store)
			chunks, records, size := r.whole(store, keyOf(r.rec), len(r.said), true)
			t.Logf("bad line %v: %d bytes of records in %d, %d chunks and %d records", bad, r.size, size, chunks, records)
			if chunks == 0 || size > r.size*2/3 {
				t.Errorf("%d bytes of records in %d, %d chunks", r.size, size, chunks)
			}
			text += size
		}
		store.is("forgotten", func() bool { return len(j.Streams()) == 0 })
		stop()
		j.Close()
	}
}

// A short session, over before anything of it was shipped, is folded at its end.
func TestAShortSessionIsFolded(t *testing.T) {
	j, _ := openJournal(t, journal.Config{Dir: t.TempDir(), SegmentSize: 1 << 20, Segments: 4})
	defer j.Close()
	store := newStore(t)
	s, _ := begin(t, j, store)
	r := recordFolded(t, j, s, "k7f-2mq/1")
	for range 5 {
		if err := r.say(bytes.Repeat([]byte("total 0\r\n"), 100)); err != nil {
			t.Fatal(err)
		}
	}
	r.over(s, store)
	if chunks, records, size := r.whole(store, keyOf(r.rec), 5, true); chunks != 1 || records != 0 {
		t.Errorf("%d chunks, %d records, %d bytes", chunks, records, size)
	}
}

// An idle session's encoder goes back; when it goes on, its chunks are understood.
func TestEncodersRest(t *testing.T) {
	j, _ := openJournal(t, journal.Config{Dir: t.TempDir(), SegmentSize: 1 << 20, Segments: 12})
	defer j.Close()
	store := newStore(t)
	s, _ := begin(t, j, store)
	var all []*folded
	for i := range maxWarm + 10 {
		all = append(all, recordFolded(t, j, s, name.SessionID(fmt.Sprintf("k7f-2mq/%d", i+1))))
	}
	say := func() {
		for _, r := range all {
			for range 10 {
				if err := r.say([]byte("the same text each time, to be small\r\n")); err != nil {
					t.Fatal(err)
				}
			}
		}
		for _, r := range all {
			store.is("stored", func() bool { n, _ := s.Behind(); return n == 0 })
			_ = r
		}
	}
	say()
	s.mu.Lock()
	if n := len(s.warm); n == 0 || n > maxWarm {
		t.Errorf("%d warm", n)
	}
	for _, l := range s.warm {
		l.foldedAt = time.Now().Add(-time.Hour)
	}
	s.mu.Unlock()
	s.coolAll()
	s.mu.Lock()
	if len(s.warm) != 0 {
		t.Errorf("%d warm after a while", len(s.warm))
	}
	s.mu.Unlock()
	say()
	for _, r := range all {
		r.over(s, store)
		if chunks, _, _ := r.whole(store, keyOf(r.rec), 20, true); chunks < 2 {
			t.Errorf("%d chunks", chunks)
		}
	}
}

// The power is cut while chunks are being made, kept and sent: the store ends with all that was acknowledged, in a stream that its key opens, under the head
// that was told.
func TestPowerCutsWhileFolding(t *testing.T) {
	rounds := cuts(t, 40)
	chunks := 0
	for seed := range uint64(rounds) {
		r := rand.New(rand.NewPCG(seed, 17))
		d := &disk{files: map[string]*diskFile{}}
		cfg := journal.Config{FS: d, SegmentSize: 64 << 10, Segments: 6, Reserve: 16 << 10}
		j, _ := openJournal(t, cfg)
		store := newStore(t)
		if seed%8 == 0 {
			store.rand = rand.New(rand.NewPCG(seed, 19))
		}
		s, stop := begin(t, j, store)
		s.trimming = 40 << 10
		rec := recordFolded(t, j, s, "k7f-2mq/1")
		key := keyOf(rec.rec)
		acked := 0
		var wg sync.WaitGroup
		wg.Go(func() {
			for {
				n := r.IntN(6000) + 1
				if left, _ := j.Room(); left < int64(n)+4096 {
					time.Sleep(time.Millisecond)
					if j.Err() != nil {
						return
					}
					continue
				}
				if err := rec.say(rec.lines(n)); err != nil {
					return
				}
				acked++
			}
		})
		time.Sleep(time.Duration(5+seed%40) * time.Millisecond)
		next := d.cut(rand.New(rand.NewPCG(seed, 9)))
		wg.Wait()
		stop()
		j.Close()

		cfg.FS = next
		j, _ = openJournal(t, cfg)
		st, err := Inspect(j, rec.sid)
		if err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		s, stop = begin(t, j, store)
		if err := j.Append(journal.Entry{Stream: rec.sid, Kind: KindTold, Data: Mark(1), Last: true}); err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		st.Told = 1
		s.Ship(st)
		rec.finished(store, st.Head)
		c, _, _ := rec.whole(store, key, acked, false)
		chunks += c
		stop()
		j.Close()
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
	}
	t.Logf("%d cuts, %d chunks", rounds, chunks)
	if chunks < rounds/8 {
		t.Error("too few chunks: the test shows nothing")
	}
}

// What the journal says of chunks isn't believed where it can't be so.
func TestInspectRefusesChunks(t *testing.T) {
	chunk := func(from, to uint64, size int64, at uint64) []byte {
		f := []byte{0, 0, 0, 40, byte(transcript.TypeChunk)}
		return append(cover{from, to, size, at}.append(nil), append(f, make([]byte, 39)...)...)
	}
	for what, c := range map[string]struct{ entries [][]byte }{
		"of the header":            {[][]byte{chunk(0, 3, 10, 4)}},
		"of nothing":               {[][]byte{chunk(3, 3, 10, 4)}},
		"of what is to come":       {[][]byte{chunk(2, 9, 10, 4)}},
		"of no bytes":              {[][]byte{chunk(2, 3, 0, 4)}},
		"of more than fits":        {[][]byte{chunk(2, 3, transcript.MaxFold+1, 4)}},
		"of what another holds":    {[][]byte{chunk(2, 4, 10, 4), chunk(3, 4, 10, 5)}},
		"without a frame":          {[][]byte{chunk(2, 3, 10, 4)[:coverHead]}},
		"with something behind it": {[][]byte{append(chunk(2, 3, 10, 4), 0)}},
		"too short":                {[][]byte{{1, 2, 3}}},
	} {
		j, _ := openJournal(t, journal.Config{Dir: t.TempDir(), SegmentSize: 1 << 20, Segments: 3})
		r := record(t, j, "k7f-2mq/1")
		r.output(100)
		r.output(100)
		for _, e := range c.entries {
			r.add(KindChunk, e)
		}
		if st, err := Inspect(j, r.sid); !errors.Is(err, errCover) && (err == nil || what != "of what another holds") {
			t.Errorf("%s: %+v, %v", what, st, err)
		}
		j.Close()
	}
}

func FuzzCover(f *testing.F) {
	f.Add(uint64(4), append(cover{2, 4, 100, 4}.append(nil), append([]byte{0, 0, 0, 2, byte(transcript.TypeChunk)}, 0)...))
	f.Add(uint64(0), []byte{})
	f.Fuzz(func(t *testing.T, n uint64, b []byte) {
		c, frame, err := parseCover(n, b)
		if err != nil {
			return
		}
		if c.from < 2 || c.to <= c.from || c.at != n || !bytes.Equal(append(c.append(nil), frame...), b) {
			t.Errorf("%+v of %x", c, b)
		}
	})
}
