package journal

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"slices"
	"sync"
)

// Config says where a journal lies and how large it is.
type Config struct {
	// Dir is the journal's directory, on a filesystem of its own. It is made if missing.
	Dir string
	// FS replaces Dir in tests.
	FS FS
	// SegmentSize and Segments say how much is reserved when Open makes the journal. An existing one only grows.
	SegmentSize int64
	Segments    int
	// Reserve is kept for entries marked Last; half a segment if 0.
	Reserve int64
	Logger  *slog.Logger
}

// Journal is open until Close. It may be used from many goroutines.
type Journal struct {
	fs  FS
	log *slog.Logger
	id  [16]byte

	mu       sync.Mutex
	wake     sync.Cond // for the committer
	drained  sync.Cond // for whoever waits for memory
	segments []*segment
	streams  map[SID]*stream
	reserve  int64
	tail     *segment // where the next entry goes
	off      int64
	gen      uint64 // of the last segment taken into use
	seq      uint64
	queue    []waiting
	flight   []waiting // being written
	queued   int64
	closing  bool
	err      error
	stopped  chan struct{}
	durable  func(Entry) // Notify
	rolled   func()
}

// stream is what is known of a stream as a whole.
type stream struct {
	next    uint64 // n of the next entry
	trimmed uint64 // entries below are forgotten
	written uint64 // entries below are durable
}

// waiting is an entry that has its place and waits for its flush.
type waiting struct {
	placed
	seg  *segment
	off  int64
	done func(error)
}

// Append returns when the entry is durable.
func (j *Journal) Append(e Entry) error {
	c := make(chan error, 1)
	if err := j.AppendAsync(e, func(err error) { c <- err }); err != nil {
		return err
	}
	return <-c
}

// AppendNumbered is Append, and says which number of its stream the entry got.
func (j *Journal) AppendNumbered(e Entry) (n uint64, err error) {
	c := make(chan error, 1)
	if n, err = j.appendAsync(e, func(err error) { c <- err }); err != nil {
		return 0, err
	}
	return n, <-c
}

// AppendAsync gives the entry its place and returns; done is called when it is durable, or with the error. If
// AppendAsync itself returns an error, done isn't called. Entries of a stream become durable, and done is called, in the
// order in which AppendAsync was called. e.Data must not change until then; done must not wait.
func (j *Journal) AppendAsync(e Entry, done func(error)) error {
	_, err := j.appendAsync(e, done)
	return err
}

func (j *Journal) appendAsync(e Entry, done func(error)) (n uint64, err error) {
	if e.Kind >= kindOwn {
		return 0, fmt.Errorf("journal entry of kind %#x, which is the journal's own", byte(e.Kind))
	}
	if len(e.Data) > MaxEntry {
		return 0, fmt.Errorf("journal entry of %d bytes, at most %d", len(e.Data), MaxEntry)
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	for j.queued > maxWaiting && j.err == nil && !j.closing {
		j.drained.Wait()
	}
	if err := j.place(e, done); err != nil {
		return 0, err
	}
	return j.streams[e.Stream].next - 1, nil
}

// place puts e at the tail. Placing here, and not when it is flushed, makes ErrFull certain before anything is taken.
func (j *Journal) place(e Entry, done func(error)) error {
	if j.err != nil {
		return j.err
	}
	if j.closing {
		return ErrClosed
	}
	n := room(len(e.Data))
	seg, off := j.tail, j.off
	var carry []Entry
	var left int64
	for _, s := range j.segments {
		if s.free {
			left += s.size - headerSize - endSize
		}
	}
	if seg == nil || off+n+endSize > seg.size {
		// The tail's rest is lost. Take the free segment that was used longest ago.
		seg = j.nextFree()
		if seg == nil {
			return ErrFull
		}
		left -= seg.size - headerSize - endSize
		carry = j.neededTrims(seg)
		off = headerSize + int64(len(carry))*room(trimLen)
		if off+n+endSize > seg.size {
			return ErrFull
		}
	}
	if left += seg.size - endSize - off - n; left < j.reserve && !e.Last {
		return ErrFull
	}
	if seg != j.tail {
		j.gen++
		seg.gen, seg.free = j.gen, false
		seg.ranges = []extent{{headerSize, headerSize}}
		seg.streams, seg.trims = map[SID]*span{}, map[SID]uint64{}
		j.tail = seg
		j.recycle() // what was left in it no longer holds anything
	}
	for i, t := range carry {
		j.put(t, headerSize+int64(i)*room(trimLen), func(error) {})
	}
	j.put(e, off, done)
	j.wake.Signal()
	return nil
}

// put queues an entry for its place in the tail.
func (j *Journal) put(e Entry, off int64, done func(error)) {
	n := room(len(e.Data))
	j.off = off + n
	p := placed{Entry: e, gen: j.tail.gen, seq: j.seq}
	j.seq++
	if e.Kind < kindOwn {
		st := j.streams[e.Stream]
		if st == nil {
			st = &stream{}
			j.streams[e.Stream] = st
		}
		p.N = st.next
		st.next++
		j.tail.add(e.Stream, p.N, off, int64(len(e.Data)))
	}
	j.queue = append(j.queue, waiting{p, j.tail, off, done})
	j.queued += n
}

// trimLen is the length of a trim's data.
const trimLen = 8

func trim(sid SID, n uint64) Entry {
	return Entry{Stream: sid, Kind: kindTrim, Data: binary.BigEndian.AppendUint64(nil, n), Last: true}
}

// neededTrims gives the trims in s that speak of entries in other segments. When s is used again they are its first
// entries, else one long session would keep every segment in which others were forgotten. Should the power go between the
// header and them, entries come back that were trimmed: allowed, and seen by Stream.First.
func (j *Journal) neededTrims(s *segment) []Entry {
	var es []Entry
	for sid := range s.trims {
		if slices.ContainsFunc(j.segments, func(o *segment) bool { return o != s && o.streams[sid] != nil }) {
			es = append(es, trim(sid, j.streams[sid].trimmed))
		}
	}
	return es
}

// add counts an entry into the segment.
func (s *segment) add(sid SID, n uint64, off, bytes int64) {
	sp := s.streams[sid]
	if sp == nil {
		sp = &span{first: n}
		s.streams[sid] = sp
	}
	sp.last = n
	sp.bytes += bytes
	sp.place(n, off, room(int(bytes)))
}

func (j *Journal) nextFree() *segment {
	var best *segment
	for _, s := range j.segments {
		if s.free && (best == nil || s.gen < best.gen) {
			best = s
		}
	}
	return best
}

// commit is the one writer: it takes whatever has arrived, writes it, flushes once, and tells. It uses no timer: while it
// flushes, the next batch gathers.
func (j *Journal) commit() {
	defer close(j.stopped)
	var buf []byte
	var cur *segment
	var at int64          // where cur's next entry goes
	var gen, batch uint64 // of cur; batches count from 1 in each generation
	for {
		j.mu.Lock()
		for len(j.queue) == 0 && !j.closing {
			j.wake.Wait()
		}
		if len(j.queue) == 0 {
			j.mu.Unlock()
			return
		}
		// One batch lies in one segment.
		n, size := 0, int64(0)
		for n < len(j.queue) && j.queue[n].gen == j.queue[0].gen {
			size += room(len(j.queue[n].Data))
			if n > 0 && size > maxBatch {
				break
			}
			n++
		}
		ws := slices.Clone(j.queue[:n])
		rest := copy(j.queue, j.queue[n:])
		clear(j.queue[rest:])
		j.queue = j.queue[:rest]
		j.flight = ws
		durable, rolled := j.durable, j.rolled
		j.mu.Unlock()

		var err error
		if ws[0].gen != gen {
			err = j.roll(cur, at, gen, ws[0].seg, ws[0].gen)
			cur, gen, batch = ws[0].seg, ws[0].gen, 0
			if rolled != nil {
				rolled()
			}
		}
		batch++
		buf = buf[:0]
		for i := range ws {
			p := ws[i].placed // a copy: others look into flight
			p.batch, p.left = batch, uint32(len(ws)-1-i)
			buf = p.append(buf)
		}
		if err == nil {
			_, err = cur.file.WriteAt(buf, ws[0].off)
		}
		if err == nil {
			err = cur.file.Datasync()
		}
		at = ws[0].off + int64(len(buf))
		if err != nil {
			j.fail(fmt.Errorf("%w: %s: %w", ErrFailed, cur.name, err), ws)
			return
		}
		j.mu.Lock()
		cur.ranges[0].to = at
		j.queued -= int64(len(buf))
		trims := false
		for i := range ws {
			j.written(&ws[i])
			trims = trims || ws[i].Kind == kindTrim
		}
		j.flight = nil
		if trims {
			j.recycle()
		}
		j.drained.Broadcast()
		j.mu.Unlock()
		for i := range ws {
			ws[i].done(nil)
			if durable != nil && ws[i].Kind < kindOwn {
				durable(ws[i].Entry)
			}
		}
		if cap(buf) > 4*maxBatch {
			buf = nil
		}
	}
}

// written brings what is known up to what is durable.
func (j *Journal) written(w *waiting) {
	st := j.streams[w.Stream]
	if w.Kind != kindTrim {
		st.written = w.N + 1
		return
	}
	n := binary.BigEndian.Uint64(w.Data)
	w.seg.trims[w.Stream] = n
	if st == nil {
		st = &stream{next: n, written: n}
		j.streams[w.Stream] = st
	}
	st.trimmed = max(st.trimmed, n)
}

// roll closes one segment and takes the next into use. Each is flushed by itself: a header must not become durable before
// the end of the segment before, nor after an entry behind it.
func (j *Journal) roll(old *segment, at int64, oldGen uint64, next *segment, gen uint64) error {
	if old != nil {
		if err := closeSegment(old, at, oldGen); err != nil {
			return err
		}
	}
	if _, err := next.file.WriteAt(header(j.id, gen), 0); err != nil {
		return err
	}
	return next.file.Datasync()
}

// closeSegment writes the end, which says that no entry is missing before it.
func closeSegment(s *segment, at int64, gen uint64) error {
	end := placed{Entry: Entry{Kind: kindEnd}, gen: gen}
	if _, err := s.file.WriteAt(end.append(nil), at); err != nil {
		return err
	}
	return s.file.Datasync()
}

// fail makes err the last word to everybody.
func (j *Journal) fail(err error, ws []waiting) {
	j.log.Error("journal failed; sessions must be cut", "error", err)
	j.mu.Lock()
	j.err = err
	ws = append(ws, j.queue...)
	j.queue = nil
	j.drained.Broadcast()
	j.mu.Unlock()
	for _, w := range ws {
		w.done(err)
	}
}

// Forget says that all of a stream's entries are safe elsewhere.
func (j *Journal) Forget(sid SID) error {
	j.mu.Lock()
	st := j.streams[sid]
	var n uint64
	if st != nil {
		n = st.written
	}
	j.mu.Unlock()
	if st == nil {
		return nil
	}
	return j.Trim(sid, n)
}

// Trim says that the entries of a stream below number n are safe elsewhere: segments in which nothing else lies are used
// again. It returns when that is durable. After a crash a trimmed entry may come back, with all after it: what was done
// with it must bear repeating.
func (j *Journal) Trim(sid SID, n uint64) error {
	c := make(chan error, 1)
	j.mu.Lock()
	st := j.streams[sid]
	if st == nil || n <= st.trimmed {
		j.mu.Unlock()
		return nil
	}
	if n > st.written {
		j.mu.Unlock()
		return fmt.Errorf("trimming stream %v to %d, of which %d are durable", sid, n, st.written)
	}
	err := j.place(trim(sid, n), func(err error) { c <- err })
	if errors.Is(err, ErrFull) {
		// Not even room to say so. The entries go all the same: that is the only way to get room again. Should they come back
		// after a crash, then from some number on (Stream.First): whoever ships them asks the store first.
		st.trimmed = n
		j.recycle()
		err = nil
		c <- nil
	}
	j.mu.Unlock()
	if err != nil {
		return err
	}
	return <-c
}

// recycle frees the segments that nobody needs. What is in them is still on the disk, and would be read after a crash,
// until they are used again: so what they hold stays known until then. A stream's numbers begin anew only when nothing on the
// disk speaks of it any more; else an old trim could take new entries with it.
func (j *Journal) recycle() {
	for _, s := range j.segments {
		if !s.free && s != j.tail && !j.inQueue(func(w waiting) bool { return w.seg == s }) && j.unneeded(s) {
			s.free = true
		}
	}
	for sid, st := range j.streams {
		if st.trimmed == st.next && !j.lies(sid) && !j.inQueue(func(w waiting) bool { return w.Stream == sid }) {
			delete(j.streams, sid)
		}
	}
}

// inQueue says whether an entry that isn't durable yet meets f.
func (j *Journal) inQueue(f func(waiting) bool) bool {
	return slices.ContainsFunc(j.flight, f) || slices.ContainsFunc(j.queue, f)
}

// unneeded: all its entries are trimmed.
func (j *Journal) unneeded(s *segment) bool {
	for sid, sp := range s.streams {
		if st := j.streams[sid]; st != nil && sp.last >= st.trimmed {
			return false
		}
	}
	return true
}

// lies says whether any segment speaks of sid.
func (j *Journal) lies(sid SID) bool {
	for _, o := range j.segments {
		if _, trim := o.trims[sid]; trim || o.streams[sid] != nil {
			return true
		}
	}
	return false
}

// Stream is a stream that isn't forgotten.
type Stream struct {
	SID   SID
	First uint64 // number of the first entry that is still here; more than 0 if it was trimmed
	Next  uint64 // number of the next entry
}

// Streams lists what isn't forgotten, in the order of their ids.
func (j *Journal) Streams() []Stream {
	j.mu.Lock()
	defer j.mu.Unlock()
	var ss []Stream
	for sid, st := range j.streams {
		if st.trimmed < st.written {
			ss = append(ss, Stream{sid, j.first(sid, st), st.written})
		}
	}
	slices.SortFunc(ss, func(a, b Stream) int { return slices.Compare(a.SID[:], b.SID[:]) })
	return ss
}

func (j *Journal) first(sid SID, st *stream) uint64 {
	first := st.written
	for _, s := range j.segments {
		if sp := s.streams[sid]; sp != nil {
			first = min(first, sp.first)
		}
	}
	return max(first, st.trimmed)
}

// Room says how much may still be appended, and how much there is in all, in bytes.
func (j *Journal) Room() (left, all int64) {
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, s := range j.segments {
		u := s.size - headerSize - endSize
		all += u
		if s.free {
			left += u
		}
	}
	if j.tail != nil {
		left += j.tail.size - endSize - j.off
	}
	return max(left-j.reserve, 0), all
}

// Read gives the durable entries of a stream that aren't trimmed, in order. A gap is ErrDamaged; so is a stream that is
// forgotten while it is being read.
func (j *Journal) Read(sid SID) iter.Seq2[Entry, error] { return j.ReadFrom(sid, 0) }

// ReadFrom is Read from entry number n on.
func (j *Journal) ReadFrom(sid SID, n uint64) iter.Seq2[Entry, error] {
	return func(yield func(Entry, error) bool) {
		for e, err := range j.Tail(sid, n, nil) {
			e.Data = slices.Clone(e.Data)
			if !yield(e, err) {
				return
			}
		}
	}
}

// Tail is ReadFrom without a copy of each entry: its data is good until the next is asked for. It reads pieces of cap(buf) bytes into buf.
func (j *Journal) Tail(sid SID, n uint64, buf []byte) iter.Seq2[Entry, error] {
	return func(yield func(Entry, error) bool) {
		type part struct {
			file    File
			name    string
			gen     uint64
			extents []extent
		}
		var parts []part
		j.mu.Lock()
		st := j.streams[sid]
		if st == nil {
			j.mu.Unlock()
			return
		}
		next, end := max(j.first(sid, st), n), st.written
		for _, s := range j.segments {
			if sp := s.streams[sid]; !s.free && sp != nil && sp.last >= next {
				parts = append(parts, part{s.file, s.name, s.gen, s.extents(sp, next)})
			}
		}
		j.mu.Unlock()
		slices.SortFunc(parts, func(a, b part) int { return cmp.Compare(a.gen, b.gen) })
		for _, p := range parts {
			for _, x := range p.extents {
				w := newWindow(p.file, x.to)
				if cap(buf) > 0 {
					w.b, w.size = buf[:0], cap(buf)
				}
				for off := x.from; off < x.to; {
					e, size, err := w.entry(off, p.gen)
					if err != nil {
						yield(Entry{}, fmt.Errorf("reading %s at %d: %w", p.name, off, err))
						return
					}
					off += size
					if e.Stream != sid || e.Kind >= kindOwn || e.N < next || e.N >= end {
						continue
					}
					if e.N != next {
						yield(Entry{}, fmt.Errorf("%w: stream %v goes from entry %d to %d", ErrDamaged, sid, next, e.N))
						return
					}
					next++
					if !yield(e.Entry, nil) {
						return
					}
				}
			}
		}
		if next < end {
			yield(Entry{}, fmt.Errorf("%w: stream %v ends at entry %d of %d", ErrDamaged, sid, next, end))
		}
	}
}

// entry reads the entry at off, which must be there.
func (w *window) entry(off int64, gen uint64) (placed, int64, error) {
	b, err := w.at(off, entrySize)
	if err == nil && len(b) >= entrySize {
		need := entrySize + int(min(binary.BigEndian.Uint32(b[4:]), MaxEntry))
		if b, err = w.at(off, need); err == nil {
			if p, size, ok := parse(b, gen); ok {
				return p, size, nil
			}
		}
	}
	if err == nil {
		err = ErrDamaged
	}
	return placed{}, 0, err
}

// Close flushes what waits and lets the journal go.
func (j *Journal) Close() error {
	j.mu.Lock()
	if j.closing {
		j.mu.Unlock()
		return ErrClosed
	}
	j.closing = true
	j.wake.Signal()
	j.drained.Broadcast()
	j.mu.Unlock()
	<-j.stopped
	err := j.err
	for _, s := range j.segments {
		err = errors.Join(err, s.file.Close())
	}
	return errors.Join(err, j.fs.Unlock())
}

// Err is the error that made the journal fail, or nil.
func (j *Journal) Err() error {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.err
}
