package policy_test

import (
	"testing"
	"time"

	"breakglass/policy"
)

// The rule asks that somebody watches and offers no override at all. The circumstance "a review is overdue" adds one approval, which [always] lets an override
// replace: alice leaves a review unanswered, waits, overrides that one approval, and is rid of the observer too.
func TestOverrideOfACircumstanceIsNoWayAroundTheObserver(t *testing.T) {
	src := `profile = "demo"
[site]
name = "t"
owners = ["alice"]
operators = ["alice", "carol"]
readers = ["bob"]
[always]
override = "after 10m"
[people.alice]
[people.bob]
[people.carol]
[hosts.web01]
address = ["192.0.2.10:22"]
host_keys = ["` + keyLine + `"]
[[rule]]
name = "watched"
why = "Only under bob's eyes."
who = ["alice"]
hosts = ["web01"]
logins = ["root"]
minutes = 30
watched_by = ["bob"]
`
	p, err := policy.Load("t.toml", []byte(src))
	if err != nil {
		t.Fatal(err)
	}
	a := usual()
	if d := policy.Decide(p, a.req, a.facts); d.Outcome != policy.Allow || len(d.WatchedBy) != 1 {
		t.Fatalf("as it should be: %+v", d)
	}
	kind(policy.KindOverride)(&a)
	if d := policy.Decide(p, a.req, a.facts); d.Outcome != policy.Deny {
		t.Fatalf("the rule offers no override: %+v", d)
	}
	a.facts.Added = []policy.Added{policy.AddedReview}
	waited(time.Hour)(&a)
	d := policy.Decide(p, a.req, a.facts)
	if d.Outcome == policy.Allow && len(d.WatchedBy) == 0 {
		t.Errorf("the override of an approval that a circumstance added took the rule's observer away: %+v", d)
	}
	// And the session that opens under it.
	s := usual()
	s.facts.Overridden = true
	g := policy.Grant{Request: s.req, Start: s.facts.Now, End: s.facts.Now.Add(30 * time.Minute)}
	if d := policy.DecideSession(p, g, s.facts); d.Outcome == policy.Allow && len(d.WatchedBy) == 0 {
		t.Errorf("its session is watched by nobody: %+v", d)
	}
}
