package ca

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"breakglass/ca/api"
	"breakglass/ca/state"
	"breakglass/internal/durable"
	"breakglass/ledger"
)

// Witnesses cosign heads of the ledger (ledger.Witnesses). Nothing waits for them on the way from touch to shell: while they are away everything goes on, unwitnessed, and
// is cosigned when they are back. Cosignatures stand under a head, not in the ledger: the newest that a quorum cosigned is kept in one file.

const (
	// showEvery is how often witnesses get a new head while the one before waits for their quorum: a head that each of them cosigns at another size never has one.
	showEvery = time.Second
	// heads is how many heads are remembered for cosignatures that come late.
	heads = 16
	// unwitnessedAlarm is how long the ledger may be ahead of what its quorum cosigned before somebody is told.
	unwitnessedAlarm = time.Minute
	// aMoment is how long a head may wait for its quorum before the status says so.
	aMoment = 10 * time.Second
	// evidencePatience is how long evidence waits for the quorum to cosign what it shows.
	evidencePatience = 3 * time.Second
	witnessedFile    = "witnessed"
)

// witnessing is what is known of the witnesses.
type witnessing struct {
	path string

	mu        sync.Mutex
	heads     []*shownHead // that were shown to witnesses, the newest last
	published ledger.Checkpoint
	note      string // of published, with its cosignatures; "" if there is none
	last      map[string]WitnessStatus
	behind    behind
	changed   chan struct{} // closed and made anew when a head was published or shown
}

// behind is how long the quorum has been behind the ledger. A ledger that grows all the time is always ahead of it by a little: what counts is how long one head waits.
type behind struct {
	size    int64     // of the head that waits
	since   time.Time // zero: none does
	alarmed bool      // that was told
}

// look notes that published of size entries are cosigned, and says whether the quorum is back, or has just been behind for too long.
func (b *behind) look(published, size int64, now time.Time) (back, late bool) {
	if b.since.IsZero() || published >= b.size {
		back = b.alarmed
		*b = behind{}
		if published < size {
			*b = behind{size: size, since: now}
		}
		return back, false
	}
	if late = !b.alarmed && now.Sub(b.since) > unwitnessedAlarm; late {
		b.alarmed = true
	}
	return false, late
}

type shownHead struct {
	head ledger.Checkpoint
	note string
	at   time.Time
}

// WitnessStatus is how one witness stands.
type WitnessStatus struct {
	Name string
	Size int64     // of the largest head that it cosigned
	Time time.Time // by its own clock; zero: never
}

func newWitnessing(dir, vkey string) (*witnessing, error) {
	w := &witnessing{path: filepath.Join(dir, witnessedFile), last: map[string]WitnessStatus{}, changed: make(chan struct{})}
	b, err := os.ReadFile(w.path)
	if errors.Is(err, fs.ErrNotExist) {
		return w, nil
	}
	if err == nil {
		w.published, err = ledger.OpenCheckpoint(string(b), vkey)
	}
	if err != nil {
		return w, fmt.Errorf("reading the newest cosigned head: %w", err)
	}
	w.note = string(b)
	return w, nil
}

// loadWitnessed reads the newest cosigned head. One that can't be read is no reason not to serve: the witnesses cosign the next.
func (c *CA) loadWitnessed() error {
	s, err := c.site(context.Background())
	if errors.Is(err, state.ErrNotFound) { // Init is at work
		s.Site.LedgerKey, err = "", nil
	}
	if err != nil {
		return err
	}
	if c.witness, err = newWitnessing(c.cfg.Dir, s.Site.LedgerKey); err != nil {
		c.log.Error("the newest cosigned head is lost; witnesses cosign the next", "error", err)
		err = nil
	}
	return err
}

func (w *witnessing) tell() {
	close(w.changed)
	w.changed = make(chan struct{})
}

// show gives the head that witnesses are to cosign now, and what to wait on for another one.
func (w *witnessing) show(head ledger.Checkpoint, note string, now time.Time) (shownHead, <-chan struct{}) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if n := len(w.heads); n > 0 {
		h := w.heads[n-1]
		if head.Size <= h.head.Size || w.published.Size < h.head.Size && now.Sub(h.at) < showEvery {
			return *h, w.changed
		}
	}
	h := &shownHead{head, note, now}
	w.heads = append(w.heads, h)
	if len(w.heads) > heads {
		w.heads = slices.Delete(w.heads, 0, 1)
	}
	w.tell()
	return *h, w.changed
}

// Witnessed is the newest head that the quorum cosigned, with all cosignatures that are known; "" if there is none.
func (c *CA) Witnessed() (ledger.Checkpoint, string) {
	c.witness.mu.Lock()
	defer c.witness.mu.Unlock()
	return c.witness.published, c.witness.note
}

// witnesses are those of the site as of now.
func (c *CA) witnesses(ctx context.Context) (w ledger.Witnesses, vkey string, err error) {
	s, err := c.site(ctx)
	if err != nil {
		return w, "", err
	}
	w, err = ledger.ParseWitnesses(s.Site)
	return w, s.Site.LedgerKey, err
}

// witnessHead waits for a head of more than after entries to be cosigned; when the wait is over it gives what there is.
func (c *CA) witnessHead(ctx context.Context, after int64, wait time.Duration) (string, error) {
	end := time.NewTimer(wait)
	defer end.Stop()
	for {
		grown := c.state.Grown() // before looking
		head, note := c.state.Head()
		h, changed := c.witness.show(head, note, c.now())
		if h.head.Size > after {
			return h.note, nil
		}
		again := time.NewTimer(showEvery)
		if head.Size == h.head.Size {
			again.Stop()
		}
		select {
		case <-grown:
		case <-changed:
		case <-again.C:
		case <-end.C:
			again.Stop()
			return h.note, nil
		case <-c.cosigning.stop:
			again.Stop()
			return h.note, nil
		case <-ctx.Done():
			again.Stop()
			return "", ctx.Err()
		}
		again.Stop()
	}
}

// cosigned takes a head with cosignatures. Those of witnesses that the site doesn't have are left out.
func (c *CA) cosigned(ctx context.Context, signed string) error {
	ws, vkey, err := c.witnesses(ctx)
	if err != nil {
		return err
	}
	head, by, err := ws.Cosigned(signed, vkey)
	if err != nil {
		return badRequest("%v", err)
	}
	if len(by) == 0 {
		return badRequest("no cosignature of a witness of this site")
	}
	// Ours, or whoever has the log's key and a jump's would have us publish what isn't our history.
	if err := c.state.View(ctx, func(tx *state.Tx) error {
		if head.Size > tx.Size() {
			return &api.Problem{Status: 409, Code: api.CodeConflict, Detail: fmt.Sprintf("the ledger has %d entries, the head %d", tx.Size(), head.Size)}
		}
		root, err := ledger.Root(head.Size, tx)
		if err == nil && root != head.Root {
			err = &api.Problem{Status: 409, Code: api.CodeConflict, Detail: fmt.Sprintf("the ledger's root of %d entries is another", head.Size)}
		}
		return err
	}); err != nil {
		return err
	}
	if signed, err = ws.Strip(signed, vkey); err != nil {
		return badRequest("%v", err)
	}
	return c.witness.take(ws, head, by, signed, vkey, c.now())
}

func (w *witnessing) take(ws ledger.Witnesses, head ledger.Checkpoint, by []ledger.Cosignature, signed, vkey string, now time.Time) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, b := range by {
		if l := w.last[b.Name]; head.Size >= l.Size {
			w.last[b.Name] = WitnessStatus{b.Name, head.Size, b.Time}
		}
	}
	if head.Size < w.published.Size {
		return nil
	}
	if head.Size == w.published.Size {
		merged, err := ledger.Merge(w.note, signed)
		if err != nil || merged == w.note {
			return err
		}
		return w.publish(head, merged)
	}
	var h *shownHead
	for _, o := range w.heads {
		if o.head == head {
			h = o
		}
	}
	if h == nil { // of a former run
		h = &shownHead{head, signed, now}
		i, _ := slices.BinarySearchFunc(w.heads, head.Size, func(o *shownHead, size int64) int { return int(o.head.Size - size) })
		w.heads = slices.Insert(w.heads, i, h)
		if len(w.heads) > heads {
			w.heads = slices.Delete(w.heads, 0, 1)
		}
	}
	merged, err := ledger.Merge(h.note, signed)
	if err != nil {
		return err
	}
	h.note = merged
	if _, all, err := ws.Cosigned(merged, vkey); err != nil || len(all) < max(1, ws.Quorum) {
		return err
	}
	return w.publish(head, merged)
}

func (w *witnessing) publish(head ledger.Checkpoint, note string) error {
	if err := durable.WriteFile(w.path, []byte(note), 0o600); err != nil {
		return err
	}
	w.published, w.note = head, note
	w.tell()
	return nil
}

// coveredBy waits a moment for the quorum to cosign a head of at least size entries.
func (c *CA) coveredBy(ctx context.Context, size int64, patience time.Duration) {
	end := time.NewTimer(patience)
	defer end.Stop()
	for {
		c.witness.mu.Lock()
		ok, changed := c.witness.published.Size >= size, c.witness.changed
		c.witness.mu.Unlock()
		if ok {
			return
		}
		select {
		case <-changed:
		case <-end.C:
			return
		case <-ctx.Done():
			return
		}
	}
}

// watchWitnesses tells when the ledger has been ahead of its witnesses for too long.
func (c *CA) watchWitnesses(ctx context.Context) {
	t := time.NewTicker(5 * time.Second)
	defer t.Stop()
	for {
		select {
		case <-t.C:
			c.lookAtWitnesses(ctx)
		case <-ctx.Done():
			return
		}
	}
}

func (c *CA) lookAtWitnesses(ctx context.Context) {
	ws, _, err := c.witnesses(ctx)
	if err != nil {
		c.log.Error("the site's witnesses can't be read", "error", err)
		return
	}
	head, _ := c.state.Head()
	now := c.now()
	w := c.witness
	w.mu.Lock()
	defer w.mu.Unlock()
	if ws.Quorum == 0 { // nobody to wait for
		w.behind = behind{}
		return
	}
	switch back, late := w.behind.look(w.published.Size, head.Size, now); {
	case back:
		c.log.Info("the ledger is witnessed again", "entries", w.published.Size)
	case late:
		c.log.Error("the ledger is unwitnessed: its witnesses have not cosigned what is new; everything goes on", "entries", head.Size, "cosigned", w.published.Size, "quorum", ws.Quorum)
	}
}

// Witnessing is how the witnesses stand, for the status.
type Witnessing struct {
	Quorum    int
	Size      int64     // of the newest head that the quorum cosigned
	Ahead     time.Time // since when a head has waited for the quorum; zero: none does, or for a moment only
	Witnesses []WitnessStatus
}

func (c *CA) witnessStatus(site ledger.Site, now time.Time) (out Witnessing, err error) {
	ws, err := ledger.ParseWitnesses(site)
	if err != nil {
		return out, err
	}
	w := c.witness
	w.mu.Lock()
	defer w.mu.Unlock()
	out = Witnessing{Quorum: ws.Quorum, Size: w.published.Size}
	if now.Sub(w.behind.since) > aMoment {
		out.Ahead = w.behind.since
	}
	var by []ledger.Cosignature
	if w.note != "" {
		_, by, err = ws.Cosigned(w.note, site.LedgerKey)
	}
	for _, o := range ws.List {
		s := WitnessStatus{Name: o.Name}
		for _, b := range by {
			if b.Name == o.Name {
				s.Size, s.Time = w.published.Size, b.Time
			}
		}
		if l, ok := w.last[o.Name]; ok && l.Size >= s.Size {
			s = l
		}
		out.Witnesses = append(out.Witnesses, s)
	}
	return out, err
}
