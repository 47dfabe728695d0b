package policy_test

import (
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"breakglass/internal/name"
	"breakglass/policy"
)

// now is the time of every decision in these tests.
var now = time.Date(2026, 6, 1, 3, 0, 0, 0, time.UTC)

const (
	reason20 = "web01 serves 500 now" // 20 characters
	reason40 = "db01 does not answer, replica lags, paged"
)

func basePolicy(t testing.TB) *policy.Policy {
	t.Helper()
	src, err := os.ReadFile("testdata/v1/base.toml")
	if err != nil {
		t.Fatal(err)
	}
	p, err := policy.Load("base.toml", src)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// ask is a request and its facts, changed from the usual ones: alice, root@web01, at home in Germany, all in order.
type ask struct {
	req   policy.Request
	facts policy.Facts
}

func usual() ask {
	return ask{
		policy.Request{Kind: policy.KindNew, Person: "alice", Host: "web01", Login: "root", Reason: reason20},
		policy.Facts{Now: now, Touch: policy.Yes, UV: policy.Yes, Key: policy.KeyLive, Sources: []policy.Source{home("203.0.113.9")}, Live: policy.Live{Known: true}},
	}
}

func home(addr string) policy.Source { return from(addr, "DE", policy.No) }

func from(addr, country string, anonymous policy.Tri) policy.Source {
	return policy.Source{Addr: netip.MustParseAddr(addr), Country: country, CountryBuilt: now.Add(-24 * time.Hour), Anonymous: anonymous, AnonymousBuilt: now.Add(-24 * time.Hour)}
}

// bare is an address of which no database says anything.
func bare(addr string) policy.Source { return policy.Source{Addr: netip.MustParseAddr(addr)} }

type change func(*ask)

func is(p name.Person) change { return func(a *ask) { a.req.Person = p } }
func into(target string) change {
	return func(a *ask) { a.req.Login, a.req.Host, _ = name.SplitTarget(target) }
}
func at(s ...policy.Source) change { return func(a *ask) { a.facts.Sources = s } }
func why(s string) change          { return func(a *ask) { a.req.Reason = s } }
func minutes(n int) change         { return func(a *ask) { a.req.Minutes = n } }
func ticket(s string) change       { return func(a *ask) { a.req.Ticket = s } }
func kind(k policy.Kind) change    { return func(a *ask) { a.req.Kind = k } }
func touch(t policy.Tri) change    { return func(a *ask) { a.facts.Touch = t } }
func uv(t policy.Tri) change       { return func(a *ask) { a.facts.UV = t } }
func key(k policy.KeyState) change { return func(a *ask) { a.facts.Key = k } }
func drill(a *ask)                 { a.req.Drill = true }
func noTime(a *ask)                { a.facts.Now = time.Time{} }
func geoAge(d time.Duration) change {
	return func(a *ask) {
		for i := range a.facts.Sources {
			a.facts.Sources[i].CountryBuilt, a.facts.Sources[i].AnonymousBuilt = now.Add(-d), now.Add(-d)
		}
	}
}
func waited(d time.Duration) change     { return func(a *ask) { a.facts.Waited = d } }
func added(list ...policy.Added) change { return func(a *ask) { a.facts.Added = list } }
func approved(by ...name.Person) change { return func(a *ask) { a.facts.Approved = by } }
func forwards(list ...string) change {
	return func(a *ask) {
		for _, s := range list {
			f, err := policy.ParseForward(s)
			if err != nil {
				panic(err)
			}
			a.req.Forwards = append(a.req.Forwards, f)
		}
	}
}

// TestDecide reads: alice at home in Germany asks for root@web01 with touch, PIN and a reason of 20 characters, but …
func TestDecide(t *testing.T) {
	p := basePolicy(t)
	office, day := bare("198.51.100.7"), 24*time.Hour
	dbAsk := []change{into("postgres@db01"), ticket("INC-4711"), why(reason40)}
	with := func(base []change, more ...change) []change { return append(slices.Clone(base), more...) }
	for _, c := range []struct {
		but  string
		what []change
		want string // "allow RULE MINUTES", "ask RULE MISSING of APPROVALS", "deny CODES"
	}{
		{"nothing is different", nil, "allow home 30"},
		{"she asks for deploy", []change{into("deploy@web01")}, "allow home 30"},
		{"the host is only covered by a pattern", []change{into("root@lb-fra-2")}, "allow home 30"},
		{"she comes from the Netherlands", []change{at(from("203.0.113.9", "NL", policy.No))}, "allow home 30"},
		{"she has an IPv6 address too", []change{at(home("203.0.113.9"), home("2001:db8:7::1"))}, "allow home 30"},
		{"her address is written as a mapped one", []change{at(home("::ffff:203.0.113.9"))}, "allow home 30"},

		// minutes
		{"she asks for 10 minutes", []change{minutes(10)}, "allow home 10"},
		{"she asks for 500 minutes", []change{minutes(500)}, "allow home 30"},
		{"she asks for exactly the rule's", []change{minutes(30)}, "allow home 30"},
		{"she asks for minus one", []change{minutes(-1)}, "deny minutes_invalid"},

		// who, where to
		{"she is not known", []change{is("mallory")}, "deny unknown_person"},
		{"she is carol, whom only other rules name", []change{is("carol")}, "deny host_not_allowed"},
		{"she is rita, whom no rule names", []change{is("rita")}, "deny no_rule"},
		{"she is olga, who owns the site and is in no rule", []change{is("olga")}, "deny no_rule"},
		{"the host is not known", []change{into("root@web99")}, "deny unknown_host"},
		{"the host's name only begins like a pattern", []change{into("root@l")}, "deny unknown_host"},
		{"the host is in none of her rules", []change{into("root@safe01")}, "deny host_not_allowed"},
		{"the login is in none of her rules", []change{into("postgres@web01")}, "deny login_not_allowed"},
		{"person and host are not known", []change{is("mallory"), into("root@nowhere")}, "deny unknown_host unknown_person"},
		{"there is no host name", []change{into("root@web01"), func(a *ask) { a.req.Host = "" }}, "deny unknown_host"},
		{"there is no person", []change{is("")}, "deny unknown_person"},

		// key
		{"the key was not touched", []change{touch(policy.No)}, "deny touch_missing"},
		{"nobody knows whether it was", []change{touch(policy.Unknown)}, "deny touch_missing"},
		{"there was no PIN", []change{uv(policy.No)}, "deny uv_missing"},
		{"nobody knows whether there was", []change{uv(policy.Unknown)}, "deny uv_missing"},
		{"neither touch nor PIN", []change{touch(policy.No), uv(policy.No)}, "deny touch_missing uv_missing"},
		{"the key is suspended", []change{key(policy.KeySuspended)}, "deny key_suspended"},
		{"the key has lapsed", []change{key(policy.KeyLapsed)}, "deny key_lapsed"},
		{"the key is revoked", []change{key(policy.KeyRevoked)}, "deny key_revoked"},
		{"nobody has vouched for the key", []change{key(policy.KeyPending)}, "deny key_pending"},
		{"the key is not known", []change{key(policy.KeyUnknown)}, "deny key_unknown"},
		{"the key is in a state that does not exist", []change{key(99)}, "deny key_unknown"},

		// reason
		{"there is no reason", []change{why("")}, "deny reason_too_short"},
		{"the reason has 19 characters", []change{why(reason20[1:])}, "deny reason_too_short"},
		{"the reason is blanks", []change{why(strings.Repeat(" ", 40))}, "deny reason_too_short"},
		{"the reason is stretched by blanks", []change{why("down" + strings.Repeat(" ", 40) + "!")}, "deny reason_too_short"},
		{"the reason is stretched by invisible characters", []change{why("down" + strings.Repeat("\u200b", 40))}, "deny reason_too_short"},
		{"the reason is 20 umlauts", []change{why(strings.Repeat("ü", 20))}, "allow home 30"},

		// place
		{"she comes from Brazil, for which a rule asks a lead", []change{at(from("203.0.113.9", "BR", policy.No))}, "ask away 1 of 1"},
		{"she comes from a country that [always] refuses", []change{at(from("203.0.113.9", "US", policy.No))}, "deny country_denied"},
		{"her country is unknown", []change{at(from("203.0.113.9", "", policy.No))}, "deny country_unknown"},
		{"there is no geo database", []change{at(bare("203.0.113.9"))}, "deny anonymous_unknown country_unknown"},
		{"there is no geo database, in the office", []change{at(office)}, "allow home 30"},
		{"there is no geo database, in the office by IPv6", []change{at(bare("2001:db8:1::7"))}, "allow home 30"},
		{"there is no geo database, in the office, mapped", []change{at(bare("::ffff:198.51.100.7"))}, "allow home 30"},
		{"there is no geo database, in the office, with a zone", []change{at(bare("2001:db8:1::7%eth0"))}, "allow home 30"},
		{"the geo database is 30 days old", []change{geoAge(30 * day)}, "allow home 30"},
		{"the geo database is 31 days old", []change{geoAge(31 * day)}, "deny anonymous_unknown country_unknown"},
		{"the geo database is 31 days old, in the office", []change{at(office), geoAge(31 * day)}, "allow home 30"},
		{"the geo database comes from next week", []change{geoAge(-7 * day)}, "deny anonymous_unknown country_unknown"},
		{"the time is unknown", []change{noTime}, "deny anonymous_unknown country_unknown"},
		{"she comes through Tor", []change{at(from("203.0.113.9", "DE", policy.Yes))}, "deny anonymous_denied"},
		{"an old database says she comes through Tor", []change{at(from("203.0.113.9", "NL", policy.Yes)), geoAge(31 * day)}, "deny anonymous_denied country_unknown"},
		{"nobody knows whether she does", []change{at(from("203.0.113.9", "DE", policy.Unknown))}, "deny anonymous_unknown"},
		{"she comes from a denied address", []change{at(home("203.0.113.66"))}, "deny network_denied"},
		{"she comes from a denied address, mapped", []change{at(home("::ffff:203.0.113.66"))}, "deny network_denied"},
		{"she comes from a denied IPv6 network", []change{at(home("2001:db8:bad::1"))}, "deny network_denied"},
		{"she comes from a denied address of a trusted network", []change{at(home("198.51.100.66"))}, "deny network_denied"},
		{"one of her addresses is denied", []change{at(office, home("203.0.113.66"))}, "deny network_denied"},
		{"one of her addresses is in no country", []change{at(office, from("203.0.113.9", "", policy.No))}, "deny country_unknown"},
		{"one of her addresses is in Brazil", []change{at(home("203.0.113.9"), from("2001:db8:7::1", "BR", policy.No))}, "ask away 1 of 1"},
		{"she comes from nowhere", []change{at()}, "deny address_unknown"},
		{"she comes from no address", []change{at(policy.Source{})}, "deny address_unknown"},
		{"one of her addresses is none", []change{at(office, policy.Source{})}, "deny address_unknown"},

		// approvals
		{"she is in Brazil and a lead agrees", []change{at(from("203.0.113.9", "BR", policy.No)), approved("carol")}, "allow away 20"},
		{"she is in Brazil and rita, who is no lead, agrees", []change{at(from("203.0.113.9", "BR", policy.No)), approved("rita")}, "ask away 1 of 1"},
		{"she is bob, in Brazil, and agrees with himself", []change{is("bob"), at(from("203.0.113.9", "BR", policy.No)), approved("bob")}, "ask away 1 of 1"},
		{"she is in Brazil and asks for deploy, which only home offers", []change{into("deploy@web01"), at(from("203.0.113.9", "BR", policy.No))}, "deny country_denied"},
		{"she wants a database", dbAsk, "ask db 2 of 2"},
		{"she wants a database and one lead agrees", with(dbAsk, approved("carol")), "ask db 1 of 2"},
		{"she wants a database and one lead agrees twice", with(dbAsk, approved("carol", "carol")), "ask db 1 of 2"},
		{"she wants a database and two agree", with(dbAsk, approved("carol", "olga")), "allow db 60"},
		{"she wants a database and three agree", with(dbAsk, approved("carol", "olga", "dan")), "allow db 60"},
		{"she is carol, wants a database, and counts herself", with(dbAsk, is("carol"), approved("carol", "olga")), "ask db 1 of 2"},
		{"two agree but the place is wrong", with(dbAsk, approved("carol", "olga"), at(from("203.0.113.9", "US", policy.No))), "deny country_denied"},
		{"two agree but there was no touch", with(dbAsk, approved("carol", "olga"), touch(policy.No)), "deny touch_missing"},

		// ticket and a rule's own reason length
		{"she wants a database without a ticket", with(dbAsk, ticket("")), "deny ticket_missing"},
		{"she wants a database with a foreign ticket", with(dbAsk, ticket("JIRA-1")), "deny ticket_invalid"},
		{"her ticket only begins well", with(dbAsk, ticket("INC-1 and more")), "deny ticket_invalid"},
		{"her ticket has a second line", with(dbAsk, ticket("INC-1\nx")), "deny ticket_invalid"},
		{"she wants a database with a short reason", with(dbAsk, why(reason20)), "deny reason_too_short"},
		{"she wants a database with nothing at all", []change{into("postgres@db01")}, "deny reason_too_short ticket_missing"},
		{"she gives a ticket that nobody asked for", []change{ticket("anything")}, "allow home 30"},

		// networks of a rule
		{"dan opens the safe from the vault", []change{is("dan"), into("root@safe01"), at(home("192.0.2.7"))}, "allow vault 10"},
		{"dan opens the safe from the office", []change{is("dan"), into("root@safe01"), at(office)}, "deny network_not_allowed"},
		{"dan opens the safe from vault and office", []change{is("dan"), into("root@safe01"), at(home("192.0.2.7"), office)}, "deny network_not_allowed"},

		// drills
		{"it is a drill", []change{drill}, "allow home 30"},
		{"erin drills", []change{is("erin"), into("deploy@web02"), drill}, "allow drill 15"},
		{"erin does not drill", []change{is("erin"), into("deploy@web02")}, "deny drill_only"},

		// forwards
		{"she forwards what the rule allows", []change{forwards("local localhost:8080")}, "allow home 30"},
		{"she forwards to any port of db01", []change{forwards("local db01:5432", "local db01:*", "remote-unix /run/app.sock")}, "allow home 30"},
		{"she forwards to another port", []change{forwards("local localhost:8081")}, "deny forwards_not_allowed"},
		{"she forwards to any port where one is allowed", []change{forwards("local localhost:*")}, "deny forwards_not_allowed"},
		{"she forwards to the address of an allowed name", []change{forwards("local 127.0.0.1:8080")}, "deny forwards_not_allowed"},
		{"she turns the direction around", []change{forwards("remote localhost:8080")}, "deny forwards_not_allowed"},
		{"she forwards another socket", []change{forwards("remote-unix /run/other.sock")}, "deny forwards_not_allowed"},
		{"two of her forwards are not allowed", []change{forwards("local a:1", "local b:2")}, "deny forwards_not_allowed"},

		// kinds
		{"she extends", []change{kind(policy.KindExtend)}, "allow home 30"},
		{"she overrides what needs no approval", []change{kind(policy.KindOverride)}, "deny kind_not_allowed"},
		{"her key is in grace", []change{key(policy.KeyInGrace)}, "ask home 1 of 1"},
		{"her key is in grace and an owner agreed", []change{key(policy.KeyInGrace), approved("olga")}, "allow home 30"},
		{"her key is in grace and she agreed herself", []change{key(policy.KeyInGrace), approved("alice")}, "ask home 1 of 1"},
		{"her key is in grace and somebody agreed who may not", []change{key(policy.KeyInGrace), approved("bob")}, "ask home 1 of 1"},
		{"her key is in grace and she overrides at once", []change{key(policy.KeyInGrace), kind(policy.KindOverride)}, "deny override_too_early"},
		{"her key is in grace and she overrides in time", []change{key(policy.KeyInGrace), kind(policy.KindOverride), waited(10 * time.Minute)}, "allow home 30"},
		{"she has a key too few and is locked out", []change{added(policy.AddedKeysShort, policy.AddedLocked)}, "ask home 2 of 2"},
		{"five circumstances speak against her, and there are two approvers", []change{added(policy.AllAdded()...)}, "ask home 2 of 2"},
		{"one circumstance is named twice", []change{added(policy.AddedLocked, policy.AddedLocked)}, "ask home 1 of 1"},
		{"a session opens though something came up since", []change{kind(policy.KindSession), added(policy.AddedLocked)}, "allow home 30"},
		{"she opens a session", []change{kind(policy.KindSession)}, "allow home 30"},
		{"her client asks for something new", []change{kind("teleport")}, "deny kind_not_allowed"},
		{"her client names no kind", []change{kind("")}, "deny kind_not_allowed"},

		// many
		{"everything is wrong", []change{at(from("203.0.113.66", "US", policy.Yes)), why(""), touch(policy.No), uv(policy.No), key(policy.KeyRevoked), forwards("local a:1")},
			"deny anonymous_denied country_denied forwards_not_allowed key_revoked network_denied reason_too_short touch_missing uv_missing"},
	} {
		a := usual()
		for _, change := range c.what {
			change(&a)
		}
		d := policy.Decide(p, a.req, a.facts)
		if got := short(d); got != c.want {
			t.Errorf("but %s: got %q, want %q", c.but, got, c.want)
		}
		for _, r := range d.Reasons {
			if r.Detail == "" || r.Next == "" {
				t.Errorf("but %s: reason %s leaves the person alone: %+v", c.but, r.Code, r)
			}
		}
		if d.Outcome != policy.Deny && d.Why == "" {
			t.Errorf("but %s: no why", c.but)
		}
		if text := policy.Explain(p, a.req, a.facts); !strings.Contains(text, "\n"+d.Outcome.String()) {
			t.Errorf("but %s: Explain says otherwise:\n%s", c.but, text)
		}
	}
}

// short writes a decision the way the table does.
func short(d policy.Decision) string {
	switch d.Outcome {
	case policy.Allow:
		return "allow " + string(d.Rule) + " " + itoa(d.Minutes)
	case policy.Ask:
		return "ask " + string(d.Rule) + " " + itoa(d.Missing) + " of " + itoa(d.Approvals)
	}
	var codes []string
	for _, r := range d.Reasons {
		codes = append(codes, string(r.Code))
	}
	slices.Sort(codes)
	return "deny " + strings.Join(slices.Compact(codes), " ")
}

func itoa(n int) string { return strconv.Itoa(n) }

// TestDecisionFields looks at what the table doesn't show.
func TestDecisionFields(t *testing.T) {
	p := basePolicy(t)
	a := usual()
	forwards("local db01:5432")(&a)
	d := policy.Decide(p, a.req, a.facts)
	want := policy.Decision{Outcome: policy.Allow, Rule: "home", Why: "On-call, web and balancers, from DE or NL.", Minutes: 30, Idle: 5 * time.Minute, Budget: policy.DefaultBudget, Forwards: a.req.Forwards}
	if diff := cmp.Diff(want, d); diff != "" {
		t.Error(diff)
	}
	a = usual()
	is("bob")(&a)
	at(from("203.0.113.9", "BR", policy.No))(&a)
	d = policy.Decide(p, a.req, a.facts)
	want = policy.Decision{Outcome: policy.Ask, Rule: "away", Why: "From elsewhere one lead agrees.", Minutes: 20, Approvals: 1, Missing: 1,
		Approvers: []name.Person{"carol", "dan"}, Wait: 10 * time.Minute, Idle: 15 * time.Minute, Budget: policy.DefaultBudget}
	if diff := cmp.Diff(want, d); diff != "" {
		t.Error(diff)
	}
	a = usual()
	at(from("203.0.113.9", "", policy.No))(&a)
	d = policy.Decide(p, a.req, a.facts)
	want = policy.Decision{Rule: "away", Why: "From elsewhere one lead agrees.", Reasons: []policy.Reason{{
		Code:   policy.CountryUnknown,
		Detail: "203.0.113.9 may not come in under the countries of this site (country unknown: no entry in the geo database of 2026-05-31)",
		Next:   "from a trusted network (office) this check is passed"}}}
	if diff := cmp.Diff(want, d); diff != "" {
		t.Error(diff)
	}
}

// TestSession: the decision is made again with the address that the jump sees, and time only takes away.
func TestSession(t *testing.T) {
	p := basePolicy(t)
	for _, c := range []struct {
		but  string
		at   time.Duration // since the grant's start
		what []change
		want string
		end  time.Duration
	}{
		{"nothing is different", time.Minute, nil, "allow home 30", 25 * time.Minute},
		{"it is the last second", 25*time.Minute - time.Second, nil, "allow home 30", 25 * time.Minute},
		{"the grant has just ended", 25 * time.Minute, nil, "deny grant_ended", 0},
		{"the clock went back before the grant", -time.Second, nil, "deny grant_not_started", 0},
		{"the jump sees a denied address", time.Minute, []change{at(home("203.0.113.66"))}, "deny network_denied", 0},
		{"the key was revoked since", time.Minute, []change{key(policy.KeyRevoked)}, "deny key_revoked", 0},
		{"the jump sees Brazil, for which nobody agreed", time.Minute, []change{at(from("203.0.113.9", "BR", policy.No))}, "ask away 1 of 1", 20 * time.Minute},
		{"the jump sees Brazil and a lead agreed to that", time.Minute, []change{at(from("203.0.113.9", "BR", policy.No)), approved("carol")}, "allow away 20", 20 * time.Minute},
		{"by now that rule's minutes are over", 21 * time.Minute, []change{at(from("203.0.113.9", "BR", policy.No)), approved("carol")}, "deny grant_ended", 0},
	} {
		a := usual()
		for _, change := range c.what {
			change(&a)
		}
		g := policy.Grant{Request: a.req, Start: now.Add(-c.at), End: now.Add(25*time.Minute - c.at)}
		d := policy.DecideSession(p, g, a.facts)
		if got := short(d); got != c.want {
			t.Errorf("but %s: got %q, want %q", c.but, got, c.want)
		}
		if c.end > 0 && !d.End.Equal(g.Start.Add(c.end)) {
			t.Errorf("but %s: ends %v after its start", c.but, d.End.Sub(g.Start))
		}
	}
}

// TestPreCheck: a stranger learns what is refused to everybody from there, and no name of ours.
func TestPreCheck(t *testing.T) {
	p := basePolicy(t)
	for _, c := range []struct {
		from string
		src  []policy.Source
		want string
	}{
		{"home", []policy.Source{home("203.0.113.9")}, "deny "},
		{"a country that only approvals open", []policy.Source{from("203.0.113.9", "BR", policy.No)}, "deny "},
		{"the office without a database", []policy.Source{bare("198.51.100.7")}, "deny "},
		{"a denied address", []policy.Source{home("203.0.113.66")}, "deny network_denied"},
		{"a refused country through Tor", []policy.Source{from("203.0.113.9", "US", policy.Yes)}, "deny anonymous_denied country_denied"},
		{"who knows where", []policy.Source{bare("203.0.113.9")}, "deny anonymous_unknown country_unknown"},
		{"nowhere", nil, "deny address_unknown"},
	} {
		reasons := policy.PreCheck(p, policy.Facts{Now: now, Sources: c.src})
		if got := short(policy.Decision{Reasons: reasons}); got != c.want {
			t.Errorf("from %s: got %q, want %q", c.from, got, c.want)
		}
		for _, r := range reasons {
			for _, secret := range []string{"office", "blocked", "home", "away", "DE", "NL", "alice", "olga", "web"} {
				if slices.Contains(strings.FieldsFunc(r.Text(), func(x rune) bool { return !(x >= 'a' && x <= 'z' || x >= 'A' && x <= 'Z') }), secret) {
					t.Errorf("from %s: a stranger reads %q: %s", c.from, secret, r.Text())
				}
			}
		}
	}
}
