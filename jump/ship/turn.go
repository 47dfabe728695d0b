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
	next    uint64          // the journal's number of the first entry that the store lacks, or has in part
	head    transcript.Head // of the frames that the store has whole
	bytes   int64           // of them
	journal int64           // bytes of the journal's frames that they stand for
	partial int64           // of the frame at next
	asked   bool            // the store, since the last error
	sealed  bool            // the envelope is stored

	headAt    time.Time // of the last head that was signed
	headBytes int64
	trimmed   int64 // the journal's bytes that had been stored at the last trim
}

func (p *position) begin(m Shipped) {
	p.next, p.bytes, p.sealed = m.Next, m.Head.Bytes, m.Next > 0
	p.head = transcript.Head{Frames: uint64(m.Head.Frames), Chain: transcript.Hash(m.Head.Chain)}
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
	told, final, old, backlog := l.told, l.final, l.old, l.backlog
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
	plain := true
	if told == 0 {
		if l.broken != nil {
			return result{}, l.broken
		}
		var err error
		if plain, err = s.fold(l, b, backlog); err != nil {
			return result{}, err
		}
	}
	more, err := s.upload(ctx, l, b, plain)
	if err != nil {
		return result{}, err
	}
	if told != 0 {
		switch {
		case more:
			return result{more: true}, nil
		case p.partial != 0 || int64(p.head.Frames) != final.Frames || p.bytes != final.Bytes:
			return result{}, fmt.Errorf("the journal's stream ends at %d frames and %d bytes, told were %d and %d", p.head.Frames, p.bytes, final.Frames, final.Bytes)
		}
		return s.finish(ctx, l, told, final)
	}
	if p.partial == 0 && p.head.Frames > 0 && s.due(l, old) {
		if err := s.checkpoint(l, old); err != nil {
			return result{}, err
		}
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
	return old || p.journal-p.trimmed >= s.trimming || s.headDue(l)
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
	if have < p.bytes {
		return fmt.Errorf("%w: it has %d bytes of %d", errLost, have, p.bytes)
	}
	p.partial = 0
	if have == p.bytes {
		return nil
	}
	envelope := func(e journal.Entry) error {
		if e.Kind == KindEnvelope && !p.sealed {
			if err := s.putEnvelope(ctx, l, slices.Clone(e.Data)); err != nil {
				return err
			}
		}
		p.next = e.N + 1
		return nil
	}
	for f, err := range walk(s.cfg.Journal, l.sid, p.next, l.plan, b.window, envelope) {
		if err != nil {
			return err
		}
		if p.bytes+int64(len(f.frame)) > have {
			p.partial = have - p.bytes
			l.decided = max(l.decided, f.next)
			return nil
		}
		p.take(f)
		s.has(l, int64(len(f.frame)), f.size)
		if p.bytes == have {
			return nil
		}
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

// take counts a frame that the store has.
func (p *position) take(f part) {
	p.head = p.head.Add(f.frame)
	p.bytes += int64(len(f.frame))
	p.journal += f.size
	p.next, p.partial = f.next, 0
}

// upload sends one piece of whole frames, or of a frame that is larger than a piece, from where the store stands. Records that could still be folded go along
// if plain. more says that there is more that is durable.
func (s *Shipper) upload(ctx context.Context, l *line, b *buffers, plain bool) (more bool, err error) {
	p := &l.at
	to := *p // where the store will stand
	buf := b.piece[:0]
	var envelope []byte
	var size int64
	other := func(e journal.Entry) error {
		if e.Kind == KindEnvelope && !p.sealed {
			envelope = slices.Clone(e.Data)
		}
		to.next = e.N + 1
		return nil
	}
	for f, err := range walk(s.cfg.Journal, l.sid, p.next, l.plan, b.window, other) {
		if err != nil {
			return false, err
		}
		if f.record && !plain && f.entry >= l.decided {
			break // it comes with what follows
		}
		if rest := f.frame[to.partial:]; len(buf)+len(rest) <= cap(buf) {
			buf = append(buf, rest...)
			to.take(f)
			size += f.size
			l.decided = max(l.decided, f.next)
			continue
		} else if len(buf) == 0 {
			buf = append(buf, rest[:cap(buf)]...)
			to.partial += int64(cap(buf))
			l.decided = max(l.decided, f.next)
		}
		more = true
		break
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
		s.has(l, int64(len(buf)), size)
	}
	*p = to
	for len(l.plan) > 0 && l.plan[0].to <= p.next {
		l.plan = l.plan[1:]
	}
	if len(l.plan) == 0 {
		l.plan = nil
	}
	return more, nil
}

// checkpoint says, of exactly what the store holds, what the chain is: in a signed fact, and in a mark before the journal is trimmed.
func (s *Shipper) checkpoint(l *line, old bool) error {
	p := &l.at
	head := ledger.Head{Frames: int64(p.head.Frames), Chain: statement.Hash(p.head.Chain), Bytes: p.bytes}
	if err := s.sign(l, head); err != nil {
		return err
	}
	if !p.sealed || !old && p.journal-p.trimmed < s.trimming {
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
	p.trimmed = p.journal
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
