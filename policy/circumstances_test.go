package policy_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"breakglass/internal/name"
	"breakglass/policy"
)

// codes are the reasons' codes, sorted, and of anything but a deny its name.
func codes(d policy.Decision) string {
	if d.Outcome != policy.Deny {
		return d.Outcome.String()
	}
	var out []string
	for _, r := range d.Reasons {
		out = append(out, string(r.Code))
	}
	slices.Sort(out)
	return strings.Join(out, " ")
}

func severity(s string) change { return func(a *ask) { a.req.Severity = s } }
func failure(s string) change  { return func(a *ask) { a.req.Failure = s } }

const measured = `[failures.sso-down]
why = "Nobody can log in."
[failures.vpn-down]
why = "Nobody gets in."
[oncall.sre]
file = "oncall/sre.txt"
max_age = "12h"
[oncall.dba]
file = "oncall/dba.txt"
`

func TestDeclared(t *testing.T) {
	site := func(always, rule string) *policy.Policy {
		p, err := policy.Load("t.toml", []byte(strings.Replace(timedText(measured, rule), "[always]", "[always]\n"+always, 1)))
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	free := timed(t, "", "")
	asks := site(`severities = ["sev1", "sev2", "sev3"]`, "severities = [\"sev1\", \"sev2\"]\nfailures = [\"sso-down\"]")
	knows := site(`severities = ["sev1"]`, "")
	needs := site(`failure = "required"`, "")
	for _, c := range []struct {
		what string
		p    *policy.Policy
		with []change
		want string
		next string // of the first reason, a part
	}{
		{"where no severity is named, any is taken as said", free, []change{severity("on fire")}, "allow", ""},
		{"a failure that the policy doesn't know is none, also where it knows none", free, []change{failure("sso-down")}, "failure_unknown", "leave --failure out"},
		{"severity and failure as the rule wants them", asks, []change{severity("sev2"), failure("sso-down")}, "allow", ""},
		{"neither is declared", asks, nil, "failure_missing severity_not_allowed", "--severity sev1"},
		{"a lesser severity", asks, []change{severity("sev3"), failure("sso-down")}, "severity_not_allowed", "--severity sev1"},
		{"a severity that nobody knows", asks, []change{severity("sev0"), failure("sso-down")}, "severity_unknown", "--severity takes sev1, sev2, sev3"},
		{"in capitals it is another", asks, []change{severity("SEV1"), failure("sso-down")}, "severity_unknown", "--severity takes"},
		{"another failure", asks, []change{severity("sev1"), failure("vpn-down")}, "failure_not_allowed", "--failure sso-down"},
		{"a failure that nobody knows", asks, []change{severity("sev1"), failure("sso")}, "failure_unknown", "--failure takes sso-down, vpn-down"},
		{"a known severity that no rule asks for", knows, []change{severity("sev1")}, "allow", ""},
		{"an unknown one, though no rule asks", knows, []change{severity("sev2")}, "severity_unknown", "--severity takes sev1"},
		{"a failure is wanted of everybody", needs, nil, "failure_missing", "--failure takes sso-down, vpn-down"},
		{"and given", needs, []change{failure("vpn-down")}, "allow", ""},
		{"at a session, too", needs, []change{kind(policy.KindSession)}, "failure_missing", "--failure takes"},
	} {
		d := enter(t, c.p, "2026-06-01T03:00:00Z", c.with...)
		if got := codes(d); got != c.want {
			t.Errorf("%s: %s, want %s", c.what, got, c.want)
		} else if c.next != "" && !strings.Contains(d.Reasons[0].Next, c.next) {
			t.Errorf("%s: next is %q, want %q", c.what, d.Reasons[0].Next, c.next)
		}
	}
}

func TestOnCall(t *testing.T) {
	list := func(n name.Roster, on policy.Tri, age time.Duration) change {
		return func(a *ask) {
			a.facts.OnCall = append(a.facts.OnCall, policy.OnCall{List: n, On: on, Written: a.facts.Now.Add(-age)})
		}
	}
	broken := func(n name.Roster, doubt string) change {
		return func(a *ask) { a.facts.OnCall = append(a.facts.OnCall, policy.OnCall{List: n, Doubt: doubt}) }
	}
	one, two := timed(t, measured, `oncall = ["sre"]`), timed(t, measured, `oncall = ["sre", "dba"]`)
	for _, c := range []struct {
		what   string
		p      *policy.Policy
		with   []change
		want   string
		detail string
	}{
		{"on call", one, []change{list("sre", policy.Yes, time.Hour)}, "allow", ""},
		{"by a list as old as it may be", one, []change{list("sre", policy.Yes, 12*time.Hour)}, "allow", ""},
		{"by an older one", one, []change{list("sre", policy.Yes, 12*time.Hour+time.Second)}, "oncall_unknown", "older than 12h"},
		{"whether it says yes or no", one, []change{list("sre", policy.No, 13*time.Hour)}, "oncall_unknown", "older than 12h"},
		{"not on call", one, []change{list("sre", policy.No, time.Hour)}, "not_on_call", "alice is not on call in sre"},
		{"nobody looked", one, nil, "oncall_unknown", "nobody looked"},
		{"on call by another list", one, []change{list("dba", policy.Yes, time.Hour)}, "oncall_unknown", "nobody looked"},
		{"a list that can't be read, and why", one, []change{broken("sre", "on-call list: line 3: no")}, "oncall_unknown", "line 3: no"},
		{"a list from the future", one, []change{list("sre", policy.Yes, -6*time.Minute)}, "oncall_unknown", "comes from the future"},
		{"or of a clock that is a little ahead", one, []change{list("sre", policy.Yes, -4*time.Minute)}, "allow", ""},
		{"a list of unknown age", one, []change{func(a *ask) { a.facts.OnCall = []policy.OnCall{{List: "sre", On: policy.Yes}} }}, "oncall_unknown", "age is unknown"},
		{"at an unknown time", one, []change{list("sre", policy.Yes, time.Hour), noTime}, "oncall_unknown", "time is unknown"},
		{"one of two lists is enough", two, []change{list("sre", policy.No, 0), list("dba", policy.Yes, 23*time.Hour)}, "allow", ""},
		{"also while the other is broken", two, []change{broken("sre", "gone"), list("dba", policy.Yes, 0)}, "allow", ""},
		{"on neither", two, []change{list("sre", policy.No, 0), list("dba", policy.No, 0)}, "not_on_call", "sre, dba"},
		{"not on the one that is there", two, []change{list("sre", policy.No, 0), broken("dba", "gone")}, "oncall_unknown", "dba (gone)"},
		{"who opens a session must be on call still", one, []change{list("sre", policy.No, 0), kind(policy.KindSession)}, "not_on_call", ""},
	} {
		d := enter(t, c.p, "2026-06-01T03:00:00Z", c.with...)
		if got := codes(d); got != c.want {
			t.Errorf("%s: %s, want %s", c.what, got, c.want)
		} else if c.detail != "" && !strings.Contains(d.Reasons[0].Detail, c.detail) {
			t.Errorf("%s: %q, want %q", c.what, d.Reasons[0].Detail, c.detail)
		}
	}
	if got := two.RostersFor("alice"); len(got) != 2 || got[0].Name != "dba" || got[0].MaxAge != policy.DefaultRosterAge || got[1].File != "oncall/sre.txt" {
		t.Errorf("alice's lists: %+v", got)
	}
	if got := two.RostersFor("mallory"); len(got) != 0 {
		t.Errorf("a stranger's lists: %+v", got)
	}
}

func TestMaxGrants(t *testing.T) {
	rule := timed(t, "", "max_grants = 2")
	person, err := policy.Load("t.toml", []byte(strings.Replace(timedText("", ""), "[always]", "[always]\nmax_grants = 2", 1)))
	if err != nil {
		t.Fatal(err)
	}
	own := func(rules ...name.Rule) change {
		return func(a *ask) {
			for i, r := range rules {
				a.facts.Live.Person = append(a.facts.Live.Person, policy.LiveGrant{ID: name.RequestID([]string{"k7f-2mq", "p3x-9wd"}[i]), Rule: r, Sources: a.facts.Sources})
			}
		}
	}
	onRule := func(n int) change {
		return func(a *ask) { a.facts.Live.Rules = map[name.Rule]int{"r": n, "other": 99} }
	}
	unknown := func(a *ask) { a.facts.Live = policy.Live{} }
	for _, c := range []struct {
		what string
		p    *policy.Policy
		with []change
		want string
		next string
	}{
		{"the first", person, nil, "allow", ""},
		{"the second", person, []change{own("r")}, "allow", ""},
		{"the third is told which to end", person, []change{own("other", "r")}, "too_many_grants", "breakglass end k7f-2mq"},
		{"how many there are is unknown", person, []change{unknown}, "too_many_grants", "operators"},
		{"a session opens under one of them", person, []change{own("r", "r"), kind(policy.KindSession)}, "allow", ""},
		{"also where nobody counted", person, []change{unknown, kind(policy.KindSession)}, "allow", ""},
		{"anybody's second on the rule", rule, []change{onRule(1)}, "allow", ""},
		{"anybody's third; one's own is the one to end", rule, []change{onRule(2), own("other", "r")}, "too_many_grants", "breakglass end p3x-9wd"},
		{"anybody's third, and none is one's own", rule, []change{onRule(2), own("other")}, "too_many_grants", "none of them is yours"},
		{"how many stand on the rule is unknown", rule, []change{unknown}, "too_many_grants", "operators"},
		{"an extension is no exception", rule, []change{onRule(2), kind(policy.KindExtend)}, "too_many_grants", ""},
	} {
		d := enter(t, c.p, "2026-06-01T03:00:00Z", c.with...)
		if got := codes(d); got != c.want {
			t.Errorf("%s: %s, want %s", c.what, got, c.want)
		} else if c.next != "" && !strings.Contains(d.Reasons[0].Next, c.next) {
			t.Errorf("%s: next is %q, want %q", c.what, d.Reasons[0].Next, c.next)
		}
	}
	if len(person.CountedFor("alice")) != 0 || len(rule.CountedFor("alice")) != 1 || len(rule.CountedFor("mallory")) != 0 {
		t.Errorf("rules that are counted: %v, %v", person.CountedFor("alice"), rule.CountedFor("alice"))
	}
}

// TestOverdueReview: who owes an answer to a review needs one approval more than the rule asks for, of [always]'s approvers, and an override can
// replace it after [always]'s time: a debt never keeps anybody from the machine that is down.
func TestOverdueReview(t *testing.T) {
	owes := func(a *ask) { a.facts.Added = []policy.Added{policy.AddedReview} }
	waited := func(d time.Duration) change { return func(a *ask) { a.facts.Waited = d } }
	approved := func(who name.Person) change { return func(a *ask) { a.facts.Approved = []name.Person{who} } }
	p := basePolicy(t)
	in := func(changes ...change) policy.Decision {
		a := usual()
		a.facts.Live.Known = true
		for _, c := range changes {
			c(&a)
		}
		return policy.Decide(p, a.req, a.facts)
	}
	if d := in(); d.Outcome != policy.Allow || d.Approvals != 0 {
		t.Fatalf("without a debt: %s, %d approvals", d.Outcome, d.Approvals)
	}
	d := in(owes)
	if d.Outcome != policy.Ask || d.Missing != 1 || !slices.Equal(d.Added, []policy.Added{policy.AddedReview}) || d.Override != policy.DefaultOverride {
		t.Errorf("with one: %+v", d)
	}
	if d := in(owes, approved("olga")); d.Outcome != policy.Allow || d.Approvals != 1 {
		t.Errorf("an owner agrees: %s", codes(d))
	}
	if d := in(owes, approved("alice")); d.Outcome != policy.Ask {
		t.Errorf("alice agrees with herself: %s", codes(d))
	}
	if d := in(owes, kind(policy.KindOverride), waited(policy.DefaultOverride-time.Second)); codes(d) != "override_too_early" {
		t.Errorf("too early: %s", codes(d))
	}
	if d := in(owes, kind(policy.KindOverride), waited(policy.DefaultOverride)); d.Outcome != policy.Allow || d.Overridden != 1 {
		t.Errorf("an override replaces it: %s, %d", codes(d), d.Overridden)
	}
	if d := in(owes, kind(policy.KindSession)); d.Outcome != policy.Allow {
		t.Errorf("a session under a grant that was given before: %s", codes(d))
	}
	if d := in(owes, at(from("203.0.113.9", "BR", policy.No))); d.Outcome != policy.Ask || d.Missing != 2 {
		t.Errorf("where the rule asks for one itself: %s, %d missing", codes(d), d.Missing)
	}
}

func TestMeasureFaults(t *testing.T) {
	for _, c := range []struct{ what, tables, always, rule, want string }{
		{"a list without a file", "[oncall.sre]\nmax_age = \"1h\"", "", "", "has no file"},
		{"a file above the directory", "[oncall.sre]\nfile = \"../oncall.txt\"", "", "", `file = "../oncall.txt"`},
		{"a file by its whole path", "[oncall.sre]\nfile = \"/etc/oncall.txt\"", "", "", `file = "/etc/oncall.txt"`},
		{"a list of any age", "[oncall.sre]\nfile = \"a\"\nmax_age = \"0s\"", "", "", `max_age = "0s"`},
		{"a list of last year", "[oncall.sre]\nfile = \"a\"\nmax_age = \"9000h\"", "", "", `max_age = "9000h"`},
		{"a list that isn't there", measured, "", `oncall = ["sres"]`, `did you mean "sre"?`},
		{"no list", measured, "", `oncall = []`, "an empty list"},
		{"a failure without a why", "[failures.x]\nwhy = \" \"", "", "", "has no why"},
		{"a failure that isn't there", measured, "", `failures = ["sso-donw"]`, `did you mean "sso-down"?`},
		{"no failure", measured, "", `failures = []`, "an empty list of failures"},
		{"a failure is required where there is none", "", `failure = "required"`, "", "there is none that could be declared"},
		{"a failure is neither", measured, `failure = "yes"`, "", `failure = "yes"`},
		{"a severity that isn't there", "", `severities = ["sev1", "sev2"]`, `severities = ["sev3"]`, `unknown severity "sev3"`},
		{"a severity of a site that names none", "", "", `severities = ["sev1"]`, "in [always] first"},
		{"a severity twice", "", `severities = ["sev1", "sev1"]`, "", "stands here twice"},
		{"a severity that nobody could type", "", `severities = ["Sev 1"]`, "", `severity "Sev 1"`},
		{"no severity", "", `severities = []`, "", "an empty list of severities"},
		{"no grant at all", "", `max_grants = 0`, "", "max_grants = 0"},
		{"no grant on a rule", "", "", `max_grants = 0`, "max_grants = 0"},
		{"more than anybody counts", "", `max_grants = 1001`, "", "max_grants = 1001"},
	} {
		_, err := policy.Load("t.toml", []byte(strings.Replace(timedText(c.tables, c.rule), "[always]", "[always]\n"+c.always, 1)))
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", c.what, err, c.want)
		}
	}
}

// TestFactsInTests: a [[test]] can set each of these facts, and what it doesn't set is in order, but for on-call lists, which are unknown.
func TestFactsInTests(t *testing.T) {
	const rule = "when = [\"w\"]\noncall = [\"sre\"]\nfailures = [\"sso-down\"]\nmax_grants = 2"
	const test = `
[[test]]
name = "x"
person = "alice"
host = "web01"
login = "root"
from = ["203.0.113.9"]
`
	for _, c := range []struct{ what, test, want string }{
		{"all in order", "time = \"2026-06-01T09:00:00+02:00\"\noncall = [\"sre\"]\nfailure = \"sso-down\"\nexpect = \"allow\"", ""},
		{"nothing said", "expect = \"deny\"\nreasons = [\"outside_window\", \"oncall_unknown\", \"failure_missing\"]", ""},
		{"on call by no list", "time = \"2026-06-01T07:00:00Z\"\noncall = []\nfailure = \"vpn-down\"\nexpect = \"deny\"\nreasons = [\"not_on_call\", \"failure_not_allowed\"]", ""},
		{"grants on the rule", "time = \"2026-06-01T07:00:00Z\"\noncall = [\"sre\"]\nfailure = \"sso-down\"\nrule_live = 1\nlive = [{ rule = \"r\", from = [\"203.0.113.9\"], country = \"DE\" }]\nexpect = \"deny\"\nreasons = [\"too_many_grants\"]", ""},
		{"a test that is wrong", "time = \"2026-06-01T07:00:00Z\"\noncall = [\"sre\"]\nfailure = \"sso-down\"\nrule_live = 1\nexpect = \"deny\"\nreasons = [\"too_many_grants\"]", "expected deny, got allow"},
		{"a time that is none", "time = \"9 o'clock\"\nexpect = \"allow\"", `time = "9 o'clock"`},
		{"a list that isn't there", "oncall = [\"sra\"]\nexpect = \"allow\"", `did you mean "sre"?`},
		{"a grant of a rule that isn't there", "live = [{ rule = \"q\", from = [\"203.0.113.9\"] }]\nexpect = \"allow\"", `unknown rule "q"`},
		{"a grant from nowhere", "live = [{ rule = \"r\" }]\nexpect = \"allow\"", "from no address"},
		{"a grant from a country that is none", "live = [{ rule = \"r\", from = [\"203.0.113.9\"], country = \"XX\" }]\nexpect = \"allow\"", `unknown country "XX"`},
		{"a key that a grant doesn't have", "live = [{ rule = \"r\", form = [\"203.0.113.9\"] }]\nexpect = \"allow\"", "form"},
	} {
		_, err := policy.Load("t.toml", []byte(timedText(office+"\n"+measured, rule)+test+c.test+"\n"))
		switch {
		case c.want == "" && err != nil, c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)):
			t.Errorf("%s: %v, want %q", c.what, err, c.want)
		}
	}
}

// TestTakenAway: what is taken away of these facts never lets anybody in.
func TestTakenAway(t *testing.T) {
	p, err := policy.Load("t.toml", []byte(strings.Replace(timedText(office+"\n"+measured, "when = [\"w\"]\nnot_when = [\"w\"]\noncall = [\"sre\"]\nfailures = [\"sso-down\"]\nseverities = [\"sev1\"]\nmax_grants = 2"),
		"[always]", "[always]\nseverities = [\"sev1\"]\nmax_grants = 2", 1)))
	if err != nil {
		t.Fatal(err)
	}
	without := []string{"time", "lists", "age", "word", "severity", "failure", "live"}
	allowed := 0
	for at := range 24 * 7 {
		for _, rule := range []string{"", "w"} { // with and without not_when
			q := p
			if rule == "" {
				q = timed(t, office+"\n"+measured, "when = [\"w\"]\noncall = [\"sre\"]\nfailures = [\"sso-down\"]\nmax_grants = 2")
			}
			for n := range 4 {
				a := usual()
				a.facts.Now = now.Add(time.Duration(at) * time.Hour)
				a.req.Failure, a.req.Severity = "sso-down", "sev1"
				a.facts.OnCall = []policy.OnCall{{List: "sre", On: policy.Tri(n), Written: a.facts.Now.Add(-time.Duration(n*5) * time.Hour)}}
				a.facts.Live = policy.Live{Known: true, Rules: map[name.Rule]int{"r": n}}
				d := policy.Decide(q, a.req, a.facts)
				if d.Outcome == policy.Allow {
					allowed++
				}
				for _, what := range without {
					b := a
					b.facts.OnCall = slices.Clone(a.facts.OnCall)
					switch what {
					case "time":
						b.facts.Now = time.Time{}
					case "lists":
						b.facts.OnCall = nil
					case "age":
						b.facts.OnCall[0].Written = time.Time{}
					case "word":
						b.facts.OnCall[0].On = policy.Unknown
					case "severity":
						b.req.Severity = ""
					case "failure":
						b.req.Failure = ""
					case "live":
						b.facts.Live = policy.Live{}
					}
					if e := policy.Decide(q, b.req, b.facts); e.Outcome > d.Outcome {
						t.Fatalf("without %s %s becomes %s at %s", what, d.Outcome, e.Outcome, a.facts.Now)
					}
				}
			}
		}
	}
	if allowed < 40 {
		t.Fatalf("only %d were let in: no test", allowed)
	}
}
