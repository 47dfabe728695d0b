package client

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"golang.org/x/mod/sumdb/tlog"

	"breakglass/ca/api"
	"breakglass/ledger"
)

// tailBytes bounds a piece of a tail, in bytes of its entries, well below api.MaxTailBody: they are base64 there.
const tailBytes = 1 << 20

// Kept is what somebody keeps of the CA's ledger: its entries up to a head that the ledger's key signed.
type Kept interface {
	// Head is that signed head.
	Head() (note string, err error)
	// Entry is the exact bytes of an entry below the head's size.
	Entry(index int64) ([]byte, error)
	tlog.HashReader
}

// Tail offers a piece of the ledger's end.
func (c *Client) Tail(ctx context.Context, t *api.Tail) (*api.TailState, error) {
	return post[api.TailState](ctx, c, api.PathTail, t)
}

// SeenHead shows the CA a head that it signed.
func (c *Client) SeenHead(ctx context.Context, note string) (*api.TailState, error) {
	return post[api.TailState](ctx, c, api.PathSeenHead, api.SeenHead{Checkpoint: note})
}

// Head is the CA's signed head, unjudged: that of a CA that is behind the pins' checkpoint too.
func (c *Client) Head(ctx context.Context) (string, error) {
	var b []byte
	err := c.call(ctx, http.MethodGet, "/v1/checkpoint", nil, &b)
	return string(b), err
}

// OfferTail shows the CA all that is kept beyond what it has, piece by piece, and at least how far that is. It may be called at any time, again
// after an error, and beside others.
func (c *Client) OfferTail(ctx context.Context, k Kept) (*api.TailState, error) {
	note, err := k.Head()
	if err != nil {
		return nil, err
	}
	theirs, err := ledger.OpenCheckpoint(note, c.pins.Site.LedgerKey)
	if err != nil {
		return nil, err
	}
	for {
		signed, err := c.Head(ctx)
		if err != nil {
			return nil, err
		}
		has, err := ledger.OpenCheckpoint(signed, c.pins.Site.LedgerKey)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrProof, err)
		}
		piece, err := TailPiece(k, note, theirs, has.Size)
		if err != nil {
			return nil, err
		}
		state, err := c.Tail(ctx, piece)
		if p := new(api.Problem); errors.As(err, &p) && p.Status == 409 && p.Code == api.CodeTail {
			continue // another jump was faster
		}
		if err != nil || state.Entries >= theirs.Size {
			return state, err
		}
		if state.Entries <= has.Size {
			return state, fmt.Errorf("%w: it took a piece of its ledger and has no more than before", ErrAnswer)
		}
	}
}

// TailPiece is the next piece for a CA that has from entries.
func TailPiece(k Kept, note string, theirs ledger.Checkpoint, from int64) (*api.Tail, error) {
	t := &api.Tail{Checkpoint: note, From: from, Entries: [][]byte{}}
	if from >= theirs.Size {
		return t, nil
	}
	var err error
	if t.Prefix, err = ledger.Root(from, k); err != nil {
		return nil, err
	}
	if t.PrefixProof, err = ledger.ProveConsistency(from, theirs.Size, k); err != nil {
		return nil, err
	}
	end := from
	for bytes := 0; end < theirs.Size && len(t.Entries) < api.MaxTail && bytes < tailBytes; end++ {
		b, err := k.Entry(end)
		if err != nil {
			return nil, err
		}
		t.Entries = append(t.Entries, b)
		bytes += len(b)
	}
	t.Proof, err = ledger.ProveConsistency(end, theirs.Size, k)
	return t, err
}
