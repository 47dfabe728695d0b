package jump

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"breakglass/jump/ship"
	"breakglass/ledger"
	"breakglass/transcript"
)

// storeGone takes the store away, or gives it back; the rest of the CA goes on.
func (a *authority) storeGone(is bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.noStore = is
}

// has is how much the store holds of a session.
func (a *authority) has(g *grant) int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.stored[g.request.Session(1)])
}

// heads are those that the jump signed of a session.
func (a *authority) heads(t testing.TB, g *grant) (hs []ledger.Head) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, f := range a.facts {
		var h ledger.SessionHead
		if f.Session == g.request.Session(1) && f.Type == string(h.EntryType()) {
			check(t, json.Unmarshal([]byte(f.Body), &h))
			hs = append(hs, h.Head)
		}
	}
	return hs
}

func sum(s string) string { h := sha256.Sum256([]byte(s)); return hex.EncodeToString(h[:]) }

// noise writes n bytes that no compression makes fewer, and whose sum the test knows.
func noise(t testing.TB, path string, n int64) string {
	t.Helper()
	f, err := os.Create(path)
	check(t, err)
	var seed [32]byte
	h := sha256.New()
	_, err = io.CopyN(io.MultiWriter(f, h), rand.NewChaCha8(seed), n)
	check(t, err)
	check(t, f.Close())
	return hex.EncodeToString(h.Sum(nil))
}

// Several times the journal goes through one session, each way: nothing is cut, and what is stored is what went through, by its hash.
func TestSeveralTimesTheJournalThroughOneSession(t *testing.T) {
	const size = 80 << 20
	for _, direction := range []string{"down", "up"} {
		t.Run(direction, func(t *testing.T) {
			w := newWorld(t, func(w *world) { w.segments, w.segmentSize = 7, 4<<20 })
			want := noise(t, filepath.Join(w.dir, "noise"), size)
			g := w.grant()
			var r result
			var kind transcript.Kind
			if direction == "down" {
				kind = transcript.KindOutput
				r = run(t, nil, "sh", "-c", fmt.Sprintf("ssh -F %s web01 'cat %s/noise' | sha256sum", w.config(g)[1], w.dir))
			} else {
				kind = transcript.KindInput
				f, err := os.Open(filepath.Join(w.dir, "noise"))
				check(t, err)
				defer f.Close()
				r = w.ssh(g, f, "sha256sum")
			}
			if r.code != 0 || !strings.HasPrefix(r.stdout, want) {
				t.Fatalf("%+v, want %s", r, want)
			}
			rec := w.session(g, 1)
			if got := sum(rec.data(kind, 1)); got != want {
				t.Errorf("recorded %s, went through %s", got, want)
			}
			if rec.end == nil || rec.end.Reason != endClosed {
				t.Errorf("end %+v", rec.end)
			}
			if _, all := w.jour.Room(); all*2 > size {
				t.Errorf("a journal of %d bytes: the test shows nothing", all)
			}
			for end := time.Now().Add(time.Minute); len(w.jour.Streams()) > 1; time.Sleep(10 * time.Millisecond) { // but the facts
				if time.Now().After(end) {
					t.Fatalf("still in the journal: %+v", w.jour.Streams())
				}
			}
			t.Logf("%d heads", len(w.ca.heads(t, g)))
		})
	}
}

// The store goes away in the middle of a session and comes back: recording goes on meanwhile, and then all is there, under heads that it passes through.
func TestTheStoreIsGoneForAWhile(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(w *world) { w.segments, w.segmentSize = 20, 4<<20 })
	want := noise(t, filepath.Join(w.dir, "noise"), 50<<20)
	g := w.grant()
	file := filepath.Join(w.dir, "noise")
	// Half of it, then a pause in which the store comes back.
	cmd := exec.Command("ssh", append(w.config(g), "web01", fmt.Sprintf("head -c 8388608 %s; while [ ! -e %s/gone ]; do sleep 0.05; done; tail -c +8388609 %s; while [ ! -e %s/back ]; do sleep 0.05; done", file, w.dir, file, w.dir))...)
	out := sha256.New()
	var n counter
	cmd.Stdout = io.MultiWriter(out, &n)
	check(t, cmd.Start())
	wait := func(what string, f func() bool) {
		t.Helper()
		for end := time.Now().Add(2 * time.Minute); !f(); time.Sleep(10 * time.Millisecond) {
			if time.Now().After(end) {
				t.Fatal("never: ", what)
			}
		}
	}
	wait("the beginning is stored while the session runs", func() bool { return w.ca.has(g) > 8<<20 })
	w.ca.gone(true)
	before := w.ca.has(g)
	check(t, os.WriteFile(filepath.Join(w.dir, "gone"), nil, 0o600))
	wait("recording goes on without the store", func() bool { return n.Load() == 50<<20 })
	if w.ca.has(g) != before {
		t.Error("stored in a store that is gone")
	}
	if s := w.j.State(); s.Behind < 40<<20 || s.BehindSince.IsZero() || s.Unsent != 0 {
		t.Errorf("state %+v", s)
	}
	w.ca.gone(false)
	wait("all is stored before the session ends", func() bool { return w.ca.has(g) > 50<<20 })
	wait("nothing is behind", func() bool { return w.j.State().Behind == 0 })
	check(t, os.WriteFile(filepath.Join(w.dir, "back"), nil, 0o600))
	check(t, cmd.Wait())
	if got := hex.EncodeToString(out.Sum(nil)); got != want {
		t.Errorf("shown %s, sent %s", got, want)
	}
	if got := sum(w.session(g, 1).data(transcript.KindOutput, 1)); got != want {
		t.Errorf("recorded %s, sent %s", got, want)
	}
}

// A slow store slows a session that makes more than it takes, and cuts nothing; what another one types isn't kept waiting.
func TestASlowStore(t *testing.T) {
	w := newWorld(t, func(w *world) { w.segments, w.segmentSize = 8, 4<<20 })
	w.ca.mu.Lock()
	w.ca.slow = 40 * time.Millisecond // 25 MB/s
	w.ca.mu.Unlock()
	want := noise(t, filepath.Join(w.dir, "noise"), 64<<20)
	other := w.grant()
	cmd := exec.Command("ssh", append(w.config(other), "web01", "cat")...)
	in, err := cmd.StdinPipe()
	check(t, err)
	out, err := cmd.StdoutPipe()
	check(t, err)
	check(t, cmd.Start())
	slowest := time.Duration(0)
	type to struct{ b [1]byte }
	type over struct {
		echoes int
		err    error
	}
	stop, stopped := make(chan struct{}), make(chan over, 1)
	go func() {
		var o over
		defer func() { stopped <- o }()
		for {
			select {
			case <-stop:
				return
			case <-time.After(20 * time.Millisecond):
			}
			var x to
			began := time.Now()
			if _, o.err = in.Write([]byte("x")); o.err != nil {
				return
			}
			if _, o.err = io.ReadFull(out, x.b[:]); o.err != nil {
				return
			}
			slowest = max(slowest, time.Since(began))
			o.echoes++
		}
	}()
	g := w.grant()
	r := run(t, nil, "sh", "-c", fmt.Sprintf("ssh -F %s web01 'cat %s/noise' | sha256sum", w.config(g)[1], w.dir))
	if r.code != 0 || !strings.HasPrefix(r.stdout, want) {
		t.Errorf("%+v", r)
	}
	close(stop)
	if o := <-stopped; o.err != nil || o.echoes == 0 {
		t.Errorf("%+v", o)
	}
	in.Close()
	check(t, cmd.Wait())
	for _, g := range []*grant{g, other} {
		if rec := w.session(g, 1); rec.end == nil || rec.end.Reason != endClosed {
			t.Errorf("end %+v", rec.end)
		}
	}
	t.Logf("slowest echo beside it %v", slowest)
}

// Killed in the middle of a stream of which the beginning has left the journal already: what was shown and what was received is stored, and the head that the next
// start tells is that of the whole.
func TestKilledBehindATrim(t *testing.T) {
	t.Parallel()
	for _, direction := range []string{"output", "input"} {
		t.Run(direction, func(t *testing.T) {
			w := &world{t: t, dir: t.TempDir(), login: me(t)}
			w.ca = newAuthority(t, filepath.Join(w.dir, "keys"))
			w.startSSHD()
			kill := w.startChild()
			g := w.grant()
			received := filepath.Join(w.dir, "received")
			command := map[string]string{"output": "while seq 1000000; do :; done", "input": "cat > " + received}[direction]
			cmd := exec.Command("ssh", append(w.config(g), "web01", command)...)
			var printed watched
			cmd.Stdout = &printed
			if direction == "input" {
				var seed [32]byte
				cmd.Stdin = rand.NewChaCha8(seed)
			}
			check(t, cmd.Start())
			stream := filepath.Join(w.dir, "ca", g.request.Session(1).File()+"_stream")
			for end := time.Now().Add(2 * time.Minute); ; time.Sleep(5 * time.Millisecond) {
				if st, err := os.Stat(stream); err == nil && st.Size() > 24<<20 {
					break
				}
				if time.Now().After(end) {
					t.Fatal("nothing is stored while the session runs")
				}
			}
			kill()
			cmd.Process.Kill() // full windows
			cmd.Wait()
			time.Sleep(200 * time.Millisecond) // the host's cat ends
			check(t, w.ca.keepIn(filepath.Join(w.dir, "ca")))
			w.ca.hosts["web01"] = &testHost{address: w.sshd, hostKeys: []string{authorizedKey(loadKey(t, filepath.Join(w.dir, "keys"), "sshd_host").PublicKey())}}
			l, err := net.Listen("tcp", "127.0.0.1:0")
			check(t, err)
			w.startJump(l)
			var first uint64
			for _, st := range w.j.cfg.Recovered.Streams {
				if st.SID != [16]byte{'f', 'a', 'c', 't', 's'} {
					first = st.First
				}
			}
			if first == 0 {
				t.Error("its beginning was still in the journal: the test shows nothing")
			}
			w.fact("session.crashed", g.request.Session(1))
			rec := w.session(g, 1)
			out, in := rec.data(transcript.KindOutput, 1), rec.data(transcript.KindInput, 1)
			got, _ := os.ReadFile(received)
			if !strings.HasPrefix(out, printed.String()) || !bytes.HasPrefix([]byte(in), got) {
				t.Errorf("printed %d of %d, received %d of %d", len(printed.String()), len(out), len(got), len(in))
			}
			if direction == "output" && printed.String() == "" || direction == "input" && len(got) == 0 {
				t.Error("nothing went through")
			}
			t.Logf("printed %d of %d, received %d of %d, entries before %d are gone from the journal, %d heads", len(printed.String()), len(out), len(got), len(in), first, len(w.ca.heads(t, g)))
		})
	}
}

// Heads are signed while the session runs, and it ends behind the last.
func TestHeadsAreSignedWhileItRuns(t *testing.T) {
	w := newWorld(t)
	g := w.grant()
	r := w.ssh(g, nil, "for i in 1 2 3 4 5 6 7 8 9 10 11 12; do echo $i; sleep 0.5; done")
	if r.code != 0 {
		t.Fatalf("%+v", r)
	}
	end := w.ended(g, 1).Head
	w.session(g, 1) // the store has held the stream against them
	hs := w.ca.heads(t, g)
	if len(hs) < 2 {
		t.Fatalf("%d heads in six seconds of output", len(hs))
	}
	for i, h := range hs {
		if next := append(hs, end)[i+1]; h.Frames >= next.Frames || h.Bytes >= next.Bytes {
			t.Errorf("head %+v, then %+v", h, next)
		}
	}
}

var _ ship.Store = (*authority)(nil)

// counter counts what is written to it.
type counter struct{ atomic.Int64 }

func (c *counter) Write(b []byte) (int, error) {
	c.Add(int64(len(b)))
	return len(b), nil
}
