package client

import (
	"context"
	"fmt"

	"breakglass/ca/api"
)

// Consistency gives the proof that the ledger of size from is a prefix of that of size to, unjudged: a bundle carries it to whoever verifies.
func (c *Client) Consistency(ctx context.Context, from, to int64) (*api.ConsistencyProof, error) {
	return get[api.ConsistencyProof](ctx, c, fmt.Sprintf("/v1/proof/consistency?from=%d&to=%d", from, to))
}
