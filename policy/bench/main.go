// Bench times decisions on a small and on a large site, in turn, and the loading of the large one. It is a part of `make bench`, apart from
// internal/bench, which knows the programs and none of their insides.
package main

import (
	"flag"
	"fmt"
	"net/netip"
	"os"
	"runtime"
	"slices"
	"time"

	"breakglass/internal/name"
	"breakglass/internal/sitegen"
	"breakglass/policy"
)

// decisions is how many are timed at once.
const decisions = 20000

func main() {
	rounds := flag.Int("rounds", 3, "rounds of each, in turn")
	flag.Parse()
	if err := run(*rounds); err != nil {
		fmt.Fprintln(os.Stderr, "bench: error:", err)
		os.Exit(1)
	}
}

func run(rounds int) error {
	small, err := policy.Load("policy.toml", []byte(sitegen.Text(sitegen.Small)))
	if err != nil {
		return fmt.Errorf("load the small policy: %w", err)
	}
	text := []byte(sitegen.Text(sitegen.Large))
	var large *policy.Policy
	var loads, ofSmall, ofLarge, ratios, allocs []float64
	for range rounds {
		start := time.Now()
		if large, err = policy.Load("policy.toml", text); err != nil {
			return fmt.Errorf("load the large policy: %w", err)
		}
		loads = append(loads, time.Since(start).Seconds())
		s, _, err := timeDecide(small, sitegen.Small)
		if err != nil {
			return err
		}
		l, n, err := timeDecide(large, sitegen.Large)
		if err != nil {
			return err
		}
		ofSmall, ofLarge, ratios, allocs = append(ofSmall, s), append(ofLarge, l), append(ratios, l/s), append(allocs, n)
	}
	figure("decide_ns_small", median(ofSmall), "ns")
	figure("decide_ns_large", median(ofLarge), "ns")
	figure("decide_ns_large_vs_small", median(ratios), "ratio")
	figure("decide_allocs_large", median(allocs), "allocations")
	figure("policy_reload_large_s", median(loads), "s")
	return nil
}

func figure(name string, value float64, unit string) {
	fmt.Printf("figure %s %.3f %s\n", name, value, unit)
}

// median of what is not empty; it sorts v.
func median(v []float64) float64 {
	slices.Sort(v)
	return v[len(v)/2]
}

// timeDecide gives the mean of a decision by the last rule that has no conditions, the dearest to find in a walk, and how often it allocates.
func timeDecide(p *policy.Policy, s sitegen.Size) (ns, allocs float64, err error) {
	i := s.Rules - 2
	req := policy.Request{Person: name.Person(sitegen.Person(i)), Host: name.Host(sitegen.Host(i)), Login: "root", Reason: "the database does not answer any more", Kind: policy.KindNew}
	now := time.Now()
	facts := policy.Facts{Now: now, Live: policy.Live{Known: true}, Key: policy.KeyLive, Touch: policy.Yes, UV: policy.Yes, Sources: []policy.Source{{Addr: netip.MustParseAddr("192.0.2.9"), Country: "DE", CountryBuilt: now, Anonymous: policy.No, AnonymousBuilt: now}}}
	if d := policy.Decide(p, req, facts); d.Outcome != policy.Allow {
		return 0, 0, fmt.Errorf("the request that is timed is refused: %+v", d.Reasons)
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	start := time.Now()
	for range decisions {
		policy.Decide(p, req, facts)
	}
	took := time.Since(start)
	runtime.ReadMemStats(&after)
	return float64(took.Nanoseconds()) / decisions, float64(after.Mallocs-before.Mallocs) / decisions, nil
}
