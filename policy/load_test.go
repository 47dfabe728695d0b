package policy_test

import (
	"errors"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"breakglass/policy"
)

var update = flag.Bool("update", false, "write new golden files; those that exist are never edited")

// TestLoadErrors holds what each testdata/v1/bad/*.toml is refused with against the .txt beside it: a line and a caret
// for every fault.
func TestLoadErrors(t *testing.T) {
	files, err := filepath.Glob("testdata/v1/bad/*.toml")
	if err != nil || len(files) < 10 {
		t.Fatal(files, err)
	}
	for _, file := range files {
		src, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		p, err := policy.Load(filepath.Base(file), src)
		if err == nil || p != nil {
			t.Errorf("%s: loaded", file)
			continue
		}
		golden := strings.TrimSuffix(file, ".toml") + ".txt"
		want, rerr := os.ReadFile(golden)
		if *update && errors.Is(rerr, os.ErrNotExist) {
			rerr = os.WriteFile(golden, []byte(err.Error()+"\n"), 0o644)
			want = []byte(err.Error() + "\n")
		}
		if rerr != nil {
			t.Fatal(rerr)
		}
		if got := err.Error() + "\n"; got != string(want) {
			t.Errorf("%s:\n%s\nwant:\n%s", file, got, want)
		}
	}
}

// TestLineMutations: no key of the base policy can be misspelt, or written in another case, so that the file still
// loads.
func TestLineMutations(t *testing.T) {
	src, err := os.ReadFile("testdata/v1/base.toml")
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(string(src), "\n")
	for i, line := range lines {
		key, value, ok := strings.Cut(line, " = ")
		if !ok {
			continue
		}
		changed := append([]string(nil), lines...)
		changed[i] = key[:1] + key + " = " + value // wwho, hhosts, mminutes …
		if _, err := policy.Load("m", []byte(strings.Join(changed, "\n"))); err == nil {
			t.Errorf("line %d loads as %q", i+1, changed[i])
		}
		changed[i] = strings.ToUpper(key[:1]) + key[1:] + " = " + value // Who: go-toml alone would take it for who
		if _, err := policy.Load("m", []byte(strings.Join(changed, "\n"))); err == nil {
			t.Errorf("line %d loads as %q", i+1, changed[i])
		}
	}
}

// TestLongLine: a line of a megabyte, and a key of as many parts, neither fill the terminal nor the memory.
func TestLongLine(t *testing.T) {
	for _, src := range []string{
		strings.Repeat("a.", 500_000) + "a = 1\n",
		"profile = \"demo\"\nx = \"" + strings.Repeat("y", 1_000_000) + "\"\n",
		"profile = " + strings.Repeat("[", 5_000) + strings.Repeat("]", 5_000) + "\n",
	} {
		_, err := policy.Load("long.toml", []byte(src))
		if err == nil || len(err.Error()) > 10_000 {
			t.Errorf("error of %d bytes for a file that begins %.20q", len(err.Error()), src)
		}
	}
}

// TestLoad looks at what a loaded policy says.
func TestLoad(t *testing.T) {
	p := basePolicy(t)
	if len(p.SHA256) != 64 || len(p.Source) == 0 {
		t.Errorf("SHA256 %q over %d bytes", p.SHA256, len(p.Source))
	}
	src, _ := os.ReadFile("testdata/v1/base.toml")
	q, err := policy.Load("base.toml", append(src, '\n'))
	if err != nil || q.SHA256 == p.SHA256 {
		t.Errorf("a byte more: %v, same hash %v", err, q != nil && q.SHA256 == p.SHA256)
	}
	h, ok := p.Host("lb07")
	if !ok || h.Entry != "lb*" || len(h.HostCA) != 1 || h.Address[0] != "lb07.example.net:22" {
		t.Errorf("lb07: %+v %v", h, ok)
	}
	for _, n := range []string{"lb", "LB1", "lb1,root", "lb*", "web03", ""} {
		if h, ok := p.Host(hostName(n)); ok && n != "lb" {
			t.Errorf("%q is %+v", n, h)
		}
	}
	if got := len(p.HostNames()); got != 4 {
		t.Errorf("%d host names written out", got)
	}
	if cas := p.HostCAs(); len(cas) != 1 || cas[0].Entry != "lb*" || !policy.SameKey(cas[0].Key, h.HostCA[0]) {
		t.Errorf("host CAs %+v", cas)
	}
	if !p.IsOwner("olga") || p.IsOwner("bob") || !p.IsOperator("dan") || p.IsOperator("olga") || !p.IsReader("rita") {
		t.Error("site's people")
	}
}

// TestHostInheritance: each setting comes from the closest entry that has it, and nothing is added up.
func TestHostInheritance(t *testing.T) {
	p := load(t, `
[hosts."*"]
host_ca = ["`+keyLine+`"]
groups = ["all"]
[hosts."web*"]
address = ["{host}.example.net:22", "[2001:db8::1]:2222"]
groups = ["web"]
[hosts.web01]
address = ["10.0.0.1:22"]
[hosts.web02]
groups = []
[hosts.db01]
address = ["10.0.0.2:22"]
[hosts."10.0.9.*"]
address = ["{host}:22"]
`, strings.NewReplacer(`"[2001:db8::1]:2222"`, `"{host}:2222"`))
	for _, c := range []struct{ host, address, groups string }{
		{"web01", "10.0.0.1:22", "web"},
		{"web02", "web02.example.net:22 web02:2222", ""},
		{"web77", "web77.example.net:22 web77:2222", "web"},
		{"db01", "10.0.0.2:22", "all"},
		{"10.0.9.7", "10.0.9.7:22", "all"},
	} {
		h, ok := p.Host(hostName(c.host))
		var groups []string
		for _, g := range h.Groups {
			groups = append(groups, string(g))
		}
		if !ok || strings.Join(h.Address, " ") != c.address || strings.Join(groups, " ") != c.groups || len(h.HostCA) != 1 {
			t.Errorf("%s: %+v %v", c.host, h, ok)
		}
	}
	for _, unknown := range []string{"db02", "10.0.9.999", "10.0.9.1.2"} {
		if h, ok := p.Host(hostName(unknown)); ok {
			t.Errorf("%s is known: %+v", unknown, h)
		}
	}
}
