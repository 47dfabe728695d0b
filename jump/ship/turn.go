package ship

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"breakglass/ca/api"
	"breakglass/internal/statement"
	"breakglass/jump/journal"
	"breakglass/ledger"
	"breakglass/transcript"
)

// position is how far a stream has come.
type position struct {
	next    uint64           // the journal's number of the first entry that the store lacks, or has in part
	frames  int64            // that the store has whole
	bytes   int64            // of them
	partial int64            // of the frame at next
	asked   bool             // the store, since the last error
	sealed  bool             // the envelope is stored
	target  *transcript.Head // uploads stop there, to sign or to mark; nil: nowhere

	headAt    time.Time // of the last head that was signed
	headBytes int64
	trimmed   int64 // bytes that had been stored at the last trim
}

func (p *position) begin(m Shipped) {
	p.next, p.frames, p.bytes, p.sealed, p.trimmed = m.Next, m.Head.Frames, m.Head.Bytes, m.Next > 0, m.Head.Bytes
}

// buffers are a turn's.
type buffers struct{ window, piece []byte }

// result says what is to come.
type result struct {
	more   bool          // at once
	done   bool          // nothing: the recording is stored
	headIn time.Duration // a head, if not 0
}

var (
	// errWaits: the CA hasn't the fact of the end yet.
	errWaits = errors.New("its end is not told yet")
	// errLost says that the store lacks what it had acknowledged.
	errLost = errors.New("the store has lost what it acknowledged")
)

// call bounds one call of the store.
func call(ctx context.Context, f func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	return f(ctx)
}

// turn ships one piece of a line, and what is due with it.
func (s *Shipper) turn(ctx context.Context, l *line, b *buffers) (result, error) {
	s.mu.Lock()
	told, final, old := l.told, l.final, l.old
	s.mu.Unlock()
	p := &l.at
	if !p.asked {
		var have *api.Size
		if err := call(ctx, func(ctx context.Context) (err error) {
			have, err = s.cfg.Store.TranscriptSize(ctx, l.session)
			return err
		}); err != nil {
			return result{}, err
		}
		if have.Finished {
			p.sealed = true // and takes nothing more; but finishing is said again, for the entry may not have been written then
		}
		if err := s.resume(ctx, l, b, have.Size); err != nil {
			return result{}, err
		}
		p.asked = true
	}
	switch {
	case told != 0:
		p.target = nil // its last head is told
	case p.target == nil && s.due(l, old):
		h := l.head()
		p.target = &h
	}
	more, err := s.upload(ctx, l, b)
	if err != nil {
		return result{}, err
	}
	if told != 0 {
		switch {
		case more:
			return result{more: true}, nil
		case p.partial != 0 || p.frames != final.Frames || p.bytes != final.Bytes:
			return result{}, fmt.Errorf("the journal's stream ends at %d frames and %d bytes, told were %d and %d", p.frames, p.bytes, final.Frames, final.Bytes)
		}
		return s.finish(ctx, l, told, final)
	}
	if p.target != nil && uint64(p.frames) == p.target.Frames && p.partial == 0 {
		if err := s.checkpoint(l, old); err != nil {
			return result{}, err
		}
		more = true // perhaps: the target cut it short
	}
	res := result{more: more}
	if p.bytes > p.headBytes {
		res.headIn = max(time.Millisecond, time.Until(p.headAt.Add(l.headEvery())))
	}
	return res, nil
}

// headEvery is the distance of signed heads.
func (l *line) headEvery() time.Duration { return max(headEvery, time.Since(l.began)/headShare) }

// due says whether the stream has come so far that a head is to be signed, or the journal to be trimmed.
func (s *Shipper) due(l *line, old bool) bool {
	p := &l.at
	return old || p.bytes-p.trimmed >= s.trimming || s.headDue(l)
}

func (s *Shipper) headDue(l *line) bool {
	s.mu.Lock()
	grown := l.backlog > 0 || l.at.bytes > l.at.headBytes
	s.mu.Unlock()
	return grown && time.Since(l.at.headAt) >= l.headEvery()
}

// resume finds the place in the journal where the store's part ends.
func (s *Shipper) resume(ctx context.Context, l *line, b *buffers, have int64) error {
	p := &l.at
	before := p.bytes + p.partial
	p.partial = 0
	defer func() { s.has(l, p.bytes+p.partial-before) }()
	if have < p.bytes {
		return fmt.Errorf("%w: it has %d bytes of %d", errLost, have, p.bytes)
	}
	if have == p.bytes {
		return nil
	}
	for e, err := range s.cfg.Journal.Tail(l.sid, p.next, b.window) {
		if err != nil {
			return err
		}
		if e.Kind == KindEnvelope && !p.sealed {
			if err := s.putEnvelope(ctx, l, slices.Clone(e.Data)); err != nil {
				return err
			}
		}
		if e.Kind == KindFrame {
			if p.bytes+int64(len(e.Data)) > have {
				p.partial = have - p.bytes
				return nil
			}
			p.bytes += int64(len(e.Data))
			p.frames++
		}
		p.next = e.N + 1
	}
	if p.bytes != have {
		return fmt.Errorf("the store has %d bytes, the journal's stream ends at %d", have, p.bytes)
	}
	return nil
}

func (s *Shipper) putEnvelope(ctx context.Context, l *line, env []byte) error {
	err := call(ctx, func(ctx context.Context) error { return s.cfg.Store.PutEnvelope(ctx, l.session, env) })
	l.at.sealed = err == nil
	return err
}

// upload sends one piece of whole frames, or of a frame that is larger than a piece, from where the store stands. more says that there is more that is durable.
func (s *Shipper) upload(ctx context.Context, l *line, b *buffers) (more bool, err error) {
	p := &l.at
	to := *p // where the store will stand
	buf := b.piece[:0]
	var envelope []byte
	for e, err := range s.cfg.Journal.Tail(l.sid, p.next, b.window) {
		if err != nil {
			return false, err
		}
		switch {
		case e.Kind == KindEnvelope && !p.sealed:
			envelope = slices.Clone(e.Data)
		case e.Kind == KindFrame:
			if p.target != nil && uint64(to.frames) >= p.target.Frames {
				more = true
			} else if f := e.Data[to.partial:]; len(buf)+len(f) <= cap(buf) {
				buf = append(buf, f...)
				to.bytes += int64(len(e.Data))
				to.frames++
				to.partial = 0
			} else {
				more = true
				if len(buf) == 0 {
					buf = append(buf, f[:cap(buf)]...)
					to.partial += int64(cap(buf))
				}
			}
		}
		if more {
			break
		}
		to.next = e.N + 1
	}
	if envelope != nil {
		if err := s.putEnvelope(ctx, l, envelope); err != nil {
			return false, err
		}
		to.sealed = true
	}
	if len(buf) > 0 {
		if err := call(ctx, func(ctx context.Context) error {
			have, err := s.cfg.Store.PutTranscript(ctx, l.session, p.bytes+p.partial, buf)
			if err == nil && have.Size != to.bytes+to.partial {
				err = fmt.Errorf("the store says %d bytes after a piece up to %d", have.Size, to.bytes+to.partial)
			}
			return err
		}); err != nil {
			return false, err
		}
		s.has(l, to.bytes+to.partial-p.bytes-p.partial)
	}
	*p = to
	return more, nil
}

// checkpoint says, of exactly what the store holds, what the chain is: in a signed fact, and in a mark before the journal is trimmed.
func (s *Shipper) checkpoint(l *line, old bool) error {
	p := &l.at
	head := ledger.Head{Frames: p.frames, Chain: statement.Hash(p.target.Chain), Bytes: p.bytes}
	p.target = nil
	if err := s.sign(l, head); err != nil {
		return err
	}
	if !p.sealed || !old && p.bytes-p.trimmed < s.trimming {
		return nil
	}
	m, err := Shipped{Session: l.session, Envelope: l.envelope, Next: p.next, Head: head}.encode()
	if err != nil {
		return err
	}
	if err := s.cfg.Journal.Append(journal.Entry{Stream: l.sid, Kind: KindShipped, Data: m, Last: true}); err != nil {
		return fmt.Errorf("marking what is stored: %w", err)
	}
	if err := s.cfg.Journal.Trim(l.sid, p.next); err != nil {
		return fmt.Errorf("trimming what is stored: %w", err)
	}
	p.trimmed = p.bytes
	s.mu.Lock()
	l.old = false
	s.mu.Unlock()
	s.stir()
	return nil
}

// sign makes a head a fact, if one is due.
func (s *Shipper) sign(l *line, head ledger.Head) error {
	p := &l.at
	if head.Bytes == p.headBytes || time.Since(p.headAt) < l.headEvery() || s.cfg.Facts.Waiting() >= maxBehind {
		return nil
	}
	l.speak.Lock()
	defer l.speak.Unlock()
	if l.hushed {
		return nil
	}
	if _, err := s.cfg.Facts.Append(&ledger.SessionHead{Head: head}, l.session, nil); err != nil {
		return err
	}
	p.headAt, p.headBytes = time.Now(), head.Bytes
	return nil
}

// finish gives the recording up as whole, when the CA knows the fact that names its head.
func (s *Shipper) finish(ctx context.Context, l *line, told int64, final ledger.Head) (result, error) {
	now, cancel := context.WithCancel(s.ctx)
	cancel()
	if s.cfg.Facts.WaitAcked(now, told) != nil {
		s.wg.Go(func() {
			if s.cfg.Facts.WaitAcked(s.ctx, told) == nil {
				s.mu.Lock()
				defer s.mu.Unlock()
				s.queue(l)
			}
		})
		return result{}, errWaits
	}
	if err := call(ctx, func(ctx context.Context) error {
		return s.cfg.Store.FinishTranscript(ctx, l.session, &api.FinishAsk{Head: final})
	}); err != nil {
		return result{}, err
	}
	if err := s.cfg.Journal.Forget(l.sid); err != nil {
		return result{}, err
	}
	s.stir()
	return result{done: true}, nil
}
