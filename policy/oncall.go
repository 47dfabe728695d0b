package policy

import (
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"time"

	"breakglass/internal/name"
)

const (
	// DefaultRosterAge holds where an entry of [oncall] has no max_age: lists of turns are written daily.
	DefaultRosterAge = 24 * time.Hour
	maxRosterAge     = 31 * 24 * time.Hour // a month-old list is a guess
	maxRosters       = 64                  // each is a file that a decision may have to look at
	// rosterSlack is how far in the future a list may have been written: the machine that writes it has a clock of its own.
	rosterSlack = 5 * time.Minute
)

// Roster is an entry of [oncall]: a file that says who is on call, and how old it may be.
//
// The file is no part of the policy's text, and whoever may write it says who is on call. It can only take away: a rule's who has to name
// the person as well.
type Roster struct {
	Name   name.Roster
	File   string        // relative to the CA's directory, with slashes
	MaxAge time.Duration // an older one knows nobody
	Line   int
}

func (c *compiler) oncall(f *file) {
	c.p.Rosters = map[name.Roster]*Roster{}
	if len(f.OnCall) > maxRosters {
		c.key([]string{"oncall"}, "", "more than %d on-call lists", maxRosters)
	}
	for _, key := range sortedKeys(f.OnCall) {
		path := []string{"oncall", key}
		n, err := name.ParseRoster(key)
		if err != nil {
			c.key(path, "", "%v", err)
			continue
		}
		in := f.OnCall[key]
		at := func(k string) []string { return append(slices.Clone(path), k) }
		r := &Roster{Name: n, File: in.File, MaxAge: DefaultRosterAge, Line: c.line(path...)}
		switch {
		case in.File == "":
			c.at(at("file"), `write file = "oncall/`+key+`.txt"`, "on-call list %q has no file", n)
		case !fs.ValidPath(in.File) || in.File == "." || strings.ContainsFunc(in.File, func(x rune) bool { return isControl(x) || x == '\\' }):
			c.at(at("file"), "a path below the CA's directory, with slashes and without ..", "file = %q", in.File)
		}
		if c.ix.has(at("max_age")...) {
			d, err := time.ParseDuration(in.MaxAge)
			if err != nil || d < time.Minute || d > maxRosterAge || d%time.Second != 0 {
				c.at(at("max_age"), `write it like "24h", at least 1m and at most 744h`, "max_age = %q", in.MaxAge)
			}
			r.MaxAge = d
		}
		c.p.Rosters[n] = r
	}
}

// rosterNames resolves a rule's on-call lists.
func (c *compiler) rosterNames(list, path []string) (names []name.Roster, rosters []*Roster) {
	if c.ix.has(path...) && len(list) == 0 {
		c.at(path, "leave the key out for anybody in who", "an empty list of on-call lists")
	}
	for i, s := range list {
		r := c.p.Rosters[name.Roster(s)]
		if r == nil {
			c.at(element(path, i), suggest(s, sortedKeys(c.p.Rosters)), "unknown on-call list %q", s)
			continue
		}
		names, rosters = append(names, r.Name), append(rosters, r)
	}
	return names, rosters
}

// RostersFor are the on-call lists that a decision about the person can depend on, sorted by name.
func (p *Policy) RostersFor(person name.Person) []*Roster {
	var out []*Roster
	for i := range p.Rules {
		if r := &p.Rules[i]; len(r.rosters) > 0 && r.who[person] {
			out = append(out, r.rosters...)
		}
	}
	slices.SortFunc(out, func(x, y *Roster) int { return strings.Compare(string(x.Name), string(y.Name)) })
	return slices.Compact(out)
}

// AllRosters are the policy's on-call lists, sorted by name.
func (p *Policy) AllRosters() []*Roster {
	out := make([]*Roster, 0, len(p.Rosters))
	for _, n := range sortedKeys(p.Rosters) {
		out = append(out, p.Rosters[name.Roster(n)])
	}
	return out
}

// onCall checks a rule's on-call lists: one of them says that the person is on call now.
func (e *evaluation) onCall(r *Rule) {
	if len(r.rosters) == 0 {
		return
	}
	var off []name.Roster
	var doubts []string
	for _, l := range r.rosters {
		on, doubt := e.roster(l)
		if on == Yes {
			if e.trace != nil {
				e.pass(r.Line, "%s is on call in %s", e.req.Person, l.Name)
			}
			return
		}
		if on == No {
			off = append(off, l.Name)
		} else {
			doubts = append(doubts, fmt.Sprintf("%s (%s)", l.Name, doubt))
		}
	}
	if len(doubts) > 0 {
		e.fail(r.Line, Reason{OnCallUnknown, fmt.Sprintf("it is unknown whether %s is on call in %s, as rule %q wants it", e.req.Person, strings.Join(doubts, ", "), r.Name),
			"an operator, on the CA's machine: breakglass-ca status tells what is wrong with the list"})
		return
	}
	e.fail(r.Line, Reason{NotOnCall, fmt.Sprintf("%s is not on call in %s, as rule %q wants it", e.req.Person, words(off), r.Name), "ask somebody who is on call"})
}

// roster is what one list says of the person, and if nothing, why.
func (e *evaluation) roster(l *Roster) (on Tri, doubt string) {
	now := e.facts.Now
	i := slices.IndexFunc(e.facts.OnCall, func(f OnCall) bool { return f.List == l.Name })
	if i < 0 {
		return Unknown, "nobody looked at the list"
	}
	f := &e.facts.OnCall[i]
	switch {
	case f.On != Yes && f.On != No && f.Doubt != "":
		return Unknown, f.Doubt
	case f.On != Yes && f.On != No:
		return Unknown, "the list tells nothing"
	case now.IsZero():
		return Unknown, "the time is unknown"
	case f.Written.IsZero():
		return Unknown, "the list's age is unknown"
	case f.Written.Sub(now) > rosterSlack:
		return Unknown, "the list of " + f.Written.UTC().Format(time.RFC3339) + " comes from the future"
	case now.Sub(f.Written) > l.MaxAge:
		return Unknown, fmt.Sprintf("the list of %s is older than %s", f.Written.UTC().Format(time.RFC3339), short(l.MaxAge))
	}
	return f.On, ""
}

// Doubt says what is wrong with a list of that age at a time; "" is nothing. It is what a decision would say.
func (l *Roster) Doubt(written, now time.Time) string {
	e := &evaluation{facts: Facts{Now: now, OnCall: []OnCall{{List: l.Name, On: No, Written: written}}}}
	_, doubt := e.roster(l)
	return doubt
}
