package policy_test

import (
	"math/rand/v2"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"breakglass/internal/name"
	"breakglass/policy"
)

const keyLine = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHdFt/hc1p+UaYXzM+kRk6MxNFL6+TNyilBfU67tbDOO"

func hostName(s string) name.Host { return name.Host(s) }

// load puts hosts and more under a small policy.
func load(t testing.TB, more string, fix *strings.Replacer) *policy.Policy {
	t.Helper()
	src := `profile = "demo"
[site]
name = "t"
owners = ["alice"]
operators = ["alice"]
readers = ["alice"]
[people.alice]
[[rule]]
name = "all"
why = "all"
who = ["alice"]
hosts = ["*"]
logins = ["root"]
minutes = 5
` + fix.Replace(more)
	p, err := policy.Load("t.toml", []byte(src))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// random draws a request and facts out of values that matter to the base policy.
func random(r *rand.Rand) ask {
	pick := func(list ...string) string { return list[r.IntN(len(list))] }
	a := ask{
		policy.Request{
			Kind:   policy.Kind(pick("new", "new", "new", "new", "new", "new", "new", "extend", "session", "override")),
			Person: name.Person(pick("alice", "alice", "alice", "bob", "bob", "carol", "dan", "erin", "mallory")),
			Host:   name.Host(pick("web01", "web02", "db01", "db01", "lb3", "safe01", "nowhere")),
			Login:  name.Login(pick("root", "deploy", "postgres")),
			Reason: pick("", reason20, reason40, reason40, reason40, reason40),
			Ticket: pick("", "INC-1", "INC-1", "x"), Minutes: r.IntN(70), Drill: r.IntN(4) == 0,
		},
		policy.Facts{Now: now, Key: policy.KeyLive},
	}
	a.facts.Touch, a.facts.UV = policy.Yes, policy.Yes
	if r.IntN(5) == 0 {
		a.facts.Touch, a.facts.UV = policy.Tri(r.IntN(3)), policy.Tri(r.IntN(3))
	}
	if r.IntN(8) == 0 {
		a.facts.Key = policy.KeyState(r.IntN(7))
	}
	for range 1 + r.IntN(2) {
		a.facts.Sources = append(a.facts.Sources, policy.Source{
			Addr:    netip.MustParseAddr(pick("203.0.113.9", "203.0.113.9", "203.0.113.9", "203.0.113.66", "198.51.100.7", "198.51.100.7", "198.51.100.66", "192.0.2.7", "2001:db8:1::1", "2001:db8:bad::1", "2001:db8:7::1")),
			Country: pick("DE", "DE", "NL", "BR", "BR", "US", ""), CountryBuilt: now.AddDate(0, 0, -r.IntN(33)),
			Anonymous: [...]policy.Tri{policy.No, policy.No, policy.No, policy.No, policy.No, policy.No, policy.Yes, policy.Unknown}[r.IntN(8)], AnonymousBuilt: now.AddDate(0, 0, -r.IntN(33)),
		})
	}
	for _, n := range []name.Person{"alice", "bob", "carol", "dan", "olga", "rita"} {
		if r.IntN(3) == 0 {
			a.facts.Approved = append(a.facts.Approved, n)
		}
	}
	if r.IntN(8) == 0 {
		forwards(pick("local localhost:8080", "local db01:7", "local evil:1"))(&a)
	}
	return a
}

// TestProperties: what must hold between an ask and what it becomes when something is taken away from it, or written in another
// way.
func TestProperties(t *testing.T) {
	p := basePolicy(t)
	r := rand.New(rand.NewPCG(7, 11))
	denied := []netip.Prefix{netip.MustParsePrefix("203.0.113.66/32"), netip.MustParsePrefix("198.51.100.66/32"), netip.MustParsePrefix("2001:db8:bad::/48")}
	outcomes := map[policy.Outcome]int{}
	for range 25_000 {
		a := random(r)
		d := policy.Decide(p, a.req, a.facts)
		outcomes[d.Outcome]++
		if d.Outcome == policy.Deny != (len(d.Reasons) > 0) {
			t.Fatalf("%s with reasons %v: %+v", d.Outcome, d.Reasons, a)
		}
		if d.Outcome != policy.Deny {
			rule, ok := p.Rule(d.Rule)
			switch {
			case !ok, d.Minutes < 1, d.Minutes > rule.Minutes, a.req.Minutes > 0 && d.Minutes > a.req.Minutes:
				t.Fatalf("grants %d minutes under %q: %+v", d.Minutes, d.Rule, a)
			case a.facts.Touch != policy.Yes, a.facts.UV != policy.Yes, a.facts.Key != policy.KeyLive && a.facts.Key != policy.KeyInGrace:
				t.Fatalf("passes without its factors: %+v", a)
			case !slices.Contains(rule.Logins, a.req.Login):
				t.Fatalf("passes with a foreign login: %+v", a)
			}
			for _, s := range a.facts.Sources {
				if slices.ContainsFunc(denied, func(n netip.Prefix) bool { return n.Contains(s.Addr) }) {
					t.Fatalf("passes from a denied network: %+v", a)
				}
			}
			if a.facts.Key == policy.KeyInGrace && d.Outcome == policy.Allow && a.req.Kind != policy.KindSession && a.req.Kind != policy.KindOverride && len(a.facts.Approved) == 0 {
				t.Fatalf("a lapsed key passes without an approval: %+v", a)
			}
			if slices.Contains(d.Approvers, a.req.Person) {
				t.Fatalf("%s may approve their own request", a.req.Person)
			}
		}
		// Whatever is taken away, a deny stays a deny and an ask never becomes an allow.
		for what, take := range takeAway(r) {
			b := a
			b.facts.Sources = slices.Clone(a.facts.Sources)
			b.facts.Approved = slices.Clone(a.facts.Approved)
			take(&b)
			if e := policy.Decide(p, b.req, b.facts); e.Outcome > d.Outcome {
				t.Fatalf("without %s %s becomes %s by %q: %+v", what, d.Outcome, e.Outcome, e.Rule, a)
			}
		}
		// IPv4 and its mapped form decide alike; so do sources in another order.
		b := a
		b.facts.Sources = slices.Clone(a.facts.Sources)
		for i := range b.facts.Sources {
			b.facts.Sources[i].Addr = netip.AddrFrom16(b.facts.Sources[i].Addr.As16())
		}
		if diff := cmp.Diff(d, policy.Decide(p, b.req, b.facts)); diff != "" {
			t.Fatalf("mapped addresses decide otherwise: %s", diff)
		}
		slices.Reverse(b.facts.Sources)
		if e := policy.Decide(p, b.req, b.facts); e.Outcome != d.Outcome || e.Rule != d.Rule {
			t.Fatalf("sources in another order: %s by %q, was %s by %q", e.Outcome, e.Rule, d.Outcome, d.Rule)
		}
	}
	for _, o := range []policy.Outcome{policy.Allow, policy.Ask, policy.Deny} {
		if outcomes[o] < 100 {
			t.Errorf("only %d of outcome %s: the draw is no test", outcomes[o], o)
		}
	}
}

// takeAway are the facts that a request may lose.
func takeAway(r *rand.Rand) map[string]func(*ask) {
	each := func(f func(*policy.Source)) func(*ask) {
		return func(a *ask) { f(&a.facts.Sources[r.IntN(len(a.facts.Sources))]) }
	}
	return map[string]func(*ask){
		"the touch":              func(a *ask) { a.facts.Touch = policy.Unknown },
		"the PIN":                func(a *ask) { a.facts.UV = policy.Unknown },
		"the key's state":        func(a *ask) { a.facts.Key = policy.KeyUnknown },
		"the time":               func(a *ask) { a.facts.Now = time.Time{} },
		"the approvals":          func(a *ask) { a.facts.Approved = nil },
		"one approval":           func(a *ask) { a.facts.Approved = a.facts.Approved[:max(0, len(a.facts.Approved)-1)] },
		"the addresses":          func(a *ask) { a.facts.Sources = nil },
		"an address":             each(func(s *policy.Source) { s.Addr = netip.Addr{} }),
		"a country":              each(func(s *policy.Source) { s.Country = "" }),
		"a country's database":   each(func(s *policy.Source) { s.Country, s.CountryBuilt = "", time.Time{} }),
		"a database's age":       each(func(s *policy.Source) { s.CountryBuilt = time.Time{} }),
		"whether it's anonymous": each(func(s *policy.Source) { s.Anonymous = policy.Unknown }),
		"the ticket":             func(a *ask) { a.req.Ticket = "" },
		"the reason":             func(a *ask) { a.req.Reason = "" },
	}
}

// TestOrderOfEntries: people and hosts in another order, and lists within, decide alike.
func TestOrderOfEntries(t *testing.T) {
	src, err := os.ReadFile("testdata/v1/base.toml")
	if err != nil {
		t.Fatal(err)
	}
	p := basePolicy(t)
	blocks := strings.Split(string(src), "\n[")
	var movable []int
	for i, b := range blocks {
		if strings.HasPrefix(b, "people.") || strings.HasPrefix(b, "hosts.") {
			movable = append(movable, i)
		}
	}
	r := rand.New(rand.NewPCG(1, 2))
	for range 20 {
		order := slices.Clone(movable)
		r.Shuffle(len(order), func(i, j int) { order[i], order[j] = order[j], order[i] })
		shuffled := slices.Clone(blocks)
		for i, from := range order {
			shuffled[movable[i]] = blocks[from]
		}
		q, err := policy.Load("shuffled.toml", []byte(strings.Join(shuffled, "\n[")))
		if err != nil {
			t.Fatal(err)
		}
		for range 500 {
			a := random(r)
			if diff := cmp.Diff(policy.Decide(p, a.req, a.facts), policy.Decide(q, a.req, a.facts)); diff != "" {
				t.Fatalf("order matters: %s\n%+v", diff, a)
			}
		}
	}
}

// TestDenyNeverAllows: adding a network to deny_networks never lets anybody in.
func TestDenyNeverAllows(t *testing.T) {
	src, err := os.ReadFile("testdata/v1/base.toml")
	if err != nil {
		t.Fatal(err)
	}
	p := basePolicy(t)
	q, err := policy.Load("more.toml", []byte(strings.Replace(string(src), `deny_networks = ["blocked"]`, `deny_networks = ["blocked", "office", "vault"]`, 1)))
	if err != nil {
		t.Fatal(err)
	}
	r := rand.New(rand.NewPCG(3, 4))
	for range 20_000 {
		a := random(r)
		if d, e := policy.Decide(p, a.req, a.facts), policy.Decide(q, a.req, a.facts); e.Outcome > d.Outcome {
			t.Fatalf("%s becomes %s: %+v", d.Outcome, e.Outcome, a)
		}
	}
}

func BenchmarkDecide(b *testing.B) {
	p := basePolicy(b)
	for _, c := range []struct {
		name string
		what []change
	}{{"allow", nil}, {"deny", []change{touch(policy.No)}}, {"last", []change{is("dan"), into("root@safe01"), at(home("192.0.2.7"))}}} {
		a := usual()
		for _, change := range c.what {
			change(&a)
		}
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				policy.Decide(p, a.req, a.facts)
			}
		})
	}
}
