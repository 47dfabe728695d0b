//go:build linux

package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/creack/pty"

	"breakglass/ca/catest"
)

// screen is a command on a terminal of its own, and all that it has shown.
type screen struct {
	r    *road
	cmd  *exec.Cmd
	tty  *os.File
	done chan struct{}

	mu  sync.Mutex
	all bytes.Buffer
}

// onTerminal runs a command as a person would: nothing in the environment answers for them.
func (r *road) onTerminal(args ...string) *screen {
	r.Helper()
	cmd := exec.Command(filepath.Join(bin, "breakglass"), args...)
	for _, e := range r.env {
		if !strings.HasPrefix(e, "SSH_ASKPASS") && !strings.HasPrefix(e, "BREAKGLASS_PASSPHRASE_FILE") {
			cmd.Env = append(cmd.Env, e)
		}
	}
	tty, err := pty.Start(cmd)
	if err != nil {
		r.Fatal(err)
	}
	s := &screen{r: r, cmd: cmd, tty: tty, done: make(chan struct{})}
	go func() {
		defer close(s.done)
		buf := make([]byte, 4096)
		for {
			n, err := tty.Read(buf)
			s.mu.Lock()
			s.all.Write(buf[:n])
			s.mu.Unlock()
			if err != nil {
				return
			}
		}
	}()
	r.Cleanup(func() { tty.Close(); cmd.Process.Kill() })
	return s
}

func (s *screen) text() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.all.String()
}

func (s *screen) shows(want string) {
	s.r.Helper()
	for end := time.Now().Add(20 * time.Second); !strings.Contains(s.text(), want); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			s.r.Fatalf("the screen doesn't show %q:\n%s", want, s.text())
		}
	}
}

func (s *screen) types(line string) {
	if _, err := s.tty.WriteString(line); err != nil {
		s.r.Fatal(err)
	}
}

func (s *screen) ends() int {
	s.r.Helper()
	over := make(chan error, 1)
	go func() { over <- s.cmd.Wait() }()
	select {
	case <-over:
		<-s.done
		return s.cmd.ProcessState.ExitCode()
	case <-time.After(30 * time.Second):
		s.r.Fatalf("it doesn't end:\n%s", s.text())
		return -1
	}
}

func TestAPersonIsAskedForReasonPINAndTouchAlone(t *testing.T) {
	r := newRoad(t)
	r.enroll()
	s := r.onTerminal("ssh", "root@web01", "echo remote; exit 3")
	s.shows("Why? (recorded, at least 20 characters)")
	s.types(catest.Reason + "\n")
	s.shows("PIN for security key yubi-desk:")
	time.Sleep(100 * time.Millisecond) // the echo goes off just after the prompt
	s.types("999999\n")
	s.shows("wrong PIN, 7 tries left")
	s.shows("wrong PIN, 7 tries left\r\nPIN for security key yubi-desk:")
	time.Sleep(100 * time.Millisecond)
	s.types(pin + "\n")
	s.shows("Touch your key (yubi-desk) … ")
	s.shows(`allowed by rule "oncall-web"`)
	s.shows("remote\r\n")
	if got := s.ends(); got != 3 {
		t.Errorf("status %d", got)
	}
	if text := s.text(); strings.Contains(text, pin) || strings.Contains(text, "999999") {
		t.Errorf("the PIN is on the screen:\n%s", text)
	}
	if n := r.touches.Load(); n != 3 { // two to enrol
		t.Errorf("%d touches", n)
	}
	// The terminal is lost; the grant isn't.
	s.tty.Close()
	if res := r.run("breakglass", "ssh", "root@web01", "echo again"); res.out != "again\n" || res.status != 0 {
		t.Errorf("after the terminal was lost: status %d, %q\n%s", res.status, res.out, res.err)
	}
}

func TestCtrlCLeavesTheTerminalAsItWas(t *testing.T) {
	r := newRoad(t)
	r.enroll()
	s := r.onTerminal("request", "--reason", catest.Reason, "root@web01")
	s.shows("PIN for security key yubi-desk:")
	time.Sleep(100 * time.Millisecond)
	before, err := echoes(s.tty)
	if err != nil {
		t.Fatal(err)
	}
	s.types("\x03")
	if got := s.ends(); got != exitInterrupted {
		t.Errorf("status %d\n%s", got, s.text())
	}
	if before {
		t.Error("the PIN would have been shown")
	}
	if after, err := echoes(s.tty); err != nil || !after {
		t.Errorf("the terminal is left dark: %v, %v", after, err)
	}
	if out := strings.TrimSpace(r.ok("breakglass", "grants", "--json").out); out != "[]" {
		t.Errorf("left behind: %s", out)
	}
	if n := r.touches.Load(); n != 2 {
		t.Errorf("%d touches", n)
	}
}

// TestEnsureAsksOnATerminal: plain ssh to a name that goes through breakglass.
func TestEnsureAsksOnATerminal(t *testing.T) {
	r := newRoad(t)
	r.enroll()
	s := r.onTerminal("ensure", "root@web01")
	s.shows("Why?")
	s.types(catest.Reason + "\n")
	s.shows("PIN for security key")
	time.Sleep(100 * time.Millisecond)
	s.types(pin + "\n")
	if got := s.ends(); got != 0 {
		t.Errorf("status %d\n%s", got, s.text())
	}
	if res := r.run("breakglass", "ensure", "--live", "root@web01"); res.status != 0 || res.out+res.err != "" {
		t.Errorf("status %d, %q, %q", res.status, res.out, res.err)
	}
}

// TestSharesAreShownOneAtATime: the screen is wiped between them, and a wrong line is asked for again.
func TestSharesAreShownOneAtATime(t *testing.T) {
	r := bare(t)
	pub := filepath.Join(r.home, "recovery.pub")
	s := r.onTerminal("recovery", "init", "--shares", "2-of-2", "-o", pub)
	const wiped = "\x1b[H\x1b[2J\x1b[3J"
	var sheets [][]string
	for i, share := range []string{"share 1 of 2", "share 2 of 2"} {
		s.shows(share)
		for end := time.Now().Add(20 * time.Second); strings.Count(s.text(), "Enter, once it is on paper") <= i; time.Sleep(10 * time.Millisecond) {
			if time.Now().After(end) {
				t.Fatalf("doesn't wait:\n%s", s.text())
			}
		}
		screens := strings.Split(s.text(), wiped)
		now := screens[len(screens)-1]
		if len(screens) != i+1 || strings.Count(now, "share ") != 1 {
			t.Errorf("on the screen with %s:\n%q", share, now)
		}
		sheets = append(sheets, gridOf(t, now))
		s.types("\n")
	}
	if got := s.ends(); got != 0 {
		t.Fatalf("status %d\n%s", got, s.text())
	}
	if text := s.text(); strings.Count(text, wiped) != 2 || strings.Contains(text[strings.LastIndex(text, wiped):], "share ") {
		t.Errorf("not wiped:\n%q", text)
	}

	s = r.onTerminal("recovery", "check", pub)
	for i, sheet := range sheets {
		for n, line := range sheet {
			ask := "Line " + string(rune('1'+n)) + ": "
			s.asks(ask, i+1)
			if i == 0 && n == 2 {
				s.types("3 not this one\n")
				s.shows("line 3: this line is not as it was printed")
				s.asks(ask, 2)
			} else if n == 2 {
				s.asks(ask, 3)
			}
			s.types(line + "\n")
		}
	}
	s.shows("ok: the paper opens")
	if got := s.ends(); got != 0 {
		t.Errorf("status %d\n%s", got, s.text())
	}
}

// asks waits until something was asked for the n-th time.
func (s *screen) asks(what string, n int) {
	s.r.Helper()
	for end := time.Now().Add(20 * time.Second); strings.Count(s.text(), what) < n; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			s.r.Fatalf("not asked %d times for %q:\n%s", n, what, s.text())
		}
	}
}
