package jump

import (
	"net/netip"
	"sync"
	"time"

	"breakglass/internal/name"
	"breakglass/ledger"
)

// Reasons under which the jump refuses whom nobody vouched for. They are counted and summed, one fact a minute: strangers can't
// fill the ledger.
const (
	refusedPreamble  = "preamble"           // malformed
	refusedProxied   = "proxy_header"       // claims another address
	refusedUnproxied = "no_proxy_header"    // a listed proxy that doesn't say whose connection it is
	refusedBusy      = "too_many"           // a cap before the handshake
	refusedShut      = "turned_away"        // this jump can open nothing just now, another may
	refusedHandshake = "handshake_failed"   // no SSH, or nothing in common
	refusedSlow      = "handshake_timeout"  // not proven in time
	refusedNoCert    = "no_certificate"     // a plain key
	refusedIssuer    = "unknown_ca"         // signed by another CA
	refusedShape     = "wrong_certificate"  // not a client certificate: a session certificate above all
	refusedExpired   = "expired"            //
	refusedEarly     = "not_yet_valid"      //
	refusedSource    = "other_source"       // another address than the certificate's
	refusedLogin     = "other_login"        // ssh user name is not the grant's login
	refusedHost      = "other_host"         // preamble or user name names another host than the grant
	refusedPerson    = "other_person"       // inside somebody else's connection
	refusedRepeated  = "session_was_opened" // a second try after the first session failed
)

// maxStrangers bounds the distinct lines of a minute: a fact is one line of at most statement.MaxValue bytes.
const maxStrangers = 40

// strangers counts refusals.
type strangers struct {
	jump name.Jump
	also func(reason string) // is told of each

	mu     sync.Mutex
	from   time.Time
	counts map[strangerKey]int64
}

type strangerKey struct{ reason, network string }

func newStrangers(j name.Jump, now time.Time) *strangers {
	return &strangers{jump: j, from: now, counts: map[strangerKey]int64{}}
}

// network is the /24 or /48 of an address: enough to see a pattern, and a customer is one: by /64s a single one would be 65,536, and could
// hold all the places that strangers have.
func network(a netip.Addr) string {
	a = a.Unmap()
	bits := 24
	if a.Is6() {
		bits = 48
	}
	p, err := a.Prefix(bits)
	if err != nil {
		return "unknown"
	}
	return p.String()
}

func (s *strangers) count(reason string, a netip.Addr) {
	if s.also != nil {
		s.also(reason)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	k := strangerKey{reason, network(a)}
	if _, ok := s.counts[k]; !ok && len(s.counts) >= maxStrangers {
		k.network = "others"
	}
	s.counts[k]++
}

// take gives the sum since the last, or nil if nobody came.
func (s *strangers) take(now time.Time) *ledger.StrangersSummed {
	s.mu.Lock()
	defer s.mu.Unlock()
	from := s.from
	s.from = now
	if len(s.counts) == 0 {
		return nil
	}
	sum := &ledger.StrangersSummed{From: ledger.At(from), To: ledger.At(now)}
	for k, n := range s.counts {
		sum.Counts = append(sum.Counts, ledger.StrangerCount{Reason: k.reason, Network: k.network, Where: string(s.jump), Count: n})
	}
	s.counts = map[strangerKey]int64{}
	return sum
}
