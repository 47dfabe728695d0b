package ca_test

import (
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"breakglass/ca"
	"breakglass/ca/api"
	"breakglass/ca/catest"
	"breakglass/internal/attest/attesttest"
	"breakglass/internal/name"
	"breakglass/internal/policytext"
	"breakglass/internal/statement"
	"breakglass/ledger"
)

// soundTown is the town with a policy that policy check finds no error in: the next one must have none.
func soundTown(t *testing.T) *town {
	w := unfoundedSound(t)
	w.desk, w.safe = w.Founded(townsfolk, []name.Person{"alice", "bob"})
	w.clock.forward(time.Second)
	return w
}

func unfoundedSound(t *testing.T) *town {
	v := attesttest.New(t)
	w := &town{t: t, clock: &clock{}}
	text := strings.NewReplacer(`readers = ["bob"]`, `readers = ["bob", "dan", "olga"]`, `who = ["@oncall"]`, `who = ["@oncall", "dan"]`,
		`approvers = ["bob"]`, `approvers = ["bob", "olga"]`+"\noverride = \"after 10m\"").Replace(townPolicy(v))
	w.CA = catest.New(t, catest.Config{Policy: text, Vendor: v, Now: w.clock.now})
	return w
}

// changed is the town's policy with a rule for carol on db01, who had none there.
func (w *town) changed() string {
	return w.inForce() + "\n[[rule]]\nname = \"carol-db\"\nwhy = \"Carol mends the database.\"\nwho = [\"carol\"]\nhosts = [\"db01\"]\nlogins = [\"postgres\"]\nminutes = 10\n"
}

func (w *town) inForce() string {
	w.t.Helper()
	s, err := w.PolicyState(ctx, true)
	catest.Must(w.t, err)
	return s.Text
}

// replaced is the policy in force with something else in a place of it.
func (w *town) replaced(old, text string) string {
	w.t.Helper()
	p := w.inForce()
	if !strings.Contains(p, old) {
		w.t.Fatalf("the policy has no %q:\n%s", old, p)
	}
	return strings.Replace(p, old, text, 1)
}

func hashOf(text string) statement.Hash { return sha256.Sum256([]byte(text)) }

func TestOwnersChangeThePolicy(t *testing.T) {
	w := soundTown(t)
	old, text := w.inForce(), w.changed()
	db := func(p *catest.Person) error { _, err := p.Request("postgres", "db01"); return err }
	w.wants("carol on db01 before", api.CodeDenied, db(w.desk["carol"]))

	_, err := w.desk["olga"].Propose(text)
	w.wants("a proposal of who is no owner", api.CodeNotOwner, err)
	_, err = w.desk["alice"].Propose(text)
	w.wants("a proposal of an owner", "", err)
	w.wants("carol while it is proposed", api.CodeDenied, db(w.desk["carol"]))

	s, err := w.desk["carol"].ReadPolicy()
	w.wants("reading by who is no owner", "", err)
	if s.Proposal == nil || s.Proposal.Text != text || s.Text != old || s.Proposal.From != "alice" || s.Signers != 2 {
		t.Fatalf("read %+v", s)
	}
	_, err = w.desk["carol"].SignProposal()
	w.wants("a signature of who is no owner", api.CodeNotOwner, err)
	s, err = w.desk["alice"].SignProposal()
	w.wants("the first owner's", "", err)
	if s.Adopted || len(s.Proposal.Signed) != 1 || s.Proposal.Signed[0] != "alice" {
		t.Fatalf("after one signature: %+v %+v", s, s.Proposal)
	}
	_, err = w.safe["alice"].SignProposal()
	w.wants("the same owner's with another key", api.CodeConflict, err)
	w.wants("carol after one signature", api.CodeDenied, db(w.desk["carol"]))

	// A restart keeps the proposal and who signed.
	w.Stop()
	w.Start()
	s, err = w.desk["bob"].SignProposal()
	w.wants("the second owner's", "", err)
	if !s.Adopted {
		t.Fatalf("after two: %+v", s)
	}
	w.wants("carol on db01 after it", "", db(w.desk["carol"]))
	if got := w.inForce(); got != text {
		t.Errorf("in force is\n%s", got)
	}
	if s, err := w.PolicyState(ctx, false); err != nil || s.Proposal != nil {
		t.Errorf("still proposed: %+v %v", s.Proposal, err)
	}
	if _, err := os.Stat(filepath.Join(w.Dir, "proposal.json")); !os.IsNotExist(err) {
		t.Errorf("the proposal's file: %v", err)
	}
	n := 0
	for _, e := range w.Entries() {
		if f, ok := e.Facts.(*ledger.PolicyAdopted); ok && f.How == ledger.AdoptedByOwners {
			if n++; f.SHA256 != hashOf(text) || f.Previous != hashOf(old) || !strings.Contains(f.Diff, "+name = \"carol-db\"\n") {
				t.Errorf("the entry: %+v", f)
			}
		}
	}
	if n != 1 {
		t.Errorf("adopted %d times", n)
	}
	w.Audit()
	w.Stop()
	w.Start()
	if got := w.inForce(); got != text {
		t.Errorf("in force after a start is\n%s", got)
	}
	catest.Must(t, w.Rebuild())
	w.wants("carol after it all", "", db(w.desk["carol"]))
	w.Audit()
}

// TestWhatWasSignedForCountsForNothingElse: another text, another text in force, another proposal between.
func TestWhatWasSignedForCountsForNothingElse(t *testing.T) {
	w := soundTown(t)
	first, second := w.changed(), w.replaced("minutes = 30", "minutes = 25")
	_, err := w.desk["alice"].SignProposal()
	w.wants("a signature where nothing is proposed", api.CodeNoProposal, err)
	_, err = w.desk["alice"].Propose(first)
	w.wants("the first", "", err)
	_, err = w.desk["alice"].SignProposal()
	w.wants("alice under the first", "", err)
	_, err = w.desk["bob"].Propose(second)
	w.wants("the second, in its place", "", err)
	s, err := w.desk["bob"].SignProposal()
	w.wants("bob under the second", "", err)
	if s.Adopted || len(s.Proposal.Signed) != 1 || len(s.Proposal.Stale) != 1 || s.Proposal.Stale[0] != "alice" {
		t.Fatalf("alice's signature under the first counts for the second: %+v", s.Proposal)
	}
	old := w.inForce()
	for _, c := range []struct {
		what string
		q    api.PolicyAsk
	}{
		{"the first, that is proposed no more", api.PolicyAsk{Policy: hashOf(first), Previous: hashOf(old), Changes: s.Proposal.Changes}},
		{"another previous", api.PolicyAsk{Policy: hashOf(second), Previous: hashOf(first), Changes: s.Proposal.Changes}},
		{"another diff", api.PolicyAsk{Policy: hashOf(second), Previous: hashOf(old), Changes: statement.Hash{1}}},
	} {
		_, err := w.desk["alice"].SignPolicy(c.q)
		w.wants(c.what, api.CodeOtherPolicy, err)
	}
	s, err = w.desk["alice"].SignProposal()
	w.wants("alice under the second", "", err)
	if !s.Adopted {
		t.Error("two signatures under the second don't adopt it")
	}
	// Back to the first text, then the second once more: signatures of the first round count for nothing.
	_, err = w.desk["alice"].Propose(old)
	w.wants("the old one again", "", err)
	for _, p := range []name.Person{"alice", "bob"} {
		_, err = w.desk[p].SignProposal()
		w.wants(string(p)+" under the old one", "", err)
	}
	_, err = w.desk["alice"].Propose(second)
	w.wants("the second once more", "", err)
	s, err = w.desk["bob"].SignProposal()
	w.wants("bob alone", "", err)
	if s.Adopted {
		t.Error("a signature of the round before counts")
	}
	if cl, err := w.desk["bob"].Pass(); err != nil {
		t.Error(err)
	} else if s, err := cl.WithdrawPolicy(ctx, hashOf(second)); err != nil || s.Proposal != nil {
		t.Errorf("withdrawn: %+v %v", s, err)
	} else if _, err := cl.WithdrawPolicy(ctx, hashOf(second)); codeOf(err) != api.CodeNoProposal {
		t.Errorf("withdrawn twice: %v", err)
	}
	w.Audit()
}

// TestWhoIsAnOwner: those whom the policy in force names, with keys that count now; those whom only the next one names are none, those whom it drops are.
func TestWhoIsAnOwner(t *testing.T) {
	w := soundTown(t)
	text := w.replaced(`owners = ["alice", "bob"]`, `owners = ["alice", "dan"]`)
	_, err := w.desk["alice"].Propose(text)
	w.wants("dan in bob's place", "", err)
	_, err = w.desk["alice"].SignProposal()
	w.wants("alice", "", err)
	_, err = w.desk["dan"].SignProposal()
	w.wants("dan, whom only the next names", api.CodeNotOwner, err)
	s, err := w.desk["bob"].SignProposal()
	w.wants("bob, whom the next drops", "", err)
	if !s.Adopted {
		t.Fatal("not adopted")
	}
	_, err = w.desk["bob"].Propose(w.changed())
	w.wants("bob proposes, who is no owner any more", api.CodeNotOwner, err)
	_, err = w.desk["dan"].Propose(w.changed())
	w.wants("dan proposes", "", err)
	_, err = w.desk["dan"].SignProposal()
	w.wants("dan signs", "", err)
	// His key no longer counts: neither does his signature, until he gives it anew.
	_, err = w.safe["dan"].Lose(w.desk["dan"].Fingerprint(), "in a taxi")
	w.wants("dan loses the key that he signed with", "", err)
	s, err = w.desk["alice"].SignProposal()
	w.wants("alice signs", "", err)
	if s.Adopted || len(s.Proposal.Stale) != 1 {
		t.Fatalf("adopted on a lost key's word: %+v", s)
	}
	s, err = w.safe["dan"].SignProposal()
	w.wants("dan signs with his other key", "", err)
	if !s.Adopted {
		t.Error("not adopted")
	}
	w.Audit()
}

// TestNobodyLocksTheOwnersOut: a policy whose owners could not sign the next one is not signed.
func TestNobodyLocksTheOwnersOut(t *testing.T) {
	w := soundTown(t)
	for what, text := range map[string]string{
		"owners without keys": strings.Replace(w.replaced(`owners = ["alice", "bob"]`, `owners = ["erin", "frank"]`), "[people.dan]", "[people.dan]\n[people.erin]\n[people.frank]", 1),
		"one of two with one": strings.Replace(w.replaced(`owners = ["alice", "bob"]`, `owners = ["alice", "frank"]`), "[people.dan]", "[people.dan]\n[people.frank]", 1),
	} {
		_, err := w.desk["alice"].Propose(text)
		w.wants(what, "", err)
		_, err = w.desk["alice"].SignProposal()
		w.wants(what, api.CodePolicyRefused, err)
	}
	w.Audit()
}

func TestAPolicyThatCantBeTheNextIsRefusedWhole(t *testing.T) {
	w := soundTown(t)
	bad := map[string]struct{ text, says string }{
		"no TOML":                  {"profile = ", "policy.toml:1"},
		"another profile":          {catest.Policy, "never changes"},
		"another site":             {w.replaced(`name = "test"`, `name = "best"`), "never changes"},
		"a typo":                   {w.replaced(`minutes = 30`, `minuets = 30`), "did you mean"},
		"a rule that is no way in": {w.replaced(`approvers = ["bob", "olga"]`, `approvers = ["alice"]`), "oncall-db"},
		"a test that fails": {w.changed() + "\n[[test]]\nname = \"bob gets in\"\nperson = \"bob\"\nhost = \"web01\"\nlogin = \"root\"\nfrom = [\"127.0.0.1\"]\nexpect = \"allow\"\n",
			`test "bob gets in" failed`},
	}
	for what, c := range bad {
		_, err := w.desk["alice"].Propose(c.text)
		w.wants(what, api.CodePolicyRefused, err)
		if err != nil && !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: says nothing of %q:\n%v", what, c.says, err)
		}
	}
	_, err := w.desk["alice"].Propose(w.inForce())
	w.wants("the one in force", api.CodeConflict, err)
	if s, err := w.PolicyState(ctx, false); err != nil || s.Proposal != nil {
		t.Errorf("proposed: %+v, %v", s.Proposal, err)
	}
	w.Audit()
}

// TestReload: the file beside the service is proposed, and a bad one changes nothing but an entry for each text of it.
func TestReload(t *testing.T) {
	w := soundTown(t)
	reload := func(what, want string) *ca.Reloaded {
		t.Helper()
		r, err := w.Reload(ctx)
		if err != nil || r.Policy != want {
			t.Fatalf("%s: %+v, %v; want %q", what, r, err, want)
		}
		return r
	}
	reload("nothing changed", "in force")
	text := w.changed()
	w.PolicyFile(text)
	reload("a good one", "proposed")
	reload("the same again", "in force")
	s, err := w.desk["alice"].SignProposal()
	w.wants("alice", "", err)
	if s.Proposal.From != "file policy.toml" {
		t.Errorf("from %q", s.Proposal.From)
	}
	refused := func() (n int) {
		for _, e := range w.Entries() {
			if f, ok := e.Facts.(*ledger.PolicyRefused); ok {
				if n++; !strings.Contains(f.Error, "minuets") {
					t.Errorf("the entry says %q", f.Error)
				}
			}
		}
		return n
	}
	for i := range 3 {
		w.PolicyFile(w.replaced("minutes = 30", "minuets = 30"))
		if r := reload("a bad one", "refused"); r.Fault == nil || refused() != 1 {
			t.Errorf("time %d: %v, %d entries", i, r.Fault, refused())
		}
	}
	w.PolicyFile(w.replaced("minutes = 30", "minuets = 29"))
	if reload("another bad one", "refused"); refused() != 2 {
		t.Errorf("%d entries", refused())
	}
	// The last good one waits still.
	s, err = w.desk["bob"].SignProposal()
	w.wants("bob", "", err)
	if !s.Adopted || w.inForce() != text {
		t.Error("not adopted")
	}
	w.PolicyFile(text)
	reload("the file is in force", "in force")
	w.Audit()
}

// TestReloadKeepsImportedHosts: they are in no file of the owners', who would lose them with every change.
func TestReloadKeepsImportedHosts(t *testing.T) {
	w := soundTown(t)
	base := w.inForce()
	hosts := "[hosts.web77]\naddress = [\"127.0.0.1:2277\"]\nhost_keys = [\"" + catest.HostKey + "\"]\n"
	imported, err := policytext.Import(base, hosts)
	catest.Must(t, err)
	_, err = w.desk["alice"].Propose(imported)
	w.wants("proposed", "", err)
	for _, p := range []name.Person{"alice", "bob"} {
		_, err = w.desk[p].SignProposal()
		w.wants(string(p), "", err)
	}
	reload := func(what, text, want, proposed string) {
		t.Helper()
		w.PolicyFile(text)
		r, err := w.Reload(ctx)
		catest.Must(t, err)
		s, err := w.PolicyState(ctx, true)
		catest.Must(t, err)
		got := ""
		if s.Proposal != nil {
			got = s.Proposal.Text
		}
		if r.Policy != want || got != proposed {
			t.Errorf("%s: %s %v\n%s", what, r.Policy, r.Fault, got)
		}
	}
	reload("the file as it was", base, "in force", "")
	more := base + "# more\n"
	kept, err := policytext.Import(more, hosts)
	catest.Must(t, err)
	reload("the file with a change", more, "proposed", kept)
	reload("the same again", more, "in force", kept)
	own := more + hosts
	reload("the file with the host in it", own, "proposed", own)
	w.Audit()
}

// TestReloadSaysWhatTakesAStart, and takes another policy file without one.
func TestReloadSaysWhatTakesAStart(t *testing.T) {
	w := soundTown(t)
	path := filepath.Join(w.Dir, "config.toml")
	b, err := os.ReadFile(path)
	catest.Must(t, err)
	text := strings.Replace(string(b), "policy = ''", "policy = 'rules'", 1)
	text = strings.Replace(text, "listen = '127", "listen = '128", 1)
	if strings.Count(text, "rules") != 1 || !strings.Contains(text, "'128") {
		t.Fatal(text)
	}
	catest.Must(t, os.WriteFile(path, []byte(text), 0o600))
	dir := filepath.Join(w.Dir, "rules")
	catest.Must(t, os.MkdirAll(filepath.Join(dir, "hosts"), 0o700))
	catest.Must(t, os.WriteFile(filepath.Join(dir, "policy.toml"), []byte(w.changed()), 0o600))
	r, err := w.Reload(ctx)
	if err != nil || r.Policy != "proposed" || len(r.Stale) != 1 || r.Stale[0] != "listen" {
		t.Errorf("%+v, %v", r, err)
	}
}

func TestReloadBeforeTheFoundingProposesNothing(t *testing.T) {
	w := unfoundedSound(t)
	w.PolicyFile(w.changed())
	if r, err := w.Reload(ctx); err != nil || r.Policy != "waits for the founding" {
		t.Errorf("%+v, %v", r, err)
	}
	_, err := w.EnrolKey("alice", "desk").SignPolicy(api.PolicyAsk{Policy: statement.Hash{1}, Previous: statement.Hash{1}, Changes: statement.Hash{1}})
	w.wants("a signature before the founding", api.CodeNotFounded, err)
	w.Audit()
}

// TestManySignAtOnce: the policy comes into force once, and every decision beside it names the policy that was in force.
func TestManySignAtOnce(t *testing.T) {
	w := soundTown(t)
	old := w.inForce()
	for round := range 3 {
		text := fmt.Sprintf("%s\n# round %d\n", old, round)
		_, err := w.desk["alice"].Propose(text)
		w.wants("a proposal", "", err)
		s, err := w.desk["alice"].ReadPolicy()
		catest.Must(t, err)
		q := api.PolicyAsk{Policy: s.Proposal.Policy, Previous: s.Policy, Changes: s.Proposal.Changes}
		var wg sync.WaitGroup
		adopted := make([]bool, 2)
		for i, p := range []*catest.Person{w.desk["alice"], w.desk["bob"]} {
			wg.Go(func() {
				s, err := p.SignPolicy(q)
				if err != nil {
					t.Error(err)
					return
				}
				adopted[i] = s.Adopted
			})
		}
		for range 6 {
			p := w.Stranger("carol") // asks all the while
			wg.Go(func() { p.Client.Ask(ctx, p.Want(catest.NewKey(t).PublicKey())) })
			wg.Go(func() { w.request(w.desk["dan"]) })
		}
		wg.Wait()
		if adopted[0] == adopted[1] {
			t.Errorf("round %d: adopted by %v", round, adopted)
		}
		if w.inForce() != text {
			t.Errorf("round %d: another is in force", round)
		}
	}
	w.Audit()
}

// TestALongPolicy: of 20,000 hosts, at init and later, in one transaction; what it has in common with the one before is stored once.
func TestALongPolicy(t *testing.T) {
	var b strings.Builder
	b.WriteString(catest.Policy)
	for i := range 20000 {
		fmt.Fprintf(&b, "[hosts.h%05d]\naddress = [\"10.%d.%d.%d:22\"]\nhost_keys = [\"%s\"]\ngroups = [\"farm\"]\n", i, i>>16, i>>8&255, i&255, catest.HostKey)
	}
	long := b.String()
	c := catest.New(t, catest.Config{Policy: long})
	alice := c.Enrol("alice")
	pieces := func() (n int) {
		for _, e := range c.Entries() {
			if _, ok := e.Facts.(*ledger.PolicyText); ok {
				n++
			}
		}
		return n
	}
	before := pieces()
	if before < 50 {
		t.Fatalf("%d pieces of %d bytes", before, len(long))
	}
	text := strings.Replace(long, "[hosts.h10000]", "[hosts.one-more]\naddress = [\"10.9.9.9:22\"]\nhost_keys = [\""+catest.HostKey+"\"]\n[hosts.h10000]", 1)
	start := time.Now()
	_, err := alice.Propose(text)
	catest.Must(t, err)
	s, err := alice.SignProposal()
	catest.Must(t, err)
	if !s.Adopted {
		t.Fatal("not adopted")
	}
	t.Logf("proposed and adopted in %v, %d bytes in %d pieces", time.Since(start), len(text), before)
	if n := pieces() - before; n < 1 || n > 3 {
		t.Errorf("one host more takes %d pieces more", n)
	}
	c.Audit()
	c.Stop()
	c.Start()
	if p, err := c.PolicyState(ctx, true); err != nil || p.Text != text {
		t.Errorf("read back %d bytes: %v", len(p.Text), err)
	}
}
