package ca

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"breakglass/ca/api"
	"breakglass/ca/state"
	"breakglass/internal/name"
	"breakglass/internal/statement"
	"breakglass/ledger"
	"breakglass/transcript"
)

// Watching is reading while it is written: what a watcher is given is what the store holds, sealed, so nobody sees anything that isn't recorded. That somebody
// watches is an entry before they get anything, and lasts as long as they give signs of life: a watcher whose machine died must not go on counting as one.

const (
	// maxWatches bounds the watchings in all, maxWatchesEach those of one person: each may hold a piece of a stream in memory.
	maxWatches     = 256
	maxWatchesEach = 8
	// watchRate and watchBurst pace the polls of one watching: a session that never pauses is told of in pieces.
	watchRate  = rate.Limit(200)
	watchBurst = 50
	// maxWatchEntries bounds the entries of one answer; the rest is the next one's.
	maxWatchEntries = 50
	// watchSweep is how often lapsed watchings are looked for.
	watchSweep = 500 * time.Millisecond
	// watchGlance is how often a poll looks at the store by itself: the jump may have stored something without the CA's doing.
	watchGlance = time.Second
)

// watching are the watchings that go on, and their signs of life. It stands for nothing in the ledger: what it forgets at a stop is told there.
type watching struct {
	mu      sync.Mutex
	leases  map[string]*lease
	growing map[name.SessionID]chan struct{} // closed when the store has more of a stream
}

type lease struct {
	session name.SessionID
	person  name.Person
	heard   time.Time // monotonic: the last sign of life
	polling bool
	pace    *rate.Limiter
}

func newWatching() *watching {
	return &watching{leases: map[string]*lease{}, growing: map[name.SessionID]chan struct{}{}}
}

// grew gives a channel that is closed when the store has more of the stream after this call.
func (w *watching) grew(s name.SessionID) <-chan struct{} {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.growing[s] == nil {
		w.growing[s] = make(chan struct{})
	}
	return w.growing[s]
}

// tell wakes those who wait for more of the stream.
func (w *watching) tell(s name.SessionID) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if ch := w.growing[s]; ch != nil {
		close(ch)
		delete(w.growing, s)
	}
}

// enter takes a place for a watching that is about to be recorded.
func (w *watching) enter(id string, s name.SessionID, p name.Person) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	own := 0
	for _, l := range w.leases {
		if l.person == p {
			own++
		}
	}
	if len(w.leases) >= maxWatches || own >= maxWatchesEach {
		return false
	}
	w.leases[id] = &lease{session: s, person: p, heard: time.Now(), pace: rate.NewLimiter(watchRate, watchBurst)}
	return true
}

// known says that there is such a watching; whose it is has to be proved.
func (w *watching) known(id string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.leases[id] != nil
}

// leave gives the place back.
func (w *watching) leave(id string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.leases, id)
}

// poll is a sign of life, of one call at a time.
func (w *watching) poll(id string, s name.SessionID, p name.Person) (pace *rate.Limiter, done func(), err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	l := w.leases[id]
	switch {
	case l == nil || l.session != s || l.person != p:
		return nil, nil, watchOver(s)
	case l.polling:
		return nil, nil, &api.Problem{Status: 429, Code: api.CodeTooMany, Detail: "that watching has a call under way", Next: []string{"wait for its answer"}}
	}
	l.polling, l.heard = true, time.Now()
	return l.pace, func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		l.polling, l.heard = false, time.Now()
	}, nil
}

// lapsed says which of these nothing was heard of for too long, and takes them out. One without a lease is one: it was recorded, and its answer came to nothing.
func (w *watching) lapsed(list []state.Watch) (out []state.Watch) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, x := range list {
		if l := w.leases[x.ID]; l == nil || time.Since(l.heard) > api.WatchLease {
			out = append(out, x)
			delete(w.leases, x.ID)
		}
	}
	return out
}

func watchOver(s name.SessionID) *api.Problem {
	return &api.Problem{Status: 410, Code: api.CodeWatchOver, Detail: "that watching is over", Next: []string{"breakglass watch " + string(s)}}
}

// mayWatch is the one rule of who watches a session: who may read it, and isn't the person at work in it. It gives whether they count as the observer whom it waits for.
func (c *CA) mayWatch(tx *state.Tx, s state.Session, opened *ledger.SessionOpened, who *caller) (observer bool, err error) {
	p := c.policy.Load()
	switch {
	case !p.IsReader(who.person):
		return false, &api.Problem{Status: 403, Code: api.CodeDenied, Detail: string(who.person) + " is no reader of the policy, and who watches reads", Next: []string{"ask one of [site] readers"}}
	case who.person == s.Person:
		return false, &api.Problem{Status: 403, Code: api.CodeOwnSession, Detail: "nobody watches over their own session", Next: []string{"ask another reader: breakglass watch " + string(s.ID)}}
	case !slices.Contains(opened.Readers, who.person):
		return false, &api.Problem{Status: 403, Code: api.CodeDenied, Detail: fmt.Sprintf("%s is not sealed to %s: they were no reader, or had no identity, when it was opened", s.ID, who.person),
			Next: []string{"breakglass reviewer init", "ask one of: " + names(opened.Readers)}}
	case s.State != "open":
		return false, &api.Problem{Status: 409, Code: api.CodeOver, Detail: fmt.Sprintf("%s is over", s.ID), Next: []string{"breakglass replay " + string(s.ID)}}
	}
	if v, err := tx.PassRevoked(who.pass); err != nil || v { // as of now, not as of the door
		return false, errors.Join(err, passNeeded())
	}
	return p.IsOf(opened.WatchedBy, who.person), nil
}

func names(list []name.Person) string {
	s := ""
	for i, p := range list {
		if i > 0 {
			s += ", "
		}
		s += string(p)
	}
	return s
}

// openedOf gives the entry that opened a session.
func openedOf(tx *state.Tx, s state.Session) (*ledger.SessionOpened, error) {
	raw, err := tx.Entry(s.Index)
	if err != nil {
		return nil, err
	}
	e, err := ledger.Decode(raw)
	if err != nil {
		return nil, err
	}
	f, ok := e.Facts.(*ledger.SessionOpened)
	if !ok {
		return nil, fmt.Errorf("entry %d is a %s", s.Index, e.Type())
	}
	return f, nil
}

// watch records that somebody begins to watch, and then hands out what it takes to read.
func (c *CA) watch(ctx context.Context, id name.SessionID, q *api.WatchAsk, who *caller) (*api.Watching, error) {
	if who == nil || who.person == "" {
		return nil, passNeeded()
	}
	if err := statement.CheckText(q.Why); err != nil || q.Why == "" {
		return nil, badRequest("why: want a text")
	}
	var random [16]byte
	rand.Read(random[:])
	out := &api.Watching{ID: hex.EncodeToString(random[:]), Session: id}
	if !c.watching.enter(out.ID, id, who.person) {
		return nil, &api.Problem{Status: 429, Code: api.CodeTooMany, Detail: "too much is being watched already", Next: []string{"end one: Ctrl-C in its terminal"}}
	}
	may := func(tx *state.Tx) (s state.Session, err error) {
		if s, err = tx.Session(id); errors.Is(err, state.ErrNotFound) {
			return s, &api.Problem{Status: 404, Code: api.CodeNotFound, Detail: "there is no session " + string(id), Next: []string{"breakglass sessions"}}
		} else if err != nil {
			return s, err
		}
		opened, err := openedOf(tx, s)
		if err != nil {
			return s, err
		}
		out.Observer, err = c.mayWatch(tx, s, opened, who)
		return s, err
	}
	err := c.state.View(ctx, func(tx *state.Tx) error { _, err := may(tx); return err })
	if err == nil { // outside of the writer: a bucket that hangs must not keep certificates waiting
		if out.Envelope, err = c.store.Envelope(id); err != nil {
			err = storeProblem(err)
		}
	}
	if err == nil {
		err = c.state.Do(ctx, func(tx *state.Tx) error {
			s, err := may(tx)
			if err != nil {
				return err
			}
			_, _, err = tx.Append(c.entry(ledger.PersonActor(who.person), sessionSubject(s), &ledger.SessionWatched{Watch: out.ID, Pass: who.pass, Why: q.Why, Observer: out.Observer}))
			return err
		})
	}
	if err == nil {
		err = c.state.View(ctx, func(tx *state.Tx) error {
			s, err := tx.Session(id)
			if err != nil {
				return err
			}
			head, note, err := tx.Head()
			if err != nil {
				return err
			}
			out.Opened, err = proven(tx, head.Size, s.Index)
			out.Opened.Checkpoint = note
			return err
		})
	}
	if err != nil {
		c.watching.leave(out.ID) // if it was recorded, it is swept
		return nil, err
	}
	return out, nil
}

// unwatch records that a watching is over. It may be said again.
func (c *CA) unwatch(ctx context.Context, id string, how string) error {
	c.watching.leave(id)
	return c.state.Do(ctx, func(tx *state.Tx) error {
		all, err := tx.Watches("")
		if err != nil {
			return err
		}
		i := slices.IndexFunc(all, func(w state.Watch) bool { return w.ID == id })
		if i < 0 {
			return nil
		}
		return c.endWatch(tx, all[i], how)
	})
}

func (c *CA) endWatch(tx *state.Tx, w state.Watch, how string) error {
	s, err := tx.Session(w.Session)
	if err != nil {
		return err
	}
	actor := ledger.ActorCA
	if how == ledger.WatchLeft {
		actor = ledger.PersonActor(w.Person)
	}
	_, _, err = tx.Append(c.entry(actor, sessionSubject(s), &ledger.SessionUnwatched{Watch: w.ID, How: how}))
	return err
}

// watchEnd is the watcher's own word.
func (c *CA) watchEnd(ctx context.Context, s name.SessionID, q *api.WatchEnd, who *caller) error {
	if who == nil || who.person == "" {
		return passNeeded()
	}
	mine := false
	if err := c.state.View(ctx, func(tx *state.Tx) error {
		all, err := tx.Watches(s)
		mine = slices.ContainsFunc(all, func(w state.Watch) bool { return w.ID == q.ID && w.Person == who.person })
		return err
	}); err != nil {
		return err
	}
	if !mine {
		return watchOver(s)
	}
	return c.unwatch(context.WithoutCancel(ctx), q.ID, ledger.WatchLeft)
}

// forgottenWatches ends what a CA that stopped had under way: whether anybody watched meanwhile isn't known. It comes before the first answer.
func (c *CA) forgottenWatches() error {
	if c.frozen.Load() != nil { // then they are swept when it goes on
		return nil
	}
	return c.state.Do(context.Background(), func(tx *state.Tx) error {
		all, err := tx.Watches("")
		for _, w := range all {
			if err == nil {
				err = c.endWatch(tx, w, ledger.WatchStopped)
			}
		}
		return err
	})
}

// sweepWatches ends the watchings that lapse, until ctx ends.
func (c *CA) sweepWatches(ctx context.Context) {
	t := time.NewTicker(watchSweep)
	defer t.Stop()
	told := false
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
		err := c.sweepOnce(ctx)
		if err != nil && !told && ctx.Err() == nil { // it is tried again and again
			c.log.Error("watchings that lapsed are not told yet", "error", err)
		}
		told = err != nil
	}
}

func (c *CA) sweepOnce(ctx context.Context) error {
	if c.frozen.Load() != nil {
		return nil
	}
	var all []state.Watch
	if err := c.state.View(ctx, func(tx *state.Tx) (err error) { all, err = tx.Watches(""); return err }); err != nil {
		return err
	}
	var failed error
	for _, w := range c.watching.lapsed(all) {
		failed = errors.Join(failed, c.unwatch(ctx, w.ID, ledger.WatchLapsed))
	}
	return failed
}

// watchNews answers a watcher with what is new behind an offset and an entry, as soon as there is any.
func (c *CA) watchNews(ctx context.Context, s name.SessionID, id string, offset, entry int64, wait time.Duration, who *caller) (*api.WatchNews, error) {
	if who == nil || who.person == "" {
		return nil, passNeeded()
	}
	if !c.policy.Load().IsReader(who.person) {
		return nil, &api.Problem{Status: 403, Code: api.CodeDenied, Detail: string(who.person) + " is no reader of the policy any more"}
	}
	pace, done, err := c.watching.poll(id, s, who.person)
	if err != nil {
		return nil, err
	}
	defer done()
	if err := pace.Wait(ctx); err != nil {
		return nil, err
	}
	end, glance := time.NewTimer(wait), time.NewTicker(watchGlance)
	defer end.Stop()
	defer glance.Stop()
	out := &api.WatchNews{Offset: offset, Entry: entry}
	for {
		more, grown := c.watching.grew(s), c.state.Grown() // before looking
		if err := c.watchEntries(ctx, s, out); err != nil {
			return nil, err
		}
		if err := c.watchData(s, out); err != nil {
			return nil, err
		}
		if len(out.Data) > 0 || len(out.Entries) > 0 || out.Whole {
			return out, nil
		}
		select {
		case <-more:
		case <-grown:
		case <-glance.C:
		case <-end.C:
			return out, nil
		case <-c.listening.stop:
			return out, nil
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// watchEntries adds the entries about the session behind the last one looked at, proved.
func (c *CA) watchEntries(ctx context.Context, id name.SessionID, out *api.WatchNews) error {
	return c.state.View(ctx, func(tx *state.Tx) error {
		s, err := tx.Session(id)
		if err != nil {
			return err
		}
		out.State = s.State
		head, note, err := tx.Head()
		if err != nil || out.Entry >= head.Size-1 {
			return err
		}
		own, err := tx.OfRequest(string(s.Request))
		if err != nil {
			return err
		}
		for _, n := range own {
			if n <= out.Entry {
				continue
			}
			raw, err := tx.Entry(n)
			if err != nil {
				return err
			}
			e, err := ledger.Decode(raw)
			if err != nil {
				return fmt.Errorf("entry %d: %w", n, err)
			}
			if e.Subject.Session != id {
				continue
			}
			switch e.Facts.(type) {
			case *ledger.SessionHead, *ledger.SessionEnded, *ledger.SessionCrashed, *ledger.SessionWatched, *ledger.SessionUnwatched:
			default:
				continue
			}
			p, err := proven(tx, head.Size, n)
			if err != nil {
				return err
			}
			out.Entries, out.Entry, out.Checkpoint = append(out.Entries, p), n, note
			if len(out.Entries) == maxWatchEntries {
				return nil
			}
		}
		out.Entry = head.Size - 1
		return nil
	})
}

// watchData adds what the store holds behind the offset.
func (c *CA) watchData(id name.SessionID, out *api.WatchNews) error {
	st, err := c.store.Stat(id)
	if errors.Is(err, transcript.ErrNotStored) {
		return nil // its first piece is on the way
	} else if err != nil {
		return storeProblem(err)
	}
	if out.Offset > st.Size {
		return badRequest("offset %d of %d", out.Offset, st.Size)
	}
	n := min(st.Size-out.Offset, api.MaxPiece)
	out.Whole = st.Finished && out.Offset+n == st.Size
	if n == 0 {
		return nil
	}
	f, err := c.store.Open(id)
	if err != nil {
		return storeProblem(err)
	}
	defer f.Close()
	if sk, ok := f.(io.Seeker); ok {
		_, err = sk.Seek(out.Offset, io.SeekStart)
	} else {
		_, err = io.CopyN(io.Discard, f, out.Offset)
	}
	if err != nil {
		return fmt.Errorf("reading %s: %w", id, err)
	}
	out.Data = make([]byte, n)
	if _, err := io.ReadFull(f, out.Data); err != nil {
		return fmt.Errorf("reading %s: %w", id, err)
	}
	return nil
}
