package jump

import (
	"encoding/json"
	"errors"
	"io"
	"maps"
	"net"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"breakglass/ca/api"
	"breakglass/internal/name"
	"breakglass/jump/journal"
	"breakglass/ledger"
	"breakglass/transcript"
)

func TestTheGrantEndsTheSession(t *testing.T) {
	w := newWorld(t, func(w *world) { w.ca.until = 2 * time.Second })
	g := w.grant()
	began := time.Now()
	r := w.ssh(g, nil, "echo before; sleep 60")
	if d := time.Since(began); d > 10*time.Second {
		t.Errorf("took %v", d)
	}
	if r.code != 255 || r.stdout != "before\n" || !strings.Contains(r.stderr, "your grant has ended") || !strings.Contains(r.stderr, "breakglass ssh "+w.login+"@web01") {
		t.Errorf("%+v", r)
	}
	rec := w.session(g, 1)
	rec.has("0 act grant_ended")
	if rec.end == nil || rec.end.Reason != endGrant || w.ended(g, 1).Reason != endGrant {
		t.Errorf("end %+v", rec.end)
	}
}

// The text arrives also where the client is sending at full speed.
func TestTheLastWordIsHeard(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(w *world) { w.ca.until, w.segments = 2*time.Second, 64 })
	g := w.grant()
	r := run(t, nil, "sh", "-c", "head -c 300000000 /dev/zero | ssh -F "+w.config(g)[1]+" web01 'while read -r x; do :; done; sleep 9'")
	if !strings.Contains(r.stderr, "your grant has ended") {
		t.Errorf("%+v", r)
	}
}

func TestIdleSessionsAreCut(t *testing.T) {
	w := newWorld(t, func(w *world) { w.ca.idle = 1 })
	g := w.grant()
	// Busy for longer than the limit, then idle; keepalives are no activity.
	cmd := "for i in 1 2 3 4 5 6 7 8; do echo $i; sleep 0.2; done; sleep 60"
	r := run(t, nil, "ssh", append(w.config(g), "-o", "ServerAliveInterval=1", "web01", cmd)...)
	if r.code != 255 || r.stdout != "1\n2\n3\n4\n5\n6\n7\n8\n" || !strings.Contains(r.stderr, "nothing was typed or shown for 1s") {
		t.Errorf("%+v", r)
	}
	if e := w.ended(g, 1); e.Reason != endIdle {
		t.Errorf("%+v", e)
	}
}

func TestAWrongHostKeyStopsEverythingLoudly(t *testing.T) {
	w := newWorld(t)
	other := loadKey(t, t.TempDir(), "other")
	w.ca.mu.Lock()
	w.ca.hosts["web01"].hostKeys = []string{authorizedKey(other.PublicKey())}
	w.ca.mu.Unlock()
	g := w.grant()
	r := w.ssh(g, nil, "touch "+filepath.Join(w.dir, "was-here"))
	if r.code != 255 || !strings.Contains(r.stderr, "web01 IS NOT WHO IT SHOULD BE") || !strings.Contains(r.stderr, "Nothing was sent to it") {
		t.Errorf("%+v", r)
	}
	var f ledger.HostKeyMismatch
	check(t, json.Unmarshal([]byte(w.fact("host.key_mismatch", g.request.Session(1)).Body), &f))
	if f.Address != w.sshd || !strings.HasPrefix(f.Seen, "SHA256:") || len(f.Wanted) != 1 || f.Seen == f.Wanted[0] {
		t.Errorf("%+v", f)
	}
	if e := w.ended(g, 1); e.Reason != endWrongHost {
		t.Errorf("%+v", e)
	}
	w.session(g, 1).has("0 act wrong_host_key")
}

func TestAHostOfAnotherNameIsRefusedByItsSSHD(t *testing.T) {
	w := newWorld(t)
	w.ca.mu.Lock()
	// The same machine under a name that its principals file doesn't list.
	w.ca.hosts["web02"] = w.ca.hosts["web01"]
	w.ca.mu.Unlock()
	check(t, w.j.hostCerts.fetch(t.Context()))
	g := w.grantFor("web02", w.login, "127.0.0.1", time.Now(), time.Minute)
	r := w.ssh(g, nil, "true")
	if r.code != 255 || !strings.Contains(r.stderr, "web02 can't be entered") || !strings.Contains(r.stderr, "host setup web02") {
		t.Errorf("%+v", r)
	}
	if e := w.ended(g, 1); e.Reason != endUnreachable {
		t.Errorf("%+v", e)
	}
}

func TestANameThatOnlyAPatternCoversIsAskedFor(t *testing.T) {
	w := newWorld(t, func(w *world) {
		w.ca.hosts["web77"] = w.ca.hosts["web01"]
		w.ca.onlyAsked["web77"] = true
	})
	g := w.grantFor("web77", w.login, "127.0.0.1", time.Now(), time.Minute)
	// Its sshd doesn't list the name, but the person's client accepted the jump's certificate for it: it got that far.
	if r := w.ssh(g, nil, "true"); !strings.Contains(r.stderr, "web77 can't be entered") {
		t.Errorf("%+v", r)
	}
	// A name that nobody has a grant for gets the jump's own certificate, which a client refuses for that name.
	g = w.grantFor("web99", w.login, "127.0.0.1", time.Now(), time.Minute)
	if r := w.ssh(g, nil, "true"); r.code != 255 || !strings.Contains(r.stderr, "name is not a listed principal") {
		t.Errorf("%+v", r)
	}
}

func TestWithoutTheCANobodyGetsIn(t *testing.T) {
	w := newWorld(t)
	g := w.grant()
	set := func(f func(*authority)) { w.ca.mu.Lock(); f(w.ca); w.ca.mu.Unlock() }
	set(func(a *authority) { a.down = true })
	if r := w.ssh(g, nil, "echo in"); r.code != 255 || r.stdout != "" || !strings.Contains(r.stderr, "the CA does not answer") || !strings.Contains(r.stderr, "breakglass: hint:") {
		t.Errorf("%+v", r)
	}
	set(func(a *authority) {
		a.down = false
		a.problem = &api.Problem{Status: 410, Code: api.CodeGrantEnded, Detail: "the grant has ended\x1b[2J", Next: []string{"breakglass ssh root@web01"}}
	})
	r := w.ssh(g, nil, "echo in")
	if r.code != 255 || r.stdout != "" || !strings.Contains(r.stderr, "the grant has ended") || !strings.Contains(r.stderr, "breakglass: hint: breakglass ssh root@web01") {
		t.Errorf("%+v", r)
	}
	if strings.Contains(r.stderr, "\x1b") {
		t.Error("an escape sequence came through")
	}
	// A CA that goes away while a session runs harms it not; what it missed comes later, in order.
	set(func(a *authority) { a.problem = nil })
	cmd := exec.Command("ssh", append(w.config(g), "web01", "read x; echo got $x")...)
	in, err := cmd.StdinPipe()
	check(t, err)
	out, err := cmd.StdoutPipe()
	check(t, err)
	check(t, cmd.Start())
	for w.j.State().Sessions == 0 {
		time.Sleep(10 * time.Millisecond)
	}
	set(func(a *authority) { a.down = true })
	io.WriteString(in, "hello\n")
	b, err := io.ReadAll(out)
	check(t, err)
	if string(b) != "got hello\n" {
		t.Errorf("%q", b)
	}
	cmd.Wait()
	for w.j.State().Unsent == 0 {
		time.Sleep(10 * time.Millisecond)
	}
	set(func(a *authority) { a.down = false })
	if got := w.session(g, 1).data(transcript.KindOutput, 0); got != "got hello\n" {
		t.Errorf("recorded %q", got)
	}
}

func TestAnAnswerThatDoesNotHold(t *testing.T) {
	w := newWorld(t)
	foreign := newAuthority(t, t.TempDir())
	for _, c := range []struct {
		is     string
		mangle func(*api.SessionAnswer)
	}{
		{"an entry that was changed", func(a *api.SessionAnswer) {
			a.Entry.Entry = strings.Replace(a.Entry.Entry, `"idle_seconds":0`, `"idle_seconds":9`, 1)
		}},
		{"another place in the ledger", func(a *api.SessionAnswer) { a.Entry.Index++ }},
		{"a checkpoint by another key", func(a *api.SessionAnswer) {
			s, err := ledger.NewSigner(foreign.skey)
			check(t, err)
			cp, err := ledger.OpenCheckpoint(a.Entry.Checkpoint, w.ca.vkey)
			check(t, err)
			a.Entry.Checkpoint, err = cp.Sign(s)
			check(t, err)
		}},
		{"a session of another grant", func(a *api.SessionAnswer) { a.Session = "zzz-zzz/1" }},
		{"a clock by which the grant has ended", func(a *api.SessionAnswer) { a.Now = a.Now.Add(2 * time.Hour) }},
	} {
		w.ca.mu.Lock()
		w.ca.mangle = c.mangle
		w.ca.mu.Unlock()
		if r := w.ssh(w.grant(), nil, "echo in"); r.code != 255 || r.stdout != "" || !strings.Contains(r.stderr, "the CA's answer does not hold") {
			t.Errorf("%s: %+v", c.is, r)
		}
	}
	w.ca.mu.Lock()
	w.ca.mangle = nil
	w.ca.mu.Unlock()
	for _, c := range []struct {
		is     string
		change func(*ledger.SessionOpened)
	}{
		{"an entry about another connection", func(o *ledger.SessionOpened) { o.SSHSession = strings.Repeat("00", 32) }},
		{"an entry for another key", func(o *ledger.SessionOpened) { o.Key = authorizedKey(foreign.jumpKey.PublicKey()) }},
		{"an entry without a host key", func(o *ledger.SessionOpened) { o.HostKeys = nil }},
		{"an entry without a reader", func(o *ledger.SessionOpened) { o.Recipients = nil }},
		{"an entry without an address", func(o *ledger.SessionOpened) { o.Addresses = nil }},
	} {
		w.ca.mu.Lock()
		w.ca.change = c.change
		w.ca.mu.Unlock()
		if r := w.ssh(w.grant(), nil, "echo in"); r.code != 255 || r.stdout != "" || !strings.Contains(r.stderr, "the CA's answer does not hold") {
			t.Errorf("%s: %+v", c.is, r)
		}
	}
}

// failing is a journal directory in memory whose writes and flushes fail or hang on demand; what wasn't flushed then is lost.
type failing struct {
	mu    sync.Mutex
	files map[string]*failingFile
	fail  atomic.Bool // flushes
	full  atomic.Bool // writes
	held  sync.RWMutex
}

// hang holds writes and flushes up until free is called.
func (f *failing) hang() (free func()) {
	f.held.Lock()
	return f.held.Unlock
}

func (f *failing) Lock() error   { return nil }
func (f *failing) Unlock() error { return nil }
func (f *failing) Names() ([]string, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Sorted(maps.Keys(f.files)), nil
}
func (f *failing) Open(name string) (journal.File, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.files[name], nil
}
func (f *failing) Create(name string, size int64) (journal.File, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.files[name] = &failingFile{fs: f, seen: make([]byte, size), durable: make([]byte, size)}
	return f.files[name], nil
}

type failingFile struct {
	fs            *failing
	mu            sync.Mutex
	seen, durable []byte
}

func (f *failingFile) ReadAt(b []byte, off int64) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	n := copy(b, f.seen[off:])
	if n < len(b) {
		return n, io.EOF
	}
	return n, nil
}
func (f *failingFile) WriteAt(b []byte, off int64) (int, error) {
	f.fs.held.RLock()
	defer f.fs.held.RUnlock()
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.fs.full.Load() { // as a disk does: a part of it
		return copy(f.seen[off:], b[:len(b)/2]), syscall.ENOSPC
	}
	return copy(f.seen[off:], b), nil
}
func (f *failingFile) Datasync() error {
	f.fs.held.RLock()
	defer f.fs.held.RUnlock()
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.fs.fail.Load() {
		copy(f.seen, f.durable)
		return errors.New("input/output error")
	}
	copy(f.durable, f.seen)
	return nil
}
func (f *failingFile) Size() (int64, error) { return int64(len(f.seen)), nil }
func (f *failingFile) Close() error         { return nil }

func TestASessionThatCannotBeRecordedIsCut(t *testing.T) {
	t.Run("the journal is full", func(t *testing.T) {
		w := newWorld(t, func(w *world) { w.segments, w.segmentSize = 4, 4<<20 })
		w.ca.storeGone(true)
		g := w.grant()
		r := run(t, nil, "sh", "-c", "ssh -F "+w.config(g)[1]+" web01 'cat /dev/zero' | wc -c; true")
		if !strings.Contains(r.stderr, "disk full on jump-a") || !strings.Contains(r.stderr, "Nothing shown is missing") {
			t.Errorf("%+v", r)
		}
		w.ca.storeGone(false)
		rec := w.session(g, 1)
		n := len(rec.data(transcript.KindOutput, 0))
		var shown int
		if err := json.Unmarshal([]byte(strings.TrimSpace(r.stdout)), &shown); err != nil || shown > n || shown == 0 {
			t.Errorf("%d bytes shown, %d recorded", shown, n)
		}
		if rec.end == nil || rec.end.Reason != endFull {
			t.Errorf("end %+v", rec.end)
		}
		// Stored, it leaves the journal, and the next session runs.
		if r := w.ssh(w.grant(), nil, "echo again"); r.stdout != "again\n" {
			t.Errorf("%+v", r)
		}
	})
	t.Run("a flush fails", func(t *testing.T) {
		fs := &failing{files: map[string]*failingFile{}}
		w := newWorld(t, func(w *world) { w.fs, w.segmentSize = fs, 4<<20 })
		g := w.grant()
		cmd := exec.Command("ssh", append(w.config(g), "web01", "while sleep 0.05; do echo tick; done")...)
		var errs strings.Builder
		cmd.Stderr = &errs
		out, err := cmd.StdoutPipe()
		check(t, err)
		check(t, cmd.Start())
		b := make([]byte, 5)
		_, err = io.ReadFull(out, b)
		check(t, err)
		fs.fail.Store(true)
		rest, _ := io.ReadAll(out)
		cmd.Wait()
		shown := string(b) + string(rest)
		if !strings.Contains(errs.String(), "could not store what you would have seen next") {
			t.Errorf("stderr %q", errs.String())
		}
		select {
		case err := <-w.served:
			if !errors.Is(err, ErrJournal) {
				t.Errorf("Serve: %v", err)
			}
		case <-time.After(15 * time.Second):
			t.Fatal("Serve goes on without a journal")
		}
		w.jour.Close()
		fs.fail.Store(false)
		l, err := net.Listen("tcp", "127.0.0.1:0")
		check(t, err)
		w.startJump(l)
		rec := w.session(g, 1)
		if got := rec.data(transcript.KindOutput, 0); !strings.HasPrefix(got, shown) {
			t.Errorf("shown %q, recorded %q", shown, got)
		}
		w.fact("session.crashed", g.request.Session(1))
	})
}

func TestStoppingCutsSealsAndTells(t *testing.T) {
	w := newWorld(t)
	g := w.grant()
	cmd := exec.Command("ssh", append(w.config(g), "web01", "echo on; sleep 60")...)
	var errs strings.Builder
	cmd.Stderr = &errs
	out, err := cmd.StdoutPipe()
	check(t, err)
	check(t, cmd.Start())
	_, err = io.ReadFull(out, make([]byte, 3))
	check(t, err)
	began := time.Now()
	check(t, w.stop())
	if d := time.Since(began); d > shutdownTimeout {
		t.Errorf("took %v", d)
	}
	cmd.Wait()
	if cmd.ProcessState.ExitCode() != 255 || !strings.Contains(errs.String(), "this jump is going down") {
		t.Errorf("%d, %q", cmd.ProcessState.ExitCode(), errs.String())
	}
	if rec := w.session(g, 1); rec.end == nil || rec.end.Reason != endStopped {
		t.Errorf("end %+v", rec.end)
	}
}

func TestTheHostGoesAway(t *testing.T) {
	w := newWorld(t)
	g := w.grant()
	// sshd's child for this connection, as seen from inside it.
	r := w.ssh(g, nil, "echo last; kill -9 $PPID")
	if r.code != 255 {
		t.Errorf("%+v", r)
	}
	rec := w.session(g, 1)
	if rec.end == nil || rec.data(transcript.KindOutput, 0) != r.stdout {
		t.Errorf("shown %q, recorded %q, end %+v", r.stdout, rec.data(transcript.KindOutput, 0), rec.end)
	}
}

func TestNothingStaysBehind(t *testing.T) {
	w := newWorld(t)
	settle := func() int {
		n := 0
		for range 200 {
			time.Sleep(10 * time.Millisecond)
			runtime.GC()
			if w.j.State().Sessions == 0 && w.j.State().Unsent == 0 {
				if m := runtime.NumGoroutine(); m == n {
					return n
				} else {
					n = m
				}
			}
		}
		return n
	}
	w.ssh(w.grant(), nil, "true")
	before := settle()
	for range 5 {
		w.ssh(w.grant(), strings.NewReader("x"), "cat; exit 1")
	}
	w.dialAs(w.login, name.Host("web01"))
	if after := settle(); after > before+2 {
		b := make([]byte, 1<<20)
		t.Errorf("%d goroutines before, %d after\n%s", before, after, b[:runtime.Stack(b, true)])
	}
}
