package jump

import (
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"breakglass/internal/name"
	"breakglass/ledger"
)

// firstBytes are what the jump says to a client that has named its host, or nothing.
func (w *world) firstBytes(host name.Host) string {
	w.t.Helper()
	c, err := net.Dial("tcp", w.jump)
	check(w.t, err)
	defer c.Close()
	if host != "" {
		c.Write(Preamble(host))
	}
	c.SetReadDeadline(time.Now().Add(20 * time.Second))
	b := make([]byte, len("SSH-2.0-breakglass"))
	n, err := io.ReadFull(c, b)
	check(w.t, err)
	if strings.HasPrefix(string(b[:n]), "SSH-") {
		return string(b[:n])
	}
	rest, err := io.ReadAll(c)
	check(w.t, err)
	return string(b) + string(rest)
}

// A jump that can open nothing sends people on where there is another, and only those that can go: anybody else is told in SSH.
func TestAShutJumpSendsPeopleOn(t *testing.T) {
	const ssh = "SSH-2.0-breakglass"
	for _, others := range []int{0, 1} {
		t.Run(fmt.Sprint(others, " others"), func(t *testing.T) {
			w := newWorld(t, func(w *world) {
				w.ca.jumps = []ledger.SiteJump{{Name: "jump-a"}, {Name: "jump-b"}}[:1+others]
			})
			if got := w.firstBytes("web01"); got != ssh {
				t.Errorf("when all is well: %q", got)
			}
			w.silent(true)
			w.j.mu.Lock()
			w.j.ears.since = time.Now().Add(-time.Hour)
			w.j.mu.Unlock()
			want := ssh
			if others > 0 {
				want = "breakglass: this jump does not reach the CA\r\n"
			}
			if got := w.firstBytes("web01"); got != want {
				t.Errorf("cut off from the CA: %q", got)
			}
			if got := w.firstBytes(""); got != ssh {
				t.Errorf("without a preamble: %q", got)
			}
			if n := w.strangers()[refusedShut]; n != int64(others) {
				t.Errorf("%d turned away", n)
			}
			w.silent(false)
			for i := 0; w.firstBytes("web01") != ssh; i++ {
				if i > 200 {
					t.Fatal("still shut")
				}
				time.Sleep(50 * time.Millisecond)
			}
		})
	}
}

// The way around leads to another jump where there is one.
func TestElsewhere(t *testing.T) {
	for _, c := range []struct{ jumps, self, want string }{
		{"", "jump-a", "breakglass ssh root@web01"},
		{"jump-a", "jump-a", "breakglass ssh root@web01"},
		{"jump-c jump-a jump-b", "jump-a", "breakglass ssh --jump jump-b root@web01"},
		{"jump-c jump-a jump-b", "jump-b", "breakglass ssh --jump jump-c root@web01"},
		{"jump-c jump-a jump-b", "jump-c", "breakglass ssh --jump jump-a root@web01"},
	} {
		j := &Jump{cfg: Config{Name: name.Jump(c.self)}}
		tr := &trust{}
		for _, n := range strings.Fields(c.jumps) {
			tr.jumps = append(tr.jumps, name.Jump(n))
		}
		j.trust.Store(tr)
		if got := j.elsewhere("root@web01"); got != c.want {
			t.Errorf("%v: %q", c, got)
		}
	}
}
