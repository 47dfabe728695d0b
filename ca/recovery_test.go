package ca_test

import (
	"context"
	"slices"
	"testing"
	"time"

	"breakglass/ca/api"
	"breakglass/ca/catest"
	"breakglass/internal/name"
	"breakglass/internal/statement"
	"breakglass/ledger"
)

// loseAll has the operator revoke both keys of a person.
func (w *town) loseAll(p name.Person) {
	w.t.Helper()
	for _, k := range []*catest.Person{w.desk[p], w.safe[p]} {
		_, err := order(w.desk["olga"], statement.OrderRevokeKey, k.Fingerprint(), "lost", statement.Hash{})
		catest.Must(w.t, err)
	}
}

func TestRecoveryWithoutACodeTakesThree(t *testing.T) {
	w := newTown(t)
	w.loseAll("alice")
	token, err := w.desk["olga"].Invite("alice")
	catest.Must(t, err)
	next := w.Stranger("alice")
	done, err := next.Spend(token, "new")
	catest.Must(t, err)
	if !done.Recovery || !done.Pending || done.Needed != 3 {
		t.Errorf("enrolled: %+v", done)
	}
	for i, p := range []name.Person{"bob", "carol", "dan"} {
		w.wants("a request before", "key_pending", w.request(next))
		st, err := w.desk[p].Vouch(next)
		catest.Must(t, err)
		if st.Given != i+1 || st.Needed != 3 || (st.State == "vouched") != (i == 2) {
			t.Errorf("after %s: %+v", p, st)
		}
	}
	w.wants("while it cools off", "key_pending", w.request(next))
	w.clock.forward(61 * time.Minute)
	_, err = next.Pass()
	w.wants("then it counts", "", err)
	e, _ := lastOf[*ledger.KeyEnrolled](t, w.CA)
	v, _ := lastOf[*ledger.KeyVouched](t, w.CA)
	if !e.Recovery || !v.Recovery || v.Needed != 3 || !slices.Equal(v.By, []name.Person{"bob", "carol", "dan"}) {
		t.Errorf("the entries don't say that it is a recovery: %+v %+v", e, v)
	}
	w.Audit()
}

func TestRecoveryWithACodeTakesTwo(t *testing.T) {
	w := newTown(t)
	d := w.desk["alice"].Device("phone")
	_, err := d.Enrol(d.Code(w.clock.now()), "")
	catest.Must(t, err)
	w.loseAll("alice")
	w.clock.forward(time.Minute)
	token, err := w.desk["olga"].Invite("alice")
	catest.Must(t, err)
	next := w.Stranger("alice")
	_, err = next.Spend(token, "new")
	w.wants("without a code", "totp_missing", err)
	_, err = next.SpendWith(token, "new", "000000")
	w.wants("with a wrong one", ledger.TOTPCodeWrong, err)
	if r, found := lastOf[*ledger.TOTPRefused](t, w.CA); !found || r.Code != ledger.TOTPCodeWrong {
		t.Error("the wrong code left no entry")
	}
	done, err := next.SpendWith(token, "new", d.Code(w.clock.now()))
	catest.Must(t, err)
	if !done.Recovery || done.Needed != 2 {
		t.Errorf("enrolled: %+v", done)
	}
	_, err = w.desk["bob"].Vouch(next)
	catest.Must(t, err)
	w.wants("a code and one voucher", "key_pending", w.request(next))
	st, err := w.desk["carol"].Vouch(next)
	catest.Must(t, err)
	if st.State != "vouched" {
		t.Errorf("a code and two: %+v", st)
	}
	w.clock.forward(61 * time.Minute)
	asked, err := next.Ask("root", "web01", nil)
	catest.Must(t, err)
	if asked.Waiting == nil {
		t.Error("with one key of two no approval more is wanted")
	}
	w.Audit()
}

// TestARecoveryIsJudgedWhenPeopleVouch: a key that was enrolled beside others takes the same once those are gone.
func TestARecoveryIsJudgedWhenPeopleVouch(t *testing.T) {
	w := newTown(t)
	third := w.desk["olga"].Invited("alice", "third")
	_, err := w.desk["bob"].Vouch(third)
	catest.Must(t, err)
	w.loseAll("alice")
	st, err := w.desk["carol"].Vouch(third)
	catest.Must(t, err)
	if st.State != "pending" || st.Needed != 3 || st.Given != 2 {
		t.Errorf("two, after her other keys were revoked: %+v", st)
	}
	st, err = w.desk["dan"].Vouch(third)
	catest.Must(t, err)
	if st.State != "vouched" {
		t.Errorf("three: %+v", st)
	}
	w.Audit()
}

// TestAnOperatorAloneBecomesNobody: olga runs the CA, invites whom she likes, holds two keys of her own and as many more as she buys.
func TestAnOperatorAloneBecomesNobody(t *testing.T) {
	w := newTown(t)
	desk, safe := w.desk["olga"], w.safe["olga"]
	fake := desk.Invited("alice", "fake")
	_, err := desk.Vouch(fake)
	w.wants("she vouches", "", err)
	_, err = desk.Vouch(fake)
	w.wants("twice", api.CodeApproved, err)
	_, err = safe.Vouch(fake)
	w.wants("with her other key", api.CodeApproved, err)
	third := desk.Invited("olga", "third")
	_, err = desk.Vouch(third)
	w.wants("she vouches for a third key of her own", "", err)
	w.clock.forward(2 * time.Hour)
	_, err = third.Vouch(fake)
	w.wants("and with that one", api.CodeApproved, err)
	second := desk.Invited("alice", "fake-two")
	_, err = fake.Vouch(second)
	w.wants("one fake vouches for another", "key_pending", err)
	_, err = desk.Vouch(second)
	w.wants("she vouches for the other", "", err)
	_, err = second.Vouch(fake)
	w.wants("which vouches back", "key_pending", err)
	ghost := desk.Invited("carol", "ghost")
	_, err = ghost.Vouch(fake)
	w.wants("a fake carol vouches", "key_pending", err)
	_, err = fake.Lose(w.desk["alice"].Fingerprint(), "mine now")
	w.wants("the fake reports alice's key as lost", "key_pending", err)
	_, err = fake.Renew()
	w.wants("the fake proves itself", "", err)
	w.wants("and asks", "key_pending", w.request(fake))
	_, err = fake.Found()
	w.wants("and founds anew", "key_pending", err)
	for _, p := range townsfolk { // she may take everybody's keys away, which everybody sees; it makes her nobody
		if p != "olga" {
			w.loseAll(p)
		}
	}
	last := desk.Invited("alice", "last")
	st, err := desk.Vouch(last)
	w.wants("with everybody's keys revoked", "", err)
	if st.Given != 1 || st.Needed != 3 {
		t.Errorf("alone she is %d of %d", st.Given, st.Needed)
	}
	w.clock.forward(48 * time.Hour) // her clock is hers
	_, err = desk.Vouch(last)
	w.wants("again, days later", "", err)
	for _, k := range []*catest.Person{fake, second, ghost, last} {
		if code := codeOf(w.request(k)); code != "key_pending" {
			t.Errorf("%s asks with a key that she made: %q", k.Name, code)
		}
		if _, err := k.Pass(); codeOf(err) != "key_pending" {
			t.Errorf("%s reads with a key that she made: %v", k.Name, err)
		}
	}
	w.Audit()
}

// TestABundleShowsWhyItsKeysCount audits the evidence of a grant under a key that was vouched for, alone, as its receiver does.
func TestABundleShowsWhyItsKeysCount(t *testing.T) {
	w := newTown(t)
	third := w.desk["olga"].Invited("alice", "third")
	for _, p := range []name.Person{"bob", "carol"} {
		_, err := w.desk[p].Vouch(third)
		catest.Must(t, err)
	}
	fourth := w.desk["olga"].Invited("alice", "fourth")
	w.clock.forward(2 * time.Hour)
	_, err := third.Vouch(fourth)
	catest.Must(t, err)
	w.clock.forward(2 * time.Hour)
	g, err := fourth.Request("root", "web01")
	catest.Must(t, err)
	reader, err := w.desk["bob"].Pass()
	catest.Must(t, err)
	ev, err := reader.Evidence(context.Background(), g.ID)
	catest.Must(t, err)
	audit := func(skip ...ledger.Type) []ledger.Finding {
		a := ledger.NewAudit(ledger.AuditConfig{LedgerKey: w.Pins.Site.LedgerKey, Part: true})
		for _, e := range ev.Entries {
			if d, err := ledger.Decode([]byte(e.Entry)); err == nil && slices.Contains(skip, d.Type()) {
				continue
			}
			a.Add(e.Index, []byte(e.Entry))
		}
		f, _ := a.Findings()
		return f
	}
	for _, f := range audit() {
		t.Errorf("evidence: %v", f)
	}
	for _, typ := range []ledger.Type{"key.vouched", "approval.given", "founding.signed", "founding"} {
		if f := audit(typ); !slices.ContainsFunc(f, func(f ledger.Finding) bool { return f.Code == ledger.FaultKey || f.Code == ledger.FaultSignature }) {
			t.Errorf("without %s nothing is amiss: %v", typ, f)
		}
	}
}

// TestAWholeTownLapses: nobody renewed in time. Those who come back with all their keys vouch for each other, and no stranger slips in among them.
func TestAWholeTownLapses(t *testing.T) {
	w := newTown(t)
	fake := w.desk["olga"].Invited("alice", "fake")
	w.clock.forward(105 * day)
	_, err := w.desk["bob"].Vouch(w.desk["alice"])
	w.wants("vouching with a lapsed key", "key_lapsed", err)
	for _, p := range []name.Person{"alice", "bob", "carol"} {
		w.wants("a pass", "key_lapsed", second(w.desk[p].Pass()))
		w.renewAll(p)
		w.wants("a request after a late renewal", "key_pending", w.request(w.desk[p]))
	}
	_, err = w.safe["alice"].Vouch(w.desk["alice"])
	w.wants("alice vouches for herself", "", err)
	if v, found := lastOf[*ledger.KeyVouched](t, w.CA); found {
		t.Fatalf("by her own late key: %+v", v)
	}
	_, err = fake.Vouch(w.desk["bob"])
	w.wants("a key that never counted vouches", "key_pending", err)
	_, err = w.desk["bob"].Vouch(w.desk["alice"])
	w.wants("bob vouches", "", err)
	st, err := w.desk["carol"].Vouch(w.desk["alice"])
	catest.Must(t, err)
	if v, _ := lastOf[*ledger.KeyVouched](t, w.CA); st.State != "vouched" || v == nil || !v.Scarce || !slices.Equal(v.By, []name.Person{"bob", "carol"}) {
		t.Errorf("two: %+v %+v", st, v)
	}
	w.wants("a request while it cools off", "key_pending", w.request(w.desk["alice"]))
	w.clock.forward(61 * time.Minute)
	_, err = w.desk["alice"].Pass()
	w.wants("alice is back", "", err)
	for _, p := range []name.Person{"alice", "carol"} { // one who counts, and one who came back late
		_, err = w.desk[p].Vouch(w.desk["bob"])
		w.wants("for bob", "", err)
	}
	w.clock.forward(61 * time.Minute)
	_, err = w.desk["bob"].Pass()
	w.wants("bob is back", "", err)
	// Now two count: whoever came back late waits for them, and vouches for nobody.
	_, err = w.safe["carol"].Vouch(w.safe["bob"])
	w.wants("carol, late, once two count", "key_pending", err)
	_, err = w.safe["carol"].Pass()
	w.wants("a pass of hers", "key_pending", err)
	w.Audit()
}

func second[T any](_ T, err error) error { return err }
