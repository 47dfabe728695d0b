package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"breakglass/ca/api"
	"breakglass/ca/api/client"
	"breakglass/internal/name"
	"breakglass/ledger"
	"breakglass/transcript"
)

const (
	// watchPatience is how long the store may take to get the rest of a stream whose session is over.
	watchPatience = time.Minute
	// watchAgain is the pause before a CA that did not answer is asked again.
	watchAgain = 500 * time.Millisecond
	// maxUnanchored bounds the frames that are remembered until a signed head covers them; jumps sign one every few seconds.
	maxUnanchored = 1 << 20
)

// errNotRecorded says that what was shown is not what the jump signed.
var errNotRecorded = errors.New("the stream is not the one that its jump signed")

// feed is a running session's sealed stream as it grows: a reader that waits. What the ledger says meanwhile is held against what was read.
type feed struct {
	ctx    context.Context
	client *client.Client
	watch  *api.Watching
	why    string
	say    func(format string, a ...any)
	// idle is called when all that is there was read, before waiting for more; joined when a watching begins anew.
	idle func()
	// heard is told of the entries about the session.
	heard func(*ledger.Entry)

	buf     []byte
	offset  int64 // of what comes next
	entry   int64
	state   string
	over    time.Time    // when the session was seen to be over
	final   *ledger.Head // what its jump says of the whole stream
	ended   *ledger.SessionEnded
	crashed bool
	whole   bool
	silent  bool // the CA does not answer

	after   map[uint64]ledger.Head // what was read, by frames, since the last signed head
	signed  []ledger.Head          // that are ahead of what was read
	frames  uint64                 // that were read
	checked int                    // heads that agreed
}

func newFeed(ctx context.Context, c *client.Client, w *api.Watching, why string) *feed {
	return &feed{ctx: ctx, client: c, watch: w, why: why, entry: w.Opened.Index, state: "open", after: map[uint64]ledger.Head{}, idle: func() {}, heard: func(*ledger.Entry) {}}
}

// Read waits for more of the stream. io.EOF is the end of all that there will be.
func (f *feed) Read(b []byte) (int, error) {
	for len(f.buf) == 0 {
		if f.whole {
			return 0, io.EOF
		}
		if !f.over.IsZero() && time.Since(f.over) > watchPatience {
			return 0, io.EOF
		}
		f.idle()
		if err := f.poll(); err != nil {
			return 0, err
		}
	}
	n := copy(b, f.buf)
	f.buf = f.buf[n:]
	return n, nil
}

// poll asks once for what is new. A CA that doesn't answer is asked again until the context ends.
func (f *feed) poll() error {
	n, entries, err := f.client.WatchNews(f.ctx, f.watch, f.offset, f.entry, api.MaxWatchWait)
	if err != nil {
		return f.troubled(err)
	}
	if f.silent {
		f.silent = false
		f.say("breakglass: the CA answers again.")
	}
	f.buf, f.whole = n.Data, n.Whole
	f.offset, f.entry = n.Offset+int64(len(n.Data)), n.Entry
	if n.State != "open" && f.over.IsZero() {
		f.over = time.Now()
	}
	if len(n.Data) > 0 && !f.over.IsZero() {
		f.over = time.Now() // it still comes
	}
	f.state = n.State
	for _, e := range entries {
		if err := f.entered(e); err != nil {
			return err
		}
	}
	return nil
}

// troubled decides what an error of a poll means: nil is to ask again.
func (f *feed) troubled(err error) error {
	if f.ctx.Err() != nil {
		return f.ctx.Err()
	}
	var p *api.Problem
	switch {
	case errors.Is(err, client.ErrUnreachable), errors.As(err, &p) && p.Status == 503:
		if !f.silent {
			f.silent = true
			f.say("breakglass: the CA does not answer; asking again. Ctrl-C leaves.")
		}
		select {
		case <-time.After(watchAgain):
			return nil
		case <-f.ctx.Done():
			return f.ctx.Err()
		}
	case errors.As(err, &p) && p.Code == api.CodeTooMany:
		time.Sleep(watchAgain)
		return nil
	case errors.As(err, &p) && p.Code == api.CodeWatchOver: // the CA was away, or we were
		return f.rejoin(f.client)
	}
	return err
}

// rejoin begins a new watching, an entry of its own, and goes on where the one before stopped.
func (f *feed) rejoin(c *client.Client) error {
	w, _, err := c.Watch(f.ctx, f.watch.Session, api.WatchAsk{Why: f.why})
	if p := new(api.Problem); errors.As(err, &p) && p.Code == api.CodeOver {
		f.over = time.Now().Add(-watchPatience)
		return fmt.Errorf("%s ended while nobody watched: %w", f.watch.Session, err)
	}
	if err != nil {
		return err
	}
	f.client, f.watch = c, w
	return nil
}

func (f *feed) entered(e *ledger.Entry) error {
	switch x := e.Facts.(type) {
	case *ledger.SessionHead:
		if err := f.anchor(x.Head); err != nil {
			return err
		}
	case *ledger.SessionEnded:
		f.final, f.ended = &x.Head, x
		if err := f.anchor(x.Head); err != nil {
			return err
		}
	case *ledger.SessionCrashed:
		f.final, f.crashed = &x.Head, true
		if err := f.anchor(x.Head); err != nil {
			return err
		}
	}
	f.heard(e)
	return nil
}

// read notes a frame that was read, and holds it against the heads that were signed ahead of it.
func (f *feed) read(fr *transcript.Frame) error {
	f.frames = fr.Head.Frames
	h := ledger.Head{Frames: int64(fr.Head.Frames), Chain: [32]byte(fr.Head.Chain), Bytes: fr.Offset + int64(len(fr.Raw))}
	if len(f.after) >= maxUnanchored {
		return fmt.Errorf("%w: nothing was signed of the last %d frames", errNotRecorded, maxUnanchored)
	}
	f.after[fr.Head.Frames] = h
	for len(f.signed) > 0 && uint64(f.signed[0].Frames) <= f.frames {
		s := f.signed[0]
		f.signed = f.signed[1:]
		if err := f.compare(s); err != nil {
			return err
		}
	}
	return nil
}

func (f *feed) anchor(h ledger.Head) error {
	if uint64(h.Frames) > f.frames {
		f.signed = append(f.signed, h)
		return nil
	}
	return f.compare(h)
}

func (f *feed) compare(h ledger.Head) error {
	got, ok := f.after[uint64(h.Frames)]
	if ok && got != h {
		return fmt.Errorf("%w: of %d frames", errNotRecorded, h.Frames)
	}
	if !ok && h.Frames > 1 { // heads only grow: what is behind one was compared
		return fmt.Errorf("%w: a head of %d frames after a later one", errNotRecorded, h.Frames)
	}
	for n := range f.after {
		if n < uint64(h.Frames) {
			delete(f.after, n)
		}
	}
	f.checked++
	return nil
}

// conclude waits for the entry that ends the session, after all of the stream was read.
func (f *feed) conclude() error {
	f.whole = false
	if f.over.IsZero() {
		f.over = time.Now()
	}
	for f.final == nil && time.Since(f.over) < watchPatience {
		if err := f.poll(); err != nil {
			return err
		}
		f.buf = nil
	}
	return nil
}

// sessionOf is a session that runs, by what was typed; of several the person has to say which.
func sessionOf(what chosen) (name.SessionID, error) {
	open := chosen{request: what.request, session: what.session}
	for _, s := range what.sessions {
		if s.State == "open" {
			open.sessions = append(open.sessions, s)
		}
	}
	if what.session == "" && len(open.sessions) == 0 {
		return "", withHint(fmt.Errorf("no session of %s runs", what.request), "breakglass sessions", "breakglass replay "+string(what.request))
	}
	return open.one()
}
