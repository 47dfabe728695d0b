package jump

import (
	"os/exec"
	"strings"
	"testing"
	"time"

	"breakglass/ledger"
)

// ending5, ending1 and over are what is said as a grant comes to its end.
const (
	ending5 = "breakglass: your grant ends in 5 minutes ("
	ending1 = "breakglass: your grant ends in 1 minute ("
	over    = "your grant has ended"
)

// The grant's end comes near: who sits at a terminal is told five minutes before, and one; a program is not.
func TestThePersonIsWarned(t *testing.T) {
	for _, c := range []struct {
		what       string
		left       time.Duration
		want, none []string
	}{
		{"five minutes before", 5*time.Minute + 2*time.Second, []string{ending5}, []string{ending1, over}},
		{"a minute before", time.Minute + 2*time.Second, []string{ending1}, []string{ending5, over}},
		{"too late for a warning", 4 * time.Second, []string{over}, []string{ending5, ending1}},
	} {
		t.Run(c.what, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, func(w *world) { w.ca.until = c.left })
			g := w.grant()
			x := w.terminal(t, g, "echo begun; sleep 100")
			x.until("begun")
			quiet := exec.Command("ssh", append(w.config(g), "web01", "echo begun; sleep 100")...)
			var out lockedBuffer
			quiet.Stdout, quiet.Stderr = &out, &out
			check(t, quiet.Start())
			t.Cleanup(func() { quiet.Process.Kill(); quiet.Wait() })
			for i := 0; !strings.Contains(out.String(), "begun"); i++ {
				if i > 2000 {
					t.Fatal("never begun")
				}
				time.Sleep(10 * time.Millisecond)
			}
			for _, text := range c.want {
				x.until(text)
			}
			for _, text := range c.none {
				if strings.Contains(x.out.String(), text) {
					t.Errorf("%q is shown:\n%s", text, x.out.String())
				}
			}
			if strings.Contains(out.String(), "your grant ends") {
				t.Errorf("a program is told: %s", out.String())
			}
			x.cmd.Process.Kill()
			x.cmd.Wait()
			if rec := w.session(g, 1); c.want[0] != over {
				rec.has("mark", c.want[0])
			} else {
				rec.has("act "+endGrant, over)
			}
		})
	}
}

// An extension moves the warnings and the end with it: what was announced for the old end doesn't come, and what belongs to the new one does.
func TestAnExtensionMovesTheWarnings(t *testing.T) {
	w := newWorld(t, func(w *world) { w.ca.until = 10 * time.Second })
	g := w.grant()
	x := w.terminal(t, g, "echo begun; sleep 1000")
	x.until("begun")
	began := time.Now()
	extend := func(left time.Duration) {
		w.ca.say(t, ledger.Subject{Person: "alice", Request: g.request}, &ledger.GrantExtended{Request: "aaa-aaa", Rule: "home", Minutes: 60,
			Until: ledger.At(time.Now().Add(left)), Used: ledger.Used{Touch: ledger.Touch{Key: "SHA256:k"}}})
	}
	extend(time.Minute + 3*time.Second)
	x.until("your grant was extended: it ends at ")
	x.until(ending1)
	extend(5*time.Minute + 3*time.Second)
	x.until(ending5)
	if r := w.j.Running(); len(r) != 1 || time.Until(r[0].Until) < 4*time.Minute {
		t.Errorf("running: %+v", r)
	}
	if n := strings.Count(x.out.String(), "your grant was extended"); n != 2 {
		t.Errorf("told of %d extensions", n)
	}
	extend(time.Minute) // an earlier end than it has: no order shortens a grant
	extend(5*time.Minute + 20*time.Second)
	for i := 0; strings.Count(x.out.String(), "your grant was extended") != 3; i++ {
		if i > 2000 {
			t.Fatalf("the last is not heard:\n%s", x.out.String())
		}
		time.Sleep(10 * time.Millisecond)
	}
	for time.Since(began) < 11*time.Second { // the first end would be now
		time.Sleep(100 * time.Millisecond)
	}
	if w.j.State().Sessions != 1 || strings.Contains(x.out.String(), over) {
		t.Errorf("it ended at an old end:\n%s", x.out.String())
	}
}
