package jump

import (
	"encoding/binary"
	"fmt"
	"slices"
	"sync"

	"golang.org/x/crypto/ssh"

	"breakglass/internal/forward"
	"breakglass/transcript"
)

// Port and socket forwards. All of them open at the host's sshd, never from the jump: the jump passes the client's channel open, or its wish to
// listen, on to the host, if the CA's answer names exactly that destination, and records both directions like any other channel. What a client
// asks for is read by package forward, and never as text.

// remotes are what the host listens on for this session.
type remotes struct {
	// mu is held while the host is asked: a connection that it reports before its answer was read waits for it.
	mu sync.Mutex
	on map[forward.Forward]bool
	to ssh.Conn // the person's connection, to which it is forwarded
}

// permits says whether the CA's answer allows the forward.
func (o *order) permits(f forward.Forward) bool {
	return slices.ContainsFunc(o.forwards, func(g forward.Forward) bool { return g.Allows(f) })
}

// judgeForward reads the forward that the person's client asks for; text says why it is refused.
func (s *session) judgeForward(typ string, data []byte) (f forward.Forward, text string) {
	f, err := forward.Of(typ, data)
	switch {
	case err != nil:
		return f, "breakglass: " + printable(err.Error())
	case !s.order.permits(f):
		return f, fmt.Sprintf("breakglass: the forward %q is not in this grant; ask for it: breakglass request --forward %q %s", f, f, s.target())
	}
	return f, ""
}

// serveForwarded handles a channel that the host opens: somebody connected to where it listens for the person.
func (s *session) serveForwarded(nc ssh.NewChannel, id uint32) {
	f, err := forward.Of(nc.ChannelType(), nc.ExtraData())
	if err != nil {
		s.deny(nc, id, transcript.FromHost, ssh.Prohibited, "breakglass: "+printable(err.Error()))
		return
	}
	person := s.listensOn(f)
	if person == nil {
		s.deny(nc, id, transcript.FromHost, ssh.Prohibited, fmt.Sprintf("breakglass: nobody listens on %q", f))
		return
	}
	c := newChannel(s, id, true)
	if !s.admit(c, nc, transcript.FromHost) {
		return
	}
	defer s.remove(c)
	if !s.enterForward(nc, id, transcript.FromHost) {
		return
	}
	b := s.bridge(nc, person, id, transcript.FromHost)
	s.hold.leave()
	if b != nil {
		c.client, c.host = b.other, b.asker
		c.ready.Store(true)
		c.proxy(b.otherReqs, b.askerReqs)
	}
}

// listensOn gives the person's connection if the host was asked to listen there.
func (s *session) listensOn(f forward.Forward) ssh.Conn {
	s.remotes.mu.Lock()
	defer s.remotes.mu.Unlock()
	if !s.remotes.on[f] {
		return nil
	}
	return s.remotes.to
}

// listenRequest handles tcpip-forward, streamlocal-forward@openssh.com and their ends.
func (s *session) listenRequest(person ssh.Conn, req *ssh.Request) (bool, []byte) {
	ends := req.Type == forward.Cancel || req.Type == forward.CancelUnix
	f, text := s.judgeForward(req.Type, req.Payload)
	s.remotes.mu.Lock()
	defer s.remotes.mu.Unlock()
	switch {
	case ends && s.remotes.on[f]: // by the port that the host chose, perhaps, which no policy names
		text = ""
	case ends:
		text = "breakglass: the host does not listen there for this session"
	case text == "" && s.isCut():
		text = "breakglass: the session is over"
	case text == "" && len(s.remotes.on) >= maxChannels:
		text = fmt.Sprintf("breakglass: no more than %d listeners in one session", maxChannels)
	}
	asked := globalEvent(transcript.Asked, transcript.FromPerson, req, "")
	if text != "" {
		s.rec.now(asked, globalEvent(transcript.Denied, transcript.FromPerson, req, text))
		s.notice(text)
		return false, nil
	}
	if s.rec.now(asked) != nil {
		return false, nil
	}
	// The host is always asked for an answer, whether or not the client wants one: what it doesn't listen on must not be in the list.
	ok, payload, err := s.up.client.SendRequest(req.Type, true, req.Payload)
	ok = ok && err == nil
	got := f
	if ok && !ends && f.Kind == forward.Remote && f.Port == 0 {
		// RFC 4254 section 7.1: the port that the host chose.
		if len(payload) != 4 || binary.BigEndian.Uint32(payload) == 0 || binary.BigEndian.Uint32(payload) > 65535 {
			ok = false // it listens somewhere, and nobody can be told where: nothing from there is let through
		} else {
			got.Port = uint16(binary.BigEndian.Uint32(payload))
		}
	}
	done := globalEvent(transcript.Refused, transcript.FromPerson, req, "")
	if ok {
		r := transcript.Request{Step: transcript.Done, From: transcript.FromPerson, Type: clipType(req.Type), Want: req.WantReply, Payload: clip(payload)}
		done.Data = r.Encode()
	}
	if s.rec.now(done) != nil {
		ok = false
	}
	if !ok {
		return false, nil
	}
	if ends {
		delete(s.remotes.on, f)
	} else {
		if s.remotes.on == nil {
			s.remotes.on = map[forward.Forward]bool{}
		}
		s.remotes.on[got], s.remotes.to = true, person
	}
	return true, payload
}
