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
