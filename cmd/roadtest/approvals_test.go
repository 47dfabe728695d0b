package roadtest

import (
	"encoding/json"
	"os/exec"
	"strings"
	"testing"
	"time"

	"breakglass/internal/road"
	"breakglass/ledger"
)

// emergency is the demo's policy with a rule more: another login of the host (the account's own, told by a ticket) takes two approvals.
func emergency(t *testing.T, override string) string {
	t.Helper()
	i := strings.Index(road.DemoPolicy, "[[rule]]")
	if i < 0 {
		t.Fatal("the demo's policy has no rule")
	}
	return strings.Replace(road.DemoPolicy[:i], "[people.bob]", "[people.carol]\n[people.dan]\n[people.bob]", 1) + `[[rule]]
name = "emergency"
why = "Two leads let alice in."
who = ["alice"]
hosts = ["web01"]
logins = ["{{.Login}}"]
minutes = 10
approvals = 2
approvers = ["bob", "carol", "dan"]
` + override + "\n"
}

// enrol adds people to the road.
func enrol(t *testing.T, r *road.Road, names ...string) map[string]*road.Person {
	t.Helper()
	out := map[string]*road.Person{}
	for _, n := range names {
		p, err := r.Enrol(t.Context(), n)
		if err != nil {
			t.Fatal(err)
		}
		out[n] = p
	}
	return out
}

// says runs a command to its end and gives its status and all that it wrote.
func says(t *testing.T, p *road.Person, args ...string) (int, string) {
	t.Helper()
	cmd := p.Command(t.Context(), "breakglass", args...)
	out, err := cmd.CombinedOutput()
	if _, ended := err.(*exec.ExitError); err != nil && !ended {
		t.Fatal(err)
	}
	return cmd.ProcessState.ExitCode(), string(out)
}

// wants demands a status and texts.
func wants(t *testing.T, p *road.Person, status int, texts []string, args ...string) string {
	t.Helper()
	got, out := says(t, p, args...)
	if got != status {
		t.Errorf("%s: breakglass %v: status %d, want %d\n%s", p.Name, args, got, status, out)
	}
	for _, x := range texts {
		if !strings.Contains(out, x) {
			t.Errorf("%s: breakglass %v does not say %q:\n%s", p.Name, args, x, out)
		}
	}
	return out
}

// waits gives the id of alice's request that waits on her machine.
func waits(t *testing.T, alice *road.Person) string {
	t.Helper()
	for end := time.Now().Add(waitTime); ; time.Sleep(100 * time.Millisecond) {
		out, err := alice.Run(t.Context(), "breakglass", "grants", "--json")
		if err != nil {
			t.Fatal(err)
		}
		var list []struct{ ID, State string }
		if err := json.Unmarshal([]byte(out), &list); err != nil {
			t.Fatal(err)
		}
		for _, g := range list {
			if g.State == "waiting" {
				return g.ID
			}
		}
		if time.Now().After(end) {
			t.Fatalf("nothing waits: %s", out)
		}
	}
}

// TestTwoPeopleLetAliceIn: she waits on her terminal; Ctrl-C, and another command goes on; bob says no, carol and dan yes; the shell opens, is recorded,
// and verifies with their names.
func TestTwoPeopleLetAliceIn(t *testing.T) {
	r, alice, bob := start(t, road.Config{Policy: emergency(t, "")})
	others := enrol(t, r, "carol", "dan")
	ctx := t.Context()
	x := openTerminal(t, alice.Command(ctx, "breakglass", "ssh", "--reason", reason, alice.Target()))
	x.until("0 of 2 approved")
	id := waits(t, alice)
	wants(t, bob, 0, []string{id, "alice", alice.Target(), "2 of 2", "may approve"}, "requests")
	x.until("bob (seen)")
	x.typ("\x03")
	x.until("breakglass ssh " + alice.Target() + " goes on with it")
	x.wait()
	wants(t, alice, 10, []string{"own_request", "bob, carol, dan"}, "approve", id)
	wants(t, bob, 0, []string{"alice wants", reason, "Two leads let alice in.", "127.0.0.1", "proved in the ledger", "0 of 2"}, "deny", id, "--comment", "is it not the backup?")
	y := openTerminal(t, alice.Command(ctx, "breakglass", "ssh", alice.Target()))
	y.until(`bob: no, "is it not the backup?"`)
	y.until("bob (no)")
	wants(t, others["carol"], 0, []string{"bob", `no: "is it not the backup?"`, "1 of 2"}, "approve", id[:3])
	y.until("carol (yes)")
	wants(t, others["carol"], 10, []string{"already_approved"}, "approve", id)
	wants(t, others["dan"], 0, []string{"alice is in"}, "approve", id)
	y.until("approved by carol, dan")
	y.until("recorded")
	y.typ("PS1='> '; echo sum $((40+2))\r")
	y.until("sum 42")
	y.typ("exit 3\r")
	y.wait()
	if got := y.cmd.ProcessState.ExitCode(); got != 3 {
		t.Errorf("exit status %d", got)
	}
	session, err := newest(ctx, bob)
	if err != nil {
		t.Fatal(err)
	}
	out := wants(t, bob, 0, []string{"VERIFIED", "carol approved", "dan approved", "bob said no", "is it not the backup?"}, "verify", session)
	if !strings.HasPrefix(out[strings.Index(out, "VERIFIED"):], "VERIFIED\n") {
		t.Errorf("%s", out)
	}
	text, err := bob.Run(ctx, "breakglass", "export", session, "--text")
	if err != nil || !strings.Contains(text, "sum 42") {
		t.Errorf("the transcript: %v\n%s", err, tail(text, 20))
	}
	audited(t, r)
}

// audited holds the whole ledger against the auditor.
func audited(t *testing.T, r *road.Road) {
	t.Helper()
	ledgerIsFine(t, r, r.People["alice"])
}

// TestAliceGoesOnAlone: nobody answers, and the rule lets her override; it is flagged wherever it is shown. Then she extends, which takes approvals anew.
func TestAliceGoesOnAlone(t *testing.T) {
	r, alice, bob := start(t, road.Config{Policy: emergency(t, `override = "after 2s"`)})
	others := enrol(t, r, "carol")
	ctx := t.Context()
	wants(t, alice, 11, []string{"approval_needed", "goes on with it"}, "request", "--no-wait", "--reason", reason, alice.Target())
	id := waits(t, alice)
	time.Sleep(2100 * time.Millisecond)
	wants(t, alice, 0, []string{"OVERRIDDEN: 2 approvals missing"}, "request", "--override", id)
	if status, out := says(t, alice, "ssh", alice.Target(), "echo", "in"); status != 0 || !strings.Contains(out, "in") {
		t.Errorf("status %d\n%s", status, out)
	}
	wants(t, alice, 0, []string{"OVERRIDDEN"}, "grants")
	session, err := newest(ctx, bob)
	if err != nil {
		t.Fatal(err)
	}
	wants(t, bob, 0, []string{"OVERRIDDEN"}, "sessions")
	wants(t, bob, 0, []string{"VERIFIED", "OVERRIDE", "2 of 2 approvals were missing"}, "verify", session)
	if f := entry(t, r, func(*ledger.RequestOverridden) bool { return true }); f.Missing != 2 || f.Waited < 2 {
		t.Errorf("%+v", f)
	}
	// The end moves only by another touch, and with the rule's approvals. It is in whole seconds: within the first an extension ends no later.
	time.Sleep(1100 * time.Millisecond)
	wants(t, alice, 11, []string{"approval_needed"}, "extend", "--no-wait", id)
	ext := waits(t, alice)
	wants(t, bob, 0, []string{"longer", "grant " + id}, "approve", ext)
	wants(t, others["carol"], 0, []string{"alice is in"}, "approve", ext)
	wants(t, alice, 0, []string{"goes on until", id}, "extend", id)
	if status, out := says(t, alice, "ssh", alice.Target(), "echo", "again"); status != 0 || !strings.Contains(out, "again") {
		t.Errorf("after the extension: status %d\n%s", status, out)
	}
	if session, err = newest(ctx, bob); err != nil {
		t.Fatal(err)
	}
	wants(t, bob, 0, []string{"VERIFIED", "OVERRIDE", "extension", "carol approved"}, "verify", session)
	audited(t, r)
}
