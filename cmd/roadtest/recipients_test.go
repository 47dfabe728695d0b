package roadtest

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"breakglass/internal/road"
)

// TestWhoCanRead: recordings are sealed to a reader's key and to the recovery key on paper; the set is checked, changed by orders, and a session does not
// open when nobody could read it. What was recorded is read with a touch, and with two of three papers on a machine that has nothing else.
func TestWhoCanRead(t *testing.T) {
	l := production(t)
	for who, keys := range map[string][]string{"alice": {"desk", "safe"}, "bob": {"desk", "safe"}, "carol": {"desk"}} {
		for _, key := range keys {
			l.enrol(who, key, l.local("invite", who))
		}
	}
	for _, owner := range []string{"alice", "bob"} {
		l.do(owner, "breakglass", "found", "--yes", "--policy", filepath.Join(l.Dir, "policy.toml"))
	}
	check := func(fails bool, want ...string) {
		t.Helper()
		out, err := exec.CommandContext(t.Context(), filepath.Join(l.Bin, "breakglass-ca"), "recipients", "check", "--dir", filepath.Join(l.Dir, "ca")).CombinedOutput()
		if (err != nil) != fails {
			t.Errorf("recipients check: %v\n%s", err, out)
		}
		for _, w := range want {
			if !strings.Contains(string(out), w) {
				t.Errorf("recipients check has no %q:\n%s", w, out)
			}
		}
	}
	check(true, "nobody could read", "hint: breakglass reviewer init")
	l.do("bob", "breakglass", "reviewer", "init")
	check(false, "warning: bob alone", "no recovery key", "without an identity: dan")

	// The papers, made on a machine of its own.
	vault := t.TempDir()
	offline := func(stdin string, args ...string) string {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), filepath.Join(l.Bin, "breakglass"), args...)
		cmd.Env = []string{"HOME=" + vault, "BREAKGLASS_HOME=" + filepath.Join(vault, "home"), "PATH=" + os.Getenv("PATH")}
		cmd.Stdin = strings.NewReader(stdin)
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("%v: %v\n%s", args, err, out)
		}
		return string(out)
	}
	pub := filepath.Join(vault, "recovery.pub")
	offline("", "recovery", "init", "--shares", "2-of-3", "-o", pub, "--print", vault)
	var typed string
	for _, n := range []string{"3", "1"} {
		b, err := os.ReadFile(filepath.Join(vault, "recovery-sheet-"+n+".txt"))
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(b)) {
			if line = strings.TrimSpace(line); len(line) > 20 && line[1] == ' ' && line[0] >= '1' && line[0] <= '5' {
				typed += strings.ToLower(line) + "\n"
			}
		}
	}
	offline(typed, "recovery", "check", pub)
	l.refused("alice", "is no operator", "breakglass-ca", "recipients", "recovery", pub, "--reason", "made in the vault")
	l.do("carol", "breakglass-ca", "recipients", "recovery", pub, "--reason", "made in the vault")
	if out := l.local("recipients"); !strings.Contains(out, "(recovery)") || !strings.Contains(out, "all post-quantum") {
		t.Errorf("recipients:\n%s", out)
	}
	if out := l.local("status"); !strings.Contains(out, "bob alone can read") {
		t.Errorf("status:\n%s", out)
	}

	// A session, read by bob with a touch.
	l.use("alice", "desk")
	if out := l.do("alice", "breakglass", "ssh", "--reason", reason, l.Login+"@"+road.Host, "--", "echo", "sealed-to-two"); !strings.Contains(out, "sealed-to-two") {
		t.Fatal(out)
	}
	id := l.stored("bob")
	if out := l.do("bob", "breakglass", "export", id, "--text", "--why", "the review of tonight"); !strings.Contains(out, "sealed-to-two") {
		t.Errorf("export:\n%s", out)
	}
	// Another key of bob's is in the machine: the hint says which opens.
	l.use("bob", "desk")
	l.refused("bob", "breakglass reviewer show", "breakglass", "export", id, "--text")
	if out := l.do("bob", "breakglass", "verify", id); !strings.HasPrefix(out, "VERIFIED sealed\n") {
		t.Errorf("verify with a key that doesn't open it:\n%s", out)
	}
	l.use("bob", "safe")

	bundle, pins := filepath.Join(vault, "session.bundle"), filepath.Join(vault, "pins")
	l.do("bob", "breakglass", "bundle", id, "--envelope", "--why", "for the vault", "-o", bundle)
	if err := os.WriteFile(pins, []byte(l.do("bob", "breakglass", "pins", "--json")), 0o600); err != nil {
		t.Fatal(err)
	}
	if out := offline(typed, "export", bundle, "--trust", pins, "--text", "--recovery"); !strings.Contains(out, "sealed-to-two") {
		t.Errorf("with the papers:\n%s", out)
	}
	if out := offline(typed, "verify", bundle, "--trust", pins, "--recovery"); !strings.HasPrefix(out, "VERIFIED\n") {
		t.Errorf("with the papers:\n%s", out)
	}

	// Rotated: what was sealed to the old identity is read with the new file.
	l.do("bob", "breakglass", "reviewer", "rotate")
	if out := l.do("bob", "breakglass", "export", id, "--text"); !strings.Contains(out, "sealed-to-two") {
		t.Errorf("after the rotation:\n%s", out)
	}
	// Taken out: nobody but the paper could read, and that is nobody.
	l.do("carol", "breakglass-ca", "recipients", "remove", "bob", "--reason", "his laptop is gone")
	check(true, "nobody could read")
	l.refused("alice", "nobody could read", "breakglass", "ssh", "--reason", reason, l.Login+"@"+road.Host, "--", "true")
	if out := l.local("ledger", "verify", "--trust", pins); !strings.Contains(out, "VERIFIED") {
		t.Errorf("ledger verify:\n%s", out)
	}
}

// stored waits for a recording in the store and gives its session.
func (l *life) stored(who string) string {
	l.Helper()
	for end := time.Now().Add(2 * time.Minute); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
		var list struct {
			Sessions []struct {
				ID     string `json:"id"`
				Stored bool   `json:"stored"`
			} `json:"sessions"`
		}
		if err := json.Unmarshal([]byte(l.do(who, "breakglass", "sessions", "--json")), &list); err != nil {
			l.Fatal(err)
		}
		for _, s := range list.Sessions {
			if s.Stored {
				return s.ID
			}
		}
	}
	l.Fatal("no recording reached the store")
	return ""
}
