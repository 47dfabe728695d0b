package jump

import (
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

// TestASessionGoesOnWithoutTheCAForTheGrace: it is marked in the recording, and cut when the grace is over; the CA hears of both once it is back.
func TestASessionGoesOnWithoutTheCAForTheGrace(t *testing.T) {
	w := newWorld(t, grace(8))
	g := w.grant()
	began := time.Now()
	time.AfterFunc(500*time.Millisecond, func() { w.silent(true) })
	r := w.ssh(g, nil, "echo before; sleep 6.5; echo blind; sleep 60")
	if d := time.Since(began); d < 8*time.Second || d > 20*time.Second {
		t.Errorf("took %v", d)
	}
	if r.code != 255 || r.stdout != "before\nblind\n" || !strings.Contains(r.stderr, "the CA has not answered for 8s") {
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
	w := newWorld(t, grace(60))
	g := w.grant()
	time.AfterFunc(300*time.Millisecond, func() { w.silent(true) })
	time.AfterFunc(7*time.Second, func() { w.silent(false) })
	if r := w.ssh(g, nil, "sleep 10; echo done"); r.code != 0 || r.stdout != "done\n" {
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
	w := newWorld(t)
	g := w.grant()
	time.AfterFunc(300*time.Millisecond, func() { w.silent(true) })
	time.AfterFunc(2500*time.Millisecond, func() { w.silent(false) })
	if r := w.ssh(g, nil, "sleep 6"); r.code != 0 {
		t.Errorf("%+v", r)
	}
	for _, l := range w.session(g, 1).lines() {
		if strings.Contains(l, "act blind") {
			t.Errorf("marked: %s", l)
		}
	}
}
