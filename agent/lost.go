package agent

import (
	"context"

	"breakglass/ca/api"
	"breakglass/internal/statement"
)

// Lose reports a key as lost; any other of the person's keys signs for it.
func (a *Agent) Lose(ctx context.Context, q api.LossAsk) (*api.LossState, error) {
	s, err := a.sign(ctx, func() (*api.Challenge, error) {
		ch, err := a.cfg.CA.Lose(ctx, q)
		return only(ch, err, func(fp string) bool { return fp != q.Key })
	}, func(ch *api.Challenge) (statement.Statement, error) {
		return CheckLoss(ch, q, a.cfg.Seen())
	})
	if err != nil {
		return nil, err
	}
	return a.cfg.CA.SignLoss(ctx, s.id, api.Signed{SSHSIG: s.armor})
}

// CheckLoss holds a loss's statement against what was asked for: a CA that put another key there would have the person cut off the one in
// their hand.
func CheckLoss(ch *api.Challenge, q api.LossAsk, seen Seen) (*statement.Loss, error) {
	var s statement.Loss
	if err := open(ch, &s, seen); err != nil {
		return nil, err
	}
	return &s, compare([]field{{"person", string(s.Person), q.Person}, {"key", s.Key, q.Key}, {"reason", s.Reason, q.Reason}})
}
