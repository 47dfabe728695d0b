package ca_test

import (
	"fmt"
	"strings"
	"testing"

	"breakglass/ca"
	"breakglass/ca/catest"
)

// many takes the limits of one network out of the way, which every client of a test shares.
var many = ca.FileLimits{Network: 1e6, NetworkBurst: 1e6, All: 1e6, AllBurst: 1e6}

// crowdPolicy is the tests' policy with n more people on call.
func crowdPolicy(n int) string {
	var b strings.Builder
	b.WriteString(catest.Policy)
	for i := range n {
		fmt.Fprintf(&b, "\n[people.%s]\ngroups = [\"oncall\"]\n", crowdPerson(i))
	}
	return b.String()
}

func crowdPerson(i int) string { return fmt.Sprintf("p-%02d", i) }

// BenchmarkIssue is the whole exchange, clients and CA in one process: for a profile. Figures beside a peer are internal/bench's.
func BenchmarkIssue(b *testing.B) {
	for _, n := range []int{1, 8, 64} {
		b.Run(fmt.Sprintf("clients=%d", n), func(b *testing.B) {
			c := catest.New(b, catest.Config{Policy: crowdPolicy(n), Limits: many})
			work := make(chan struct{})
			done := make(chan error, n)
			for i := range n {
				p := c.Enrol(crowdPerson(i))
				go func() {
					var err error
					for range work {
						if err == nil {
							_, err = p.Request("root", "web01")
						}
					}
					done <- err
				}()
			}
			b.ResetTimer()
			for range b.N {
				work <- struct{}{}
			}
			close(work)
			for range n {
				catest.Must(b, <-done)
			}
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "certs/s")
		})
	}
}
