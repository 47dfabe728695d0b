package policy_test

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	"breakglass/policy"
)

// TestCheck changes one thing in the base policy and looks for the finding that it must bring.
func TestCheck(t *testing.T) {
	src, err := os.ReadFile("testdata/v1/base.toml")
	if err != nil {
		t.Fatal(err)
	}
	before := map[string]bool{}
	for _, f := range findings(t, string(src)) {
		before[f] = true
	}
	rule := func(s string) [2]string {
		return [2]string{"[[rule]]\nname = \"drill\"", s + "\n[[rule]]\nname = \"drill\""}
	}
	for _, c := range []struct {
		when    string
		replace [2]string
		want    []string // every finding that comes new
	}{
		{"nothing changes", [2]string{}, nil},
		{"a rule asks for more approvals than there are approvers",
			rule("[[rule]]\nname=\"n\"\nwhy=\"w\"\nwho=[\"erin\"]\nhosts=[\"safe01\"]\nlogins=[\"x\"]\nminutes=1\napprovals=2\napprovers=[\"rita\"]"),
			[]string{`error: rule "n" is no way in: it wants 2 approvals and nobody in it could get that`, `warning: no test is decided by rule "n"`}},
		{"a rule's only approver is in it",
			rule("[[rule]]\nname=\"n\"\nwhy=\"w\"\nwho=[\"erin\",\"rita\"]\nhosts=[\"safe01\"]\nlogins=[\"x\"]\nminutes=1\napprovals=1\napprovers=[\"rita\"]"),
			[]string{`error: rule "n" is no way in for rita: it wants 1 approval, and nobody approves themselves`,
				`warning: rule "n" is no way in for erin while one approver is away`, `warning: no test is decided by rule "n"`}},
		{"a rule stands behind one that takes all of it",
			rule("[[rule]]\nname=\"n\"\nwhy=\"w\"\nwho=[\"alice\"]\nhosts=[\"web01\",\"lb1*\"]\nlogins=[\"root\"]\nminutes=1"),
			[]string{`error: rule "n" can never decide: rule "away" (line 70) takes the same people, hosts and logins before it`, `warning: no test is decided by rule "n"`}},
		{"it takes one host more",
			rule("[[rule]]\nname=\"n\"\nwhy=\"w\"\nwho=[\"alice\"]\nhosts=[\"web01\",\"l*\"]\nlogins=[\"root\",\"x\"]\nminutes=1"),
			[]string{`warning: no test is decided by rule "n"`}},
		{"the trusted network is everywhere", [2]string{`office = [`, `office = ["0.0.0.0/0", `},
			[]string{`error: trusted network "office" is every address: the checks of place mean nothing`}},
		{"the denied network is everywhere", [2]string{`blocked = [`, `blocked = ["::/0", `},
			[]string{`error: denied network "blocked" is every address: nobody could ever get in`}},
		{"a network is used nowhere", [2]string{"vault = [", "lab = [\"10.0.0.0/8\"]\nvault = ["}, []string{`warning: network "lab" is used nowhere`}},
		{"a host is in no rule", [2]string{"[hosts.db01]", "[hosts.old]\naddress = [\"10.0.9.9:22\"]\nhost_keys = [\"" + keyLine + "\"]\n[hosts.db01]"}, []string{`warning: host "old" is in no rule`}},
		{"a host has a name for an address", [2]string{"10.0.2.1:22", "db01.example.net:22"}, []string{`warning: host "db01" is unreachable while DNS is down`}},
		{"PINs are not asked for", [2]string{"[always]", "[always]\nuv = false"}, []string{`warning: a stolen key opens without PIN or biometric`}},
		{"there is one owner", [2]string{`["olga", "alice"]`, `["olga"]`}, []string{`warning: there is one owner: with olga away nobody can change the policy, and nobody checks what olga changes`}},
	} {
		text := string(src)
		if c.replace[0] != "" {
			if !strings.Contains(text, c.replace[0]) {
				t.Fatalf("when %s: nothing to replace", c.when)
			}
			text = strings.Replace(text, c.replace[0], c.replace[1], 1)
		}
		var fresh []string
		for _, f := range findings(t, text) {
			if !before[f] {
				fresh = append(fresh, f)
			}
		}
		for _, f := range fresh {
			if !strings.Contains("\n"+strings.Join(c.want, "\n")+"\n", "\n"+f+"\n") {
				t.Errorf("when %s: unexpected finding %s", c.when, f)
			}
		}
		for _, w := range c.want {
			if !strings.Contains("\n"+strings.Join(fresh, "\n")+"\n", "\n"+w+"\n") {
				t.Errorf("when %s: missing finding %s in %q", c.when, w, fresh)
			}
		}
	}
}

func findings(t *testing.T, src string) []string {
	t.Helper()
	p, err := policy.Load("c.toml", []byte(src))
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, f := range policy.Check(p) {
		if f.Next == "" {
			t.Errorf("%s leaves the person alone", f.Message)
		}
		out = append(out, fmt.Sprintf("%s: %s", f.Severity, f.Message))
	}
	return out
}

// TestExplain holds two accounts against their golden files: one that is let in and one that is not.
func TestExplain(t *testing.T) {
	p := basePolicy(t)
	for file, changes := range map[string][]change{
		"explain_ask":  {into("postgres@db01"), ticket("INC-4711"), why(reason40), approved("carol")},
		"explain_deny": {is("erin"), into("deploy@web02"), at(bare("203.0.113.9")), forwards("local a:1"), ticket("x\x1b[2J")},
	} {
		a := usual()
		for _, change := range changes {
			change(&a)
		}
		got := policy.Explain(p, a.req, a.facts)
		golden := "testdata/v1/" + file + ".txt"
		want, err := os.ReadFile(golden)
		if *update && errors.Is(err, os.ErrNotExist) {
			want, err = []byte(got), os.WriteFile(golden, []byte(got), 0o644)
		}
		if err != nil || got != string(want) {
			t.Errorf("%v; %s:\n%s\nwant:\n%s", err, file, got, want)
		}
		if strings.ContainsRune(got, '\x1b') {
			t.Errorf("%s writes to the terminal", file)
		}
	}
}
