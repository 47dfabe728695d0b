package ca

import (
	"net/netip"
	"testing"
	"time"
)

// One customer with all their addresses must not use up what everybody has together.
func TestOneCustomerLeavesRoomForOthers(t *testing.T) {
	now := time.Unix(1_700_000_000, 0)
	l := newLimits(FileLimits{}, func() time.Time { return now })
	let := 0
	a := netip.MustParseAddr("2001:db8:7::1").As16()
	for i := range 5000 {
		a[6], a[7] = byte(i>>8), byte(i)
		if l.allow(netip.AddrFrom16(a)) {
			let++
		}
	}
	if let != askBurst {
		t.Errorf("%d asks let through, want %d", let, askBurst)
	}
	if !l.allow(netip.MustParseAddr("192.0.2.7")) || !l.allow(netip.MustParseAddr("2001:db8:8::1")) {
		t.Error("others are refused")
	}
}

// What the configuration says counts, and what it leaves out is the default.
func TestLimitsAreConfigured(t *testing.T) {
	now := time.Unix(1_700_000_000, 0)
	l := newLimits(FileLimits{NetworkBurst: 3}, func() time.Time { return now })
	a := netip.MustParseAddr("192.0.2.7")
	let := func() (n int) {
		for range 50 {
			if l.allow(a) {
				n++
			}
		}
		return n
	}
	if n := let(); n != 3 {
		t.Errorf("%d asks at once, want 3", n)
	}
	now = now.Add(200 * time.Millisecond)
	if n := let(); n != 2 { // 10 a second
		t.Errorf("%d asks in the next 200 ms, want 2", n)
	}
}
