package main

import (
	"testing"
	"time"

	"breakglass/ca/api"
)

// TestTheWaitingLine: who was asked, who has seen it, what they said, how many are missing, and what runs out.
func TestTheWaitingLine(t *testing.T) {
	now := time.Date(2026, 11, 25, 3, 0, 0, 0, time.UTC)
	asked := []api.Asked{{Person: "bob", Seen: true}, {Person: "carol"}, {Person: "dan"}}
	for _, c := range []struct {
		what        string
		said        []api.Said
		override    time.Duration // after now
		passed      time.Duration
		still, left string
	}{
		{"nobody has answered", nil, 0, 0, "asked 3: bob (seen), carol, dan · 0 of 2 approved", " · 20:00 left, Ctrl-C keeps it"},
		{"a minute later", nil, 0, time.Minute, "asked 3: bob (seen), carol, dan · 0 of 2 approved", " · 19:00 left, Ctrl-C keeps it"},
		{"an override comes nearer", nil, 8*time.Minute + 12*time.Second, 0, "asked 3: bob (seen), carol, dan · 0 of 2 approved", " · override in 8:12 · 20:00 left, Ctrl-C keeps it"},
		{"it has come", nil, 8 * time.Minute, 9 * time.Minute, "asked 3: bob (seen), carol, dan · 0 of 2 approved", " · override now · 11:00 left, Ctrl-C keeps it"},
		{"it had come", nil, -time.Minute, 0, "asked 3: bob (seen), carol, dan · 0 of 2 approved · override possible: breakglass request --override k7f-2mq", " · 20:00 left, Ctrl-C keeps it"},
		{"a yes and a no", []api.Said{{Person: "bob", Verdict: "deny"}, {Person: "dan", Verdict: "approve", Until: now.Add(time.Minute)}}, 0, 0,
			"asked 3: bob (no), carol, dan (yes) · 1 of 2 approved", " · 20:00 left, Ctrl-C keeps it"},
		{"a yes that counts no longer", []api.Said{{Person: "dan", Verdict: "approve", Until: now.Add(-time.Minute)}}, 0, 0,
			"asked 3: bob (seen), carol, dan (yes, lapsed) · 0 of 2 approved", " · 20:00 left, Ctrl-C keeps it"},
		{"when it is over", nil, 0, time.Hour, "asked 3: bob (seen), carol, dan · 0 of 2 approved", " · 0:00 left, Ctrl-C keeps it"},
	} {
		st := &api.RequestState{Said: c.said, Waiting: &api.Waiting{ID: "k7f-2mq", Needed: 2, Approvers: asked, Now: now, Expires: now.Add(20 * time.Minute)}}
		for _, s := range c.said {
			if s.Verdict == "approve" && now.Before(s.Until) {
				st.Waiting.Given++
			}
		}
		if c.override != 0 {
			st.Waiting.OverrideAt = now.Add(c.override)
		}
		if got := waitLine(st); got != c.still {
			t.Errorf("%s: %q, want %q", c.what, got, c.still)
		}
		if got := waitLeft(st, c.passed); got != c.left {
			t.Errorf("%s: %q, want %q", c.what, got, c.left)
		}
	}
}
