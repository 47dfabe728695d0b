package ca

import (
	"cmp"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

const (
	// askRate and askBurst are what one network (/24, /48) may ask without a signature: a team behind one address in an emergency
	// stays far below, a flood does not.
	askRate  = rate.Limit(10)
	askBurst = 200
	// allRate and allBurst are for everybody together.
	allRate  = rate.Limit(200)
	allBurst = 1000
	// maxLimited bounds the networks remembered.
	maxLimited = 20_000
)

// orDefault fills in what the configuration leaves out.
func (l FileLimits) orDefault() FileLimits {
	d := FileLimits{Network: float64(askRate), NetworkBurst: askBurst, All: float64(allRate), AllBurst: allBurst}
	return FileLimits{Network: cmp.Or(l.Network, d.Network), NetworkBurst: cmp.Or(l.NetworkBurst, d.NetworkBurst),
		All: cmp.Or(l.All, d.All), AllBurst: cmp.Or(l.AllBurst, d.AllBurst)}
}

// limits judges unsigned asks per network and in all.
type limits struct {
	cfg FileLimits
	now func() time.Time
	mu  sync.Mutex
	by  map[netip.Prefix]*rate.Limiter
	all *rate.Limiter
}

func newLimits(cfg FileLimits, now func() time.Time) *limits {
	cfg = cfg.orDefault()
	return &limits{cfg: cfg, now: now, by: map[netip.Prefix]*rate.Limiter{}, all: rate.NewLimiter(rate.Limit(cfg.All), cfg.AllBurst)}
}

// network is the unit of limits and sums: one customer's part of the address space. Of IPv6 that is a /48: by /64s one customer would be
// 65,536, and use up for everybody what all have together.
func network(a netip.Addr) netip.Prefix {
	bits := 48
	if a.Is4() {
		bits = 24
	}
	p, err := a.Prefix(bits)
	if err != nil {
		return netip.Prefix{}
	}
	return p
}

// allow says whether a may ask now.
func (l *limits) allow(a netip.Addr) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.now()
	if len(l.by) >= maxLimited {
		for p, r := range l.by { // those that are full again say nothing; if none is, forget some: the limit for all still holds
			if r.TokensAt(now) >= float64(l.cfg.NetworkBurst) || len(l.by) >= maxLimited {
				delete(l.by, p)
			}
		}
	}
	p := network(a)
	r := l.by[p]
	if r == nil {
		r = rate.NewLimiter(rate.Limit(l.cfg.Network), l.cfg.NetworkBurst)
		l.by[p] = r
	}
	return r.AllowN(now, 1) && l.all.AllowN(now, 1)
}
