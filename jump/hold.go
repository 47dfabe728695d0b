package jump

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"golang.org/x/crypto/ssh"

	"breakglass/transcript"
)

// A rule may want that somebody watches (watched_by). While the CA doesn't say that one of those observers does, what the person sends goes neither into the
// recording nor to the host: data of every channel, its end, and what starts or acts on something (shell, exec, subsystem, signals, forwards). The connection lives:
// what the host says is shown, windows are resized, keepalives answered, channels closed; grant end, kill and the person's leaving cut as ever. A listener (ssh -R)
// may be set up meanwhile, for its answer stands in the way of keepalives; whoever connects to it waits.
//
// Held is said at once and recorded when what was on its way has passed: from the event input_held on nothing passes until input_released.

const (
	// heldPiece is what goes on at once of an input that may be held in between.
	heldPiece = 16 << 10
	// maxHeldRequests bounds what a channel asks for behind something that is held.
	maxHeldRequests = 64
)

// acts are the requests that start something, or act on it.
var acts = map[string]bool{"shell": true, "exec": true, "subsystem": true, "signal": true, "break": true}

var errHeld = errors.New("nobody watches, and the channel or session is over")

// hold is a session's gate for input. A nil one is open.
type hold struct {
	by   []string      // who has to watch, as the policy writes it
	over chan struct{} // closed with the session

	mu      sync.Mutex
	wanted  bool          // nobody watches, as far as is known
	shut    bool          // nothing passes
	free    chan struct{} // closed when it opens; made anew when it is shut
	passing int
	still   chan struct{} // closed when nothing passes any more
	ended   bool
}

func newHold(by []string) *hold {
	if len(by) == 0 {
		return nil
	}
	return &hold{by: by, over: make(chan struct{}), wanted: true, shut: true, free: make(chan struct{})}
}

// try begins to pass something, unless it is held; leave ends it.
func (h *hold) try() bool {
	if h == nil {
		return true
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.shut {
		return false
	}
	h.passing++
	return true
}

func (h *hold) leave() {
	if h == nil {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.passing--; h.passing == 0 && h.still != nil {
		close(h.still)
		h.still = nil
	}
}

// enter waits until it may pass something; false: the session is over, or gone is closed.
func (h *hold) enter(gone <-chan struct{}) bool {
	for !h.try() {
		select {
		case <-h.opened():
		case <-h.over:
			return false
		case <-gone:
			return h.try()
		}
	}
	return true
}

// opened gives a channel that is closed once it is open.
func (h *hold) opened() <-chan struct{} {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.free
}

// want says whether input has to be held, as of now; true if that is news. Holding is at once.
func (h *hold) want(held bool) (news bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.wanted == held {
		return false
	}
	h.wanted = held
	if held && !h.shut {
		h.shut, h.free = true, make(chan struct{})
	}
	return true
}

// open lets input pass, unless it has to be held again by now.
func (h *hold) open() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.wanted || h.ended {
		return false
	}
	if h.shut {
		h.shut = false
		close(h.free)
	}
	return true
}

// isShut says whether nothing may begin to pass.
func (h *hold) isShut() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.shut
}

// quiet gives a channel that is closed once nothing passes.
func (h *hold) quiet() <-chan struct{} {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.passing == 0 {
		done := make(chan struct{})
		close(done)
		return done
	}
	if h.still == nil {
		h.still = make(chan struct{})
	}
	return h.still
}

// end lets go of whoever waits: the session is over.
func (h *hold) end() {
	if h == nil {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.ended {
		h.ended = true
		close(h.over)
	}
}

// judgeHold holds or releases input by who watches now. The caller holds s.comparing.
func (s *session) judgeHold() {
	h := s.hold
	if h == nil {
		return
	}
	s.mu.Lock()
	held := true
	for _, w := range s.watching {
		held = held && !w.observer
	}
	held = held || s.deaf
	s.mu.Unlock()
	if !h.want(held) {
		return
	}
	if held {
		s.later("holding input", s.tellHeld)
	} else {
		s.later("releasing input", s.release)
	}
}

// hear says whether the CA is heard: who watches is known from it alone.
func (s *session) hear(deaf bool) {
	if s.hold == nil {
		return
	}
	s.comparing.Lock()
	defer s.comparing.Unlock()
	s.mu.Lock()
	changed := s.deaf != deaf
	s.deaf = deaf
	s.mu.Unlock()
	if changed {
		s.judgeHold()
	}
}

// tellHeld records and says that input is held, once nothing is on its way any more.
func (s *session) tellHeld() {
	select {
	case <-s.hold.quiet():
	case <-s.hold.over:
	case <-time.After(goodbyeTimeout): // the host doesn't read what was begun
	}
	// Somebody may have come again while an earlier release was being recorded, which then opened: input passes, and nothing is to say that it doesn't. It is opened by
	// release alone, which isn't at work beside this.
	if !s.hold.isShut() {
		return
	}
	text := s.heldText()
	if s.rec.now(act(0, "input_held", text)) == nil {
		s.tellTyping(text)
	}
}

// release records that input is released, and only then lets it pass.
func (s *session) release() {
	text := "breakglass: somebody watches: input goes on."
	if s.rec.now(act(0, "input_released", text)) == nil && s.hold.open() {
		s.tellTyping(text)
	}
}

func (s *session) heldText() string {
	return fmt.Sprintf("breakglass: input is held until one of %s watches. They type: breakglass watch %s", printable(strings.Join(s.hold.by, ", ")), s.order.session)
}

// tellTyping tells whoever may be typing, or whose program waits: on terminals and, where there is none, on stderr.
func (s *session) tellTyping(text string) {
	for _, c := range s.open(false) {
		c.mu.Lock()
		waits := !c.forward && (c.started || c.held)
		c.mu.Unlock()
		if waits {
			go func() {
				defer s.guard("telling of a hold")
				c.sayAnyway(text)
			}()
		}
	}
}

// sayAnyway is say on a channel that has no terminal, or on which nothing runs yet.
func (c *channel) sayAnyway(text string) {
	if c.s.rec.now(transcript.Event{Kind: transcript.KindMark, Chan: c.id, Data: []byte(text)}) == nil {
		c.mu.Lock()
		end := "\n"
		if c.pty {
			end = "\r\n"
		}
		c.mu.Unlock()
		c.writeStderr([]byte(text + end))
	}
}

// personsRequests handles what the person's client asks of a channel, in order, to the channel's end. What acts waits while input is held, and what was asked behind
// it waits with it, for answers have no name; but a window's size goes on. The queue behind us is the whole connection's: it is always read.
func (c *channel) personsRequests(reqs <-chan *ssh.Request) {
	h := c.s.hold
	if h == nil {
		for req := range reqs {
			c.request(req, transcript.FromPerson)
		}
		return
	}
	var waiting []*ssh.Request
	next := func() bool { // passes on the first that waits
		req := waiting[0]
		if acts[req.Type] {
			if !h.try() {
				return false
			}
			defer h.leave()
		}
		waiting = waiting[1:]
		c.request(req, transcript.FromPerson)
		return true
	}
	for {
		var free <-chan struct{}
		if len(waiting) > 0 {
			free = h.opened()
		}
		select {
		case req, ok := <-reqs:
			if !ok {
				for _, req := range waiting {
					req.Reply(false, nil)
				}
				return
			}
			if len(waiting) > 0 && req.Type == "window-change" && !req.WantReply {
				c.request(req, transcript.FromPerson)
				continue
			}
			if len(waiting) >= maxHeldRequests {
				c.s.rec.now(act(c.id, "held_too_much", fmt.Sprintf("more than %d requests behind one that is held: the channel is closed", maxHeldRequests)))
				c.client.Close()
				continue
			}
			waiting = append(waiting, req)
			for len(waiting) > 0 && next() {
			}
			c.tellWaiting(len(waiting) > 0)
		case <-free:
			for len(waiting) > 0 && next() {
			}
			c.tellWaiting(len(waiting) > 0)
		}
	}
}

// tellWaiting says, once, why nothing happens.
func (c *channel) tellWaiting(is bool) {
	c.mu.Lock()
	tell := is && !c.held
	c.held = is
	c.mu.Unlock()
	if tell {
		c.sayAnyway(c.s.heldText())
	}
}

// enterForward waits with a forward's opening until somebody watches. If that came to nothing it is denied.
func (s *session) enterForward(nc ssh.NewChannel, id uint32, from transcript.Side) bool {
	if s.hold.try() {
		return true
	}
	s.notice(s.heldText())
	if s.hold.enter(nil) {
		return true
	}
	s.deny(nc, id, from, ssh.ConnectionFailed, "breakglass: the session is over")
	return false
}
