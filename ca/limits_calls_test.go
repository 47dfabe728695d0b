package ca

import (
	"net/netip"
	"testing"
	"time"
)

// TestCallsAreLimited: anybody can make keys that stand for nothing.
func TestCallsAreLimited(t *testing.T) {
	now := time.Unix(1_700_000_000, 0)
	a, b := netip.MustParseAddr("192.0.2.7"), netip.MustParseAddr("198.51.100.7")
	for _, c := range []struct {
		what string
		who  func(i int) *caller
		want int
	}{
		{"nobody signed", func(int) *caller { return nil }, askBurst},
		{"a key a call, each standing for nothing", func(int) *caller { return &caller{} }, askBurst},
		{"one pass", func(int) *caller { return &caller{person: "bob", pass: "p1"} }, passBurst},
		{"a jump", func(int) *caller { return &caller{jump: "jump-a"} }, 5000},
	} {
		l, let := newCallLimits(FileLimits{}, func() time.Time { return now }), 0
		for i := range 5000 {
			if l.allow(c.who(i), a) {
				let++
			}
		}
		if let != c.want {
			t.Errorf("%s: %d of 5000 at once, want %d", c.what, let, c.want)
		}
		if !l.allow(nil, b) || !l.allow(&caller{person: "carol", pass: "p2"}, a) {
			t.Errorf("%s: others are refused", c.what)
		}
	}
	l := newCallLimits(FileLimits{}, func() time.Time { return now })
	for i := range 3 * maxPasses {
		l.allow(&caller{person: "bob", pass: string(rune(i))}, a)
	}
	if len(l.passes) > maxPasses {
		t.Errorf("%d passes are remembered", len(l.passes))
	}
}
