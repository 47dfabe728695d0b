package ledger_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"breakglass/internal/statement"
	"breakglass/ledger"
	"breakglass/ledger/ledgertest"
)

// openPolicy opens group web, and has what an import could try to get around.
const openPolicy = ledgertest.Policy + `
[host_groups.web]
import = true
[hosts.db01]
address = ["10.0.0.1:22"]
host_keys = ["ssh-ed25519 AAAAdb01"]
groups = ["db"]
[hosts."lb*"]
address = ["{host}.example.net:22"]
host_ca = ["ssh-ed25519 AAAAca"]
[hosts.mail]
address = ["mail.example.net:22"]
host_keys = ["ssh-ed25519 AAAAmail"]
[vias.edge]
address = ["10.0.0.7:22"]
[[rule]]
name = "prod"
hosts = ["prod-*", "@db"]
`

func newHost(n string, more ...string) string {
	return fmt.Sprintf("[hosts.%s]\naddress = [\"10.9.0.%d:22\"]\nhost_keys = [\"ssh-ed25519 AAAA%s\"]\n", n, len(n), n) + strings.Join(more, "\n") + "\n"
}

// TestImportsThatHold: decisions under a policy that was imported into are no faults, nor is a policy of the owners' that follows it.
func TestImportsThatHold(t *testing.T) {
	s := tell(t)
	s.Adopt(openPolicy, s.alice)
	s.Import(s.bob, newHost("new1", `groups = ["web"]`), nil, nil)
	s.Grant(s.alice, nil)
	s.Import(s.alice, newHost("new22", `groups = ["web"]`)+newHost("new333", `groups = ["web"]`), nil, nil)
	s.Import(s.alice, newHost("new4444", `groups = ["web"]`), nil, nil)
	s.Grant(s.alice, nil)
	s.Adopt(openPolicy+"# all gone\n", s.alice)
	s.Grant(s.alice, nil)
	if r := s.report(t); r.Err() != nil {
		t.Fatal(r.Findings)
	}
}

// TestManyImportsAreVerifiedSoon: a long policy is not read anew for each host that an operator imports. It took half a second for each, here.
func TestManyImportsAreVerifiedSoon(t *testing.T) {
	s := tell(t)
	long := strings.Builder{}
	long.WriteString(openPolicy)
	for i := range 5000 {
		fmt.Fprintf(&long, "[hosts.h%d]\naddress = [\"10.1.%d.%d:22\"]\nhost_keys = [\"ssh-ed25519 AAAAh%d\"]\ngroups = [\"db\"]\n", i, i/256, i%256, i)
	}
	s.Adopt(long.String(), s.alice)
	for i := range 40 {
		s.Import(s.bob, strings.Replace(newHost("new", `groups = ["web"]`), "[hosts.new]\naddress = [\"10.9.0.3:22\"]\nhost_keys = [\"ssh-ed25519 AAAAnew\"]",
			fmt.Sprintf("[hosts.new%d]\naddress = [\"10.9.1.%d:22\"]\nhost_keys = [\"ssh-ed25519 AAAAnew%d\"]", i, i, i), 1), nil, nil)
	}
	// What was imported before counts for the one that follows.
	s.Import(s.bob, newHost("again", `groups = ["web"]`, "")+strings.Replace(newHost("x", `groups = ["web"]`), "10.9.0.1", "10.9.1.7", 1), nil, nil)
	start := time.Now()
	r := s.report(t)
	if took := time.Since(start); took > 10*time.Second {
		t.Errorf("it took %v", took)
	}
	if len(r.Findings) != 1 || !strings.Contains(r.Findings[0].Detail, `imports "x" at an address of "new7"`) {
		t.Error(r.Findings)
	}
}

// TestImportsMangled: each fault shows, under the entry that has it.
func TestImportsMangled(t *testing.T) {
	good := newHost("new1", `groups = ["web"]`)
	imported := func(change func(*ledger.PolicyImported)) func(*ledger.Entry) {
		return func(e *ledger.Entry) { change(e.Facts.(*ledger.PolicyImported)) }
	}
	for what, c := range map[string]struct {
		do   func(*story)
		code ledger.Code
	}{
		"nobody signed": {func(s *story) {
			s.Import(s.bob, good, nil, func(e *ledger.Entry) { e.Statement, e.SSHSIG = "", "" })
		}, ledger.FaultSignature},
		"by somebody who is no operator": {func(s *story) { s.Import(s.Enrol("carol"), good, nil, nil) }, ledger.FaultKey},
		"another text was ordered": {func(s *story) {
			s.Import(s.bob, good, nil, imported(func(f *ledger.PolicyImported) { f.Hosts = newHost("new2", `groups = ["web"]`) }))
		}, ledger.FaultStatement},
		"another act was ordered": {func(s *story) {
			s.Import(s.bob, good, func(o *statement.Order) { o.Act = statement.OrderRevokePerson }, nil)
		}, ledger.FaultStatement},
		"into another policy than was ordered": {func(s *story) {
			s.Import(s.bob, good, nil, imported(func(f *ledger.PolicyImported) { f.Previous = statement.Hash{1} }))
		}, ledger.FaultStatement},
		"into a policy that was in force before": {func(s *story) {
			before := s.PolicyHash()
			s.Adopt(openPolicy+"# once more\n", s.alice)
			var target string
			s.Import(s.bob, good, func(o *statement.Order) {
				_, after, _ := statement.ParseImportTarget(o.Target)
				target = statement.ImportTarget(before, after)
				o.Target = target
			}, imported(func(f *ledger.PolicyImported) { f.Previous = before }))
		}, ledger.FaultPolicy},
		"the text after is another": {func(s *story) {
			after := statement.Hash{7}
			s.Import(s.bob, good, func(o *statement.Order) {
				before, _, _ := statement.ParseImportTarget(o.Target)
				o.Target = statement.ImportTarget(before, after)
			}, imported(func(f *ledger.PolicyImported) { f.SHA256 = after }))
		}, ledger.FaultPolicy},
		"a group that is not opened":          {func(s *story) { s.Import(s.bob, newHost("new1", `groups = ["db"]`), nil, nil) }, ledger.FaultPolicy},
		"no group":                            {func(s *story) { s.Import(s.bob, newHost("new1"), nil, nil) }, ledger.FaultPolicy},
		"a via":                               {func(s *story) { s.Import(s.bob, newHost("new1", `groups = ["web"]`, `via = "direct"`), nil, nil) }, ledger.FaultPolicy},
		"a known host":                        {func(s *story) { s.Import(s.bob, newHost("db01", `groups = ["web"]`), nil, nil) }, ledger.FaultPolicy},
		"a host that was imported before":     {func(s *story) { s.Import(s.bob, good, nil, nil); s.Import(s.bob, good, nil, nil) }, ledger.FaultPolicy},
		"a host that a pattern covers":        {func(s *story) { s.Import(s.bob, newHost("lb07", `groups = ["web"]`), nil, nil) }, ledger.FaultPolicy},
		"a pattern":                           {func(s *story) { s.Import(s.bob, newHost(`"n*"`, `groups = ["web"]`), nil, nil) }, ledger.FaultPolicy},
		"a name that a rule takes":            {func(s *story) { s.Import(s.bob, newHost("prod-db01", `groups = ["web"]`), nil, nil) }, ledger.FaultPolicy},
		"a known machine's address":           {func(s *story) { s.Import(s.bob, strings.Replace(good, "10.9.0.4", "10.0.0.1", 1), nil, nil) }, ledger.FaultPolicy},
		"a known machine's, and another port": {func(s *story) { s.Import(s.bob, strings.Replace(good, "10.9.0.4:22", "10.0.0.1:2222", 1), nil, nil) }, ledger.FaultPolicy},
		"a known machine's, spelt otherwise": {func(s *story) {
			s.Import(s.bob, strings.Replace(good, "10.9.0.4:22", "[::ffff:10.0.0.1]:22", 1), nil, nil)
		}, ledger.FaultPolicy},
		"a known machine's name, spelt otherwise": {func(s *story) {
			s.Import(s.bob, strings.Replace(good, "10.9.0.4:22", "Mail.example.net.:22", 1), nil, nil)
		}, ledger.FaultPolicy},
		"a bastion's address":            {func(s *story) { s.Import(s.bob, strings.Replace(good, "10.9.0.4:22", "10.0.0.7:2222", 1), nil, nil) }, ledger.FaultPolicy},
		"one machine under two names":    {func(s *story) { s.Import(s.bob, good+newHost("new2", `groups = ["web"]`), nil, nil) }, ledger.FaultPolicy},
		"a known machine's key":          {func(s *story) { s.Import(s.bob, strings.Replace(good, "AAAAnew1", "AAAAdb01 mine", 1), nil, nil) }, ledger.FaultPolicy},
		"a rule beside":                  {func(s *story) { s.Import(s.bob, good+"[[rule]]\nname = \"door\"\n", nil, nil) }, ledger.FaultPolicy},
		"more groups for the one before": {func(s *story) { s.Import(s.bob, good, nil, nil); s.Import(s.bob, "groups2 = 1\n"+good, nil, nil) }, ledger.FaultPolicy},
		"signatures of owners under it go stale": {func(s *story) {
			s.SignPolicy(s.alice, openPolicy+"# x\n", nil)
			s.Import(s.bob, good, nil, nil)
			s.Adopted(openPolicy+"# x\n", nil)
		}, ledger.FaultKey},
	} {
		t.Run(what, func(t *testing.T) {
			s := tell(t)
			s.Adopt(openPolicy, s.alice)
			c.do(s)
			r := s.report(t)
			found := false
			for _, f := range r.Findings {
				found = found || f.Code == c.code
			}
			if !found {
				t.Errorf("want %s, found %v", c.code, r.Findings)
			}
		})
	}
}
