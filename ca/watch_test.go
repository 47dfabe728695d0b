package ca_test

import (
	"context"
	"crypto/sha256"
	"strings"
	"testing"
	"time"

	"filippo.io/age"

	"breakglass/ca/api"
	"breakglass/ca/api/client"
	"breakglass/ca/catest"
	"breakglass/internal/name"
	"breakglass/ledger"
)

// Everybody but carol leads; alice, bob and carol read. What is typed on web01 waits for a lead.
var watchedPolicy = strings.NewReplacer(
	`readers = ["bob"]`, `readers = ["alice", "bob", "carol"]`,
	"[people.alice]\ngroups = [\"oncall\"]\n[people.bob]\n", "[people.alice]\ngroups = [\"oncall\", \"leads\"]\n[people.bob]\ngroups = [\"leads\"]\n",
	"[people.carol]\n", "[people.carol]\n[people.dan]\ngroups = [\"leads\"]\n",
	"minutes = 30\n", "minutes = 30\nwatched_by = [\"@leads\"]\n",
).Replace(catest.Policy)

// watchStage is a session of alice's that is held.
type watchStage struct {
	*stage
	carol, dan *catest.Person
	opened     *api.SessionAnswer
	passes     map[name.Person]*client.Client
}

func newWatchStage(t *testing.T) *watchStage {
	t.Helper()
	w := &watchStage{stage: newStageWith(t, catest.Config{Policy: watchedPolicy}), passes: map[name.Person]*client.Client{}}
	w.carol, w.dan = w.Enrol("carol"), w.Enrol("dan")
	for _, p := range []*catest.Person{w.alice, w.carol} {
		id, err := age.GenerateX25519Identity()
		catest.Must(t, err)
		_, err = p.Recipient(id.Recipient().String())
		catest.Must(t, err)
	}
	var err error
	w.opened, err = w.jump.Open(w.jump.Question(w.grant(t)))
	catest.Must(t, err)
	_, envelope, _ := record(t, w.Pins.Site.Origin, w.opened)
	catest.Must(t, w.jump.Client.PutEnvelope(t.Context(), w.opened.Session, envelope))
	for _, p := range []*catest.Person{w.alice, w.bob, w.carol, w.dan} {
		w.passes[p.Name], err = p.Pass()
		catest.Must(t, err)
	}
	return w
}

func (w *watchStage) watch(p name.Person) (*api.Watching, error) {
	out, _, err := w.passes[p].Watch(context.Background(), w.opened.Session, api.WatchAsk{Why: "to see"})
	return out, err
}

// told lists what the ledger says of who watches.
func (w *watchStage) told() (out []string) {
	for _, e := range w.Entries() {
		switch f := e.Facts.(type) {
		case *ledger.SessionWatched:
			s := string(e.Actor) + " watches"
			if f.Observer {
				s += " as observer"
			}
			out = append(out, s)
		case *ledger.SessionUnwatched:
			out = append(out, string(e.Actor)+" "+f.How)
		}
	}
	return out
}

func (w *watchStage) wantTold(t *testing.T, want ...string) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		got := w.told()
		if strings.Join(got, "; ") == strings.Join(want, "; ") {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("the ledger says %q, want %q", got, want)
		}
	}
}

// Whoever watches reads, isn't the person at work, and counts as the observer only as one of those whom the rule names. It is an entry before they get anything.
func TestWhoWatches(t *testing.T) {
	t.Parallel()
	w := newWatchStage(t)
	if o := w.opened.Opened; len(o.WatchedBy) != 1 || o.WatchedBy[0] != "@leads" || o.Quiet {
		t.Fatalf("opened: %+v", o)
	}
	for who, want := range map[name.Person]string{"alice": api.CodeOwnSession, "dan": api.CodeDenied} { // a lead each; dan reads nothing
		if _, err := w.watch(who); problem(t, err).Code != want {
			t.Errorf("%s: %v", who, err)
		}
	}
	// Another key of alice's is alice.
	second := w.alice.Invited("alice", "second")
	pass, err := second.Pass()
	catest.Must(t, err)
	if _, _, err := pass.Watch(t.Context(), w.opened.Session, api.WatchAsk{Why: "to see"}); problem(t, err).Code != api.CodeOwnSession {
		t.Errorf("alice with another key: %v", err)
	}
	if _, _, err := w.passes["bob"].Watch(t.Context(), w.opened.Session, api.WatchAsk{}); err == nil {
		t.Error("watches without a reason")
	}
	if _, _, err := w.passes["bob"].Watch(t.Context(), "k7f-2mq/1", api.WatchAsk{Why: "x"}); problem(t, err).Code != api.CodeNotFound {
		t.Error(err)
	}
	w.wantTold(t)

	carols, err := w.watch("carol")
	catest.Must(t, err)
	bobs, err := w.watch("bob")
	catest.Must(t, err)
	if carols.Observer || !bobs.Observer || len(bobs.Envelope) == 0 {
		t.Errorf("observers: carol %v, bob %v", carols.Observer, bobs.Observer)
	}
	w.wantTold(t, "person:carol watches", "person:bob watches as observer")

	// Nobody goes on with, or ends, what is another's.
	if err := w.passes["carol"].EndWatch(t.Context(), bobs); problem(t, err).Code != api.CodeWatchOver {
		t.Errorf("carol ends bob's: %v", err)
	}
	if _, _, err := w.passes["carol"].WatchNews(t.Context(), bobs, 0, 0, 0); problem(t, err).Code != api.CodeWatchOver {
		t.Errorf("carol keeps bob's alive: %v", err)
	}
	catest.Must(t, w.passes["bob"].EndWatch(t.Context(), bobs))
	w.wantTold(t, "person:carol watches", "person:bob watches as observer", "person:bob "+ledger.WatchLeft)
	if _, _, err := w.passes["bob"].WatchNews(t.Context(), bobs, 0, 0, 0); problem(t, err).Code != api.CodeWatchOver {
		t.Errorf("after its end: %v", err)
	}
	w.Audit()
}

// An observer who gives no sign of life doesn't count, and neither does one whom a stopped CA forgot.
func TestWatchingsEnd(t *testing.T) {
	t.Parallel()
	w := newWatchStage(t)
	bobs, err := w.watch("bob")
	catest.Must(t, err)
	carols, err := w.watch("carol")
	catest.Must(t, err)
	entry := int64(0)
	for end := time.Now().Add(api.WatchLease + 2*time.Second); time.Now().Before(end); {
		n, _, err := w.passes["carol"].WatchNews(t.Context(), carols, 0, entry, time.Second)
		catest.Must(t, err)
		entry = n.Entry
	}
	lapsed := []string{"person:bob watches as observer", "person:carol watches", "ca " + ledger.WatchLapsed}
	w.wantTold(t, lapsed...)
	if _, _, err := w.passes["bob"].WatchNews(t.Context(), bobs, 0, 0, 0); problem(t, err).Code != api.CodeWatchOver {
		t.Errorf("a lapsed one goes on: %v", err)
	}
	w.Stop()
	w.Start()
	w.wantTold(t, append(lapsed, "ca "+ledger.WatchStopped)...)
	w.Audit()
}

// When the session is over nobody begins to watch it.
func TestAnEndedSessionIsNotWatched(t *testing.T) {
	t.Parallel()
	w := newWatchStage(t)
	_, envelope, head := record(t, w.Pins.Site.Origin, w.opened)
	ended := w.jump.Fact("session.ended", body(t, &ledger.SessionEnded{Reason: "closed", Exit: "0", Seconds: 1, Head: head, Envelope: sha256.Sum256(envelope)}), w.opened.Session)
	_, err := w.jump.Client.SendFacts(t.Context(), &api.FactsAsk{Facts: []api.SignedStatement{ended}})
	catest.Must(t, err)
	if _, err := w.watch("bob"); problem(t, err).Code != api.CodeOver {
		t.Error(err)
	}
	w.wantTold(t)
}
