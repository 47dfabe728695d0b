package ca_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"breakglass/ca/api"
	"breakglass/ca/catest"
	"breakglass/ledger"
	"breakglass/policy"
)

// withRule is catest.Policy with tables before [networks], keys in [always], and keys in the rule for web servers.
func withRule(tables, always, rule string) string {
	p := strings.Replace(catest.Policy, "[networks]", tables+"\n[networks]", 1)
	p = strings.Replace(p, "[always]", "[always]\n"+always, 1)
	return strings.Replace(p, `forwards = ["local db01:5432"]`, rule, 1)
}

// deniedBy demands a denial with these codes, and gives it.
func deniedBy(t *testing.T, err error, codes ...policy.Code) *api.Problem {
	t.Helper()
	p := problem(t, err)
	var got, want []string
	for _, r := range p.Reasons {
		got = append(got, r.Code)
	}
	for _, c := range codes {
		want = append(want, string(c))
	}
	if strings.Join(got, " ") != strings.Join(want, " ") {
		t.Fatalf("denied by %v, want %v: %s", got, want, p.Detail)
	}
	return p
}

// around is a window that is open from an hour before now to after.
func around(now time.Time, after time.Duration) string {
	return fmt.Sprintf("[windows.shift]\nzone = \"UTC\"\nfrom = %q\nto = %q\n", now.UTC().Add(-time.Hour).Format("15:04"), now.UTC().Add(after).Format("15:04"))
}

// TestWindowCloses: a request outside of the rule's window is refused and recorded, and a grant from within it opens no session after: what the
// policy says now decides.
func TestWindowCloses(t *testing.T) {
	s := &stage{clock: &clock{}}
	s.CA = catest.New(t, catest.Config{Policy: withRule(around(time.Now(), 10*time.Minute), "", `when = ["shift"]`), Now: s.clock.now})
	s.alice, s.bob, s.jump = s.Enrol("alice"), s.Enrol("bob"), s.Join("jump-a")
	_, err := s.bob.Recipient("age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p")
	catest.Must(t, err)
	g := s.grant(t)
	_, err = s.jump.Open(s.jump.Question(g))
	catest.Must(t, err)
	s.clock.forward(12 * time.Minute)
	q := s.jump.Question(g)
	q.Issued = s.clock.now().UTC().Truncate(time.Second)
	_, err = s.jump.Open(q)
	deniedBy(t, err, policy.OutsideWindow)
	_, err = s.alice.Request("root", "web01")
	p := deniedBy(t, err, policy.OutsideWindow)
	if len(p.Next) != 1 || !strings.HasPrefix(p.Next[0], "opens ") || !strings.HasSuffix(p.Next[0], " UTC") {
		t.Errorf("next is %q", p.Next)
	}
	s.Audit()
}

// TestOnCallFile: who is on call is what the file says at the moment of the decision, and nobody is by a file that is missing, broken or old.
func TestOnCallFile(t *testing.T) {
	clock := &clock{}
	c := catest.New(t, catest.Config{Policy: withRule("[oncall.sre]\nfile = \"lists/sre.txt\"\nmax_age = \"12h\"\n", "", `oncall = ["sre"]`), Now: clock.now})
	alice := c.Enrol("alice")
	file := filepath.Join(c.Dir, "lists", "sre.txt")
	catest.Must(t, os.MkdirAll(filepath.Dir(file), 0o700))
	put := func(text string, age time.Duration) func() {
		return func() {
			catest.Must(t, os.WriteFile(file+".new", []byte(text), 0o600))
			at := clock.now().Add(-age)
			catest.Must(t, os.Chtimes(file+".new", at, at))
			catest.Must(t, os.Rename(file+".new", file))
		}
	}
	rewrite := func(text string) func() { // in place, at the same length and within a tick of the clock
		return func() { catest.Must(t, os.WriteFile(file, []byte(text), 0o600)) }
	}
	span := func(from, to time.Duration) string {
		return "alice " + time.Now().Add(from).UTC().Format(time.RFC3339) + " " + time.Now().Add(to).UTC().Format(time.RFC3339) + "\n"
	}
	for _, x := range []struct {
		what   string
		change func()
		code   policy.Code // "": let in
		detail string
		people int // on call, as the status has it
	}{
		{"there is no file", func() {}, policy.OnCallUnknown, "there is no such file", 0},
		{"alice is on call", put("alice\nbob\n", 0), "", "", 2},
		{"she isn't any more", put("bob\n", 0), policy.NotOnCall, "", 1},
		{"she is, by a file of the same size written in place", rewrite("alice\n"), "", "", 1},
		{"she isn't, by another of them", rewrite("carol\n"), policy.NotOnCall, "", 1},
		{"her turn runs", put(span(-time.Hour, time.Hour), 0), "", "", 1},
		{"her turn is over", put(span(-2*time.Hour, -time.Hour), 0), policy.NotOnCall, "", 0},
		{"the file is old", put("alice\n", 13*time.Hour), policy.OnCallUnknown, "is older than 12h", 0},
		{"not so old", put("alice\n", 11*time.Hour), "", "", 1},
		{"the file is from the future", put("alice\n", -time.Hour), policy.OnCallUnknown, "comes from the future", 0},
		{"a line of it is broken", put("alice\nbob at night\n", 0), policy.OnCallUnknown, "line 2", 0},
		{"it is too long", put(strings.Repeat("alice\n", 200_000), 0), policy.OnCallUnknown, "more than", 0},
		{"it is empty", put("", 0), policy.NotOnCall, "", 0},
		{"it is a directory", func() { catest.Must(t, os.Remove(file)); catest.Must(t, os.Mkdir(file, 0o700)) }, policy.OnCallUnknown, "no regular file", 0},
		{"it is good again", func() { catest.Must(t, os.Remove(file)); put("alice\n", 0)() }, "", "", 1},
		{"it is gone", func() { catest.Must(t, os.Remove(file)) }, policy.OnCallUnknown, "there is no such file", 0},
	} {
		clock.forward(2 * time.Minute) // ten refusals within ten minutes would lock alice out
		x.change()
		_, err := alice.Request("root", "web01")
		if x.code == "" {
			if err != nil {
				t.Fatalf("%s: %v", x.what, err)
			}
		} else if p := deniedBy(t, err, x.code); !strings.Contains(p.Detail, x.detail) || strings.Contains(p.Detail, c.Dir) {
			t.Errorf("%s: %s", x.what, p.Detail)
		}
		st, err := c.Status(context.Background())
		catest.Must(t, err)
		if len(st.OnCall) != 1 || st.OnCall[0].People != x.people || (st.OnCall[0].Fault == "") != (x.code != policy.OnCallUnknown) || !strings.Contains(st.OnCall[0].Fault, x.detail) {
			t.Errorf("%s: the status says %+v", x.what, st.OnCall)
		}
	}
	c.Audit()
}

// TestDeclaredAtTheCA: what is declared is in the signed statement, and a denial names what this site knows.
func TestDeclaredAtTheCA(t *testing.T) {
	s := &scene{clock: &clock{}}
	s.CA = catest.New(t, catest.Config{Policy: withRule("[failures.sso-down]\nwhy = \"Nobody can log in.\"\n[failures.vpn-down]\nwhy = \"Nobody gets in.\"\n",
		`severities = ["sev1", "sev2"]`, "failures = [\"sso-down\"]\nseverities = [\"sev1\"]"), Now: s.clock.now})
	s.alice = s.Enrol("alice")
	declare := func(severity, failure string) error {
		return reply(s, s.alice, func(q *api.Ask) { q.Severity, q.Failure = severity, failure }, s.alice.Sign)
	}
	catest.Must(t, declare("sev1", "sso-down"))
	if p := deniedBy(t, declare("sev9", "sso"), policy.SeverityUnknown, policy.FailureUnknown); !strings.Contains(strings.Join(p.Next, "\n"), "--severity takes sev1, sev2\n--failure takes sso-down, vpn-down") {
		t.Errorf("next is %q", p.Next)
	}
	deniedBy(t, declare("sev2", "vpn-down"), policy.SeverityNotAllowed, policy.FailureNotAllowed)
	deniedBy(t, declare("", ""), policy.SeverityNotAllowed, policy.FailureMissing)
	s.Audit()
}

// TestMaxGrantsAtTheCA: a person's grant beyond the number is refused until one of theirs is ended, revoked or over; an extension is of one that
// they have, and a session opens under it.
func TestMaxGrantsAtTheCA(t *testing.T) {
	s := &stage{clock: &clock{}}
	s.CA = catest.New(t, catest.Config{Policy: withRule("", "max_grants = 2", ""), Now: s.clock.now})
	s.alice, s.bob, s.jump = s.Enrol("alice"), s.Enrol("bob"), s.Join("jump-a")
	_, err := s.bob.Recipient("age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p")
	catest.Must(t, err)
	first, second := s.grant(t), s.grant(t)
	_, err = s.alice.Request("root", "web01")
	if p := deniedBy(t, err, policy.TooManyGrants); !strings.Contains(strings.Join(p.Next, " "), "breakglass end "+string(first.ID)) &&
		!strings.Contains(strings.Join(p.Next, " "), "breakglass end "+string(second.ID)) { // either of them makes room
		t.Errorf("next is %q", p.Next)
	}
	_, err = s.jump.Open(s.jump.Question(first))
	catest.Must(t, err)

	s.clock.forward(5 * time.Minute)
	again := catest.Again(s.alice.Want(first.Key.PublicKey()), "extend", first.ID, 0)
	_, err = s.alice.Signed(again)
	catest.Must(t, err)

	_, err = s.Client(second.Key).End(context.Background(), second.ID, api.StopAsk{Why: "done"})
	catest.Must(t, err)
	third := s.grant(t)
	_, err = s.alice.Request("root", "web01")
	deniedBy(t, err, policy.TooManyGrants)
	pass, err := s.bob.Pass()
	catest.Must(t, err)
	_, err = pass.Kill(context.Background(), third.ID, api.StopAsk{Why: "what is this"})
	catest.Must(t, err)
	s.grant(t)
	_, err = s.alice.Request("root", "web01")
	deniedBy(t, err, policy.TooManyGrants)
	s.clock.forward(31 * time.Minute) // all are over
	s.grant(t)
	s.Audit()
}

// TestMaxGrantsOfARule: grants of anybody count.
func TestMaxGrantsOfARule(t *testing.T) {
	text := strings.Replace(withRule("", "", "max_grants = 1"), "[people.carol]", "[people.carol]\ngroups = [\"oncall\"]", 1)
	c := catest.New(t, catest.Config{Policy: text})
	alice, carol := c.Enrol("alice"), c.Enrol("carol")
	g, err := alice.Request("root", "web01")
	catest.Must(t, err)
	_, err = carol.Request("root", "web01")
	if p := deniedBy(t, err, policy.TooManyGrants); strings.Contains(strings.Join(p.Next, " "), string(g.ID)) {
		t.Errorf("carol is told of alice's grant: %q", p.Next)
	}
	_, err = c.Client(g.Key).End(context.Background(), g.ID, api.StopAsk{Why: "done"})
	catest.Must(t, err)
	_, err = carol.Request("root", "web01")
	catest.Must(t, err)
	c.Audit()
}

// TestMaxGrantsRace: of many requests at once, as many are granted as there are places: of one person with several keys, and of a hundred people on
// one rule.
func TestMaxGrantsRace(t *testing.T) {
	const places = 3
	for _, x := range []struct {
		what, policy string
		people       []string
	}{
		{"a person's", withRule("", "max_grants = 3", ""), slices.Repeat([]string{"alice"}, 9)}, // a tenth refusal would lock alice out
		{"a rule's", withRule("", "", "max_grants = 3"), nil},
	} {
		if x.people == nil {
			for i := range racers {
				x.people = append(x.people, fmt.Sprintf("p-%02d", i))
				x.policy += fmt.Sprintf("\n[people.p-%02d]\ngroups = [\"oncall\"]\n", i)
			}
		}
		c := catest.New(t, catest.Config{Policy: x.policy, Limits: many})
		var all []func() error
		for i, who := range x.people {
			p := c.Stranger(who)
			_, err := p.Spend(c.Token(who), fmt.Sprintf("soft-%d", i))
			catest.Must(t, err)
			ch, err := p.Client.Ask(ctx, p.Want(catest.NewKey(t).PublicKey()))
			catest.Must(t, err)
			answer, cl := p.Sign(ch), own(t, c)
			all = append(all, func() error { _, err := cl.SignRequest(ctx, ch.ID, api.Signed{SSHSIG: answer}); return err })
		}
		if won, lost := race(t, all); won != places || lost[api.CodeDenied] != len(all)-places {
			t.Errorf("%s: %d won; the losers read %v", x.what, won, lost)
		}
		granted := 0
		for _, e := range c.Entries() {
			if _, ok := e.Facts.(*ledger.GrantAllowed); ok {
				granted++
			}
		}
		if granted != places {
			t.Errorf("%s: %d grants", x.what, granted)
		}
		c.Audit()
	}
}
