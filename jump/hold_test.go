package jump

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"breakglass/ledger"
	"breakglass/transcript"
)

// watchedBy has every session wait for somebody of @leads who watches.
func watchedBy(w *world) {
	w.ca.change = func(o *ledger.SessionOpened) { o.WatchedBy = []string{"@leads"} }
}

// watch has bob begin or end to watch, as the CA's ledger would say.
func (w *world) watch(g *grant, id string, observer, joins bool) {
	s := ledger.Subject{Person: "bob", Session: g.request.Session(1), Jump: "jump-a"}
	if joins {
		w.ca.say(w.t, s, &ledger.SessionWatched{Watch: id, Pass: "p", Why: "to help", Observer: observer})
	} else {
		w.ca.say(w.t, s, &ledger.SessionUnwatched{Watch: id, How: ledger.WatchLeft})
	}
}

// runs gives the one session that runs.
func (w *world) runs() *session {
	w.t.Helper()
	for range 3000 {
		if all := w.j.running(); len(all) == 1 && all[0].rec != nil {
			return all[0]
		}
		time.Sleep(10 * time.Millisecond)
	}
	w.t.Fatal("no session runs")
	return nil
}

// waits is runs, once a command waits there for an observer.
func (w *world) waits() *session {
	w.t.Helper()
	s := w.runs()
	for range 3000 {
		for _, c := range s.open(false) {
			c.mu.Lock()
			held := c.held
			c.mu.Unlock()
			if held {
				return s
			}
		}
		time.Sleep(10 * time.Millisecond)
	}
	w.t.Fatal("nothing waits")
	return nil
}

// held says of each event whether it stands where input is held; the recording begins so.
func (r *recording) held(f func(e transcript.Event, held bool)) {
	held := true
	for _, e := range r.events {
		if e.Kind == transcript.KindAct {
			a, err := transcript.ParseAction(e.Data)
			check(r.t, err)
			switch a.Code {
			case "input_held":
				held = true
			case "input_released":
				held = false
			}
		}
		f(e, held)
	}
}

// nothingPassedHeld demands that no input, no end of it and no request that acts was recorded while nobody watched.
func (r *recording) nothingPassedHeld() {
	r.t.Helper()
	r.held(func(e transcript.Event, held bool) {
		if !held {
			return
		}
		switch e.Kind {
		case transcript.KindInput:
			r.t.Errorf("%d bytes were passed while nobody watched", len(e.Data))
		case transcript.KindRequest:
			if q, _ := transcript.ParseRequest(e.Data); acts[q.Type] && q.Step == transcript.Asked {
				r.t.Errorf("%s was passed while nobody watched", q.Type)
			}
		case transcript.KindEOF:
			if s, _ := transcript.ParseSide(e.Data); s == transcript.FromPerson {
				r.t.Error("the end of input was passed while nobody watched")
			}
		}
	})
}

// A command without a terminal waits too, before it is started; who watches and is no observer changes nothing; and when the last observer leaves, input waits again.
func TestInputWaitsForAnObserver(t *testing.T) {
	t.Parallel()
	w := newWorld(t, watchedBy)
	g := w.grant()
	there := filepath.Join(t.TempDir(), "there")
	cmd := exec.Command("ssh", append(w.config(g), string(g.host), "touch "+there+"; cat")...)
	var out, errs lockedBuffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	in, err := cmd.StdinPipe()
	check(t, err)
	check(t, cmd.Start())
	until := func(b *lockedBuffer, text string) {
		t.Helper()
		for range 3000 {
			if strings.Contains(b.String(), text) {
				return
			}
			time.Sleep(10 * time.Millisecond)
		}
		t.Fatalf("%q is never shown: %q", text, b.String())
	}
	io.WriteString(in, "first\n")
	until(&errs, "input is held until one of @leads watches. They type: breakglass watch "+string(g.request.Session(1)))
	w.watch(g, "w1", false, true)
	until(&errs, "held") // and it stays so
	time.Sleep(300 * time.Millisecond)
	if _, err := os.Stat(there); err == nil || out.String() != "" {
		t.Fatal("started while nobody of those who have to watches")
	}
	w.watch(g, "w2", true, true)
	until(&out, "first\n")
	until(&errs, "input goes on")
	w.watch(g, "w2", true, false)
	for range 3000 {
		if strings.Count(errs.String(), "input is held") >= 2 {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	io.WriteString(in, "second\n")
	in.Close()
	time.Sleep(300 * time.Millisecond)
	if strings.Contains(out.String(), "second") {
		t.Error("passed after the observer had left")
	}
	w.watch(g, "w3", true, true)
	if err := cmd.Wait(); err != nil || out.String() != "first\nsecond\n" {
		t.Errorf("%v %q %q", err, out.String(), errs.String())
	}
	rec := w.session(g, 1)
	rec.nothingPassedHeld()
	rec.has("0 act input_held")
	var seen []string
	for _, e := range rec.events {
		if e.Kind == transcript.KindWatcher {
			x, err := transcript.ParseWatching(e.Data)
			check(t, err)
			seen = append(seen, fmt.Sprint(x.Person, " ", x.Joined))
		}
	}
	if got := strings.Join(seen, ", "); got != "bob true, bob true, bob false, bob true" {
		t.Errorf("watchers recorded: %s", got)
	}
}

// Observers come and go a thousand times while input flows: none of it passes while nobody is there, none is lost, none out of order.
func TestAThousandHolds(t *testing.T) {
	t.Parallel()
	w := newWorld(t, watchedBy)
	g := w.grant()
	data := make([]byte, 4<<20)
	r := rand.New(rand.NewPCG(7, 7))
	for i := range data {
		data[i] = byte(r.Uint32())
	}
	pr, pw := io.Pipe()
	done := make(chan result, 1)
	go func() { done <- run(t, pr, "ssh", append(w.config(g), string(g.host), "cat")...) }()
	s := w.runs()
	var writing atomic.Bool
	writing.Store(true)
	go func() {
		defer writing.Store(false)
		for b := data; len(b) > 0; {
			n := min(len(b), 1+int(r.Uint32N(8<<10)))
			if _, err := pw.Write(b[:n]); err != nil {
				return
			}
			b = b[n:]
		}
		pw.Close()
	}()
	id, index := g.request.Session(1), s.order.index
	for i := range 1000 {
		index++
		w.j.watchers.joined(id, index, watcher{id: fmt.Sprint(i), person: "bob", observer: true})
		s.seeWatchers()
		time.Sleep(time.Duration(i%7) * 200 * time.Microsecond)
		index++
		w.j.watchers.left(id, index, fmt.Sprint(i))
		s.seeWatchers()
		if s.hold.try() {
			t.Fatal("open with nobody there")
		}
		time.Sleep(time.Duration(i%3) * 200 * time.Microsecond)
	}
	w.j.watchers.joined(id, index+1, watcher{id: "last", person: "bob", observer: true})
	s.seeWatchers()
	res := <-done
	if res.code != 0 || res.stdout != string(data) {
		t.Errorf("exit %d, %d of %d bytes, %x for %x", res.code, len(res.stdout), len(data), sha256.Sum256([]byte(res.stdout)), sha256.Sum256(data))
	}
	rec := w.session(g, 1)
	rec.nothingPassedHeld()
	if rec.data(transcript.KindInput, 1) != string(data) {
		t.Error("what was recorded is not what was sent")
	}
}

// The gate alone, under load: when it says that nothing passes, nothing does until it opens.
func TestAHoldHolds(t *testing.T) {
	h := newHold([]string{"@leads"})
	var passed atomic.Int64
	for range 4 {
		go func() {
			for h.enter(nil) {
				passed.Add(1)
				h.leave()
			}
		}()
	}
	for range 1000 {
		h.want(false)
		if !h.open() {
			t.Fatal("does not open")
		}
		for before := passed.Load(); passed.Load() == before; {
			time.Sleep(10 * time.Microsecond)
		}
		h.want(true)
		<-h.quiet()
		before := passed.Load()
		time.Sleep(50 * time.Microsecond)
		if n := passed.Load() - before; n != 0 {
			t.Fatalf("%d passed while held", n)
		}
	}
	h.end()
}

// What is held keeps nobody from ending the session, and nobody from living in it.
func TestAHeldSession(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		what string
		set  func(*world)
		do   func(*world, *grant)
		says string
	}{
		{"is killed", nil, func(w *world, g *grant) {
			w.ca.say(w.t, ledger.Subject{Person: "carol"}, &ledger.Revoked{What: ledger.RevokedGrant, Target: string(g.request), Why: "no", How: ledger.RevokedByKill})
		}, "revoked by carol"},
		{"ends with its grant", func(w *world) { w.ca.until = 4 * time.Second }, func(*world, *grant) {}, "your grant has ended"},
		{"ends when it is idle", func(w *world) { w.ca.idle = 3 }, func(*world, *grant) {}, "nothing was typed or shown"},
	} {
		t.Run(c.what, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, watchedBy, func(w *world) {
				if c.set != nil {
					c.set(w)
				}
			})
			g := w.grant()
			go func() {
				w.waits()
				c.do(w, g)
			}()
			r := w.ssh(g, strings.NewReader("typed\n"), "cat")
			if r.code != 255 || r.stdout != "" || !strings.Contains(r.stderr, c.says) {
				t.Errorf("%+v", r)
			}
			rec := w.session(g, 1)
			rec.nothingPassedHeld()
			if rec.end == nil {
				t.Error("its recording has no end")
			}
		})
	}
	t.Run("lives", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t, watchedBy)
		g := w.grant()
		conn := w.client(g)
		defer conn.Close()
		ch, reqs, err := conn.OpenChannel("session", nil)
		check(t, err)
		go ssh.DiscardRequests(reqs)
		pty := ssh.Marshal(struct {
			Term          string
			Cols, Rows    uint32
			Width, Height uint32
			Modes         string
		}{"xterm", 80, 24, 0, 0, ""})
		if ok, err := ch.SendRequest("pty-req", true, pty); !ok || err != nil {
			t.Fatal("no terminal: ", err)
		}
		started := make(chan bool, 1)
		go func() {
			ok, _ := ch.SendRequest("exec", true, ssh.Marshal(struct{ S string }{"stty size; sleep 0.2"}))
			started <- ok
		}()
		size := func(cols uint32) {
			ch.SendRequest("window-change", false, ssh.Marshal(struct{ C, R, W, H uint32 }{cols, 40, 0, 0}))
		}
		for i := range 500 { // far more than any queue takes
			size(100 + uint32(i)%5)
		}
		size(123)
		// The connection answers, another channel opens, and closes.
		if _, _, err := conn.SendRequest("keepalive@openssh.com", true, nil); err != nil {
			t.Error("no keepalive: ", err)
		}
		second, reqs2, err := conn.OpenChannel("session", nil)
		check(t, err)
		go ssh.DiscardRequests(reqs2)
		go second.Write(bytes.Repeat([]byte("x"), 64<<10))
		check(t, second.Close())
		select {
		case <-started:
			t.Fatal("started while nobody watches")
		case <-time.After(300 * time.Millisecond):
		}
		w.watch(g, "w1", true, true)
		if !<-started {
			t.Fatal("not started once somebody watches")
		}
		out, err := io.ReadAll(ch)
		check(t, err)
		if !strings.Contains(string(out), "40 123") {
			t.Errorf("the window was not resized meanwhile: %q", out)
		}
		conn.Close()
		w.session(g, 1).nothingPassedHeld()
	})
}

// Without the CA's sign of life nobody knows who watches.
func TestABlindJumpHoldsInput(t *testing.T) {
	t.Parallel()
	w := newWorld(t, watchedBy)
	g := w.grant()
	cmd := exec.Command("ssh", append(w.config(g), string(g.host), "cat")...)
	var out, errs lockedBuffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	in, err := cmd.StdinPipe()
	check(t, err)
	check(t, cmd.Start())
	x := &typed{t: t, cmd: cmd}
	wait := func(b *lockedBuffer, text string, n int) {
		for range 3000 {
			if strings.Count(b.String(), text) >= n {
				return
			}
			time.Sleep(10 * time.Millisecond)
		}
		x.t.Fatalf("%q is not shown %d times: %q", text, n, b.String())
	}
	w.runs()
	w.watch(g, "w1", true, true)
	io.WriteString(in, "seen\n")
	wait(&out, "seen", 1)
	held := strings.Count(errs.String(), "input is held")
	w.silent(true)
	wait(&errs, "input is held", held+1)
	io.WriteString(in, "blind\n")
	time.Sleep(500 * time.Millisecond)
	if strings.Contains(out.String(), "blind") {
		t.Error("passed though nobody knows who watches")
	}
	w.silent(false)
	wait(&out, "blind", 1)
	in.Close()
	check(t, cmd.Wait())
	w.session(g, 1).nothingPassedHeld()
}

// Forwards wait as commands do, with every channel of a ControlMaster; and copies go on where they stopped.
func TestForwardsAndCopiesAreHeld(t *testing.T) {
	t.Parallel()
	w := newWorld(t, watchedBy)
	port := echoing(t, "tcp", "127.0.0.1:0")
	w.allowing("local " + port)
	g := w.grant()
	ctl := filepath.Join(t.TempDir(), "c")
	conf := w.config(g)
	master := exec.Command("ssh", append(conf, "-M", "-N", "-S", ctl, string(g.host))...)
	check(t, master.Start())
	for range 500 {
		if _, err := os.Stat(ctl); err == nil {
			break
		}
		time.Sleep(20 * time.Millisecond)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	fwd := exec.CommandContext(ctx, "ssh", append(conf, "-S", ctl, "-W", port, string(g.host))...)
	in, err := fwd.StdinPipe()
	check(t, err)
	var echoed lockedBuffer
	fwd.Stdout = &echoed
	check(t, fwd.Start())
	io.WriteString(in, "through\n")
	data := bytes.Repeat([]byte("copy "), 100_000)
	src, dst := filepath.Join(t.TempDir(), "src"), filepath.Join(t.TempDir(), "dst")
	check(t, os.WriteFile(src, data, 0o600))
	copied := make(chan result, 1)
	go func() {
		copied <- run(t, nil, "scp", append(conf, "-o", "ControlPath="+ctl, src, string(g.host)+":"+dst)...)
	}()
	time.Sleep(time.Second)
	if _, err := os.Stat(dst); err == nil || echoed.String() != "" {
		t.Error("begun while nobody watches")
	}
	w.watch(g, "w1", true, true)
	if r := <-copied; r.code != 0 {
		t.Errorf("%+v", r)
	}
	if got, err := os.ReadFile(dst); err != nil || !bytes.Equal(got, data) {
		t.Errorf("the copy: %d bytes, %v", len(got), err)
	}
	for range 1000 {
		if echoed.String() != "" {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	if want := string(turned([]byte("through\n"))); echoed.String() != want {
		t.Errorf("%q came back", echoed.String())
	}
	in.Close()
	fwd.Wait()
	run(t, nil, "ssh", append(conf, "-S", ctl, "-O", "exit", string(g.host))...)
	master.Wait()
	w.session(g, 1).nothingPassedHeld()
}
