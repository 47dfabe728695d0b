package client

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"sync"

	"breakglass/ca/api"
	"breakglass/ledger"
)

// ErrRollback says that the CA shows a history that is not the one seen before: restored from an old backup, or rewritten.
var ErrRollback = errors.New("the CA's ledger is not the one seen before")

// ErrProof says that what the CA answered is not proved to be in its ledger.
var ErrProof = errors.New("the CA's answer is not proved")

// Memory keeps the newest checkpoint (a signed note) between runs; Last gives "" where there is none.
type Memory interface {
	Last() (string, error)
	Save(note string) error
}

// follower holds the newest head and lets it only grow consistently.
type follower struct {
	key    string
	memory Memory
	mu     sync.Mutex
	last   ledger.Checkpoint
}

func newFollower(p api.Pins, m Memory) (*follower, error) {
	f := &follower{key: p.Site.LedgerKey, memory: m}
	c, err := ledger.OpenCheckpoint(p.Checkpoint, f.key)
	if err != nil {
		return nil, err
	}
	f.last = c
	if m == nil {
		return f, nil
	}
	text, err := m.Last()
	if err != nil {
		return nil, fmt.Errorf("reading the last checkpoint: %w", err)
	}
	if text == "" {
		return f, nil
	}
	if c, err = ledger.OpenCheckpoint(text, f.key); err != nil {
		return nil, fmt.Errorf("the last checkpoint that was kept: %w", err)
	}
	if c.Size > f.last.Size {
		f.last = c
	}
	return f, nil
}

// CheckCheckpoint opens a signed head and demands that it and the newest seen before are of one history. An older head is no
// fault (answers cross), if it is consistent.
func (c *Client) CheckCheckpoint(ctx context.Context, signed string) (ledger.Checkpoint, error) {
	f := c.ledger
	head, err := ledger.OpenCheckpoint(signed, f.key)
	if err != nil {
		return head, fmt.Errorf("%w: %w", ErrProof, err)
	}
	for {
		last := f.newest()
		if head.Pin() == last.Pin() {
			return head, nil
		}
		if err := c.oneHistory(ctx, last, head); err != nil {
			return head, err
		}
		if kept, err := f.keep(last, head, signed); kept || err != nil {
			return head, err
		}
		// Another call has moved on meanwhile: two heads that both continue the old one may still be a fork of each other.
	}
}

// oneHistory demands the proof that one head continues the other.
func (c *Client) oneHistory(ctx context.Context, last, head ledger.Checkpoint) error {
	from, to := last, head
	if head.Size < last.Size {
		from, to = head, last
	}
	if from.Size == to.Size {
		return fmt.Errorf("%w: two heads of size %d", ErrRollback, to.Size)
	}
	proof, err := c.consistency(ctx, from.Size, to.Size)
	if p := new(api.Problem); errors.As(err, &p) && (p.Code == api.CodeNotFound || p.Code == api.CodeBadRequest) {
		// It can't show it: its ledger is shorter than what it signed. Any other problem (too many, internal) proves nothing.
		return fmt.Errorf("%w: no proof from size %d to %d: %w", ErrRollback, from.Size, to.Size, err)
	}
	if err != nil {
		return err
	}
	if err := ledger.CheckConsistency(from.Pin(), to.Pin(), proof); err != nil {
		return fmt.Errorf("%w: sizes %d and %d: %w", ErrRollback, from.Size, to.Size, err)
	}
	return nil
}

func (f *follower) newest() ledger.Checkpoint {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.last
}

// keep remembers head if it is newer than last and last is still the newest; false says that it is not.
func (f *follower) keep(last, head ledger.Checkpoint, signed string) (bool, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.last.Pin() != last.Pin() {
		return false, nil
	}
	if head.Size <= last.Size {
		return true, nil
	}
	if f.memory != nil {
		if err := f.memory.Save(signed); err != nil {
			return false, fmt.Errorf("keeping the checkpoint: %w", err)
		}
	}
	f.last = head
	return true, nil
}

// CheckEntry checks that e is in the ledger under the signed head and decodes it.
func (c *Client) CheckEntry(ctx context.Context, e api.ProvenEntry, signed string) (*ledger.Entry, error) {
	head, err := c.CheckCheckpoint(ctx, signed)
	if err != nil {
		return nil, err
	}
	if err := ledger.CheckInclusion([]byte(e.Entry), e.Index, e.Proof, head); err != nil {
		return nil, fmt.Errorf("%w: entry %d: %w", ErrProof, e.Index, err)
	}
	return ledger.Decode([]byte(e.Entry))
}

func (c *Client) checkSite(ctx context.Context, a *api.SiteAnswer) error {
	e, err := c.CheckEntry(ctx, a.Entry, a.Entry.Checkpoint)
	if err != nil {
		return err
	}
	var site ledger.Site
	switch f := e.Facts.(type) {
	case *ledger.SiteCreated:
		site = f.Site
	case *ledger.SiteChanged:
		site = f.Site
	case *ledger.SiteSucceeded:
		site = f.Site
	default:
		return fmt.Errorf("%w: entry %d is %s, not the site", ErrProof, a.Entry.Index, e.Type())
	}
	if !reflect.DeepEqual(site, a.Site) {
		return fmt.Errorf("%w: the site is not what entry %d says", ErrProof, a.Entry.Index)
	}
	return nil
}
