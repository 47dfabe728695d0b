package ca_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"breakglass/ca/api"
	"breakglass/ca/catest"
	"breakglass/internal/attest/attesttest"
	"breakglass/internal/name"
	"breakglass/internal/statement"
)

// TestAStolenKeysYesLiftsNothing: bob's key is stolen, says yes to lifting, and is reported. What it said is worth nothing then, though the yes of
// an honest key would count for minutes.
func TestAStolenKeysYesLiftsNothing(t *testing.T) {
	clk := newClock()
	c := catest.New(t, catest.Config{Policy: liftPolicy, Now: clk.now})
	alice, bob, carol := c.Enrol("alice"), c.Enrol("bob"), c.Enrol("carol")
	spare := c.Stranger("bob")
	_, err := spare.Spend(c.Token("bob"), "spare")
	catest.Must(t, err)
	q := api.ApprovalAsk{About: statement.AboutUnlock, Of: alice.Fingerprint(), Hash: suspend(t, clk, alice)}
	if s, err := sayYes(bob, q); err != nil || s.Given != 1 {
		t.Fatalf("the stolen key: %+v, %v", s, err)
	}
	_, err = spare.Lose(bob.Fingerprint(), "stolen")
	catest.Must(t, err)
	if s, err := sayYes(carol, q); err != nil || s.State != "pending" || s.Given != 1 {
		t.Errorf("carol, after it was reported: %+v, %v", s, err)
	}
	if s, err := sayYes(spare, q); err != nil || s.State != "unlocked" {
		t.Errorf("bob himself: %+v, %v", s, err)
	}
	c.Audit()
	rebuilt(t, c)
}

// TestAGrantStandsOnEachKeyBehindIt: opened with one key, extended or overridden with another. Whichever is reported, what it opened or kept open ends,
// and the ledger that everybody checks says the same.
func TestAGrantStandsOnEachKeyBehindIt(t *testing.T) {
	for _, c := range []struct {
		what string
		lost func(first, second *catest.Person) (by, lost *catest.Person)
	}{
		{"the key that opened it", func(first, second *catest.Person) (by, lost *catest.Person) { return second, first }},
		{"the key that extended it", func(first, second *catest.Person) (by, lost *catest.Person) { return first, second }},
	} {
		t.Run(c.what, func(t *testing.T) {
			clk := newClock()
			a := catest.New(t, catest.Config{Now: clk.now})
			first, bob, j := a.Enrol("alice"), a.Enrol("bob"), a.Join("jump-a")
			_, err := bob.Recipient(bobsRecipient)
			catest.Must(t, err)
			second := a.Stranger("alice")
			_, err = second.Spend(a.Token("alice"), "spare")
			catest.Must(t, err)
			g, err := first.Request("root", "web01")
			catest.Must(t, err)
			before, err := j.Open(j.Question(g))
			catest.Must(t, err)
			clk.add(5 * time.Minute)
			q := second.Want(g.Key.PublicKey())
			q.Kind, q.Of = statement.RequestExtend, g.ID
			ext, err := second.Signed(q)
			catest.Must(t, err)
			if !ext.Until.After(g.Until) {
				t.Fatalf("extended until %s, was %s", ext.Until, g.Until)
			}
			g.Certificate = ext.Certificate
			after, err := j.Open(j.Question(g))
			catest.Must(t, err)
			by, lost := c.lost(first, second)
			st, err := by.Lose(lost.Fingerprint(), "stolen")
			catest.Must(t, err)
			if len(st.Stopped.Grants) != 1 || len(st.Stopped.Sessions) != 2 {
				t.Errorf("stopped: %+v, want %s with %s and %s", st.Stopped, g.ID, before.Session, after.Session)
			}
			if _, err := j.Open(j.Question(g)); problem(t, err).Reasons[0].Code != api.CodeRevoked {
				t.Errorf("a session after it: %v", err)
			}
			// What the jump holds of a session tells it that this revocation reaches it.
			for _, s := range []*api.SessionAnswer{after} {
				if k := s.Opened.Keys(); len(k) != 2 || k[0] == k[1] {
					t.Errorf("%s stands on %q", s.Session, k)
				}
			}
			if k := before.Opened.Keys(); len(k) != 1 || k[0] != first.Fingerprint() {
				t.Errorf("%s stands on %q", before.Session, k)
			}
			a.Audit()
			rebuilt(t, a)
		})
	}
}

// TestWhoComesBackEnrolsAFreshDevice: what made a person's codes goes with them; invited anew, they enrol another with a touch alone, as anybody does
// for the first time, and the audit takes that.
func TestWhoComesBackEnrolsAFreshDevice(t *testing.T) {
	clk := newClock()
	c := catest.New(t, catest.Config{Policy: liftPolicy, Now: clk.now})
	alice, bob := c.Enrol("alice"), c.Enrol("bob")
	phone := bob.Device("phone")
	_, err := phone.Enrol(phone.Code(clk.now()), "")
	catest.Must(t, err)
	if _, err := order(alice, statement.OrderRevokePerson, "bob", "left", statement.Hash{}); err != nil {
		t.Fatal(err)
	}
	clk.add(time.Minute)
	again := c.Stranger("bob")
	_, err = again.Spend(c.Token("bob"), "soft2")
	catest.Must(t, err)
	phone = again.Device("phone")
	if _, err := phone.Enrol(phone.Code(clk.now()), ""); err != nil {
		t.Errorf("the first device of who came back: %v", err)
	}
	c.Audit()
	rebuilt(t, c)
}

// TestARevokedGrantNamesNoHost: a host certificate for a name that only a pattern covers takes a grant that is alive, and one that was killed is not.
func TestARevokedGrantNamesNoHost(t *testing.T) {
	s := newStage(t)
	ctx := context.Background()
	g, err := s.alice.Request("root", "lb01")
	catest.Must(t, err)
	if _, err := s.jump.Client.HostCerts(ctx, &api.HostCertsAsk{Host: "lb01"}); err != nil {
		t.Fatalf("under a live grant: %v", err)
	}
	p, err := s.bob.Pass()
	catest.Must(t, err)
	_, err = p.Kill(ctx, g.ID, api.StopAsk{Why: "not needed"})
	catest.Must(t, err)
	if _, err := s.jump.Client.HostCerts(ctx, &api.HostCertsAsk{Host: "lb01"}); code(err) != api.CodeNotFound {
		t.Errorf("under a grant that was killed: %v", err)
	}
	s.Audit()
}

// TestOwnersAndOperatorsByGroup: a policy may name them in any order, and by group; the audit reads it as the CA does.
func TestOwnersAndOperatorsByGroup(t *testing.T) {
	v := attesttest.New(t)
	p := strings.NewReplacer(`owners = ["alice", "bob"]`, `owners = ["bob", "@leads"]`, `operators = ["olga"]`, `operators = ["@crew"]`,
		"[people.alice]\ngroups = [\"oncall\"]", "[people.alice]\ngroups = [\"oncall\", \"leads\"]", "[people.olga]", "[people.olga]\ngroups = [\"crew\"]").Replace(townPolicy(v))
	clk := &clock{}
	c := catest.New(t, catest.Config{Policy: p, Vendor: v, Now: clk.now})
	desk, _ := c.Founded(townsfolk, []name.Person{"alice", "bob"})
	clk.forward(time.Second)
	if _, err := order(desk["olga"], statement.OrderRevokePerson, "dan", "left", statement.Hash{}); err != nil {
		t.Error(err)
	}
	c.Audit()
}
