package roadtest

import (
	"crypto/sha256"
	"encoding/hex"
	"hash"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"breakglass/internal/road"
	"breakglass/ledger"
)

// The CA, with its store, is killed again and again while a long recording is on its way to it; the session goes on, and in the end all of it is stored,
// verified, and passes through the heads that the jump signed meanwhile.
func TestTheCAIsKilledWhileARecordingIsOnItsWay(t *testing.T) {
	if testing.Short() {
		t.Skip("long")
	}
	r, alice, bob := start(t, road.Config{})
	ctx := t.Context()
	const size = 160 << 20
	noise := filepath.Join(t.TempDir(), "noise")
	f, err := os.Create(noise)
	if err != nil {
		t.Fatal(err)
	}
	want := sha256.New()
	if _, err := io.CopyN(io.MultiWriter(f, want), rand.NewChaCha8([32]byte{2}), size); err != nil {
		t.Fatal(err)
	}
	f.Close()
	sum := hex.EncodeToString(want.Sum(nil))

	end := filepath.Join(t.TempDir(), "end") // so that the session runs as long as the test wants
	cmd := alice.Command(ctx, "breakglass", "ssh", "--reason", reason, alice.Target(), "cat "+noise+"; while [ ! -e "+end+" ]; do sleep 0.1; done")
	got := &hashed{}
	cmd.Stdout, cmd.Stderr = got, os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	stored := func() (n int64) {
		parts, _ := filepath.Glob(filepath.Join(r.Dir, "ca", "store", "*.part"))
		for _, p := range parts {
			if st, err := os.Stat(p); err == nil {
				n += st.Size()
			}
		}
		return n
	}
	reach := func(n int64) {
		t.Helper()
		for end := time.Now().Add(3 * time.Minute); stored() < n; time.Sleep(time.Millisecond) {
			if time.Now().After(end) {
				t.Fatalf("%d bytes of %d are stored", stored(), n)
			}
		}
	}
	for i := range 3 {
		reach(int64(i+1)*size/5 - 1<<20)
		r.End("ca", true)
		was := stored()
		time.Sleep(500 * time.Millisecond)
		if err := r.StartCA(ctx); err != nil {
			t.Fatal(err)
		}
		t.Logf("killed at %d bytes", was)
	}
	reach(size) // before the session is over
	if err := os.WriteFile(end, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("the session: %v", err)
	}
	if shown, n := got.sum(), got.n.Load(); shown != sum || n != size {
		t.Errorf("shown were %d bytes, %s, sent %s", n, shown, sum)
	}
	id, err := newest(ctx, bob)
	if err != nil {
		t.Fatal(err)
	}
	export := bob.Command(ctx, "breakglass", "export", id, "--raw")
	back := &hashed{}
	export.Stdout, export.Stderr = back, os.Stderr
	if err := export.Run(); err != nil || back.sum() != sum {
		t.Errorf("recorded are %d bytes, %s, sent %s (%v)", back.n.Load(), back.sum(), sum, err)
	}
	if out, err := bob.Run(ctx, "breakglass", "verify", id); err != nil || !strings.HasPrefix(out, "VERIFIED") {
		t.Errorf("%v\n%s", err, tail(out, 20))
	}
	var heads int
	var last int64
	for _, e := range entries(t, r) {
		if h, ok := e.Facts.(*ledger.SessionHead); ok && string(e.Subject.Session) == id {
			heads++
			if h.Head.Bytes <= last {
				t.Errorf("head at %d after one at %d", h.Head.Bytes, last)
			}
			last = h.Head.Bytes
		}
	}
	if heads < 2 || last < size/2 {
		t.Errorf("%d heads, the last at %d bytes of %d", heads, last, size)
	}
	r.End("ca", false)
	if out, err := verifyLedger(ctx, r, bob); err != nil || !strings.HasPrefix(out, "VERIFIED") {
		t.Errorf("%v\n%s", err, out)
	}
	t.Logf("%d heads", heads)
}

// hashed is a writer of which one knows what went into it.
type hashed struct {
	n atomic.Int64
	h hash.Hash
}

func (w *hashed) Write(b []byte) (int, error) {
	if w.h == nil {
		w.h = sha256.New()
	}
	w.n.Add(int64(len(b)))
	return w.h.Write(b)
}

func (w *hashed) sum() string {
	if w.h == nil {
		return ""
	}
	return hex.EncodeToString(w.h.Sum(nil))
}
