package main

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"breakglass/agent/home"
	"breakglass/ca/api"
	"breakglass/ca/api/client"
	"breakglass/ca/catest"
)

// TestAFreshLaptopNeedsTheLineAndTheKey: no token, no list of keys, no file of the old laptop.
func TestAFreshLaptopNeedsTheLineAndTheKey(t *testing.T) {
	r := newRoad(t)
	r.enroll()
	line := strings.TrimSpace(r.ok("breakglass", "pins", "--line").out)
	if len(line) > 160 {
		t.Errorf("nobody types %d characters: %s", len(line), line)
	}
	fresh, err := os.MkdirTemp("", "bg")
	if err != nil {
		t.Fatal(err)
	}
	env := []string{"BREAKGLASS_HOME=" + fresh}
	t.Cleanup(func() {
		r.with(nil, env, "breakglass", "agent", "--stop")
		os.RemoveAll(fresh)
	})
	refused := func(what string, status int, says string, args ...string) {
		t.Helper()
		res := r.with(nil, env, "breakglass", append([]string{"pins", "import"}, args...)...)
		if res.status != status || !strings.Contains(res.err, says) {
			t.Errorf("%s: status %d\n%s", what, res.status, res.err)
		}
	}
	refused("a slip of the pen", 2, "mistyped", "--person", "alice", line[:20]+flip(line[20])+line[21:])
	refused("half of it", 2, "pins line", "--person", "alice", line[:len(line)/2])
	refused("nobody to ask who it is", 2, "--person NAME", line)
	if _, err := os.Stat(filepath.Join(fresh, "config", "pins")); err == nil {
		t.Fatal("a refused line left pins")
	}
	// As typed from the paper: in capitals, in parts.
	half := len(line) / 2
	res := r.with(nil, env, "breakglass", "pins", "import", "--person", "alice", strings.ToUpper(line[:half]), line[half:])
	if res.status != 0 {
		t.Fatalf("import: status %d\n%s", res.status, res.err)
	}
	var a, b api.Pins
	for _, x := range []struct {
		env []string
		to  *api.Pins
	}{{nil, &a}, {env, &b}} {
		if err := json.Unmarshal([]byte(r.with(nil, x.env, "breakglass", "pins", "--json").out), x.to); err != nil {
			t.Fatal(err)
		}
	}
	if a.Site.LedgerKey != b.Site.LedgerKey || len(b.Site.Jumps) != 1 {
		t.Errorf("other pins: %+v", b)
	}
	res = r.with(strings.NewReader("from afar"), env, "breakglass", "ssh", "--reason", reason, "root@web01", "cat; exit 9")
	if res.status != 9 || res.out != "from afar" {
		t.Errorf("ssh: status %d, %q\n%s", res.status, res.out, res.err)
	}
	// The same line again changes nothing, and says who it is.
	if res := r.with(nil, env, "breakglass", "pins", "import", line); res.status != 0 {
		t.Errorf("again: status %d\n%s", res.status, res.err)
	}
	// From standard input.
	if res := r.with(strings.NewReader(line+"\n"), env, "breakglass", "pins", "import", "-"); res.status != 0 {
		t.Errorf("from standard input: status %d\n%s", res.status, res.err)
	}
	// Another installation's line gives nothing up by itself.
	other := catest.New(t, catest.Config{})
	l, err := api.Line(other.Pins.Site)
	if err != nil {
		t.Fatal(err)
	}
	refused("another installation", 2, "--force "+b.Site.Origin, l.String())
	refused("forced with the wrong origin", 2, "--force "+b.Site.Origin, "--force", other.Pins.Site.Origin, l.String())
	if got := r.with(nil, env, "breakglass", "pins", "--offline", "--line").out; strings.TrimSpace(got) != line {
		t.Errorf("the pins were replaced: %s", got)
	}
	if res := r.with(nil, env, "breakglass", "pins", "import", "--person", "alice", "--force", b.Site.Origin, l.String()); res.status != 0 {
		t.Errorf("forced: status %d\n%s", res.status, res.err)
	}
	p, err := home.Home{Config: filepath.Join(fresh, "config")}.Pins()
	if err != nil || p.Site.Origin != other.Pins.Site.Origin {
		t.Errorf("after the force: %v, %v", p.Site.Origin, err)
	}
}

func flip(c byte) string {
	if c == '-' || c == '2' {
		return "3"
	}
	return "2"
}

// TestBootstrapTrustsTheLineAlone: whoever answers at the address and is not the line's CA is found out.
func TestBootstrapTrustsTheLineAlone(t *testing.T) {
	c, other := catest.New(t, catest.Config{}), catest.New(t, catest.Config{})
	good, err := api.Line(c.Pins.Site)
	if err != nil {
		t.Fatal(err)
	}
	if p, err := client.Bootstrap(context.Background(), good); err != nil || p.Site.Origin != c.Pins.Site.Origin {
		t.Fatalf("%v, %v", p.Site.Origin, err)
	}
	theirs, _ := api.Line(other.Pins.Site)
	for what, l := range map[string]api.PinsLine{
		"another CA at the address":                   {LedgerKey: good.LedgerKey, TLS: good.TLS, Addresses: theirs.Addresses},
		"another CA with its own TLS key in the line": {LedgerKey: good.LedgerKey, TLS: theirs.TLS, Addresses: theirs.Addresses},
		"the right CA with another TLS key pinned":    {LedgerKey: good.LedgerKey, TLS: theirs.TLS, Addresses: good.Addresses},
		"the right CA with another ledger pinned":     {LedgerKey: theirs.LedgerKey, TLS: good.TLS, Addresses: good.Addresses},
	} {
		if _, err := client.Bootstrap(context.Background(), l); err == nil {
			t.Errorf("%s: accepted", what)
		}
	}
}
