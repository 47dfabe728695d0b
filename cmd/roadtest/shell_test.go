package roadtest

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/creack/pty"

	"breakglass/internal/road"
)

// terminal is a command on a pseudo-terminal, driven as a person does: type, wait for what is to be seen.
type terminal struct {
	t    *testing.T
	f    *os.File
	cmd  *exec.Cmd
	mu   sync.Mutex
	seen bytes.Buffer
	end  chan struct{}
}

func openTerminal(t *testing.T, cmd *exec.Cmd) *terminal {
	t.Helper()
	cmd.Env = append(cmd.Env, "TERM=xterm")
	f, err := pty.StartWithSize(cmd, &pty.Winsize{Rows: 24, Cols: 80})
	if err != nil {
		t.Fatal(err)
	}
	x := &terminal{t: t, f: f, cmd: cmd, end: make(chan struct{})}
	t.Cleanup(func() { cmd.Process.Kill(); f.Close() })
	go func() {
		defer close(x.end)
		b := make([]byte, 4096)
		for {
			n, err := f.Read(b)
			x.mu.Lock()
			x.seen.Write(b[:n])
			x.mu.Unlock()
			if err != nil {
				return
			}
		}
	}()
	return x
}

func (x *terminal) text() string {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.seen.String()
}

func (x *terminal) typ(s string) { x.f.WriteString(s) }

// until waits for text that comes after what was seen at the last call of mark.
func (x *terminal) until(want string) {
	x.t.Helper()
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		if strings.Contains(x.text(), want) {
			return
		}
	}
	x.t.Fatalf("%q is not to be seen:\n%s", want, x.text())
}

// wait waits for the command's end, not for ever.
func (x *terminal) wait() error {
	x.t.Helper()
	done := make(chan error, 1)
	go func() { done <- x.cmd.Wait() }()
	select {
	case err := <-done:
		return err
	case <-time.After(30 * time.Second):
		x.t.Fatalf("it does not end:\n%s", tail(x.text(), 40))
		return nil
	}
}

func TestShellOnATerminal(t *testing.T) {
	_, alice, bob := start(t, road.Config{})
	ctx := t.Context()
	target := alice.Target()
	x := openTerminal(t, alice.Command(ctx, "breakglass", "ssh", "--reason", reason, target))
	x.until("recorded")
	x.typ("PS1='> '; echo sum $((40+2))\r")
	x.until("sum 42")
	x.typ("stty size\r")
	x.until("24 80")
	if err := pty.Setsize(x.f, &pty.Winsize{Rows: 50, Cols: 132}); err != nil {
		t.Fatal(err)
	}
	x.typ("sleep 0.3; stty size\r")
	x.until("50 132")
	// Ctrl-C ends the command, not the shell.
	x.typ("sleep 1000; echo not me\r")
	time.Sleep(300 * time.Millisecond)
	x.typ("\x03")
	x.typ("echo after $((50+1))\r")
	x.until("after 51")
	if strings.Contains(x.text(), "\nnot me") {
		t.Error("Ctrl-C did not end the command")
	}
	// A full-screen program, and out of it again.
	x.typ("top -d 1\r")
	x.until("PID")
	x.typ("q")
	// top throws away what was typed at it while it ends, so ask until the shell answers.
	for end := time.Now().Add(20 * time.Second); !strings.Contains(x.text(), "back 62"); time.Sleep(200 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("no shell after top:\n%s", tail(x.text(), 30))
		}
		x.typ("echo back $((60+2))\r")
	}
	x.typ("exit 3\r")
	err := x.wait()
	if x.cmd.ProcessState.ExitCode() != 3 {
		t.Errorf("exit: %v", err)
	}
	id, err := newest(ctx, bob)
	if err != nil {
		t.Fatal(err)
	}
	text, err := bob.Run(ctx, "breakglass", "export", id, "--text")
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"sum 42", "24 80", "50 132", "after 51", "PID", "pty-req", "window-change", "exit-status"} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is not in the transcript\n%s", want, tail(text, 80))
		}
	}
	cast, err := bob.Run(ctx, "breakglass", "export", id)
	if err != nil || !strings.HasPrefix(cast, `{"version":2`) && !strings.HasPrefix(cast, `{"version": 2`) {
		t.Errorf("asciicast: %v\n%.200s", err, cast)
	}
	if out, err := bob.Run(ctx, "breakglass", "replay", id, "--speed", "1000", "--idle-limit", "1ms"); err != nil || !strings.Contains(out, "sum 42") {
		t.Errorf("replay: %v\n%s", err, tail(out, 40))
	}
}

// TestKillJump kills the jump in the middle of output and of input: everything that ssh printed, and everything that the host
// received, must be in the transcript that the next start recovers.
func TestKillJump(t *testing.T) {
	r, alice, bob := start(t, road.Config{})
	ctx := t.Context()
	target := alice.Target()
	if _, err := alice.Run(ctx, "breakglass", "request", "--reason", reason, target); err != nil {
		t.Fatal(err)
	}
	for i := range count(t, 2) {
		t.Run(fmt.Sprintf("output %d", i), func(t *testing.T) {
			var out lockedBuffer
			cmd := alice.Command(ctx, "breakglass", "ssh", target, "--", "i=0; while :; do i=$((i+1)); echo line $i of output; done")
			cmd.Stdout = &out
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			out.waitFor(t, 200<<10)
			r.End("jump", true)
			cmd.Wait()
			id, text := recovered(t, ctx, r, bob)
			printed := out.String()
			if !bytes.Contains(text, []byte(printed)) {
				t.Errorf("%s: ssh printed %d bytes, not all of them in the transcript's %d", id, len(printed), len(text))
			}
		})
		t.Run(fmt.Sprintf("input %d", i), func(t *testing.T) {
			far := t.TempDir() + "/received"
			cmd := alice.Command(ctx, "breakglass", "ssh", target, "--", "cat > "+far)
			in, err := cmd.StdinPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			go func() {
				for n := 0; ; n++ {
					if _, err := fmt.Fprintf(in, "line %d of input\n", n); err != nil {
						return
					}
				}
			}()
			for end := time.Now().Add(20 * time.Second); ; time.Sleep(10 * time.Millisecond) {
				if s, err := os.Stat(far); err == nil && s.Size() > 200<<10 {
					break
				} else if time.Now().After(end) {
					t.Fatal("the host receives nothing")
				}
			}
			r.End("jump", true)
			cmd.Wait()
			in.Close()
			_, text := recovered(t, ctx, r, bob, "--input")
			time.Sleep(200 * time.Millisecond) // the host's cat ends with its connection
			received, err := os.ReadFile(far)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.HasPrefix(text, received) {
				t.Errorf("the host received %d bytes, not all of them in the transcript's %d", len(received), len(text))
			}
		})
	}
}

// recovered starts the jump again and gives the raw bytes (output, or with --input input) of the session that the crash cut, and
// demands that verify says so.
func recovered(t *testing.T, ctx context.Context, r *road.Road, bob *road.Person, input ...string) (string, []byte) {
	t.Helper()
	if err := r.StartJump(ctx); err != nil {
		t.Fatal(err)
	}
	id, err := newest(ctx, bob)
	if err != nil {
		t.Fatal(err)
	}
	args := append([]string{"export", id, "--raw"}, input...)
	cmd := bob.Command(ctx, "breakglass", args...)
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("export --raw: %v", err)
	}
	v := bob.Command(ctx, "breakglass", "verify", id)
	verdict, _ := v.Output() // what is said beside it, such as the touch, goes to stderr
	if !bytes.HasPrefix(verdict, []byte("VERIFIED-UNTIL")) || v.ProcessState.ExitCode() != 21 {
		t.Errorf("exit %d:\n%s", v.ProcessState.ExitCode(), verdict)
	}
	return id, out
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}
func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}
func (l *lockedBuffer) waitFor(t *testing.T, n int) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); len(l.String()) < n; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("only %d bytes came", len(l.String()))
		}
	}
}
