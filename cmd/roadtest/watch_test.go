package roadtest

import (
	"strings"
	"syscall"
	"testing"
	"time"

	"breakglass/internal/road"
)

// watchers waits until so many watch the session.
func watchers(t *testing.T, bob *road.Person, id string, want int) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); ; time.Sleep(100 * time.Millisecond) {
		out, err := bob.Run(t.Context(), "breakglass", "sessions", id, "--json")
		if err == nil && strings.Count(out, `"since"`) == want {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("not watched by %d: %v\n%s", want, err, out)
		}
	}
}

// What the person sees, a watcher sees: live, on a terminal, and the person is told who watches. That is written down before anything is shown, and when the watcher
// leaves, dies, or the CA was away.
func TestAWatcherSeesWhatThePersonSees(t *testing.T) {
	r, alice, bob := start(t, road.Config{})
	ctx := t.Context()
	x := shell(t, alice)
	id := runs(ctx, t, bob)

	w := openTerminal(t, bob.Command(ctx, "breakglass", "watch", id, "--why", "to help alice"))
	w.until("You watch")
	w.until("sum 42") // the last screen
	x.until("bob watches")
	watchers(t, bob, id, 1)
	x.typ("echo live $((40+3))\r")
	w.until("live 43")
	x.typ("printf '\\033]0;title\\007\\033[c ok %d\\n' $((400+4))\r")
	w.until(" ok 404")
	if strings.Contains(w.text(), "\x1b]0;") || strings.Contains(w.text(), "\x1b[c") {
		t.Error("a sequence that makes a terminal act got through to the watcher")
	}

	// A watcher that dies is gone in seconds.
	w.cmd.Process.Signal(syscall.SIGKILL)
	x.until("bob watches no more")
	watchers(t, bob, id, 0)

	// One outlives the CA, whose watchings end with it and begin anew.
	w = openTerminal(t, bob.Command(ctx, "breakglass", "watch", id, "--from-start"))
	w.until("live 43")
	r.End("ca", true)
	w.until("the CA does not answer")
	x.typ("echo blind $((60+1))\r")
	x.until("blind 61")
	if err := r.StartCA(ctx); err != nil {
		t.Fatal(err)
	}
	w.until("blind 61")
	watchers(t, bob, id, 1)

	x.typ("exit 3\r")
	x.wait()
	if err := w.wait(); err != nil {
		t.Errorf("the watcher's end: %v\n%s", err, tail(w.text(), 10))
	}
	w.until("exit 3")
	if id, err := newest(ctx, bob); err != nil {
		t.Fatal(err)
	} else if text, err := bob.Run(ctx, "breakglass", "export", id, "--text"); err != nil || !strings.Contains(text, "bob") {
		t.Errorf("the recording says nothing of who watched: %v\n%s", err, tail(text, 30))
	}
	if out, err := bob.Run(ctx, "breakglass", "verify", id); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
	r.End("ca", false)
	if out, err := verifyLedger(ctx, r, bob); err != nil || !strings.HasPrefix(out, "VERIFIED") {
		t.Errorf("%v\n%s", err, out)
	}
}

// A rule that wants a watcher holds what the person types until one of them watches, and again when they leave, are killed, or the CA isn't heard.
func TestInputWaitsForAnObserver(t *testing.T) {
	policy := strings.Replace(road.DemoPolicy, "[[rule]]\n", "[[rule]]\nwatched_by = [\"bob\"]\n", 1)
	r, alice, bob := start(t, road.Config{Policy: policy})
	ctx := t.Context()
	x := openTerminal(t, alice.Command(ctx, "breakglass", "ssh", "--reason", reason, alice.Target()))
	x.until("input is held until one of bob watches")
	x.typ("echo early $((40+2))\r")
	var id string
	for end := time.Now().Add(30 * time.Second); id == ""; time.Sleep(100 * time.Millisecond) {
		list, err := sessions(ctx, bob)
		if err != nil || time.Now().After(end) {
			t.Fatal(err)
		}
		for _, s := range list {
			if s.State == "open" {
				id = s.ID
			}
		}
	}
	time.Sleep(2 * time.Second)
	if strings.Contains(x.text(), "early 42") {
		t.Fatalf("it ran while nobody watched:\n%s", x.text())
	}
	if out, err := alice.Run(ctx, "breakglass", "watch", id, "--why", "myself"); err == nil {
		t.Errorf("alice watches over herself:\n%s", out)
	}

	w := openTerminal(t, bob.Command(ctx, "breakglass", "watch", id, "--why", "the rule wants it"))
	x.until("somebody watches: input goes on")
	x.until("early 42")
	w.until("early 42")

	held := func(n int) {
		t.Helper()
		for end := time.Now().Add(waitTime); strings.Count(x.text(), "input is held until") < n; time.Sleep(20 * time.Millisecond) {
			if time.Now().After(end) {
				t.Fatalf("not held a %d. time:\n%s", n, tail(x.text(), 20))
			}
		}
	}
	w.cmd.Process.Kill() // no goodbye: in seconds it is known
	held(2)
	x.typ("echo late $((50+2))\r")
	time.Sleep(2 * time.Second)
	if strings.Contains(x.text(), "late 52") {
		t.Fatalf("it ran after the observer had gone:\n%s", x.text())
	}
	w = openTerminal(t, bob.Command(ctx, "breakglass", "watch", id, "--why", "the rule wants it"))
	x.until("late 52")

	// Without the CA nobody knows whether anybody watches.
	r.End("ca", true)
	held(3)
	x.typ("echo deaf $((60+2))\r")
	time.Sleep(2 * time.Second)
	if strings.Contains(x.text(), "deaf 62") {
		t.Fatalf("it ran while the CA was away:\n%s", x.text())
	}
	if err := r.StartCA(ctx); err != nil {
		t.Fatal(err)
	}
	x.until("deaf 62") // bob's client began anew by itself
	x.typ("exit\r")
	x.wait()
	w.until("exit")

	id, err := newest(ctx, bob)
	if err != nil {
		t.Fatal(err)
	}
	out, err := bob.Run(ctx, "breakglass", "verify", id)
	if err != nil || !strings.HasPrefix(out, "VERIFIED\n") {
		t.Errorf("%v\n%s", err, out)
	}
	if out, err := verifyLedger(ctx, r, bob); err != nil || !strings.HasPrefix(out, "VERIFIED") {
		t.Errorf("%v\n%s", err, out)
	}
}
