package ca

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"breakglass/ca/api"
	"breakglass/ca/state"
	"breakglass/internal/durable"
	"breakglass/internal/name"
	"breakglass/ledger"
)

// This file is a CA that must not add to its ledger: one that was restored and lacks what came after its backup, one whose database is older than
// the head it last wrote beside it, one of whose ledger somebody holds another history. Whatever it would append now would stand where something
// else stood before, and jumps, witnesses and clients would never follow it again. So it appends nothing: it issues nothing, it opens no session, it
// takes no facts (a jump keeps them in its journal). It reads, it proves, it beats for the jumps, so that running sessions go on.
//
// It is kept in a file, so that a start finds it; state.Freeze is the one gate. Out of "restored" and "behind" it comes when its tail is back
// (tail.go). Out of "forked" nothing leads but a restore, or a succession.

const (
	frozenFile = "frozen.json"
	// headFile holds the newest signed head, written now and then beside the database: a database that is older than it was put back by somebody.
	headFile = "head"
	// headEvery is how often it is written while the ledger grows. It is not flushed: a power cut may cost it, and then it says nothing.
	headEvery = time.Second
)

// FrozenWhy says why.
type FrozenWhy string

const (
	FrozenRestored FrozenWhy = "restored" // from a backup: jumps may hold what came after it
	FrozenBehind   FrozenWhy = "behind"   // a signed head of this ledger says that it was longer
	FrozenForked   FrozenWhy = "forked"   // a signed head of this ledger is of another history
)

// Frozen is what is known of it.
type Frozen struct {
	Why     FrozenWhy `json:"why"`
	Since   time.Time `json:"since"`
	Entries int64     `json:"entries"`          // that this ledger had then
	Backup  time.Time `json:"backup,omitzero"`  // when the backup was made
	Theirs  string    `json:"theirs,omitempty"` // the signed head that speaks against this ledger
	Ours    string    `json:"ours,omitempty"`   // this ledger's own then
	From    string    `json:"from,omitempty"`   // who showed it
}

// theirSize is how long the ledger was by the head that speaks against it.
func (f *Frozen) theirSize(key string) int64 {
	c, err := ledger.OpenCheckpoint(f.Theirs, key)
	if err != nil {
		return 0
	}
	return c.Size
}

// problem is what everybody is told.
func (f *Frozen) problem() *api.Problem {
	p := &api.Problem{Status: 503, Code: api.CodeBehind}
	switch f.Why {
	case FrozenRestored:
		p.Detail = fmt.Sprintf("this CA was restored from a backup of %s, and what happened since is not back: it issues nothing yet", f.Backup.UTC().Format(time.RFC3339))
	case FrozenBehind:
		p.Detail = "this CA's ledger was longer than it is now: it issues nothing until what is missing is back"
	default:
		p.Code = api.CodeForked
		p.Detail = fmt.Sprintf("this CA went on from an old copy of its ledger: %s holds a head of another history. It issues nothing", f.From)
		p.Next = []string{"sessions that run go on", "call an operator: breakglass-ca status, on the CA's machine, says what to do"}
		return p
	}
	p.Next = []string{"wait some seconds and ask again: its jumps bring it back", "if it lasts, call an operator: breakglass-ca status, on the CA's machine"}
	return p
}

// freeze stops every entry from now on, also after a start.
func (c *CA) freeze(f *Frozen) {
	c.frozen.Store(f)
	c.state.Freeze(f.problem())
	c.log.Error("the ledger is frozen: nothing is issued", "why", string(f.Why), "entries", f.Entries, "shown_by", f.From)
	if err := f.write(c.cfg.Dir); err != nil {
		c.log.Error("that the ledger is frozen is not on the disk: don't start the service anew", "error", err)
	}
}

func (f *Frozen) write(dir string) error {
	text, err := json.MarshalIndent(f, "", "  ")
	if err != nil {
		return err
	}
	return durable.WriteFile(filepath.Join(dir, frozenFile), append(text, '\n'), 0o600)
}

func readFrozen(dir string) (*Frozen, error) {
	text, err := os.ReadFile(filepath.Join(dir, frozenFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	} else if err != nil {
		return nil, err
	}
	f := &Frozen{}
	if err := json.Unmarshal(text, f); err != nil {
		return nil, fmt.Errorf("reading %s: %w", frozenFile, err) // unknown is the bad case: no start
	}
	return f, nil
}

// findFrozen looks, at the start, whether anything speaks against the ledger.
func (c *CA) findFrozen() error {
	f, err := readFrozen(c.cfg.Dir)
	if err != nil {
		return err
	}
	if f != nil && f.Why != FrozenForked {
		// It went on, and died before it could take the file away.
		over := false
		if err := c.state.View(context.Background(), func(tx *state.Tx) error {
			list, err := tx.OfType(ledger.TypeCARestored)
			over = slices.ContainsFunc(list, func(n int64) bool { return n >= f.Entries })
			return err
		}); err != nil {
			return err
		}
		if over {
			f = nil
			if err := durable.Remove(filepath.Join(c.cfg.Dir, frozenFile)); err != nil {
				return err
			}
		}
	}
	if f == nil {
		if f, err = c.againstHeads(); err != nil {
			return err
		}
		if f != nil {
			c.freeze(f)
		}
	} else {
		c.frozen.Store(f)
		c.state.Freeze(f.problem())
		c.log.Error("the ledger is frozen: nothing is issued", "why", string(f.Why), "since", f.Since)
	}
	return nil
}

// againstHeads holds the database against the heads that were written beside it: the newest, and the newest that the witnesses cosigned.
func (c *CA) againstHeads() (*Frozen, error) {
	for _, file := range []string{headFile, witnessedFile} {
		if f, err := c.againstHead(file); err != nil || f != nil {
			return f, err
		}
	}
	return nil, nil
}

func (c *CA) againstHead(file string) (*Frozen, error) {
	text, err := os.ReadFile(filepath.Join(c.cfg.Dir, file))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	} else if err != nil {
		return nil, err
	}
	theirs, err := ledger.OpenCheckpoint(string(text), c.ledgerKey())
	if err != nil { // a power cut tore it, or it is another CA's
		c.log.Warn("a head beside the ledger can't be read, and says nothing", "file", file, "error", err)
		return nil, nil
	}
	return c.against(context.Background(), theirs, string(text), "this machine's file "+file)
}

// against holds a signed head of this ledger against it. Nil: the ledger continues it. A longer one is "behind": whether it continues this one is
// seen when its entries come.
func (c *CA) against(ctx context.Context, theirs ledger.Checkpoint, signed, from string) (f *Frozen, err error) {
	err = c.state.View(ctx, func(tx *state.Tx) error {
		head, note, err := tx.Head()
		if err != nil {
			return err
		}
		f = &Frozen{Why: FrozenBehind, Since: c.now().Truncate(time.Second), Entries: head.Size, Theirs: signed, Ours: note, From: from}
		if theirs.Size > head.Size {
			return nil
		}
		ours, err := tx.RootAt(theirs.Size)
		if err != nil {
			return err
		}
		if f.Why = FrozenForked; ours.Root == theirs.Root {
			f = nil
		}
		return nil
	})
	return f, err
}

// ledgerKey is the verifier key under which this ledger signs.
func (c *CA) ledgerKey() string { return c.keys.ledgerKey }

// keepHead writes the newest head beside the database now and then until ctx ends.
func (c *CA) keepHead(ctx context.Context) {
	t := time.NewTicker(headEvery)
	defer t.Stop()
	last := ""
	for {
		last = c.writeHead(last)
		select {
		case <-t.C:
		case <-ctx.Done():
			return
		}
	}
}

// writeHead writes it if it is another than last, and gives it.
func (c *CA) writeHead(last string) string {
	_, note := c.state.Head()
	if note == last || c.frozen.Load() != nil {
		return last
	}
	tmp := filepath.Join(c.cfg.Dir, "."+headFile)
	err := os.WriteFile(tmp, []byte(note), 0o600)
	if err == nil {
		err = os.Rename(tmp, filepath.Join(c.cfg.Dir, headFile))
	}
	if err != nil {
		c.log.Warn("the head beside the ledger can't be written", "error", err)
		return last
	}
	return note
}

// FrozenStatus is what an operator sees of it.
type FrozenStatus struct {
	Frozen
	Now     int64       `json:"now"`               // entries that the ledger has now
	Known   int64       `json:"known,omitempty"`   // entries that it had by the head that speaks against it
	Brought []Brought   `json:"brought,omitempty"` // what jumps have said
	Waits   []name.Jump `json:"waits,omitempty"`   // those that have not
}

// Brought is how long the ledger is by what a jump keeps of it.
type Brought struct {
	Jump    name.Jump `json:"jump"`
	Entries int64     `json:"entries"`
}

// frozenStatus is nil where all is well.
func (c *CA) frozenStatus(tx *state.Tx) (*FrozenStatus, error) {
	f := c.frozen.Load()
	if f == nil {
		return nil, nil
	}
	s := &FrozenStatus{Frozen: *f, Now: tx.Size(), Known: f.theirSize(c.ledgerKey())}
	var err error
	s.Brought, s.Waits, err = c.tails.standing(tx)
	return s, err
}
