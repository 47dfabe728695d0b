package policy

import (
	"fmt"
	"math"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"breakglass/internal/name"
)

// test is one [[test]], compiled.
type test struct {
	name    string
	line    int
	request Request
	facts   Facts
	expect  Outcome
	rule    name.Rule
	reasons []Code
}

// testTime is the Now of a [[test]] that gives no time: a policy's tests must not change their answer from one day to the next.
var testTime = time.Date(2026, 1, 15, 3, 0, 0, 0, time.UTC)

// TestResult is what became of one [[test]].
type TestResult struct {
	Name     string
	File     string // of the set; of a policy of one file empty
	Line     int
	Decision Decision
	Faults   []string // what differs from what the test expects; none: it passed
}

// OK tells whether the test passed.
func (r TestResult) OK() bool { return len(r.Faults) == 0 }

// Test runs the policy's own tests.
func Test(p *Policy) []TestResult {
	out := make([]TestResult, 0, len(p.tests))
	for i := range p.tests {
		out = append(out, p.tests[i].run(p))
	}
	return out
}

func (t *test) run(p *Policy) TestResult {
	d := Decide(p, t.request, t.facts)
	r := TestResult{Name: t.name, File: p.main, Line: t.line, Decision: d}
	fault := func(format string, args ...any) { r.Faults = append(r.Faults, fmt.Sprintf(format, args...)) }
	if d.Outcome != t.expect {
		because := ""
		if d.Outcome == Deny {
			because = " (" + codesOf(d.Reasons) + ")"
		} else {
			because = fmt.Sprintf(" (by rule %q)", d.Rule)
		}
		fault("expected %s, got %s%s", t.expect, d.Outcome, because)
		return r
	}
	if t.rule != "" && d.Rule != t.rule {
		fault("expected rule %q, got %q", t.rule, d.Rule)
	}
	if d.Outcome == Deny {
		var got []Code
		for _, x := range d.Reasons {
			got = append(got, x.Code)
		}
		slices.Sort(got)
		got = slices.Compact(got)
		if !slices.Equal(got, t.reasons) {
			fault("expected reasons %s, got %s", words(t.reasons), words(got))
		}
	}
	return r
}

// test compiles one [[test]]. People and hosts may be unknown here: that they are is worth a test.
func (c *compiler) test(in *fileTest, i int, seen map[string]bool) {
	at := func(key string) []string { return []string{"test", strconv.Itoa(i), key} }
	t := test{name: in.Name, line: c.line("test", strconv.Itoa(i))}
	if strings.TrimSpace(in.Name) == "" {
		c.at(at("name"), `a sentence, like "nobody enters from the blocked network"`, "a test without a name")
	} else if seen[in.Name] {
		c.at(at("name"), "", "two tests are called %q", in.Name)
	}
	seen[in.Name] = true

	var err error
	q := &t.request
	q.Kind, q.Minutes, q.Reason, q.Ticket, q.Drill = KindNew, in.Minutes, in.Reason, in.Ticket, in.Drill
	if q.Person, err = name.ParsePerson(in.Person); err != nil {
		c.at(at("person"), "", "%v", err)
	}
	if q.Host, err = name.ParseHost(in.Host); err != nil {
		c.at(at("host"), "", "%v", err)
	}
	if q.Login, err = name.ParseLogin(in.Login); err != nil {
		c.at(at("login"), "", "%v", err)
	}
	if !c.ix.has(at("reason")...) {
		q.Reason = strings.Repeat("a policy's own test ", maxReasonMin/19+1)
	}
	for n, s := range in.Forwards {
		f, err := ParseForward(s)
		if err != nil {
			c.at(element(at("forwards"), n), "", "%v", err)
		}
		q.Forwards = append(q.Forwards, f)
	}

	c.testMoment(in, &t, at)
	f := &t.facts
	f.Touch = c.tri(in.Touch, at("touch"), Yes)
	f.UV = c.tri(in.UV, at("uv"), Yes)
	f.Key = KeyLive
	if c.ix.has(at("key")...) {
		if err := f.Key.UnmarshalText([]byte(in.Key)); err != nil {
			c.at(at("key"), "want one of "+strings.Join(keyText[:], ", "), "%v", err)
		}
	}
	for n, s := range in.Approved {
		who, err := name.ParsePerson(s)
		if err != nil {
			c.at(element(at("approved"), n), "", "%v", err)
		}
		f.Approved = append(f.Approved, who)
	}
	for n, s := range in.Refused {
		who, err := name.ParsePerson(s)
		if err != nil {
			c.at(element(at("refused"), n), "", "%v", err)
		}
		f.Refused = append(f.Refused, who)
	}
	for n, s := range in.Added {
		if !slices.Contains(AllAdded(), Added(s)) {
			c.at(element(at("added"), n), "want one of "+words(AllAdded()), "unknown circumstance %q", s)
		}
		f.Added = append(f.Added, Added(s))
	}
	f.TOTP = c.tri(in.TOTP, at("totp"), Unknown)
	if c.ix.has(at("kind")...) {
		q.Kind = Kind(in.Kind)
		if !slices.Contains([]Kind{KindNew, KindOverride, KindExtend}, q.Kind) {
			c.at(at("kind"), `want "new", "override" or "extend"`, "kind = %q", in.Kind)
		}
	}
	f.Waited = c.duration(in.Waited, at("waited"), 0)
	c.testSources(in, &t, at)
	c.testExpectation(in, &t, at)
	c.p.tests = append(c.p.tests, t)
}

func (c *compiler) testSources(in *fileTest, t *test, at func(string) []string) {
	built := t.facts.Now.Add(-time.Duration(c.number(in.GeoAgeDays, at("geo_age_days"), 0, 0, 10*maxGeoAgeDays)) * 24 * time.Hour)
	if len(in.From) == 0 {
		c.at(at("from"), `write from = ["203.0.113.9"]`, "the test says from no address")
	}
	if c.ix.has(at("country")...) && !isCountry(in.Country) {
		c.at(at("country"), `two capital letters, ISO 3166-1, like "DE"; leave it out for an unknown one`, "unknown country %q", in.Country)
	}
	if s := in.Subdivision; c.ix.has(at("subdivision")...) {
		if country, _, _ := strings.Cut(s, "-"); !isSubdivision(s) {
			c.at(at("subdivision"), subdivisionHint(s), "unknown subdivision %q", s)
		} else if country != in.Country {
			c.at(at("subdivision"), fmt.Sprintf("write country = %q", country), "%s lies in %s", s, country)
		}
	}
	asn := uint32(c.number(in.ASN, at("asn"), 0, 1, math.MaxUint32))
	anonymous := c.tri(in.Anonymous, at("anonymous"), Unknown)
	for n, s := range in.From {
		a, err := netip.ParseAddr(s)
		if err != nil {
			c.at(element(at("from"), n), `write it like "203.0.113.9"`, "%q is no address", s)
			continue
		}
		s := Source{Addr: a, Country: in.Country, CountryBuilt: built, ASN: asn, ASNBuilt: built, Anonymous: anonymous, AnonymousBuilt: built}
		if in.Subdivision != "" {
			s.Subdivisions = []string{in.Subdivision}
		}
		t.facts.Sources = append(t.facts.Sources, s)
	}
}

func (c *compiler) testExpectation(in *fileTest, t *test, at func(string) []string) {
	switch in.Expect {
	case "allow":
		t.expect = Allow
	case "ask":
		t.expect = Ask
	case "deny":
		t.expect = Deny
	default:
		c.at(at("expect"), `want "allow", "ask" or "deny"`, "expect = %q", in.Expect)
	}
	if c.ix.has(at("rule")...) {
		var known []string
		for i := range c.p.Rules {
			known = append(known, string(c.p.Rules[i].Name))
		}
		if !slices.Contains(known, in.Rule) {
			c.at(at("rule"), suggest(in.Rule, known), "unknown rule %q", in.Rule)
		}
		t.rule = name.Rule(in.Rule)
	}
	for n, s := range in.Reasons {
		if !slices.Contains(Codes(), Code(s)) {
			var known []string
			for _, code := range Codes() {
				known = append(known, string(code))
			}
			c.at(element(at("reasons"), n), suggest(s, known), "unknown reason %q", s)
		}
		t.reasons = append(t.reasons, Code(s))
	}
	slices.Sort(t.reasons)
	t.reasons = slices.Compact(t.reasons)
	if in.Expect == "deny" && len(in.Reasons) == 0 {
		c.at(at("expect"), `write reasons = ["country_unknown"]: a deny for another reason is another answer`, "test %q does not say why it is denied", in.Name)
	}
	if in.Expect != "deny" && len(in.Reasons) > 0 {
		c.at(at("reasons"), "", "only a deny has reasons")
	}
}

func (c *compiler) tri(s string, path []string, otherwise Tri) Tri {
	if !c.ix.has(path...) {
		return otherwise
	}
	var t Tri
	if err := t.UnmarshalText([]byte(s)); err != nil {
		c.at(path, `want "yes", "no" or "unknown"`, "%s = %q", path[len(path)-1], s)
	}
	return t
}
