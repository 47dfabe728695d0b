package ca

import (
	"cmp"
	"context"
	"net/netip"
	"slices"
	"sync"
	"time"

	"breakglass/ca/state"
	"breakglass/ledger"
)

const (
	// sumEvery is how often the strangers' sum becomes an entry, if there is any.
	sumEvery = time.Minute
	// maxCounts bounds the lines of a sum; the rest is counted under network "other".
	maxCounts = 200
)

// strangers counts what nobody validly signed for: it is all that such asks ever write.
type strangers struct {
	ca    *CA
	mu    sync.Mutex
	from  time.Time
	count map[[2]string]int64
}

func newStrangers(c *CA) *strangers {
	return &strangers{ca: c, count: map[[2]string]int64{}}
}

// add counts a refusal.
func (s *strangers) add(reason string, from netip.Addr) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.count) == 0 {
		s.from = s.ca.now()
	}
	k := [2]string{reason, network(from).String()}
	if _, ok := s.count[k]; !ok && len(s.count) >= maxCounts {
		k[1] = "other"
	}
	s.count[k]++
}

// flush writes the sum as one entry.
func (s *strangers) flush() {
	s.mu.Lock()
	counts, from := s.count, s.from
	s.count = map[[2]string]int64{}
	s.mu.Unlock()
	if len(counts) == 0 {
		return
	}
	f := &ledger.StrangersSummed{From: ledger.At(from), To: ledger.At(s.ca.now())}
	for k, n := range counts {
		f.Counts = append(f.Counts, ledger.StrangerCount{Reason: k[0], Network: k[1], Where: "ca", Count: n})
	}
	slices.SortFunc(f.Counts, func(a, b ledger.StrangerCount) int {
		return cmp.Or(cmp.Compare(b.Count, a.Count), cmp.Compare(a.Reason, b.Reason), cmp.Compare(a.Network, b.Network))
	})
	if err := s.ca.state.Do(context.Background(), func(tx *state.Tx) error {
		_, _, err := tx.Append(s.ca.entry(ledger.ActorStrangers, ledger.Subject{}, f))
		return err
	}); err != nil {
		s.ca.log.Error("strangers' sum not recorded", "error", err)
	}
}

// run flushes every minute until ctx ends.
func (s *strangers) run(ctx context.Context) {
	t := time.NewTicker(sumEvery)
	defer t.Stop()
	for {
		select {
		case <-t.C:
			s.flush()
		case <-ctx.Done():
			return
		}
	}
}
