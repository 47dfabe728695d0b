package ship

import (
	"errors"
	"fmt"
	"math"
	"time"

	"breakglass/internal/statement"
	"breakglass/jump/journal"
	"breakglass/ledger"
	"breakglass/transcript"
)

const (
	// littleFold isn't worth a chunk's own 50 bytes and its flush.
	littleFold = 200
	// foldBehind is a backlog with which records go as they are: zstd costs more than all the rest of the way, and a stream that is behind must come up. At an
	// end as much of it is folded.
	foldBehind = 16 << 20
	// largeFold: one at a time folds as much as that, or more, so that the processors stay with the sessions.
	largeFold = 64 << 10
	// After data that zstd can't shrink, firstPlain bytes go by unfolded before it is tried again, the next time twice as much, up to maxPlain.
	firstPlain, maxPlain = 4 << 20, 64 << 20
	// maxWarm sessions keep their encoder (600 KiB) between two chunks, for restAfter: what they go on with is smaller for it.
	maxWarm   = 64
	restAfter = 5 * time.Second
)

// folding is what a line knows of its folder. It belongs to whoever has the line's turn.
type folding struct {
	folder  *transcript.Folder // nil: no more
	plan    []cover            // of what isn't stored yet
	decided uint64             // entries below go as the plan says; those behind it may still be folded
	skip    int64              // bytes to let by
	plain   int64              // how many it was at last
	broken  error              // what the journal holds isn't known
}

// fold folds one chunk of what is durable and not decided, if that is worth it. It says whether records that aren't decided go as they are in this turn.
func (s *Shipper) fold(l *line, b *buffers, backlog int64) (plain bool, err error) {
	if l.folder == nil {
		return true, nil
	}
	if l.at.next < l.decided || l.at.partial != 0 {
		return false, nil // that goes first
	}
	left, all := s.cfg.Journal.Room()
	if backlog > foldBehind || left < all/4 {
		return true, nil
	}
	return s.foldNext(l, b, l.at.next)
}

// foldNext folds what lies from an entry on.
func (s *Shipper) foldNext(l *line, b *buffers, from uint64) (plain bool, err error) {
	buf := b.piece[:0]
	most := min(cap(buf), transcript.MaxFold)
	var frames [][]byte
	c := cover{}
	for e, err := range s.cfg.Journal.Tail(l.sid, from, b.window) {
		if err != nil {
			return false, err
		}
		if e.Kind != KindFrame {
			continue
		}
		if t := transcript.FrameType(e.Data[4]); t == transcript.TypeHeader {
			continue
		} else if t != transcript.TypeRecord {
			break // the end
		}
		if len(buf)+len(e.Data) > most {
			break
		}
		if len(frames) == 0 {
			c.from = e.N
		}
		buf = append(buf, e.Data...)
		frames = append(frames, buf[len(buf)-len(e.Data):])
		c.to, c.size = e.N+1, c.size+int64(len(e.Data))
	}
	if c.size < littleFold || l.skip > 0 {
		l.skip -= c.size
		return true, nil
	}
	if c.size >= largeFold {
		select {
		case s.folds <- struct{}{}:
			defer func() { <-s.folds }()
		case <-s.ctx.Done():
			return false, s.ctx.Err()
		}
	}
	chunk, err := l.folder.Fold(frames)
	switch {
	case errors.Is(err, transcript.ErrNoGain):
		if c.size >= largeFold {
			l.plain = min(maxPlain, max(firstPlain, 2*l.plain))
			l.skip = l.plain
		}
		return true, nil
	case err != nil: // the folder is closed; the records are good as they are
		s.cfg.Logger.Warn("recording goes uncompressed", "session", l.session, "error", err)
		l.folder = nil
		return true, nil
	}
	l.plain = 0
	c.at, err = s.cfg.Journal.AppendNumbered(journal.Entry{Stream: l.sid, Kind: KindChunk, Data: append(c.append(make([]byte, 0, coverHead+len(chunk))), chunk...)})
	if err != nil {
		l.endFolding()
		if errors.Is(err, journal.ErrFull) { // it isn't there
			return true, nil
		}
		// Whether it is there isn't known, so neither is how the stream goes on: who reads the journal at the next start finds out.
		l.broken = fmt.Errorf("keeping a chunk: %w", err)
		return false, l.broken
	}
	l.plan = append(l.plan, c)
	l.decided = c.to
	s.warmed(l)
	return false, nil
}

// warmed keeps the encoders of those that folded last.
func (s *Shipper) warmed(l *line) {
	s.mu.Lock()
	defer s.mu.Unlock()
	l.foldedAt = time.Now()
	if !l.warm {
		l.warm = true
		s.warm = append(s.warm, l)
	}
	if len(s.warm) > maxWarm {
		first := 0
		for i, o := range s.warm {
			if o.foldedAt.Before(s.warm[first].foldedAt) {
				first = i
			}
		}
		s.cool(first)
	}
	if !s.cooling {
		s.cooling = true
		time.AfterFunc(restAfter, s.coolAll)
	}
}

// cool has the folder of s.warm[i] rest.
func (s *Shipper) cool(i int) {
	l := s.warm[i]
	l.warm = false
	s.warm[i] = s.warm[len(s.warm)-1]
	s.warm[len(s.warm)-1] = nil
	s.warm = s.warm[:len(s.warm)-1]
	go l.rest()
}

func (s *Shipper) coolAll() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := len(s.warm) - 1; i >= 0; i-- {
		if l := s.warm[i]; l.gone || time.Since(l.foldedAt) >= restAfter {
			s.cool(i)
		}
	}
	s.cooling = len(s.warm) > 0 && s.ctx.Err() == nil
	if s.cooling {
		time.AfterFunc(restAfter, s.coolAll)
	}
}

// Close decides how the rest of a followed stream goes to the store, and gives the head of the whole: its END is durable, or it has none and gets none. Nothing is folded
// after that, and nothing shipped until its end is told (Ship).
func (s *Shipper) Close(sid journal.SID) (ledger.Head, error) {
	s.still(sid, closePatience)
	s.mu.Lock()
	l := s.lines[sid]
	s.mu.Unlock()
	if l == nil {
		st, err := Inspect(s.cfg.Journal, sid)
		if err != nil {
			return ledger.Head{}, err
		}
		return st.Head, nil
	}
	if l.broken != nil {
		return ledger.Head{}, l.broken
	}
	b := s.large.Get().(*buffers)
	defer s.large.Put(b)
	l.skip = 0
	for from, n := max(l.at.next, l.decided), int64(0); l.folder != nil && l.at.partial == 0 && n < foldBehind; {
		if left, all := s.cfg.Journal.Room(); left < all/4 {
			break
		}
		plain, err := s.foldNext(l, b, from)
		if err != nil {
			return ledger.Head{}, err
		}
		if plain {
			break
		}
		c := l.plan[len(l.plan)-1]
		from, n = c.to, n+c.size
	}
	l.endFolding()
	l.decided = math.MaxUint64
	head := l.at.head
	bytes := l.at.bytes
	for p, err := range walk(s.cfg.Journal, sid, l.at.next, l.plan, b.window, nil) {
		if err != nil {
			return ledger.Head{}, err
		}
		head = head.Add(p.frame)
		bytes += int64(len(p.frame))
	}
	return ledger.Head{Frames: int64(head.Frames), Chain: statement.Hash(head.Chain), Bytes: bytes}, nil
}

// endFolding forgets the key.
func (l *line) endFolding() {
	if l.folder != nil {
		l.folder.Close()
		l.folder = nil
	}
}
