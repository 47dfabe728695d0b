package jump

import (
	"io"
	"sync"

	"breakglass/transcript"
)

// pump carries one direction of one channel: read, seal and journal, then write on. While one read commits or is being
// written, the next is read and sealed. An idle pump is one goroutine with a small buffer.
type pump struct {
	s    *session
	kind transcript.Kind
	id   uint32
	from io.Reader
	to   func([]byte) error
	hold *hold           // through which all of it goes; nil: it goes
	gone <-chan struct{} // closed when nobody waits for what is held any more

	mu    sync.Mutex
	space sync.Cond
	queue []chunk
	busy  bool // somebody forwards
	err   error
}

type chunk struct {
	data    []byte
	durable receipt
	big     *[bigRead]byte // goes back to the pool
}

var bigPool = sync.Pool{New: func() any { return new([bigRead]byte) }}

// run ends when all that was read is written on, or can't be. It reads on after a write error, so that the other side's window
// never closes on a channel that nobody reads; what it reads then goes nowhere, and isn't recorded.
func (p *pump) run() {
	p.space.L = &p.mu
	small := make([]byte, smallRead)
	var big *[bigRead]byte
	for {
		buf := small
		if big != nil {
			buf = big[:]
		}
		n, err := p.from.Read(buf)
		if n > 0 && p.failed() == nil {
			if err := p.s.spend(n); err != nil {
				p.fail(err)
				continue
			}
			p.s.active()
			if !p.hold.enter(p.gone) {
				p.fail(errHeld)
				continue
			}
			c := chunk{data: buf[:n]}
			c.durable = p.s.rec.later(transcript.Event{Kind: p.kind, Chan: p.id, Data: c.data})
			if big != nil {
				c.big, big = big, nil
			} else {
				c.data = append([]byte(nil), c.data...)
			}
			p.hold.leave() // it is in the recording; whether it goes on is asked again
			p.push(c)
		}
		// A buffer for bulk only while reads fill a good part of it: X hands out whatever is queued, so bulk shows at once.
		switch {
		case n == smallRead && len(buf) == smallRead, n >= bigRead/4:
			if big == nil {
				big = bigPool.Get().(*[bigRead]byte)
			}
		case big != nil:
			bigPool.Put(big)
			big = nil
		}
		if err != nil {
			break
		}
	}
	if big != nil {
		bigPool.Put(big)
	}
	p.mu.Lock()
	for p.busy {
		p.space.Wait()
	}
	p.mu.Unlock()
}

// fail makes err the reason why nothing more is passed on.
func (p *pump) fail(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.err == nil {
		p.err = err
	}
}

func (p *pump) failed() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.err
}

// push waits for a place and makes sure that somebody forwards.
func (p *pump) push(c chunk) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for len(p.queue) >= depth {
		p.space.Wait()
	}
	p.queue = append(p.queue, c)
	if !p.busy {
		p.busy = true
		go p.forward()
	}
}

// forward writes on what is durable, in order, and ends when nothing waits.
func (p *pump) forward() {
	defer p.s.guard("forwarding")
	idle := false
	defer func() {
		if !idle { // a panic: the reader mustn't wait for ever
			p.mu.Lock()
			p.queue, p.busy, p.err = nil, false, io.ErrClosedPipe
			p.space.Broadcast()
			p.mu.Unlock()
		}
	}()
	for {
		p.mu.Lock()
		if len(p.queue) == 0 {
			p.busy, idle = false, true
			p.space.Broadcast()
			p.mu.Unlock()
			return
		}
		c, err := p.queue[0], p.err
		p.mu.Unlock()
		if e := <-c.durable; err == nil {
			err = e
		}
		if err == nil {
			err = p.pass(c.data)
		}
		if c.big != nil {
			bigPool.Put(c.big)
		}
		p.mu.Lock()
		p.queue = append(p.queue[:0], p.queue[1:]...)
		p.err = err
		p.space.Broadcast()
		p.mu.Unlock()
	}
}

// pass writes on what is durable. What may be held goes in pieces.
func (p *pump) pass(b []byte) error {
	if p.hold == nil {
		return p.to(b)
	}
	for len(b) > 0 {
		if !p.hold.enter(p.gone) {
			return errHeld
		}
		n := min(len(b), heldPiece)
		err := p.to(b[:n])
		p.hold.leave()
		if err != nil {
			return err
		}
		b = b[n:]
	}
	return nil
}
