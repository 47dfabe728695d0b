package jump

import (
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/crypto/ssh"

	"breakglass/internal/forward"
	"breakglass/transcript"
)

// Requests on a session channel that are recorded and passed on (RFC 4254 section 6, OpenSSH PROTOCOL section 2). Every other is
// refused: what isn't understood can't be shown to an auditor.
var (
	fromPerson = map[string]bool{
		"pty-req": true, "env": true, "shell": true, "exec": true, "subsystem": true, "window-change": true, "xon-xoff": true,
		"signal": true, "break": true, "eow@openssh.com": true,
	}
	fromHost = map[string]bool{"exit-status": true, "exit-signal": true, "xon-xoff": true, "eow@openssh.com": true}
	// starts lets data through to the host: sshd drops what comes before.
	starts = map[string]bool{"shell": true, "exec": true, "subsystem": true}
)

const keepalive = "keepalive@openssh.com"

// refusedText is what a person reads about something that isn't recorded, and is therefore refused.
func refusedText(what string) string {
	return fmt.Sprintf("breakglass: %s is not recorded, so refused", what)
}

// whatIs names channel types and requests as people know them, with what to do instead.
func whatIs(typ string) string {
	switch typ {
	case "x11-req", "x11":
		return "X11 forwarding (use -x)"
	case "auth-agent-req@openssh.com", "auth-agent@openssh.com":
		return "agent forwarding (use -a)"
	case "tun@openssh.com":
		return "tunnel forwarding"
	}
	return fmt.Sprintf("%q", typ[:min(len(typ), maxType)])
}

// channel is one channel, proxied: a session's, or a forward's.
type channel struct {
	s            *session
	id           uint32
	forward      bool // data and its ends, no requests
	client, host ssh.Channel
	ready        atomic.Bool // both are set

	gate     chan struct{} // open once something was started
	gateOnce sync.Once

	gone     chan struct{} // closed once the person's side has closed
	goneOnce sync.Once

	exited   chan struct{} // closed once the exit status is out, or never comes
	exitOnce sync.Once

	starting sync.Mutex // held while something is asked to start, until the person has read what they are told of it

	mu      sync.Mutex
	pty     bool
	started bool
	held    bool // something that was asked waits for an observer
	notices []string

	errMu sync.Mutex // one writer of extended data at a time
}

func newChannel(s *session, id uint32, forward bool) *channel {
	c := &channel{s: s, id: id, forward: forward, gate: make(chan struct{}), exited: make(chan struct{}), gone: make(chan struct{})}
	if forward { // nothing has to be started, and nothing will say how it ended
		c.open()
		c.exit()
	}
	return c
}

// openEvent is a step of a channel's opening, as it is recorded.
func openEvent(id uint32, from transcript.Side, typ string, o transcript.Opening) transcript.Event {
	o.From, o.Type = from, clipType(typ)
	return transcript.Event{Kind: transcript.KindOpen, Chan: id, Data: o.Encode()}
}

// deny refuses a channel, and passes nothing on. Recorded before it is answered, like everything.
func (s *session) deny(nc ssh.NewChannel, id uint32, from transcript.Side, reason ssh.RejectionReason, text string) {
	typ := nc.ChannelType()
	s.rec.now(openEvent(id, from, typ, transcript.Opening{Step: transcript.Asked, Extra: clip(nc.ExtraData())}),
		openEvent(id, from, typ, transcript.Opening{Step: transcript.Denied, Reason: uint32(reason), Message: text}))
	nc.Reject(reason, text)
}

// admit counts a channel in, or denies it: the grant is looked at again at every opening.
func (s *session) admit(c *channel, nc ssh.NewChannel, from transcript.Side) bool {
	switch {
	case s.isCut():
		s.deny(nc, c.id, from, ssh.ConnectionFailed, "breakglass: the session is over")
		return false
	case !s.add(c):
		s.deny(nc, c.id, from, ssh.ResourceShortage, fmt.Sprintf("breakglass: no more than %d channels in one session", maxChannels))
		return false
	}
	return true
}

// serveChannel handles a channel that the person's client opens.
func (s *session) serveChannel(nc ssh.NewChannel) {
	if !s.enter() {
		nc.Reject(ssh.ConnectionFailed, "breakglass: the session is over")
		return
	}
	defer s.leave()
	defer s.guard("channel")
	s.slow()
	id := s.number()
	s.asked(nc.ChannelType())
	isForward := false
	switch typ := nc.ChannelType(); typ {
	case "session":
		if len(nc.ExtraData()) > 0 {
			s.deny(nc, id, transcript.FromPerson, ssh.ConnectionFailed, "breakglass: malformed channel open")
			return
		}
		if s.noMore.Load() { // OpenSSH PROTOCOL section 2.2; its sshd would end the connection
			s.deny(nc, id, transcript.FromPerson, ssh.Prohibited, "breakglass: this client asked for no more sessions")
			return
		}
	case forward.OpenLocal, forward.OpenLocalUnix:
		if _, text := s.judgeForward(typ, nc.ExtraData()); text != "" {
			s.deny(nc, id, transcript.FromPerson, ssh.Prohibited, text)
			return
		}
		isForward = true
	default:
		s.deny(nc, id, transcript.FromPerson, ssh.Prohibited, refusedText(whatIs(typ)))
		return
	}
	c := newChannel(s, id, isForward)
	if !s.admit(c, nc, transcript.FromPerson) {
		return
	}
	defer s.remove(c)
	if isForward && !s.enterForward(nc, id, transcript.FromPerson) {
		return
	}
	b := s.bridge(nc, s.up.client, id, transcript.FromPerson)
	if isForward {
		s.hold.leave()
	}
	if b != nil {
		c.client, c.host = b.asker, b.other
		c.ready.Store(true)
		c.proxy(b.askerReqs, b.otherReqs)
	}
}

// bridged are the two ends of an open channel.
type bridged struct {
	asker, other         ssh.Channel
	askerReqs, otherReqs <-chan *ssh.Request
}

// bridge opens at the other side what one side asks for, and answers as it did, each step recorded before it is taken. It gives nil if that
// came to nothing.
func (s *session) bridge(nc ssh.NewChannel, far ssh.Conn, id uint32, from transcript.Side) *bridged {
	typ := nc.ChannelType()
	if err := s.rec.now(openEvent(id, from, typ, transcript.Opening{Step: transcript.Asked, Extra: nc.ExtraData()})); err != nil {
		nc.Reject(ssh.ConnectionFailed, "breakglass: the session can't be recorded")
		return nil
	}
	other, otherReqs, err := far.OpenChannel(typ, nc.ExtraData())
	if err != nil {
		o := transcript.Opening{Step: transcript.Refused, Reason: uint32(ssh.ConnectionFailed), Message: err.Error()}
		var refused *ssh.OpenChannelError
		if errors.As(err, &refused) {
			o.Reason, o.Message = uint32(refused.Reason), refused.Message
		}
		o.Message = string(clip(o.Message))
		if s.rec.now(openEvent(id, from, typ, o)) != nil { // the other side's words, and nobody would know of them
			o.Reason, o.Message = uint32(ssh.ConnectionFailed), "breakglass: the session can't be recorded"
		}
		nc.Reject(ssh.RejectionReason(o.Reason), o.Message)
		return nil
	}
	if err := s.rec.now(openEvent(id, from, typ, transcript.Opening{Step: transcript.Done})); err != nil {
		other.Close()
		nc.Reject(ssh.ConnectionFailed, "breakglass: the session can't be recorded")
		go ssh.DiscardRequests(otherReqs)
		return nil
	}
	asker, askerReqs, err := nc.Accept()
	if err != nil {
		other.Close()
		go ssh.DiscardRequests(otherReqs)
		return nil
	}
	return &bridged{asker, other, askerReqs, otherReqs}
}

// proxy ends when both sides have closed the channel.
func (c *channel) proxy(clientReqs, hostReqs <-chan *ssh.Request) {
	var all, stdin sync.WaitGroup
	// The output's end is the business of whichever of stdout and stderr ends last: one goroutine less for each channel that does nothing.
	ended := make(chan struct{})
	var outputs atomic.Int32
	outputs.Store(2)
	endOutput := func() {
		if outputs.Add(-1) > 0 {
			return
		}
		defer close(ended)
		// EOF toward the client stops stdout and stderr alike (X:channel.go sentEOF), so both must be drained first.
		// And the exit status must be out: a client that has sent its EOF closes when it gets ours, X answers a close at
		// once, and nothing can follow (sshd itself holds its close back until it has sent the status). So a command that
		// closes its output and runs on shows its end of output with its exit.
		<-c.exited
		// So must the greeting of a command that was faster than it.
		c.starting.Lock()
		defer c.starting.Unlock()
		if c.side(transcript.KindEOF, transcript.FromHost) == nil {
			c.client.CloseWrite()
		}
	}
	run := func(wg *sync.WaitGroup, what string, f func()) {
		all.Add(1)
		if wg != nil {
			wg.Add(1)
		}
		go func() {
			defer all.Done()
			if wg != nil {
				defer wg.Done()
			}
			defer c.s.guard(what)
			f()
		}()
	}
	run(nil, "stdout", func() {
		defer endOutput()
		(&pump{s: c.s, kind: transcript.KindOutput, id: c.id, from: c.host, to: func(b []byte) error { _, err := c.client.Write(b); return err }}).run()
	})
	run(nil, "stderr", func() {
		defer endOutput()
		(&pump{s: c.s, kind: transcript.KindStderr, id: c.id, from: c.host.Stderr(), to: c.writeStderr}).run()
	})
	run(&stdin, "stdin", func() {
		// X queues data and requests apart; sshd takes data only once something runs.
		<-c.gate
		(&pump{s: c.s, kind: transcript.KindInput, id: c.id, from: c.client, to: func(b []byte) error { _, err := c.host.Write(b); return err }, hold: c.s.hold, gone: c.gone}).run()
		if c.s.hold.enter(c.gone) {
			if c.side(transcript.KindEOF, transcript.FromPerson) == nil {
				c.host.CloseWrite()
			}
			c.s.hold.leave()
		}
	})
	run(nil, "requests of the person", func() {
		c.personsRequests(clientReqs)
		c.goneOnce.Do(func() { close(c.gone) })
		// The client closed the channel. What it sent before that still goes to the host, unless the host never reads it.
		c.open()
		c.side(transcript.KindClose, transcript.FromPerson)
		late := time.AfterFunc(lingerTimeout, func() { c.host.Close() })
		stdin.Wait()
		late.Stop()
		c.host.Close()
	})
	run(nil, "requests of the host", func() {
		for req := range hostReqs {
			c.request(req, transcript.FromHost)
			if req.Type == "exit-status" || req.Type == "exit-signal" {
				c.exit()
			}
		}
		c.exit()
		<-ended
		c.side(transcript.KindClose, transcript.FromHost)
		c.client.Close()
		c.open()
	})
	all.Wait()
}

func (c *channel) side(k transcript.Kind, from transcript.Side) error {
	return c.s.rec.now(transcript.Event{Kind: k, Chan: c.id, Data: []byte{byte(from)}})
}

func (c *channel) exit() { c.exitOnce.Do(func() { close(c.exited) }) }

func (c *channel) open() { c.gateOnce.Do(func() { close(c.gate) }) }

func (c *channel) writeStderr(b []byte) error {
	if c.forward { // no such stream there
		return nil
	}
	c.errMu.Lock()
	defer c.errMu.Unlock()
	_, err := c.client.Stderr().Write(b)
	return err
}

// request passes one request on and its answer back. One at a time in each direction: so answers come in the order of the asking.
func (c *channel) request(req *ssh.Request, from transcript.Side) {
	event := func(r transcript.Request) transcript.Event {
		r.From, r.Type, r.Want = from, clipType(req.Type), req.WantReply
		return transcript.Event{Kind: transcript.KindRequest, Chan: c.id, Data: r.Encode()}
	}
	allowed, to := fromPerson[req.Type], c.host
	if from == transcript.FromHost {
		allowed, to = fromHost[req.Type], c.client
		if req.Type == keepalive { // nothing to pass: any answer says that we live
			req.Reply(false, nil)
			return
		}
	}
	if len(req.Payload) > maxPayload || c.forward {
		allowed = false
	}
	if !allowed {
		c.s.slow()
		text := refusedText(whatIs(req.Type))
		c.s.rec.now(event(transcript.Request{Step: transcript.Asked, Payload: clip(req.Payload)}),
			event(transcript.Request{Step: transcript.Denied, Message: text}))
		req.Reply(false, nil)
		if from == transcript.FromPerson {
			c.notice(text)
		}
		return
	}
	c.s.active()
	if from == transcript.FromPerson {
		c.s.slow()
		if starts[req.Type] {
			c.starting.Lock()
			defer c.starting.Unlock()
		}
	}
	if err := c.s.rec.now(event(transcript.Request{Step: transcript.Asked, Payload: req.Payload})); err != nil {
		req.Reply(false, nil)
		return
	}
	if from == transcript.FromHost {
		c.s.exited(req)
	}
	ok, err := to.SendRequest(req.Type, req.WantReply, req.Payload)
	ok = ok && err == nil
	if req.WantReply {
		step := transcript.Refused
		if ok {
			step = transcript.Done
		}
		if c.s.rec.now(event(transcript.Request{Step: step})) != nil {
			ok = false
		}
		req.Reply(ok, nil)
	}
	if from == transcript.FromPerson {
		c.follow(req.Type, ok || !req.WantReply && err == nil)
	}
}

// follow notes what a request of the person changed.
func (c *channel) follow(typ string, ok bool) {
	if !ok {
		return
	}
	c.mu.Lock()
	switch {
	case typ == "pty-req":
		c.pty = true
	case starts[typ] && !c.started:
		c.started = true
		if c.pty {
			c.notices = append(c.s.greeting(), c.notices...)
		}
	}
	tell := c.started && c.pty
	notices := c.notices
	if tell {
		c.notices = nil
	}
	c.mu.Unlock()
	if tell {
		for _, n := range notices {
			c.say(n)
		}
	}
	if starts[typ] {
		c.open()
	}
}

// notice tells the person something, on a terminal only: elsewhere stderr belongs to programs.
func (c *channel) notice(text string) {
	c.mu.Lock()
	tell := c.started && c.pty
	if !tell && len(c.notices) < 8 {
		c.notices = append(c.notices, text)
	}
	c.mu.Unlock()
	if tell {
		c.say(text)
	}
}

// say writes a line of the jump's own to the person, as extended data so that redirected output stays what the host sent. It is a marker
// in the recording first.
func (c *channel) say(text string) {
	if c.s.rec.now(transcript.Event{Kind: transcript.KindMark, Chan: c.id, Data: []byte(text)}) == nil {
		c.writeStderr([]byte(text + "\r\n"))
	}
}

// terminal says whether the channel has one and something runs on it.
func (c *channel) terminal() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.pty && c.started
}

// maxType bounds a recorded type; real ones have under 40 bytes.
const maxType = 256

// clipType keeps a stranger's type within reason.
func clipType(s string) string { return s[:min(len(s), maxType)] }

// maxPayload bounds a recorded payload; a packet is at most 256 KiB (RFC 4253 section 6.1 asks for 32 KiB).
const maxPayload = 256 << 10

// clip keeps a stranger's text within a record.
func clip[T string | []byte](s T) T { return s[:min(len(s), maxPayload)] }

// exited notes how the last command ended.
func (s *session) exited(req *ssh.Request) {
	switch req.Type {
	case "exit-status":
		if len(req.Payload) == 4 {
			code := int(binary.BigEndian.Uint32(req.Payload))
			s.mu.Lock()
			s.exit, s.exitCode = fmt.Sprint(code), &code
			s.mu.Unlock()
		}
	case "exit-signal":
		var m struct {
			Signal  string
			Core    bool
			Message string
			Lang    string
		}
		if ssh.Unmarshal(req.Payload, &m) == nil {
			s.mu.Lock()
			s.exit, s.exitCode = "signal "+m.Signal[:min(len(m.Signal), 32)], nil
			s.mu.Unlock()
		}
	}
}
