package policy

import (
	"fmt"
	"slices"
	"strings"

	"breakglass/internal/name"
)

// maxNamed is how many things of one kind Words names one by one: more is a number, and the diff.
const maxNamed = 20

// Gain is who comes into rules or leaves them.
type Gain struct {
	Person name.Person
	Gains  []name.Rule
	Loses  []name.Rule
}

// Gains lists whom the rules of a new policy name and those of the old one don't, and the reverse. What a rule lets them do may change too: Compare says.
func Gains(old, new *Policy) (out []Gain) {
	all := slices.Concat(old.People(), new.People())
	slices.Sort(all)
	for _, p := range slices.Compact(all) {
		g := Gain{Person: p, Gains: lacks(old, new, p), Loses: lacks(new, old, p)}
		if len(g.Gains)+len(g.Loses) > 0 {
			out = append(out, g)
		}
	}
	return out
}

// lacks are the rules of q that name p, where the rule of that name in other doesn't.
func lacks(other, q *Policy, p name.Person) (out []name.Rule) {
	for i := range q.Rules {
		r := &q.Rules[i]
		if before, ok := other.Rule(r.Name); r.who[p] && !(ok && before.who[p]) {
			out = append(out, r.Name)
		}
	}
	return out
}

// Words says in lines for people what a new policy changes. Who changes the policy after it stands first.
func Words(old, new *Policy) []string {
	var out []string
	if joined, left := others(new.Site.Owners, old.Site.Owners), others(old.Site.Owners, new.Site.Owners); len(joined)+len(left) > 0 || old.Site.Signers != new.Site.Signers {
		s := "WHO SIGNS THE NEXT POLICY CHANGES:"
		if len(joined) > 0 {
			s += " owners come: " + words(joined) + ";"
		}
		if len(left) > 0 {
			s += " owners go: " + words(left) + ";"
		}
		if old.Site.Signers != new.Site.Signers {
			s += fmt.Sprintf(" signers %d, now %d;", new.Site.Signers, old.Site.Signers)
		}
		out = append(out, strings.TrimSuffix(s, ";"))
	}
	list := Compare(old, new)
	if len(list) == 0 {
		return append(out, "Nothing but comments, tests or the order of things changes.")
	}
	out = append(out, Summary(list)+".")
	named := map[string]int{}
	for _, c := range list {
		if c.Kind == "host" && c.What == Removed {
			c.Kind = "host removed" // those are named apart: nobody gets there any more
		}
		if named[c.Kind]++; named[c.Kind] <= maxNamed {
			if c.Kind == "host removed" {
				c.Kind = "host"
			}
			out = append(out, c.String())
		} else if named[c.Kind] == maxNamed+1 {
			out = append(out, fmt.Sprintf("and more of the kind %s: the diff names them", c.Kind))
		}
	}
	gains := Gains(old, new)
	for i, g := range gains {
		if i == maxNamed {
			out = append(out, fmt.Sprintf("and %d people more gain or lose rules", len(gains)-i))
			break
		}
		s := string(g.Person)
		if len(g.Gains) > 0 {
			s += " gains " + ruleWords(g.Gains)
		}
		if len(g.Loses) > 0 {
			s += " loses " + ruleWords(g.Loses)
		}
		out = append(out, s)
	}
	return out
}

func ruleWords(list []name.Rule) string {
	out := "rule"
	if len(list) > 1 {
		out += "s"
	}
	for i, r := range list {
		if i > 0 {
			out += ","
		}
		out += " " + string(r)
	}
	return out
}

// others are those of a who are not in b.
func others(a, b []name.Person) (out []name.Person) {
	for _, p := range a {
		if !slices.Contains(b, p) {
			out = append(out, p)
		}
	}
	return out
}
