package policy

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"time"

	"breakglass/internal/name"
)

const (
	maxTestLive = MaxGrants
	// testLiveID is of the pattern of request ids; the tests' grants are told apart by its digits.
	testLiveID = "aaa-%03d"
)

// testMoment compiles what a [[test]] says of time, on-call lists, declarations and grants that are alive.
func (c *compiler) testMoment(in *fileTest, t *test, at func(string) []string) {
	f := &t.facts
	f.Now = testTime
	if c.ix.has(at("time")...) {
		now, err := time.Parse(time.RFC3339, in.Time)
		if err != nil || now.IsZero() {
			c.at(at("time"), `write it like "2026-12-24T22:00:00+01:00"`, "time = %q", in.Time)
		} else {
			f.Now = now.UTC()
		}
	}
	if c.ix.has(at("oncall")...) {
		for n, s := range in.OnCall {
			if c.p.Rosters[name.Roster(s)] == nil {
				c.at(element(at("oncall"), n), suggest(s, sortedKeys(c.p.Rosters)), "unknown on-call list %q", s)
			}
		}
		for _, l := range sortedKeys(c.p.Rosters) {
			f.OnCall = append(f.OnCall, OnCall{List: name.Roster(l), On: TriOf(slices.Contains(in.OnCall, l)), Written: f.Now})
		}
	}
	t.request.Severity, t.request.Failure = in.Severity, in.Failure
	c.testLive(in, t, at)
}

func (c *compiler) testLive(in *fileTest, t *test, at func(string) []string) {
	live := &t.facts.Live
	live.Known, live.Rules = true, map[name.Rule]int{}
	others := c.number(in.RuleLive, at("rule_live"), 0, 0, maxTestLive)
	var known []string
	for i := range c.p.Rules {
		known = append(known, string(c.p.Rules[i].Name))
		live.Rules[c.p.Rules[i].Name] = others
	}
	if len(in.Live) > maxTestLive {
		c.at(at("live"), "", "more than %d grants", maxTestLive)
	}
	for i := range in.Live {
		path := append(at("live"), strconv.Itoa(i))
		sub := func(key string) []string { return append(slices.Clone(path), key) }
		g := LiveGrant{ID: name.RequestID(fmt.Sprintf(testLiveID, i)), Rule: name.Rule(in.Live[i].Rule)}
		if !slices.Contains(known, in.Live[i].Rule) {
			c.at(sub("rule"), suggest(in.Live[i].Rule, known), "unknown rule %q", in.Live[i].Rule)
		}
		live.Rules[g.Rule]++
		if s := in.Live[i].Country; c.ix.has(sub("country")...) && !isCountry(s) {
			c.at(sub("country"), `two capital letters, ISO 3166-1, like "DE"; leave it out for an unknown one`, "unknown country %q", s)
		}
		if len(in.Live[i].From) == 0 {
			c.at(sub("from"), `write from = ["203.0.113.9"]`, "the grant is from no address")
		}
		for n, s := range in.Live[i].From {
			a, err := netip.ParseAddr(s)
			if err != nil {
				c.at(element(sub("from"), n), `write it like "203.0.113.9"`, "%q is no address", s)
				continue
			}
			g.Sources = append(g.Sources, Source{Addr: a, Country: in.Live[i].Country, CountryBuilt: t.facts.Now})
		}
		live.Person = append(live.Person, g)
	}
}
