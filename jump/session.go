package jump

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"

	"breakglass/internal/statement"
	"breakglass/jump/journal"
	"breakglass/jump/ship"
	"breakglass/ledger"
	"breakglass/transcript"
)

// Why a session ended, as its END frame and the ledger's entry say.
const (
	endClosed      = "closed"           // the person left
	endHost        = "host_closed"      // the host left
	endGrant       = "grant_ended"      //
	endIdle        = "idle"             //
	endFull        = "journal_full"     //
	endFailed      = "journal_failed"   //
	endStopped     = "jump_stopped"     //
	endPanic       = "panic"            //
	endBudget      = "budget"           // it has carried all that it may
	endRevoked     = "revoked"          // it, its grant, key, person or jump
	endWrongHost   = "wrong_host_key"   // never had a channel
	endUnreachable = "host_unreachable" // never had a channel
)

// session is one recorded connection under a grant, from the CA's entry to the last fact about it.
type session struct {
	j     *Jump
	order *order
	rec   *recorder

	activeAt atomic.Int64 // nanoseconds since rec.began
	noMore   atomic.Bool  // the client asked for no more sessions

	mu       sync.Mutex
	up       *upstream // nil until logged in; then it stays
	hangUp   func()    // closes the person's connection; nil until the session is theirs
	until    time.Time // moves with an extension
	extender string    // fingerprint of the hardware key on whose touch it was last extended
	extended time.Time // when that is, on the monotonic clock; zero: as the order says
	ends     []*time.Timer
	blind    time.Time // since when the CA isn't heard, monotonic; zero: it is
	blindEnd *time.Timer
	over     bool // nothing new may begin
	reason   string
	parting  string // what the person is told when the session is cut
	exit     string
	exitCode *int
	last     uint32
	channels map[*channel]struct{}
	timers   []*time.Timer

	comparing sync.Mutex // one comparison of who watches at a time
	watching  []watcher  // under mu
	tells     []func()   // what is to be told, in order; under mu
	telling   bool       // under mu
	hold      *hold      // of input, while nobody watches; nil: nobody has to
	deaf      bool       // who watches isn't known; under mu

	remotes remotes
	budget  budget
	pace    *rate.Limiter

	// what account tells
	client     string // the person's client, as it names itself
	personAlgs string // what its leg speaks
	peer       netip.Addr
	door       string
	kinds      map[string]int // channels asked for, under mu
	blindFor   time.Duration  // under mu
	accounted  bool           // under the jump's mu

	wg   sync.WaitGroup // everything that passes or records
	once sync.Once
	done chan struct{} // closed when all is told
}

// enter and leave bracket all that may pass something: the recording ends after the last.
func (s *session) enter() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.over {
		return false
	}
	s.wg.Add(1)
	return true
}

func (s *session) leave() { s.wg.Done() }

// spawn runs f as part of the session.
func (s *session) spawn(what string, f func()) {
	if !s.enter() {
		return
	}
	go func() {
		defer s.leave()
		defer s.guard(what)
		f()
	}()
}

// guard keeps a panic from ending every session on the jump: it is recorded and cuts this one.
func (s *session) guard(what string) {
	v := recover()
	if v == nil {
		return
	}
	s.j.log.Error("panic in a session", "session", s.order.session, "where", what, "panic", v, "stack", string(debug.Stack()))
	go s.cut(endPanic, "breakglass: session cut: the jump has a fault. Nothing shown is missing.")
}

func (s *session) number() uint32 {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.last++
	return s.last
}

// add counts a channel in before it is opened; begin says that it can be written to.
func (s *session) add(c *channel) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.channels) >= maxChannels {
		return false
	}
	s.channels[c] = struct{}{}
	return true
}

func (s *session) remove(c *channel) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.channels, c)
}

// open lists the channels, of those that have a terminal if tty.
func (s *session) open(tty bool) []*channel {
	s.mu.Lock()
	var cs []*channel
	for c := range s.channels {
		cs = append(cs, c)
	}
	s.mu.Unlock()
	out := cs[:0]
	for _, c := range cs {
		if c.ready.Load() && (!tty || c.terminal()) {
			out = append(out, c)
		}
	}
	return out
}

func (s *session) active() { s.activeAt.Store(int64(s.rec.at())) }

// notice tells the person something on each terminal.
func (s *session) notice(text string) {
	for _, c := range s.open(true) {
		go func() {
			defer s.guard("notice")
			c.say(text)
		}()
	}
}

// greeting is what stands at the start on a terminal.
func (s *session) greeting() []string {
	lines := []string{
		fmt.Sprintf("breakglass: %s on %s as %s is recorded, all of it, as %s.", s.order.person, s.order.host, s.order.login, s.order.session),
		fmt.Sprintf("breakglass: it runs under grant %s, until %s.", s.order.session.Request(), clockTime(s.ending())),
	}
	if who := s.whoWatches(); who != "" {
		lines = append(lines, who)
	}
	if until := s.j.goingAt(); !until.IsZero() {
		lines = append(lines, s.j.goesDown(s, until))
	}
	return lines
}

func (s *session) ending() time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.until
}

func clockTime(t time.Time) string { return t.UTC().Format("15:04 UTC") }

// start lets the session run: warnings, its end, the idle limit. All count on the monotonic clock from the CA's "seconds left".
func (s *session) start() {
	s.active()
	s.mu.Lock()
	left := s.order.left
	if !s.extended.IsZero() {
		left = time.Until(s.extended)
	}
	s.schedule(left)
	s.mu.Unlock()
	if idle := time.Duration(s.order.opened.IdleSeconds) * time.Second; idle > 0 {
		s.watchIdle(idle)
	}
	s.seeWatchers()
	s.serveHost()
}

// hostLeft ends the session when the connection to the host has ended.
func (s *session) hostLeft() {
	defer s.guard("the host's leaving")
	if s.isCut() { // by us: whoever cuts it closes it, once the person was told
		return
	}
	// What the host sent before it left still drains to the person.
	drained := make(chan struct{})
	go func() { s.idleChannels(); close(drained) }()
	select {
	case <-drained:
	case <-time.After(goodbyeTimeout):
	}
	s.close(endHost)
}

// idleChannels returns when no channel is open, or the session is over.
func (s *session) idleChannels() {
	for {
		s.mu.Lock()
		n, over := len(s.channels), s.over
		s.mu.Unlock()
		if n == 0 || over {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
}

func (s *session) watchIdle(idle time.Duration) {
	var t *time.Timer
	s.mu.Lock()
	defer s.mu.Unlock()
	t = time.AfterFunc(idle, func() {
		left := idle - (s.rec.at() - time.Duration(s.activeAt.Load()))
		if left > 0 {
			s.mu.Lock()
			if !s.over {
				t.Reset(left)
			}
			s.mu.Unlock()
			return
		}
		s.cut(endIdle, fmt.Sprintf("breakglass: session cut: nothing was typed or shown for %v.\r\nbreakglass: hint: breakglass ssh %s", idle, s.target()))
	})
	s.timers = append(s.timers, t)
}

func (s *session) target() string { return string(s.order.login) + "@" + string(s.order.host) }

// failed is the recorder's word that something could not be recorded.
func (s *session) failed(err error) {
	reason, what := endFailed, "disk failed"
	if errors.Is(err, journal.ErrFull) {
		reason, what = endFull, "disk full"
	}
	if errors.Is(err, journal.ErrFailed) {
		s.j.journalFailed(err)
	}
	s.mu.Lock()
	over := s.over
	s.mu.Unlock()
	if over {
		return // the writer closes at the end; not news
	}
	go s.cut(reason, fmt.Sprintf("breakglass: session cut: the jump could not store what you would have seen next (%s on %s, %s). Nothing shown is missing.\r\n"+
		"breakglass: hint: your grant goes on: %s", what, s.j.cfg.Name, s.j.cfg.Now().UTC().Format("15:04:05"), s.j.elsewhere(s.target())))
}

// cut ends the session with a word to the person, for reasons that aren't theirs.
func (s *session) cut(reason, text string) {
	s.mu.Lock()
	if s.over || s.reason != "" {
		s.mu.Unlock()
		<-s.done // whoever was first tells the person and closes
		return
	}
	s.reason, s.parting = reason, text
	s.mu.Unlock()
	patience := goodbyeTimeout
	if reason == endRevoked {
		patience = revokeTimeout
	}
	// As far as it can be recorded and read; neither is waited for.
	s.rec.goodbye(reason, text)
	var told sync.WaitGroup
	for _, c := range s.open(false) {
		told.Go(func() {
			defer func() { recover() }()
			c.writeStderr([]byte("\r\n" + text + "\r\n"))
		})
	}
	all := make(chan struct{})
	go func() { told.Wait(); close(all) }()
	late, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if reason == endRevoked {
		select {
		case <-all:
		case <-late.Done():
		}
		s.leaveHost() // before the client takes its time to leave
	}
	select {
	case <-all:
		// A client whose channel is closed leaves by itself. Closing the connection at once would reset it while the client
		// still sends, and the text could be lost.
		open := s.open(false)
		for _, c := range open {
			c.client.Close()
		}
		if len(open) > 0 {
			select {
			case <-s.done:
			case <-time.After(leaveTimeout):
			}
		}
	case <-late.Done():
	}
	s.close(reason)
}

func (s *session) isCut() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.reason != ""
}

// leaveHost closes the connection to the host: nothing passes any more.
func (s *session) leaveHost() {
	s.mu.Lock()
	up := s.up
	s.mu.Unlock()
	if up != nil {
		up.client.Close()
	}
}

// close ends the session and tells of it. It returns when all is told.
func (s *session) close(reason string) {
	s.once.Do(func() {
		s.mu.Lock()
		s.over = true
		if s.reason == "" {
			s.reason = reason
		}
		for _, t := range append(s.timers, s.ends...) {
			t.Stop()
		}
		up, hangUp := s.up, s.hangUp
		s.mu.Unlock()
		s.hold.end()
		if hangUp != nil {
			hangUp()
		}
		if up != nil {
			up.client.Close()
		}
		go func() {
			defer close(s.done)
			defer s.j.forgetSession(s)
			s.wg.Wait()
			s.tell()
		}()
	})
	<-s.done
}

// tell seals the recording, signs the fact of its end, and has it shipped.
func (s *session) tell() {
	s.mu.Lock()
	reason, exit, code := s.reason, s.exit, s.exitCode
	s.mu.Unlock()
	log := s.j.log.With("session", s.order.session)
	head, err := s.rec.end(reason, code)
	if err != nil {
		// No END, but perhaps the journal lives: then what is in it is the recording.
		log.Error("recording without an end", "error", err)
		if err := s.j.tellCrashed(s.rec.sid); err != nil {
			log.Error("end of a session not told; it will be at the next start", "error", err)
		}
		return
	}
	err = s.j.told(&ship.Stream{SID: s.rec.sid, Session: s.order.session, Envelope: statement.Hash(s.rec.env), Head: head, Ended: true}, &ledger.SessionEnded{
		Reason: reason, Exit: exit, Seconds: int(s.rec.at() / time.Second), BytesIn: s.rec.in.Load(), BytesOut: s.rec.out.Load(),
		Head: head, Envelope: [32]byte(s.rec.env),
	})
	if err != nil {
		log.Error("end of a session not told; it will be at the next start", "error", err)
		return
	}
	s.account(log, reason, exit, head)
}

// goodbye records why a session is cut, if there is still a way to.
func (r *recorder) goodbye(code, text string) {
	e := act(0, code, text)
	e.T = r.at()
	r.ending.Store(true)
	done := make(receipt, 1)
	err := r.w.SealTo([]transcript.Event{e}, func(f []byte) error {
		return r.journal.AppendAsync(journal.Entry{Stream: r.sid, Kind: ship.KindFrame, Data: f, Last: true}, func(err error) { done <- err })
	})
	if err != nil {
		return
	}
	select {
	case <-done:
	case <-time.After(goodbyeTimeout):
	}
}
