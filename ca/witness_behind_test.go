package ca

import (
	"testing"
	"time"
)

// A ledger that grows all the time is always a little ahead: that is no trouble. One head that waits is.
func TestBehind(t *testing.T) {
	start := time.Unix(1_800_000_000, 0)
	var b behind
	for i := range int64(100) { // the quorum is one step behind, for 500 s
		if back, late := b.look(10*i, 10*i+10, start.Add(time.Duration(i)*5*time.Second)); back || late {
			t.Fatalf("at %d: back %v, late %v", i, back, late)
		}
	}
	at := start.Add(500 * time.Second)
	for i, c := range []struct {
		published, size int64
		after           time.Duration
		back, late      bool
	}{
		{1000, 1000, 0, false, false}, // all of it
		{1000, 1010, 5 * time.Second, false, false},
		{1000, 2000, 60 * time.Second, false, false},
		{1000, 3000, 66 * time.Second, false, true},
		{1000, 4000, 71 * time.Second, false, false}, // told once
		{1009, 4000, 76 * time.Second, false, false}, // not yet what waited
		{1010, 4000, 81 * time.Second, true, false},  // it is, and what came since waits from now on
		{1010, 4000, 140 * time.Second, false, false},
		{1010, 4000, 142 * time.Second, false, true},
		{4000, 4000, 150 * time.Second, true, false},
	} {
		if back, late := b.look(c.published, c.size, at.Add(c.after)); back != c.back || late != c.late {
			t.Errorf("step %d: back %v, late %v", i, back, late)
		}
	}
	if b != (behind{}) {
		t.Errorf("left %+v", b)
	}
}
