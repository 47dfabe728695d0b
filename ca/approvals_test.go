package ca_test

import (
	"context"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"breakglass/ca/api"
	"breakglass/ca/catest"
	"breakglass/internal/name"
	"breakglass/internal/softkey"
	"breakglass/internal/statement"
	"breakglass/ledger"
)

// emergency is catest.Policy with a database that two leads open, or, after ten minutes, nobody's answer.
func emergency(more string) string {
	p := strings.Replace(catest.Policy, "[people.carol]", "[people.carol]\n[people.dan]\n[people.erin]\n[people.olga]", 1)
	p = strings.Replace(p, `owners = ["alice"]`, `owners = ["alice"]`, 1)
	return p[:strings.Index(p, "[[rule]]\nname = \"oncall-db\"")] + `[[rule]]
name = "oncall-db"
why = "A database takes two leads."
who = ["@oncall", "erin"]
hosts = ["db01"]
logins = ["root"]
minutes = 10
approvals = 2
approvers = ["bob", "carol", "dan", "erin"]
wait = "30m"
` + more
}

// court is a CA with people who approve.
type court struct {
	*catest.CA
	t                            *testing.T
	clock                        *clock
	alice, bob, carol, dan, olga *catest.Person
}

func newCourt(t *testing.T, more string) *court {
	c := &court{t: t, clock: &clock{}}
	c.CA = catest.New(t, catest.Config{Policy: emergency(more), Now: c.clock.now, Logger: slog.New(slog.NewTextHandler(t.Output(), nil))})
	c.alice, c.bob, c.carol, c.dan, c.olga = c.Enrol("alice"), c.Enrol("bob"), c.Enrol("carol"), c.Enrol("dan"), c.Enrol("olga")
	return c
}

// ask has alice ask for the database.
func (c *court) ask() *catest.Asked {
	c.t.Helper()
	a, err := c.alice.Ask("root", "db01", nil)
	catest.Must(c.t, err)
	if a.Waiting == nil {
		c.t.Fatal("let in at once")
	}
	return a
}

func (c *court) yes(p *catest.Person, a *catest.Asked) *api.ApprovalState {
	c.t.Helper()
	s, err := p.Verdict(a, statement.Approve, nil)
	catest.Must(c.t, err)
	return s
}

// types lists the types of the entries about a request, in order.
func (c *court) types(id name.RequestID) []string {
	var out []string
	for _, e := range c.Entries() {
		if e.Subject.Request == id {
			out = append(out, string(e.Type()))
		}
	}
	return out
}

func (c *court) wantTypes(id name.RequestID, want ...string) {
	c.t.Helper()
	if got := c.types(id); !slices.Equal(got, want) {
		c.t.Errorf("entries %v, want %v", got, want)
	}
}

func TestTwoApprovalsOpenADatabase(t *testing.T) {
	c := newCourt(t, "")
	a := c.ask()
	if a.Needed != 2 || a.Given != 0 || a.Rule != "oncall-db" || len(a.Approvers) != 4 || !a.OverrideAt.IsZero() || a.Expires.Sub(a.Now).Round(time.Second) != 30*time.Minute {
		t.Errorf("%+v", a.Waiting)
	}
	c.wantTypes(a.ID, "request.opened")
	if s := c.yes(c.carol, a); s.State != "open" || s.Given != 1 || s.Needed != 2 {
		t.Errorf("%+v", s)
	}
	c.clock.forward(5 * time.Minute)
	if s := c.yes(c.dan, a); s.State != "allowed" || s.Until.IsZero() {
		t.Errorf("%+v", s)
	}
	c.wantTypes(a.ID, "request.opened", "approval.given", "approval.given", "grant.allowed", "certificate.issued")
	s, err := a.State()
	catest.Must(t, err)
	if s.State != "allowed" || len(s.Said) != 2 || s.Said[0].Person != "carol" || !slices.Equal(s.Granted.Approved, []name.Person{"carol", "dan"}) {
		t.Errorf("%+v", s)
	}
	// The minutes start with the last approval, not with the ask.
	if left := s.Granted.Until.Sub(c.clock.now()); left < 9*time.Minute || left > 10*time.Minute {
		t.Errorf("%v left of ten minutes", left)
	}
	// A grant on approvals opens sessions: what it stood on is remembered, also when the approvals count no longer.
	_, err = c.bob.Recipient("age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p")
	catest.Must(t, err)
	j := c.Join("jump-a")
	c.clock.forward(9 * time.Minute)
	g, err := a.Grant()
	catest.Must(t, err)
	if _, err := j.Open(j.Question(g)); err != nil {
		t.Error(err)
	}
	c.Audit()
}

// TestApprovalsRefused: each with its own typed reason, and an entry, for each was signed.
func TestApprovalsRefused(t *testing.T) {
	approve := func(p func(*court) *catest.Person, change func(*court, *api.ApprovalAsk)) func(*court, *catest.Asked) error {
		return func(c *court, a *catest.Asked) error {
			_, err := p(c).Verdict(a, statement.Approve, func(q *api.ApprovalAsk) {
				if change != nil {
					change(c, q)
				}
			})
			return err
		}
	}
	carol := func(c *court) *catest.Person { return c.carol }
	for _, x := range []struct {
		what string
		do   func(*court, *catest.Asked) error
		code string
	}{
		{"the requester", approve(func(c *court) *catest.Person { return c.alice }, nil), api.CodeOwnRequest},
		{"somebody whom the rule does not name", approve(func(c *court) *catest.Person { return c.olga }, nil), api.CodeNotApprover},
		{"one person twice", func(c *court, a *catest.Asked) error {
			c.yes(c.carol, a)
			return approve(carol, nil)(c, a)
		}, api.CodeApproved},
		{"a hash of something else", approve(carol, func(_ *court, q *api.ApprovalAsk) { q.Hash[0] ^= 1 }), api.CodeOtherRequest},
		{"another request's hash", approve(carol, func(c *court, q *api.ApprovalAsk) {
			s, err := c.ask().State()
			catest.Must(c.t, err)
			q.Hash = s.Signed
		}), api.CodeOtherRequest},
		{"a request that there is not", approve(carol, func(_ *court, q *api.ApprovalAsk) { q.Of = "zzz-zzz" }), api.CodeNotFound},
		{"no request id", approve(carol, func(_ *court, q *api.ApprovalAsk) { q.Of = "../x" }), api.CodeBadRequest},
		{"a request that nobody decided in its time", func(c *court, a *catest.Asked) error {
			c.clock.forward(31 * time.Minute)
			return approve(carol, nil)(c, a)
		}, api.CodeRequestExpired},
		{"a request that was decided", func(c *court, a *catest.Asked) error {
			c.yes(c.carol, a)
			c.yes(c.bob, a)
			return approve(func(c *court) *catest.Person { return c.dan }, nil)(c, a)
		}, api.CodeDecided},
		{"a request that was let in at once", func(c *court, a *catest.Asked) error {
			g, err := c.alice.Request("root", "web01")
			catest.Must(c.t, err)
			return approve(carol, func(_ *court, q *api.ApprovalAsk) { q.Of = string(g.ID) })(c, a)
		}, api.CodeDecided},
		{"no touch", func(c *court, a *catest.Asked) error {
			s, err := a.State()
			catest.Must(c.t, err)
			ch, err := c.carol.Client.Approve(context.Background(), api.ApprovalAsk{Person: "carol", About: statement.AboutRequest, Of: string(a.ID), Hash: s.Signed, Verdict: statement.Approve})
			catest.Must(c.t, err)
			_, err = c.carol.Client.SignApproval(context.Background(), ch.ID, api.Signed{SSHSIG: c.carol.SignSilently(ch)})
			return err
		}, api.CodeNoTouch},
		{"a suspended key", func(c *court, a *catest.Asked) error {
			_, err := c.carol.Pass()
			catest.Must(c.t, err)
			c.clock.forward(2 * time.Second)
			s, err := a.State()
			catest.Must(c.t, err)
			q := api.ApprovalAsk{Person: "carol", About: statement.AboutRequest, Of: string(a.ID), Hash: s.Signed, Verdict: statement.Approve}
			early, err := c.carol.Client.Approve(context.Background(), q) // after the suspension no key is asked any more
			catest.Must(c.t, err)
			c.carol.Key.SetFaults(softkey.Faults{FrozenCounter: true})
			if _, err := c.carol.Pass(); err == nil {
				c.t.Fatal("a frozen counter was taken")
			}
			_, err = c.carol.Client.SignApproval(context.Background(), early.ID, api.Signed{SSHSIG: c.carol.Sign(early)})
			return err
		}, api.CodeSuspended},
	} {
		t.Run(x.what, func(t *testing.T) {
			c := newCourt(t, "")
			a := c.ask()
			p := problem(t, x.do(c, a))
			if p.Code != x.code || p.Detail == "" || len(p.Next) == 0 && x.code != api.CodeBadRequest {
				t.Errorf("%s: %q, next %q; want %s", p.Code, p.Detail, p.Next, x.code)
			}
			var last *ledger.ActDenied
			for _, e := range c.Entries() {
				if f, ok := e.Facts.(*ledger.ActDenied); ok {
					last = f
				}
			}
			if last == nil || last.Reasons[0].Code != x.code {
				t.Errorf("entry %+v", last)
			}
			if s, err := a.State(); err != nil || s.State == "allowed" != (x.code == api.CodeDecided && s.Granted != nil) {
				t.Errorf("%+v, %v", s, err)
			}
			c.Audit()
		})
	}
}

// TestAnUnsignedAskTellsNothing: about requests that there are and that there are not, about people who may and who don't exist.
func TestAnUnsignedAskTellsNothing(t *testing.T) {
	c := newCourt(t, "")
	a := c.ask()
	before := len(c.Raw())
	for _, person := range []string{"carol", "alice", "olga", "nobody"} {
		for _, of := range []string{string(a.ID), "zzz-zzz", "nonsense"} {
			ch, err := c.carol.Client.Approve(context.Background(), api.ApprovalAsk{Person: person, About: statement.AboutRequest, Of: of, Verdict: statement.Approve})
			if err != nil || !strings.Contains(ch.Statement, "of: "+of+"\n") || len(ch.Keys) == 0 {
				t.Errorf("%s about %s: %+v, %v", person, of, ch, err)
			}
		}
	}
	for _, kind := range []string{statement.RequestOverride, statement.RequestExtend} {
		if _, err := c.carol.Client.Ask(context.Background(), catest.Again(a.Ask, kind, "zzz-zzz", 0)); err != nil {
			t.Errorf("%s of a request that there is not: %v", kind, err)
		}
	}
	if after := len(c.Raw()); after != before {
		t.Errorf("%d entries by strangers", after-before)
	}
}

func TestAnApprovalIsWithdrawnByANo(t *testing.T) {
	c := newCourt(t, "")
	a := c.ask()
	c.yes(c.carol, a)
	if s, err := c.carol.Verdict(a, statement.Deny, func(q *api.ApprovalAsk) { q.Comment = "not before the backup" }); err != nil || s.State != "open" || s.Given != 0 {
		t.Fatalf("%+v, %v", s, err)
	}
	if s := c.yes(c.dan, a); s.State != "open" || s.Given != 1 {
		t.Errorf("a withdrawn approval counts: %+v", s)
	}
	s, err := a.State()
	catest.Must(t, err)
	if len(s.Said) != 2 || s.Said[0].Verdict != statement.Deny || s.Said[0].Comment != "not before the backup" {
		t.Errorf("the requester is not shown the no: %+v", s.Said)
	}
	if s := c.yes(c.carol, a); s.State != "allowed" {
		t.Errorf("who thought better of it: %+v", s)
	}
	c.Audit()
}

func TestAnApprovalCountsForTenMinutes(t *testing.T) {
	c := newCourt(t, "")
	a := c.ask()
	c.yes(c.carol, a)
	c.clock.forward(11 * time.Minute)
	if s := c.yes(c.dan, a); s.State != "open" || s.Given != 1 {
		t.Errorf("%+v", s)
	}
	if s := c.yes(c.carol, a); s.State != "allowed" { // said again
		t.Errorf("%+v", s)
	}
	c.Audit()
}

func TestAVetoEndsTheRequest(t *testing.T) {
	c := newCourt(t, "veto = true\n")
	a := c.ask()
	c.yes(c.carol, a)
	s, err := c.bob.Verdict(a, statement.Deny, nil)
	if err != nil || s.State != "denied" || len(s.Reasons) == 0 || s.Reasons[0].Code != "vetoed" {
		t.Fatalf("%+v, %v", s, err)
	}
	c.wantTypes(a.ID, "request.opened", "approval.given", "approval.given", "request.denied")
	if st, err := a.State(); err != nil || st.State != "denied" || st.Problem == nil || st.Problem.Reasons[0].Code != "vetoed" {
		t.Errorf("%+v, %v", st, err)
	}
	if _, err := c.dan.Verdict(a, statement.Approve, nil); problem(t, err).Code != api.CodeDecided {
		t.Error(err)
	}
	c.Audit()
}

// TestTheLastApprovalDecidesAnew: on the facts of that moment, here the requester's key, which was suspended meanwhile.
func TestTheLastApprovalDecidesAnew(t *testing.T) {
	c := newCourt(t, "")
	a := c.ask()
	c.yes(c.carol, a)
	c.clock.forward(2 * time.Second)
	_, err := c.alice.Pass()
	catest.Must(t, err)
	c.clock.forward(2 * time.Second)
	c.alice.Key.SetFaults(softkey.Faults{FrozenCounter: true})
	if _, err := c.alice.Pass(); err == nil {
		t.Fatal("a frozen counter was taken")
	}
	s := c.yes(c.dan, a)
	if s.State != "denied" || s.Reasons[0].Code != "key_suspended" {
		t.Errorf("%+v", s)
	}
	if types := c.types(a.ID); types[len(types)-1] != "request.denied" {
		t.Errorf("entries %v", types)
	}
	c.Audit()
}

func TestAnOverrideGoesOnWithoutApprovals(t *testing.T) {
	c := newCourt(t, "override = \"after 10m\"\n")
	a := c.ask()
	if a.OverrideAt.Sub(a.Now).Round(time.Second) != 10*time.Minute {
		t.Errorf("%+v", a.Waiting)
	}
	again := catest.Again(a.Ask, statement.RequestOverride, a.ID, 0)
	if _, err := c.alice.Signed(again); problem(t, err).Code != api.CodeDenied || problem(t, err).Reasons[0].Code != "override_too_early" {
		t.Errorf("early: %v", err)
	}
	c.clock.forward(9*time.Minute + 50*time.Second)
	c.yes(c.carol, a)
	for what, x := range map[string]struct {
		change func(*api.Ask)
		code   string
	}{
		"more minutes":                 {func(q *api.Ask) { q.Minutes = 60 }, api.CodeOtherRequest},
		"another host":                 {func(q *api.Ask) { q.Host = "web01" }, api.CodeOtherRequest},
		"another login":                {func(q *api.Ask) { q.Login = "postgres" }, api.CodeOtherRequest},
		"another reason":               {func(q *api.Ask) { q.Reason += " and more" }, api.CodeOtherRequest},
		"another ticket":               {func(q *api.Ask) { q.Ticket = "INC-1" }, api.CodeOtherRequest},
		"another client key":           {func(q *api.Ask) { q.ClientKey = catest.Line(catest.NewKey(t).PublicKey()) }, api.CodeOtherRequest},
		"a forward more":               {func(q *api.Ask) { q.Forwards = []string{"local db01:5432"} }, api.CodeOtherRequest},
		"as a drill":                   {func(q *api.Ask) { q.Drill = "d1" }, api.CodeOtherRequest},
		"a request that there is not":  {func(q *api.Ask) { q.Of = "zzz-zzz" }, api.CodeNotFound},
		"a request of somebody else's": {func(q *api.Ask) { q.Person = "bob" }, api.CodeNotFound},
	} {
		q := again
		x.change(&q)
		who := c.alice
		if q.Person == "bob" {
			who = c.bob
		}
		if _, err := who.Signed(q); problem(t, err).Code != x.code {
			t.Errorf("%s: %v", what, err)
		}
	}
	c.clock.forward(15 * time.Second)
	g, err := c.alice.Signed(again)
	catest.Must(t, err)
	if g.ID != a.ID || g.Overridden != 1 {
		t.Errorf("%+v", g)
	}
	c.wantTypes(a.ID, "request.opened", "approval.given", "request.overridden", "grant.allowed", "certificate.issued")
	if _, err := c.alice.Signed(again); problem(t, err).Code != api.CodeDecided {
		t.Errorf("twice: %v", err)
	}
	_, err = c.bob.Recipient("age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p")
	catest.Must(t, err)
	j := c.Join("jump-a")
	if _, err := j.Open(j.Question(&catest.Grant{Granted: g, Key: a.Key})); err != nil {
		t.Error(err)
	}
	if s, err := a.State(); err != nil || s.Granted.Overridden != 1 || len(s.Sessions) != 1 || !s.Sessions[0].Overridden {
		t.Errorf("the flag is not shown: %+v, %v", s, err)
	}
	c.Audit()
}

func TestAnOverrideWaivesNoNo(t *testing.T) {
	c := newCourt(t, "override = \"after 1m\"\nveto = true\n")
	a := c.ask()
	_, err := c.carol.Verdict(a, statement.Deny, nil)
	catest.Must(t, err)
	c.clock.forward(2 * time.Minute)
	if _, err := c.alice.Signed(catest.Again(a.Ask, statement.RequestOverride, a.ID, 0)); problem(t, err).Code != api.CodeDecided {
		t.Error(err)
	}
	none := newCourt(t, "")
	b := none.ask()
	none.clock.forward(20 * time.Minute)
	if _, err := none.alice.Signed(catest.Again(b.Ask, statement.RequestOverride, b.ID, 0)); problem(t, err).Code != api.CodeDenied {
		t.Errorf("a rule without override: %v", err)
	}
	c.Audit()
	none.Audit()
}

func TestAnExtensionMovesTheEnd(t *testing.T) {
	c := newCourt(t, "")
	key := catest.NewKey(t)
	q := c.alice.Want(key.PublicKey())
	q.Minutes = 5
	g, err := c.alice.Signed(q)
	catest.Must(t, err)
	_, err = c.bob.Recipient("age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p")
	catest.Must(t, err)
	j := c.Join("jump-a")
	for what, x := range map[string]struct {
		q    api.Ask
		code string
	}{
		"to no later end":           {catest.Again(q, statement.RequestExtend, g.ID, 1), api.CodeNotLonger},
		"for another host":          {func() api.Ask { y := catest.Again(q, statement.RequestExtend, g.ID, 20); y.Host = "lb1"; return y }(), api.CodeOtherRequest},
		"a grant that there is not": {catest.Again(q, statement.RequestExtend, "zzz-zzz", 20), api.CodeNotFound},
		"a request that only waits": {catest.Again(q, statement.RequestExtend, c.ask().ID, 20), api.CodeGrantEnded},
		"with another client key": {func() api.Ask {
			y := catest.Again(q, statement.RequestExtend, g.ID, 20)
			y.ClientKey = catest.Line(catest.NewKey(t).PublicKey())
			return y
		}(), api.CodeOtherRequest},
		"with a reason of three words": {func() api.Ask {
			y := catest.Again(q, statement.RequestExtend, g.ID, 20)
			y.Reason = "because I say"
			return y
		}(), api.CodeDenied},
	} {
		if _, err := c.alice.Signed(x.q); problem(t, err).Code != x.code {
			t.Errorf("%s: %v, want %s", what, err, x.code)
		}
	}
	c.clock.forward(3 * time.Minute)
	ext, err := c.alice.Signed(catest.Again(q, statement.RequestExtend, g.ID, 20))
	catest.Must(t, err)
	if ext.ID != g.ID || ext.Minutes != 20 || !ext.Until.After(g.Until) || ext.Certificate == g.Certificate {
		t.Errorf("%+v", ext)
	}
	c.wantTypes(g.ID, "request.opened", "grant.allowed", "certificate.issued", "grant.extended", "certificate.issued")
	// The certificate from before opens sessions until its own end; the new one later, too.
	old := &catest.Grant{Granted: g, Key: key}
	if a, err := j.Open(j.Question(old)); err != nil || !a.Opened.Until.Equal(ext.Until) {
		t.Errorf("%+v, %v", a, err)
	}
	c.clock.forward(10 * time.Minute)
	if _, err := j.Open(j.Question(old)); problem(t, err).Code != api.CodeSession {
		t.Errorf("the old certificate after its end: %v", err)
	}
	if _, err := j.Open(j.Question(&catest.Grant{Granted: ext, Key: key})); err != nil {
		t.Error(err)
	}
	c.clock.forward(11 * time.Minute)
	if _, err := c.alice.Signed(catest.Again(q, statement.RequestExtend, g.ID, 20)); problem(t, err).Code != api.CodeGrantEnded {
		t.Errorf("after the end: %v", err)
	}
	c.Audit()
}

// TestAnExtensionNeedsApprovalsAgain: under an id of its own, while the grant goes on.
func TestAnExtensionNeedsApprovalsAgain(t *testing.T) {
	c := newCourt(t, "")
	a := c.ask()
	c.yes(c.carol, a)
	c.yes(c.dan, a)
	c.clock.forward(4 * time.Minute)
	ext, err := c.alice.Ask("root", "db01", func(q *api.Ask) { *q = catest.Again(a.Ask, statement.RequestExtend, a.ID, 0) })
	catest.Must(t, err)
	if ext.Waiting == nil || ext.Waiting.Of != a.ID || ext.Waiting.Given != 0 {
		t.Fatalf("%+v", ext.Waiting)
	}
	ext.Reader = a.Reader // the client key is the grant's
	if _, err := c.carol.Verdict(a, statement.Approve, nil); problem(t, err).Code != api.CodeDecided {
		t.Errorf("the grant's own approvals again: %v", err)
	}
	c.yes(c.carol, ext)
	if s := c.yes(c.bob, ext); s.State != "allowed" {
		t.Errorf("%+v", s)
	}
	s, err := a.State()
	catest.Must(t, err)
	if left := s.Granted.Until.Sub(c.clock.now()); left < 9*time.Minute {
		t.Errorf("%v left", left)
	}
	late, err := c.alice.Ask("root", "db01", func(q *api.Ask) { *q = catest.Again(a.Ask, statement.RequestExtend, a.ID, 0) })
	if err == nil && late.Waiting == nil {
		t.Fatal("no wait")
	}
	if err != nil && problem(t, err).Code != api.CodeNotLonger {
		t.Fatal(err)
	}
	_, err = c.bob.Recipient("age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p")
	catest.Must(t, err)
	j := c.Join("jump-a")
	g, err := a.Grant()
	catest.Must(t, err)
	if _, err := j.Open(j.Question(g)); err != nil {
		t.Errorf("a session of an extended grant: %v", err)
	}
	c.Audit()
}

func TestAnExtensionApprovedTooLateEndsDenied(t *testing.T) {
	c := newCourt(t, "")
	a := c.ask()
	c.yes(c.carol, a)
	c.yes(c.dan, a)
	c.clock.forward(4 * time.Minute)
	ext, err := c.alice.Ask("root", "db01", func(q *api.Ask) { *q = catest.Again(a.Ask, statement.RequestExtend, a.ID, 0) })
	catest.Must(t, err)
	ext.Reader = a.Reader
	c.yes(c.carol, ext)
	c.clock.forward(7 * time.Minute)
	if s := c.yes(c.dan, ext); s.State != "denied" || s.Reasons[0].Code != api.CodeGrantEnded {
		t.Errorf("%+v", s)
	}
	c.Audit()
}

func TestAPersonHasFewRequestsWaiting(t *testing.T) {
	c := newCourt(t, "")
	for range 8 {
		c.ask()
	}
	if _, err := c.alice.Ask("root", "db01", nil); problem(t, err).Code != api.CodeManyWaiting {
		t.Error(err)
	}
	c.clock.forward(31 * time.Minute)
	c.ask()
}

// TestApproversSeeWhatTheyNeed: who, where, why, from where, how many are missing, and whether they may.
func TestApproversSeeWhatTheyNeed(t *testing.T) {
	c := newCourt(t, "")
	a := c.ask()
	if _, err := c.Client(nil).Requests(context.Background()); problem(t, err).Code != api.CodePass {
		t.Error(err)
	}
	for _, x := range []struct {
		who *catest.Person
		may bool
	}{{c.carol, true}, {c.alice, false}, {c.olga, false}} {
		r, err := x.who.Pass()
		catest.Must(t, err)
		list, err := r.Requests(context.Background())
		if err != nil || len(list) != 1 || list[0].ID != a.ID || list[0].MayApprove != x.may || list[0].Reason != catest.Reason || len(list[0].From) != 1 || list[0].Waiting.Needed != 2 {
			t.Errorf("%s: %+v, %v", x.who.Name, list, err)
		}
	}
	c.clock.forward(31 * time.Minute)
	if s, err := a.State(); err != nil || s.State != "expired" || s.Problem.Code != api.CodeRequestExpired || len(s.Problem.Next) == 0 {
		t.Errorf("%+v, %v", s, err)
	}
	r, err := c.carol.Pass()
	catest.Must(t, err)
	if list, err := r.Requests(context.Background()); err != nil || len(list) != 0 {
		t.Errorf("%+v, %v", list, err)
	}
}

// TestRacingApprovalsOpenOneGrant: all approvers at once, and the requester's override too.
func TestRacingApprovalsOpenOneGrant(t *testing.T) {
	c := newCourt(t, "override = \"after 1m\"\n")
	a := c.ask()
	c.clock.forward(2 * time.Minute)
	var wg sync.WaitGroup
	for _, p := range []*catest.Person{c.bob, c.carol, c.dan} {
		wg.Go(func() {
			if _, err := p.Verdict(a, statement.Approve, nil); err != nil && problem(t, err).Code != api.CodeDecided {
				t.Error(err)
			}
		})
	}
	wg.Go(func() {
		if _, err := c.alice.Signed(catest.Again(a.Ask, statement.RequestOverride, a.ID, 0)); err != nil && problem(t, err).Code != api.CodeDecided {
			t.Error(err)
		}
	})
	wg.Wait()
	n := 0
	for _, typ := range c.types(a.ID) {
		if typ == "grant.allowed" {
			n++
		}
	}
	if n != 1 {
		t.Errorf("%d grants: %v", n, c.types(a.ID))
	}
	c.Audit()
}
