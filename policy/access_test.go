package policy_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"breakglass/internal/name"
	"breakglass/policy"
)

// TestAccesses asks the base policy who gets in where.
func TestAccesses(t *testing.T) {
	p := basePolicy(t)
	for _, c := range []struct {
		ask    string
		people []name.Person
		hosts  []name.Host
		want   []string
	}{
		{"who gets into the safe", nil, []name.Host{"safe01"}, []string{"dan root@safe01 by vault, 10 min, if from vault"}},
		{"who gets into a name that a pattern covers", nil, []name.Host{"lb7"}, []string{
			"alice deploy@lb7 by home, 30 min, if country DE or NL", "alice root@lb7 by home, 30 min, if country DE or NL",
			"bob deploy@lb7 by home, 30 min, if country DE or NL", "bob root@lb7 by home, 30 min, if country DE or NL",
			"alice root@lb7 by away, 20 min, 1 of bob carol dan", "bob root@lb7 by away, 20 min, 1 of carol dan"}},
		{"what may carol", []name.Person{"carol"}, nil, []string{"carol postgres@db01 by db, 60 min, 2 of bob dan olga, if ticket INC-[0-9]+; reason of 40 characters"}},
		{"what may a trainee", []name.Person{"erin"}, nil, []string{"erin deploy@web02 by drill, 15 min, if drill"}},
		{"what may bob on the balancers' pattern and elsewhere", []name.Person{"bob"}, []name.Host{"web01", "safe01"}, []string{
			"bob deploy@web01 by home, 30 min, if country DE or NL", "bob root@web01 by home, 30 min, if country DE or NL", "bob root@web01 by away, 20 min, 1 of carol dan"}},
		{"what may somebody who stands in no rule", []name.Person{"rita"}, nil, nil},
		{"who gets into a host that is unknown", nil, []name.Host{"nowhere"}, nil},
	} {
		var got []string
		for a := range policy.Accesses(p, c.people, c.hosts) {
			s := fmt.Sprintf("%s %s@%s by %s, %d min", a.Person, a.Login, a.Host, a.Rule, a.Minutes)
			if a.Approvals > 0 {
				s += fmt.Sprintf(", %d of %s", a.Approvals, strings.Trim(fmt.Sprint(a.Approvers), "[]"))
			}
			if len(a.Conditions) > 0 {
				s += ", if " + strings.Join(a.Conditions, "; ")
			}
			got = append(got, s)
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%s:\n got %s\nwant %s", c.ask, strings.Join(got, "\n     "), strings.Join(c.want, "\n     "))
		}
	}
}

// TestAccessesAreWaysIn: whoever Decide lets in somewhere, or sends to approvers, is listed there with that rule; and of nobody else is said that they
// get in.
func TestAccessesAreWaysIn(t *testing.T) {
	p := basePolicy(t)
	listed := map[string]bool{}
	for a := range policy.Accesses(p, nil, []name.Host{"web01", "web02", "db01", "safe01", "lb3"}) {
		listed[fmt.Sprint(a.Person, a.Login, a.Host, a.Rule)] = true
	}
	reached := map[string]bool{}
	for _, ticket := range []string{"", "INC-1"} {
		for _, from := range []change{at(home("203.0.113.9")), at(home("192.0.2.7")), at(home("198.51.100.7"))} {
			for _, person := range p.People() {
				for _, host := range []name.Host{"web01", "web02", "db01", "safe01", "lb3"} {
					for _, login := range []name.Login{"root", "deploy", "postgres"} {
						for _, drill := range []bool{false, true} {
							a := usual()
							from(&a)
							a.req.Person, a.req.Host, a.req.Login, a.req.Drill, a.req.Ticket, a.req.Reason = person, host, login, drill, ticket, reason40
							d := policy.Decide(p, a.req, a.facts)
							key := fmt.Sprint(person, login, host, d.Rule)
							if d.Outcome != policy.Deny && !listed[key] {
								t.Fatalf("%s %s@%s: %s by %q, and it is not listed", person, login, host, d.Outcome, d.Rule)
							}
							if d.Outcome != policy.Deny {
								reached[key] = true
							}
						}
					}
				}
			}
		}
	}
	if len(reached) < 10 {
		t.Errorf("only %d ways in were tried", len(reached))
	}
}
