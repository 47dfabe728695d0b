package policy_test

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"breakglass/internal/policytext"
	"breakglass/policy"
)

// set makes the text of a policy of several files.
func set(t *testing.T, files ...string) []byte {
	t.Helper()
	var list []policytext.File
	for i := 0; i < len(files); i += 2 {
		list = append(list, policytext.File{Name: files[i], Text: files[i+1]})
	}
	text, err := policytext.Join(list)
	if err != nil {
		t.Fatal(err)
	}
	return []byte(text)
}

func baseText(t testing.TB) string {
	t.Helper()
	src, err := os.ReadFile("testdata/v1/base.toml")
	if err != nil {
		t.Fatal(err)
	}
	return string(src)
}

func aHost(n string, more ...string) string {
	return fmt.Sprintf("[hosts.%s]\naddress = [\"10.9.0.1:22\"]\nhost_keys = [%q]\n%s", n, keyLine, strings.Join(more, "\n")+"\n")
}

// TestSetOfFiles: hosts of other files are hosts like any, and each thing says in which file it stands.
func TestSetOfFiles(t *testing.T) {
	src := set(t, "policy.toml", baseText(t), "hosts/a.toml", "# the first\n"+aHost("set01", `groups = ["web"]`), "hosts/b.toml", aHost("set02")+"\n"+aHost(`"set-*"`))
	src = []byte(strings.Replace(string(src), "[hosts.\"set-*\"]\naddress = [\"10.9.0.1:22\"]", "[hosts.\"set-*\"]\naddress = [\"{host}.example.net:22\"]", 1))
	p, err := policy.Load("dir", src)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		host, file string
		line       int
	}{{"set01", "hosts/a.toml", 2}, {"set02", "hosts/b.toml", 1}, {"set-9", "hosts/b.toml", 6}, {"web01", "policy.toml", lineOf(baseText(t), "[hosts.web01]")}} {
		if h, ok := p.Host(hostName(c.host)); !ok || h.File != c.file || h.Line != c.line {
			t.Errorf("%s stands in %s line %d, known %v; want %s line %d", c.host, h.File, h.Line, ok, c.file, c.line)
		}
	}
	if r := p.Rules[0]; r.Line != lineOf(baseText(t), "[[rule]]") {
		t.Errorf("the first rule is said to stand in line %d", r.Line)
	}
	i := slices.IndexFunc(policy.Check(p), func(f policy.Finding) bool { return strings.Contains(f.Message, `"set02" is in no rule`) })
	if i < 0 {
		t.Fatal("a host of no rule is not found")
	}
	if f := policy.Check(p)[i]; f.File != "hosts/b.toml" || f.Line != 1 {
		t.Errorf("%+v", f)
	}
	for _, r := range policy.Test(p) {
		if r.File != "policy.toml" {
			t.Errorf("test %q stands in %q", r.Name, r.File)
		}
	}
}

func lineOf(text, start string) int {
	before, _, _ := strings.Cut(text, "\n"+start)
	return strings.Count(before, "\n") + 2
}

// TestSetFaults: a fault names its own file, line and caret.
func TestSetFaults(t *testing.T) {
	rule := baseText(t)
	for _, c := range []struct {
		why   string
		files []string
		want  []string // FILE:LINE:COLUMN: text
	}{
		{"a typo in the second file", []string{"hosts/a.toml", aHost("x1"), "hosts/b.toml", "\n" + aHost("x2", `gruops = ["web"]`)},
			[]string{`d/hosts/b.toml:5:1: unknown key "gruops" in [hosts.x2]; did you mean "groups"?`, "5 | gruops = [\"web\"]\n      | ^^^^^^"}},
		{"a rule in a file of hosts", []string{"hosts/a.toml", "[[rule]]\nname = \"door\"\n"}, []string{`d/hosts/a.toml:1:3: "rule" may not stand in hosts/a.toml`}},
		{"a person in a file of hosts", []string{"hosts/a.toml", aHost("x1") + "[people.mallory]\n"}, []string{`d/hosts/a.toml:5:2: "people" may not stand in hosts/a.toml`}},
		{"a key before any table", []string{"hosts/a.toml", "profile = \"demo\"\n" + aHost("x1")}, []string{`d/hosts/a.toml:1:1: "profile" may not stand`}},
		{"what would continue the last table of the file before", []string{"hosts/a.toml", aHost("x1"), "hosts/b.toml", "groups = [\"db\"]\n"}, []string{`d/hosts/b.toml:1:1: unknown key "groups" here`}},
		{"a host of the first file again", []string{"hosts/a.toml", "\n" + aHost("web01")},
			[]string{`d/hosts/a.toml:2:8: host "web01" stands in line ` + fmt.Sprint(lineOf(rule, "[hosts.web01]")) + " of policy.toml already"}},
		{"a host twice, written in two ways", []string{"hosts/a.toml", aHost("x1"), "hosts/b.toml", "hosts.x1.groups = [\"db\"]\n"}, []string{`d/hosts/b.toml:1:7: host "x1" stands in line 1 of hosts/a.toml already`}},
		{"a pattern twice", []string{"hosts/a.toml", "[hosts.\"lb*\"]\n"}, []string{`d/hosts/a.toml:1:8: host "lb*" stands in`}},
		{"patterns that tie across files", []string{"hosts/a.toml", "[hosts.\"y*z\"]\n", "hosts/b.toml", "[hosts.\"yz*\"]\n"}, []string{`line 1 of hosts/a.toml) fit the same names`}},
		{"a string that is not closed", []string{"hosts/a.toml", "[hosts.x1]\naddress = [\"\"\"\n", "hosts/b.toml", "\"\"\"]\n"}, []string{"d/hosts/a.toml:", "d/hosts/b.toml:1:"}},
		{"an incomplete host", []string{"hosts/a.toml", aHost("x1") + "[hosts.x2]\nhost_keys = [\"" + keyLine + "\"]\n"}, []string{`d/hosts/a.toml:5:8: host "x2" has no address`}},
		{"a bad address", []string{"hosts/a.toml", "[hosts.x1]\naddress = [\"10.0.0.1\"]\n"}, []string{`d/hosts/a.toml:2:12: address "10.0.0.1" has no port`}},
	} {
		_, err := policy.Parse("d", set(t, append([]string{"policy.toml", rule}, c.files...)...))
		var le *policy.LoadError
		if !errors.As(err, &le) {
			t.Errorf("%s: %v", c.why, err)
			continue
		}
		for _, want := range c.want {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%s:\n%s\nwant: %s", c.why, err, want)
			}
		}
	}
	_, err := policy.Load("d", set(t, "policy.toml", rule+"\n[[test]]\nname = \"x\"\nperson = \"alice\"\nhost = \"x1\"\nlogin = \"root\"\nfrom = [\"198.51.100.7\"]\nexpect = \"allow\"\n", "hosts/a.toml", aHost("x1")))
	if err == nil || !strings.HasPrefix(err.Error(), "d/policy.toml:") {
		t.Errorf("a failed test: %v", err)
	}
	_, err = policy.Load("d", []byte("-- policy.toml --\n-- ../x.toml --\n"))
	if err == nil || !strings.Contains(err.Error(), "d:1:1: malformed policy set") {
		t.Errorf("a malformed set: %v", err)
	}
}

// TestOrderOfFiles: which file comes first changes no decision.
func TestOrderOfFiles(t *testing.T) {
	a, b := aHost("x1", `groups = ["web"]`), "[hosts.\"x*\"]\naddress = [\"{host}.example.net:22\"]\nhost_keys = [\""+keyLine+"\"]\n"
	p, err := policy.Load("d", set(t, "policy.toml", baseText(t), "a.toml", a, "b.toml", b))
	if err != nil {
		t.Fatal(err)
	}
	q, err := policy.Load("d", set(t, "policy.toml", baseText(t), "b.toml", b, "a.toml", a))
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range []string{"x1", "x2", "web01"} {
		r := usual()
		r.req.Host = hostName(n)
		d, e := policy.Decide(p, r.req, r.facts), policy.Decide(q, r.req, r.facts)
		if d.Outcome != e.Outcome || d.Rule != e.Rule {
			t.Errorf("%s: %v and %v", n, d, e)
		}
	}
}
