package ca_test

import (
	"context"
	"errors"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"breakglass/ca"
	"breakglass/ca/api"
	"breakglass/ca/catest"
	"breakglass/internal/softkey"
	"breakglass/ledger"
	"breakglass/policy/geo/geotest"
)

// clock is the real one, moved.
type clock struct{ off atomic.Int64 }

func (c *clock) now() time.Time          { return time.Now().Add(time.Duration(c.off.Load())) }
func (c *clock) forward(d time.Duration) { c.off.Add(int64(d)) }

// scene is what a case of the table acts in.
type scene struct {
	*catest.CA
	clock *clock
	alice *catest.Person
}

func problem(t *testing.T, err error) *api.Problem {
	t.Helper()
	var p *api.Problem
	if !errors.As(err, &p) {
		t.Fatalf("no problem, but %v", err)
	}
	return p
}

// reply asks as p with change, has answer sign, and sends it.
func reply(s *scene, p *catest.Person, change func(*api.Ask), answer func(*api.Challenge) string) error {
	q := p.Want(catest.NewKey(s.T).PublicKey())
	if change != nil {
		change(&q)
	}
	ch, err := p.Client.Ask(context.Background(), q)
	if err != nil {
		return err
	}
	_, err = p.Client.SignRequest(context.Background(), ch.ID, api.Signed{SSHSIG: answer(ch)})
	return err
}

func replace(old, new string) func(string) string {
	return func(p string) string {
		if !strings.Contains(p, old) {
			panic("the policy has no " + old)
		}
		return strings.Replace(p, old, new, 1)
	}
}

func TestDenials(t *testing.T) {
	abroad := replace(`trusted = ["here"]`, `countries = ["DE"]`)
	for _, c := range []struct {
		what   string
		policy func(string) string
		geo    map[string]string
		do     func(s *scene) error
		code   string // of the problem
		reason string // typed, in the request.denied entry; "" means that no entry is written at all
	}{
		{"an unknown person is refused without an entry", nil, nil, func(s *scene) error {
			m := s.Stranger("mallory")
			return reply(s, m, nil, m.Sign)
		}, api.CodeRefused, ""},
		{"a stranger's key under a known name is refused without an entry", nil, nil, func(s *scene) error {
			m := s.Stranger("alice")
			return reply(s, m, nil, m.Sign)
		}, api.CodeRefused, ""},
		{"another person's enrolled key is refused without an entry", nil, nil, func(s *scene) error {
			return reply(s, s.alice, nil, s.Enrol("bob").Sign)
		}, api.CodeRefused, ""},
		{"no touch is recorded", nil, nil, func(s *scene) error {
			return reply(s, s.alice, nil, s.alice.SignSilently)
		}, api.CodeNoTouch, api.CodeNoTouch},
		{"no PIN is recorded", nil, nil, func(s *scene) error {
			return reply(s, s.alice, nil, func(ch *api.Challenge) string { return s.alice.SignText(ch.Statement, ch.Namespace, false) })
		}, api.CodeNoPIN, api.CodeNoPIN},
		{"no PIN is no fault where the policy waives it", replace(`[always]`, "[always]\nuv = false"), nil, func(s *scene) error {
			err := reply(s, s.alice, nil, func(ch *api.Challenge) string { return s.alice.SignText(ch.Statement, ch.Namespace, false) })
			if err != nil {
				return err
			}
			return &api.Problem{Code: "let in"}
		}, "let in", ""},
		{"a frozen counter is late, and a clone", nil, nil, func(s *scene) error {
			if err := reply(s, s.alice, nil, s.alice.Sign); err != nil {
				return err
			}
			s.clock.forward(2 * time.Second)
			s.alice.Key.SetFaults(softkey.Faults{FrozenCounter: true})
			return reply(s, s.alice, nil, s.alice.Sign)
		}, api.CodeLate, api.CodeLate},
		{"an answer that crossed a later one is late", nil, nil, func(s *scene) error {
			ctx := context.Background()
			first, err := s.alice.Client.Ask(ctx, s.alice.Want(catest.NewKey(s.T).PublicKey()))
			if err != nil {
				return err
			}
			old := s.alice.Sign(first)
			s.clock.forward(2 * time.Second)
			if err := reply(s, s.alice, nil, s.alice.Sign); err != nil {
				return err
			}
			_, err = s.alice.Client.SignRequest(ctx, first.ID, api.Signed{SSHSIG: old})
			return err
		}, api.CodeLate, api.CodeLate},
		{"a nonce is used once", nil, nil, func(s *scene) error {
			ctx := context.Background()
			ch, err := s.alice.Client.Ask(ctx, s.alice.Want(catest.NewKey(s.T).PublicKey()))
			if err != nil {
				return err
			}
			if _, err := s.alice.Client.SignRequest(ctx, ch.ID, api.Signed{SSHSIG: s.alice.Sign(ch)}); err != nil {
				return err
			}
			_, err = s.alice.Client.SignRequest(ctx, ch.ID, api.Signed{SSHSIG: s.alice.Sign(ch)})
			return err
		}, api.CodeExpired, ""},
		{"a nonce is used up by a failure too", nil, nil, func(s *scene) error {
			ctx := context.Background()
			ch, err := s.alice.Client.Ask(ctx, s.alice.Want(catest.NewKey(s.T).PublicKey()))
			if err != nil {
				return err
			}
			if _, err := s.alice.Client.SignRequest(ctx, ch.ID, api.Signed{SSHSIG: "nonsense"}); problem(s.T.(*testing.T), err).Code != api.CodeRefused {
				return err
			}
			_, err = s.alice.Client.SignRequest(ctx, ch.ID, api.Signed{SSHSIG: s.alice.Sign(ch)})
			return err
		}, api.CodeExpired, ""},
		{"an answer after a minute comes too late", nil, nil, func(s *scene) error {
			return reply(s, s.alice, nil, func(ch *api.Challenge) string {
				s.clock.forward(62 * time.Second)
				return s.alice.Sign(ch)
			})
		}, api.CodeExpired, ""},
		{"a changed statement is not the CA's", nil, nil, func(s *scene) error {
			return reply(s, s.alice, nil, func(ch *api.Challenge) string {
				return s.alice.SignText(strings.Replace(ch.Statement, "login: root", "login: toor", 1), ch.Namespace, true)
			})
		}, api.CodeRefused, ""},
		{"a signature for another namespace is none", nil, nil, func(s *scene) error {
			return reply(s, s.alice, nil, func(ch *api.Challenge) string { return s.alice.SignText(ch.Statement, "pass@breakglass", true) })
		}, api.CodeRefused, ""},
		{"a wrong country is told before anything else", abroad, map[string]string{"127.0.0.0/8": "FR"}, func(s *scene) error {
			return reply(s, s.alice, nil, s.alice.Sign)
		}, api.CodePlace, ""},
		{"an unknown country is a wrong one", abroad, map[string]string{"203.0.113.0/24": "DE"}, func(s *scene) error {
			return reply(s, s.alice, nil, s.alice.Sign)
		}, api.CodePlace, ""},
		{"without a database every country is unknown", abroad, nil, func(s *scene) error {
			return reply(s, s.alice, nil, s.alice.Sign)
		}, api.CodePlace, ""},
		{"a network that the rule does not name is recorded", func(p string) string {
			return replace(`minutes = 30`, "minutes = 30\nnetworks = [\"office\"]")(replace(`[networks]`, "[networks]\noffice = [\"198.51.100.0/24\"]")(p))
		}, nil, func(s *scene) error {
			return reply(s, s.alice, nil, s.alice.Sign)
		}, api.CodeDenied, "network_not_allowed"},
		{"a denied network is refused to everybody", func(p string) string {
			return replace(`trusted = ["here"]`, `deny_networks = ["here"]`)(p)
		}, nil, func(s *scene) error {
			return reply(s, s.alice, nil, s.alice.Sign)
		}, api.CodePlace, ""},
		{"a host that no rule opens is recorded", replace(`hosts = ["web01", "lb*"]`, `hosts = ["lb*"]`), nil, func(s *scene) error {
			return reply(s, s.alice, nil, s.alice.Sign)
		}, api.CodeDenied, "host_not_allowed"},
		{"a host that nobody knows is recorded", nil, nil, func(s *scene) error {
			return reply(s, s.alice, func(q *api.Ask) { q.Host = "nowhere" }, s.alice.Sign)
		}, api.CodeDenied, "unknown_host"},
		{"another login is recorded", nil, nil, func(s *scene) error {
			return reply(s, s.alice, func(q *api.Ask) { q.Login = "postgres" }, s.alice.Sign)
		}, api.CodeDenied, "login_not_allowed"},
		{"a person without a rule is recorded", nil, nil, func(s *scene) error {
			carol := s.Enrol("carol")
			return reply(s, carol, nil, carol.Sign)
		}, api.CodeDenied, "no_rule"},
		{"a short reason is recorded", nil, nil, func(s *scene) error {
			return reply(s, s.alice, func(q *api.Ask) { q.Reason = "down" }, s.alice.Sign)
		}, api.CodeDenied, "reason_too_short"},
		{"a forward that the rule does not list is recorded", nil, nil, func(s *scene) error {
			return reply(s, s.alice, func(q *api.Ask) { q.Forwards = []string{"local db02:5432"} }, s.alice.Sign)
		}, api.CodeDenied, "forwards_not_allowed"},
	} {
		t.Run(c.what, func(t *testing.T) {
			text := catest.Policy
			if c.policy != nil {
				text = c.policy(text)
			}
			s := &scene{clock: &clock{}}
			cfg := catest.Config{Policy: text, Now: s.clock.now}
			if c.geo != nil {
				cfg.Geo.Country = filepath.Join(t.TempDir(), "country.mmdb")
				catest.Must(t, geotest.Country(cfg.Geo.Country, time.Now().Add(-time.Hour), c.geo))
			}
			s.CA = catest.New(t, cfg)
			s.alice = s.Enrol("alice")
			err := c.do(s)
			p := problem(t, err)
			if p.Code != c.code {
				t.Errorf("code %s (%s), want %s", p.Code, p.Detail, c.code)
			}
			if p.Detail == "" && p.Code != "let in" {
				t.Error("a person reads nothing")
			}
			if c.reason != "" && len(p.Next) == 0 {
				t.Error("a person who signed is not told what to type next")
			}
			var denied []*ledger.Entry
			for _, e := range s.Entries() {
				if e.Type() == "request.denied" {
					denied = append(denied, e)
				}
			}
			switch {
			case c.reason == "" && len(denied) != 0:
				t.Errorf("an entry: %+v", denied[0].Facts)
			case c.reason != "" && len(denied) != 1:
				t.Errorf("%d entries of a denial", len(denied))
			case c.reason != "":
				f := denied[0].Facts.(*ledger.RequestDenied)
				if f.Reasons[0].Code != c.reason {
					t.Errorf("entry says %s, want %s", f.Reasons[0].Code, c.reason)
				}
				if denied[0].SSHSIG == "" || denied[0].Statement == "" {
					t.Error("the entry does not carry what was signed")
				}
				if f.Used.Policy.String() == strings.Repeat("0", 64) || len(f.Used.Addresses) == 0 {
					t.Error("the decision can't be replayed from the entry")
				}
			}
			s.Audit()
		})
	}
}

// TestStrangersReadOneText: who is enrolled can't be told from any answer.
func TestStrangersReadOneText(t *testing.T) {
	c := catest.New(t, catest.Config{})
	c.Enrol("alice")
	ask := func(who string) (*api.Challenge, *api.Problem) {
		m := c.Stranger(who)
		ch, err := m.Client.Ask(context.Background(), m.Want(catest.NewKey(t).PublicKey()))
		catest.Must(t, err)
		_, err = m.Client.SignRequest(context.Background(), ch.ID, api.Signed{SSHSIG: m.Sign(ch)})
		return ch, problem(t, err)
	}
	known, wrongKey := ask("alice")
	unknown, nobody := ask("mallory")
	_, noKeys := ask("bob") // in the policy, not enrolled
	if d := cmp.Diff(wrongKey, nobody) + cmp.Diff(wrongKey, noKeys); d != "" {
		t.Errorf("answers differ:\n%s", d)
	}
	again, _ := ask("mallory")
	if unknown.Keys[0].KeyFile == "" {
		t.Error("a decoy without its key file")
	}
	for _, ch := range []*api.Challenge{unknown, again} {
		for i := range ch.Keys {
			ch.Keys[i].KeyFile = "" // has random check bytes, a real key's too
		}
	}
	if d := cmp.Diff(unknown.Keys, again.Keys); d != "" {
		t.Errorf("a decoy changes:\n%s", d)
	}
	shape := func(ch *api.Challenge) []int {
		k := ch.Keys[0]
		lines := strings.Count(ch.Statement, "\n")
		return []int{lines, len(k.PublicKey), len(k.Application)} // how many there are says nothing: one or two, as people have
	}
	if d := cmp.Diff(shape(known), shape(unknown)); d != "" {
		t.Errorf("a decoy is told by its shape:\n%s", d)
	}
	// They wrote nothing; the minute's sum tells of them.
	before := len(c.Entries())
	c.Stop()
	var sums []ledger.StrangerCount
	for _, e := range c.Entries()[before:] {
		if f, ok := e.Facts.(*ledger.StrangersSummed); ok {
			sums = append(sums, f.Counts...)
		}
	}
	var n int64
	for _, s := range sums {
		n += s.Count
		if s.Network != "127.0.0.0/24" || s.Where != "ca" {
			t.Errorf("count %+v", s)
		}
	}
	if n < 4 {
		t.Errorf("the sum tells of %d refusals: %+v", n, sums)
	}
}

func TestClonedKeyIsSuspended(t *testing.T) {
	s := &scene{clock: &clock{}}
	s.CA = catest.New(t, catest.Config{Now: s.clock.now})
	s.alice = s.Enrol("alice")
	catest.Must(t, reply(s, s.alice, nil, s.alice.Sign))
	s.clock.forward(2 * time.Second)
	held, err := s.alice.Client.Ask(context.Background(), s.alice.Want(catest.NewKey(t).PublicKey()))
	catest.Must(t, err)
	s.alice.Key.SetFaults(softkey.Faults{FrozenCounter: true})
	if p := problem(t, reply(s, s.alice, nil, s.alice.Sign)); p.Code != api.CodeLate {
		t.Fatalf("a frozen counter: %v", p)
	}
	last := s.Entries()[len(s.Entries())-1]
	if _, ok := last.Facts.(*ledger.KeySuspended); !ok || last.Subject.Person != "alice" {
		t.Fatalf("no suspension: %s", last.Type())
	}
	s.alice.Key.SetFaults(softkey.Faults{})
	_, err = s.alice.Client.SignRequest(context.Background(), held.ID, api.Signed{SSHSIG: s.alice.Sign(held)})
	if p := problem(t, err); p.Code != api.CodeSuspended {
		t.Errorf("a suspended key: %v", p)
	}
	s.Audit()
}

func TestCrossedAnswersAreNoClone(t *testing.T) {
	s := &scene{clock: &clock{}}
	s.CA = catest.New(t, catest.Config{Now: s.clock.now})
	s.alice = s.Enrol("alice")
	first, err := s.alice.Client.Ask(context.Background(), s.alice.Want(catest.NewKey(t).PublicKey()))
	catest.Must(t, err)
	old := s.alice.Sign(first)
	s.clock.forward(2 * time.Second)
	catest.Must(t, reply(s, s.alice, nil, s.alice.Sign))
	if _, err := s.alice.Client.SignRequest(context.Background(), first.ID, api.Signed{SSHSIG: old}); problem(t, err).Code != api.CodeLate {
		t.Fatal(err)
	}
	for _, e := range s.Entries() {
		if e.Type() == "key.suspended" {
			t.Fatal("suspended")
		}
	}
	catest.Must(t, reply(s, s.alice, nil, s.alice.Sign))
	s.Audit()
}

const productionPolicy = `profile = "production"
[site]
name = "test"
owners = ["alice"]
operators = ["alice"]
readers = ["alice"]
[people.alice]
[always]
anonymous = "allow"
[jumps.jump-a]
address = ["127.0.0.1:2222"]
[hosts.web01]
address = ["127.0.0.1:2200"]
host_keys = ["` + catest.HostKey + `"]
[[rule]]
name = "r"
why = "because"
who = ["alice"]
hosts = ["web01"]
logins = ["root"]
minutes = 30
`

func TestAProductionPolicyWithoutModelsEnrolsNobody(t *testing.T) {
	c := catest.New(t, catest.Config{Policy: productionPolicy})
	token := c.Token("alice")
	before := len(c.Entries())
	if _, err := c.Stranger("alice").Spend(token, "soft"); problem(t, err).Code != api.CodeAttestation {
		t.Errorf("enrolment: %v", err)
	}
	if len(c.Entries()) != before {
		t.Error("it wrote something")
	}
	m := c.Stranger("alice")
	if _, err := m.Request("root", "web01"); problem(t, err).Code != api.CodeNotFounded {
		t.Errorf("request: %v", err)
	}
}

func TestInviteIsUsedOnce(t *testing.T) {
	clk := &clock{}
	c := catest.New(t, catest.Config{Now: clk.now})
	token := c.Token("alice")
	if _, err := c.Stranger("alice").Spend(token, "one"); err != nil {
		t.Fatal(err)
	}
	for what, tok := range map[string]api.Token{
		"used":     token,
		"unknown":  {Secret: strings.Repeat("A", 43)},
		"a jump's": c.JumpToken("jump-a"),
	} {
		if _, err := c.Stranger("alice").Spend(tok, "two"); problem(t, err).Code != api.CodeInvite {
			t.Errorf("%s: %v", what, err)
		}
	}
	late := c.Token("alice")
	clk.forward(25 * time.Hour)
	if _, err := c.Stranger("alice").Spend(late, "three"); problem(t, err).Code != api.CodeInvite {
		t.Errorf("expired: %v", err)
	}
	c.Audit()
}

func TestPlainConfigIsStrict(t *testing.T) {
	c := catest.New(t, catest.Config{})
	c.Stop()
	catest.Must(t, appendFile(filepath.Join(c.Dir, "config.toml"), "\nsurprise = 1\n"))
	if _, err := ca.Open(ca.Config{Dir: c.Dir}); err == nil || !strings.Contains(err.Error(), "surprise") {
		t.Errorf("an unknown key: %v", err)
	}
}
