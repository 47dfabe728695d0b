package ca_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"breakglass/ca/api"
	"breakglass/ca/catest"
	"breakglass/internal/softkey"
	"breakglass/internal/statement"
	"breakglass/ledger"
)

// liftPolicy has two approvers beside the owner.
var liftPolicy = strings.NewReplacer("\n[jumps.jump-a]", "approvers = [\"bob\", \"carol\", \"alice\"]\noverride = \"after 10m\"\n\n[jumps.jump-a]",
	"forwards = [\"local db01:5432\"]", "forwards = [\"local db01:5432\"]\n").Replace(catest.Policy)

// getDenied brings about a refusal of a valid signature.
func getDenied(t *testing.T, p *catest.Person) {
	t.Helper()
	if _, err := p.Request("nobody-there", "web01"); code(err) != "login_not_allowed" {
		t.Fatalf("denied: %v", err)
	}
}

// sayYes has by say yes to what somebody asked.
func sayYes(by *catest.Person, q api.ApprovalAsk) (*api.ApprovalState, error) {
	q.Person = string(by.Name)
	if q.Verdict == "" {
		q.Verdict = statement.Approve
	}
	ch, err := by.Client.Approve(context.Background(), q)
	if err != nil {
		return nil, err
	}
	return by.Client.SignApproval(context.Background(), ch.ID, api.Signed{SSHSIG: by.Sign(ch)})
}

func TestLockout(t *testing.T) {
	clk := newClock()
	c := catest.New(t, catest.Config{Policy: liftPolicy, Now: clk.now})
	alice, bob := c.Enrol("alice"), c.Enrol("bob")
	for range ledger.LockoutTries - 1 {
		getDenied(t, alice)
	}
	if _, err := alice.Request("root", "web01"); err != nil {
		t.Fatalf("before the last: %v", err)
	}
	c.Stop() // a restart forgives nothing
	c.Start()
	getDenied(t, alice)
	if n := count(c, "person.locked"); n != 1 {
		t.Fatalf("%d entries person.locked", n)
	}
	c.Stop()
	c.Start()
	// Nobody else is locked out, and it denies nothing: it wants an approval.
	if _, err := bob.Pass(); err != nil {
		t.Errorf("bob: %v", err)
	}
	if _, err := alice.Pass(); err != nil {
		t.Errorf("a pass takes no approval: %v", err)
	}
	w, err := alice.Ask("root", "web01", nil)
	if err != nil || w.Waiting == nil || w.Waiting.Needed != 1 {
		t.Fatalf("locked out: %+v, %v", w, err)
	}
	// The touch stays: an approval alone opens nothing without one, and there is none by alice herself.
	st, err := w.State()
	if err != nil {
		t.Fatal(err)
	}
	q := api.ApprovalAsk{About: statement.AboutRequest, Of: string(w.ID), Hash: st.Signed}
	if _, err := sayYes(alice, q); code(err) != api.CodeOwnRequest {
		t.Errorf("by herself: %v", err)
	}
	if s, err := sayYes(bob, q); err != nil || s.State != "allowed" {
		t.Fatalf("approved: %+v, %v", s, err)
	}
	if n := count(c, "person.unlocked"); n != 1 {
		t.Errorf("%d entries person.unlocked", n)
	}
	if _, err := alice.Request("root", "web01"); err != nil {
		t.Errorf("after an approval lifted it: %v", err)
	}
	c.Audit()

	// It ends by time as well, and refusals are counted within their window.
	for range ledger.LockoutTries {
		getDenied(t, alice)
	}
	if _, err := alice.Request("root", "web01"); code(err) != "waiting" {
		t.Fatalf("locked out again: %v", err)
	}
	clk.add(ledger.LockoutTime + time.Second)
	if _, err := alice.Request("root", "web01"); err != nil {
		t.Errorf("after its time: %v", err)
	}
	for range 2 * ledger.LockoutTries {
		getDenied(t, alice)
		clk.add(ledger.LockoutWindow/(ledger.LockoutTries-1) + time.Second)
	}
	if _, err := alice.Request("root", "web01"); err != nil {
		t.Errorf("one refusal a minute: %v", err)
	}
	c.Audit()
	rebuilt(t, c)
}

// TestStrangersLockNobodyOut: what is not validly signed counts for nobody.
func TestStrangersLockNobodyOut(t *testing.T) {
	c := catest.New(t, catest.Config{Policy: liftPolicy})
	alice, mallory := c.Enrol("alice"), c.Stranger("alice")
	for range 3 * ledger.LockoutTries {
		if _, err := mallory.Request("root", "web01"); code(err) != api.CodeRefused {
			t.Fatalf("a stranger as alice: %v", err)
		}
	}
	if _, err := alice.Request("root", "web01"); err != nil {
		t.Errorf("alice: %v", err)
	}
	if n := count(c, "person.locked"); n != 0 {
		t.Errorf("%d entries person.locked", n)
	}
}

// suspend has the person's key sign a newer statement with an older counter, as a copy would.
func suspend(t *testing.T, clk *handClock, p *catest.Person) statement.Hash {
	t.Helper()
	if _, err := p.Request("root", "web01"); err != nil {
		t.Fatal(err)
	}
	clk.add(5 * time.Second)
	p.Key.SetFaults(softkey.Faults{FrozenCounter: true})
	if _, err := p.Request("root", "web01"); code(err) != api.CodeLate {
		t.Fatalf("a counter that went back: %v", err)
	}
	p.Key.SetFaults(softkey.Faults{})
	if _, err := p.Request("root", "web01"); code(err) != api.CodeSuspended && code(err) != api.CodeRefused {
		t.Fatalf("a suspended key: %v", err)
	}
	raw := c1(t, p.CA, "key.suspended")
	return ledger.EntryHash(raw)
}

// c1 is the newest entry of a type.
func c1(t *testing.T, c *catest.CA, typ ledger.Type) (raw []byte) {
	t.Helper()
	for _, b := range c.Raw() {
		if e, err := ledger.Decode(b); err == nil && e.Type() == typ {
			raw = b
		}
	}
	if raw == nil {
		t.Fatalf("no entry %s", typ)
	}
	return raw
}

func TestUnlock(t *testing.T) {
	clk := newClock()
	c := catest.New(t, catest.Config{Policy: liftPolicy, Now: clk.now})
	alice, bob, carol := c.Enrol("alice"), c.Enrol("bob"), c.Enrol("carol")
	other := c.Stranger("alice")
	if _, err := other.Spend(c.Token("alice"), "second"); err != nil {
		t.Fatal(err)
	}
	fp := alice.Fingerprint()
	first := suspend(t, clk, alice)
	q := api.ApprovalAsk{About: statement.AboutUnlock, Of: fp, Hash: first}
	with := func(edit func(*api.ApprovalAsk)) api.ApprovalAsk { x := q; edit(&x); return x }
	for _, x := range []struct {
		what string
		by   *catest.Person
		q    api.ApprovalAsk
		want string
	}{
		{"another entry's hash", other, with(func(q *api.ApprovalAsk) { q.Hash = statement.Hash{1} }), api.CodeNotLocked},
		{"a key that is not suspended", other, with(func(q *api.ApprovalAsk) { q.Of = bob.Fingerprint() }), api.CodeNotLocked},
		{"a key that is not there", bob, with(func(q *api.ApprovalAsk) { q.Of = "SHA256:nothing" }), api.CodeNotLocked},
		{"codes that are not there", bob, with(func(q *api.ApprovalAsk) { q.Of = "totp:alice" }), api.CodeNotLocked},
		{"by the suspended key itself", alice, q, api.CodeRefused},
	} {
		if _, err := sayYes(x.by, x.q); code(err) != x.want && !(x.want == api.CodeRefused && code(err) == api.CodeSuspended) {
			t.Errorf("%s: %v, want %s", x.what, err, x.want)
		}
	}
	// One approver is not enough, nor twice the same; a no is none.
	if s, err := sayYes(bob, q); err != nil || s.State != "pending" || s.Given != 1 {
		t.Errorf("bob: %+v, %v", s, err)
	}
	if s, err := sayYes(bob, q); err != nil || s.State != "pending" || s.Given != 1 {
		t.Errorf("bob again: %+v, %v", s, err)
	}
	if s, err := sayYes(carol, with(func(q *api.ApprovalAsk) { q.Verdict = statement.Deny })); err != nil || s.State != "pending" {
		t.Errorf("carol's no: %+v, %v", s, err)
	}
	if s, err := sayYes(carol, q); err != nil || s.State != "unlocked" {
		t.Fatalf("carol: %+v, %v", s, err)
	}
	// From the counter that was seen on.
	if _, err := alice.Request("root", "web01"); err != nil {
		t.Errorf("after it was lifted: %v", err)
	}
	if _, err := sayYes(other, q); code(err) != api.CodeNotLocked {
		t.Errorf("lifted again: %v", err)
	}
	c.Audit()

	// The other key alone; an approval of the first suspension says nothing of the second.
	second := suspend(t, clk, alice)
	if _, err := sayYes(other, q); code(err) != api.CodeNotLocked {
		t.Errorf("the hash of the first suspension: %v", err)
	}
	q.Hash = second
	if s, err := sayYes(other, q); err != nil || s.State != "unlocked" {
		t.Fatalf("by her other key: %+v, %v", s, err)
	}
	if _, err := alice.Request("root", "web01"); err != nil {
		t.Errorf("after her other key lifted it: %v", err)
	}
	// What was there to lift is listed with its entry, to those with a pass.
	suspend(t, clk, alice)
	if _, err := c.Client(nil).Unlocks(context.Background()); code(err) != api.CodePass {
		t.Errorf("without a pass: %v", err)
	}
	reader, err := bob.Pass()
	if err != nil {
		t.Fatal(err)
	}
	list, err := reader.Unlocks(context.Background())
	if err != nil || len(list.Unlocks) != 1 || list.Unlocks[0].Of != fp || list.Unlocks[0].What != api.UnlockKey || !list.Unlocks[0].Own {
		t.Fatalf("%+v, %v", list, err)
	}
	c.Audit()
	rebuilt(t, c)
}

// TestUnlockCodes: two approvers lift the lock of codes or take a device away; the person's own key does neither.
func TestUnlockCodes(t *testing.T) {
	clk := newClock()
	c := catest.New(t, catest.Config{Policy: strings.Replace(liftPolicy, "minutes = 30\nforwards", "minutes = 30\ntotp = true\nforwards", 1), Now: clk.now})
	alice, bob, carol := c.Enrol("alice"), c.Enrol("bob"), c.Enrol("carol")
	d := alice.Device("phone")
	if _, err := d.Enrol(d.Code(clk.now()), ""); err != nil {
		t.Fatal(err)
	}
	for range ledger.TOTPTries {
		now := clk.add(30 * time.Second)
		bad := "000000"
		for _, off := range []time.Duration{-30, 0, 30} {
			if d.Code(now.Add(off*time.Second)) == bad {
				bad = "000001"
			}
		}
		if _, err := alice.RequestWith("root", "web01", bad); code(err) != ledger.TOTPCodeWrong {
			t.Fatal(err)
		}
	}
	if _, err := alice.RequestWith("root", "web01", d.Code(clk.add(30*time.Second))); code(err) != ledger.TOTPCodeLocked {
		t.Fatalf("locked: %v", err)
	}
	q := api.ApprovalAsk{About: statement.AboutUnlock, Of: "totp:alice", Hash: ledger.EntryHash(c1(t, c, "totp.locked"))}
	if _, err := sayYes(alice, q); code(err) != api.CodeOwnRequest {
		t.Errorf("by herself: %v", err)
	}
	reset := q
	reset.Hash = ledger.EntryHash(c1(t, c, "totp.enrolled"))
	// A yes to the one is none to the other.
	if s, err := sayYes(bob, reset); err != nil || s.State != "pending" {
		t.Errorf("bob, to the reset: %+v, %v", s, err)
	}
	if s, err := sayYes(carol, q); err != nil || s.State != "pending" {
		t.Fatalf("carol, to the lock: %+v, %v", s, err)
	}
	if s, err := sayYes(bob, q); err != nil || s.State != "unlocked" {
		t.Fatalf("bob, to the lock: %+v, %v", s, err)
	}
	if _, err := alice.RequestWith("root", "web01", d.Code(clk.add(30*time.Second))); code(err) != "" && code(err) != "waiting" {
		t.Errorf("after it was lifted: %v", err)
	}
	for _, by := range []*catest.Person{bob, carol} {
		if _, err := sayYes(by, reset); err != nil {
			t.Errorf("%s, to the reset: %v", by.Name, err)
		}
	}
	if _, err := alice.RequestWith("root", "web01", d.Code(clk.add(30*time.Second))); code(err) != ledger.TOTPCodeNone {
		t.Errorf("after the device was taken away: %v", err)
	}
	next := alice.Device("tablet")
	if _, err := next.Enrol(next.Code(clk.now()), ""); err != nil {
		t.Errorf("another device: %v", err)
	}
	c.Audit()
	rebuilt(t, c)
}

func TestClockOfTheCA(t *testing.T) {
	clk := newClock()
	c := catest.New(t, catest.Config{Now: clk.now})
	alice := c.Enrol("alice")
	bob := c.Enrol("bob")
	if _, err := bob.Recipient("age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p"); err != nil {
		t.Fatal(err)
	}
	j := c.Join("jump-a")
	clk.add(5 * time.Hour) // the keys count at each time below
	g, err := alice.Request("root", "web01")
	if err != nil {
		t.Fatal(err)
	}
	clk.add(-clockStep)
	if _, err := alice.Request("root", "web01"); code(err) != "" {
		t.Errorf("one second back: %v", err)
	}
	clk.add(-time.Hour)
	_, err = alice.Request("root", "web01")
	if code(err) != api.CodeClockBack {
		t.Fatalf("an hour back: %v", err)
	}
	back, now := clk.now(), clk.now().Add(time.Hour)
	if !strings.Contains(err.Error(), back.UTC().Format(time.RFC3339)) || !strings.Contains(err.Error(), now.UTC().Format("2006-01-02T15:")) {
		t.Errorf("not both times: %v", err)
	}
	c.Stop() // not forgotten by a restart
	c.Start()
	if _, err := alice.Request("root", "web01"); code(err) != api.CodeClockBack {
		t.Errorf("after a restart: %v", err)
	}
	// No session is issued either; what runs is told nothing.
	if _, err := j.Open(j.Question(g)); code(err) != api.CodeSession {
		t.Errorf("a session: %v", err)
	}
	// Time catches up.
	clk.add(time.Hour + clockStep)
	if _, err := alice.Request("root", "web01"); err != nil {
		t.Errorf("when time has caught up: %v", err)
	}
	// Or somebody says that it is right.
	clk.add(-2 * time.Hour)
	if _, err := alice.Request("root", "web01"); code(err) != api.CodeClockBack {
		t.Errorf("two hours back: %v", err)
	}
	if err := c.AcceptClock(context.Background()); err != nil {
		t.Fatal(err)
	}
	if _, err := alice.Request("root", "web01"); err != nil {
		t.Errorf("accepted: %v", err)
	}
	c.Stop()
	c.Start()
	if _, err := alice.Request("root", "web01"); err != nil {
		t.Errorf("accepted, after a restart: %v", err)
	}
	c.Audit()
	rebuilt(t, c)
}

const clockStep = time.Second

// TestJumpsKnowTheTime: one jump says nothing alone; two that agree stop a CA whose clock is off.
func TestJumpsKnowTheTime(t *testing.T) {
	clk := newClock()
	c := catest.New(t, catest.Config{Now: clk.now, Policy: strings.Replace(catest.Policy, "[hosts.web01]", `[jumps.jump-b]
address = ["127.0.0.1:2223"]
source = ["127.0.0.1/32"]

[hosts.web01]`, 1)})
	alice := c.Enrol("alice")
	a, b := c.Join("jump-a"), c.Join("jump-b")
	says := func(j *catest.Jump, off time.Duration) error {
		_, err := c.ClientAt(j.Key, func() time.Time { return clk.now().Add(off) }).SendFacts(context.Background(), &api.FactsAsk{})
		return err
	}
	if err := says(a, 90*time.Second); err != nil {
		t.Fatal(err)
	}
	if err := says(b, 0); err != nil {
		t.Fatal(err)
	}
	if _, err := alice.Request("root", "web01"); err != nil {
		t.Errorf("one of two is off: %v", err)
	}
	if err := says(b, 80*time.Second); err != nil {
		t.Fatal(err)
	}
	if _, err := alice.Request("root", "web01"); code(err) != api.CodeClockOff {
		t.Errorf("both agree on another time: %v", err)
	}
	// Also when the CA is so far off that their calls are refused for it; and the refusal shows both clocks.
	for _, j := range []*catest.Jump{a, b} {
		err := says(j, time.Hour)
		if code(err) != api.CodeClock || !strings.Contains(err.Error(), clk.now().UTC().Format(time.RFC3339)) || !strings.Contains(err.Error(), clk.now().Add(time.Hour).UTC().Format(time.RFC3339)) {
			t.Errorf("an hour off: %v", err)
		}
	}
	if _, err := alice.Request("root", "web01"); code(err) != api.CodeClockOff {
		t.Errorf("an hour off: %v", err)
	}
	if err := c.AcceptClock(context.Background()); err != nil {
		t.Fatal(err)
	}
	if _, err := alice.Request("root", "web01"); err != nil {
		t.Errorf("accepted: %v", err)
	}
	for _, j := range []*catest.Jump{a, b} {
		if err := says(j, 0); err != nil {
			t.Fatal(err)
		}
	}
	// Accepted was another difference than this one, which is none.
	if _, err := alice.Request("root", "web01"); err != nil {
		t.Errorf("the jumps agree again: %v", err)
	}
	c.Audit()
	rebuilt(t, c)
}

// rebuilt: every table follows from the ledger.
func rebuilt(t *testing.T, c *catest.CA) {
	t.Helper()
	before := c.Tables()
	if err := c.Rebuild(); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(before, c.Tables()); diff != "" {
		t.Errorf("a rebuild gives other tables:\n%s", diff)
	}
}
