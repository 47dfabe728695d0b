package jump

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"breakglass/transcript"
)

// What the client printed and what the host received is in the recording, whatever happens to the recorder in the middle: its disk refuses a
// write, a flush fails, the disk hangs, the store goes away. That it is killed is TestKilledInTheMiddle.
func TestWhatPassedIsRecordedWhateverFails(t *testing.T) {
	for _, f := range []struct {
		is string
		// happen makes it fail, while bytes pass.
		happen func(w *world, fs *failing)
		// survives: the session goes on. Else the jump ends, and its next start tells of the session.
		survives bool
	}{
		{"the disk is full", func(_ *world, fs *failing) { fs.full.Store(true) }, false},
		{"a flush fails", func(_ *world, fs *failing) { fs.fail.Store(true) }, false},
		{"the disk hangs, then a flush fails", func(_ *world, fs *failing) {
			free := fs.hang()
			time.Sleep(300 * time.Millisecond)
			fs.fail.Store(true)
			free()
		}, false},
		{"the disk hangs for a while", func(_ *world, fs *failing) {
			free := fs.hang()
			time.Sleep(300 * time.Millisecond)
			free()
		}, true},
		{"the store goes away for a while", func(w *world, _ *failing) {
			w.ca.gone(true)
			time.Sleep(300 * time.Millisecond)
			w.ca.gone(false)
		}, true},
	} {
		for _, direction := range []string{"output", "input", "both"} {
			t.Run(f.is+", "+direction, func(t *testing.T) {
				t.Parallel()
				fs := &failing{files: map[string]*failingFile{}}
				w := newWorld(t, func(w *world) { w.fs, w.segments, w.segmentSize = fs, 8, 4<<20 })
				p := w.passing(direction)
				f.happen(w, fs)
				g := p.grant
				if f.survives {
					p.goOn()
					p.finish()
				} else {
					p.wait()
					select {
					case err := <-w.served:
						if !errors.Is(err, ErrJournal) {
							t.Errorf("Serve: %v", err)
						}
					case <-time.After(time.Minute):
						t.Fatal("Serve goes on without a journal")
					}
					if !strings.Contains(p.stderr.String(), "could not store what you would have seen next") {
						t.Errorf("the person reads %q", p.stderr.String())
					}
					w.jour.Close()
					fs.fail.Store(false)
					fs.full.Store(false)
					l, err := net.Listen("tcp", "127.0.0.1:0")
					check(t, err)
					w.startJump(l)
					w.fact("session.crashed", g.request.Session(1))
				}
				rec := w.session(g, 1)
				out, in := rec.data(transcript.KindOutput, 1), rec.data(transcript.KindInput, 1)
				printed, received := p.printed(), p.received()
				if !strings.HasPrefix(out, printed) {
					t.Errorf("printed %d bytes, recorded %d", len(printed), len(out))
				}
				if !strings.HasPrefix(in, received) {
					t.Errorf("the host received %d bytes, recorded %d", len(received), len(in))
				}
				if direction != "input" && printed == "" || direction != "output" && received == "" {
					t.Errorf("printed %d, received %d: nothing is shown", len(printed), len(received))
				}
				if f.survives && (rec.end == nil || rec.end.Reason != endClosed || out != printed || in != received) {
					t.Errorf("ended %+v; printed %d of %d, received %d of %d", rec.end, len(printed), len(out), len(received), len(in))
				}
			})
		}
	}
}

// gone takes the whole CA away, the store with it, or gives it back.
func (a *authority) gone(is bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.down = is
}

// passing is a command through which bytes pass, in one direction or both, until it is told to finish.
type passing struct {
	w      *world
	grant  *grant
	cmd    *exec.Cmd
	input  bool
	stop   string // the command ends when this file is there
	file   string // what the host received
	stdout watched
	stderr watched

	quit chan struct{} // the feeder ends
	fed  chan struct{}
	over chan struct{}
	done bool
}

// watched is what a process wrote, to be looked at while it runs.
type watched struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (o *watched) Write(b []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.Write(b)
}

func (o *watched) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.String()
}

// passing starts the command and returns when some went through.
func (w *world) passing(direction string) *passing {
	t := w.t
	p := &passing{w: w, grant: w.grant(), input: direction != "output", stop: filepath.Join(w.dir, "stop"), file: filepath.Join(w.dir, "received"),
		quit: make(chan struct{}), fed: make(chan struct{}), over: make(chan struct{})}
	command := map[string]string{
		"output": fmt.Sprintf("i=0; while [ ! -e %s ]; do echo line $i, and some more of it to make it long; i=$((i+1)); done", p.stop),
		"input":  "cat > " + p.file,
		"both":   "tee " + p.file,
	}[direction]
	p.cmd = exec.Command("ssh", append(w.config(p.grant), "web01", command)...)
	p.cmd.Stdout, p.cmd.Stderr = &p.stdout, &p.stderr
	in, err := p.cmd.StdinPipe()
	check(t, err)
	check(t, p.cmd.Start())
	go func() {
		defer close(p.fed)
		defer in.Close()
		if !p.input {
			return
		}
		r := rand.New(rand.NewPCG(1, 2))
		b := make([]byte, 2000)
		for {
			select {
			case <-p.quit:
				return
			case <-time.After(time.Millisecond):
			}
			for i := range b {
				b[i] = byte(r.Uint32())
			}
			if _, err := in.Write(b); err != nil {
				return
			}
		}
	}()
	go func() { p.cmd.Wait(); close(p.over) }()
	t.Cleanup(func() {
		if !p.done {
			p.cmd.Process.Kill()
			<-p.over
		}
	})
	p.goOn()
	return p
}

// amount is what has passed, in the direction that is behind.
func (p *passing) amount() int {
	received, printed := len(p.received()), len(p.printed())
	switch {
	case !p.input:
		return printed
	case strings.Contains(strings.Join(p.cmd.Args, " "), "tee "):
		return min(received, printed)
	}
	return received
}

// goOn returns when more went through.
func (p *passing) goOn() {
	from := p.amount()
	for end := time.Now().Add(time.Minute); p.amount() < from+20_000; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			p.w.t.Fatalf("nothing goes through; stderr %q", p.stderr.String())
		}
	}
}

// finish lets it end by itself.
func (p *passing) finish() {
	check(p.w.t, os.WriteFile(p.stop, nil, 0o600))
	close(p.quit)
	p.wait()
	if code := p.cmd.ProcessState.ExitCode(); code != 0 {
		p.w.t.Errorf("ended with %d; stderr %q", code, p.stderr.String())
	}
}

func (p *passing) wait() {
	select {
	case <-p.over:
		p.done = true
	case <-time.After(time.Minute):
		p.w.t.Fatal("ssh doesn't end")
	}
	// The host's command has seen the end of its input, too, or sshd has ended it: what it received is complete.
	last := -1
	for range 50 {
		if n := len(p.received()); n == last {
			return
		} else {
			last = n
		}
		time.Sleep(100 * time.Millisecond)
	}
}

func (p *passing) printed() string { return p.stdout.String() }

func (p *passing) received() string {
	b, err := os.ReadFile(p.file)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		p.w.t.Fatal(err)
	}
	return string(b)
}
