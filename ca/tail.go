package ca

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"breakglass/ca/api"
	"breakglass/ca/state"
	"breakglass/internal/durable"
	"breakglass/internal/name"
	"breakglass/ledger"
)

// The way back of what a restored ledger lacks. Every jump keeps the entries that it cosigned (package witness), and shows what it has as soon as it is
// told that the CA is behind, or sees it by itself. Nothing of a jump's word is believed: its entries are taken over only if they lead from exactly this
// ledger to a head that this ledger's own key signed, byte by byte. A piece is proved and durable by itself, so whoever dies in the middle goes on
// there.
//
// The same call shows a fork: a head that our key signed, and the root that its history had where ours ends.

// tails remembers, while the ledger is frozen, how long each jump says that it was.
type tails struct {
	mu sync.Mutex
	by map[name.Jump]int64
}

func (t *tails) has(j name.Jump, entries int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.by == nil {
		t.by = map[name.Jump]int64{}
	}
	t.by[j] = max(t.by[j], entries)
}

// standing says which jumps of the site have shown all that they have, and which have not.
func (t *tails) standing(tx *state.Tx) (brought []Brought, waits []name.Jump, err error) {
	jumps, err := tx.Jumps()
	if err != nil {
		return nil, nil, err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, j := range jumps {
		if v, err := tx.JumpKeyRevoked(j.Jump.Key); err != nil {
			return nil, nil, err
		} else if v {
			continue
		}
		n, said := t.by[j.Jump.Name]
		if said {
			brought = append(brought, Brought{j.Jump.Name, n})
		}
		if !said || n > tx.Size() {
			waits = append(waits, j.Jump.Name)
		}
	}
	return brought, waits, nil
}

func tailRefused(format string, a ...any) *api.Problem {
	return &api.Problem{Status: 400, Code: api.CodeTail, Detail: fmt.Sprintf(format, a...)}
}

// takeTail judges what a jump keeps of this ledger.
func (c *CA) takeTail(ctx context.Context, q *api.Tail, jump name.Jump) (*api.TailState, error) {
	theirs, err := ledger.OpenCheckpoint(q.Checkpoint, c.ledgerKey())
	if err != nil {
		return nil, tailRefused("its head is not this ledger's: %v", err)
	}
	if len(q.Entries) > api.MaxTail {
		return nil, tailRefused("%d entries, at most %d", len(q.Entries), api.MaxTail)
	}
	c.thawing.Lock()
	defer c.thawing.Unlock()
	f, err := c.against(ctx, theirs, q.Checkpoint, "jump "+string(jump))
	if err != nil {
		return nil, err
	}
	switch {
	case f == nil: // it has no more than we have
	case f.Why == FrozenForked:
		return nil, c.fork(f)
	default:
		if err := c.append(ctx, q, theirs, f); err != nil {
			return nil, err
		}
	}
	if c.frozen.Load() == nil {
		return c.tailState(), nil
	}
	// Less than what was restored is not all that a jump keeps which cosigned it: an old copy of its own, or a jump that hides the rest. Going on without it is an
	// operator's to say.
	if theirs.Size >= c.frozen.Load().Entries {
		c.tails.has(jump, theirs.Size)
	}
	if err := c.thawIfWhole(ctx); err != nil {
		return nil, err
	}
	return c.tailState(), nil
}

// fork freezes for good.
func (c *CA) fork(f *Frozen) error {
	if old := c.frozen.Load(); old == nil || old.Why != FrozenForked {
		c.freeze(f)
	}
	return c.frozen.Load().problem()
}

// append takes over the entries of a tail.
func (c *CA) append(ctx context.Context, q *api.Tail, theirs ledger.Checkpoint, f *Frozen) error {
	if q.From != f.Entries {
		return &api.Problem{Status: 409, Code: api.CodeTail, Detail: fmt.Sprintf("the ledger has %d entries, the tail begins behind %d", f.Entries, q.From), Next: []string{"offer from there on"}}
	}
	prefix := ledger.Checkpoint{Origin: theirs.Origin, Size: q.From, Root: q.Prefix}
	if err := ledger.CheckConsistency(prefix.Pin(), theirs.Pin(), q.PrefixProof); err != nil {
		return tailRefused("of the first %d entries: %v", q.From, err)
	}
	ours, err := ledger.OpenCheckpoint(f.Ours, c.ledgerKey())
	if err != nil {
		return err
	}
	if prefix.Root != ours.Root {
		f.Why = FrozenForked
		return c.fork(f)
	}
	if c.frozen.Load() == nil { // nobody had noticed yet
		c.freeze(f)
	}
	if c.frozen.Load().Why == FrozenForked {
		return c.frozen.Load().problem()
	}
	if len(q.Entries) == 0 {
		return nil
	}
	if end := q.From + int64(len(q.Entries)); end > theirs.Size {
		return tailRefused("%d entries behind %d, its head signs %d", len(q.Entries), q.From, theirs.Size)
	}
	return c.state.Do(ctx, func(tx *state.Tx) error {
		for _, b := range q.Entries {
			if err := tx.AppendRaw(b); err != nil {
				return tailRefused("%v", err)
			}
		}
		end, err := tx.Root()
		if err != nil {
			return err
		}
		if err := ledger.CheckConsistency(end.Pin(), theirs.Pin(), q.Proof); err != nil {
			return tailRefused("its entries don't lead to its head: %v", err)
		}
		return nil
	})
}

func (c *CA) tailState() *api.TailState {
	head, note := c.state.Head()
	return &api.TailState{Entries: head.Size, Checkpoint: note, Wanted: c.frozen.Load() != nil}
}

// thawIfWhole goes on once every jump has shown what it has, and the ledger is as long as anybody said that it was.
func (c *CA) thawIfWhole(ctx context.Context) error {
	f := c.frozen.Load()
	if f == nil || f.Why == FrozenForked {
		return nil
	}
	whole := false
	if err := c.state.View(ctx, func(tx *state.Tx) error {
		brought, waits, err := c.tails.standing(tx)
		whole = len(brought) > 0 && len(waits) == 0 && tx.Size() >= f.theirSize(c.ledgerKey())
		return err
	}); err != nil || !whole {
		return err
	}
	return c.thaw(ctx, f, ledger.ActorCA)
}

// ResumeAsk is local root's word that what is not back won't come.
type ResumeAsk struct {
	// Without are the jumps that have not shown what they have: all of them, by name, or it is refused.
	Without []name.Jump `json:"without"`
	// Lose is how many entries that are known to have been there are given up.
	Lose int64 `json:"lose"`
}

// Resume goes on without what did not come back.
func (c *CA) Resume(ctx context.Context, q *ResumeAsk) error {
	c.thawing.Lock()
	defer c.thawing.Unlock()
	f := c.frozen.Load()
	if f == nil {
		return &api.Problem{Status: 409, Code: api.CodeConflict, Detail: "the ledger isn't frozen: there is nothing to resume"}
	}
	if f.Why == FrozenForked {
		return &api.Problem{Status: 409, Code: api.CodeForked, Detail: "the ledger is forked: jumps and clients would follow nothing that it adds",
			Next: []string{"breakglass-ca restore BACKUP --dir NEWDIR     where the backup is older than the fork: the jumps bring the rest", "else a succession: breakglass-ca succeed init --help"}}
	}
	var waits []name.Jump
	lost := int64(0)
	if err := c.state.View(ctx, func(tx *state.Tx) (err error) {
		_, waits, err = c.tails.standing(tx)
		lost = max(0, f.theirSize(c.ledgerKey())-tx.Size())
		return err
	}); err != nil {
		return err
	}
	args := ""
	for _, j := range waits {
		args += " --without " + string(j)
	}
	if lost > 0 {
		args += fmt.Sprintf(" --lose %d", lost)
	}
	slices.Sort(waits)
	given := slices.Clone(q.Without)
	slices.Sort(given)
	if !slices.Equal(given, waits) || q.Lose != lost {
		var missing []string
		for _, j := range waits {
			missing = append(missing, "jump "+string(j)+" has not shown what it keeps")
		}
		if lost > 0 {
			missing = append(missing, fmt.Sprintf("%d entries are known to be missing: whoever saw them will follow this CA no more", lost))
		}
		if len(missing) == 0 {
			missing = append(missing, "nothing is missing that is known of")
		}
		return &api.Problem{Status: 409, Code: api.CodeBehind, Detail: strings.Join(missing, "; "), Next: []string{"to go on all the same: breakglass-ca resume" + args}}
	}
	return c.thaw(ctx, f, ledger.ActorRoot)
}

// thaw goes on: its first entry says from where, and what did not come back. The caller holds thawing.
func (c *CA) thaw(ctx context.Context, f *Frozen, actor ledger.Actor) error {
	if err := c.loadPolicy(); err != nil { // the tail may hold a rotation, and its key is not in the backup
		c.log.Error("the ledger is back, and the CA can't go on with it", "error", err)
		return &api.Problem{Status: 503, Code: api.CodeBehind, Detail: "the ledger is back, and the CA can't go on with it: " + err.Error(),
			Next: []string{"put the key where [keys] of config.toml says (what was rotated in since the backup is the standby of then), and start the service anew"}}
	}
	err := c.state.Do(ctx, func(tx *state.Tx) error {
		facts := &ledger.CARestored{Why: string(f.Why), Entries: f.Entries, Lost: max(0, f.theirSize(c.ledgerKey())-tx.Size())}
		if !f.Backup.IsZero() {
			facts.Backup = ledger.At(f.Backup)
		}
		brought, waits, err := c.tails.standing(tx)
		if err != nil {
			return err
		}
		for _, b := range brought {
			facts.Jumps = append(facts.Jumps, b.Jump)
		}
		facts.Silent = waits
		// Here, in the writer: nothing comes before this entry, and if it can't be made nothing of the same batch comes at all.
		c.state.Freeze(nil)
		if _, _, err = tx.Append(c.entry(actor, ledger.Subject{}, facts)); err == nil {
			_, _, err = tx.Append(c.entry(ledger.ActorCA, ledger.Subject{}, &ledger.CAStarted{Version: Version, Keys: c.keys.loaded()}))
		}
		if err != nil {
			c.state.Freeze(f.problem())
		}
		return err
	})
	if err != nil {
		c.state.Freeze(f.problem())
		return err
	}
	c.frozen.Store(nil)
	c.loadProposal()
	c.log.Info("the ledger is back: the CA goes on", "entries", f.Entries)
	return durable.Remove(filepath.Join(c.cfg.Dir, frozenFile))
}

// tail is the jump's call.
func (c *CA) tail(ctx context.Context, q *api.Tail, who *caller) (*api.TailState, error) {
	if who == nil || who.jump == "" {
		return nil, passNeeded()
	}
	return c.takeTail(ctx, q, who.jump)
}

// seenHead takes a head of this ledger from whoever holds one: that it is signed is its pass. Whoever sees this CA show another history than before
// tells it so.
func (c *CA) seenHead(ctx context.Context, signed string) (*api.TailState, error) {
	theirs, err := ledger.OpenCheckpoint(signed, c.ledgerKey())
	if err != nil {
		return nil, tailRefused("the head is not this ledger's: %v", err)
	}
	c.thawing.Lock()
	defer c.thawing.Unlock()
	f, err := c.against(ctx, theirs, signed, "a client")
	if err != nil {
		return nil, err
	}
	switch old := c.frozen.Load(); {
	case f == nil:
	case f.Why == FrozenForked:
		return nil, c.fork(f)
	case old == nil:
		c.freeze(f)
	case old.Why != FrozenForked && theirs.Size > old.theirSize(c.ledgerKey()): // more is missing than was known
		next := *old
		next.Theirs, next.From = signed, f.From
		c.freeze(&next)
	}
	return c.tailState(), nil
}

// refusesNow is the problem that every call but reads gets while the ledger is frozen: before somebody touches a key for nothing.
func (c *CA) refusesNow() error {
	if f := c.frozen.Load(); f != nil {
		return f.problem()
	}
	return nil
}
