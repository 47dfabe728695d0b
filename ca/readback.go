package ca

import (
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"sync"
	"time"

	"breakglass/ca/api"
	"breakglass/ca/state"
	"breakglass/internal/name"
	"breakglass/internal/statement"
	"breakglass/ledger"
	"breakglass/transcript"
)

// readBackPatience is how long a jump's call waits for its recording to be read back: shorter than any client's wait for an answer. A long recording takes longer;
// the jump asks again and finds it further on, or done.
const readBackPatience = 15 * time.Second

// readBacks are the recordings that are being read back, each once however often it is asked for. The zero value is ready.
type readBacks struct {
	mu    sync.Mutex
	under map[name.SessionID]*readBack
}

// readBack is a whole stream as the store gives it back.
type readBack struct {
	done chan struct{}
	res  transcript.Result
	sum  statement.Hash
	err  error
}

// readBack reads a finished stream from the store and holds it against the heads that the jump signed while it ran.
func (c *CA) readBack(ctx context.Context, s state.Session) (*readBack, error) {
	b := &c.readBacks
	b.mu.Lock()
	r := b.under[s.ID]
	if r == nil {
		r = &readBack{done: make(chan struct{})}
		if b.under == nil {
			b.under = map[name.SessionID]*readBack{}
		}
		b.under[s.ID] = r
		go func() {
			defer close(r.done)
			defer func() { // a stream is foreign bytes
				if v := recover(); v != nil {
					r.err = fmt.Errorf("reading back %s: panic: %v", s.ID, v)
				}
			}()
			r.err = c.verifyStored(context.WithoutCancel(ctx), s, r)
		}()
	}
	b.mu.Unlock()
	select {
	case <-r.done:
		b.mu.Lock()
		delete(b.under, s.ID)
		b.mu.Unlock()
		return r, r.err
	case <-time.After(readBackPatience):
	case <-ctx.Done():
	}
	return nil, &api.Problem{Status: 503, Code: api.CodeReading, Detail: "the recording is being read back", Next: []string{"ask again in a moment"}}
}

func (c *CA) verifyStored(ctx context.Context, s state.Session, into *readBack) error {
	heads, err := c.headsOf(ctx, s)
	if err != nil {
		return err
	}
	o := transcript.VerifyOptions{Bytes: map[uint64]int64{}}
	for _, h := range heads {
		o.Heads = append(o.Heads, transcript.Head{Frames: uint64(h.Frames), Chain: transcript.Hash(h.Chain)})
		o.Bytes[uint64(h.Frames)] = h.Bytes
	}
	f, err := c.store.Open(s.ID)
	if err != nil {
		return storeProblem(err)
	}
	defer f.Close()
	sum := sha256.New()
	if into.res, err = transcript.Verify(io.TeeReader(f, sum), o); err != nil {
		return &api.Problem{Status: 409, Code: api.CodeConflict, Detail: fmt.Sprintf("the stream does not verify: %v", err)}
	}
	into.sum = statement.Hash(sum.Sum(nil))
	return nil
}

// headsOf gives the heads that the jump signed of a session while it ran.
func (c *CA) headsOf(ctx context.Context, s state.Session) (heads []ledger.Head, err error) {
	err = c.state.View(ctx, func(tx *state.Tx) error {
		own, err := tx.OfRequest(string(s.Request))
		if err != nil {
			return err
		}
		for _, n := range own {
			raw, err := tx.Entry(n)
			if err != nil {
				return err
			}
			e, err := ledger.Decode(raw)
			if err != nil {
				return fmt.Errorf("entry %d: %w", n, err)
			}
			if f, ok := e.Facts.(*ledger.SessionHead); ok && e.Subject.Session == s.ID {
				heads = append(heads, f.Head)
			}
		}
		return nil
	})
	return heads, err
}
