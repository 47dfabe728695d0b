package ca_test

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"breakglass/ca/api"
	"breakglass/ca/catest"
	"breakglass/internal/policyfiles"
	"breakglass/internal/policytext"
	"breakglass/internal/statement"
	"breakglass/ledger"
)

// Keys that no host of the policy has.
var newKeys = []string{
	"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f",
	"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIBABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f",
	"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAICABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f",
}

func newHost(n string, key int, group string) string {
	return fmt.Sprintf("[hosts.%s]\naddress = [\"127.0.0.1:%d\"]\nhost_keys = [%q]\ngroups = [%q]\n", n, 2300+key, newKeys[key], group)
}

// importPolicy opens group web, in which there is nobody yet.
func importPolicy(p string) string {
	p = strings.Replace(p, `hosts = ["web01", "lb*"]`, `hosts = ["web01", "lb*", "@web"]`, 1)
	return p + "\n[host_groups.web]\nimport = true\n"
}

// order has p sign an import of the hosts behind before, and sends what is beside.
func importOf(p *catest.Person, before, hosts, beside string) (*api.OrderDone, error) {
	after, err := policytext.Import(before, hosts)
	if err != nil {
		return nil, err
	}
	ch, err := p.Client.Order(context.Background(), api.OrderAsk{Person: string(p.Name), Act: statement.OrderImportHosts, Target: statement.ImportTarget(hashOf(before), hashOf(after)), Detail: hashOf(hosts)})
	if err != nil {
		return nil, err
	}
	return p.Client.SignOrder(context.Background(), ch.ID, api.SignedOrder{SSHSIG: p.Sign(ch), Hosts: []byte(beside)})
}

func text(t *testing.T, c *catest.CA) string {
	t.Helper()
	s, err := c.PolicyState(context.Background(), true)
	catest.Must(t, err)
	return s.Text
}

func TestAnOperatorImportsHosts(t *testing.T) {
	c := catest.New(t, catest.Config{Policy: importPolicy(catest.Policy)})
	alice, bob := c.Enrol("alice"), c.Enrol("bob")
	before := text(t, c)
	hosts := newHost("new1", 0, "web")
	if _, err := alice.Request("root", "new1"); codeOf(err) != api.CodeDenied {
		t.Fatalf("before the import: %v", err)
	}
	for _, x := range []struct {
		why           string
		by            *catest.Person
		before, hosts string
		beside        string
		code, says    string
	}{
		{"by who is no operator", bob, before, hosts, hosts, api.CodeNotOperator, "no operator"},
		{"another text beside the signature", alice, before, hosts, newHost("new2", 0, "web"), api.CodeImportRefused, "not the one that was signed"},
		{"no text beside the signature", alice, before, hosts, "", api.CodeImportRefused, "not the one that was signed"},
		{"behind a policy that is not in force", alice, before + "# x\n", hosts, hosts, api.CodeOtherPolicy, "another policy"},
		{"a known host's new key", alice, before, newHost("web01", 0, "web"), newHost("web01", 0, "web"), api.CodeImportRefused, "web01 is known already"},
		{"a group that is not opened", alice, before, newHost("new1", 0, "db"), newHost("new1", 0, "db"), api.CodeImportRefused, `group "db"`},
		{"a rule", alice, before, "[[rule]]\nname = \"door\"\n", "[[rule]]\nname = \"door\"\n", api.CodeImportRefused, `"rule" may not stand in import`},
		{"this CA's own host CA", alice, before, strings.Replace(hosts, "host_keys = [\""+newKeys[0], "host_ca = [\""+c.Pins.Site.HostCA[0], 1),
			strings.Replace(hosts, "host_keys = [\""+newKeys[0], "host_ca = [\""+c.Pins.Site.HostCA[0], 1), api.CodeImportRefused, "this CA's own"},
	} {
		_, err := importOf(x.by, x.before, x.hosts, x.beside)
		var p *api.Problem
		if codeOf(err) != x.code || !errors.As(err, &p) || !strings.Contains(p.Detail, x.says) {
			t.Errorf("%s: %v, want %s", x.why, err, x.code)
		}
	}
	if text(t, c) != before {
		t.Fatal("a refused import changed the policy")
	}
	done, err := importOf(alice, before, hosts, hosts)
	catest.Must(t, err)
	if len(done.Imported) != 1 || done.Imported[0] != "new1" {
		t.Errorf("done: %+v", done)
	}
	g, err := alice.Request("root", "new1")
	catest.Must(t, err)
	second := newHost("new2", 1, "web")
	if _, err := importOf(alice, before, second, second); codeOf(err) != api.CodeOtherPolicy {
		t.Errorf("an import into the policy of before: %v", err)
	}
	_, err = importOf(alice, text(t, c), second, second)
	catest.Must(t, err)
	c.Audit()

	// A start and a rebuild give the same policy, which is no entry's whole text.
	want := text(t, c)
	if !strings.Contains(want, "-- imported.toml --\n[hosts.new1]") || !strings.Contains(want, "\n[hosts.new2]") {
		t.Fatalf("in force is\n%s", want)
	}
	c.Stop()
	c.Start()
	if text(t, c) != want {
		t.Error("another policy is in force after a start")
	}
	catest.Must(t, c.Rebuild())
	if text(t, c) != want {
		t.Error("another policy is in force after a rebuild")
	}
	_, err = alice.Request("root", "new2")
	catest.Must(t, err)
	c.Audit()
	bundled(t, c, alice, g)
}

// bundled holds the evidence of a grant under an imported policy against the pins alone.
func bundled(t *testing.T, c *catest.CA, p *catest.Person, g *catest.Grant) {
	t.Helper()
	pass, err := p.Pass()
	catest.Must(t, err)
	ev, err := pass.Evidence(context.Background(), g.ID)
	catest.Must(t, err)
	audit := func(skip ledger.Type) ([]ledger.Finding, *ledger.Grant) {
		a := ledger.NewAudit(ledger.AuditConfig{LedgerKey: c.Pins.Site.LedgerKey, Part: true})
		for _, e := range ev.Entries {
			if d, err := ledger.Decode([]byte(e.Entry)); err == nil && d.Type() == skip {
				continue
			}
			a.Add(e.Index, []byte(e.Entry))
		}
		f, _ := a.Findings()
		return f, a.Grant(g.ID)
	}
	f, grant := audit("")
	if len(f) > 0 || grant == nil || !strings.Contains(grant.Policy, "[hosts.new1]") || strings.Contains(grant.Policy, "[hosts.new2]") {
		t.Errorf("evidence: %v; the policy of the decision is\n%s", f, grant.Policy)
	}
	if f, _ := audit("policy.imported"); len(f) == 0 {
		t.Error("without the import nothing is amiss")
	}
}

// TestImportsRace: of imports behind one policy, one counts; who signed against the policy before is told so.
func TestImportsRace(t *testing.T) {
	c := catest.New(t, catest.Config{Policy: importPolicy(catest.Policy)})
	alice := c.Enrol("alice")
	before := text(t, c)
	var wg sync.WaitGroup
	errs := make([]error, 3)
	for i := range errs {
		h := newHost(fmt.Sprintf("new%d", i), i, "web")
		after, err := policytext.Import(before, h)
		catest.Must(t, err)
		ch, err := alice.Client.Order(ctx, api.OrderAsk{Person: "alice", Act: statement.OrderImportHosts, Target: statement.ImportTarget(hashOf(before), hashOf(after)), Detail: hashOf(h)})
		catest.Must(t, err)
		signed := alice.Sign(ch)
		wg.Go(func() {
			_, errs[i] = alice.Client.SignOrder(ctx, ch.ID, api.SignedOrder{SSHSIG: signed, Hosts: []byte(h)})
		})
	}
	wg.Wait()
	ok := 0
	for i, err := range errs {
		switch codeOf(err) {
		case "":
			ok++
		case api.CodeOtherPolicy, api.CodeLate: // its counter, if a later touch was taken first
		default:
			t.Errorf("import %d: %v", i, err)
		}
	}
	if ok != 1 {
		t.Errorf("%d imports counted", ok)
	}
	c.Audit()
}

// TestAnImportWhileOwnersSign: what they signed goes stale, and says so.
func TestAnImportWhileOwnersSign(t *testing.T) {
	w := soundTown(t)
	opened := importPolicy(w.inForce())
	sign := func(p *catest.Person) (bool, error) {
		s, err := p.SignProposal()
		return err == nil && s.Adopted, err
	}
	_, err := w.desk["alice"].Propose(opened)
	w.wants("the proposal that opens a group", "", err)
	_, err = sign(w.desk["alice"])
	w.wants("alice signs", "", err)
	adopted, err := sign(w.desk["bob"])
	w.wants("bob signs", "", err)
	if !adopted {
		t.Fatal("not adopted")
	}
	next := opened + "# the next one\n"
	_, err = w.desk["alice"].Propose(next)
	w.wants("the next proposal", "", err)
	_, err = sign(w.desk["alice"])
	w.wants("alice signs the next one", "", err)
	s, err := w.desk["bob"].ReadPolicy()
	catest.Must(t, err)
	q := api.PolicyAsk{Policy: s.Proposal.Policy, Previous: s.Policy, Changes: s.Proposal.Changes}

	w.clock.forward(time.Second)
	h := newHost("new1", 0, "web")
	_, err = importOf(w.desk["olga"], w.inForce(), h, h)
	w.wants("olga imports between", "", err)
	_, err = w.desk["bob"].SignPolicy(q)
	w.wants("bob signs what he read before", api.CodeOtherPolicy, err)
	s, err = w.desk["bob"].ReadPolicy()
	catest.Must(t, err)
	if s.Proposal == nil || len(s.Proposal.Signed) != 0 {
		t.Errorf("alice's signature still counts: %+v", s.Proposal)
	}
	// A proposal that has the imported hosts keeps them.
	kept, err := policytext.Join([]policytext.File{{Name: policytext.Main, Text: next}, {Name: policytext.Imported, Text: h}})
	catest.Must(t, err)
	_, err = w.desk["alice"].Propose(kept)
	w.wants("a proposal with the imported hosts", "", err)
	_, err = sign(w.desk["alice"])
	w.wants("alice signs it", "", err)
	_, err = sign(w.desk["bob"])
	w.wants("bob signs it", "", err)
	if !strings.Contains(w.inForce(), "[hosts.new1]") {
		t.Error("the imported host is gone")
	}
	w.Audit()
}

// TestAnImportWhoseCommitFails: the policy in force is what the ledger says, whether the entry stands or not.
func TestAnImportWhoseCommitFails(t *testing.T) {
	for _, stands := range []bool{false, true} {
		var fail bool
		c := catest.New(t, catest.Config{Policy: importPolicy(catest.Policy), Commit: func(commit func() error) error {
			if !fail {
				return commit()
			}
			fail = false
			if stands {
				if err := commit(); err != nil {
					return err
				}
			}
			return errors.New("input/output error, says the test")
		}})
		alice := c.Enrol("alice")
		before := text(t, c)
		h := newHost("new1", 0, "web")
		after, err := policytext.Import(before, h)
		catest.Must(t, err)
		ch, err := alice.Client.Order(ctx, api.OrderAsk{Person: "alice", Act: statement.OrderImportHosts, Target: statement.ImportTarget(hashOf(before), hashOf(after)), Detail: hashOf(h)})
		catest.Must(t, err)
		signed := alice.Sign(ch)
		fail = true
		if _, err := alice.Client.SignOrder(ctx, ch.ID, api.SignedOrder{SSHSIG: signed, Hosts: []byte(h)}); err == nil {
			t.Errorf("stands %v: it is said to have worked", stands)
		}
		want := before
		if stands {
			want = after
		}
		if text(t, c) != want {
			t.Errorf("stands %v: another policy is in force", stands)
		}
		if _, err := alice.Request("root", "new1"); (err == nil) != stands {
			t.Errorf("stands %v: %v", stands, err)
		}
		c.Audit()
	}
}

// TestAPolicyOfSeveralFiles is in force after init, and lies as files where a reload reads it again.
func TestAPolicyOfSeveralFiles(t *testing.T) {
	set, err := policytext.Join([]policytext.File{{Name: policytext.Main, Text: importPolicy(catest.Policy)}, {Name: "hosts/a.toml", Text: newHost("new1", 0, "web")}})
	catest.Must(t, err)
	c := catest.New(t, catest.Config{Policy: set})
	alice := c.Enrol("alice")
	_, err = alice.Request("root", "new1")
	catest.Must(t, err)
	got, err := policyfiles.Read(filepath.Join(c.Dir, "policy"), 1<<20)
	if err != nil || string(got) != set {
		t.Errorf("the files: %v\n%s", err, got)
	}
	r, err := c.Reload(ctx)
	if err != nil || r.Policy != "in force" {
		t.Errorf("a reload says %+v, %v", r, err)
	}
	h := newHost("new2", 1, "web")
	_, err = importOf(alice, set, h, h)
	catest.Must(t, err)
	if r, err := c.Reload(ctx); err != nil || r.Policy != "in force" { // what was imported since is no change of the files
		t.Errorf("a reload after an import says %+v, %v", r, err)
	}
	c.Audit()
}
