package jump

import (
	"golang.org/x/crypto/ssh"

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
func (s *session) globalRequest(req *ssh.Request) (ok bool, payload []byte) {
	if !s.enter() {
		return false, nil
	}
	defer s.leave()
	defer s.guard("global request")
	switch req.Type {
	case keepalive:
		// Answered here and carries nothing through: one every second would only bury the rest of the recording.
		return true, nil
	case "no-more-sessions@openssh.com":
		if req.WantReply { // OpenSSH never wants one; waiting for the host's would hold up the others
			break
		}
		if s.rec.now(globalEvent(transcript.Asked, transcript.FromPerson, req, "")) == nil {
			s.up.client.SendRequest(req.Type, false, req.Payload)
		}
		return true, nil
	}
	text := refusedText(whatIs(req.Type))
	s.rec.now(globalEvent(transcript.Asked, transcript.FromPerson, req, ""), globalEvent(transcript.Denied, transcript.FromPerson, req, text))
	s.notice(text)
	return false, nil
}

// serveHost answers what the host asks by itself: nothing of it reaches the person.
func (s *session) serveHost() {
	s.spawn("requests of the host", func() {
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
			text := refusedText(whatIs(nc.ChannelType()))
			o := transcript.Opening{Step: transcript.Asked, From: transcript.FromHost, Type: clipType(nc.ChannelType()), Extra: clip(nc.ExtraData())}
			asked := transcript.Event{Kind: transcript.KindOpen, Chan: id, Data: o.Encode()}
			o = transcript.Opening{Step: transcript.Denied, From: transcript.FromHost, Type: o.Type, Reason: uint32(ssh.Prohibited), Message: text}
			s.rec.now(asked, transcript.Event{Kind: transcript.KindOpen, Chan: id, Data: o.Encode()})
			nc.Reject(ssh.Prohibited, text)
		}
	})
}
