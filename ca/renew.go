package ca

import (
	"context"
	"fmt"
	"net/netip"

	"golang.org/x/crypto/ssh"

	"breakglass/ca/api"
	"breakglass/ca/state"
	"breakglass/internal/name"
	"breakglass/internal/statement"
	"breakglass/ledger"
	"breakglass/policy"
)

// This file keeps enrolments alive: every key of a person has to be touched, so that a lost one is missed in time and not on the night when it
// counts. Keys are kept apart, so a proof holds for some days, and the touches may be given in two places.

// renewing are the keys of a person that have to prove that they are there: all but the revoked, and those for which nobody ever vouched
// (anybody with an invite could keep a person from renewing with one of those).
func renewing(keys []state.Key) (out []state.Key) {
	for _, k := range keys {
		if !k.Revoked && k.Vouched {
			out = append(out, k)
		}
	}
	return out
}

func (c *CA) renew(ctx context.Context, q *api.RenewalAsk, from netip.Addr) (*api.Challenge, error) {
	if err := isFingerprint(q.Key); err != nil {
		return nil, badRequest("%v", err)
	}
	person, err := name.ParsePerson(q.Person)
	if err != nil {
		return nil, badRequest("%v", err)
	}
	st := &statement.Renewal{Key: q.Key}
	// Those that a challenge shows to everybody anyway, decoys for unknown names.
	r, err := c.roster(ctx)
	if err != nil {
		return nil, err
	}
	handles, _, err := c.handles(r, person)
	if err != nil {
		return nil, err
	}
	for _, h := range handles {
		k, err := parseKey(h.PublicKey)
		if err != nil {
			return nil, err
		}
		st.Keys = append(st.Keys, ssh.FingerprintSHA256(k))
	}
	return c.begin(ctx, q.Person, from, st, nil)
}

func (c *CA) signRenewal(ctx context.Context, id, armored string, from netip.Addr) (*api.RenewalState, error) {
	out := &api.RenewalState{}
	err := c.finish(ctx, id, armored, from, statement.KindRenewal, func(tx *state.Tx, a *act) (outcome, error) {
		*out = api.RenewalState{Keys: []api.RenewalKey{}}
		if st := a.ch.st.(*statement.Renewal); st.Key != a.key.Fingerprint {
			return outcome{}, &api.Problem{Status: 409, Code: api.CodeOtherKey, Detail: fmt.Sprintf("%s signed, the statement is for another key", a.key.Name), Next: []string{"breakglass renew"}}
		}
		return outcome{facts: &ledger.KeyProved{Touch: a.ledgerTouch()}, then: func(tx *state.Tx) error { return c.renewed(tx, a.key.Person, out) }}, nil
	})
	return out, err
}

// renewed begins the person's time anew, once every key has proved that it is there.
func (c *CA) renewed(tx *state.Tx, p name.Person, out *api.RenewalState) error {
	keys, err := tx.Keys(p)
	if err != nil {
		return err
	}
	now := c.now()
	f := &ledger.EnrolmentRenewed{}
	missing := false
	for _, k := range renewing(keys) {
		s := c.keyState(k, now)
		r := api.RenewalKey{Name: k.Name, Fingerprint: k.Fingerprint, State: s.String(), Proved: k.Proved.UTC(), Missing: k.Suspended || now.Sub(k.Proved) > ledger.ProofCounts}
		missing = missing || r.Missing
		out.Keys = append(out.Keys, r)
		f.Keys = append(f.Keys, k.Fingerprint)
		if s == policy.KeyLapsed || s == policy.KeyPending && k.CountsFrom.IsZero() {
			f.Lapsed = append(f.Lapsed, k.Fingerprint)
			out.Vouch = append(out.Vouch, k.Name)
		}
	}
	if missing || len(f.Keys) == 0 {
		out.Vouch = nil
		return nil
	}
	e := c.entry(ledger.ActorCA, ledger.Subject{Person: p}, f)
	f.Until = ledger.At(e.Time.Add(c.policy.Load().Enrolment.Renew))
	out.Renewed, out.Until = true, f.Until.Time
	_, _, err = tx.Append(e)
	return err
}
