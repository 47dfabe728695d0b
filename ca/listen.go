package ca

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"breakglass/ca/api"
	"breakglass/ca/state"
	"breakglass/internal/name"
	"breakglass/ledger"
)

const (
	// maxListening bounds the jumps' calls that hold the line: one each, and one that its jump has given up already.
	maxListening = 512
	maxEachJump  = 2
	// maxOrders bounds the entries of one answer: after a long absence a jump asks again for the rest.
	maxOrders = 100
)

// concernJumps are the entries that jumps act upon.
func concernJumps() []ledger.Type {
	return []ledger.Type{"revoked", "grant.extended", "site.changed", "session.watched", "session.unwatched"}
}

// listening counts the jumps that hold the line, and lets them go when the CA stops.
type listening struct {
	mu   sync.Mutex
	by   map[name.Jump]int
	all  int
	stop chan struct{}
	once sync.Once
}

func newListening() *listening { return &listening{by: map[name.Jump]int{}, stop: make(chan struct{})} }

func (l *listening) enter(j name.Jump) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.all >= maxListening || l.by[j] >= maxEachJump {
		return false
	}
	l.all++
	l.by[j]++
	return true
}

func (l *listening) leave(j name.Jump) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.all--
	if l.by[j]--; l.by[j] == 0 {
		delete(l.by, j)
	}
}

func (l *listening) close() { l.once.Do(func() { close(l.stop) }) }

// jumpOrders answers a jump with the entries behind after that concern it, as soon as there are any; none, after wait, is a heartbeat. after -1 asks
// only how far the ledger is.
func (c *CA) jumpOrders(ctx context.Context, who *caller, after int64, wait time.Duration) (*api.JumpOrders, error) {
	// A jump that was revoked hears of that, and of nothing later: an honest one then ends what runs and can say why.
	if who == nil || who.jump == "" && who.revoked == "" {
		return nil, passNeeded()
	}
	jump := who.jump
	if jump == "" {
		jump = who.revoked
	}
	if !c.listening.enter(jump) {
		return nil, &api.Problem{Status: 429, Code: api.CodeTooMany, Detail: "too many calls of jumps wait already", Next: []string{"try again"}}
	}
	defer c.listening.leave(jump)
	end := time.NewTimer(wait)
	defer end.Stop()
	for {
		grown := c.state.Grown() // before looking
		out, err := c.ordersAfter(ctx, who, after)
		if err != nil || len(out.Entries) > 0 || after < 0 {
			return out, err
		}
		if head, _ := c.state.Head(); out.Index < head.Size-1 && out.Index > after { // all of it was others': there is more
			after = out.Index
			continue
		}
		select {
		case <-grown:
		case <-end.C:
			return out, nil
		case <-c.listening.stop:
			return out, nil
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

func (c *CA) ordersAfter(ctx context.Context, who *caller, after int64) (*api.JumpOrders, error) {
	out := &api.JumpOrders{Entries: []api.ProvenEntry{}, Now: c.now()}
	jump := who.jump
	if jump == "" {
		jump = who.revoked
	}
	return out, c.state.View(ctx, func(tx *state.Tx) error {
		head, note, err := tx.Head()
		if err != nil {
			return err
		}
		out.Checkpoint, out.Index = note, head.Size-1
		if after < 0 {
			return nil
		}
		if after >= head.Size {
			return badRequest("after: the ledger has entries 0 to %d", head.Size-1)
		}
		found, upTo, err := tx.After(after, concernJumps(), maxOrders)
		if err != nil {
			return err
		}
		out.Index = upTo
		if who.jump == "" {
			v, err := tx.Revoked(ledger.RevokedJump, string(who.revoked))
			if err != nil {
				return fmt.Errorf("revocation of jump %s: %w", who.revoked, err)
			}
			found = slices.DeleteFunc(found, func(n int64) bool { return n > v.Index })
		}
		for _, n := range found {
			e, err := proven(tx, head.Size, n)
			if err != nil {
				return err
			}
			if others, err := watchOfAnother(e, jump); err != nil {
				return err
			} else if !others {
				out.Entries = append(out.Entries, e)
			}
		}
		return nil
	})
}

// watchOfAnother says that an entry tells of who watches a session of another jump: that is no business of this one's.
func watchOfAnother(p api.ProvenEntry, jump name.Jump) (bool, error) {
	e, err := ledger.Decode([]byte(p.Entry))
	if err != nil {
		return false, fmt.Errorf("entry %d: %w", p.Index, err)
	}
	switch e.Facts.(type) {
	case *ledger.SessionWatched, *ledger.SessionUnwatched:
		return e.Subject.Jump != jump, nil
	}
	return false, nil
}
