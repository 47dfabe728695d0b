package witness

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"breakglass/ledger"
)

const origin = "breakglass/test"

// fakeCA is a CA with a ledger, honest or not.
type fakeCA struct {
	t    *testing.T
	skey string
	vkey string

	mu      sync.Mutex
	entries [][]byte
	tree    ledger.Memory
	got     []string // heads that were handed in
	away    error
	shown   *string // shown in place of the newest head
	grown   chan struct{}
}

func newCA(t *testing.T) *fakeCA {
	skey, vkey, err := ledger.GenerateKey(origin)
	if err != nil {
		t.Fatal(err)
	}
	return &fakeCA{t: t, skey: skey, vkey: vkey, grown: make(chan struct{})}
}

func (c *fakeCA) add(entries ...string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, e := range entries {
		c.entries = append(c.entries, []byte(e))
		if err := c.tree.Append([]byte(e)); err != nil {
			c.t.Fatal(err)
		}
	}
	close(c.grown)
	c.grown = make(chan struct{})
}

// head signs the tree as it is, with the log's own key.
func (c *fakeCA) head() string {
	at, err := c.tree.Checkpoint(c.tree.Size())
	if err != nil {
		c.t.Fatal(err)
	}
	s, err := ledger.NewSigner(c.skey)
	if err != nil {
		c.t.Fatal(err)
	}
	n, err := ledger.Checkpoint{Origin: origin, Size: at.Size, Root: at.Root}.Sign(s)
	if err != nil {
		c.t.Fatal(err)
	}
	return n
}

func (c *fakeCA) WitnessHead(ctx context.Context, after int64, wait time.Duration) (string, error) {
	end := time.After(min(wait, 50*time.Millisecond))
	for {
		c.mu.Lock()
		if c.away != nil {
			defer c.mu.Unlock()
			return "", c.away
		}
		n, size, grown := c.head(), c.tree.Size(), c.grown
		if c.shown != nil {
			n = *c.shown
		}
		c.mu.Unlock()
		if size > after {
			return n, nil
		}
		select {
		case <-grown:
		case <-end:
			return n, nil
		case <-ctx.Done():
			return "", ctx.Err()
		}
	}
}

func (c *fakeCA) EntryBundle(_ context.Context, t ledger.Tile) (b []byte, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.away != nil {
		return nil, c.away
	}
	for _, e := range c.entries[t.N*ledger.BundleEntries:][:t.W] {
		if b, err = ledger.AppendBundle(b, e); err != nil {
			return nil, err
		}
	}
	return b, nil
}

func (c *fakeCA) Cosign(_ context.Context, signed string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.away != nil {
		return c.away
	}
	c.got = append(c.got, signed)
	return nil
}

func (c *fakeCA) last() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.got) == 0 {
		return ""
	}
	return c.got[len(c.got)-1]
}

var seed = bytes.Repeat([]byte{7}, ed25519.SeedSize)

func signer(t testing.TB) ssh.Signer {
	s, err := ssh.NewSignerFromKey(ed25519.NewKeyFromSeed(seed))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// site is a site whose only witness is the jump.
func site(t testing.TB, vkey string) ledger.Site {
	return ledger.Site{Origin: origin, LedgerKey: vkey, Witnesses: ledger.DefaultWitnesses(),
		Jumps: []ledger.SiteJump{{Name: "jump-a", Key: strings.TrimSpace(string(ssh.MarshalAuthorizedKey(signer(t).PublicKey())))}}}
}

func open(t *testing.T, c *fakeCA, dir string) *Witness {
	t.Helper()
	w, err := New(Config{Dir: dir, Jump: "jump-a", Origin: origin, LedgerKey: c.vkey, Key: signer(t), CA: c, Logger: slog.New(slog.NewTextHandler(t.Output(), nil))})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.Close() })
	return w
}

func lines(from, to int) (out []string) {
	for i := from; i < to; i++ {
		out = append(out, fmt.Sprintf(`{"n":%d,"pad":%q}`, i, strings.Repeat("x", i%97)))
	}
	return out
}

// cosigned demands a head of size entries with the jump's good cosignature.
func cosigned(t *testing.T, c *fakeCA, note string, size int64) {
	t.Helper()
	ws, err := ledger.ParseWitnesses(site(t, c.vkey))
	if err != nil {
		t.Fatal(err)
	}
	head, by, err := ws.Cosigned(note, c.vkey)
	if err != nil || head.Size != size || len(by) != 1 || by[0].Name != ledger.JumpWitnessName(origin, "jump-a") || time.Since(by[0].Time) > time.Hour {
		t.Errorf("%+v cosigned by %+v, %v; want %d entries", head, by, err, size)
	}
}

func TestAJumpCosignsWhatItHasRead(t *testing.T) {
	c, dir := newCA(t), t.TempDir()
	w := open(t, c, dir)
	size := 0
	for _, n := range []int{1, 2, 255, 256, 257, 300, 5} { // around whole bundles
		c.add(lines(size, size+n)...)
		size += n
		if err := w.Cosign(t.Context(), c.head()); err != nil {
			t.Fatal(err)
		}
		_, note := w.mirror.Head()
		cosigned(t, c, note, int64(size))
	}
	w.Close()
	// The next start has the same, and so has who reads the copy.
	m, err := OpenMirror(dir, c.vkey)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	if head, _ := m.Head(); head.Size != int64(size) {
		t.Errorf("%d entries kept, want %d", head.Size, size)
	}
	n := 0
	for b, err := range m.Entries(3, int64(size)) {
		if err != nil || string(b) != string(c.entries[3+n]) {
			t.Fatalf("entry %d: %q, %v", 3+n, b, err)
		}
		n++
	}
	if n != size-3 {
		t.Errorf("%d entries", n)
	}
}

func TestHeadsThatAreNotCosigned(t *testing.T) {
	for what, c := range map[string]struct {
		do   func(c *fakeCA) string // gives the head that is shown
		want error
		kept bool // as evidence
	}{
		"a rewritten entry, of the same size": {func(c *fakeCA) string { c.rewrite(12, 40); return c.head() }, ErrFork, true},
		"a rewritten entry, and more behind":  {func(c *fakeCA) string { c.rewrite(12, 60); return c.head() }, ErrFork, true},
		"a rewritten entry, and fewer":        {func(c *fakeCA) string { c.rewrite(12, 30); return c.head() }, ErrFork, true},
		"an old copy that was put back":       {func(c *fakeCA) string { c.rewrite(-1, 30); return c.head() }, ErrBehind, false},
		"entries that aren't the head's": {func(c *fakeCA) string {
			c.add(lines(40, 50)...)
			h := c.head()
			c.entries[45] = []byte("other")
			return h
		}, ErrFork, true},
		"another key": {func(c *fakeCA) string { o := newCA(c.t); o.add(lines(0, 50)...); return o.head() }, ledger.ErrCheckpoint, false},
		"no note":     {func(*fakeCA) string { return "nothing" }, ledger.ErrCheckpoint, false},
	} {
		t.Run(what, func(t *testing.T) {
			ca, dir := newCA(t), t.TempDir()
			w := open(t, ca, dir)
			var told []string
			w.cfg.Refused = func(_ context.Context, had, refused string) { told = append(told, had, refused) }
			ca.add(lines(0, 40)...)
			if err := w.Cosign(t.Context(), ca.head()); err != nil {
				t.Fatal(err)
			}
			_, before := w.mirror.Head()
			shown := c.do(ca)
			for range 2 {
				if err := w.Cosign(t.Context(), shown); !errors.Is(err, c.want) {
					t.Errorf("%v, want %v", err, c.want)
				}
			}
			if _, after := w.mirror.Head(); after != before {
				t.Errorf("cosigned:\n%s", after)
			}
			kept, _ := filepath.Glob(filepath.Join(dir, "refused-*.txt"))
			if (len(kept) == 1) != c.kept || (len(told) > 0) != c.kept {
				t.Errorf("kept %q, told of %d", kept, len(told))
			}
			for _, f := range kept {
				if b, err := os.ReadFile(f); err != nil || !strings.Contains(string(b), before) || !strings.Contains(string(b), shown) {
					t.Errorf("%v: not both heads in\n%s", err, b)
				}
			}
		})
	}
	// The true history goes on after that.
	ca := newCA(t)
	w := open(t, ca, t.TempDir())
	ca.add(lines(0, 40)...)
	if err := w.Cosign(t.Context(), ca.head()); err != nil {
		t.Fatal(err)
	}
	fork := newCA(t)
	fork.skey, fork.vkey = ca.skey, ca.vkey
	fork.add(lines(1, 50)...)
	w.cfg.CA = fork
	if err := w.Cosign(t.Context(), fork.head()); !errors.Is(err, ErrFork) {
		t.Fatal(err)
	}
	w.cfg.CA = ca
	ca.add(lines(40, 45)...)
	if err := w.Cosign(t.Context(), ca.head()); err != nil {
		t.Fatal(err)
	}
	_, note := w.mirror.Head()
	cosigned(t, ca, note, 45)
}

// rewrite makes the ledger anew with size entries, one of them another.
func (c *fakeCA) rewrite(other, size int) {
	c.entries, c.tree = nil, ledger.Memory{}
	es := lines(0, size)
	if other >= 0 {
		es[other] = "never happened"
	}
	c.add(es...)
}

// What isn't durable isn't signed: whatever of the copy is cut off behind the head, or left from a write that never counted, changes nothing.
func TestWhatLiesBehindTheHead(t *testing.T) {
	c, dir := newCA(t), t.TempDir()
	w := open(t, c, dir)
	c.add(lines(0, 300)...)
	if err := w.Cosign(t.Context(), c.head()); err != nil {
		t.Fatal(err)
	}
	// A cut while the next entries were being written: of them only a part is there.
	if err := w.mirror.append([][]byte{[]byte("half written"), []byte("and another")}); err != nil {
		t.Fatal(err)
	}
	w.Close()
	w = open(t, c, dir)
	c.add(lines(300, 400)...)
	if err := w.Cosign(t.Context(), c.head()); err != nil {
		t.Fatal(err)
	}
	_, note := w.mirror.Head()
	cosigned(t, c, note, 400)
	// And what was damaged below it is noticed at the start, before anything is signed.
	w.Close()
	for _, name := range []string{"hashes", "offsets", "head"} {
		path := filepath.Join(dir, name)
		good, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		bad := bytes.Clone(good)
		bad[len(bad)-40] ^= 1
		if name == "hashes" { // one that the root is made of
			bad = bytes.Clone(good)
			bad[len(bad)-1] ^= 1
		}
		if name == "head" {
			bad = bytes.Clone(good)
			bad[len(origin)+2] ^= 1 // the size
		}
		os.WriteFile(path, bad, 0o600)
		m, err := OpenMirror(dir, c.vkey)
		if err == nil {
			_, err = m.Entry(399)
			if name == "offsets" {
				_, err = m.Entry(395)
			}
			m.Close()
		}
		if err == nil {
			t.Errorf("a bit of %s was changed, and nobody noticed", name)
		}
		os.WriteFile(path, good, 0o600)
	}
}

// Over a line that comes and goes, and through restarts, everything is cosigned in the end and handed in.
func TestRun(t *testing.T) {
	c, dir := newCA(t), t.TempDir()
	run := func() (w *Witness, stop func()) {
		w = open(t, c, dir)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { defer close(done); w.Run(ctx) }()
		return w, func() { cancel(); <-done; w.Close() }
	}
	c.add(lines(0, 10)...)
	_, stop := run()
	waitFor(t, "10 entries", func() bool { return size(c.last(), c.vkey) == 10 })
	c.mu.Lock()
	c.away = errors.New("the line is down")
	c.mu.Unlock()
	c.add(lines(10, 700)...)
	time.Sleep(20 * time.Millisecond)
	stop()
	w, stop := run()
	waitFor(t, "a problem", func() bool { return w.Status().Problem != "" })
	c.mu.Lock()
	c.away = nil
	c.mu.Unlock()
	waitFor(t, "700 entries", func() bool { return size(c.last(), c.vkey) == 700 })
	waitFor(t, "no problem", func() bool { return w.Status().Problem == "" && w.Status().Size == 700 })
	stop()
	// A restart hands the newest in again: the CA may have lost it.
	c.mu.Lock()
	c.got = nil
	c.mu.Unlock()
	_, stop = run()
	waitFor(t, "handed in again", func() bool { return size(c.last(), c.vkey) == 700 })
	stop()
	cosigned(t, c, c.last(), 700)
}

func size(note, vkey string) int64 {
	h, err := ledger.OpenCheckpoint(note, vkey)
	if err != nil {
		return -1
	}
	return h.Size
}

func waitFor(t *testing.T, what string, f func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); !f(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("never: %s", what)
		}
	}
}
