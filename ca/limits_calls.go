package ca

import (
	"net/netip"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"breakglass/ca/api"
)

const (
	// passRate and passBurst are what one pass may read: a reviewer who pages through sessions and recordings stays far below; a program with a
	// carried-off pass doesn't read the ledger out in minutes.
	passRate  = rate.Limit(50)
	passBurst = 500
	// maxPasses bounds the passes remembered; they last for 15 minutes.
	maxPasses = 10_000
)

// callLimits judges calls that are no unsigned asks. A key that stands for nothing, or for its own request alone, is limited as its network is:
// anybody can make keys. A pass is limited for itself. Jumps are not: what they report has to arrive, and each is known by its key.
type callLimits struct {
	networks *limits
	now      func() time.Time
	mu       sync.Mutex
	passes   map[string]*rate.Limiter
}

func newCallLimits(cfg FileLimits, now func() time.Time) *callLimits {
	return &callLimits{networks: newLimits(cfg, now), now: now, passes: map[string]*rate.Limiter{}}
}

// allow says whether the caller (nil: nobody signed) may call now.
func (l *callLimits) allow(who *caller, from netip.Addr) bool {
	switch {
	case who != nil && who.jump != "":
		return true
	case who == nil || who.pass == "":
		return l.networks.allow(from)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.now()
	r := l.passes[who.pass]
	if r == nil {
		if len(l.passes) >= maxPasses {
			clear(l.passes) // each begins anew: more than are alive can't be here
		}
		r = rate.NewLimiter(passRate, passBurst)
		l.passes[who.pass] = r
	}
	return r.AllowN(now, 1)
}

func tooMany() *api.Problem {
	return &api.Problem{Status: 429, Code: api.CodeTooMany, Detail: "too many calls from this network, or with this pass", Next: []string{"wait a few seconds and ask again"}}
}
