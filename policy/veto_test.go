package policy_test

import (
	"strings"
	"testing"
	"time"

	"breakglass/internal/name"
	"breakglass/policy"
)

// TestNoIsNoWayToTheNextRule: alice asks from the office, where rule "office" decides; rule "anywhere" stands behind it for other places.
func TestNoIsNoWayToTheNextRule(t *testing.T) {
	src := `profile = "demo"
[site]
name = "t"
owners = ["alice"]
operators = ["alice"]
readers = ["alice"]
[networks]
office = ["198.51.100.0/24"]
[people.alice]
[people.bob]
[people.carol]
[hosts.web01]
address = ["192.0.2.10:22"]
host_keys = ["` + keyLine + `"]
[[rule]]
name = "office"
why = "From the office bob agrees."
who = ["alice"]
hosts = ["web01"]
logins = ["root"]
minutes = 30
approvals = 1
approvers = ["bob"]
veto = true
networks = ["office"]
[[rule]]
name = "anywhere"
why = "From elsewhere for less."
who = ["alice"]
hosts = ["web01"]
logins = ["root"]
minutes = 10
`
	with := func(more string) *policy.Policy {
		p, err := policy.Load("t.toml", []byte(src+more))
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	loose := with("")
	louder := with("approvals = 1\napprovers = [\"carol\"]\noverride = \"after 10m\"\n")
	office := home("198.51.100.7")
	said := func(a *ask) { a.facts.Refused = []name.Person{"bob"} }
	for _, c := range []struct {
		but  string
		p    *policy.Policy
		what []change
		want string
	}{
		{"nobody has said anything", loose, nil, "ask office 1 of 1"},
		{"bob has said no", loose, []change{said}, "deny vetoed"},
		{"bob has said no, and the next rule would ask carol", louder, []change{said}, "deny vetoed"},
		{"she overrides at once", loose, []change{kind(policy.KindOverride)}, "deny kind_not_allowed"},
		{"she overrides later, as only the next rule offers", louder, []change{kind(policy.KindOverride), waited(time.Hour)}, "deny kind_not_allowed"},
		{"she is elsewhere", loose, []change{at(home("203.0.113.9"))}, "allow anywhere 10"},
		{"she is elsewhere, and overrides there", louder, []change{at(home("203.0.113.9")), kind(policy.KindOverride), waited(time.Hour)}, "allow anywhere 10"},
	} {
		a := usual()
		a.facts.Sources = []policy.Source{office}
		for _, f := range c.what {
			f(&a)
		}
		d := policy.Decide(c.p, a.req, a.facts)
		if got := short(d); got != c.want {
			t.Errorf("but %s: got %q, want %q", c.but, got, c.want)
		}
		if text := policy.Explain(c.p, a.req, a.facts); !strings.Contains(text, "\n"+d.Outcome.String()) {
			t.Errorf("but %s: Explain says otherwise:\n%s", c.but, text)
		}
	}
}
