package client

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"breakglass/ledger"
)

// WitnessHead waits for a signed head of more than after entries. It is not held against what this client has seen: whoever cosigns it reads every entry.
func (c *Client) WitnessHead(ctx context.Context, after int64, wait time.Duration) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, wait+callTimeout)
	defer cancel()
	var out []byte
	err := c.call(ctx, http.MethodGet, fmt.Sprintf("/v1/witness?after=%d&wait=%d", after, int(wait.Seconds())), nil, &out)
	return string(out), err
}

// Cosign hands in a head with a cosignature.
func (c *Client) Cosign(ctx context.Context, signed string) error {
	return c.call(ctx, http.MethodPost, "/v1/witness", []byte(signed), nil)
}

// EntryBundle gives a bundle of entries as C2SP tlog-tiles have it, not proved: for a jump's key, or under a pass.
func (c *Client) EntryBundle(ctx context.Context, t ledger.Tile) ([]byte, error) {
	var out []byte
	err := c.call(ctx, http.MethodGet, "/"+ledger.TilePath(t), nil, &out)
	return out, err
}
