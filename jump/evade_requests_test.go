package jump

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"breakglass/transcript"
)

// raw is a session channel with no manners.
type raw struct {
	ssh.Channel
	reqs <-chan *ssh.Request
}

func (w *world) raw(c *ssh.Client) *raw {
	w.t.Helper()
	ch, reqs, err := c.OpenChannel("session", nil)
	check(w.t, err)
	go ssh.DiscardRequests(reqs)
	return &raw{ch, reqs}
}

// ask sends a request and says whether it was granted.
func (r *raw) ask(typ string, payload []byte) bool {
	ok, err := r.SendRequest(typ, true, payload)
	return ok && err == nil
}

// all reads what comes until the end of output.
func (r *raw) all() string {
	b, _ := io.ReadAll(r)
	return string(b)
}

func cat(parts ...[]byte) []byte {
	var out []byte
	for _, p := range parts {
		out = append(out, p...)
	}
	return out
}

func u32(n uint32) []byte { return binary.BigEndian.AppendUint32(nil, n) }

// Requests with which a session could be more than it seems: each is passed on as it is and recorded as it is, or refused and recorded as refused. Nothing
// depends on what a command's text says.
func TestRequestEvasions(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ptyReq := cat(str("xterm"), u32(80), u32(24), u32(0), u32(0), str("\x00"))
	for _, c := range []struct {
		is string
		// do gives what the person saw, to be held against want and the recording's output.
		do   func(w *world, c *ssh.Client) string
		want string
		line []string
	}{
		{"a copy's server side with a shell behind it, on a terminal", func(w *world, c *ssh.Client) string {
			r := w.raw(c)
			r.ask("pty-req", ptyReq)
			r.ask("exec", str("stty -opost; true 'scp -t x'; echo hidden"))
			return r.all()
		}, "hidden\n", []string{"asked person exec", "scp -t x", "echo hidden"}},
		{"a command of several lines", func(w *world, c *ssh.Client) string {
			r := w.raw(c)
			r.ask("exec", str("echo one\necho two"))
			return r.all()
		}, "one\ntwo\n", []string{"asked person exec", `echo one\necho two`}},
		{"a command that drives the reviewer's terminal", func(w *world, c *ssh.Client) string {
			r := w.raw(c)
			r.ask("exec", str("printf '\\033]0;x\\007'; : '\x1b[2J'"))
			return r.all()
		}, "\x1b]0;x\x07", []string{"asked person exec", `\x1b[2J`}},
		{"a command of 100,000 bytes", func(w *world, c *ssh.Client) string {
			r := w.raw(c)
			r.ask("exec", str("echo long; : "+strings.Repeat("x", 100_000)))
			return r.all()
		}, "long\n", []string{"asked person exec", strings.Repeat("x", 100_000)}},
		{"a subsystem that isn't one", func(w *world, c *ssh.Client) string {
			return fmt.Sprint(w.raw(c).ask("subsystem", str("/bin/sh")))
		}, "false", []string{"refused person subsystem"}},
		{"a subsystem with a space behind its name", func(w *world, c *ssh.Client) string {
			return fmt.Sprint(w.raw(c).ask("subsystem", str("sftp ")))
		}, "false", []string{"refused person subsystem"}},
		{"a variable that the host doesn't accept", func(w *world, c *ssh.Client) string {
			r := w.raw(c)
			ok := r.ask("env", cat(str("LD_PRELOAD"), str("/tmp/x.so")))
			r.ask("exec", str("echo [$LD_PRELOAD]"))
			return fmt.Sprint(ok, r.all())
		}, "false[]\n", []string{"refused person env"}},
		{"a variable whose name hides another", func(w *world, c *ssh.Client) string {
			r := w.raw(c)
			r.ask("env", cat(str("GOOD=x\x00BAD"), str("y")))
			r.ask("exec", str("echo [$BAD]"))
			return r.all() // sshd leaves at that
		}, "", []string{"asked person env", `GOOD=x\x00BAD`}},
		{"a variable of 60,000 bytes", func(w *world, c *ssh.Client) string {
			r := w.raw(c)
			r.ask("env", cat(str("GOOD"), str(strings.Repeat("v", 60_000))))
			r.ask("exec", str("echo ${#GOOD}"))
			return r.all()
		}, "60000\n", []string{"asked person env", strings.Repeat("v", 60_000)}},
		{"two terminals on one channel", func(w *world, c *ssh.Client) string {
			r := w.raw(c)
			return fmt.Sprint(r.ask("pty-req", ptyReq), r.ask("pty-req", ptyReq))
		}, "true false", []string{"refused person pty-req"}},
		{"a terminal request that is no such thing", func(w *world, c *ssh.Client) string {
			return fmt.Sprint(w.raw(c).ask("pty-req", []byte{0, 0, 0, 200, 1})) // sshd leaves at that
		}, "false", []string{"asked person pty-req", `\x00\x00\x00\xc8\x01`}},
		{"a window of 2^32-1 columns", func(w *world, c *ssh.Client) string {
			r := w.raw(c)
			r.SendRequest("window-change", false, cat(u32(1<<32-1), u32(1<<32-1), u32(0), u32(0)))
			r.ask("exec", str("echo there"))
			return r.all()
		}, "there\n", []string{"asked person window-change", `\xff\xff\xff\xff`}},
		{"a signal that isn't one", func(w *world, c *ssh.Client) string {
			r := w.raw(c)
			r.ask("exec", str("sleep 0.2; echo there"))
			r.SendRequest("signal", false, str("KILL; reboot"))
			return r.all()
		}, "there\n", []string{"asked person signal", "KILL; reboot"}},
		{"a break", func(w *world, c *ssh.Client) string {
			r := w.raw(c)
			r.ask("exec", str("sleep 0.2; echo there"))
			ok := r.ask("break", u32(500))
			return fmt.Sprint(ok, r.all())
		}, "false" + "there\n", []string{"refused person break"}}, // there is no terminal
		{"a second command, after the first has ended", func(w *world, c *ssh.Client) string {
			r := w.raw(c)
			r.ask("exec", str("true"))
			r.all()
			time.Sleep(100 * time.Millisecond)
			return fmt.Sprint(r.ask("exec", str("echo again > "+filepath.Join(w.dir, "again"))))
		}, "false", nil},
		{"a command, then a subsystem", func(w *world, c *ssh.Client) string {
			r := w.raw(c)
			r.ask("exec", str("sleep 0.3"))
			return fmt.Sprint(r.ask("subsystem", str("sftp")))
		}, "false", []string{"refused person subsystem"}},
		{"data after the end of input", func(w *world, c *ssh.Client) string {
			r := w.raw(c)
			r.ask("exec", str("cat; sleep 0.2"))
			r.Write([]byte("before"))
			r.CloseWrite()
			if _, err := r.Write([]byte("after")); err == nil {
				return "taken by our own side"
			}
			return r.all()
		}, "before", []string{"1 F person"}},
		{"extended data from the person", func(w *world, c *ssh.Client) string {
			r := w.raw(c)
			r.ask("exec", str("cat; echo end"))
			r.Stderr().Write([]byte("smuggled"))
			r.Write([]byte("plain,"))
			r.CloseWrite()
			return r.all()
		}, "plain,end\n", []string{"1 F person"}},
		{"a request with no payload where one is due", func(w *world, c *ssh.Client) string {
			return fmt.Sprint(w.raw(c).ask("exec", nil))
		}, "false", []string{"asked person exec", `""`}},
		{"a request of the wrong side", func(w *world, c *ssh.Client) string {
			r := w.raw(c)
			return fmt.Sprint(r.ask("exit-signal", cat(str("KILL"), []byte{0}, str(""), str(""))))
		}, "false", []string{"denied person exit-signal"}},
		{"a request whose name is 10,000 bytes long", func(w *world, c *ssh.Client) string {
			return fmt.Sprint(w.raw(c).ask(strings.Repeat("n", 10_000), nil))
		}, "false", []string{"denied person nnnn"}},
		{"a request without a name", func(w *world, c *ssh.Client) string { return fmt.Sprint(w.raw(c).ask("", nil)) }, "false", []string{`denied person  ""`}},
		{"no-more-sessions, then a session", func(w *world, c *ssh.Client) string {
			c.SendRequest("no-more-sessions@openssh.com", false, nil)
			c.SendRequest(keepalive, true, nil) // global requests are answered in order
			_, _, err := c.OpenChannel("session", nil)
			return fmt.Sprint(err)
		}, "ssh: rejected: administratively prohibited (\"breakglass: this client asked for no more sessions\")", []string{"open denied person session"}},
		{"a global request of 200,000 bytes", func(w *world, c *ssh.Client) string {
			ok, _, err := c.SendRequest("x@example.com", true, make([]byte, 200_000))
			return fmt.Sprint(ok, err)
		}, "false <nil>", []string{"denied person x@example.com"}},
		{"the end of a forward that never was", func(w *world, c *ssh.Client) string {
			ok, _, _ := c.SendRequest("cancel-tcpip-forward", true, cat(str("localhost"), u32(80)))
			return fmt.Sprint(ok)
		}, "false", []string{"denied person cancel-tcpip-forward"}},
		{"a channel without a name", func(w *world, c *ssh.Client) string {
			_, _, err := c.OpenChannel("", nil)
			return fmt.Sprint(err == nil)
		}, "false", []string{"open denied person"}},
		{"a channel whose name is 10,000 bytes long", func(w *world, c *ssh.Client) string {
			_, _, err := c.OpenChannel(strings.Repeat("n", 10_000), nil)
			return fmt.Sprint(err == nil)
		}, "false", []string{"open denied person nnnn"}},
	} {
		t.Run(c.is, func(t *testing.T) {
			w := *w
			w.t = t
			g := w.grant()
			client := w.client(g)
			late := time.AfterFunc(20*time.Second, func() { client.Close() })
			defer late.Stop()
			got := c.do(&w, client)
			if got != c.want {
				t.Errorf("got %.200q, want %.200q", got, c.want)
			}
			client.Close()
			rec := w.session(g, 1)
			if c.line != nil {
				rec.has(c.line...)
			}
			// Whatever the person saw is there, byte for byte.
			if out := rec.data(transcript.KindOutput, 0); !strings.HasSuffix(got, out) {
				t.Errorf("seen %.200q, recorded %.200q", got, out)
			}
			if strings.Contains(strings.Join(rec.lines(), "\n")+rec.data(transcript.KindInput, 0), "smuggled") {
				t.Error("what goes nowhere is recorded as if it had gone")
			}
		})
	}
	if _, err := os.Stat(filepath.Join(w.dir, "again")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a command ran that was refused: %v", err)
	}
}
