package ca_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"breakglass/ca/api"
	"breakglass/ca/catest"
	"breakglass/internal/attest/attesttest"
	"breakglass/internal/name"
	"breakglass/internal/statement"
	"breakglass/ledger"
)

// town is a production site: alice and bob own it, olga operates it, everybody has two keys, and a key cools off for an hour.
type town struct {
	*catest.CA
	t          *testing.T
	clock      *clock
	jump       api.Token // invited before the founding
	desk, safe map[name.Person]*catest.Person
}

var townsfolk = []name.Person{"alice", "bob", "carol", "dan", "olga"}

func townPolicy(v *attesttest.Vendor) string {
	p := strings.Replace(vendorPolicy(v), "[people.carol]", "[people.carol]\n[people.dan]\n[people.olga]", 1)
	p = strings.Replace(p, `owners = ["alice"]`, `owners = ["alice", "bob"]`, 1)
	p = strings.Replace(p, `operators = ["alice"]`, `operators = ["olga"]`, 1)
	terms := "[enrolment]\nkeys_required = 2\nrenew_days = 90\ngrace_days = 14\ncooling_off = \"1h\"\n"
	return strings.Replace(p, "[[enrolment.model]]", terms+"[[enrolment.model]]", 1)
}

// unfounded is the town before anybody has a key.
func unfounded(t *testing.T) *town {
	v := attesttest.New(t)
	w := &town{t: t, clock: &clock{}}
	w.CA = catest.New(t, catest.Config{Policy: townPolicy(v), Vendor: v, Now: w.clock.now})
	return w
}

func newTown(t *testing.T) *town {
	w := unfounded(t)
	w.jump = w.JumpToken("jump-a")
	w.desk, w.safe = w.Founded(townsfolk, []name.Person{"alice", "bob"})
	w.clock.forward(time.Second)
	return w
}

const day = 24 * time.Hour

// wants demands that an act went through ("") or was refused with that code.
func (w *town) wants(what, code string, err error) {
	w.t.Helper()
	if got := codeOf(err); got != code {
		w.t.Errorf("%s: got %q (%v), want %q", what, got, err, code)
	}
}

// request is an ask for web01 with that key; a denial by the policy is told by its first reason.
func (w *town) request(p *catest.Person) error {
	_, err := p.Request("root", "web01")
	var pr *api.Problem
	if errors.As(err, &pr) && pr.Code == api.CodeDenied {
		return &api.Problem{Code: pr.Reasons[0].Code, Detail: pr.Detail}
	}
	return err
}

func TestOwnersFound(t *testing.T) {
	w := unfounded(t)
	alice, bob, olga := w.EnrolKey("alice", "desk"), w.EnrolKey("bob", "desk"), w.EnrolKey("olga", "desk")
	w.wants("a request before the founding", api.CodeNotFounded, w.request(alice))
	_, err := alice.Recipient("age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p")
	w.wants("a recipient before it", api.CodeNotFounded, err)
	_, err = alice.Vouch(bob)
	w.wants("vouching before it", api.CodeNotFounded, err)
	_, err = alice.Renew()
	w.wants("a renewal before it", api.CodeNotFounded, err)
	_, err = olga.Invite("dan")
	w.wants("an order before it", api.CodeNotFounded, err)
	_, err = olga.Pass()
	w.wants("a pass of who is no owner", api.CodeNotOwner, err)
	cl, err := alice.Pass()
	catest.Must(t, err)
	_, err = cl.Sessions(context.Background(), "")
	w.wants("an owner reads the sessions", api.CodePass, err)
	_, err = cl.Keys(context.Background())
	w.wants("an owner reads keys", api.CodePass, err)
	f, err := cl.Founding(context.Background())
	catest.Must(t, err)
	if len(f.Keys) != 3 || len(f.Entries) != 3 || !strings.Contains(f.Text, "oncall-web") || len(f.Missing) != 4 {
		t.Fatalf("the founding: %d keys, missing %q", len(f.Keys), f.Missing)
	}
	_, err = alice.Found()
	w.wants("an owner with one key of two", api.CodeFounding, err)
	w.EnrolKey("alice", "safe")
	bobs := w.EnrolKey("bob", "safe")
	ask := func(change func(*api.FoundingAsk)) api.FoundingAsk {
		f, err := cl.Founding(context.Background())
		catest.Must(t, err)
		q := api.FoundingAsk{Policy: f.Policy, Owners: f.Owners, Keys: f.Keys}
		if change != nil {
			change(&q)
		}
		return q
	}
	for what, change := range map[string]func(*api.FoundingAsk){
		"another policy":       func(q *api.FoundingAsk) { q.Policy[0] ^= 1 },
		"a key left out":       func(q *api.FoundingAsk) { q.Keys = q.Keys[1:] },
		"a key more":           func(q *api.FoundingAsk) { q.Keys = append(q.Keys, w.Stranger("mallory").Fingerprint()) },
		"an owner left out":    func(q *api.FoundingAsk) { q.Owners = q.Owners[:1] },
		"owners in disorder":   func(q *api.FoundingAsk) { slices.Reverse(q.Owners) },
		"the operator as well": func(q *api.FoundingAsk) { q.Owners = append(q.Owners, "olga") },
	} {
		_, err = alice.SignFounding(ask(change))
		w.wants(what, api.CodeOtherFounding, err)
	}
	_, err = olga.SignFounding(ask(nil))
	w.wants("the operator founds", api.CodeNotOwner, err)
	st, err := alice.Found()
	catest.Must(t, err)
	if st.Founded || !slices.Equal(st.Signed, []name.Person{"alice"}) || len(st.Missing) != 1 {
		t.Fatalf("one of two: %+v", st)
	}
	st, err = alice.Found() // twice is still one
	catest.Must(t, err)
	if st.Founded {
		t.Fatal("founded by one owner who signed twice")
	}
	carol := w.EnrolKey("carol", "desk")
	st, err = bob.Found()
	catest.Must(t, err)
	if st.Founded || !slices.Equal(st.Stale, []name.Person{"alice"}) {
		t.Fatalf("alice signed for other keys: %+v", st)
	}
	if s, err := w.FoundingState(context.Background()); err != nil || len(s.Missing) != 1 || !strings.Contains(s.Missing[0], "alice has to sign again") {
		t.Errorf("local status: %+v %v", s, err)
	}
	st, err = alice.Found()
	catest.Must(t, err)
	if !st.Founded {
		t.Fatalf("not founded: %+v", st)
	}
	w.wants("a request after it", "", w.request(alice))
	_, err = carol.Pass()
	w.wants("a pass after it", "", err)
	_, err = bobs.SignFounding(ask2(f))
	w.wants("a second founding", api.CodeFounded, err)
	_, err = alice.Pass()
	w.wants("an owner's pass after it", "", err)
	w.Audit()
}

func ask2(f *api.FoundingState) api.FoundingAsk {
	return api.FoundingAsk{Policy: f.Policy, Owners: f.Owners, Keys: f.Keys}
}

func TestAKeyCountsOnceVouchedFor(t *testing.T) {
	w := newTown(t)
	olga := w.desk["olga"]
	third := olga.Invited("alice", "third")
	w.wants("a request with a key that nobody vouched for", "key_pending", w.request(third))
	_, err := third.Pass()
	w.wants("a pass with it", "key_pending", err)
	_, err = third.Lose(w.desk["alice"].Fingerprint(), "")
	w.wants("it reports alice's key as lost", "key_pending", err)
	_, err = third.Vouch(third)
	w.wants("it vouches for itself", "key_pending", err)
	id, signed := third.Enrolment()
	other := signed
	other[0] ^= 1
	_, err = w.desk["alice"].SignVerdict(api.ApprovalAsk{About: statement.AboutEnrolment, Of: id, Hash: other, Verdict: statement.Approve})
	w.wants("another enrolment's hash", api.CodeOtherEnrolment, err)
	_, err = w.desk["alice"].SignVerdict(api.ApprovalAsk{About: statement.AboutEnrolment, Of: "0000000000000000", Hash: signed, Verdict: statement.Approve})
	w.wants("an enrolment that is none", api.CodeNotFound, err)

	reader, err := w.desk["bob"].Pass()
	catest.Must(t, err)
	list, err := reader.Enrolments(context.Background())
	catest.Must(t, err)
	if len(list.Enrolments) != 1 || list.Enrolments[0].ID != id || list.Enrolments[0].Signed != signed || list.Enrolments[0].Needed != 2 {
		t.Fatalf("waiting: %+v", list.Enrolments)
	}

	st, err := w.desk["bob"].Vouch(third)
	catest.Must(t, err)
	if st.State != "pending" || st.Given != 1 || st.Needed != 2 {
		t.Errorf("one of two: %+v", st)
	}
	_, err = w.desk["bob"].Vouch(third)
	w.wants("the same person again", api.CodeApproved, err)
	_, err = w.safe["bob"].Vouch(third)
	w.wants("the same person with the other key", api.CodeApproved, err)
	w.wants("a request after one vouched", "key_pending", w.request(third))
	w.clock.forward(25 * time.Hour) // bob's word is of another day
	st, err = w.desk["carol"].Vouch(third)
	catest.Must(t, err)
	if st.State != "pending" || st.Given != 1 {
		t.Errorf("a day after the first: %+v", st)
	}
	st, err = w.desk["dan"].Vouch(third)
	catest.Must(t, err)
	if st.State != "vouched" || st.Given != 2 || !st.CountsFrom.After(w.clock.now()) {
		t.Errorf("two: %+v", st)
	}
	_, err = w.desk["olga"].Vouch(third)
	w.wants("one more", api.CodeVouched, err)
	w.wants("a request while it cools off", "key_pending", w.request(third))
	w.clock.forward(59 * time.Minute)
	w.wants("59 minutes later", "key_pending", w.request(third))
	w.clock.forward(2 * time.Minute)
	w.wants("an hour later", "", w.request(third))

	fourth := olga.Invited("alice", "fourth")
	st, err = w.safe["alice"].Vouch(fourth)
	catest.Must(t, err)
	if st.State != "vouched" || st.Needed != 1 {
		t.Errorf("by alice with another key: %+v", st)
	}
	w.wants("its request while it cools off", "key_pending", w.request(fourth))
	w.clock.forward(61 * time.Minute)
	w.wants("and after that", "", w.request(fourth))
	w.Audit()
}

// TestEnrolmentsRunOut walks through the life of alice's two keys.
func TestEnrolmentsRunOut(t *testing.T) {
	w := newTown(t)
	desk, safe := w.desk["alice"], w.safe["alice"]
	g, err := desk.Request("root", "web01")
	catest.Must(t, err)
	if until := g.Enrolment; until.Before(w.clock.now().Add(89*day)) || until.After(w.clock.now().Add(90*day)) {
		t.Errorf("the grant says %s", until)
	}
	w.clock.forward(85 * day)
	pending := w.desk["olga"].Invited("dan", "third")
	st, err := desk.Renew()
	catest.Must(t, err)
	if st.Renewed || len(st.Keys) != 2 || st.Keys[0].Missing || !st.Keys[1].Missing {
		t.Errorf("one of two keys proved: %+v", st)
	}
	_, err = desk.Prove(safe.Fingerprint())
	w.wants("one key proves the other", api.CodeOtherKey, err)
	w.clock.forward(8 * day) // the first proof is too old
	st, err = safe.Renew()
	catest.Must(t, err)
	if st.Renewed {
		t.Errorf("with a proof of eight days ago: %+v", st)
	}
	// In the grace a use takes an approval more; what widens takes a key that is not in it.
	asked, err := desk.Ask("root", "web01", nil)
	catest.Must(t, err)
	if opened, _ := lastOf[*ledger.RequestOpened](t, w.CA); asked.Waiting == nil || !slices.Equal(opened.Waits.Used.Added, []string{"enrolment_in_grace"}) || opened.Waits.Used.Key != "in grace" {
		t.Errorf("in the grace: %+v", opened)
	}
	_, err = w.desk["olga"].Invite("dan")
	w.wants("an invite in the grace", api.CodeKeyState, err)
	_, err = w.desk["carol"].Vouch(pending)
	w.wants("vouching in the grace", "", err)
	e := w.Entries()
	if f, ok := e[len(e)-1].Facts.(*ledger.ApprovalGiven); !ok || f.Key != "in grace" {
		t.Errorf("not flagged: %+v", e[len(e)-1].Facts)
	}
	st, err = desk.Renew()
	catest.Must(t, err)
	if !st.Renewed || len(st.Vouch) != 0 || st.Until.Before(w.clock.now().Add(89*day)) {
		t.Errorf("both proved: %+v", st)
	}
	w.renewAll("carol")
	w.renewAll("dan")
	w.clock.forward(89 * day) // bob's and olga's have lapsed
	w.wants("a request after the renewal", "", w.request(desk))
	_, err = w.desk["bob"].Vouch(pending)
	w.wants("vouching beyond the grace", "key_lapsed", err)
	_, err = w.desk["bob"].Pass()
	w.wants("a pass beyond the grace", "key_lapsed", err)

	// bob's keys are renewed too late: they wait for somebody to vouch.
	_, err = w.desk["bob"].Renew()
	catest.Must(t, err)
	st, err = w.safe["bob"].Renew()
	catest.Must(t, err)
	if !st.Renewed || len(st.Vouch) != 2 {
		t.Errorf("renewed too late: %+v", st)
	}
	_, err = w.desk["bob"].Pass()
	w.wants("a pass after a late renewal", "key_pending", err)
	_, err = w.safe["bob"].Vouch(w.desk["bob"])
	w.wants("one late key vouches for the other", "key_pending", err)
	_, err = w.desk["alice"].Vouch(w.desk["bob"])
	w.wants("alice vouches", "", err)
	_, err = w.safe["alice"].Vouch(w.desk["bob"])
	w.wants("alice again", api.CodeApproved, err)
	_, err = w.desk["bob"].Pass()
	w.wants("after one", "key_pending", err)
	w.Audit()
}

func (w *town) renewAll(p name.Person) {
	w.t.Helper()
	_, err := w.desk[p].Renew()
	catest.Must(w.t, err)
	_, err = w.safe[p].Renew()
	catest.Must(w.t, err)
}

func TestALostKeyIsRevokedAtOnce(t *testing.T) {
	w := newTown(t)
	desk, safe := w.desk["alice"], w.safe["alice"]
	j := w.joined()
	_, err := w.desk["bob"].Recipient("age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p")
	catest.Must(t, err)
	g, err := safe.Request("root", "web01")
	catest.Must(t, err)
	other, err := desk.Request("root", "web01")
	catest.Must(t, err)
	opened, err := j.Open(j.Question(g))
	catest.Must(t, err)
	reader, err := safe.Pass()
	catest.Must(t, err)
	_, err = safe.Lose(safe.Fingerprint(), "")
	w.wants("a key reports its own loss", api.CodeOtherKey, err)
	_, err = w.desk["bob"].Lose(safe.Fingerprint(), "")
	w.wants("bob reports alice's", api.CodeNotFound, err)
	st, err := desk.Lose(safe.Fingerprint(), "left in a taxi")
	catest.Must(t, err)
	if st.Key != "safe" || st.Counting != 1 || st.Required != 2 || !slices.Equal(st.Stopped.Grants, []name.RequestID{g.ID}) || !slices.Equal(st.Stopped.Sessions, []name.SessionID{opened.Session}) {
		t.Errorf("stopped %+v, %d of %d keys", st.Stopped, st.Counting, st.Required)
	}
	_, err = reader.Keys(context.Background())
	w.wants("a pass that it signed", api.CodePass, err)
	w.wants("a request with it", api.CodeRevoked, w.request(safe))
	_, err = j.Open(j.Question(g))
	if codeOf(err) == "" {
		t.Error("a session under a grant that it opened")
	}
	_, err = j.Open(j.Question(other))
	w.wants("a session under the other key's grant", "", err)
	_, err = desk.Lose(safe.Fingerprint(), "")
	w.wants("again", api.CodeOver, err)
	st2, err := desk.Renew()
	catest.Must(t, err)
	if !st2.Renewed {
		t.Errorf("the key that is left renews alone: %+v", st2)
	}
	asked, err := desk.Ask("root", "web01", nil)
	catest.Must(t, err)
	if opened, _ := lastOf[*ledger.RequestOpened](t, w.CA); asked.Waiting == nil || !slices.Equal(opened.Waits.Used.Added, []string{"keys_short"}) {
		t.Errorf("with one key of two no approval more is wanted: %+v", opened)
	}
	w.Audit()
}

// joined is a jump of the town.
func (w *town) joined() *catest.Jump {
	w.t.Helper()
	return w.JoinWith(w.jump, "jump-a")
}

// TestAPersonSeesWhereTheirKeysStand reads the list that `breakglass keys` shows, along a key's life.
func TestAPersonSeesWhereTheirKeysStand(t *testing.T) {
	w := newTown(t)
	desk, safe := w.desk["alice"], w.safe["alice"]
	third := w.desk["olga"].Invited("alice", "third")
	fourth := w.desk["olga"].Invited("alice", "fourth")
	standing := func() map[name.Key]string {
		cl, err := desk.Pass()
		catest.Must(t, err)
		l, err := cl.Keys(context.Background())
		catest.Must(t, err)
		out := map[name.Key]string{"counting": fmt.Sprint(l.Counting, " of ", l.Required)}
		for _, k := range l.Keys {
			out[k.Name] = k.State
			if k.Model == "" || k.Proved.IsZero() || k.State == "live" && k.Until.IsZero() {
				t.Errorf("%+v", k)
			}
		}
		return out
	}
	want := func(what string, m map[name.Key]string) {
		t.Helper()
		if got := standing(); !maps.Equal(got, m) {
			t.Errorf("%s: %v, want %v", what, got, m)
		}
	}
	want("at first", map[name.Key]string{"desk": "live", "safe": "live", "third": "pending", "fourth": "pending", "counting": "2 of 2"})
	_, err := safe.Vouch(third)
	catest.Must(t, err)
	want("vouched for, cooling off", map[name.Key]string{"desk": "live", "safe": "live", "third": "pending", "fourth": "pending", "counting": "2 of 2"})
	w.clock.forward(2 * time.Hour)
	_, err = desk.Lose(safe.Fingerprint(), "")
	catest.Must(t, err)
	_, err = desk.Lose(fourth.Fingerprint(), "not mine")
	catest.Must(t, err)
	want("one lost, one that is a fraud", map[name.Key]string{"desk": "live", "safe": "revoked", "third": "live", "fourth": "revoked", "counting": "2 of 2"})
	_, err = w.desk["bob"].Vouch(fourth)
	w.wants("vouching for a revoked key", "key_revoked", err)
	w.clock.forward(95 * day)
	want("in the grace", map[name.Key]string{"desk": "in grace", "safe": "revoked", "third": "in grace", "fourth": "revoked", "counting": "2 of 2"})
	w.Audit()
}
