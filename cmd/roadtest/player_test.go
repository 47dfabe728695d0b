package roadtest

import (
	"os/exec"
	"strconv"
	"strings"
	"testing"

	"github.com/creack/pty"

	"breakglass/internal/road"
)

// A reviewer plays a real session on a terminal, by keys, and gets the terminal back: at the end, and when the player is killed by a signal.
func TestPlayerOnATerminal(t *testing.T) {
	_, alice, bob := start(t, road.Config{})
	ctx := t.Context()
	x := openTerminal(t, alice.Command(ctx, "breakglass", "ssh", "--reason", reason, alice.Target()))
	x.until("recorded")
	x.typ("PS1='> '; clear; echo first $((40+2))\r")
	x.until("first 42")
	x.typ("seq 1 300\r")
	x.until("300")
	x.typ("printf '\\033]0;owned\\007'; echo last $((40+3))\r")
	x.until("last 43")
	x.typ("exit\r")
	if err := x.wait(); err != nil {
		t.Fatal(err)
	}
	id, err := newest(ctx, bob)
	if err != nil {
		t.Fatal(err)
	}
	y := openTerminal(t, bob.Command(ctx, "breakglass", "replay", id))
	if err := pty.Setsize(y.f, &pty.Winsize{Rows: 30, Cols: 100}); err != nil {
		t.Fatal(err)
	}
	y.until("? help")
	y.typ(" ")
	y.until("‖")
	y.typ("\x1b[H") // however short it was
	y.typ("]]]")
	y.until("typed: ")
	y.typ("\x1b[H/last 43\r")
	y.until("out: ") // and what stood before it on its line, in the clear
	y.typ("\x1b[F")
	y.until("last 43")
	y.until("the end")
	y.typ("q")
	if err := y.wait(); err != nil {
		t.Fatalf("%v\n%q", err, tail(y.text(), 5))
	}
	if strings.Contains(y.text(), "\x1b]0;") {
		t.Error("the recording sets the viewer's title")
	}
	// Its terminal is in order again: what is typed is echoed, and lines end. A signal in the middle leaves it so, too.
	for _, killed := range []bool{false, true} {
		sh := exec.CommandContext(ctx, "bash", "--norc", "-i")
		sh.Env = append(bob.Env(), "PS1=ready> ", "TERM=xterm")
		sh.Dir = t.TempDir()
		z := openTerminal(t, sh)
		z.until("ready>")
		z.typ("stty -a >before; breakglass replay " + id + "; stty -a >after; cmp before after && echo same $((40+4))\r")
		z.until("the end")
		if !killed {
			z.typ("q")
		} else {
			out, err := exec.Command("pgrep", "-P", strconv.Itoa(sh.Process.Pid)).Output()
			if err != nil {
				t.Fatal(err)
			}
			if err := exec.Command("kill", "-TERM", strings.Fields(string(out))[0]).Run(); err != nil {
				t.Fatal(err)
			}
		}
		z.until("same 44")
		z.typ("exit\r")
		z.wait()
	}
}
