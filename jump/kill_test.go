package jump

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"breakglass/jump/journal"
	"breakglass/transcript"
)

// panicT lets the harness run outside a test.
type panicT struct{ testing.TB }

func (panicT) Helper()                   {}
func (panicT) Fatal(a ...any)            { panic(fmt.Sprint(a...)) }
func (panicT) Fatalf(f string, a ...any) { panic(fmt.Sprintf(f, a...)) }

// childJump serves in a process of its own, to be killed: the CA's keys lie in dir, its memory dies too.
func childJump(dir, address, sshd string) error {
	var t panicT
	ca := newAuthority(t, filepath.Join(dir, "keys"))
	if err := ca.keepIn(filepath.Join(dir, "ca")); err != nil {
		return err
	}
	hostKey := loadKey(t, filepath.Join(dir, "keys"), "sshd_host")
	ca.hosts["web01"] = &testHost{address: sshd, hostKeys: []string{authorizedKey(hostKey.PublicKey())}}
	jour, rec, err := journal.Open(journal.Config{Dir: filepath.Join(dir, "journal")})
	if err != nil {
		return err
	}
	j, err := New(Config{Name: "jump-a", Site: ca.site(), Key: ca.jumpKey, HostKey: ca.jumpHost, CA: ca, Journal: jour, Recovered: rec})
	if err != nil {
		return err
	}
	if err := j.hostCerts.fetch(context.Background()); err != nil {
		return err
	}
	l, err := net.Listen("tcp", address)
	if err != nil {
		return err
	}
	fmt.Println(l.Addr())
	return j.Serve(context.Background(), l)
}

// startChild starts it and gives the way to kill it.
func (w *world) startChild() (kill func()) {
	exe, err := os.Executable()
	check(w.t, err)
	cmd := exec.Command(exe, w.dir, "127.0.0.1:0", w.sshd)
	cmd.Env = append(os.Environ(), roleEnv+"="+roleJump)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	check(w.t, err)
	check(w.t, cmd.Start())
	done := false
	kill = func() {
		if !done {
			done = true
			cmd.Process.Kill()
			cmd.Wait()
		}
	}
	w.t.Cleanup(kill)
	line, err := bufio.NewReader(out).ReadString('\n')
	check(w.t, err)
	w.jump = strings.TrimSpace(line)
	return kill
}

// The jump is killed in the middle: whatever ssh printed, and whatever the host received, is in the transcript.
func TestKilledInTheMiddle(t *testing.T) {
	t.Parallel()
	rounds := 3
	if testing.Short() {
		rounds = 1
	}
	for round := range rounds {
		for _, c := range []string{"output", "input", "both"} {
			t.Run(fmt.Sprintf("%s %d", c, round), func(t *testing.T) {
				w := &world{t: t, dir: t.TempDir(), login: me(t)}
				w.ca = newAuthority(t, filepath.Join(w.dir, "keys"))
				w.startSSHD()
				kill := w.startChild()
				g := w.grant()
				received := filepath.Join(w.dir, "received")
				command := map[string]string{
					"output": "i=0; while :; do echo line $i; i=$((i+1)); done",
					"input":  "cat > " + received,
					"both":   "tee " + received,
				}[c]
				cmd := exec.Command("ssh", append(w.config(g), "web01", command)...)
				var printed bytes.Buffer
				cmd.Stdout = &printed
				cmd.Stdin = endless{}
				if c == "output" {
					cmd.Stdin = nil
				}
				check(t, cmd.Start())
				// Until something goes through, and then a moment that differs.
				begun := func() bool {
					st, err := os.Stat(received)
					return c == "output" && w.journalHolds() || err == nil && st.Size() > 0
				}
				for i := 0; !begun(); i++ {
					if i > 1000 {
						t.Fatal("nothing goes through")
					}
					time.Sleep(10 * time.Millisecond)
				}
				var b [1]byte
				rand.Read(b[:])
				time.Sleep(time.Duration(b[0]) * 2 * time.Millisecond)
				kill()
				cmd.Wait()
				time.Sleep(200 * time.Millisecond) // the host's cat ends

				// The next start finds it, tells the CA, and has it stored.
				check(t, w.ca.keepIn(filepath.Join(w.dir, "ca")))
				w.ca.hosts["web01"] = &testHost{address: w.sshd, hostKeys: []string{authorizedKey(loadKey(t, filepath.Join(w.dir, "keys"), "sshd_host").PublicKey())}}
				l, err := net.Listen("tcp", "127.0.0.1:0")
				check(t, err)
				w.startJump(l)
				w.fact("session.crashed", g.request.Session(1))
				rec := w.session(g, 1)
				if rec.end != nil {
					t.Error("a crashed recording has an end")
				}
				out, in := rec.data(transcript.KindOutput, 1), rec.data(transcript.KindInput, 1)
				if !strings.HasPrefix(out, printed.String()) {
					t.Errorf("printed %d bytes, recorded %d", printed.Len(), len(out))
				}
				if got, err := os.ReadFile(received); err == nil && !strings.HasPrefix(in, string(got)) {
					t.Errorf("the host received %d bytes, recorded %d", len(got), len(in))
				}
				t.Logf("printed %d of %d, received of %d", printed.Len(), len(out), len(in))
				if c != "input" && printed.Len() == 0 && c != "both" {
					t.Error("nothing was printed: the test shows nothing")
				}
			})
		}
	}
}

// journalHolds says whether the killed-to-be has recorded a good deal.
func (w *world) journalHolds() bool {
	b := make([]byte, 64<<10)
	f, err := os.Open(filepath.Join(w.dir, "journal", "segment-0000"))
	if err != nil {
		return false
	}
	defer f.Close()
	n, _ := io.ReadFull(f, b)
	return n == len(b) && !bytes.Equal(b[n-512:], make([]byte, 512))
}

// endless is a countable input.
type endless struct{}

func (endless) Read(b []byte) (int, error) {
	n := min(len(b), 1000)
	rand.Read(b[:n])
	time.Sleep(time.Millisecond)
	return n, nil
}

// What ended before the jump could tell is told at the next start, once, and stored.
func TestARestartTellsWhatWasLeft(t *testing.T) {
	w := newWorld(t)
	g := w.grant()
	// The CA hears nothing of the end.
	cmd := exec.Command("ssh", append(w.config(g), "web01", "sleep 0.3; echo bye")...)
	check(t, cmd.Start())
	for w.j.State().Sessions == 0 {
		time.Sleep(5 * time.Millisecond)
	}
	w.ca.mu.Lock()
	w.ca.down = true
	w.ca.mu.Unlock()
	cmd.Wait()
	for w.j.State().Unsent == 0 {
		time.Sleep(5 * time.Millisecond)
	}
	w.stop()
	w.ca.mu.Lock()
	w.ca.down = false
	w.ca.mu.Unlock()
	for range 2 {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		check(t, err)
		w.startJump(l)
		if got := w.session(g, 1).data(transcript.KindOutput, 0); got != "bye\n" {
			t.Errorf("recorded %q", got)
		}
		w.ended(g, 1)
		for w.j.State().Unsent > 0 {
			time.Sleep(5 * time.Millisecond)
		}
		check(t, w.stop())
	}
	n := 0
	for _, f := range w.ca.facts {
		if f.Session == g.request.Session(1) {
			n++
		}
	}
	if n != 1 {
		t.Errorf("told %d times", n)
	}
}
