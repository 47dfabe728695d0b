package policy_test

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"breakglass/internal/policytext"
	"breakglass/policy"
)

// This file holds laws over what was never written down: asks put together from pieces of the tables' sentences, under the tables' policies.

var draws = flag.Int("draws", 3000, "asks that are drawn of each table for each law")

// drawn is a table and what its sentences ask for.
type drawn struct {
	table
	file string
	asks []ask
	rng  *rand.Rand
}

// drawers gives every table, sorted, each with a seed of its own that is always the same.
func drawers(t testing.TB) []*drawn {
	t.Helper()
	all := tables(t)
	every, err := os.ReadFile("testdata/v1/every.toml")
	if err != nil {
		t.Fatal(err)
	}
	p, err := policy.Load("every.toml", every)
	if err != nil {
		t.Fatal(err)
	}
	all["every.toml"] = table{policy: p, text: string(every), rows: all["when.txtar"].rows}
	var out []*drawn
	for file, tab := range all {
		d := &drawn{table: tab, file: file, rng: rand.New(rand.NewPCG(uint64(len(file)), uint64(len(tab.rows))))}
		for _, s := range tab.rows {
			r, err := parseRow(s)
			if err != nil {
				t.Fatal(err)
			}
			if !r.stranger {
				d.asks = append(d.asks, r.ask)
			}
		}
		out = append(out, d)
	}
	slices.SortFunc(out, func(a, b *drawn) int { return strings.Compare(a.file, b.file) })
	return out
}

// draw crosses a few sentences: the person of one, the place of another …
func (d *drawn) draw() ask {
	pick := func() ask { return d.asks[d.rng.IntN(len(d.asks))] }
	a := pick()
	for _, cross := range []func(ask){
		func(b ask) { a.req.Person = b.req.Person },
		func(b ask) { a.req.Host, a.req.Login = b.req.Host, b.req.Login },
		func(b ask) { a.facts.Sources = b.facts.Sources },
		func(b ask) { a.facts.Sources = slices.Concat(a.facts.Sources, b.facts.Sources) },
		func(b ask) { a.facts.Now = b.facts.Now },
		func(b ask) { a.facts.OnCall = b.facts.OnCall },
		func(b ask) { a.facts.Live = b.facts.Live },
		func(b ask) { a.facts.Approved, a.facts.Refused = b.facts.Approved, b.facts.Refused },
		func(b ask) { a.facts.Added, a.facts.Waits = b.facts.Added, b.facts.Waits },
		func(b ask) {
			a.req.Kind, a.facts.Waited, a.facts.Overridden = b.req.Kind, b.facts.Waited, b.facts.Overridden
		},
		func(b ask) { a.req.Severity, a.req.Failure, a.req.Ticket = b.req.Severity, b.req.Failure, b.req.Ticket },
		func(b ask) { a.req.Forwards, a.req.Drill = b.req.Forwards, b.req.Drill },
	} {
		if d.rng.IntN(6) == 0 {
			cross(pick())
		}
	}
	a.facts.Sources = slices.Clone(a.facts.Sources)
	a.facts.OnCall = slices.Clone(a.facts.OnCall)
	return a
}

// each runs a law over the draws of every table.
func each(t *testing.T, law func(d *drawn, a ask, was policy.Decision) string) {
	t.Helper()
	outcomes := map[policy.Outcome]int{}
	for _, d := range drawers(t) {
		for range *draws {
			a := d.draw()
			was := policy.Decide(d.policy, a.req, a.facts)
			outcomes[was.Outcome]++
			if broken := law(d, a, was); broken != "" {
				t.Errorf("%s: %s\n\t%s", d.file, broken, asJSON(t, a))
				break
			}
		}
	}
	for _, o := range []policy.Outcome{policy.Allow, policy.Ask, policy.Deny} {
		if outcomes[o] < *draws/10 {
			t.Errorf("only %d of outcome %s: the draw is no test", outcomes[o], o)
		}
	}
}

// TestTakingAFactAwayNeverAllows: of every fact that may be unknown. Where the site would rather ask a person than the geo databases, what they no longer
// say takes an approval more.
func TestTakingAFactAwayNeverAllows(t *testing.T) {
	source := func(f func(*policy.Source)) func(*ask, *rand.Rand) {
		return func(a *ask, r *rand.Rand) {
			if n := len(a.facts.Sources); n > 0 {
				f(&a.facts.Sources[r.IntN(n)])
			}
		}
	}
	geo := map[string]func(*ask, *rand.Rand){
		"a country":                source(func(s *policy.Source) { s.Country = "" }),
		"a country's age":          source(func(s *policy.Source) { s.CountryBuilt = time.Time{} }),
		"the parts of a country":   source(func(s *policy.Source) { s.Subdivisions = nil }),
		"a system":                 source(func(s *policy.Source) { s.ASN = 0 }),
		"a system's age":           source(func(s *policy.Source) { s.ASNBuilt = time.Time{} }),
		"whether it's anonymous":   source(func(s *policy.Source) { s.Anonymous = policy.Unknown }),
		"the age of that":          source(func(s *policy.Source) { s.AnonymousBuilt = time.Time{} }),
		"all that databases say":   source(func(s *policy.Source) { *s = policy.Source{Addr: s.Addr} }),
		"the time":                 func(a *ask, _ *rand.Rand) { a.facts.Now = time.Time{} },
		"an address":               source(func(s *policy.Source) { s.Addr = netip.Addr{} }),
		"every address":            func(a *ask, _ *rand.Rand) { a.facts.Sources = nil },
		"the touch":                func(a *ask, _ *rand.Rand) { a.facts.Touch = policy.Unknown },
		"the PIN":                  func(a *ask, _ *rand.Rand) { a.facts.UV = policy.Unknown },
		"the key":                  func(a *ask, _ *rand.Rand) { a.facts.Key = policy.KeyUnknown },
		"the code":                 func(a *ask, _ *rand.Rand) { a.facts.TOTP = policy.Unknown },
		"the approvals":            func(a *ask, _ *rand.Rand) { a.facts.Approved = nil },
		"how long it waited":       func(a *ask, _ *rand.Rand) { a.facts.Waited = 0 },
		"that it was overridden":   func(a *ask, _ *rand.Rand) { a.facts.Overridden = false },
		"the grants that are live": func(a *ask, _ *rand.Rand) { a.facts.Live = policy.Live{} },
		"the on-call lists":        func(a *ask, _ *rand.Rand) { a.facts.OnCall = nil },
		"what a list says": func(a *ask, r *rand.Rand) {
			if n := len(a.facts.OnCall); n > 0 {
				a.facts.OnCall[r.IntN(n)].On = policy.Unknown
			}
		},
		"a list's age": func(a *ask, r *rand.Rand) {
			if n := len(a.facts.OnCall); n > 0 {
				a.facts.OnCall[r.IntN(n)].Written = time.Time{}
			}
		},
		"the whole ask's facts": func(a *ask, _ *rand.Rand) { a.facts = policy.Facts{} },
	}
	var all []string
	for what := range geo {
		all = append(all, what)
	}
	slices.Sort(all)
	each(t, func(d *drawn, a ask, was policy.Decision) string {
		if a.req.Kind == policy.KindOverride && was.Outcome == policy.Deny && was.Reasons[0].Code == policy.KindNotAllowed {
			// Nothing was missing that an override could replace: the same person gets in without one.
			b := a
			b.req.Kind = policy.KindNew
			was = policy.Decide(d.policy, b.req, b.facts)
		}
		what := all[d.rng.IntN(len(all))]
		geo[what](&a, d.rng)
		is := policy.Decide(d.policy, a.req, a.facts)
		switch {
		case is.Outcome <= was.Outcome:
		case d.policy.Always.AskUnknown && slices.Contains(is.Added, policy.AddedPlace):
		default:
			return fmt.Sprintf("without %s %s becomes %s by %q", what, was.Outcome, is.Outcome, is.Rule)
		}
		return ""
	})
}

// TestOneDenyMoreNeverAllows: whatever [always] refuses in addition, nobody is let in who was not; and a rule that refuses more lets in nobody whom it did
// not. (What falls through a rule may be another's to take: that is what the order of the rules is for.)
func TestOneDenyMoreNeverAllows(t *testing.T) {
	tried := 0
	for _, d := range drawers(t) {
		for _, deny := range []string{`deny_networks = ["more"]`, `deny_countries = ["BR"]`, `deny_countries = ["DE", "GB"]`, `deny_asns = [64500]`, `anonymous = "deny"`, `networks = ["more"]`, `countries = ["DE"]`, `max_grants = 1`, `reason_min = 80`, `not_when = ["freeze"]`, `totp = true`} {
			header, rule := "[always]\n", ""
			for i := range 3 {
				if i > 0 { // two rules of each
					header, rule = anyRule(d.text, d.rng)
				}
				src, ok := stricter(d.text, header, deny)
				onRulesOnly := strings.HasPrefix(deny, "not_when") || strings.HasPrefix(deny, "totp")
				if !ok || onRulesOnly && rule == "" || strings.Contains(deny, "freeze") && !strings.Contains(src, "[windows.freeze]") {
					continue
				}
				q, err := policy.Parse("stricter.toml", []byte(src))
				if err != nil && strings.Contains(err.Error(), "take") { // the rule allows what it would deny now
					continue
				} else if err != nil {
					t.Fatal(err)
				}
				tried++
				for range *draws / 10 {
					a := d.draw()
					was, is := policy.Decide(d.policy, a.req, a.facts), policy.Decide(q, a.req, a.facts)
					if rule == "" && is.Outcome > was.Outcome || rule != "" && string(is.Rule) == rule && is.Outcome > was.Outcome {
						t.Fatalf("%s: with %s (in rule %q) %s becomes %s by %q: %s", d.file, deny, rule, was.Outcome, is.Outcome, is.Rule, asJSON(t, a))
					}
				}
			}
		}
	}
	if tried < 60 {
		t.Errorf("only %d policies were stricter", tried)
	}
}

// stricter adds a line to the table with that header, and the network "more". A list of what is refused gets longer; another key that the table has
// already is left alone.
func stricter(text, header, line string) (string, bool) {
	begin := strings.Index(text, header) + len(header)
	end := begin + strings.Index(text[begin:]+"\n[", "\n[") + 1
	table := text[begin:min(end, len(text))]
	key, value, _ := strings.Cut(line, " = ")
	old := regexp.MustCompile(`(?m)^` + key + ` = (.*)\n`).FindStringSubmatch(table)
	switch {
	case old == nil:
		table = line + "\n" + table
	case strings.HasPrefix(key, "deny_"):
		table = strings.Replace(table, old[0], key+" = "+strings.TrimSuffix(old[1], "]")+", "+strings.TrimPrefix(value, "[")+"\n", 1)
	default:
		return "", false
	}
	text = text[:begin] + table + text[min(end, len(text)):]
	return strings.Replace(text, "[networks]\n", "[networks]\nmore = [\"203.0.113.0/29\", \"198.51.100.0/25\"]\n", 1), true
}

func anyRule(text string, r *rand.Rand) (header, rule string) {
	rules := regexp.MustCompile(`(?m)^\[\[rule\]\]\nname = "(.*)"\n`).FindAllStringSubmatch(text, -1)
	m := rules[r.IntN(len(rules))]
	return m[0], m[1]
}

// TestAddressesMayBeWrittenEitherWay: IPv4 and its mapped form, and addresses in another order.
func TestAddressesMayBeWrittenEitherWay(t *testing.T) {
	each(t, func(d *drawn, a ask, was policy.Decision) string {
		for i, s := range a.facts.Sources {
			if s.Addr.IsValid() {
				a.facts.Sources[i].Addr = netip.AddrFrom16(s.Addr.As16())
			}
		}
		if diff := cmp.Diff(was, policy.Decide(d.policy, a.req, a.facts)); diff != "" {
			return "mapped: " + diff
		}
		slices.Reverse(a.facts.Sources)
		if is := policy.Decide(d.policy, a.req, a.facts); is.Outcome != was.Outcome || is.Rule != was.Rule {
			return fmt.Sprintf("in another order %s becomes %s", was.Outcome, is.Outcome)
		}
		return ""
	})
}

// TestDecideIsAFunction: the same arguments have the same answer, are left as they were, and Explain and the inquiry in the ledger give that answer too.
func TestDecideIsAFunction(t *testing.T) {
	each(t, func(d *drawn, a ask, was policy.Decision) string {
		before := asJSON(t, a)
		if diff := cmp.Diff(was, policy.Decide(d.policy, a.req, a.facts)); diff != "" {
			return "again: " + diff
		}
		text := policy.Explain(d.policy, a.req, a.facts)
		want := "\n" + was.Outcome.String()
		if was.Rule != "" && was.Outcome != policy.Deny {
			want += fmt.Sprintf(" by rule %q", was.Rule)
		}
		if !strings.Contains(text, want) {
			return "explained otherwise: " + text
		}
		for _, r := range was.Reasons {
			if !strings.Contains(text, "  "+string(r.Code)+": ") {
				return fmt.Sprintf("%s is not explained: %s", r.Code, text)
			}
		}
		if after := asJSON(t, a); after != before {
			return "changed to " + after
		}
		b, err := (&policy.Inquiry{Request: a.req, Facts: a.facts}).Text()
		if err != nil {
			return err.Error()
		}
		q, err := policy.ParseInquiry(b)
		if err != nil {
			return err.Error()
		}
		if diff := cmp.Diff(was, q.Answer(d.policy)); diff != "" {
			return "from its text: " + diff
		}
		return ""
	})
}

// same compares two decisions but for the words of their reasons, which name things in the order of the file.
func same(a, b policy.Decision) string {
	strip := func(d policy.Decision) policy.Decision {
		d.Reasons = slices.Clone(d.Reasons)
		for i := range d.Reasons {
			d.Reasons[i] = policy.Reason{Code: d.Reasons[i].Code}
		}
		slices.SortFunc(d.Reasons, func(x, y policy.Reason) int { return strings.Compare(string(x.Code), string(y.Code)) })
		return d
	}
	return cmp.Diff(strip(a), strip(b))
}

// TestOrderNeverMatters: of people, hosts, networks, windows, lists, in the file and within a list. Only the order of the rules does.
func TestOrderNeverMatters(t *testing.T) {
	const rounds = 10
	for _, d := range drawers(t) {
		for range rounds {
			src := shuffle(d.text, d.rng)
			q, err := policy.Parse("shuffled.toml", []byte(src))
			if err != nil {
				t.Fatalf("%s: %v", d.file, err)
			}
			for range *draws / rounds {
				a := d.draw()
				if diff := same(policy.Decide(d.policy, a.req, a.facts), policy.Decide(q, a.req, a.facts)); diff != "" {
					t.Fatalf("%s: in another order: %s\n%s\n%s", d.file, diff, asJSON(t, a), src)
				}
			}
		}
	}
}

// shuffle puts tables, the lines within, and the elements of lists into another order; rules and tests keep theirs.
func shuffle(text string, r *rand.Rand) string {
	text = regexp.MustCompile(`(?m)^#.*\n`).ReplaceAllString(text, "")
	head, rest, _ := strings.Cut(text, "\n[")
	blocks := strings.Split(rest, "\n[")
	var free, tied []string // tied: rules, tests, models: a sub-table goes with the array's element before it
	for _, b := range blocks {
		b = "[" + strings.TrimSuffix(b, "\n")
		lines := strings.Split(b, "\n")
		body := lines[1:]
		for i, line := range body {
			key, list, ok := strings.Cut(line, " = [")
			if !ok || !strings.HasSuffix(list, "]") || strings.Contains(list, "ssh-") {
				continue
			}
			elements := strings.Split(strings.TrimSuffix(list, "]"), ", ")
			r.Shuffle(len(elements), func(i, j int) { elements[i], elements[j] = elements[j], elements[i] })
			body[i] = key + " = [" + strings.Join(elements, ", ") + "]"
		}
		r.Shuffle(len(body), func(i, j int) { body[i], body[j] = body[j], body[i] })
		b = strings.Join(lines, "\n")
		if strings.HasPrefix(b, "[[") || strings.HasPrefix(b, "[enrolment") {
			tied = append(tied, b)
		} else {
			free = append(free, b)
		}
	}
	r.Shuffle(len(free), func(i, j int) { free[i], free[j] = free[j], free[i] })
	// The tied ones go in between, in their order.
	out := free
	out = append(out, tied...)
	return head + "\n" + strings.Join(out, "\n") + "\n"
}

// TestAStrangerInTheFileChangesNothing: a person whom no group and no rule names.
func TestAStrangerInTheFileChangesNothing(t *testing.T) {
	for _, d := range drawers(t) {
		q, err := policy.Parse("more.toml", []byte(strings.Replace(d.text, "\n[people.", "\n[people.zoe]\n[people.", 1)))
		if err != nil {
			t.Fatal(err)
		}
		for range *draws {
			a := d.draw()
			if diff := cmp.Diff(policy.Decide(d.policy, a.req, a.facts), policy.Decide(q, a.req, a.facts)); diff != "" {
				t.Fatalf("%s: with zoe: %s\n%s", d.file, diff, asJSON(t, a))
			}
		}
		a := usual()
		is("zoe")(&a)
		if got := policy.Decide(q, a.req, a.facts); got.Outcome != policy.Deny {
			t.Errorf("%s: zoe gets in: %+v", d.file, got)
		}
	}
}

// TestOneFileOrManyDecideAlike: the hosts in files of their own.
func TestOneFileOrManyDecideAlike(t *testing.T) {
	for _, d := range drawers(t) {
		main, hosts, more := "", "", ""
		for i, b := range regexp.MustCompile(`(?m)^\[`).Split(d.text, -1) {
			switch {
			case i == 0:
				main = b
			case strings.HasPrefix(b, "hosts.") && len(hosts) <= len(more):
				hosts += "[" + b
			case strings.HasPrefix(b, "hosts."):
				more += "[" + b
			default:
				main += "[" + b
			}
		}
		text, err := policytext.Join([]policytext.File{{Name: policytext.Main, Text: main}, {Name: "hosts/a.toml", Text: hosts}, {Name: "hosts/b.toml", Text: more}})
		if err != nil {
			t.Fatal(err)
		}
		q, err := policy.Load("set", []byte(text))
		if err != nil {
			t.Fatalf("%s: %v", d.file, err)
		}
		for range *draws {
			a := d.draw()
			if diff := cmp.Diff(policy.Decide(d.policy, a.req, a.facts), policy.Decide(q, a.req, a.facts)); diff != "" {
				t.Fatalf("%s: in files of their own: %s\n%s", d.file, diff, asJSON(t, a))
			}
		}
	}
}
