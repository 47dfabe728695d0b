package roadtest

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"breakglass/internal/road"
)

// TestANewHostIsImportedByOneTouch and is reached at once; a known host's other key, and a group that nobody opened, are refused.
func TestANewHostIsImportedByOneTouch(t *testing.T) {
	policy := road.DemoPolicy + "\n[host_groups.web]\nimport = true\n"
	touches := 0
	r, alice, _ := start(t, road.Config{Policy: policy, Touch: func(person, op string) bool {
		if person == "alice" {
			touches++
		}
		return true
	}})
	ctx := t.Context()
	key, err := r.NewHostKey(ctx, "web07")
	if err != nil {
		t.Fatal(err)
	}
	file := func(name, text string) string {
		t.Helper()
		p := filepath.Join(r.Dir, name)
		if err := os.WriteFile(p, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return p
	}
	host, port, err := net.SplitHostPort(r.PeerAddress)
	if err != nil {
		t.Fatal(err)
	}
	known := file("known_hosts", fmt.Sprintf("[web07]:%s,[%s]:%s %s\n", port, host, port, key))
	run := func(args ...string) (string, error) {
		out, err := alice.Command(ctx, "breakglass-ca", append([]string{"host", "import"}, args...)...).CombinedOutput()
		return string(out), err
	}
	shell := func(target string) (string, error) {
		out, err := alice.Command(ctx, "breakglass", "ssh", "--reason", reason, r.Login+"@"+target, "echo", "reached-$((40+2))").CombinedOutput()
		return string(out), err
	}
	if out, err := shell("web07"); err == nil {
		t.Fatalf("reached before it is known:\n%s", out)
	}
	for _, c := range []struct {
		why, want string
		args      []string
	}{
		{"a known host's other key", "web01 is known, with another host key", []string{"known_hosts", file("changed", "web01 "+key+"\n"), "--group", "web"}},
		{"a group that nobody opened", `web07 would be in group "db"`, []string{"known_hosts", known, "--group", "db"}},
		{"a host without a key", "web09 has no key to check it by", []string{"ansible", file("hosts.ini", "[web]\nweb09 ansible_host=127.0.0.9\n")}},
		{"a hashed name", "its name is hashed", []string{"known_hosts", file("hashed", "|1|F1E1KeoE/eEWhi10WpGv4OdiO6Y=|3988QV0VE8wmZL7suNrYQLITLCg= "+key+"\n"), "--group", "web"}},
	} {
		if out, err := run(c.args...); err == nil || !strings.Contains(out, c.want) {
			t.Errorf("%s: %v\n%s", c.why, err, out)
		}
	}
	out, err := run("known_hosts", known, "--group", "web", "--out", filepath.Join(r.Dir, "new.toml"))
	if err != nil || !strings.Contains(out, "+ web07") {
		t.Fatalf("--out: %v\n%s", err, out)
	}
	written, err := os.ReadFile(filepath.Join(r.Dir, "new.toml"))
	if err != nil || !strings.Contains(string(written), "[hosts.web07]\n") || !strings.Contains(string(written), key) {
		t.Errorf("--out: %v\n%s", err, written)
	}
	before := touches // the pass that reads the policy is there by now
	if out, err = run("known_hosts", known, "--group", "web"); err != nil || !strings.Contains(out, "imported: 1 host") {
		t.Fatalf("the import: %v\n%s", err, out)
	}
	if touches != before+1 {
		t.Errorf("it took %d touches", touches-before)
	}
	if out, err = run("known_hosts", known, "--group", "web"); err != nil || !strings.Contains(out, "= web07") || !strings.Contains(out, "nothing new") {
		t.Errorf("once more: %v\n%s", err, out)
	}
	if err := r.StartNewHost(ctx, "web07"); err != nil {
		t.Fatal(err)
	}
	if out, err := shell("web07"); err != nil || !strings.Contains(out, "reached-42") {
		t.Errorf("the imported host: %v\n%s", err, out)
	}
	if out, err := verifyLedger(ctx, r, alice); err != nil || !strings.HasPrefix(out, "VERIFIED") {
		t.Errorf("the ledger: %v\n%s", err, out)
	}
}
