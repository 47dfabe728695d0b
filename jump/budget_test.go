package jump

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"breakglass/ledger"
	"breakglass/transcript"
)

// A session carries what the CA's answer says, both ways together, and ends there: nothing beyond is recorded, printed or received.
func TestASessionHasABudget(t *testing.T) {
	const budget = 1 << 20
	for _, c := range []struct {
		is, command string
		in          int
		over        bool
	}{
		{"output beyond it", "cat /dev/zero", 0, true},
		{"input beyond it", "cat > /dev/null; echo", 2 * budget, true},
		{"both together beyond it", "cat", budget * 6 / 10, true},
		{"below it, both together", "cat", budget * 4 / 10, false},
	} {
		t.Run(c.is, func(t *testing.T) {
			tries := 3
			w := newWorld(t, func(w *world) { w.ca.change = func(o *ledger.SessionOpened) { o.Budget = budget } })
		again:
			g := w.grant()
			r := w.ssh(g, bytes.NewReader(bytes.Repeat([]byte("x"), c.in)), c.command)
			if tries--; r.stderr == "" && c.over && tries > 0 {
				w.session(g, 1)
				goto again // on a busy machine the client may not read the goodbye in the moment that it is given
			}
			said := strings.Contains(r.stderr, "it has carried the 1 MiB that a session may") && strings.Contains(r.stderr, "breakglass extend "+string(g.request))
			rec := w.session(g, 1)
			in, out := rec.data(transcript.KindInput, 0), rec.data(transcript.KindOutput, 0)
			if said != c.over || len(in)+len(out) > budget || !strings.HasPrefix(out, r.stdout) {
				t.Errorf("said %q; printed %d, recorded %d out, %d in", r.stderr, len(r.stdout), len(out), len(in))
			}
			if c.over && (rec.end == nil || rec.end.Reason != endBudget || len(in)+len(out) < budget/2) {
				t.Errorf("ended %+v after %d", rec.end, len(in)+len(out))
			}
			if !c.over && (r.code != 0 || len(out) != c.in) {
				t.Errorf("%d, %d bytes of %d", r.code, len(out), c.in)
			}
		})
	}
}

// An extension brings as much again to a session that runs.
func TestAnExtensionBringsABudget(t *testing.T) {
	const budget = 1 << 20
	w := newWorld(t, func(w *world) { w.ca.change = func(o *ledger.SessionOpened) { o.Budget = budget } })
	g := w.grant()
	half, go_ := filepath.Join(t.TempDir(), "half"), filepath.Join(t.TempDir(), "go")
	go func() {
		for _, err := os.Stat(half); err != nil; _, err = os.Stat(half) {
			time.Sleep(5 * time.Millisecond)
		}
		w.ca.say(t, ledger.Subject{Person: "alice", Request: g.request}, &ledger.GrantExtended{Request: "aaa-aaa", Rule: "home", Minutes: 60,
			Until: ledger.At(time.Now().Add(time.Hour)), Used: ledger.Used{Touch: ledger.Touch{Key: "SHA256:x"}}})
		for {
			w.j.mu.Lock()
			for s := range w.j.sessions {
				if s.budget.all.Load() == 2*budget {
					os.WriteFile(go_, nil, 0o600)
					w.j.mu.Unlock()
					return
				}
			}
			w.j.mu.Unlock()
			time.Sleep(5 * time.Millisecond)
		}
	}()
	r := w.ssh(g, nil, fmt.Sprintf("head -c 900000 /dev/zero; touch %s; while [ ! -e %s ]; do sleep 0.05; done; head -c 900000 /dev/zero", half, go_))
	if r.code != 0 || len(r.stdout) != 1_800_000 {
		t.Errorf("%d, %d bytes, %q", r.code, len(r.stdout), r.stderr)
	}
	if n := len(w.session(g, 1).data(transcript.KindOutput, 0)); n != 1_800_000 {
		t.Errorf("recorded %d", n)
	}
}
