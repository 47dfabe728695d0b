package roadtest

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"breakglass/internal/road"
)

// ended waits for the person's shell to end, which said want, and gives the time that passed since the stop was answered.
func ended(t *testing.T, x *terminal, since time.Time, want string) time.Duration {
	t.Helper()
	x.wait()
	took := time.Since(since)
	if !strings.Contains(x.text(), want) {
		t.Errorf("the person doesn't read %q:\n%s", want, tail(x.text(), 12))
	}
	return took
}

// carols is the demo's policy with carol on call too, and bob an operator beside alice.
func carols() string {
	p := strings.Replace(road.DemoPolicy, `operators = ["alice"]`, `operators = ["alice", "bob"]`, 1)
	return strings.Replace(p, "[people.bob]", "[people.carol]\ngroups = [\"oncall\"]\n\n[people.bob]", 1)
}

// shell opens a shell of p's, in which something has been typed and seen.
func shell(t *testing.T, p *road.Person) *terminal {
	t.Helper()
	x := openTerminal(t, p.Command(t.Context(), "breakglass", "ssh", "--reason", reason, p.Target()))
	x.until("recorded")
	x.typ("PS1='> '; echo sum $((40+2))\r")
	x.until("sum 42")
	return x
}

// A live shell ends within a second of the order, whatever was revoked; the person reads by whom and why. Every stop is on the road of the
// programs themselves, with a stock sshd behind the jump.
func TestALiveShellEndsWithARevocation(t *testing.T) {
	r, alice, bob := start(t, road.Config{Policy: carols()})
	ctx := t.Context()
	carol, err := r.Enrol(ctx, "carol")
	if err != nil {
		t.Fatal(err)
	}
	grantOf := func(id string) string { return strings.Split(id, "/")[0] }
	for _, c := range []struct {
		what string
		who  *road.Person
		stop func(id string) (string, error)
		want string
	}{
		{"kill of a session", alice, func(id string) (string, error) {
			return bob.Run(ctx, "breakglass", "kill", id, "--reason", "what is this")
		}, "revoked by bob: what is this"},
		{"kill of a grant", alice, func(id string) (string, error) {
			return bob.Run(ctx, "breakglass", "kill", grantOf(id), "--reason", "stop it")
		}, "revoked by bob: stop it"},
		{"end", alice, func(id string) (string, error) {
			return alice.Run(ctx, "breakglass", "end", grantOf(id))
		}, "alice gave " /* its id */},
		{"revoke grant", alice, func(id string) (string, error) {
			return alice.Run(ctx, "breakglass-ca", "revoke", "grant", grantOf(id), "--reason", "laptop stolen")
		}, "revoked by alice: laptop stolen"},
		{"revoke key", alice, func(id string) (string, error) {
			return bob.Run(ctx, "breakglass-ca", "revoke", "key", fingerprint(t, alice), "--reason", "key lost")
		}, "was revoked by bob: key lost"},
		{"revoke person", carol, func(id string) (string, error) {
			return bob.Run(ctx, "breakglass-ca", "revoke", "person", "carol", "--reason", "left")
		}, "person carol was revoked by bob: left"},
	} {
		x := shell(t, c.who)
		id := runs(ctx, t, bob)
		began := time.Now()
		out, err := c.stop(id)
		if err != nil {
			t.Fatalf("%s: %v\n%s", c.what, err, out)
		}
		answered := time.Now()
		took := ended(t, x, answered, c.want)
		t.Logf("%-17s command %4d ms, then %4d ms until the shell was gone", c.what, answered.Sub(began).Milliseconds(), took.Milliseconds())
		if took > time.Second {
			t.Errorf("%s: the shell ended %v after the answer", c.what, took)
		}
	}
	for _, p := range []*road.Person{alice, carol} {
		if out, err := p.Run(ctx, "breakglass", "request", "--reason", reason, p.Target()); err == nil {
			t.Errorf("%s still gets in:\n%s", p.Name, out)
		}
	}
	// The operator's own machine, where no CA lives: an invite by a touch, and the list that hosts read.
	if out, err := bob.Run(ctx, "breakglass-ca", "invite", "carol"); err != nil || !strings.HasPrefix(out, "bg1.") {
		t.Errorf("an operator's invite: %v\n%s", err, out)
	}
	if out, err := alice.Run(ctx, "breakglass-ca", "invite", "carol"); err == nil {
		t.Errorf("whose key is revoked, invites:\n%s", out)
	}
	list := filepath.Join(r.Dir, "krl")
	if out, err := bob.Run(ctx, "breakglass-ca", "krl", "-o", list); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
	if out, err := bob.Run(ctx, "breakglass-ca", "krl", "check", list); err != nil || !strings.Contains(out, "serials") || strings.Contains(out, " 0 serials") {
		t.Errorf("%v\n%s", err, out)
	}
	if err := os.WriteFile(list, []byte("SSHKRL\x00\x00"), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := bob.Run(ctx, "breakglass-ca", "krl", "check", list); err == nil {
		t.Errorf("a list that locks everybody out is good: %s", out)
	}
	r.End("ca", false)
	if out, err := verifyLedger(ctx, r, bob); err != nil || !strings.HasPrefix(out, "VERIFIED") {
		t.Errorf("%v\n%s", err, out)
	}
}

// What was revoked while a jump could not hear ends once it hears again: the CA is killed and comes back, and the jump goes on from where it was.
func TestAJumpHearsAfterTheCAWasAway(t *testing.T) {
	r, alice, bob := start(t, road.Config{Policy: carols()})
	ctx := t.Context()
	x := shell(t, alice)
	id := runs(ctx, t, bob)
	r.End("ca", true)
	x.typ("echo still $((50+1))\r") // the session goes on without the CA
	x.until("still 51")
	if err := r.StartCA(ctx); err != nil {
		t.Fatal(err)
	}
	if out, err := bob.Run(ctx, "breakglass-ca", "revoke", "grant", strings.Split(id, "/")[0], "--reason", "while it was away"); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	answered := time.Now()
	took := ended(t, x, answered, "revoked by bob: while it was away")
	t.Logf("%v until the shell was gone, the CA just back", took.Round(time.Millisecond))
	if took > 3*time.Second { // the jump waits two seconds at most between its tries
		t.Errorf("the shell ended %v after the answer", took)
	}
}

// runs is the id of the session that runs.
func runs(ctx context.Context, t *testing.T, p *road.Person) string {
	t.Helper()
	list, err := sessions(ctx, p)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range list {
		if s.State == "open" {
			return s.ID
		}
	}
	t.Fatalf("no session runs: %+v", list)
	return ""
}

// fingerprint is that of the person's key.
func fingerprint(t *testing.T, p *road.Person) string {
	t.Helper()
	out, err := p.Run(t.Context(), "breakglass", "keys", "--json")
	if err != nil {
		t.Fatal(err)
	}
	var list []struct {
		Fingerprint string `json:"fingerprint"`
	}
	if err := json.Unmarshal([]byte(out), &list); err != nil || len(list) != 1 {
		t.Fatalf("%v\n%s", err, out)
	}
	return list[0].Fingerprint
}

// verifyLedger checks the whole ledger under a person's pins.
func verifyLedger(ctx context.Context, r *road.Road, p *road.Person) (string, error) {
	pins, err := p.Run(ctx, "breakglass", "pins", "--offline", "--json")
	if err != nil {
		return "", err
	}
	file := filepath.Join(r.Dir, "pins.json")
	if err := os.WriteFile(file, []byte(pins), 0o600); err != nil {
		return "", err
	}
	return r.Run(ctx, "breakglass-ca", "ledger", "verify", "--dir", filepath.Join(r.Dir, "ca"), "--trust", file)
}
