package jump

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/cenkalti/backoff/v5"

	"breakglass/ca/api"
	"breakglass/internal/name"
	"breakglass/ledger"
)

// The jump hears of what the CA's ledger says after a session was opened: that something was revoked, or that a grant ends later. It asks again and
// again for the entries behind the last one it looked at, so nothing is missed that was recorded while it or the CA was away.

const (
	// listenWait is how long the CA holds the line when there is nothing to hear: each answer is a sign of life, so that a line that died
	// silently is noticed in seconds, and a revocation on it comes no later than that.
	listenWait = 3 * time.Second
	// listenTimeout bounds such a call, proofs included.
	listenTimeout = listenWait + 3*time.Second
	// heardFor is how long a revocation is held against sessions that are being opened: longer than an opening takes.
	heardFor = 10 * time.Minute
	// maxHeard bounds those; the oldest is forgotten first.
	maxHeard = 4096
	// maxDeaf is the longest pause between calls that failed.
	maxDeaf = time.Second
)

// heard is a revocation as its entry says it.
type heard struct {
	*ledger.Revoked
	index int64
	by    name.Person
	at    time.Time // when it was heard, monotonic
}

// hits says whether a session is stopped by it. What was opened after it was opened knowing it: somebody may have been invited anew.
func (h *heard) hits(o *order, jump name.Jump) bool {
	if o.index > h.index {
		return false
	}
	switch h.What {
	case ledger.RevokedCertificate:
		return h.Target == strconv.FormatUint(o.opened.Serial, 10) || h.Target == strconv.FormatUint(o.cert.Serial, 10)
	case ledger.RevokedGrant:
		return h.Target == string(o.session.Request())
	case ledger.RevokedSession:
		return h.Target == string(o.session)
	case ledger.RevokedKey:
		return slices.Contains(o.opened.Keys(), h.Target)
	case ledger.RevokedPerson:
		return h.Target == string(o.person)
	case ledger.RevokedJump:
		return h.Target == string(jump)
	}
	return true // something new is revoked, and this jump doesn't know what it reaches: everything
}

// text is what the person reads.
func (h *heard) text() string {
	how := fmt.Sprintf("ended: %s %s was revoked by %s", h.What, h.Target, h.by)
	switch {
	case h.How == ledger.RevokedByEnd:
		how = fmt.Sprintf("ended: %s gave %s up", h.by, h.Target)
	case h.What == ledger.RevokedGrant, h.What == ledger.RevokedSession:
		how = fmt.Sprintf("ended: revoked by %s", h.by)
	}
	return "breakglass: " + printable(how+": "+h.Why) + ". Nothing shown is missing."
}

// ears is what the jump has heard.
type ears struct {
	after int64     // the last entry looked at; -1: none yet
	began int64     // nothing before it was looked at
	since time.Time // of the last answer
	list  []heard
	again func() // ends the call that holds the line: there is something to ask anew
}

// listen hears of revocations and extensions until ctx ends.
func (j *Jump) listen(ctx context.Context) {
	wait := backoff.NewExponentialBackOff()
	wait.InitialInterval, wait.MaxInterval = 50*time.Millisecond, maxDeaf
	deaf := false
	for ctx.Err() == nil {
		err := j.hear(ctx, deaf)
		switch {
		case err == nil:
			if deaf {
				j.log.Info("hearing of revocations again")
				deaf = false
			}
			wait.Reset()
			continue
		case ctx.Err() != nil:
			return
		case !deaf:
			deaf = true
			j.log.Warn("not hearing of revocations", "error", err)
		}
		select {
		case <-time.After(wait.NextBackOff()):
		case <-ctx.Done():
			return
		}
	}
}

// hear asks once and acts on what it hears. After a silence it doesn't hold the line: that the CA is back is news by itself.
func (j *Jump) hear(ctx context.Context, deaf bool) error {
	ctx, cancel := context.WithTimeout(ctx, listenTimeout)
	defer cancel()
	j.mu.Lock()
	after := j.ears.after
	j.ears.again = cancel
	j.mu.Unlock()
	hold := listenWait
	if deaf {
		hold = 0
	}
	a, err := j.cfg.CA.JumpOrders(ctx, after, hold)
	j.mu.Lock()
	moved := j.ears.after != after
	j.mu.Unlock()
	if err != nil && moved {
		return nil // it was ended to be asked anew
	}
	if err != nil {
		return err
	}
	cp, err := ledger.OpenCheckpoint(a.Checkpoint, j.trusted().ledgerKey)
	if err != nil {
		return fmt.Errorf("%w: %w", errAnswer, err)
	}
	if cp.Origin != j.trusted().origin || a.Index >= cp.Size {
		return fmt.Errorf("%w: up to entry %d of %q, checkpoint of %d", errAnswer, a.Index, cp.Origin, cp.Size)
	}
	if after < 0 {
		if err := j.catchUp(ctx); err != nil {
			return err
		}
	}
	for _, p := range a.Entries {
		if err := j.heed(p, cp, a); err != nil {
			return err
		}
	}
	j.seeWatchers() // of all that was said at once: somebody who came and went is not there for a moment
	j.mu.Lock()
	defer j.mu.Unlock()
	j.ears.since = time.Now()
	if j.ears.after != after { // a session has put it back meanwhile: what lies between is heard again
		return nil
	}
	j.ears.after = a.Index
	if after < 0 {
		j.ears.began = a.Index
	}
	return nil
}

// heed acts on one entry.
func (j *Jump) heed(p api.ProvenEntry, cp ledger.Checkpoint, a *api.JumpOrders) error {
	raw := []byte(p.Entry)
	if err := ledger.CheckInclusion(raw, p.Index, p.Proof, cp); err != nil {
		return fmt.Errorf("%w: entry %d: %w", errAnswer, p.Index, err)
	}
	e, err := ledger.Decode(raw)
	if err != nil {
		return fmt.Errorf("%w: entry %d: %w", errAnswer, p.Index, err)
	}
	switch f := e.Facts.(type) {
	case *ledger.Revoked:
		h := heard{Revoked: f, index: p.Index, by: e.Subject.Person, at: time.Now()}
		j.keepHeard(h)
		j.endRevoked(&h)
	case *ledger.SiteChanged:
		if err := j.follow(f.Site, a.Checkpoint); err != nil {
			return fmt.Errorf("%w: entry %d: %w", errAnswer, p.Index, err)
		}
	case *ledger.SessionWatched:
		if e.Subject.Jump == j.cfg.Name {
			j.watchers.joined(e.Subject.Session, p.Index, watcher{id: f.Watch, person: personOf(e.Actor), observer: f.Observer})
		}
	case *ledger.SessionUnwatched:
		if e.Subject.Jump == j.cfg.Name {
			j.watchers.left(e.Subject.Session, p.Index, f.Watch)
		}
	case *ledger.GrantExtended:
		j.extend(e.Subject.Request, f.Used.Touch.Key, f.Until.Time, f.Until.Sub(a.Now))
	}
	return nil
}

// deaf says that the CA has given no sign of life for longer than it should: what it revoked meanwhile still runs here.
func (e *ears) deaf() bool { return e.since.IsZero() || time.Since(e.since) > listenTimeout }

// keepHeard remembers a revocation for sessions that are being opened just now.
func (j *Jump) keepHeard(h heard) {
	j.mu.Lock()
	defer j.mu.Unlock()
	list := j.ears.list
	for len(list) > 0 && (len(list) >= maxHeard || time.Since(list[0].at) > heardFor) {
		list = list[1:]
	}
	j.ears.list = append(list, h)
}

// endRevoked ends the sessions that a revocation reaches; each in its own time, none waits for another.
func (j *Jump) endRevoked(h *heard) {
	for _, s := range j.running() {
		if h.hits(s.order, j.cfg.Name) || h.What == ledger.RevokedKey && s.extendedBy(h.Target) {
			j.log.Info("session revoked", "session", s.order.session, "what", h.What, "target", h.Target, "by", h.by, "entry", h.index)
			go s.revoke(h)
		}
	}
}

func (j *Jump) running() []*session {
	j.mu.Lock()
	defer j.mu.Unlock()
	var out []*session
	for s := range j.sessions {
		out = append(out, s)
	}
	return out
}

// expect says that entries from the session's own on have to be heard, and gives a revocation that was heard before the session was there.
func (j *Jump) expect(o *order) *heard {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.ears.after < 0 || o.index < j.ears.began {
		j.ears.after, j.ears.began = o.index, o.index
		if j.ears.again != nil {
			j.ears.again()
		}
	}
	for i := range j.ears.list {
		if h := &j.ears.list[i]; h.hits(o, j.cfg.Name) {
			return h
		}
	}
	return nil
}

// extend moves the end of a grant's sessions, on a touch of the hardware key. left counts by the CA's clock.
func (j *Jump) extend(id name.RequestID, key string, until time.Time, left time.Duration) {
	for _, s := range j.running() {
		if s.order.session.Request() == id {
			s.extend(key, until, left)
		}
	}
}

// revoke ends the session: what passes is stopped first, whoever reads it or doesn't.
func (s *session) revoke(h *heard) {
	defer s.guard("revocation")
	s.cut(endRevoked, h.text())
}

// errRevoked is why a session that was just opened never had a channel.
var errRevoked = errors.New("revoked while opening")

// schedule sets when the person is warned and when the session ends. The caller holds s.mu.
func (s *session) schedule(left time.Duration) {
	for _, t := range s.ends {
		t.Stop()
	}
	s.ends = nil
	until := s.until
	for _, w := range []struct {
		before time.Duration
		text   string
	}{{5 * time.Minute, "5 minutes"}, {time.Minute, "1 minute"}} {
		if d := left - w.before; d > 0 {
			s.ends = append(s.ends, time.AfterFunc(d, func() {
				s.notice(fmt.Sprintf("breakglass: your grant ends in %s (%s).", w.text, clockTime(until)))
			}))
		}
	}
	s.ends = append(s.ends, time.AfterFunc(left, func() {
		s.cut(endGrant, "breakglass: your grant has ended, and this session with it. Nothing shown is missing.\r\nbreakglass: hint: ask again: breakglass ssh "+s.target())
	}))
}

// extendedBy says whether the session runs for longer on a touch of that key.
func (s *session) extendedBy(key string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return key != "" && s.extender == key
}

// extend lets the session run until a later end, and says so. From then on it stands on the key that extended it, too.
func (s *session) extend(key string, until time.Time, left time.Duration) {
	s.mu.Lock()
	s.extender = key
	if s.over || s.reason != "" || !until.After(s.until) || left <= 0 {
		s.mu.Unlock()
		return
	}
	s.until = until
	if s.ends != nil { // it runs; else start schedules by what is known then
		s.schedule(left)
	}
	s.extended = time.Now().Add(left)
	s.mu.Unlock()
	s.budget.more()
	s.rec.later(act(0, "extended", "the grant ends at "+until.UTC().Format(time.RFC3339)))
	s.notice(fmt.Sprintf("breakglass: your grant was extended: it ends at %s.", clockTime(until)))
}
