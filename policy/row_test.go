package policy_test

import (
	"errors"
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"breakglass/internal/name"
	"breakglass/policy"
)

// A row of a decision table is a sentence. It says who asks for what, from where and under which circumstances, and after the arrow what the
// policy's answer is:
//
//	alice asks for root@web01 from 203.0.113.9 (BR) at Sat 03:00 Berlin → ask 1 of @leads by away
//
// In full (| is a choice, [] may be left out; circumstances in any order, each after a comma):
//
//	PERSON VERB LOGIN@HOST [for N min] from PLACE [and PLACE …] [at TIME] [, CIRCUMSTANCE …] → ANSWER
//	a stranger comes from PLACE [and PLACE …] [at TIME] → nothing against it | deny: CODE, …
//
//	VERB          asks for | rehearses | extends | overrides for | opens
//	PLACE         nowhere | an unknown address | ADDRESS: nothing is known of it | ADDRESS (GEO): known since yesterday, and no anonymous network
//	GEO           words separated by ", ": COUNTRY, SUBDIVISION …, AS64500, "Tor", "maybe Tor", "N days old", "no country"
//	TIME          Sat 03:00 Berlin | 2026-12-24 03:00 UTC | an unknown time; left out: Mon 2026-06-01 03:00 UTC
//	CIRCUMSTANCE  because "…" | ticket T | failure F | severity S | forwarding F [and F …]
//	              untouched | touched or not | without PIN | PIN or not | key STATE
//	              approved by P [and P …] | refused by P [and P …] | with a code | with a wrong code
//	              on call in L [written 25h ago] | not on call in L | N after asking | N into a grant of N | overridden | waiting
//	              owing ADDED [and ADDED …] | already on RULE from PLACE | N grants on RULE | grants unknown
//	ANSWER        allow by RULE for N min [, for ADDED …]
//	              ask N of @GROUP|P and P … by RULE [, for ADDED and ADDED …] [, override after 10m]
//	              deny: CODE, CODE …
//
// What isn't said is in order: touch, PIN, live key, a reason of 80 characters, no other grant alive, on call nowhere.

// tableRow is a row, read.
type tableRow struct {
	stranger bool
	ask
	into   time.Duration // of a session: how far into its grant
	length time.Duration
	answer tableAnswer
}

type tableAnswer struct {
	outcome   policy.Outcome
	rule      name.Rule
	minutes   int
	missing   int
	approvers []string // people and @groups
	added     []policy.Added
	override  time.Duration
	codes     []policy.Code
}

var (
	errRow  = errors.New("no sentence of a table")
	rowHead = regexp.MustCompile(`^(\S+) (asks for|rehearses|extends|overrides for|opens) (\S+?)@(\S+)( for -?\d+ min)? from (.+)$`)
)

func parseRow(s string) (*tableRow, error) {
	left, right, ok := strings.Cut(s, " → ")
	if !ok {
		return nil, fmt.Errorf("%w: no arrow", errRow)
	}
	clauses := splitOutside(left, ", ")
	r := &tableRow{}
	r.facts = policy.Facts{Now: now, Touch: policy.Yes, UV: policy.Yes, Key: policy.KeyLive, Live: policy.Live{Known: true}}
	r.req.Kind, r.req.Reason = policy.KindNew, strings.Repeat("web01 serves 500 now ", 4)
	var from string
	if rest, ok := strings.CutPrefix(clauses[0], "a stranger comes from "); ok {
		r.stranger, from = true, rest
	} else {
		m := rowHead.FindStringSubmatch(clauses[0])
		if m == nil {
			return nil, fmt.Errorf("%w: %q", errRow, clauses[0])
		}
		// The names go as they are: that one is none is worth a row.
		r.req.Person, r.req.Login, r.req.Host = name.Person(m[1]), name.Login(m[3]), name.Host(m[4])
		switch m[2] {
		case "rehearses":
			r.req.Drill = true
		case "extends":
			r.req.Kind = policy.KindExtend
		case "overrides for":
			r.req.Kind = policy.KindOverride
		case "opens":
			r.req.Kind, r.into, r.length = policy.KindSession, time.Minute, 30*time.Minute
		}
		if m[5] != "" {
			var err error
			if r.req.Minutes, err = strconv.Atoi(strings.TrimSuffix(strings.TrimPrefix(m[5], " for "), " min")); err != nil {
				return nil, fmt.Errorf("%w: %v", errRow, err)
			}
		}
		from = m[6]
	}
	// The time first: "yesterday" of the databases hangs on it.
	if i := strings.LastIndex(from, " at "); i >= 0 {
		t, err := parseRowTime(from[i+4:])
		if err != nil {
			return nil, err
		}
		r.facts.Now, from = t, from[:i]
	}
	var err error
	if r.facts.Sources, err = r.places(from); err != nil {
		return nil, err
	}
	for _, c := range clauses[1:] {
		if err := r.circumstance(c); err != nil {
			return nil, err
		}
	}
	return r, r.parseAnswer(right)
}

// splitOutside splits where no quote or parenthesis is open.
func splitOutside(s, sep string) []string {
	var out []string
	depth, quoted, start := 0, false, 0
	for i := 0; i < len(s); i++ {
		switch {
		case s[i] == '"':
			quoted = !quoted
		case quoted:
		case s[i] == '(':
			depth++
		case s[i] == ')':
			depth--
		case depth == 0 && strings.HasPrefix(s[i:], sep):
			out = append(out, s[start:i])
			start = i + len(sep)
			i = start - 1
		}
	}
	return append(out, s[start:])
}

func rowZone(s string) (*time.Location, error) {
	for short, zone := range map[string]string{"UTC": "UTC", "Berlin": "Europe/Berlin", "London": "Europe/London", "New_York": "America/New_York", "Auckland": "Pacific/Auckland"} {
		if s == short {
			return time.LoadLocation(zone)
		}
	}
	return nil, fmt.Errorf("%w: no zone %q", errRow, s)
}

// parseRowTime reads a weekday of the week of 2026-06-01, a Monday, or a date.
func parseRowTime(s string) (time.Time, error) {
	if s == "an unknown time" {
		return time.Time{}, nil
	}
	words := strings.Split(s, " ")
	if len(words) != 3 {
		return time.Time{}, fmt.Errorf("%w: time %q", errRow, s)
	}
	zone, err := rowZone(words[2])
	if err != nil {
		return time.Time{}, err
	}
	day := words[0]
	if i := slices.Index([]string{"Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"}, day); i >= 0 {
		day = fmt.Sprintf("2026-06-%02d", 1+i)
	}
	t, err := time.ParseInLocation("2006-01-02 15:04", day+" "+words[1], zone)
	if err != nil {
		return time.Time{}, fmt.Errorf("%w: %v", errRow, err)
	}
	return t, nil
}

func (r *tableRow) places(s string) ([]policy.Source, error) {
	if s == "nowhere" {
		return nil, nil
	}
	var out []policy.Source
	for _, p := range splitOutside(s, " and ") {
		src, err := r.place(p)
		if err != nil {
			return nil, err
		}
		out = append(out, src)
	}
	return out, nil
}

var rowSubdivision = regexp.MustCompile(`^[A-Z]{2}-[A-Z0-9]{1,3}$`)

func (r *tableRow) place(s string) (policy.Source, error) {
	if s == "an unknown address" {
		return policy.Source{}, nil
	}
	text, geo, known := strings.Cut(s, " (")
	a, err := netip.ParseAddr(text)
	if err != nil {
		return policy.Source{}, fmt.Errorf("%w: %v", errRow, err)
	}
	src := policy.Source{Addr: a}
	if !known {
		return src, nil
	}
	geo, closed := strings.CutSuffix(geo, ")")
	if !closed {
		return src, fmt.Errorf("%w: place %q", errRow, s)
	}
	src.Anonymous = policy.No
	built := r.facts.Now.AddDate(0, 0, -1)
	if r.facts.Now.IsZero() {
		built = now.AddDate(0, 0, -1)
	}
	for _, w := range strings.Split(geo, ", ") {
		days, old := strings.CutSuffix(w, " days old")
		switch {
		case w == "Tor":
			src.Anonymous = policy.Yes
		case w == "maybe Tor":
			src.Anonymous = policy.Unknown
		case w == "no country":
		case old:
			n, err := strconv.Atoi(days)
			if err != nil {
				return src, fmt.Errorf("%w: %v", errRow, err)
			}
			built = r.facts.Now.AddDate(0, 0, -n)
		case strings.HasPrefix(w, "AS") && len(w) > 2:
			n, err := strconv.ParseUint(w[2:], 10, 32)
			if err != nil {
				return src, fmt.Errorf("%w: %v", errRow, err)
			}
			src.ASN = uint32(n)
		case rowSubdivision.MatchString(w):
			src.Subdivisions = append(src.Subdivisions, w)
		case len(w) == 2 && src.Country == "":
			src.Country = w
		default:
			return src, fmt.Errorf("%w: place %q: what is %q", errRow, s, w)
		}
	}
	src.CountryBuilt, src.ASNBuilt, src.AnonymousBuilt = built, built, built
	return src, nil
}

func names[T ~string](s string) []T {
	var out []T
	for _, n := range strings.Split(s, " and ") {
		out = append(out, T(n))
	}
	return out
}

func (r *tableRow) circumstance(c string) error {
	bad := func(err error) error { return fmt.Errorf("%w: %q: %v", errRow, c, err) }
	f := &r.facts
	switch c {
	case "untouched":
		f.Touch = policy.No
		return nil
	case "touched or not":
		f.Touch = policy.Unknown
		return nil
	case "without PIN":
		f.UV = policy.No
		return nil
	case "PIN or not":
		f.UV = policy.Unknown
		return nil
	case "with a code":
		f.TOTP = policy.Yes
		return nil
	case "with a wrong code":
		f.TOTP = policy.No
		return nil
	case "overridden":
		f.Overridden = true
		return nil
	case "waiting":
		f.Waits = true
		return nil
	case "grants unknown":
		f.Live = policy.Live{}
		return nil
	}
	if text, ok := strings.CutSuffix(c, " after asking"); ok {
		d, err := time.ParseDuration(text)
		if err != nil {
			return bad(err)
		}
		f.Waited = d
		return nil
	}
	if into, of, ok := strings.Cut(c, " into a grant of "); ok {
		var err, err2 error
		r.into, err = time.ParseDuration(into)
		r.length, err2 = time.ParseDuration(of)
		if err := errors.Join(err, err2); err != nil {
			return bad(err)
		}
		return nil
	}
	if n, rule, ok := strings.Cut(c, " grants on "); ok {
		k, err := strconv.Atoi(n)
		if err != nil {
			return bad(err)
		}
		if f.Live.Rules == nil {
			f.Live.Rules = map[name.Rule]int{}
		}
		f.Live.Rules[name.Rule(rule)] = k
		return nil
	}
	return r.prefixed(c)
}

// prefixed are the circumstances that begin with their word.
func (r *tableRow) prefixed(c string) error {
	f, q := &r.facts, &r.req
	for _, p := range []struct {
		word string
		read func(string) error
	}{
		{"because ", func(s string) error {
			text, err := strconv.Unquote(s)
			q.Reason = text
			return err
		}},
		{"ticket ", func(s string) error { q.Ticket = s; return nil }},
		{"failure ", func(s string) error { q.Failure = s; return nil }},
		{"severity ", func(s string) error { q.Severity = s; return nil }},
		{"forwarding ", func(s string) error {
			for _, text := range strings.Split(s, " and ") {
				fw, err := policy.ParseForward(text)
				if err != nil {
					return err
				}
				q.Forwards = append(q.Forwards, fw)
			}
			return nil
		}},
		{"key ", func(s string) error { return f.Key.UnmarshalText([]byte(s)) }},
		{"approved by ", func(s string) error { f.Approved = names[name.Person](s); return nil }},
		{"refused by ", func(s string) error { f.Refused = names[name.Person](s); return nil }},
		{"on call in ", func(s string) error { return r.onCall(s, policy.Yes) }},
		{"not on call in ", func(s string) error { return r.onCall(s, policy.No) }},
		{"owing ", func(s string) error {
			f.Added = names[policy.Added](s)
			for _, a := range f.Added {
				if !slices.Contains(policy.AllAdded(), a) {
					return fmt.Errorf("no circumstance %q", a)
				}
			}
			return nil
		}},
		{"already on ", func(s string) error {
			rule, place, ok := strings.Cut(s, " from ")
			if !ok {
				return errors.New("want already on RULE from PLACE")
			}
			src, err := r.place(place)
			f.Live.Person = append(f.Live.Person, policy.LiveGrant{ID: "k7f-2mq", Rule: name.Rule(rule), Sources: []policy.Source{src}})
			return err
		}},
	} {
		if rest, ok := strings.CutPrefix(c, p.word); ok {
			if err := p.read(rest); err != nil {
				return fmt.Errorf("%w: %q: %v", errRow, c, err)
			}
			return nil
		}
	}
	return fmt.Errorf("%w: what is %q", errRow, c)
}

func (r *tableRow) onCall(s string, on policy.Tri) error {
	list, age, aged := strings.Cut(s, " written ")
	o := policy.OnCall{List: name.Roster(list), On: on, Written: r.facts.Now.Add(-time.Hour)}
	if aged {
		text, ok := strings.CutSuffix(age, " ago")
		d, err := time.ParseDuration(text)
		if err != nil || !ok {
			return fmt.Errorf("written %q", age)
		}
		o.Written = r.facts.Now.Add(-d)
	}
	r.facts.OnCall = append(r.facts.OnCall, o)
	return nil
}

var (
	rowAllow = regexp.MustCompile(`^allow by (\S+) for (\d+) min$`)
	rowAsk   = regexp.MustCompile(`^ask (\d+) of (.+) by (\S+)$`)
)

func (r *tableRow) parseAnswer(s string) error {
	a := &r.answer
	if r.stranger && s == "nothing against it" {
		return nil
	}
	if codes, ok := strings.CutPrefix(s, "deny: "); ok {
		for _, c := range strings.Split(codes, ", ") {
			if !slices.Contains(policy.Codes(), policy.Code(c)) {
				return fmt.Errorf("%w: no code %q", errRow, c)
			}
			a.codes = append(a.codes, policy.Code(c))
		}
		if !slices.IsSorted(a.codes) {
			return fmt.Errorf("%w: codes in the order of the alphabet", errRow)
		}
		return nil
	}
	parts := strings.Split(s, ", ")
	if m := rowAllow.FindStringSubmatch(parts[0]); m != nil && !r.stranger {
		a.outcome, a.rule = policy.Allow, name.Rule(m[1])
		a.minutes, _ = strconv.Atoi(m[2])
	} else if m := rowAsk.FindStringSubmatch(parts[0]); m != nil && !r.stranger {
		a.outcome, a.approvers, a.rule = policy.Ask, names[string](m[2]), name.Rule(m[3])
		a.missing, _ = strconv.Atoi(m[1])
	} else {
		return fmt.Errorf("%w: answer %q", errRow, s)
	}
	for _, p := range parts[1:] {
		if text, ok := strings.CutPrefix(p, "override after "); ok {
			d, err := time.ParseDuration(text)
			if err != nil {
				return fmt.Errorf("%w: %v", errRow, err)
			}
			a.override = d
		} else if text, ok := strings.CutPrefix(p, "for "); ok {
			a.added = names[policy.Added](text)
		} else {
			return fmt.Errorf("%w: what is %q", errRow, p)
		}
	}
	return nil
}

// inquiry is the row as the ledger would have it.
func (r *tableRow) inquiry() *policy.Inquiry {
	q := &policy.Inquiry{Request: r.req, Facts: r.facts}
	if r.req.Kind == policy.KindSession {
		start := r.facts.Now.Add(-r.into)
		q.Grant = &policy.GrantTime{Start: start, End: start.Add(r.length)}
	}
	return q
}

// decide runs the row.
func (r *tableRow) decide(p *policy.Policy) policy.Decision {
	if r.stranger {
		return policy.Decision{Reasons: policy.PreCheck(p, r.facts)}
	}
	return r.inquiry().Answer(p)
}

// differs says what of a decision is not as the row has it.
func (r *tableRow) differs(p *policy.Policy, d policy.Decision) []string {
	var out []string
	want := r.answer
	differ := func(what string, got, want any) {
		if g, w := fmt.Sprint(got), fmt.Sprint(want); g != w {
			out = append(out, fmt.Sprintf("%s: got %s, want %s", what, g, w))
		}
	}
	differ("outcome", d.Outcome, want.outcome)
	var codes []policy.Code
	for _, reason := range d.Reasons {
		codes = append(codes, reason.Code)
		if reason.Detail == "" || reason.Next == "" {
			out = append(out, fmt.Sprintf("reason %s leaves the person alone", reason.Code))
		}
	}
	slices.Sort(codes)
	differ("codes", slices.Compact(codes), want.codes)
	if d.Outcome == policy.Deny || want.outcome == policy.Deny {
		return out
	}
	differ("rule", d.Rule, want.rule)
	differ("added", d.Added, want.added)
	if d.Outcome == policy.Allow {
		differ("minutes", d.Minutes, want.minutes)
		return out
	}
	differ("missing", d.Missing, want.missing)
	differ("approvers", d.Approvers, r.resolve(p, want.approvers))
	if want.override > 0 {
		differ("override", d.Override, want.override)
	}
	return out
}

// resolve gives the people of a list, without who asks.
func (r *tableRow) resolve(p *policy.Policy, list []string) []name.Person {
	var out []name.Person
	for _, n := range p.People() {
		q, _ := p.Person(n)
		if n != r.req.Person && slices.ContainsFunc(list, func(s string) bool {
			g, group := strings.CutPrefix(s, "@")
			return group && slices.Contains(q.Groups, name.Group(g)) || s == string(n)
		}) {
			out = append(out, n)
		}
	}
	return out
}
