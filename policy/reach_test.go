package policy

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"breakglass/internal/name"
	"breakglass/internal/sitegen"
)

// scan is what Decide answers by the words of its comment: every rule from top to bottom, with no index of anything.
func scan(p *Policy, req Request, facts Facts) Decision {
	e := &evaluation{p: p, req: req, facts: facts}
	host := e.always()
	general := e.reasons
	e.reasons = nil
	var closest *Rule
	var against []Reason
	depth := 0
	if host != nil && p.people[req.Person] != nil {
		for i := range p.Rules {
			r := &p.Rules[i]
			switch {
			case !r.who[req.Person]:
				continue
			case !r.hosts.has(host):
				depth = max(depth, 1)
				continue
			case !slices.Contains(r.Logins, req.Login):
				depth = 2
				continue
			}
			e.reasons = nil
			e.conditions(r)
			decides := len(e.reasons) == 0
			e.approvals(r)
			if len(e.reasons)+len(general) == 0 {
				return e.granted(r)
			}
			if decides || closest == nil || len(e.reasons) < len(against) {
				closest, against = r, e.reasons
			}
			if decides {
				break
			}
		}
		if closest == nil {
			against = []Reason{e.unreached(host, depth)}
		}
	}
	d := Decision{Outcome: Deny, Reasons: general}
	for _, r := range against {
		if !slices.Contains(general, r) {
			d.Reasons = append(d.Reasons, r)
		}
	}
	if closest != nil {
		d.Rule, d.Why = closest.Name, closest.Why
	}
	return d
}

// TestIndexEqualsScan draws sites and requests: the answer through the index is that of a walk over all rules, and Explain tells the same.
func TestIndexEqualsScan(t *testing.T) {
	r := rand.New(rand.NewPCG(8, 15))
	outcomes := map[Outcome]int{}
	codes := map[Code]int{}
	for range 12 {
		s := sitegen.Size{People: 4 + r.IntN(12), Hosts: 6 + r.IntN(30), Patterns: 1 + r.IntN(6)}
		s.Rules = 2 + r.IntN(min(s.People, s.Hosts)-2) // or a rule's group would be empty
		p, err := Load("policy.toml", []byte(sitegen.Text(s)))
		if err != nil {
			t.Fatal(err)
		}
		for range 400 {
			req := Request{Person: name.Person(sitegen.Person(r.IntN(s.People + 1))), Host: name.Host(sitegen.Host(r.IntN(s.Hosts + 1))), Login: "root",
				Reason: "the database does not answer any more", Kind: KindNew}
			now := time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)
			facts := Facts{Now: now, Live: Live{Known: true}, Key: KeyLive, Touch: Yes, UV: Yes,
				Sources: []Source{{Addr: netip.AddrFrom4([4]byte{192, 0, byte(r.IntN(3)), 9}), Country: "DE", CountryBuilt: now, Anonymous: No, AnonymousBuilt: now}}}
			switch r.IntN(8) {
			case 0:
				req.Host = name.Host(fmt.Sprintf("pool%d-7", r.IntN(7)))
			case 1:
				req.Login = "nobody"
			case 2:
				facts.Touch = No
			case 3:
				facts.Approved = []name.Person{"p1"}
			}
			want, got := scan(p, req, facts), Decide(p, req, facts)
			if !reflect.DeepEqual(got, want) {
				t.Fatalf("%+v: through the index\n%+v\nby a walk\n%+v", req, got, want)
			}
			if text := Explain(p, req, facts); !strings.Contains(text, "\n"+want.Outcome.String()) {
				t.Fatalf("%+v is %s, explained as\n%s", req, want.Outcome, text)
			}
			outcomes[got.Outcome]++
			for _, reason := range got.Reasons {
				codes[reason.Code]++
			}
		}
	}
	if outcomes[Allow] < 50 || outcomes[Ask] < 20 || codes[NoRule]+codes[HostNotAllowed] < 100 || codes[LoginNotAllowed] < 20 || codes[UnknownHost] < 20 {
		t.Errorf("the draws say little: %v %v", outcomes, codes)
	}
}

// TestChunksFindWhatOnePieceFinds: a large file's faults are those that go-toml finds in one piece.
func TestChunksFindWhatOnePieceFinds(t *testing.T) {
	text := sitegen.Text(sitegen.Size{People: 300, Hosts: 600, Rules: 5, Patterns: 2})
	for _, c := range []struct{ what, more, want string }{
		{"a host twice", "[hosts.\"srv-00001.dc1\"]\naddress = [\"10.0.0.1:22\"]\n", "already exists"},
		{"a person twice", "[people.p3]\n", "already exists"},
		{"a key twice in the last host", "address = [\"10.0.0.1:22\"]\n", "already"},
		{"the site twice", "[site]\nname = \"other\"\n", "already exists"},
	} {
		t.Run(c.what, func(t *testing.T) {
			_, err := Parse("policy.toml", []byte(text+c.more))
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %q", err, c.want)
			}
		})
	}
	whole, err := Parse("policy.toml", []byte(text))
	if err != nil || len(whole.hosts) != 600 || len(whole.people) != 300 || len(whole.patterns) != 2 {
		t.Errorf("the file itself: %v", err)
	}
}

// TestCloseHostOfMany: on a large site a slip of one letter is still found, and nothing else is looked for.
func TestCloseHostOfMany(t *testing.T) {
	p := &Policy{hosts: map[name.Host]*HostInfo{}}
	for i := range 2 * maxScanned {
		n := name.Host(sitegen.Host(i))
		p.hosts[n] = &HostInfo{Name: n}
	}
	for word, want := range map[string]string{"srv-00001.dc": "srv-00001.dc1", "SRV-00001.DC1": "srv-00001.dc1", "sr-00001.dc1": "srv-00001.dc1", "srvx-00001.dc1": "srv-00001.dc1",
		"srv0-0001.dc1": "srv-00001.dc1", "web-99999": "", strings.Repeat("a", 200): ""} {
		if want != "" {
			want = fmt.Sprintf("did you mean %q?", want)
		}
		if got := p.closeHost(word); got != want {
			t.Errorf("%s: %q, want %q", word, got, want)
		}
	}
}
