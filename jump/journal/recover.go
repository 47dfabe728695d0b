package journal

import (
	"cmp"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"slices"
)

// Recovered is what Open found.
type Recovered struct {
	// Streams aren't forgotten: their sessions were cut, or weren't shipped yet.
	Streams []Stream
	// Entries is how many were read.
	Entries int
	// Torn says that the newest segment ends in the middle of a batch, which nobody had been told of.
	Torn bool
	// Damage lists places where acknowledged entries are lost. Empty on any disk that keeps its word.
	Damage []Damage
}

// Damage is one place in a segment.
type Damage struct {
	Segment string
	Offset  int64
	What    string
}

// Open takes the journal over, reads what is in it and reserves its room. The error is ErrLocked if another process has it.
func Open(c Config) (_ *Journal, rec Recovered, err error) {
	if c.FS == nil {
		c.FS = &dirFS{dir: c.Dir}
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	c.SegmentSize = cmp.Or(c.SegmentSize, DefaultSegmentSize)
	c.Segments = cmp.Or(c.Segments, DefaultSegments)
	c.Reserve = cmp.Or(c.Reserve, c.SegmentSize/2)
	switch {
	case c.Segments < minSegments:
		return nil, rec, fmt.Errorf("opening journal: %d segments, at least %d", c.Segments, minSegments)
	case c.SegmentSize < headerSize+entrySize+endSize || c.SegmentSize%8 != 0:
		return nil, rec, fmt.Errorf("opening journal: segments of %d bytes", c.SegmentSize)
	}
	if err := c.FS.Lock(); err != nil {
		return nil, rec, fmt.Errorf("opening journal: %w", err)
	}
	j := &Journal{fs: c.FS, log: c.Logger, reserve: c.Reserve, streams: map[SID]*stream{}, stopped: make(chan struct{})}
	j.wake.L, j.drained.L = &j.mu, &j.mu
	defer func() {
		if err != nil {
			for _, s := range j.segments {
				s.file.Close()
			}
			j.fs.Unlock()
		}
	}()
	if err := j.load(c, &rec); err != nil {
		return nil, rec, fmt.Errorf("opening journal: %w", err)
	}
	j.recycle()
	rec.Streams = j.Streams()
	go j.commit()
	return j, rec, nil
}

func (j *Journal) load(c Config, rec *Recovered) error {
	names, err := c.FS.Names()
	if err != nil {
		return err
	}
	known := false
	for _, name := range names {
		f, err := c.FS.Open(name)
		if err != nil {
			return err
		}
		s := &segment{name: name, file: f}
		j.segments = append(j.segments, s)
		if s.size, err = f.Size(); err != nil {
			return err
		}
		if s.size < headerSize+entrySize+endSize {
			return fmt.Errorf("%s: %d bytes are no segment", name, s.size)
		}
		b := make([]byte, headerSize)
		if _, err := f.ReadAt(b, 0); err != nil {
			return err
		}
		id, gen, fresh, ok := parseHeader(b)
		switch {
		case !ok:
			// Not used again, lest what is in it be lost for whoever can still make sense of it.
			rec.Damage = append(rec.Damage, Damage{name, 0, "header unreadable; the segment is set aside"})
			j.setAside(s)
			continue
		case fresh:
			s.free = true
			continue
		case known && id != j.id:
			return fmt.Errorf("%s belongs to another journal", name)
		}
		j.id, known = id, true
		s.gen = gen
		j.gen = max(j.gen, gen)
	}
	if !known {
		rand.Read(j.id[:])
	}

	var used []*segment
	for _, s := range j.segments {
		if !s.free {
			used = append(used, s)
		}
	}
	slices.SortFunc(used, func(a, b *segment) int { return cmp.Compare(a.gen, b.gen) })
	for i, s := range used {
		if i > 0 && used[i-1].gen == s.gen {
			return fmt.Errorf("%s and %s are of one generation: one is a copy", used[i-1].name, s.name)
		}
		if err := j.scan(s, i == len(used)-1, rec); err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
	}
	// Trims after all entries, since a trim may lie before damage that hid its stream.
	for _, s := range used {
		for sid, n := range s.trims {
			st := j.streams[sid]
			if st == nil {
				st = &stream{}
				j.streams[sid] = st
			}
			// All below n were there once, even if their segment was used again.
			st.trimmed = max(st.trimmed, n)
			st.next = max(st.next, n)
			st.written = st.next
		}
	}

	// Room is taken now: a full disk shows before anything is promised.
	// One is free in any case. A crash may have come when the last was in use, and it isn't continued: without another nothing could be told of what
	// is in the journal, so that it could never leave.
	j.recycle()
	want := c.Segments
	if !slices.ContainsFunc(j.segments, func(s *segment) bool { return s.free }) {
		want = max(want, len(j.segments)+1)
	}
	for i := 0; len(j.segments) < want; i++ {
		name := fmt.Sprintf("%s%04d", segmentPrefix, i)
		if slices.Contains(names, name) {
			continue
		}
		f, err := c.FS.Create(name, c.SegmentSize)
		if err != nil {
			return fmt.Errorf("reserving %d bytes for %s: %w", c.SegmentSize, name, err)
		}
		j.segments = append(j.segments, &segment{name: name, file: f, size: c.SegmentSize, free: true})
	}
	return nil
}

// setAside takes a segment out of the journal's hands.
func (j *Journal) setAside(s *segment) {
	j.segments = slices.DeleteFunc(j.segments, func(o *segment) bool { return o == s })
	s.file.Close()
	j.log.Error("journal segment set aside", "segment", s.name)
}

// scan reads a segment of a former run. newest: its tail may be torn.
func (j *Journal) scan(s *segment, newest bool, rec *Recovered) error {
	s.streams, s.trims = map[SID]*span{}, map[SID]uint64{}
	w := newWindow(s.file, s.size)
	x := extent{headerSize, headerSize}
	var last placed // the last good entry
	var any, closed bool
	for off := int64(headerSize); ; {
		p, size, err := w.entry(off, s.gen)
		if err != nil && !errors.Is(err, ErrDamaged) {
			return err
		}
		if err == nil {
			at := off
			off += size
			if p.Kind == kindEnd {
				closed = true
				break
			}
			any, last = true, p
			x.to = off
			j.found(s, p, at)
			rec.Entries++
			continue
		}
		// Nothing readable here. Is there anything behind that was written after this was acknowledged?
		to, q, err := resync(w, off, s.gen)
		if err != nil {
			return err
		}
		torn := last.batch // the batch that is incomplete here
		if !any || last.left == 0 {
			torn++
		}
		if to == 0 || q.Kind != kindEnd && q.batch <= torn {
			break
		}
		rec.Damage = append(rec.Damage, Damage{s.name, off, fmt.Sprintf("unreadable up to byte %d", to)})
		s.ranges = append(s.ranges, x)
		x = extent{to, to}
		off = to
	}
	s.ranges = append(s.ranges, x)
	if closed {
		return nil
	}
	if !newest {
		rec.Damage = append(rec.Damage, Damage{s.name, x.to, "the segment's end is missing"})
	}
	rec.Torn = rec.Torn || last.left > 0
	// Close it, so that the next recovery knows that its tail was looked at.
	if x.to+endSize <= s.size {
		return closeSegment(s, x.to, s.gen)
	}
	return nil
}

// resync finds the next place behind off that parses as an entry of this generation, or 0. Entries torn out of the middle of
// the last batch parse too; the caller tells them by their batch.
func resync(w *window, off int64, gen uint64) (int64, placed, error) {
	var found int64
	var best placed
	for off += 8; off+entrySize <= w.end; off += 8 {
		b, err := w.at(off, entrySize)
		if err != nil {
			return 0, best, err
		}
		if binary.BigEndian.Uint64(b[8:]) != gen {
			continue
		}
		p, size, err := w.entry(off, gen)
		if errors.Is(err, ErrDamaged) {
			continue
		}
		if err != nil {
			return 0, best, err
		}
		if found == 0 || p.Kind == kindEnd || p.batch > best.batch {
			if found == 0 {
				found = off
			}
			best = p
			best.Data = nil
		}
		off += size - 8
	}
	return found, best, nil
}

// found counts in an entry of a former run.
func (j *Journal) found(s *segment, p placed, off int64) {
	j.seq = max(j.seq, p.seq+1)
	if p.Kind == kindTrim {
		if len(p.Data) == 8 {
			n := binary.BigEndian.Uint64(p.Data)
			s.trims[p.Stream] = max(s.trims[p.Stream], n)
		}
		return
	}
	st := j.streams[p.Stream]
	if st == nil {
		st = &stream{}
		j.streams[p.Stream] = st
	}
	st.next = max(st.next, p.N+1)
	st.written = st.next
	s.add(p.Stream, p.N, off, int64(len(p.Data)))
}
