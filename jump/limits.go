package jump

import (
	"context"
	"sync/atomic"

	"golang.org/x/time/rate"

	"breakglass/transcript"
)

// What a proven person may do in a moment. A person doesn't come near these; a program that does is slowed, and one that goes on regardless is cut: each
// request is a record and a flush, and each channel open is a goroutine before anybody has judged it.

const (
	// requestsPerSecond and requestBurst are of channel opens, channel requests and global requests together: an editor that opens thirty channels and
	// their requests at once isn't slowed.
	requestsPerSecond = 200
	requestBurst      = 1000
	// maxPending bounds the channels of one connection, those that nobody has judged yet included: maxChannels are refused in order, this many at once
	// are a flood.
	maxPending = 4 * maxChannels
)

// endFlood is the end of a session whose client opens channels faster than they can be answered.
const endFlood = "flood"

func newPace() *rate.Limiter { return rate.NewLimiter(requestsPerSecond, requestBurst) }

// slow holds a client back that asks too fast: its own connection waits, and nobody else's. It returns when the request may be looked at, or the session is
// over.
func (s *session) slow() {
	r := s.pace.Reserve()
	d := r.Delay()
	if d <= 0 {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), d)
	defer cancel()
	select {
	case <-ctx.Done():
	case <-s.done:
	}
}

// pending counts a connection's channels from the moment they are asked for until they are closed.
type pending struct{ n atomic.Int32 }

// enter counts one more, and says whether it may be looked at.
func (p *pending) enter() bool { return p.n.Add(1) <= maxPending }
func (p *pending) leave()      { p.n.Add(-1) }

// requested takes what a request or a channel open puts into the recording out of the session's budget: what isn't a channel's data may be as large, and
// costs the store the same.
func (s *session) requested(events []transcript.Event) {
	n := 0
	for _, e := range events {
		switch e.Kind {
		case transcript.KindOpen, transcript.KindRequest, transcript.KindGlobal:
			n += len(e.Data)
		}
	}
	if n > 0 {
		s.spend(n) // an error has cut the session
	}
}

// floodText is what a person reads who asks too much.
const floodText = "breakglass: session cut: more channels were asked for at once than anybody needs. Nothing shown is missing."
