package client

import (
	"context"

	"breakglass/ca/api"
)

// Enrolments lists the keys that wait for being vouched for; each entry is proved.
func (c *Client) Enrolments(ctx context.Context) (*api.EnrolmentList, error) {
	l, err := get[api.EnrolmentList](ctx, c, "/v1/enrolments")
	if err != nil {
		return nil, err
	}
	for _, e := range l.Enrolments {
		if _, err := c.CheckEntry(ctx, e.Entry, l.Checkpoint); err != nil {
			return nil, err
		}
	}
	return l, nil
}

// Keys says where the pass holder's keys stand.
func (c *Client) Keys(ctx context.Context) (*api.KeyList, error) {
	return get[api.KeyList](ctx, c, "/v1/keys")
}

// Founding tells an owner what there is to be founded; the entry of each key is proved.
func (c *Client) Founding(ctx context.Context) (*api.FoundingState, error) {
	f, err := get[api.FoundingState](ctx, c, "/v1/founding")
	if err != nil {
		return nil, err
	}
	for _, e := range f.Entries {
		if _, err := c.CheckEntry(ctx, e, f.Checkpoint); err != nil {
			return nil, err
		}
	}
	return f, nil
}

func (c *Client) Found(ctx context.Context, q api.FoundingAsk) (*api.Challenge, error) {
	return post[api.Challenge](ctx, c, "/v1/founding", q)
}

func (c *Client) SignFounding(ctx context.Context, id string, s api.Signed) (*api.FoundingState, error) {
	return post[api.FoundingState](ctx, c, "/v1/founding/"+segment(id)+"/signature", s)
}

func (c *Client) Renew(ctx context.Context, q api.RenewalAsk) (*api.Challenge, error) {
	return post[api.Challenge](ctx, c, "/v1/renewals", q)
}

func (c *Client) SignRenewal(ctx context.Context, id string, s api.Signed) (*api.RenewalState, error) {
	return post[api.RenewalState](ctx, c, "/v1/renewals/"+segment(id)+"/signature", s)
}

func (c *Client) Lose(ctx context.Context, q api.LossAsk) (*api.Challenge, error) {
	return post[api.Challenge](ctx, c, "/v1/losses", q)
}

func (c *Client) SignLoss(ctx context.Context, id string, s api.Signed) (*api.LossState, error) {
	return post[api.LossState](ctx, c, "/v1/losses/"+segment(id)+"/signature", s)
}
