package agent

import (
	"context"

	"breakglass/ca/api"
	"breakglass/internal/statement"
)

// Policies takes owners' signatures; *client.Client is one.
type Policies interface {
	AskPolicy(ctx context.Context, q api.PolicyAsk) (*api.Challenge, error)
	SignPolicy(ctx context.Context, id string, s api.Signed) (*api.PolicyState, error)
}

// SignPolicy has an owner's key sign the change that they have read.
func (a *Agent) SignPolicy(ctx context.Context, to Policies, q api.PolicyAsk) (*api.PolicyState, error) {
	s, err := a.sign(ctx, func() (*api.Challenge, error) {
		return to.AskPolicy(ctx, q)
	}, func(ch *api.Challenge) (statement.Statement, error) {
		return CheckPolicy(ch, q, a.cfg.Seen())
	})
	if err != nil {
		return nil, err
	}
	return to.SignPolicy(ctx, s.id, api.Signed{SSHSIG: s.armor})
}

// CheckPolicy holds the statement of a change of the policy against what the owner has read.
func CheckPolicy(ch *api.Challenge, q api.PolicyAsk, seen Seen) (*statement.Policy, error) {
	var s statement.Policy
	if err := open(ch, &s, seen); err != nil {
		return nil, err
	}
	if err := compare([]field{
		{"person", string(s.Person), q.Person},
		{"policy", s.Policy, q.Policy},
		{"previous", s.Previous, q.Previous},
		{"changes", s.Changes, q.Changes},
	}); err != nil {
		return nil, err
	}
	_, err := sources(s.Sources)
	return &s, err
}
