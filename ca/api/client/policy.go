package client

import (
	"context"
	"crypto/sha256"
	"fmt"

	"breakglass/ca/api"
	"breakglass/internal/policytext"
	"breakglass/internal/statement"
)

// Policy reads the policy in force and what is proposed, with their texts, which are held against their hashes.
func (c *Client) Policy(ctx context.Context) (*api.PolicyState, error) {
	s, err := get[api.PolicyState](ctx, c, "/v1/policy")
	if err != nil {
		return nil, err
	}
	if got := statement.Hash(sha256.Sum256([]byte(s.Text))); got != s.Policy {
		return nil, fmt.Errorf("%w: the policy in force has SHA-256 %s, its text %s", ErrAnswer, s.Policy, got)
	}
	if p := s.Proposal; p != nil {
		if got := statement.Hash(sha256.Sum256([]byte(p.Text))); got != p.Policy {
			return nil, fmt.Errorf("%w: the proposed policy has SHA-256 %s, its text %s", ErrAnswer, p.Policy, got)
		}
		if got := statement.Hash(sha256.Sum256([]byte(policytext.Diff(s.Text, p.Text)))); got != p.Changes {
			return nil, fmt.Errorf("%w: the diff between the two policies has SHA-256 %s, to be signed is %s", ErrAnswer, got, p.Changes)
		}
	}
	return s, nil
}

// ProposePolicy offers a text as the next policy.
func (c *Client) ProposePolicy(ctx context.Context, text string) (*api.PolicyState, error) {
	return post[api.PolicyState](ctx, c, "/v1/policy/proposal", []byte(text))
}

// WithdrawPolicy takes back what is proposed, if it is this.
func (c *Client) WithdrawPolicy(ctx context.Context, policy statement.Hash) (*api.PolicyState, error) {
	return post[api.PolicyState](ctx, c, "/v1/policy/withdrawal", api.PolicyWithdraw{Policy: policy})
}

func (c *Client) AskPolicy(ctx context.Context, q api.PolicyAsk) (*api.Challenge, error) {
	return post[api.Challenge](ctx, c, "/v1/policy", q)
}

func (c *Client) SignPolicy(ctx context.Context, id string, s api.Signed) (*api.PolicyState, error) {
	return post[api.PolicyState](ctx, c, "/v1/policy/"+segment(id)+"/signature", s)
}
