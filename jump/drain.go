package jump

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"slices"
	"time"

	"breakglass/internal/name"
)

// A jump that is told to end first lets people finish. It takes no connection any more: its own listener refuses them, so that a client goes on to the
// next jump at once; one that was handed over by the service manager keeps them for whoever shares it, and nobody notices. Whoever is in is told on their
// terminal until when, and what is left at the deadline is cut, sealed and told like at any other end.

const (
	// admitTimeout is how long after that a connection may still become a session: it had been accepted, and nobody else can serve it.
	admitTimeout = 3 * time.Second
	// drainEvery is how often it is looked whether somebody is left.
	drainEvery = 50 * time.Millisecond
)

// going is how a jump goes down; its zero value is a jump that doesn't.
type going struct {
	since time.Time // monotonic
	until time.Time // of Config.Now's clock
}

// Hurry ends the wait for people to finish: what runs is cut now.
func (j *Jump) Hurry() { j.hurryOnce.Do(func() { close(j.hurry) }) }

// drain stops accepting and returns when nobody is left, at the deadline, on Hurry, or with the error that ends the jump before.
func (j *Jump) drain(l net.Listener, accepted <-chan error, forgot <-chan error) error {
	if j.cfg.Drain <= 0 {
		return nil
	}
	deadline := time.After(j.cfg.Drain)
	l.Close()
	if err := <-accepted; err != nil { // all that was accepted has its goroutine now
		return err
	}
	j.mu.Lock()
	j.going = going{since: time.Now(), until: j.cfg.Now().Add(j.cfg.Drain)}
	until := j.going.until
	j.mu.Unlock()
	running := j.running()
	j.log.Info("draining", "sessions", len(running), "until", until.UTC())
	for _, s := range running {
		s.notice(j.goesDown(s, until))
	}
	t := time.NewTicker(drainEvery)
	defer t.Stop()
	for !j.empty() {
		select {
		case <-t.C:
		case <-deadline:
			return nil
		case <-j.hurry:
			return nil
		case <-j.failed:
			return nil // Serve says why
		case err := <-forgot:
			return err
		}
	}
	j.log.Info("drained")
	return nil
}

// empty says that no session runs, none is being opened, and whoever was at the door had time to come in.
func (j *Jump) empty() bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	return len(j.sessions) == 0 && j.opening.Load() == 0 && (len(j.conns) == 0 || time.Since(j.going.since) > admitTimeout)
}

// goesDown is what a person reads on a jump that drains.
func (j *Jump) goesDown(s *session, until time.Time) string {
	return fmt.Sprintf("breakglass: this jump goes down at %s, and this session with it. Until then it goes on.\r\nbreakglass: hint: another way in: %s",
		clockTime(until), j.elsewhere(s.target()))
}

// goingAt is when the jump goes down; zero: it doesn't.
func (j *Jump) goingAt() time.Time {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.going.until
}

// errGoing is why nobody is let in any more.
var errGoing = errors.New("going down")

// admits says whether a session may be opened, or why not.
func (j *Jump) admits(target string) error {
	j.mu.Lock()
	since := j.going.since
	j.mu.Unlock()
	if since.IsZero() || time.Since(since) <= admitTimeout {
		return nil
	}
	return say(errGoing, "this jump is going down and lets nobody in any more", j.elsewhere(target))
}

// elsewhere is what to type to reach a host over another jump, or over whichever answers where none is known.
func (j *Jump) elsewhere(target string) string {
	others := slices.DeleteFunc(slices.Clone(j.trusted().jumps), func(n name.Jump) bool { return n == j.cfg.Name })
	if len(others) == 0 {
		return "breakglass ssh " + target
	}
	// The one behind this in the order of names, so that the people of a jump that goes down don't all go to the same one.
	slices.Sort(others)
	i := slices.IndexFunc(others, func(n name.Jump) bool { return n > j.cfg.Name })
	return fmt.Sprintf("breakglass ssh --jump %s %s", others[max(i, 0)], target)
}

// Running is one session that runs.
type Running struct {
	ID       name.SessionID `json:"id"`
	Person   name.Person    `json:"person"`
	Login    name.Login     `json:"login"`
	Host     name.Host      `json:"host"`
	Since    time.Time      `json:"since"`
	Until    time.Time      `json:"until"`
	BytesIn  int64          `json:"bytes_in"`
	BytesOut int64          `json:"bytes_out"`
}

// Running lists the sessions that run, the oldest first.
func (j *Jump) Running() []Running {
	out := []Running{}
	for _, s := range j.running() {
		out = append(out, Running{ID: s.order.session, Person: s.order.person, Login: s.order.login, Host: s.order.host,
			Since: s.rec.began.UTC().Truncate(time.Second), Until: s.ending().UTC(), BytesIn: s.rec.in.Load(), BytesOut: s.rec.out.Load()})
	}
	slices.SortFunc(out, func(a, b Running) int { return cmp.Or(a.Since.Compare(b.Since), cmp.Compare(a.ID, b.ID)) })
	return out
}
