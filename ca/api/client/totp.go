package client

import (
	"context"

	"breakglass/ca/api"
)

func (c *Client) TOTPSeed(ctx context.Context, q api.TOTPSeedAsk) (*api.TOTPSeed, error) {
	return post[api.TOTPSeed](ctx, c, "/v1/totp/seed", q)
}

func (c *Client) TOTP(ctx context.Context, q api.TOTPAsk) (*api.Challenge, error) {
	return post[api.Challenge](ctx, c, "/v1/totp", q)
}

func (c *Client) SignTOTP(ctx context.Context, id string, s api.TOTPSigned) (*api.TOTPState, error) {
	return post[api.TOTPState](ctx, c, "/v1/totp/"+segment(id)+"/signature", s)
}
