package client

import (
	"context"

	"breakglass/ca/api"
)

// Unlocks lists what there is to lift; each entry is proved.
func (c *Client) Unlocks(ctx context.Context) (*api.Unlocks, error) {
	u, err := get[api.Unlocks](ctx, c, "/v1/unlocks")
	if err != nil {
		return nil, err
	}
	for _, x := range u.Unlocks {
		if _, err := c.CheckEntry(ctx, x.Entry, u.Checkpoint); err != nil {
			return nil, err
		}
	}
	return u, nil
}
