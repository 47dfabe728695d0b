package ca

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"breakglass/ca/api"
	"breakglass/ca/state"
	"breakglass/internal/name"
	"breakglass/internal/statement"
	"breakglass/ledger"
	"breakglass/policy"
)

// This file says when the CA does not trust its own clock: when the ledger has an entry dated later, or when the jumps' clocks agree on
// another time. Then nothing is issued, for a certificate's minutes and an enrolment's days would be counted from a time that is not; what
// runs goes on (jumps count the seconds left on their monotonic clocks). It ends when time has caught up, or when an operator has looked
// and signs that this clock is right.

const (
	// clockBack is how far before the newest entry the clock may be: a step of NTP is smaller.
	clockBack = 2 * time.Second
	// clockOff is how far from the jumps' median it may be.
	clockOff = 30 * time.Second
	// clockFresh is how long a jump's word on the time counts.
	clockFresh = 10 * time.Minute
	// clockQuorum jumps have to have spoken: one alone, rooted, could stop the CA.
	clockQuorum = 2
)

// clocks remembers how far each jump's clock is from ours, in memory alone: they tell again with each call.
type clocks struct {
	mu sync.Mutex
	by map[name.Jump]heard
}

type heard struct {
	off time.Duration // theirs minus ours
	at  time.Time
}

// heard notes the time that a jump signed.
func (c *clocks) heard(j name.Jump, theirs, ours time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.by == nil {
		c.by = map[name.Jump]heard{}
	}
	c.by[j] = heard{theirs.Sub(ours), ours}
}

// median is the jumps' middle; of an even number the middle one nearer to our own time, so that one jump of two says nothing alone.
func (c *clocks) median(now time.Time) (off time.Duration, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	var all []time.Duration
	for _, h := range c.by {
		if d := now.Sub(h.at); d < clockFresh && d > -clockFresh {
			all = append(all, h.off)
		}
	}
	if len(all) < clockQuorum {
		return 0, false
	}
	slices.Sort(all)
	low, high := all[(len(all)-1)/2], all[len(all)/2]
	return slices.MinFunc([]time.Duration{low, high}, func(a, b time.Duration) int { return cmp.Compare(a.Abs(), b.Abs()) }), true
}

// bothClocks is how every text about a wrong clock begins: with the two, so that a person sees which one is.
func bothClocks(whose string, theirs, ours time.Time) string {
	return fmt.Sprintf("%s clock says %s, the CA's %s", whose, theirs.UTC().Format(time.RFC3339), ours.UTC().Format(time.RFC3339))
}

// clockWrong says what speaks against this clock; nil is nothing.
func (c *CA) clockWrong(tx *state.Tx, now time.Time) (*ledger.Reason, error) {
	at, err := tx.Clock()
	if err != nil {
		return nil, err
	}
	if now.Before(at.Newest.Add(-clockBack)) && at.Newest.After(at.Accepted) {
		return &ledger.Reason{Code: api.CodeClockBack, Detail: fmt.Sprintf("the CA's clock says %s, and its newest entry is dated %s: the clock went back",
			now.UTC().Format(time.RFC3339), at.Newest.UTC().Format(time.RFC3339))}, nil
	}
	if off, ok := c.clocks.median(now); ok && off.Abs() > clockOff && (off-at.AcceptedOff).Abs() > clockOff {
		return &ledger.Reason{Code: api.CodeClockOff, Detail: bothClocks("the jumps'", now.Add(off), now) + ": one of them is wrong"}, nil
	}
	return nil, nil
}

// clockRefusal is clockWrong as what people read.
func (c *CA) clockRefusal(tx *state.Tx) (*api.Problem, error) {
	r, err := c.clockWrong(tx, c.now())
	if err != nil || r == nil {
		return nil, err
	}
	return &api.Problem{Status: 503, Code: r.Code, Detail: r.Detail, Reasons: []ledger.Reason{*r},
		Next: []string{"call an operator: set the CA's clock right, or, if it is, breakglass-ca clock accept --reason WHY", "sessions that run go on"}}, nil
}

// acceptedClock is the entry of somebody's word that this clock is right.
func (c *CA) acceptedClock(tx *state.Tx) (*ledger.ClockAccepted, error) {
	at, err := tx.Clock()
	if err != nil {
		return nil, err
	}
	off, _ := c.clocks.median(c.now())
	return &ledger.ClockAccepted{Newest: ledger.At(at.Newest), Jumps: int64(off / time.Second)}, nil
}

// orderClock is an operator's word on the clock. It is given on the time of now: what comes up later is refused anew.
func (c *CA) orderClock(tx *state.Tx, _ *order) (outcome, error) {
	f, err := c.acceptedClock(tx)
	return outcome{facts: f}, err
}

func isClock(s string) error {
	if s != statement.TargetClock {
		return fmt.Errorf("target %q: want %q", s, statement.TargetClock)
	}
	return nil
}

// AcceptClock is local root's, in the demo profile alone, which has no operators' keys to ask before the first enrolment.
func (c *CA) AcceptClock(ctx context.Context) error {
	if c.policy.Load().Profile != policy.Demo {
		return &api.Problem{Status: 403, Code: api.CodeOperatorNeeded, Detail: "that the clock is right takes an operator's touch", Next: []string{"breakglass-ca clock accept --reason WHY, where an operator's key is"}}
	}
	return c.state.Do(ctx, func(tx *state.Tx) error {
		f, err := c.acceptedClock(tx)
		if err != nil {
			return err
		}
		_, _, err = tx.Append(c.entry(ledger.ActorRoot, ledger.Subject{}, f))
		return err
	})
}
