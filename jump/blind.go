package jump

import (
	"context"
	"fmt"
	"time"

	"breakglass/ledger"
)

// A session outlives the CA's silence for the policy's grace, as the CA's answer gave it: who is at work must not be cut off by a restart. But no
// revocation reaches it then, and nobody is alerted. So after blindAfter it is marked in its recording and in a fact, the person is told, and
// at the end of the grace, which is the longest that a revocation can be late, it is cut.

const (
	// blindAfter is how long the CA may be silent: longer than listenWait, after which it gives a sign of life.
	blindAfter = 5 * time.Second
	// blindEvery is how often that is looked at.
	blindEvery = 250 * time.Millisecond
	// defaultGrace is for answers that name none.
	defaultGrace = 30 * time.Minute
	endBlind     = "blind" // the grace without the CA is over
)

// watchCA marks sessions blind and sighted until ctx ends.
func (j *Jump) watchCA(ctx context.Context) {
	began := time.Now()
	t := time.NewTicker(blindEvery)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
		j.mu.Lock()
		heard := j.ears.since
		var all []*session
		for s := range j.sessions {
			all = append(all, s)
		}
		j.mu.Unlock()
		if heard.IsZero() {
			heard = began
		}
		blind := time.Since(heard) > blindAfter
		for _, s := range all {
			s.seeing(heard, blind)
			s.hear(blind)
		}
	}
}

// seeing tells the session whether the CA is heard. What it leads to runs apart: the journal may be slow.
func (s *session) seeing(heard time.Time, blind bool) {
	s.mu.Lock()
	if s.over || s.up == nil || s.reason != "" || blind == !s.blind.IsZero() {
		s.mu.Unlock()
		return
	}
	since := s.blind
	if blind {
		// Opened after the CA was last heard here: its answer was a sign of life too.
		if at := s.rec.began; at.After(heard) {
			heard = at
		}
		if time.Since(heard) <= blindAfter {
			s.mu.Unlock()
			return
		}
		s.blind = heard
		left := s.order.grace - time.Since(heard)
		s.blindEnd = time.AfterFunc(left, func() {
			s.cut(endBlind, fmt.Sprintf("breakglass: session cut: the CA has not answered for %v, and nothing runs longer without it. Nothing shown is missing.", s.order.grace))
		})
		s.timers = append(s.timers, s.blindEnd)
	} else {
		s.blindFor += time.Since(s.blind)
		s.blind = time.Time{}
		s.blindEnd.Stop()
	}
	until := s.until
	s.mu.Unlock()
	s.spawn("telling of the CA", func() {
		if blind {
			s.tellBlind(heard, until)
			return
		}
		s.tellSighted(time.Since(since))
	})
}

func (s *session) tellBlind(heard, until time.Time) {
	wall := s.j.cfg.Now().Add(-time.Since(heard))
	if end := wall.Add(s.order.grace); end.Before(until) {
		until = end
	}
	text := fmt.Sprintf("breakglass: the CA does not answer. This session goes on, recorded and marked blind, until %s at most.", clockTime(until))
	s.rec.now(act(0, "blind", text))
	s.j.log.Error("session runs without the CA", "session", s.order.session, "person", s.order.person, "host", s.order.host, "until", until.UTC())
	if _, err := s.j.facts.Append(&ledger.SessionBlind{Heard: ledger.At(wall)}, s.order.session, nil); err != nil {
		s.j.log.Error("blind session not told", "session", s.order.session, "error", err)
	}
	s.notice(text)
}

func (s *session) tellSighted(after time.Duration) {
	text := "breakglass: the CA answers again."
	s.rec.now(act(0, "sighted", text))
	s.j.log.Info("session is seen by the CA again", "session", s.order.session, "after", after.Round(time.Second))
	if _, err := s.j.facts.Append(&ledger.SessionSighted{Seconds: int(after.Seconds())}, s.order.session, nil); err != nil {
		s.j.log.Error("sighted session not told", "session", s.order.session, "error", err)
	}
	s.notice(text)
}
