package agent

import (
	"context"
	"slices"

	"breakglass/ca/api"
	"breakglass/internal/statement"
)

// Found has an owner's key sign the first policy and the first keys.
func (a *Agent) Found(ctx context.Context, q api.FoundingAsk) (*api.FoundingState, error) {
	s, err := a.sign(ctx, func() (*api.Challenge, error) {
		return a.cfg.CA.Found(ctx, q)
	}, func(ch *api.Challenge) (statement.Statement, error) {
		return CheckFounding(ch, q, a.cfg.Seen())
	})
	if err != nil {
		return nil, err
	}
	return a.cfg.CA.SignFounding(ctx, s.id, api.Signed{SSHSIG: s.armor})
}

// CheckFounding holds a founding's statement against what the owner has read.
func CheckFounding(ch *api.Challenge, q api.FoundingAsk, seen Seen) (*statement.Founding, error) {
	var s statement.Founding
	if err := open(ch, &s, seen); err != nil {
		return nil, err
	}
	if err := compare([]field{
		{"person", string(s.Person), q.Person},
		{"policy", s.Policy, q.Policy},
		{"profile", s.Profile, seen.Site.Profile},
	}); err != nil {
		return nil, err
	}
	var owners []string
	for _, o := range q.Owners {
		owners = append(owners, string(o))
	}
	if !slices.Equal(s.Owners, owners) {
		return nil, differs("owners", s.Owners, owners)
	}
	if !slices.Equal(s.Keys, q.Keys) {
		return nil, differs("keys", s.Keys, q.Keys)
	}
	return &s, nil
}
