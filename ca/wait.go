package ca

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"breakglass/ca/api"
	"breakglass/ca/state"
	"breakglass/internal/name"
	"breakglass/internal/statement"
)

const (
	// maxWaiters bounds the calls that hold the line, and maxWaitersEach those of one person or client key, so that one can't take all.
	maxWaiters     = 2048
	maxWaitersEach = 16
	// maxSeen bounds the requests of which it is remembered who has seen them; the oldest is forgotten first.
	maxSeen = 4096
	// maxWaiting bounds a person's requests that wait: whoever loses count of them loses sight of what they approve, too.
	maxWaiting = 8
	// maxListed bounds the list of waiting requests.
	maxListed = 500
)

// changes wakes the calls that wait for something of a request to change. It holds no database connection while they wait.
type changes struct {
	mu     sync.Mutex
	calls  map[name.RequestID]map[chan struct{}]bool
	by     map[string]int
	all    int
	closed bool
}

func newChanges() *changes {
	return &changes{calls: map[name.RequestID]map[chan struct{}]bool{}, by: map[string]int{}}
}

// watch gives a channel that is closed at the next change of the request; cancel has to be called. Not ok: too many wait already, or the CA is stopping.
func (s *changes) watch(id name.RequestID, who string) (ch <-chan struct{}, cancel func(), ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed || s.all >= maxWaiters || s.by[who] >= maxWaitersEach {
		return nil, nil, false
	}
	c := make(chan struct{})
	if s.calls[id] == nil {
		s.calls[id] = map[chan struct{}]bool{}
	}
	s.calls[id][c] = true
	s.all++
	s.by[who]++
	return c, sync.OnceFunc(func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.all--
		if s.by[who]--; s.by[who] == 0 {
			delete(s.by, who)
		}
		if delete(s.calls[id], c); len(s.calls[id]) == 0 {
			delete(s.calls, id)
		}
	}), true
}

// tell says that something of the request has changed: it is called when that is durable.
func (s *changes) tell(id name.RequestID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.calls[id] {
		close(c)
	}
	delete(s.calls, id)
}

// close wakes everybody, for good: the CA stops.
func (s *changes) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	for id, calls := range s.calls {
		for c := range calls {
			close(c)
		}
		delete(s.calls, id)
	}
}

// seen remembers which approvers' clients have fetched a request with a pass. It is what the requester is shown, decides nothing, and is kept in
// memory alone: after a restart nobody has seen anything.
type seen struct {
	mu    sync.Mutex
	who   map[name.RequestID]map[name.Person]bool
	order []name.RequestID
}

func newSeen() *seen { return &seen{who: map[name.RequestID]map[name.Person]bool{}} }

// add reports whether that is new.
func (s *seen) add(id name.RequestID, p name.Person) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.who[id] == nil {
		if len(s.order) >= maxSeen {
			delete(s.who, s.order[0])
			s.order = s.order[1:]
		}
		s.who[id] = map[name.Person]bool{}
		s.order = append(s.order, id)
	}
	if s.who[id][p] {
		return false
	}
	s.who[id][p] = true
	return true
}

func (s *seen) by(id name.RequestID, p name.Person) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.who[id][p]
}

func (s *seen) count(id name.RequestID) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.who[id])
}

// shown notes that an approver's client has fetched the request.
func (c *CA) shown(r *state.Request, who *caller) {
	if who != nil && who.person != "" && r.Waiting(c.now()) && c.mayApprove(r, who.person) && c.seen.add(r.ID, who.person) {
		c.changes.tell(r.ID)
	}
}

func (c *CA) mayApprove(r *state.Request, p name.Person) bool {
	if r.Waits == nil {
		return false
	}
	rule, ok := c.policy.Load().Rule(r.Waits.Rule)
	return ok && rule.MayApprove(p, r.Person)
}

// crowded refuses one more request that waits, of a person who has many.
func (c *CA) crowded(tx *state.Tx, p name.Person, now time.Time) (*api.Problem, error) {
	list, err := tx.Waiting(now, maxListed)
	if err != nil {
		return nil, err
	}
	n := 0
	for _, r := range list {
		if r.Person == p {
			n++
		}
	}
	if n < maxWaiting {
		return nil, nil
	}
	return &api.Problem{Status: 409, Code: api.CodeManyWaiting, Detail: fmt.Sprintf("%d requests of %s wait for approvals already", n, p),
		Next: []string{"breakglass grants", "breakglass end ID gives one up"}}, nil
}

// waiting is what a request waits for.
func (c *CA) waiting(tx *state.Tx, r *state.Request) (*api.Waiting, error) {
	now, w := c.now(), r.Waits
	list, err := c.approvers(tx, r, now)
	if err != nil {
		return nil, err
	}
	out := &api.Waiting{ID: r.ID, Rule: w.Rule, Why: w.Why, Needed: w.Approvals, Expires: w.Until.UTC(), Now: now.UTC(), Approvers: []api.Asked{}}
	if r.Kind == statement.RequestExtend {
		out.Of = r.Of
	}
	if w.Override != nil {
		out.OverrideAt = w.Override.UTC()
	}
	approved, _ := verdicts(list)
	for _, p := range approved {
		if c.mayApprove(r, p) {
			out.Given++
		}
	}
	for _, p := range w.Approvers {
		if c.mayApprove(r, p) {
			out.Approvers = append(out.Approvers, api.Asked{Person: p, Seen: c.seen.by(r.ID, p)})
		}
	}
	return out, nil
}

// requestState is what has become of a request.
func (c *CA) requestState(tx *state.Tx, r *state.Request, who *caller) (*api.RequestState, error) {
	now := c.now()
	out := &api.RequestState{ID: r.ID, State: r.State, Person: r.Person, Login: r.Login, Host: r.Host, Reason: r.Reason, Statement: r.Statement, Signed: r.Signed,
		Opened: r.Opened.UTC(), Now: now.UTC(), Sessions: []api.SessionState{}}
	if r.Kind != statement.RequestNew {
		out.Of = r.Of
	}
	if r.Waits != nil {
		out.From = r.Waits.Used.Addresses
		said, err := tx.Approvals(statement.AboutRequest, string(r.ID))
		if err != nil {
			return nil, err
		}
		for _, s := range said {
			out.Said = append(out.Said, api.Said{Person: s.Person, Verdict: s.Verdict, Comment: s.Comment, At: s.Given.UTC(), Until: s.Until.UTC(), Grace: s.Grace})
		}
	}
	var err error
	switch {
	case r.Waiting(now):
		out.MayApprove = who != nil && who.person != "" && c.mayApprove(r, who.person)
		out.Waiting, err = c.waiting(tx, r)
	case r.State == "open" && r.Waits != nil:
		out.State = "expired"
		out.Problem = undecided(r, now).About(r.ID)
	case r.Denied != nil:
		out.From = r.Denied.Used.Addresses
		out.Problem = &api.Problem{Status: 403, Code: api.CodeDenied, Detail: r.Denied.Reasons[0].Detail, Reasons: r.Denied.Reasons, Rule: r.Denied.Rule, Request: r.ID}
	}
	if err != nil {
		return nil, err
	}
	g := r
	if r.Kind == statement.RequestExtend && r.State == "allowed" { // what it gave is the grant's
		of, err := tx.Request(r.Of)
		if err != nil {
			return nil, err
		}
		g = &of
	}
	if g.Allowed != nil {
		if !now.Before(g.Until) {
			out.State = "ended"
		}
		if v, err := c.revoked(tx, g.ID, 0); err != nil {
			return nil, err
		} else if v != nil {
			out.State = "revoked"
		}
		if out.Granted, err = granted(tx, g); err != nil {
			return nil, err
		}
		if err := c.tellEnrolment(tx, out.Granted); err != nil {
			return nil, err
		}
		if _, out.Granted.Checkpoint, err = tx.Head(); err != nil {
			return nil, err
		}
	}
	own, err := tx.OfRequest(string(r.ID))
	if err != nil {
		return nil, err
	}
	out.Version = int64(len(own) + c.seen.count(r.ID))
	sessions, err := tx.Sessions(r.ID, maxSessions)
	for _, s := range sessions {
		out.Sessions = append(out.Sessions, sessionState(s))
	}
	return out, err
}

// request tells what became of one: to its client key, or with a pass.
func (c *CA) request(ctx context.Context, id name.RequestID, who *caller) (*api.RequestState, error) {
	var out *api.RequestState
	var row state.Request
	err := c.state.View(ctx, func(tx *state.Tx) (err error) {
		row, err = tx.Request(id)
		if errors.Is(err, state.ErrNotFound) || err == nil && !who.mayReadRequest(row) {
			return passNeeded()
		} else if err != nil {
			return err
		}
		out, err = c.requestState(tx, &row, who)
		return err
	})
	if err == nil {
		c.shown(&row, who)
	}
	return out, err
}

// awaitRequest is request, once something has changed since the version that the caller knows, or wait is over.
func (c *CA) awaitRequest(ctx context.Context, id name.RequestID, who *caller, wait time.Duration, since int64) (*api.RequestState, error) {
	if who == nil {
		return nil, passNeeded()
	}
	each := who.fingerprint()
	if who.person != "" {
		each = string(who.person)
	}
	end := time.NewTimer(min(wait, api.MaxWait))
	defer end.Stop()
	for {
		changed, cancel, ok := c.changes.watch(id, each) // before it is read: no change falls between
		out, err := c.request(ctx, id, who)
		if err != nil || !ok || out.Version != since || wait <= 0 {
			if ok {
				cancel()
			}
			return out, err
		}
		select {
		case <-changed:
			cancel()
		case <-end.C:
			cancel()
			return c.request(ctx, id, who)
		case <-ctx.Done():
			cancel()
			return nil, ctx.Err()
		}
	}
}

// requests lists those that wait for approvals.
func (c *CA) requests(ctx context.Context, who *caller) (*api.RequestList, error) {
	if who == nil || who.person == "" {
		return nil, passNeeded()
	}
	out := &api.RequestList{Requests: []api.RequestState{}}
	var rows []state.Request
	err := c.state.View(ctx, func(tx *state.Tx) (err error) {
		if rows, err = tx.Waiting(c.now(), maxListed); err != nil {
			return err
		}
		for i := range rows {
			s, err := c.requestState(tx, &rows[i], who)
			if err != nil {
				return err
			}
			s.Granted = nil // of the grant that it would extend
			out.Requests = append(out.Requests, *s)
		}
		return nil
	})
	for i := range rows {
		c.shown(&rows[i], who)
	}
	return out, err
}
