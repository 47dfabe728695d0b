package jump

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"breakglass/ledger"
)

// silent has the CA answer nothing from now on, or again.
func (w *world) silent(down bool) {
	w.ca.mu.Lock()
	defer w.ca.mu.Unlock()
	w.ca.down = down
}

// grace is how long sessions may go on without the CA, in seconds.
func grace(seconds int) func(*world) {
	return func(w *world) { w.ca.change = func(o *ledger.SessionOpened) { o.Grace = seconds } }
}

// begun waits until the host's command has made the file: the session runs, whatever the machine has to do beside it.
func (w *world) begun(file string) {
	for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		if _, err := os.Stat(file); err == nil {
			return
		}
	}
	w.t.Error("the command doesn't begin")
}

// TestASessionGoesOnWithoutTheCAForTheGrace: it is marked in the recording, and cut when the grace is over; the CA hears of both once it is back.
func TestASessionGoesOnWithoutTheCAForTheGrace(t *testing.T) {
	t.Parallel()
	w := newWorld(t, grace(12))
	g := w.grant()
	here := filepath.Join(t.TempDir(), "here")
	go func() {
		w.begun(here)
		w.silent(true)
	}()
	began := time.Now()
	r := w.ssh(g, nil, "echo before; touch "+here+"; sleep 7; echo blind; sleep 50")
	if d := time.Since(began); d < 12*time.Second {
		t.Errorf("cut after %v", d)
	}
	if r.code != 255 || r.stdout != "before\nblind\n" || !strings.Contains(r.stderr, "the CA has not answered for 12s") {
		t.Errorf("%+v", r)
	}
	w.silent(false)
	rec := w.session(g, 1)
	rec.has("0 act blind")
	if rec.end == nil || rec.end.Reason != endBlind || w.ended(g, 1).Reason != endBlind {
		t.Errorf("end %+v", rec.end)
	}
	w.fact("session.blind", g.request.Session(1))
}

// TestASessionSeesTheCAAgain: a CA that was away for less than the grace ends nothing.
func TestASessionSeesTheCAAgain(t *testing.T) {
	t.Parallel()
	w := newWorld(t, grace(60))
	g := w.grant()
	here := filepath.Join(t.TempDir(), "here")
	go func() {
		w.begun(here)
		w.silent(true)
		time.Sleep(7 * time.Second)
		w.silent(false)
	}()
	if r := w.ssh(g, nil, "touch "+here+"; sleep 12; echo done"); r.code != 0 || r.stdout != "done\n" {
		t.Errorf("%+v", r)
	}
	rec := w.session(g, 1)
	rec.has("0 act blind")
	rec.has("0 act sighted")
	w.fact("session.blind", g.request.Session(1))
	w.fact("session.sighted", g.request.Session(1))
}

// TestAShortSilenceIsNone: the CA holds the line for longer than it takes to restart.
func TestAShortSilenceIsNone(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	g := w.grant()
	here := filepath.Join(t.TempDir(), "here")
	go func() {
		w.begun(here)
		w.silent(true)
		time.Sleep(1500 * time.Millisecond)
		w.silent(false)
	}()
	if r := w.ssh(g, nil, "touch "+here+"; sleep 6"); r.code != 0 {
		t.Errorf("%+v", r)
	}
	for _, l := range w.session(g, 1).lines() {
		if strings.Contains(l, "act blind") {
			t.Errorf("marked: %s", l)
		}
	}
}
