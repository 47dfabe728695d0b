package policy_test

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"breakglass/internal/name"
	"breakglass/policy"
)

// placePolicy is a policy with the lines under [always] and under its rule; alice may be asked for by bob and carol.
func placePolicy(t testing.TB, always, rule string) *policy.Policy {
	t.Helper()
	p, err := policy.Load("place.toml", []byte(placeText(always, rule)))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func placeText(always, rule string) string {
	return `profile = "demo"
[site]
name = "t"
owners = ["bob"]
operators = ["carol"]
readers = ["bob"]
[people.alice]
[people.bob]
[people.carol]
[networks]
office = ["198.51.100.0/24"]
home   = ["203.0.113.0/24", "2001:db8::/32"]
bad    = ["203.0.113.66/32", "198.51.100.66/32"]
[always]
trusted = ["office"]
` + always + `
[hosts.web01]
address = ["10.0.0.1:22"]
host_keys = ["` + keyLine + `"]
[[rule]]
name = "all"
why = "all"
who = ["alice", "bob"]
hosts = ["web01"]
logins = ["root"]
minutes = 30
` + rule + "\n"
}

// seen is an address with what the databases say of it, all of them a day old: seen("203.0.113.9 GB GB-ENG GB-LND AS64500 vpn").
func seen(s string) policy.Source {
	f := strings.Fields(s)
	built := now.Add(-24 * time.Hour)
	out := policy.Source{Addr: netip.MustParseAddr(f[0]), CountryBuilt: built, ASNBuilt: built, Anonymous: policy.No, AnonymousBuilt: built}
	for _, w := range f[1:] {
		switch {
		case w == "vpn":
			out.Anonymous = policy.Yes
		case w == "vpn?":
			out.Anonymous = policy.Unknown
		case w == "old":
			out.CountryBuilt, out.ASNBuilt, out.AnonymousBuilt = now.AddDate(0, 0, -60), now.AddDate(0, 0, -60), now.AddDate(0, 0, -60)
		case strings.HasPrefix(w, "AS"):
			if _, err := fmt.Sscanf(w, "AS%d", &out.ASN); err != nil {
				panic(err)
			}
		case strings.Contains(w, "-"):
			out.Subdivisions = append(out.Subdivisions, w)
		default:
			out.Country = w
		}
	}
	return out
}

func told(d policy.Decision) string {
	if d.Outcome != policy.Deny {
		out := d.Outcome.String()
		if d.Missing > 0 {
			out += fmt.Sprintf(" %d", d.Missing)
		}
		for _, a := range d.Added {
			out += " " + string(a)
		}
		return out
	}
	codes := []string{}
	for _, r := range d.Reasons {
		codes = append(codes, string(r.Code))
	}
	slices.Sort(codes)
	return "deny " + strings.Join(slices.Compact(codes), " ")
}

// TestPlace reads: where [always] or the rule says KEY, alice from ADDRESS gets. Each key is tried in both places, and decides alike.
func TestPlace(t *testing.T) {
	const lists = `subdivisions = ["GB-ENG", "GB-LND", "DE-BE"]`
	for _, c := range []struct {
		key, from, want string
	}{
		{`networks = ["home", "office"]`, "203.0.113.9 DE AS64500", "allow"},
		{`networks = ["home"]`, "192.0.2.9 DE", "deny network_not_allowed"},
		{`networks = ["home"]`, "198.51.100.9", "deny network_not_allowed"}, // a trusted network is no other one
		{`networks = ["home"]`, "::ffff:203.0.113.9", "allow"},
		{`deny_networks = ["bad"]`, "203.0.113.66 DE", "deny network_denied"},
		{`deny_networks = ["bad"]`, "198.51.100.66", "deny network_denied"}, // nor does trust pass a denied one
		{`deny_networks = ["bad"]`, "203.0.113.9", "allow"},

		{`countries = ["DE", "NL"]`, "203.0.113.9 DE", "allow"},
		{`countries = ["DE", "NL"]`, "203.0.113.9 FR", "deny country_denied"},
		{`countries = ["DE", "NL"]`, "203.0.113.9", "deny country_unknown"},
		{`countries = ["DE", "NL"]`, "203.0.113.9 DE old", "deny country_unknown"},
		{`countries = ["DE", "NL"]`, "203.0.113.9 FR old", "deny country_denied"},
		{`countries = ["DE", "NL"]`, "198.51.100.9", "allow"},
		{`deny_countries = ["KP", "RU"]`, "203.0.113.9 DE", "allow"},
		{`deny_countries = ["KP", "RU"]`, "203.0.113.9 RU", "deny country_denied"},
		{`deny_countries = ["KP", "RU"]`, "203.0.113.9 RU old", "deny country_denied"},
		{`deny_countries = ["KP", "RU"]`, "203.0.113.9", "deny country_unknown"}, // it may be one of them
		{`deny_countries = ["KP", "RU"]`, "203.0.113.9 DE old", "deny country_unknown"},
		{`deny_countries = ["KP", "RU"]`, "198.51.100.9 RU", "allow"},
		{`deny_countries = ["KP", "RU"]`, "::ffff:203.0.113.9 RU", "deny country_denied"},

		{lists, "203.0.113.9 GB GB-ENG GB-LND", "allow"},
		{lists, "203.0.113.9 GB GB-ENG", "allow"},
		{lists, "203.0.113.9 DE DE-BE", "allow"},
		{lists, "203.0.113.9 GB GB-SCT GB-EDH", "deny subdivision_denied"},
		{lists, "203.0.113.9 GB GB-SCT old", "deny subdivision_denied"},
		{lists, "203.0.113.9 DE GB-LND", "deny subdivision_denied"}, // a part of another country is none of this one
		{lists, "203.0.113.9 GB", "deny subdivision_unknown"},
		{lists, "203.0.113.9 GB GB-ENG old", "deny subdivision_unknown"},
		{lists, "203.0.113.9", "deny subdivision_unknown"}, // it may be in one of these countries
		{lists, "203.0.113.9 FR", "allow"},                 // other countries are not affected
		{lists, "203.0.113.9 FR old", "deny subdivision_unknown"},
		{lists, "198.51.100.9 GB GB-SCT", "allow"},

		{`asns = [64500, 64501]`, "203.0.113.9 AS64501", "allow"},
		{`asns = [64500, 64501]`, "203.0.113.9 AS64502", "deny asn_denied"},
		{`asns = [64500, 64501]`, "203.0.113.9 AS64502 old", "deny asn_denied"},
		{`asns = [64500, 64501]`, "203.0.113.9", "deny asn_unknown"},
		{`asns = [64500, 64501]`, "203.0.113.9 AS64500 old", "deny asn_unknown"},
		{`asns = [64500, 64501]`, "198.51.100.9", "allow"},
		{`deny_asns = [64666, 4294967295]`, "203.0.113.9 AS64500", "allow"},
		{`deny_asns = [64666, 4294967295]`, "203.0.113.9 AS64666", "deny asn_denied"},
		{`deny_asns = [64666, 4294967295]`, "203.0.113.9 AS4294967295", "deny asn_denied"},
		{`deny_asns = [64666, 4294967295]`, "203.0.113.9", "deny asn_unknown"}, // it may be one of them
		{`deny_asns = [64666, 4294967295]`, "::ffff:203.0.113.9 AS64666", "deny asn_denied"},
		{`deny_asns = [64666, 4294967295]`, "198.51.100.9 AS64666", "allow"},

		{`anonymous = "deny"`, "203.0.113.9", "allow"},
		{`anonymous = "deny"`, "203.0.113.9 vpn", "deny anonymous_denied"},
		{`anonymous = "deny"`, "203.0.113.9 vpn old", "deny anonymous_denied"},
		{`anonymous = "deny"`, "203.0.113.9 vpn?", "deny anonymous_unknown"},
		{`anonymous = "deny"`, "203.0.113.9 old", "deny anonymous_unknown"},
		{`anonymous = "deny"`, "198.51.100.9 vpn", "allow"},

		{"countries = [\"GB\"]\nsubdivisions = [\"GB-ENG\"]", "203.0.113.9 GB GB-ENG", "allow"},
		{"countries = [\"GB\"]\nsubdivisions = [\"GB-ENG\"]", "203.0.113.9", "deny country_unknown subdivision_unknown"},
		{"deny_asns = [64666]\ndeny_countries = [\"RU\"]", "203.0.113.9 RU AS64666", "deny asn_denied country_denied"},
	} {
		for in, p := range map[string]*policy.Policy{"[always]": placePolicy(t, always(c.key), ""), "the rule": placePolicy(t, `anonymous = "allow"`, c.key)} {
			a := usual()
			a.facts.Sources = []policy.Source{seen(c.from)}
			d := policy.Decide(p, a.req, a.facts)
			if got := told(d); got != c.want {
				t.Errorf("with %s in %s, %s gets: %s, want %s", c.key, in, c.from, got, c.want)
			}
			if in == "[always]" && (len(policy.PreCheck(p, a.facts)) > 0) != (d.Outcome == policy.Deny) {
				t.Errorf("with %s, the check before the request says of %s: %v", c.key, c.from, policy.PreCheck(p, a.facts))
			}
			// One bad address of several is one too many, whichever it is.
			for _, also := range [][]policy.Source{{seen("198.51.100.9"), seen(c.from)}, {seen(c.from), seen("198.51.100.9")}} {
				if a.facts.Sources = also; strings.HasPrefix(c.want, "deny") && policy.Decide(p, a.req, a.facts).Outcome != policy.Deny {
					t.Errorf("with %s in %s, %s passes beside a good address", c.key, in, c.from)
				}
			}
			// Explain says each of the reasons.
			a.facts.Sources = []policy.Source{seen(c.from)}
			text := policy.Explain(p, a.req, a.facts)
			for _, r := range d.Reasons {
				if !strings.Contains(text, " no  "+r.Detail+" ("+string(r.Code)+")") {
					t.Errorf("with %s in %s, from %s: explain lacks %s:\n%s", c.key, in, c.from, r.Code, text)
				}
			}
		}
	}
}

// always is a key with anonymous networks let in, unless it is about them.
func always(key string) string {
	if strings.Contains(key, "anonymous") {
		return key
	}
	return key + "\nanonymous = \"allow\""
}

// TestUnknownPlaceIsAsked: with geo_unknown = "ask" a person is asked instead of the databases; what they know is never asked.
func TestUnknownPlaceIsAsked(t *testing.T) {
	const all = "geo_unknown = \"ask\"\ncountries = [\"DE\", \"GB\"]\nsubdivisions = [\"GB-ENG\"]\ndeny_asns = [64666]\n"
	unknown := policy.Source{Addr: netip.MustParseAddr("203.0.113.9")}
	with := func(more ...change) []change { return more }
	for _, c := range []struct {
		when, rule string
		from       policy.Source
		what       []change
		want       string
	}{
		{"all is known", "", seen("203.0.113.9 DE AS64500"), nil, "allow"},
		{"there is no database", "", unknown, nil, "ask 1 place_unknown"},
		{"there is none, and bob said yes", "", unknown, with(approved("bob")), "allow place_unknown"},
		{"there is none, and alice said yes to herself", "", unknown, with(approved("alice")), "ask 1 place_unknown"},
		{"the country is unknown", "", seen("203.0.113.9 AS64500"), nil, "ask 1 place_unknown"},
		{"the databases are too old", "", seen("203.0.113.9 DE AS64500 old"), nil, "ask 1 place_unknown"},
		{"the part is unknown", "", seen("203.0.113.9 GB AS64500"), nil, "ask 1 place_unknown"},
		{"the system is unknown", "", seen("203.0.113.9 DE"), nil, "ask 1 place_unknown"},
		{"it may be a VPN", "", seen("203.0.113.9 DE AS64500 vpn?"), nil, "ask 1 place_unknown"},
		{"it is a VPN", "", seen("203.0.113.9 vpn"), with(approved("bob", "carol")), "deny anonymous_denied"},
		{"the country is a bad one", "", seen("203.0.113.9 FR"), with(approved("bob", "carol")), "deny country_denied"},
		{"the country was a bad one 60 days ago", "", seen("203.0.113.9 FR old"), with(approved("bob", "carol")), "deny country_denied"},
		{"the system is a bad one", "", seen("203.0.113.9 AS64666"), with(approved("bob", "carol")), "deny asn_denied"},
		{"the part is a bad one", "", seen("203.0.113.9 GB GB-SCT"), with(approved("bob", "carol")), "deny subdivision_denied"},
		{"the address is trusted", "", policy.Source{Addr: netip.MustParseAddr("198.51.100.9")}, nil, "allow"},
		{"the address is not known at all", "", policy.Source{}, with(approved("bob")), "deny address_unknown"},
		{"the rule alone wants to know", "asns = [64500]", seen("203.0.113.9 DE"), nil, "ask 1 place_unknown"},
		{"the rule asks for one approval anyway", "approvals = 1\napprovers = [\"bob\", \"carol\"]", unknown, with(approved("bob")), "ask 1 place_unknown"},
		{"the rule's approvers are all asked already", "approvals = 1\napprovers = [\"bob\"]", unknown, with(approved("bob")), "deny anonymous_unknown asn_unknown country_unknown subdivision_unknown"},
		{"other circumstances took the approvers first", "", unknown, with(added(policy.AddedGrace, policy.AddedKeysShort), key(policy.KeyInGrace)), "ask 2 place_unknown enrolment_in_grace"},
		{"ten minutes later she overrides, which waives no place", "", unknown, with(kind(policy.KindOverride), waited(10*time.Minute)), "deny kind_not_allowed"},
		{"a session opens under an override, from a place that nobody vouched for", "", unknown, with(kind(policy.KindSession), func(a *ask) { a.facts.Overridden = true }), "ask 1 place_unknown"},
		{"a session opens, and nobody had been asked", "", unknown, with(kind(policy.KindSession)), "ask 1 place_unknown"},
		{"a session opens, and bob had said yes", "", unknown, with(kind(policy.KindSession), approved("bob")), "allow place_unknown"},
		{"a session opens from a bad country", "", seen("203.0.113.9 FR"), with(kind(policy.KindSession), approved("bob")), "deny country_denied"},
	} {
		p := placePolicy(t, all, c.rule)
		a := usual()
		a.facts.Sources = []policy.Source{c.from}
		for _, f := range c.what {
			f(&a)
		}
		if got := told(policy.Decide(p, a.req, a.facts)); got != c.want {
			t.Errorf("%s: %s, want %s", c.when, got, c.want)
		}
		pre := policy.PreCheck(p, a.facts)
		if refused := strings.HasPrefix(c.want, "deny") && c.want != "deny kind_not_allowed" && c.rule == ""; (len(pre) > 0) != refused {
			t.Errorf("%s: before the request, %v", c.when, pre)
		}
	}
}

// TestSecondCountry reads: alice comes from FROM while a grant of hers is alive that came from THEN.
func TestSecondCountry(t *testing.T) {
	for _, c := range []struct{ from, then, ask, deny string }{
		{"203.0.113.9 DE", "", "allow", "allow"},
		{"203.0.113.9 DE", "203.0.113.9 DE", "allow", "allow"},
		{"203.0.113.9 DE", "203.0.113.7 DE", "allow", "allow"},
		{"203.0.113.9 DE", "203.0.113.7 NL", "ask 1 another_country", "deny another_country"},
		{"203.0.113.9 DE", "203.0.113.9 NL", "allow", "allow"}, // the same address, whatever was said of it then
		{"203.0.113.9", "::ffff:203.0.113.9", "allow", "allow"},
		{"203.0.113.9 DE", "203.0.113.7", "ask 1 another_country", "deny another_country"},
		{"203.0.113.9", "203.0.113.7 DE", "ask 1 another_country", "deny another_country"},
		{"203.0.113.9", "203.0.113.7", "ask 1 another_country", "deny another_country"},
		{"203.0.113.9 DE", "203.0.113.7 DE old", "ask 1 another_country", "deny another_country"},
		{"198.51.100.9", "203.0.113.7 NL", "allow", "allow"},
		{"203.0.113.9 DE", "198.51.100.9", "allow", "allow"},
		{"198.51.100.9", "unknown", "allow", "allow"}, // from a trusted network it doesn't matter what else there is
		{"203.0.113.9 DE", "unknown", "ask 1 another_country", "deny another_country"},
		{"203.0.113.9 DE", "nowhere", "ask 1 another_country", "deny another_country"},
	} {
		for how, want := range map[string]string{"ask": c.ask, "deny": c.deny, "allow": "allow"} {
			p := placePolicy(t, `anonymous = "allow"`+"\nsecond_country = \""+how+`"`, "")
			a := usual()
			a.facts.Sources = []policy.Source{seen(c.from)}
			switch c.then {
			case "":
			case "unknown":
				a.facts.Live = policy.Live{}
			case "nowhere":
				a.facts.Live.Person = []policy.LiveGrant{{ID: "abc-123", Rule: "all"}}
			default:
				a.facts.Live.Person = []policy.LiveGrant{{ID: "abc-123", Rule: "all", Sources: []policy.Source{seen(c.then)}}}
			}
			if got := told(policy.Decide(p, a.req, a.facts)); got != want {
				t.Errorf("second_country = %q, from %s while from %s: %s, want %s", how, c.from, c.then, got, want)
			}
			if strings.HasPrefix(want, "ask") {
				a.facts.Approved = []name.Person{"carol"}
				if got := told(policy.Decide(p, a.req, a.facts)); got != "allow another_country" {
					t.Errorf("from %s while from %s, and carol said yes: %s", c.from, c.then, got)
				}
			}
			a.req.Kind = policy.KindSession
			if got := told(policy.Decide(p, a.req, a.facts)); got != "allow" {
				t.Errorf("a session from %s while from %s: %s", c.from, c.then, got)
			}
		}
	}
	// It is the default, and one address of several is enough.
	p := placePolicy(t, `anonymous = "allow"`, "")
	a := usual()
	a.facts.Sources = []policy.Source{seen("203.0.113.9 DE"), seen("2001:db8::9 NL")}
	a.facts.Live.Person = []policy.LiveGrant{{ID: "abc-123", Rule: "all", Sources: []policy.Source{seen("203.0.113.7 DE")}}}
	if got := told(policy.Decide(p, a.req, a.facts)); got != "ask 1 another_country" {
		t.Errorf("with a second address in another country: %s", got)
	}
	// Nothing of this is told to a stranger.
	if pre := policy.PreCheck(placePolicy(t, `second_country = "deny"`+"\nanonymous = \"allow\"", ""), a.facts); len(pre) > 0 {
		t.Errorf("before the request: %v", pre)
	}
}

// TestPlaceFaults: each key's faults are told at their place.
func TestPlaceFaults(t *testing.T) {
	for _, c := range []struct{ key, message, hint string }{
		{`deny_countries = ["uk"]`, `unknown country "uk"`, `did you mean "GB"?`},
		{`deny_countries = []`, "an empty list of countries", "leave the key out to deny none"},
		{`countries = ["DE", "DE"]`, "DE stands here twice", ""},
		{`countries = ["DE", "RU"]` + "\n" + `deny_countries = ["RU"]`, "RU is in countries and in deny_countries", "take it out of one of them"},
		{`deny_networks = ["hme"]`, `unknown network "hme"`, `did you mean "home"?`},
		{`deny_networks = []`, "an empty list of networks", "leave the key out to deny none"},
		{`networks = ["home"]` + "\n" + `deny_networks = ["home"]`, "home is in networks and in deny_networks", "take it out of one of them"},
		{`subdivisions = ["gb-eng"]`, `unknown subdivision "gb-eng"`, `did you mean "GB-ENG"?`},
		{`subdivisions = ["GB_ENG"]`, `unknown subdivision "GB_ENG"`, `did you mean "GB-ENG"?`},
		{`subdivisions = ["UK-ENG"]`, `unknown subdivision "UK-ENG"`, `did you mean "GB-ENG"?`},
		{`subdivisions = ["DE"]`, `unknown subdivision "DE"`, `a whole country stands in countries; a part is like "DE-X"`},
		{`subdivisions = ["XX-ENG"]`, `unknown subdivision "XX-ENG"`, `country, hyphen and part, ISO 3166-2, like "DE-BE" or "GB-ENG"`},
		{`subdivisions = ["DE-BERL"]`, `unknown subdivision "DE-BERL"`, `country, hyphen and part, ISO 3166-2, like "DE-BE" or "GB-ENG"`},
		{`subdivisions = ["DE-BE", "DE-BE"]`, "DE-BE stands here twice", ""},
		{`countries = ["DE"]` + "\n" + `subdivisions = ["GB-ENG"]`, "GB-ENG lies in GB, which is not in countries", `add "GB" to countries, or take this out`},
		{`deny_countries = ["GB"]` + "\n" + `subdivisions = ["GB-ENG"]`, "GB-ENG lies in GB, which is in deny_countries", "take the one or the other out"},
		{`asns = [0]`, "0 is no number of an autonomous system", "want 1 to 4294967295, like 3320"},
		{`asns = [4294967296]`, "4294967296 is no number of an autonomous system", "want 1 to 4294967295, like 3320"},
		{`asns = ["AS3320"]`, "asns wants a whole number, not a string", "write it like 30"},
		{`asns = []`, "an empty list of autonomous systems", "leave the key out to allow any"},
		{`deny_asns = [3320, 3320]`, "AS3320 stands here twice", ""},
		{`asns = [3320]` + "\n" + `deny_asns = [3320]`, "AS3320 is in asns and in deny_asns", "take it out of one of them"},
		{`deny_asn = [3320]`, `unknown key "deny_asn"`, `did you mean "deny_asns"?`},
	} {
		for _, src := range []string{placeText(c.key, ""), placeText("", c.key)} {
			_, err := policy.Load("place.toml", []byte(src))
			if err == nil {
				t.Errorf("%s is taken", c.key)
			} else if text := err.Error(); !strings.Contains(text, c.message) || !strings.Contains(text, c.hint) || !strings.Contains(text, "^") || strings.Count(text, "place.toml:") != 1 {
				t.Errorf("%s: %s", c.key, text)
			}
		}
	}
	for key, hint := range map[string]string{`geo_unknown = "allow"`: `want "deny" or "ask"`, `second_country = "no"`: `want "ask", "allow" or "deny"`, `geo_unknown = ""`: `want "deny" or "ask"`} {
		if _, err := policy.Load("place.toml", []byte(placeText(key, ""))); err == nil || !strings.Contains(err.Error(), hint) {
			t.Errorf("%s: %v", key, err)
		}
	}
}

// TestPlaceInTests: a policy's own tests say where somebody comes from, in every detail.
func TestPlaceInTests(t *testing.T) {
	const always = "countries = [\"DE\", \"GB\"]\nsubdivisions = [\"GB-ENG\"]\ndeny_asns = [64666]"
	test := func(lines string) string {
		return placeText(always, "") + "[[test]]\nname = \"t\"\nperson = \"alice\"\nhost = \"web01\"\nlogin = \"root\"\nfrom = [\"203.0.113.9\"]\nanonymous = \"no\"\n" + lines
	}
	for _, lines := range []string{
		"country = \"DE\"\nasn = 64500\nexpect = \"allow\"",
		"country = \"GB\"\nsubdivision = \"GB-ENG\"\nasn = 64500\nexpect = \"allow\"",
		"country = \"GB\"\nsubdivision = \"GB-SCT\"\nasn = 64500\nexpect = \"deny\"\nreasons = [\"subdivision_denied\"]",
		"country = \"GB\"\nasn = 64500\nexpect = \"deny\"\nreasons = [\"subdivision_unknown\"]",
		"country = \"DE\"\nasn = 64666\nexpect = \"deny\"\nreasons = [\"asn_denied\"]",
		"country = \"DE\"\nexpect = \"deny\"\nreasons = [\"asn_unknown\"]",
		"country = \"DE\"\nasn = 64500\nexpect = \"ask\"\n[[test.live]]\nrule = \"all\"\nfrom = [\"192.0.2.7\"]\ncountry = \"GB\"",
		"country = \"DE\"\nasn = 64500\nexpect = \"allow\"\n[[test.live]]\nrule = \"all\"\nfrom = [\"192.0.2.7\"]\ncountry = \"DE\"",
	} {
		p, err := policy.Load("place.toml", []byte(test(lines)))
		if err != nil {
			t.Errorf("%s: %v", lines, err)
			continue
		}
		for _, r := range policy.Test(p) {
			if !r.OK() {
				t.Errorf("%s: %v", lines, r.Faults)
			}
		}
	}
	for lines, want := range map[string]string{
		"subdivision = \"GB-ENG\"\nexpect = \"allow\"":                  `write country = "GB"`,
		"country = \"DE\"\nsubdivision = \"de-be\"\nexpect = \"allow\"": `did you mean "DE-BE"?`,
		"asn = 0\nexpect = \"allow\"":                                   "want 1 to 4294967295",
	} {
		if _, err := policy.Load("place.toml", []byte(test(lines))); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", lines, err)
		}
	}
}
