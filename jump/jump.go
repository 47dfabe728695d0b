package jump

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	front "github.com/gliderlabs/ssh"

	"breakglass/internal/name"
	"breakglass/jump/facts"
	"breakglass/jump/journal"
	"breakglass/jump/ship"
	"breakglass/ledger"
)

// Jump serves until its context ends.
type Jump struct {
	cfg       Config
	log       *slog.Logger
	trust     atomic.Pointer[trust]
	source    netip.Addr
	facts     *facts.Book
	hostCerts *hostCerts
	strangers *strangers
	figures   *figures
	caps      caps
	front     *front.Server
	shipper   *ship.Shipper

	unwrapping atomic.Int32 // connections of proxies whose header isn't read yet
	opening    atomic.Int32 // sessions that the CA is asked for, or that reach for their host
	unproxied  atomic.Int64 // the minute in which a proxy without a header was logged

	mu       sync.Mutex
	sessions map[*session]struct{}
	watchers watchers
	conns    map[net.Conn]struct{}
	hostAlgs map[name.Host][]string
	ears     ears
	going    going
	stopping bool
	failure  error
	failed   chan struct{}

	hurry     chan struct{}
	hurryOnce sync.Once
}

// New checks the configuration and reads what the journal holds.
func New(cfg Config) (*Jump, error) {
	if cfg.Now == nil {
		cfg.Now = wallNow
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	t, err := parseTrust(cfg.Site)
	if err != nil {
		return nil, fmt.Errorf("opening jump: %w", err)
	}
	j := &Jump{cfg: cfg, log: cfg.Logger, source: firstSource(cfg.Sources), caps: caps{byNet: map[string]int{}},
		sessions: map[*session]struct{}{}, conns: map[net.Conn]struct{}{}, hostAlgs: map[name.Host][]string{}, ears: ears{after: -1}, failed: make(chan struct{}), hurry: make(chan struct{})}
	j.trust.Store(&t)
	j.facts, err = facts.Open(facts.Config{Jump: cfg.Name, Origin: t.origin, Signer: cfg.Key, Journal: cfg.Journal, Sender: cfg.CA, Now: cfg.Now, Logger: cfg.Logger})
	if err != nil {
		return nil, fmt.Errorf("opening jump: %w", err)
	}
	j.hostCerts = newHostCerts(cfg.CA, cfg.HostKey, t.hostCA, cfg.Now, cfg.Logger)
	j.figures = newFigures()
	j.strangers = newStrangers(cfg.Name, cfg.Now())
	j.strangers.also = func(reason string) { j.figures.count(j.figures.refused, reason) }
	j.front = j.server()
	return j, nil
}

// ErrJournal is what Serve ends with when the journal failed: sessions were cut, and a new start on a new segment is due.
var ErrJournal = errors.New("the journal failed")

// shutdownTimeout bounds the end: telling people, sealing, and a first try to send it off. What isn't sent goes at the next start.
const (
	shutdownTimeout = 8 * time.Second
	partingTimeout  = 3 * time.Second // of it, for sending
)

// Serve accepts people until ctx ends, lets them finish for Config.Drain, then cuts, seals and tells.
func (j *Jump) Serve(ctx context.Context, l net.Listener) error {
	work, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	shipper := ship.New(work, ship.Config{Journal: j.cfg.Journal, Store: j.cfg.CA, Facts: j.facts, Logger: j.log})
	j.mu.Lock()
	j.shipper = shipper
	j.mu.Unlock()
	defer shipper.Wait()
	j.recover()
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel() // before the waiting
	wg.Go(func() { j.hostCerts.run(work) })
	wg.Go(func() { j.listen(work) })
	wg.Go(func() { j.watchCA(work) })
	forgot := make(chan error, 1)
	wg.Go(func() {
		if err := j.facts.Run(work); errors.Is(err, facts.ErrForgot) {
			forgot <- err
		}
	})
	wg.Go(func() { j.sumStrangers(work) })
	accepted := make(chan error, 1)
	wg.Go(func() { accepted <- j.accept(l) })

	var err error
	select {
	case <-ctx.Done():
		err = j.drain(l, accepted, forgot)
	case err = <-accepted:
	case err = <-forgot:
	case <-j.failed:
	}
	reason, text := endStopped, "this jump is going down. Nothing shown is missing.\r\nbreakglass: hint: your grant goes on: "
	if errors.Is(err, facts.ErrForgot) {
		err = fmt.Errorf("this jump's book is not the CA's: %w", err)
	}
	if jerr := j.journalErr(); jerr != nil {
		reason, text = endFailed, "the jump could not store what you would have seen next. Nothing shown is missing.\r\nbreakglass: hint: "
		err = fmt.Errorf("%w: %w", ErrJournal, jerr)
	}
	j.stop(l, reason, "breakglass: session cut: "+text)
	return err
}

// accept never waits for a connection: each has its own goroutine from the start, with a guard that gliderlabs' own loop lacks.
func (j *Jump) accept(l net.Listener) error {
	pause := 5 * time.Millisecond
	for {
		nc, err := l.Accept()
		if err != nil {
			if errors.Is(err, net.ErrClosed) {
				return nil
			}
			// No descriptors left, most likely: sessions end, and it goes on.
			j.log.Warn("not accepting", "error", err)
			time.Sleep(pause)
			pause = min(2*pause, time.Second)
			continue
		}
		pause = 5 * time.Millisecond
		j.mu.Lock()
		if j.stopping {
			j.mu.Unlock()
			nc.Close()
			continue
		}
		j.conns[nc] = struct{}{}
		j.mu.Unlock()
		go func() {
			defer func() {
				j.mu.Lock()
				delete(j.conns, nc)
				j.mu.Unlock()
				nc.Close()
				if v := recover(); v != nil {
					j.log.Error("panic in a connection", "panic", v, "stack", string(debug.Stack()))
				}
			}()
			j.front.HandleConn(nc)
		}()
	}
}

// stop cuts what runs, seals and tells it, and gives the shipper a moment. text ends where the way back in follows.
func (j *Jump) stop(l net.Listener, reason, text string) {
	l.Close()
	deadline := time.After(shutdownTimeout)
	j.mu.Lock()
	j.stopping = true
	var running []*session
	for s := range j.sessions {
		running = append(running, s)
	}
	j.mu.Unlock()
	var wg sync.WaitGroup
	for _, s := range running {
		wg.Go(func() {
			s.cut(reason, text+j.elsewhere(s.target()))
			s.close(reason)
		})
	}
	all := make(chan struct{})
	go func() {
		wg.Wait()
		if j.journalErr() == nil {
			j.tellStrangers()
			for end := time.Now().Add(partingTimeout); time.Now().Before(end) && j.shipper.Left() > 0; {
				time.Sleep(20 * time.Millisecond)
			}
		}
		close(all)
	}()
	select {
	case <-all:
	case <-deadline:
	}
	j.mu.Lock()
	for c := range j.conns {
		c.Close()
	}
	j.mu.Unlock()
}

func (j *Jump) sumStrangers(ctx context.Context) {
	t := time.NewTicker(strangersEvery)
	defer t.Stop()
	for {
		select {
		case <-t.C:
			j.tellStrangers()
		case <-ctx.Done():
			return
		}
	}
}

func (j *Jump) tellStrangers() {
	sum := j.strangers.take(j.cfg.Now())
	if sum == nil {
		return
	}
	if _, err := j.facts.Append(sum, "", nil); err != nil {
		j.log.Error("strangers not summed", "error", err)
	}
}

// keepSession counts a session in, unless the jump is stopping or full.
func (j *Jump) keepSession(s *session) bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.stopping || len(j.sessions) >= maxSessions {
		return false
	}
	j.sessions[s] = struct{}{}
	j.hostAlgs[s.order.host] = hostKeyAlgorithms(s.order)
	return true
}

func (j *Jump) forgetSession(s *session) {
	j.mu.Lock()
	defer j.mu.Unlock()
	delete(j.sessions, s)
	j.watchers.forget(s.order.session)
}

func (j *Jump) journalFailed(err error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.failure == nil {
		j.failure = err
		close(j.failed)
	}
}

func (j *Jump) journalErr() error {
	if err := j.cfg.Journal.Err(); err != nil {
		return err
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.failure
}

// told makes the end of a session a fact, marks the stream with it and has it shipped to its end.
func (j *Jump) told(st *ship.Stream, f ledger.Facts) error {
	j.shipper.Hush(st.SID)
	n, err := j.facts.Append(f, st.Session, func(n int64) error {
		return j.cfg.Journal.Append(journal.Entry{Stream: st.SID, Kind: ship.KindTold, Data: ship.Mark(n), Last: true})
	})
	if err != nil {
		return err
	}
	st.Told = n
	j.shipper.Ship(st)
	return nil
}

// tellCrashed tells of a recording that has no END, or whose end wasn't told, as it stands in the journal and, by its marks, in the store.
func (j *Jump) tellCrashed(sid journal.SID) error {
	j.shipper.Still(sid)
	st, err := ship.Inspect(j.cfg.Journal, sid)
	if errors.Is(err, ship.ErrNoStream) {
		if st == nil || st.Session == "" {
			if len(j.cfg.Recovered.Damage) > 0 {
				return err // what is missing may be on the disk
			}
			return j.cfg.Journal.Forget(sid) // nothing was open yet; or all of it is stored already
		}
		// The recorder died between header and envelope: the CA still hears that the session is over.
		if _, err := j.facts.Append(&ledger.SessionCrashed{Head: st.Head}, st.Session, nil); err != nil {
			return err
		}
		return j.cfg.Journal.Forget(sid)
	}
	if err != nil {
		return err
	}
	if st.Told == 0 {
		st.Told = j.facts.Reported(st.Session)
		if st.Told != 0 { // told, but the mark was lost
			if err := j.cfg.Journal.Append(journal.Entry{Stream: sid, Kind: ship.KindTold, Data: ship.Mark(st.Told), Last: true}); err != nil {
				return err
			}
		}
	}
	if st.Told != 0 {
		j.shipper.Ship(st)
		return nil
	}
	// A stream whose END is there but not told is complete all the same; what only its recorder knew (exit, bytes) is lost with it.
	j.log.Warn("recording found without a told end", "session", st.Session, "frames", st.Head.Frames, "ended", st.Ended)
	return j.told(st, &ledger.SessionCrashed{Head: st.Head, Envelope: st.Envelope})
}

// recover takes up what a former run left in the journal.
func (j *Jump) recover() {
	for _, d := range j.cfg.Recovered.Damage {
		j.log.Error("journal damaged", "segment", d.Segment, "offset", d.Offset, "what", d.What)
	}
	for _, st := range j.cfg.Recovered.Streams {
		if st.SID == facts.Stream {
			continue
		}
		if err := j.tellCrashed(st.SID); err != nil {
			j.log.Error("recording not recovered", "stream", st.SID, "error", err)
		}
	}
}

// State is what the jump is doing.
type State struct {
	Sessions int `json:"sessions"` // running
	// Draining is when the jump goes down; zero: it doesn't.
	Draining time.Time `json:"draining,omitzero"`
	Unsent   int       `json:"unsent"` // recordings that wait for the store
	// Behind is how many bytes of all recordings, of running sessions too, are here and not in the store yet, and BehindSince when the oldest of them was recorded.
	Behind      int64     `json:"behind"`
	BehindSince time.Time `json:"behind_since,omitzero"`
	Facts       int64     `json:"facts"`
	Acked       int64     `json:"acked"` // facts that the CA has
	Names       int       `json:"names"` // hosts with a host certificate
	Deaf        bool      `json:"deaf"`  // doesn't hear of revocations: the CA gives no sign of life
}

// State says what the jump is doing just now.
func (j *Jump) State() State {
	s := State{Facts: j.facts.Head().Size, Acked: j.facts.Acked(), Names: j.hostCerts.count()}
	j.mu.Lock()
	defer j.mu.Unlock()
	s.Sessions = len(j.sessions)
	s.Draining = j.going.until.UTC()
	s.Deaf = j.ears.deaf()
	if j.shipper != nil {
		s.Unsent = j.shipper.Left()
		s.Behind, s.BehindSince = j.shipper.Behind()
		s.BehindSince = s.BehindSince.UTC()
	}
	return s
}
