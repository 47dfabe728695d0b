package ca

import (
	"context"
	"errors"
	"net/netip"
	"time"

	"golang.org/x/crypto/ssh"

	"breakglass/ca/api"
	"breakglass/ca/state"
	"breakglass/internal/statement"
	"breakglass/ledger"
)

// PassLifetime is how long a pass reads.
const PassLifetime = 15 * time.Minute

func passNeeded() *api.Problem {
	return &api.Problem{Status: 401, Code: api.CodePass, Detail: "reading takes a pass", Next: []string{"breakglass sessions (asks your key for one)"}}
}

// pass makes the statement of a pass.
func (c *CA) pass(ctx context.Context, q *api.PassAsk, from netip.Addr) (*api.Challenge, error) {
	holder, err := parseKey(q.Holder)
	if err != nil || holder.Type() != ssh.KeyAlgoED25519 {
		return nil, badRequest("holder: want an ssh-ed25519 public key")
	}
	st := &statement.Pass{Holder: authorized(holder), Sources: []string{from.String()}}
	return c.begin(ctx, q.Person, from, st, func(h statement.Head) { st.Until = h.Issued.Add(PassLifetime) })
}

func (c *CA) signPass(ctx context.Context, id, armored string, from netip.Addr) (*api.PassState, error) {
	out := &api.PassState{}
	err := c.finish(ctx, id, armored, from, statement.KindPass, func(tx *state.Tx, a *act) (outcome, error) {
		st := a.ch.st.(*statement.Pass)
		if p, err := c.mayPass(tx, a); err != nil || p != nil {
			if p != nil {
				err = p
			}
			return outcome{}, err
		}
		if _, err := tx.PassOf(st.Holder); !errors.Is(err, state.ErrNotFound) {
			return outcome{}, errors.Join(err, &api.Problem{Status: 409, Code: api.CodeConflict, Detail: "that key holds a pass already"})
		}
		// A grant's client key lies where ssh can use it: it never reads more than its own request.
		holder, err := parseKey(st.Holder)
		if err != nil {
			return outcome{}, err
		}
		if used, err := tx.IsClientKey(ssh.FingerprintSHA256(holder)); err != nil || used {
			return outcome{}, errors.Join(err, &api.Problem{Status: 409, Code: api.CodeConflict, Detail: "that key is a grant's client key: a pass takes a key of its own"})
		}
		out.Pass, out.Until = st.ID, st.Until
		return outcome{facts: &ledger.PassGranted{Pass: st.ID, Holder: st.Holder, Until: ledger.At(st.Until), Sources: st.Sources, Touch: a.ledgerTouch()}}, nil
	})
	return out, err
}
