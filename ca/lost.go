package ca

import (
	"context"
	"fmt"
	"net/netip"
	"slices"

	"breakglass/ca/api"
	"breakglass/ca/state"
	"breakglass/internal/statement"
	"breakglass/ledger"
)

// lose makes the statement of a loss.
func (c *CA) lose(ctx context.Context, q *api.LossAsk, from netip.Addr) (*api.Challenge, error) {
	if err := isFingerprint(q.Key); err != nil {
		return nil, badRequest("%v", err)
	}
	if len(q.Reason) > maxOrderReason {
		return nil, badRequest("reason: want one of at most %d bytes", maxOrderReason)
	}
	return c.begin(ctx, q.Person, from, &statement.Loss{Key: q.Key, Reason: q.Reason}, nil)
}

// signLoss revokes a person's key on their own word, at once: whatever it opened ends with it.
func (c *CA) signLoss(ctx context.Context, id, armored string, from netip.Addr) (*api.LossState, error) {
	out := &api.LossState{}
	err := c.finish(ctx, id, armored, from, statement.KindLoss, func(tx *state.Tx, a *act) (outcome, error) {
		st := a.ch.st.(*statement.Loss)
		*out = api.LossState{}
		keys, err := tx.Keys(a.key.Person)
		if err != nil {
			return outcome{}, err
		}
		n := slices.IndexFunc(keys, func(k state.Key) bool { return k.Fingerprint == st.Key })
		switch {
		case n < 0: // another person's is none of theirs, and whether there is such a key is not theirs to know
			return outcome{}, &api.Problem{Status: 404, Code: api.CodeNotFound, Detail: fmt.Sprintf("%s has no key %s", a.key.Person, st.Key), Next: []string{"breakglass keys"}}
		case st.Key == a.key.Fingerprint:
			return outcome{}, &api.Problem{Status: 409, Code: api.CodeOtherKey, Detail: fmt.Sprintf("%s signed for its own loss: it is not lost", a.key.Name), Next: []string{"sign with another key of yours, or have an operator revoke it"}}
		}
		why := "lost"
		if st.Reason != "" {
			why += ": " + st.Reason
		}
		o, stopped, err := c.revocation(tx, &ledger.Revoked{What: ledger.RevokedKey, Target: st.Key, Why: why, How: ledger.RevokedByLoss})
		if err != nil {
			return o, err
		}
		o.subject.Key = st.Key
		out.Key, out.Stopped, out.Required = keys[n].Name, stopped, c.policy.Load().Enrolment.KeysRequired
		keys[n].Revoked = true
		out.Counting = c.counting(keys, c.now())
		return o, nil
	})
	if err != nil {
		return nil, err
	}
	c.toldStopped(out.Stopped)
	return out, nil
}
