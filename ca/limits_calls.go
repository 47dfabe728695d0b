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
	// passAtOnce is how many of the calls that take megabytes (a policy's text, evidence) a pass may have under way, until the last byte is sent. Five
	// hundred at once, read slowly, would fill the memory of a CA with a long policy.
	passAtOnce = 2
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
	under    map[string]int // of a pass: the large calls under way
}

func newCallLimits(cfg FileLimits, now func() time.Time) *callLimits {
	return &callLimits{networks: newLimits(cfg, now), now: now, passes: map[string]*rate.Limiter{}, under: map[string]int{}}
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

// begin says whether the caller may have another large call under way; over is to be called when it is.
func (l *callLimits) begin(who *caller) (over func(), ok bool) {
	if who == nil || who.pass == "" { // jumps; and nobody else gets megabytes
		return func() {}, true
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.under[who.pass] >= passAtOnce {
		return nil, false
	}
	l.under[who.pass]++
	return func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		if l.under[who.pass]--; l.under[who.pass] == 0 {
			delete(l.under, who.pass)
		}
	}, true
}

func tooMany() *api.Problem {
	return &api.Problem{Status: 429, Code: api.CodeTooMany, Detail: "too many calls from this network, or with this pass", Next: []string{"wait a few seconds and ask again"}}
}
