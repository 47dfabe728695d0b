package jump

import "testing"

// BenchmarkTimeToShell is `ssh web01 true` through the jump, recorded; internal/bench has the peers beside it.
func BenchmarkTimeToShell(b *testing.B) {
	w := newWorld(b)
	g := w.grant()
	for b.Loop() {
		if r := w.ssh(g, nil, "true"); r.code != 0 {
			b.Fatalf("%+v", r)
		}
	}
}
