package ca

import (
	"net/netip"
	"testing"
	"time"
)

// FuzzSeen: no text but what this CA made, for this client key and within its minute, is a token.
func FuzzSeen(f *testing.F) {
	now := time.Date(2026, 6, 1, 3, 0, 0, 0, time.UTC)
	ours := &tokens{key: [32]byte{1}, origin: "breakglass/test", now: func() time.Time { return now }}
	address := netip.MustParseAddr("2001:db8::9")
	good := ours.make(address, "SHA256:a", now.Add(seenFor))
	f.Add(good)
	f.Add(ours.make(address, "SHA256:b", now.Add(seenFor)))
	f.Add(ours.make(address, "SHA256:a", now))
	f.Add((&tokens{key: [32]byte{2}, origin: "breakglass/test"}).make(address, "SHA256:a", now.Add(seenFor)))
	f.Add((&tokens{key: [32]byte{1}, origin: "breakglass/other"}).make(address, "SHA256:a", now.Add(seenFor)))
	f.Add(".")
	f.Fuzz(func(t *testing.T, token string) {
		a, p := ours.open(token, "SHA256:a")
		if (p == nil) != (token == good) || p == nil && a != address {
			t.Fatalf("%q: %v, %v", token, a, p)
		}
	})
}
