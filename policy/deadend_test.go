package policy_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"breakglass/internal/name"
	"breakglass/policy"
)

// sound is a site without a dead end: what TestDeadEnds changes. @oncall enters the web servers at once and the database with one lead's word.
const sound = `profile = "production"
[site]
name = "sound"
owners = ["ann", "bea"]
operators = ["ann", "bea"]
readers = ["rita", "rolf"]
[people.ann]
groups = ["oncall"]
[people.bea]
groups = ["oncall"]
[people.cid]
groups = ["leads"]
[people.dan]
groups = ["leads"]
[people.rita]
[people.rolf]
[networks]
office = ["198.51.100.0/24"]
lab = ["192.0.2.0/24"]
[windows.office-hours]
days = ["mon-fri"]
from = "08:00"
to = "18:00"
zone = "Europe/Berlin"
[oncall.sre]
file = "oncall-sre.txt"
max_age = "24h"
[always]
trusted = ["office"]
[[enrolment.model]]
name = "m"
aaguid = "2fc0579f-8113-47ea-b116-bb5a8db9202a"
roots = ["1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f"]
[jumps.jump-a]
address = ["203.0.113.10:22"]
[jumps.jump-b]
address = ["203.0.113.11:22"]
[hosts.web01]
address = ["10.0.0.1:22"]
host_keys = ["` + keyLine + `"]
groups = ["web"]
[hosts.web02]
address = ["10.0.0.2:22"]
host_keys = ["` + keyLine + `"]
groups = ["web"]
[hosts.db01]
address = ["10.0.0.3:22"]
host_keys = ["` + keyLine + `"]
[[rule]]
name = "web"
why = "On-call enters web servers at once."
who = ["@oncall"]
hosts = ["@web"]
logins = ["root"]
minutes = 30
[[rule]]
name = "db"
why = "With a lead's word."
who = ["@oncall"]
hosts = ["db01"]
logins = ["root"]
minutes = 30
approvals = 1
approvers = ["@leads"]
override = "after 10m"
`

// TestDeadEnds changes one thing in a sound policy: what it must be refused for, and what is only slower and louder.
func TestDeadEnds(t *testing.T) {
	why := `why = "On-call enters web servers at once."`
	webRule := sound[strings.Index(sound, "[[rule]]\nname = \"web\""):strings.Index(sound, "[[rule]]\nname = \"db\"")]
	all := strings.Replace(webRule, "@web", "*", 1)
	for _, c := range []struct {
		when    string
		replace []string // old, new, …
		want    string   // the errors, one a line; "" is none
		next    string   // in the first one's hint
	}{
		{"nothing changes", nil, "", ""},

		{"one person alone is on call", []string{"[people.bea]\ngroups = [\"oncall\"]", "[people.bea]"},
			"with ann away nobody could enter any host", `name somebody else in the who of rule`},
		{"one person alone may enter the database", []string{`who = ["@oncall"]
hosts = ["db01"]`, `who = ["bea"]
hosts = ["db01"]`}, `with bea away nobody could enter db01, which rule "db" reaches`, `who of rule "db"`},
		{"one person alone may enter the database, but another may with a word more", []string{`who = ["@oncall"]
hosts = ["db01"]`, `who = ["bea"]
hosts = ["db01", "@web"]`, "override = \"after 10m\"\n", "override = \"after 10m\"\n[[rule]]\nname = \"late\"\nwhy = \"w\"\nwho = [\"ann\"]\nhosts = [\"*\"]\nlogins = [\"root\"]\nminutes = 5\napprovals = 2\napprovers = [\"@leads\"]\noverride = \"after 20m\"\n"}, "", ""},
		{"one lead alone can say yes, and on-call can go on without", []string{`approvers = ["@leads"]`, `approvers = ["cid"]`}, "", ""},
		{"one lead alone can say yes, and nothing replaces that", []string{`approvers = ["@leads"]
override = "after 10m"`, `approvers = ["cid"]`},
			"with cid away nobody could enter db01, which rule \"db\" reaches\nwith every approver asleep nobody could enter db01, which rule \"db\" reaches", `name one approver more in rule "db"`},

		{"there is no override", []string{"override = \"after 10m\"\n", ""}, `with every approver asleep nobody could enter db01, which rule "db" reaches`, `write override = "after 10m" in rule "db"`},
		{"the override comes after the request has ended", []string{`override = "after 10m"`, "override = \"after 10m\"\nwait = \"5m\""},
			`with every approver asleep nobody could enter db01, which rule "db" reaches`, `a wait that is longer than the override of rule "db"`},
		{"it comes just before", []string{`override = "after 10m"`, "override = \"after 10m\"\nwait = \"10m\""}, "", ""},
		{"there is no override, but another rule asks nobody", []string{"override = \"after 10m\"\n", "[[rule]]\nname = \"lab\"\nwhy = \"w\"\nwho = [\"@leads\"]\nhosts = [\"db01\"]\nlogins = [\"root\"]\nminutes = 5\nnetworks = [\"office\"]\n"}, "", ""},
		{"added approvals can't be overridden in time", []string{`trusted = ["office"]`, "trusted = [\"office\"]\noverride = \"after 40m\""}, "", ""},

		{"no network is trusted and the databases are asked", []string{`trusted = ["office"]`, ""}, "with the geo databases missing or too old nobody could enter any host", `geo_unknown = "ask"`},
		{"no network is trusted, and a person is asked instead", []string{`trusted = ["office"]`, `geo_unknown = "ask"`}, "", ""},
		{"no network is trusted, and nothing is asked", []string{`trusted = ["office"]`, `anonymous = "allow"`}, "", ""},
		{"a rule wants a country, from where the office is trusted", []string{why, why + "\ncountries = [\"DE\"]"}, "", ""},
		{"a rule takes its own network only, which is not trusted", []string{why, why + "\nnetworks = [\"lab\"]"},
			"with the geo databases missing or too old nobody could enter web01, web02, which rule \"web\" reaches", `trusted = [...]`},

		{"the databases are for those who are on call, and nobody else", []string{`hosts = ["db01"]`, "hosts = [\"db01\"]\noncall = [\"sre\"]"},
			`with the on-call lists missing or too old nobody could enter db01, which rule "db" reaches`, `a rule behind "db" without oncall`},
		{"who isn't on call asks a lead", []string{why, why + "\noncall = [\"sre\"]", "hosts = [\"db01\"]", `hosts = ["*"]`}, "", ""},

		{"the database opens in office hours only", []string{`hosts = ["db01"]`, "hosts = [\"db01\"]\nwhen = [\"office-hours\"]"},
			`at times like Thu 2026-01-15 03:00 UTC nobody could enter db01, which rule "db" reaches`, `a rule behind "db" without when and not_when`},
		{"the web servers never open in office hours", []string{why, why + "\nnot_when = [\"office-hours\"]"},
			`at times like Thu 2026-01-15 07:00 UTC nobody could enter web01, web02, which rule "web" reaches`, `a rule behind "web"`},
		{"outside office hours a lead is asked", []string{why, why + "\nwhen = [\"office-hours\"]", `hosts = ["db01"]`, `hosts = ["*"]`}, "", ""},

		{"on-call are the only readers", []string{`readers = ["rita", "rolf"]`, `readers = ["ann"]`},
			"what ann does under rule \"web\" nobody could review: the readers are ann, and neither who asked nor who approved reviews\n" +
				"what ann does under rule \"db\" nobody could review: the readers are ann, and neither who asked nor who approved reviews", "one reader more"},
		{"the only readers are those who have to approve", []string{`readers = ["rita", "rolf"]`, `readers = ["cid"]`, `approvers = ["@leads"]`, `approvers = ["cid"]`},
			"what ann, bea does under rule \"db\" nobody could review: the readers are cid, and neither who asked nor who approved reviews", "one reader more"},
		{"the leads may approve and review", []string{`readers = ["rita", "rolf"]`, `readers = ["cid", "dan"]`}, "", ""},

		{"there are two people", []string{"[people.cid]\ngroups = [\"leads\"]\n[people.dan]\ngroups = [\"leads\"]\n[people.rita]\n[people.rolf]\n", "", `readers = ["rita", "rolf"]`, `readers = ["ann", "bea"]`, `approvers = ["@leads"]`, `approvers = ["@oncall"]`},
			"there are 2 people: with their enrolments lapsed beyond the grace nobody could come back, for two others have to vouch\n" +
				"what ann, bea does under rule \"db\" nobody could review", "third person"},
		{"the jumps have no address", []string{"203.0.113.10:22", "a.example.net:22", "203.0.113.11:22", "b.example.net:22"}, "with DNS down nobody could enter any host: no jump has an IP address", "IP address"},
		{"one jump has no address", []string{"203.0.113.11:22", "b.example.net:22"}, "", ""},
		{"a host has no address", []string{"10.0.0.3:22", "db01.example.net:22"}, "", ""},

		// Rules that can never let anybody in.
		{"a rule takes a country that [always] refuses", []string{why, why + "\ncountries = [\"BR\"]", `trusted = ["office"]`, "geo_unknown = \"ask\"\ncountries = [\"DE\"]", `hosts = ["db01"]`, `hosts = ["*"]`},
			"rule \"web\" can never let anybody in: country_denied", "contradicts"},
		{"a rule takes a country that [always] has on its other list", []string{why, why + "\ncountries = [\"BR\"]", `trusted = ["office"]`, "geo_unknown = \"ask\"\ndeny_countries = [\"BR\"]", `hosts = ["db01"]`, `hosts = ["*"]`}, "rule \"web\" can never let anybody in: country_denied", "contradicts"},
		{"a rule takes a network that it refuses under another name", []string{"lab = [", "labs = [\"192.0.0.0/16\"]\nlab = [", why, why + "\nnetworks = [\"lab\"]\ndeny_networks = [\"labs\"]", `hosts = ["db01"]`, `hosts = ["*"]`}, "rule \"web\" can never let anybody in: network_denied", "contradicts"},
		{"a rule takes a system that [always] refuses", []string{why, why + "\nasns = [64500]", `trusted = ["office"]`, "geo_unknown = \"ask\"\ndeny_asns = [64500]", `hosts = ["db01"]`, `hosts = ["*"]`}, "rule \"web\" can never let anybody in: asn_denied", "contradicts"},
		{"a rule takes a network that [always] refuses", []string{why, why + "\nnetworks = [\"lab\"]", `trusted = ["office"]`, "trusted = [\"office\"]\ndeny_networks = [\"lab\"]", `hosts = ["db01"]`, `hosts = ["*"]`}, "rule \"web\" can never let anybody in: network_denied", "contradicts"},
		{"a rule's window is outside of itself", []string{why, why + "\nwhen = [\"office-hours\"]\nnot_when = [\"office-hours\"]", `hosts = ["db01"]`, `hosts = ["*"]`}, "rule \"web\" can never let anybody in: ", "contradicts"},
		{"a window's date is none of its days", []string{`zone = "Europe/Berlin"`, "zone = \"Europe/Berlin\"\ndates = [\"2026-01-17..2026-01-18\"]", why, why + "\nwhen = [\"office-hours\"]", `hosts = ["db01"]`, `hosts = ["*"]`},
			"window \"office-hours\" never is: none of its dates is one of its days\nrule \"web\" can never let anybody in: ", "days and dates"},

		// Rules that take over with less when a fact is lost.
		{"on-call without a list that says so get in at once, behind a rule that asks", []string{`hosts = ["db01"]`, "hosts = [\"*\"]\noncall = [\"sre\"]", webRule, "", "override = \"after 10m\"\n", "override = \"after 10m\"\n" + all},
			`rule "web" takes over from rule "db" (line 49) with less: while its on-call lists are missing or too old, it lets ann into root@db01 at once, where that one wants 1 approval`, `write the conditions of rule "db" in rule "web" too, or have it ask as many`},
		{"people abroad ask, and whoever comes from nowhere doesn't", []string{`hosts = ["db01"]`, "hosts = [\"*\"]\ncountries = [\"BR\"]", webRule, "", "override = \"after 10m\"\n", "override = \"after 10m\"\n" + all},
			`rule "web" takes over from rule "db" (line 49) with less: while the country is unknown, it lets ann into root@db01 at once`, "too"},
		{"people abroad ask, and what the databases can't tell is asked too", []string{`trusted = ["office"]`, "trusted = [\"office\"]\ngeo_unknown = \"ask\"", `hosts = ["db01"]`, "hosts = [\"*\"]\ncountries = [\"BR\"]", webRule, "", "override = \"after 10m\"\n", "override = \"after 10m\"\n" + all}, "", ""},
		{"people abroad ask, and the rule behind wants to know the country too", []string{`hosts = ["db01"]`, "hosts = [\"*\"]\ncountries = [\"BR\"]", webRule, "", "override = \"after 10m\"\n", "override = \"after 10m\"\n" + all + "countries = [\"DE\"]\n"}, "", ""},
		{"the site as a whole wants to know the country", []string{`trusted = ["office"]`, "trusted = [\"office\"]\ncountries = [\"DE\", \"BR\"]", `hosts = ["db01"]`, "hosts = [\"*\"]\ncountries = [\"BR\"]", webRule, "", "override = \"after 10m\"\n", "override = \"after 10m\"\n" + all}, "", ""},
		{"a few may be in at a time with a word, and one more without", []string{`hosts = ["db01"]`, "hosts = [\"*\"]\nmax_grants = 2", webRule, "", "override = \"after 10m\"\n", "override = \"after 10m\"\n" + all},
			`rule "web" takes over from rule "db" (line 49) with less: while its max_grants are alive, it lets ann into root@db01 at once`, "too"},
		{"the rule behind asks one lead, the one before two", []string{`hosts = ["db01"]`, "hosts = [\"*\"]\noncall = [\"sre\"]", "approvals = 1", "approvals = 2", webRule, "", "override = \"after 10m\"\n", "override = \"after 10m\"\n" + all + "approvals = 1\napprovers = [\"cid\"]\noverride = \"after 10m\"\n"},
			`rule "web" takes over from rule "db" (line 49) with less: while its on-call lists are missing or too old, it lets ann into root@db01 with 1 approval, where that one wants 2`, "too"},
		{"the rule before has a veto, the one behind has none", []string{`hosts = ["db01"]`, "hosts = [\"*\"]\noncall = [\"sre\"]\nveto = true", webRule, "", "override = \"after 10m\"\n", "override = \"after 10m\"\n" + all + "approvals = 1\napprovers = [\"@leads\"]\noverride = \"after 10m\"\n"},
			`rule "web" takes over from rule "db" (line 49) with less: while its on-call lists are missing or too old, it lets ann into root@db01 against a no, where that one has a veto`, "too"},
		{"they are of other people", []string{`who = ["@oncall"]
hosts = ["db01"]`, "who = [\"@leads\", \"rita\"]\nhosts = [\"*\"]\noncall = [\"sre\"]", webRule, "", "override = \"after 10m\"\n", "override = \"after 10m\"\n" + all}, "", ""},
		{"they are of other logins", []string{`hosts = ["db01"]
logins = ["root"]`, "hosts = [\"*\"]\nlogins = [\"app\"]\noncall = [\"sre\"]", webRule, "", "override = \"after 10m\"\n", "override = \"after 10m\"\n" + all}, "", ""},
	} {
		text := sound
		for i := 0; i < len(c.replace); i += 2 {
			if !strings.Contains(text, c.replace[i]) {
				t.Fatalf("when %s: %q is not there", c.when, c.replace[i])
			}
			text = strings.Replace(text, c.replace[i], c.replace[i+1], 1)
		}
		p, err := policy.Load("d.toml", []byte(text))
		if err != nil {
			t.Errorf("when %s: %v", c.when, err)
			continue
		}
		var got []policy.Finding
		for _, f := range policy.Check(p) {
			if f.Severity == policy.SeverityError {
				got = append(got, f)
			}
			if f.Next == "" {
				t.Errorf("when %s: %s leaves the person alone", c.when, f.Message)
			}
		}
		var want []string
		if c.want != "" {
			want = strings.Split(c.want, "\n")
		}
		if len(got) != len(want) {
			t.Errorf("when %s: got %d errors, want %d: %+v", c.when, len(got), len(want), got)
			continue
		}
		for i, f := range got {
			// "…: CODE" is the beginning of the message, and a code in it.
			begin, code, _ := strings.Cut(want[i], "can never let anybody in: ")
			if !strings.HasPrefix(f.Message, begin) || !strings.Contains(f.Message, code) {
				t.Errorf("when %s: got %q, want %q", c.when, f.Message, want[i])
			}
		}
		if len(got) > 0 && !strings.Contains(got[0].Next, c.next) {
			t.Errorf("when %s: the hint is %q, want %q", c.when, got[0].Next, c.next)
		}
	}
}

// TestADemoHasWarningsOnly: one person alone may rehearse, and reads what a real site would lack.
func TestADemoHasWarningsOnly(t *testing.T) {
	p := load(t, "[hosts.web01]\naddress = [\"10.0.0.1:22\"]\nhost_keys = [\""+keyLine+"\"]\n", strings.NewReplacer())
	warned := false
	for _, f := range policy.Check(p) {
		if f.Severity == policy.SeverityError {
			t.Errorf("%s", f.Message)
		}
		warned = warned || strings.Contains(f.Message, "with alice away nobody could enter web01")
	}
	if !warned {
		t.Error("not told that alice is alone")
	}
}

// TestPeopleWithoutKeys: the CA knows who has enrolled, the file doesn't.
func TestPeopleWithoutKeys(t *testing.T) {
	p, err := policy.Load("k.toml", []byte(sound))
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, f := range policy.CheckWith(p, policy.Known{Keys: map[name.Person]int{"rita": 2, "rolf": 2, "cid": 1}}) {
		if f.Severity == policy.SeverityError {
			t.Errorf("%s: people can enrol without a new policy", f.Message)
		}
		if strings.Contains(f.Message, "key") {
			got = append(got, f.Message)
		}
	}
	want := []string{"with the keys that count today nobody could enter any host", "ann has no key that counts", "bea has no key that counts", "cid has 1 of 2 keys", "dan has no key that counts"}
	for _, w := range want {
		if !slices.ContainsFunc(got, func(g string) bool { return strings.HasPrefix(g, w) }) {
			t.Errorf("missing %q in %q", w, got)
		}
	}
	if len(got) != len(want) {
		t.Errorf("got %q", got)
	}
	for _, f := range policy.Check(p) {
		if strings.Contains(f.Message, "no key") {
			t.Errorf("nobody asked the CA: %s", f.Message)
		}
	}
}

// largePolicy writes a policy of many people, hosts and rules: teams own groups of hosts, and some rules name people and hosts themselves.
func largePolicy(people, hosts, rules int) string {
	var b strings.Builder
	b.WriteString("profile = \"production\"\n[site]\nname = \"large\"\nowners = [\"p0\", \"p1\"]\noperators = [\"p2\", \"p3\"]\nreaders = [\"@team0\"]\n" +
		"[networks]\noffice = [\"198.51.100.0/24\"]\n[always]\ntrusted = [\"office\"]\n[[enrolment.model]]\nname = \"m\"\naaguid = \"2fc0579f-8113-47ea-b116-bb5a8db9202a\"\nroots = [\"" +
		strings.Repeat("1f", 32) + "\"]\n")
	teams := max(1, rules/4)
	for i := range people {
		fmt.Fprintf(&b, "[people.p%d]\ngroups = [\"team%d\", \"floor%d\"]\n", i, i%teams, i%7)
	}
	for i := range hosts {
		fmt.Fprintf(&b, "[hosts.h%d]\naddress = [\"10.%d.%d.%d:22\"]\nhost_keys = [\"%s\"]\ngroups = [\"g%d\"]\n", i, i>>16, i>>8&255, i&255, keyLine, i%rules)
	}
	for i := range rules {
		team := i % teams
		fmt.Fprintf(&b, "[[rule]]\nname = \"r%d\"\nwhy = \"Team %d.\"\nwho = [\"@team%d\"]\nhosts = [\"@g%d\"]\nlogins = [\"root\", \"app\"]\nminutes = 30\n", i, team, team, i)
		if i%2 == 1 {
			fmt.Fprintf(&b, "approvals = 1\napprovers = [\"@floor%d\"]\noverride = \"after 10m\"\n", i%7)
		}
	}
	return b.String()
}

// TestALargePolicyIsPlayedThroughInSeconds: what an operator waits for before they sign.
func TestALargePolicyIsPlayedThroughInSeconds(t *testing.T) {
	if testing.Short() {
		t.Skip("a policy of 8,000 hosts")
	}
	p, err := policy.Parse("large.toml", []byte(largePolicy(2_000, 8_000, 250)))
	if err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	found := policy.Check(p)
	took := time.Since(start)
	t.Logf("%v", took)
	if took > 30*time.Second {
		t.Errorf("it took %v", took)
	}
	for _, f := range found {
		if f.Severity == policy.SeverityError {
			t.Errorf("line %d: %s", f.Line, f.Message)
		}
	}
}
