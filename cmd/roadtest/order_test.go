package roadtest

import (
	"context"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// toType is the order that the CA's machine prints for an operator.
var toType = regexp.MustCompile(`breakglass-ca order \S+ \S+ --reason WHY`)

// TestAnOperatorOrdersARotation: in production what touches a private key is done where the CA's keys are, and what changes the site is ordered where
// an operator's key is, by the line that the first half prints.
func TestAnOperatorOrdersARotation(t *testing.T) {
	l := production(t)
	for who, keys := range map[string][]string{"alice": {"desk", "safe"}, "bob": {"desk", "safe"}, "carol": {"desk"}} {
		for _, key := range keys {
			l.enrol(who, key, l.local("invite", who))
		}
	}
	for _, owner := range []string{"alice", "bob"} {
		l.do(owner, "breakglass", "found", "--yes", "--policy", filepath.Join(l.Dir, "policy.toml"))
	}
	l.do("bob", "breakglass", "reviewer", "init")

	// printed runs a command on the CA's machine and gives the order that it prints, as words.
	printed := func(args ...string) []string {
		t.Helper()
		ctx, stop := context.WithCancel(t.Context())
		defer stop()
		cmd := exec.CommandContext(ctx, filepath.Join(l.Bin, "breakglass-ca"), append(args, "--dir", filepath.Join(l.Dir, "ca"))...)
		cmd.Stdin = strings.NewReader(l.Passphrase + "\n")
		out, err := cmd.CombinedOutput()
		line := toType.FindString(string(out))
		if err != nil || line == "" {
			t.Fatalf("%v: %v, and no order to type in\n%s", args, err, out)
		}
		words := strings.Fields(line)
		words[len(words)-1] = "the yearly change"
		return words
	}
	old := keysOf(t, l.Road, "session_ca", "active")[0]
	into(t, l.Road, l.people["alice"], "before", old)

	order := printed("rotate", "session_ca", "--standby", filepath.Join(l.Dir, "ca", "standby-keys", "session_ca.age"), "--passphrase-fd", "0")
	into(t, l.Road, l.people["alice"], "prepared", old)
	l.refused("alice", "is no operator", order...)
	wrong := append([]string{}, order...)
	wrong[3] = "session_ca:" + old
	l.refused("carol", "no rotation to that key waits", wrong...)
	l.refused("carol", "--reason", order[:4]...)
	l.do("carol", order...)
	active := keysOf(t, l.Road, "session_ca", "active")[0]
	if active == old || !strings.HasSuffix(order[3], active) {
		t.Fatalf("%v made %s active, %s was", order, active, old)
	}
	into(t, l.Road, l.people["alice"], "ordered", active)

	order = printed("rotate", "--retire", old)
	if fps := keysOf(t, l.Road, "session_ca", "retired"); len(fps) > 0 {
		t.Fatalf("local root retired %v", fps)
	}
	l.do("carol", order...)
	if fps := keysOf(t, l.Road, "session_ca", "retired"); len(fps) != 1 || fps[0] != old {
		t.Fatalf("retired are %v, want %s", fps, old)
	}
	l.refused("carol", "trusts no key", order...)
	into(t, l.Road, l.people["alice"], "retired", active)

	// What is prepared waits in the service's memory.
	l.End("ca", false)
	if out, err := l.Road.Run(t.Context(), "breakglass-ca", "rotate", "tls", "--standby", filepath.Join(l.Dir, "ca", "standby-keys", "tls.age"), "--passphrase-fd", "0",
		"--dir", filepath.Join(l.Dir, "ca")); err == nil || !strings.Contains(err.Error(), "does not run") {
		t.Errorf("prepared where nobody could order it: %v\n%s", err, out)
	}
	if out, err := verifyLedger(t.Context(), l.Road, l.people["carol"]); err != nil || !strings.HasPrefix(out, "VERIFIED") {
		t.Errorf("the ledger: %v\n%s", err, out)
	}
}
