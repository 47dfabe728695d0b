package agent

import (
	"context"
	"fmt"

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

// RecoveryOrders takes the order that sets the recovery key; *client.Client is one.
type RecoveryOrders interface {
	Order(ctx context.Context, q api.OrderAsk) (*api.Challenge, error)
	SignRecovery(ctx context.Context, id string, s api.SignedOrder) (*api.OrderDone, error)
}

// SetRecovery has the operator's key order that recordings are sealed to exactly this recovery key.
func (a *Agent) SetRecovery(ctx context.Context, to RecoveryOrders, person, age, reason string) (*api.OrderDone, error) {
	q := api.OrderAsk{Person: person, Act: statement.OrderSetRecovery, Target: statement.RecipientFingerprint(age), Reason: reason}
	s, err := a.sign(ctx, func() (*api.Challenge, error) {
		return to.Order(ctx, q)
	}, func(ch *api.Challenge) (statement.Statement, error) {
		return CheckOrder(ch, q, a.cfg.Seen())
	})
	if err != nil {
		return nil, err
	}
	done, err := to.SignRecovery(ctx, s.id, api.SignedOrder{SSHSIG: s.armor, Recovery: age})
	if err != nil {
		return nil, err
	}
	if done.Act != q.Act || done.Target != q.Target {
		return nil, fmt.Errorf("%w: it carried out %s of %q", ErrAnswer, done.Act, done.Target)
	}
	return done, nil
}
