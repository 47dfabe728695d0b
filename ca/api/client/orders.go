package client

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"breakglass/ca/api"
	"breakglass/internal/name"
)

func (c *Client) Order(ctx context.Context, q api.OrderAsk) (*api.Challenge, error) {
	return post[api.Challenge](ctx, c, "/v1/orders", q)
}

// SignOrder signs an order; what an order names by a hash or a fingerprint goes beside the signature.
func (c *Client) SignOrder(ctx context.Context, id string, s api.SignedOrder) (*api.OrderDone, error) {
	return post[api.OrderDone](ctx, c, "/v1/orders/"+segment(id)+"/signature", s)
}

// Kill stops a grant or a session, whosever it is; it takes a pass.
func (c *Client) Kill(ctx context.Context, id name.RequestID, q api.StopAsk) (*api.Stopped, error) {
	return post[api.Stopped](ctx, c, "/v1/requests/"+segment(string(id))+"/kill", q)
}

// End stops one's own grant; the call is signed by its client key, or by a pass of its person.
func (c *Client) End(ctx context.Context, id name.RequestID, q api.StopAsk) (*api.Stopped, error) {
	return post[api.Stopped](ctx, c, "/v1/requests/"+segment(string(id))+"/end", q)
}

// JumpOrders waits for entries behind after that concern jumps; each is proved. It is for a jump's key.
func (c *Client) JumpOrders(ctx context.Context, after int64, wait time.Duration) (*api.JumpOrders, error) {
	a, err := get[api.JumpOrders](ctx, c, fmt.Sprintf("/v1/jumps/orders?after=%d&wait=%d", after, int(wait.Seconds())))
	if err != nil {
		return nil, err
	}
	// Also with no entry in it: a heartbeat of another history is none.
	if _, err := c.CheckCheckpoint(ctx, a.Checkpoint); err != nil {
		return nil, err
	}
	last := after
	for _, e := range a.Entries {
		if e.Index <= last || e.Index > a.Index {
			return nil, fmt.Errorf("%w: entry %d after entry %d, of %d", ErrProof, e.Index, last, a.Index)
		}
		last = e.Index
		if _, err := c.CheckEntry(ctx, e, a.Checkpoint); err != nil {
			return nil, err
		}
	}
	return a, nil
}

// KRL gives the revocation list that hosts read.
func (c *Client) KRL(ctx context.Context) ([]byte, error) {
	var out []byte
	err := c.call(ctx, http.MethodGet, "/v1/krl", nil, &out)
	return out, err
}
