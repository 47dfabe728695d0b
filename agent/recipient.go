package agent

import (
	"context"

	"breakglass/ca/api"
	"breakglass/internal/statement"
)

// Recipients takes a person's rotation; *client.Client is one.
type Recipients interface {
	Rotate(ctx context.Context, q api.RotationAsk) (*api.Challenge, error)
	SignRotation(ctx context.Context, id string, s api.Signed) (*api.RecipientState, error)
}

// Rotate has the person's key put a new age public key in the place of one of theirs.
func (a *Agent) Rotate(ctx context.Context, to Recipients, q api.RotationAsk) (*api.RecipientState, error) {
	s, err := a.sign(ctx, func() (*api.Challenge, error) {
		return to.Rotate(ctx, q)
	}, func(ch *api.Challenge) (statement.Statement, error) {
		return CheckRotation(ch, q, a.cfg.Seen())
	})
	if err != nil {
		return nil, err
	}
	return to.SignRotation(ctx, s.id, api.Signed{SSHSIG: s.armor})
}

// CheckRotation holds a rotation's statement against both age keys.
func CheckRotation(ch *api.Challenge, q api.RotationAsk, seen Seen) (*statement.ReadingRotation, error) {
	var s statement.ReadingRotation
	if err := open(ch, &s, seen); err != nil {
		return nil, err
	}
	return &s, compare([]field{
		{"person", string(s.Person), q.Person},
		{"old", s.Old, q.Old},
		{"age", s.Age, q.Age},
		{"sealed", s.Sealed, q.Sealed},
	})
}
