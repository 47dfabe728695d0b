package jump

import (
	"golang.org/x/crypto/ssh"

	"breakglass/internal/forward"
	"breakglass/transcript"
)

func globalEvent(step transcript.Step, from transcript.Side, req *ssh.Request, text string) transcript.Event {
	r := transcript.Request{Step: step, From: from, Type: clipType(req.Type), Want: req.WantReply, Message: text}
	if step == transcript.Asked {
		r.Payload = clip(req.Payload)
	}
	return transcript.Event{Kind: transcript.KindGlobal, Data: r.Encode()}
}

// globalRequest handles a global request of the person's client. They come one at a time, so nothing here may block.
func (s *session) globalRequest(person ssh.Conn, req *ssh.Request) (ok bool, payload []byte) {
	if !s.enter() {
		return false, nil
	}
	defer s.leave()
	defer s.guard("global request")
	s.slow()
	switch req.Type {
	case keepalive:
		// Answered here and carries nothing through: one every second would only bury the rest of the recording.
		return true, nil
	case "no-more-sessions@openssh.com":
		if req.WantReply { // OpenSSH never wants one; waiting for the host's would hold up the others
			break
		}
		s.noMore.Store(true)
		if s.rec.now(globalEvent(transcript.Asked, transcript.FromPerson, req, "")) == nil {
			s.up.client.SendRequest(req.Type, false, req.Payload)
		}
		return true, nil
	}
	switch req.Type {
	case forward.Listen, forward.ListenUnix, forward.Cancel, forward.CancelUnix:
		return s.listenRequest(person, req)
	}
	text := refusedText(whatIs(req.Type))
	s.rec.now(globalEvent(transcript.Asked, transcript.FromPerson, req, ""), globalEvent(transcript.Denied, transcript.FromPerson, req, text))
	s.notice(text)
	return false, nil
}

// serveHost answers what the host asks by itself: nothing of it reaches the person.
func (s *session) serveHost() {
	s.spawn("requests of the host", func() {
		defer func() { go s.hostLeft() }() // its requests end with its connection; and the session's end waits for this
		for req := range s.up.reqs {
			if req.Type == keepalive {
				req.Reply(false, nil)
				continue
			}
			// hostkeys-00 above all: the person's client must learn no key of the host, it sees the jump's.
			s.rec.now(globalEvent(transcript.Asked, transcript.FromHost, req, ""),
				globalEvent(transcript.Denied, transcript.FromHost, req, "not passed on"))
			req.Reply(false, nil)
		}
	})
	s.spawn("channels of the host", func() {
		for nc := range s.up.chans {
			id := s.number()
			s.asked(nc.ChannelType())
			switch nc.ChannelType() {
			case forward.OpenRemote, forward.OpenRemoteUnix:
				s.spawn("forwarded channel", func() { s.serveForwarded(nc, id) })
			default:
				s.deny(nc, id, transcript.FromHost, ssh.Prohibited, refusedText(whatIs(nc.ChannelType())))
			}
		}
	})
}
