package jump

import (
	"bytes"
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"breakglass/transcript"
)

// typed is stock ssh -tt with what it printed.
type typed struct {
	t   *testing.T
	cmd *exec.Cmd
	out lockedBuffer
}

// terminal runs a command on a terminal of the host's.
func (w *world) terminal(t *testing.T, g *grant, command string) *typed {
	t.Helper()
	x := &typed{t: t, cmd: exec.Command("ssh", append(w.config(g), "-tt", string(g.host), command)...)}
	x.cmd.Stdout, x.cmd.Stderr = &x.out, &x.out
	in, err := x.cmd.StdinPipe()
	check(t, err)
	check(t, x.cmd.Start())
	t.Cleanup(func() {
		in.Close()
		x.cmd.Process.Kill()
		x.cmd.Wait()
	})
	return x
}

// lockedBuffer is written by ssh while it is read.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// until waits for a text.
func (x *typed) until(text string) {
	x.t.Helper()
	for range 3000 {
		if strings.Contains(x.out.String(), text) {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	x.t.Fatalf("%q is never shown:\n%s", text, x.out.String())
}

// stopping tells the jump to end, which it does on a channel.
func (w *world) stopping() <-chan error {
	done := make(chan error, 1)
	go func() { done <- w.stop() }()
	for range 3000 {
		if !w.j.State().Draining.IsZero() {
			return done
		}
		time.Sleep(10 * time.Millisecond)
	}
	w.t.Fatal("it never drains")
	return nil
}

// outer is a connection that carries others; what it gives goes to the host through it, and gives the banners.
func (w *world) outer(t *testing.T, g *grant) func() (banners string, err error) {
	t.Helper()
	auth := []ssh.AuthMethod{ssh.PublicKeys(withCert(t, g.cert, g.signer))}
	c, err := ssh.Dial("tcp", w.jump, &ssh.ClientConfig{User: "who-ever", Auth: auth, HostKeyCallback: ssh.InsecureIgnoreHostKey(), Timeout: 10 * time.Second})
	check(t, err)
	t.Cleanup(func() { c.Close() })
	return func() (string, error) {
		inner, err := c.Dial("tcp", "web01:22")
		if err != nil {
			return "", err
		}
		defer inner.Close()
		var b strings.Builder
		_, _, _, err = ssh.NewClientConn(inner, "web01", &ssh.ClientConfig{User: string(g.login), Auth: auth, HostKeyCallback: ssh.InsecureIgnoreHostKey(),
			BannerCallback: func(m string) error { b.WriteString(m); return nil }})
		return b.String(), err
	}
}

// A jump that is told to end tells who is in, lets them finish, takes nobody new, and is gone with the last.
func TestADrainLetsPeopleFinish(t *testing.T) {
	w := newWorld(t, func(w *world) { w.drain = time.Hour })
	g, after := w.grant(), filepath.Join(t.TempDir(), "after")
	x := w.terminal(t, g, "echo begun; while [ ! -e "+after+" ]; do sleep 0.05; done; echo finished")
	x.until("begun")
	quiet := exec.Command("ssh", append(w.config(g), "web01", "echo begun; while [ ! -e "+after+" ]; do sleep 0.05; done; seq 100000")...)
	var out lockedBuffer
	var errs bytes.Buffer
	quiet.Stdout, quiet.Stderr = &out, &errs
	check(t, quiet.Start())
	for !strings.Contains(out.String(), "begun") {
		time.Sleep(5 * time.Millisecond)
	}
	done := w.stopping()
	x.until("this jump goes down at " + clockTime(w.j.State().Draining))
	x.until("breakglass: hint: another way in: breakglass ssh " + w.login + "@web01")
	if c, err := net.Dial("tcp", w.jump); err == nil {
		c.Close()
		t.Error("it takes connections still")
	}
	if r := w.j.Running(); len(r) != 2 || r[0].ID != g.request.Session(1) || r[0].Person != "alice" || r[0].Host != "web01" || string(r[0].Login) != w.login || r[0].BytesOut == 0 {
		t.Errorf("running: %+v", r)
	}
	check(t, os.WriteFile(after, nil, 0o600))
	if err := x.cmd.Wait(); err != nil || !strings.Contains(x.out.String(), "finished") {
		t.Errorf("not let finish: %v\n%s", err, x.out.String())
	}
	want := "begun\n" + run(t, nil, "seq", "100000").stdout
	if err := quiet.Wait(); err != nil || out.String() != want || errs.Len() > 0 {
		t.Errorf("not left alone: %v, %d of %d bytes, %s", err, len(out.String()), len(want), errs.String())
	}
	check(t, <-done)
	for n := range 2 {
		if e := w.ended(g, n+1); e.Reason != endClosed && e.Reason != endHost {
			t.Errorf("session %d ended by %s", n+1, e.Reason)
		}
		w.session(g, n+1)
	}
	w.session(g, 1).has("mark", "this jump goes down at")
	if got := w.session(g, 2).data(transcript.KindOutput, 1); got != want {
		t.Errorf("recorded %d of %d bytes", len(got), len(want))
	}
}

// What is left at the deadline, or when somebody is in a hurry, is cut, told and stored.
func TestADrainEnds(t *testing.T) {
	for _, c := range []struct {
		what  string
		drain time.Duration
		hurry bool
	}{{"at the deadline", time.Second, false}, {"in a hurry", time.Hour, true}} {
		t.Run(c.what, func(t *testing.T) {
			w := newWorld(t, func(w *world) { w.drain = c.drain })
			g := w.grant()
			x := w.terminal(t, g, "echo begun; sleep 100")
			x.until("begun")
			done := w.stopping()
			x.until("this jump goes down at")
			if c.hurry {
				w.j.Hurry()
				w.j.Hurry() // again is no fault
			}
			x.until("session cut: this jump is going down")
			check(t, <-done)
			if e := w.ended(g, 1); e.Reason != endStopped {
				t.Errorf("ended by %s", e.Reason)
			}
			w.session(g, 1).has("act", endStopped)
		})
	}
}

// Who stays at the door is told to go elsewhere: a connection of before may open no session later than it has to.
func TestADrainLetsNobodyInLate(t *testing.T) {
	w := newWorld(t, func(w *world) { w.drain = time.Hour })
	g := w.grant()
	x := w.terminal(t, g, "echo begun; sleep 100")
	x.until("begun")
	// A connection of before that carries others: who comes through it now is new all the same.
	outer := w.outer(t, g)
	done := w.stopping()
	for w.j.admits("root@web01") == nil {
		time.Sleep(10 * time.Millisecond)
	}
	if text, err := outer(); err == nil || !strings.Contains(text, "this jump is going down and lets nobody in any more") || !strings.Contains(text, "hint: breakglass ssh") {
		t.Errorf("%v, told %q", err, text)
	}
	w.j.Hurry()
	check(t, <-done)
	w.ca.mu.Lock()
	defer w.ca.mu.Unlock()
	if w.ca.asked != 1 {
		t.Errorf("the CA was asked for %d sessions", w.ca.asked)
	}
}

// A journal that fails while the jump drains ends it as it does at any time.
func TestADrainEndsWithTheJournal(t *testing.T) {
	fs := &failing{files: map[string]*failingFile{}}
	w := newWorld(t, func(w *world) { w.fs, w.segmentSize, w.drain = fs, 4<<20, time.Hour })
	g := w.grant()
	cmd := exec.Command("ssh", append(w.config(g), "web01", "while sleep 0.05; do echo tick; done")...)
	var out, errs lockedBuffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	check(t, cmd.Start())
	for i := 0; !strings.Contains(out.String(), "tick"); i++ {
		if i > 2000 {
			t.Fatal("nothing runs")
		}
		time.Sleep(10 * time.Millisecond)
	}
	done := w.stopping()
	fs.fail.Store(true)
	cmd.Wait()
	if !strings.Contains(errs.String(), "could not store what you would have seen next") {
		t.Errorf("stderr %q", errs.String())
	}
	if err := <-done; !errors.Is(err, ErrJournal) {
		t.Errorf("Serve: %v", err)
	}
}

// Who had just been taken when the drain began gets in, and is told at once: nobody else can serve that connection.
func TestADrainServesWhoIsAtTheDoor(t *testing.T) {
	w := newWorld(t, func(w *world) { w.drain = time.Hour })
	g := w.grant()
	first := w.terminal(t, g, "echo begun; sleep 100") // so that the drain lasts
	first.until("begun")
	c, err := net.Dial("tcp", w.jump)
	check(t, err)
	defer c.Close()
	for i := 0; !w.j.atTheDoor(2); i++ {
		if i > 2000 {
			t.Fatal("not accepted")
		}
		time.Sleep(5 * time.Millisecond)
	}
	done := w.stopping()
	c.Write(Preamble("web01"))
	conn, chans, reqs, err := ssh.NewClientConn(c, w.jump, &ssh.ClientConfig{User: string(g.login), Auth: []ssh.AuthMethod{ssh.PublicKeys(withCert(t, g.cert, g.signer))},
		HostKeyCallback: ssh.InsecureIgnoreHostKey(), Timeout: 10 * time.Second})
	check(t, err)
	client := ssh.NewClient(conn, chans, reqs)
	defer client.Close()
	s, err := client.NewSession()
	check(t, err)
	var out, errs lockedBuffer
	s.Stdout, s.Stderr = &out, &errs
	check(t, s.RequestPty("xterm", 24, 80, ssh.TerminalModes{}))
	if err := s.Run("echo let in"); err != nil || !strings.Contains(out.String(), "let in") || !strings.Contains(errs.String(), "this jump goes down at ") {
		t.Errorf("%v: %s%s", err, out.String(), errs.String())
	}
	w.j.Hurry()
	check(t, <-done)
}

// atTheDoor says whether so many connections are accepted.
func (j *Jump) atTheDoor(n int) bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	return len(j.conns) == n
}
