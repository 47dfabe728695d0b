package roadtest

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestOwnersChangeThePolicy: a production site changes its policy with the programs and nothing else. A bad file changes nothing; a good one is
// proposed, counts with the second owner's touch, and lets somebody in who had no way in before; the whole ledger verifies, and so does her bundle.
func TestOwnersChangeThePolicy(t *testing.T) {
	l := production(t)
	ctx := t.Context()
	for _, who := range []string{"alice", "bob", "dan"} {
		for _, key := range []string{"desk", "safe"} {
			l.enrol(who, key, l.local("invite", who))
		}
	}
	first := filepath.Join(l.Dir, "policy.toml")
	for _, who := range []string{"alice", "bob"} {
		l.do(who, "breakglass", "found", "--yes", "--policy", first)
	}
	for _, who := range []string{"bob", "dan"} {
		l.do(who, "breakglass", "reviewer", "init")
	}
	l.refused("dan", "no_rule", "breakglass", "request", "--reason", reason, l.people["dan"].Target())
	b, err := os.ReadFile(first)
	if err != nil {
		t.Fatal(err)
	}
	old := string(b)

	// What the service reads when it is told to is proposed, if it can be.
	file := filepath.Join(l.Dir, "ca", "policy.toml")
	hangup := func(text string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		log := func() string { b, _ := os.ReadFile(filepath.Join(l.Dir, "ca.log")); return string(b) }
		before := strings.Count(log(), "msg=reloaded")
		if err := l.Proc("ca").Cmd.Process.Signal(syscall.SIGHUP); err != nil {
			t.Fatal(err)
		}
		for end := time.Now().Add(10 * time.Second); strings.Count(log(), "msg=reloaded") == before; time.Sleep(20 * time.Millisecond) {
			if time.Now().After(end) {
				t.Fatal("the service does not reload")
			}
		}
	}
	hangup(strings.Replace(old, "minutes = 10", "minuets = 10", 1))
	if out := l.local("policy", "status"); !strings.Contains(out, "proposed   nothing") {
		t.Fatalf("a bad file is proposed:\n%s", out)
	}
	l.refused("alice", "no policy is proposed", "breakglass", "policy", "sign", "--yes")
	next := old + "\n[[rule]]\nname = \"dan-web\"\nwhy = \"Dan mends web servers.\"\nwho = [\"dan\"]\nhosts = [\"@web\"]\nlogins = [\"" + l.Login + "\"]\nminutes = 5\n"
	hangup(next)
	if out := l.local("policy", "status"); !strings.Contains(out, "dan gains rule dan-web") || !strings.Contains(out, "signed     nobody") {
		t.Fatalf("status says\n%s", out)
	}

	// Owners read and sign; one alone is not enough, and a copy that is another is told.
	if out := l.do("alice", "breakglass", "policy"); !strings.Contains(out, "+name = \"dan-web\"") || !strings.Contains(out, "2 of: alice, bob") {
		t.Fatalf("alice reads\n%s", out)
	}
	l.refused("dan", "not_owner", "breakglass", "policy", "sign", "--yes")
	l.refused("alice", "nothing was signed", "breakglass", "policy", "sign", "--yes", "--file", first)
	l.do("alice", "breakglass", "policy", "sign", "--yes", "--file", file)
	l.refused("dan", "no_rule", "breakglass", "request", "--reason", reason, l.people["dan"].Target())
	l.End("ca", true) // what waits, waits
	if err := l.StartCA(ctx); err != nil {
		t.Fatal(err)
	}
	if out := l.do("bob", "breakglass", "policy"); !strings.Contains(out, "signed     alice") {
		t.Fatalf("bob reads\n%s", out)
	}
	l.do("bob", "breakglass", "policy", "sign", "--yes")
	if out := l.do("dan", "breakglass", "ssh", "--reason", reason, l.people["dan"].Target(), "--", "echo in"); strings.TrimSpace(out) != "in" {
		t.Fatalf("dan's shell says %q", out)
	}

	// The other way in: an owner carries it.
	l.refused("dan", "not_owner", "breakglass", "policy", "propose", first)
	bad := filepath.Join(l.Dir, "bad.toml")
	if err := os.WriteFile(bad, []byte(strings.Replace(next, `who = ["dan"]`, `who = ["dann"]`, 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	l.refused("bob", "did you mean", "breakglass", "policy", "propose", bad)
	l.do("bob", "breakglass", "policy", "propose", first)
	l.do("bob", "breakglass", "policy", "withdraw")
	if out := l.local("policy", "status"); !strings.Contains(out, "proposed   nothing") {
		t.Fatalf("withdrawn, and status says\n%s", out)
	}

	out := l.do("bob", "breakglass", "sessions", "--json")
	id := requestID.FindString(out)
	if out := l.do("bob", "breakglass", "verify", id); !strings.HasPrefix(out, "VERIFIED") {
		t.Fatalf("verify %s says\n%s", id, out)
	}
	pins := filepath.Join(l.Dir, "pins.json")
	if err := os.WriteFile(pins, []byte(l.do("alice", "breakglass", "pins", "--json")), 0o600); err != nil {
		t.Fatal(err)
	}
	if out := l.local("ledger", "verify", "--trust", pins); !strings.Contains(out, "VERIFIED") {
		t.Fatalf("the ledger: %s", out)
	}
}
