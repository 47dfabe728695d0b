package ca_test

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"filippo.io/age"

	"breakglass/ca/api"
	"breakglass/ca/catest"
	"breakglass/internal/attest/attesttest"
	"breakglass/internal/name"
	"breakglass/internal/statement"
	"breakglass/ledger"
)

// readingTown is a town whose readers are bob and carol.
func readingTown(t *testing.T) *town {
	v := attesttest.New(t)
	w := &town{t: t, clock: &clock{}}
	w.CA = catest.New(t, catest.Config{Policy: strings.Replace(townPolicy(v), `readers = ["bob"]`, `readers = ["bob", "carol"]`, 1), Vendor: v, Now: w.clock.now})
	w.jump = w.JumpToken("jump-a")
	w.desk, w.safe = w.Founded(townsfolk, []name.Person{"alice", "bob"})
	w.clock.forward(time.Second)
	return w
}

func hybridAge(t *testing.T) string {
	t.Helper()
	id, err := age.GenerateHybridIdentity()
	catest.Must(t, err)
	return id.Recipient().String()
}

func classicalAge(t *testing.T) string {
	t.Helper()
	id, err := age.GenerateX25519Identity()
	catest.Must(t, err)
	return id.Recipient().String()
}

func rotate(p *catest.Person, old, age string) error {
	ch, err := p.Client.Rotate(context.Background(), api.RotationAsk{Person: string(p.Name), Old: old, Age: age, Sealed: "hardware"})
	if err != nil {
		return err
	}
	_, err = p.Client.SignRotation(context.Background(), ch.ID, api.Signed{SSHSIG: p.Sign(ch)})
	return err
}

// recover has p order that age is the recovery key; sent is what goes beside the signature.
func setRecovery(p *catest.Person, age, sent string) error {
	ch, err := p.Client.Order(context.Background(), api.OrderAsk{Person: string(p.Name), Act: statement.OrderSetRecovery, Target: statement.RecipientFingerprint(age), Reason: "made in the vault"})
	if err != nil {
		return err
	}
	_, err = p.Client.SignOrder(context.Background(), ch.ID, api.SignedOrder{SSHSIG: p.Sign(ch), Recovery: sent})
	return err
}

// set is the last that the ledger names, as "person person (recovery)", and who is left out why.
func (w *town) set() (sealed, out string, index int64) {
	w.t.Helper()
	for i, e := range w.Entries() {
		f, ok := e.Facts.(*ledger.RecipientsChanged)
		if !ok {
			continue
		}
		index = int64(i)
		var in, left []string
		for _, s := range f.Sealed {
			who := string(s.Person)
			if who == "" {
				who = "(recovery)"
			}
			if s.Lapsed {
				who += "!"
			}
			in = append(in, who)
		}
		for _, x := range f.LeftOut {
			left = append(left, string(x.Person)+":"+x.Why)
		}
		sealed, out = strings.Join(in, " "), strings.Join(left, " ")
	}
	return sealed, out, index
}

func (w *town) wantsSet(what, sealed, out string) {
	w.t.Helper()
	if s, o, _ := w.set(); s != sealed || o != out {
		w.t.Errorf("%s: sealed to %q, left out %q; want %q and %q", what, s, o, sealed, out)
	}
}

func (w *town) findings() string {
	w.t.Helper()
	l, err := w.Recipients(context.Background())
	catest.Must(w.t, err)
	var codes []string
	for _, f := range l.Findings {
		if f.Text == "" || f.Hint == "" {
			w.t.Errorf("%+v says nothing", f)
		}
		code := f.Code
		if f.Fatal {
			code += "!"
		}
		codes = append(codes, code)
	}
	return strings.Join(codes, " ")
}

func (w *town) wantsFindings(what, want string) {
	w.t.Helper()
	if got := w.findings(); got != want {
		w.t.Errorf("%s: recipients check finds %q, want %q", what, got, want)
	}
}

func TestTheSetOfRecipientsIsAnEntry(t *testing.T) {
	w := readingTown(t)
	bob, carol, olga, j := w.desk["bob"], w.desk["carol"], w.desk["olga"], w.joined()
	w.wantsSet("before anybody has an identity", "", "")
	w.wantsFindings("then", "no_reader! no_recovery")
	first, second := hybridAge(t), hybridAge(t)
	_, err := bob.Recipient(first)
	catest.Must(t, err)
	w.wantsSet("bob", "bob", "")
	w.wantsFindings("bob alone", "one_reader no_recovery no_identity")
	_, err = w.desk["alice"].Recipient(hybridAge(t)) // no reader
	catest.Must(t, err)
	w.wantsSet("alice is no reader", "bob", "")
	_, err = carol.Recipient(second)
	catest.Must(t, err)
	w.wantsSet("carol", "bob carol", "")

	paper, other := hybridAge(t), hybridAge(t)
	w.wants("somebody who is no operator sets a recovery key", api.CodeNotOperator, setRecovery(bob, paper, paper))
	w.wants("another key goes beside the signature", api.CodeConflict, setRecovery(olga, paper, hybridAge(t)))
	w.wants("bob's own as recovery key", api.CodeConflict, setRecovery(olga, first, first))
	w.wants("a classical one", api.CodeConflict, setRecovery(olga, classicalAge(t), "age1"))
	catest.Must(t, setRecovery(olga, paper, paper))
	w.wantsSet("the recovery key", "bob carol (recovery)", "")
	w.wants("the same once more", api.CodeConflict, setRecovery(olga, paper, paper))
	w.wantsFindings("all of it", "")
	_, err = bob.Recipient(paper)
	w.wants("bob names the recovery key his", api.CodeConflict, err)
	_, err = bob.Recipient(classicalAge(t))
	w.wants("a classical one beside them", api.CodeConflict, err)

	// A session is sealed to exactly that, and names it.
	opened := func() *ledger.SessionOpened {
		t.Helper()
		g, err := w.desk["alice"].Request("root", "web01")
		catest.Must(t, err)
		a, err := j.Open(j.Question(g))
		catest.Must(t, err)
		return &a.Opened
	}
	f := opened()
	if _, _, at := w.set(); f.Set != at || !slices.Equal(f.Recipients, []string{first, second, paper}) || !slices.Equal(f.Readers, []name.Person{"bob", "carol"}) {
		t.Errorf("set %d, %d recipients of %v", f.Set, len(f.Recipients), f.Readers)
	}
	if _, _, at := w.set(); opened().Set != at { // nothing changed: no entry more
		t.Error("another set")
	}

	// Rotation.
	third := hybridAge(t)
	w.wants("carol rotates what is bob's", api.CodeConflict, rotate(carol, first, third))
	w.wants("bob rotates to what is carol's", api.CodeConflict, rotate(bob, first, second))
	w.wants("to a classical one", api.CodeConflict, rotate(bob, first, classicalAge(t)))
	w.wants("to itself", api.CodeBadRequest, rotate(bob, first, first))
	catest.Must(t, rotate(bob, first, third))
	if f = opened(); slices.Contains(f.Recipients, first) || !slices.Contains(f.Recipients, third) {
		t.Error("not sealed to the new one")
	}
	w.wants("the old one once more", api.CodeConflict, rotate(bob, first, hybridAge(t)))

	// Taken out, and in again.
	_, err = order(bob, statement.OrderRemoveRecipients, "carol", "her laptop is gone", statement.Hash{})
	w.wants("bob takes carol out", api.CodeNotOperator, err)
	done, err := order(olga, statement.OrderRemoveRecipients, "carol", "her laptop is gone", statement.Hash{})
	catest.Must(t, err)
	if !slices.Equal(done.Removed, []string{second}) || done.Readers != 1 {
		t.Errorf("%+v", done)
	}
	w.wantsSet("carol taken out", "bob (recovery)", "")
	_, err = order(olga, statement.OrderRemoveRecipients, "carol", "once more", statement.Hash{})
	w.wants("once more", api.CodeUnknownTarget, err)
	_, err = carol.Recipient(hybridAge(t))
	catest.Must(t, err)
	_, err = order(olga, statement.OrderRevokePerson, "carol", "left", statement.Hash{})
	catest.Must(t, err)
	w.wantsSet("carol revoked", "bob (recovery)", "")
	catest.Must(t, setRecovery(olga, other, other))
	if f = opened(); slices.Contains(f.Recipients, paper) || !slices.Contains(f.Recipients, other) {
		t.Error("sealed to the recovery key before")
	}
	w.Audit()
	rebuilt(t, w.CA)
}

// TestAReaderWhoLapsedIsLeftOut, unless nobody else is left: an emergency is worse, and they can renew.
func TestAReaderWhoLapsedIsLeftOut(t *testing.T) {
	w := readingTown(t)
	j := w.joined()
	for _, p := range []name.Person{"bob", "carol"} {
		_, err := w.desk[p].Recipient(hybridAge(t))
		catest.Must(t, err)
	}
	opened := func() *ledger.SessionOpened {
		t.Helper()
		g, err := w.desk["alice"].Request("root", "web01")
		catest.Must(t, err)
		a, err := j.Open(j.Question(g))
		catest.Must(t, err)
		// It was over before anything was recorded: months go by, and a ledger in which its end is missing then is faulty.
		_, err = j.Client.SendFacts(context.Background(), &api.FactsAsk{Facts: []api.SignedStatement{j.Fact("session.crashed", body(t, &ledger.SessionCrashed{}), a.Session)}})
		catest.Must(t, err)
		return &a.Opened
	}
	w.clock.forward(89 * day)
	w.renewAll("bob")
	w.renewAll("alice")
	w.clock.forward(10 * day) // carol's grace
	w.wantsSet("in the grace", "bob carol", "")
	w.clock.forward(10 * day)
	f := opened() // the session finds it out
	w.wantsSet("carol lapsed", "bob", "carol:lapsed")
	if _, _, at := w.set(); f.Set != at || !slices.Equal(f.Readers, []name.Person{"bob"}) {
		t.Errorf("set %d of %v", f.Set, f.Readers)
	}
	w.wantsFindings("then", "one_reader no_recovery lapsed")
	catest.Must(t, w.NoteRecipients(context.Background()))
	if _, _, at := w.set(); at != f.Set {
		t.Error("the same set is another entry")
	}
	w.clock.forward(60 * day)
	w.renewAll("alice")
	w.clock.forward(30 * day)
	catest.Must(t, w.NoteRecipients(context.Background())) // no session opens: the CA looks by itself
	w.wantsSet("all lapsed", "bob! carol!", "")
	f = opened()
	w.wantsSet("all lapsed", "bob! carol!", "")
	if len(f.Recipients) != 2 {
		t.Errorf("%d recipients", len(f.Recipients))
	}
	w.wantsFindings("all lapsed", "all_lapsed! no_recovery")
	w.Audit()
	rebuilt(t, w.CA)
}

// TestAPolicyBringsTwoKindsTogether: somebody became a reader whose recipient is of another kind. Nothing is sealed to them, and the check says so.
func TestAPolicyBringsTwoKindsTogether(t *testing.T) {
	w := unfoundedSound(t) // bob, dan and olga read
	w.jump = w.JumpToken("jump-a")
	w.desk, w.safe = w.Founded(townsfolk, []name.Person{"alice", "bob"})
	w.clock.forward(time.Second)
	j := w.joined()
	_, err := w.desk["carol"].Recipient(classicalAge(t)) // before there is any other
	catest.Must(t, err)
	_, err = w.desk["bob"].Recipient(hybridAge(t))
	catest.Must(t, err)
	w.wantsSet("carol is no reader", "bob", "")
	_, err = w.desk["alice"].Propose(w.replaced(`readers = ["bob"`, `readers = ["bob", "carol"`))
	catest.Must(t, err)
	for _, p := range []name.Person{"alice", "bob"} {
		_, err = w.desk[p].SignProposal()
		catest.Must(t, err)
	}
	g, err := w.desk["alice"].Request("root", "web01")
	catest.Must(t, err)
	a, err := j.Open(j.Question(g))
	catest.Must(t, err)
	w.wantsSet("carol reads by the new policy", "bob", "carol:mixed")
	if !slices.Equal(a.Opened.Readers, []name.Person{"bob"}) || len(a.Opened.Recipients) != 1 {
		t.Errorf("sealed to %v", a.Opened.Readers)
	}
	w.wantsFindings("then", "one_reader no_recovery mixed! no_identity")
	w.Audit()
}

// TestAsManyAsAnEntryHasRoomFor: the next is refused, where sessions would not open any more.
func TestAsManyAsAnEntryHasRoomFor(t *testing.T) {
	w := readingTown(t)
	j := w.joined()
	var err error
	n := 0
	for ; n < 40; n++ {
		if _, err = w.desk["bob"].Recipient(hybridAge(t)); err != nil {
			break
		}
	}
	w.wants("one more", api.CodeConflict, err)
	if n != 16 {
		t.Errorf("%d were taken", n)
	}
	paper := hybridAge(t)
	catest.Must(t, setRecovery(w.desk["olga"], paper, paper)) // for that there is always room
	g, err := w.desk["alice"].Request("root", "web01")
	catest.Must(t, err)
	a, err := j.Open(j.Question(g))
	catest.Must(t, err)
	if len(a.Opened.Recipients) != n+1 {
		t.Errorf("sealed to %d", len(a.Opened.Recipients))
	}
	w.Audit()
}
