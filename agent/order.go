package agent

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"fmt"

	"breakglass/ca/api"
	"breakglass/internal/statement"
)

// Orders takes operators' orders; *client.Client is one.
type Orders interface {
	Order(ctx context.Context, q api.OrderAsk) (*api.Challenge, error)
	SignOrder(ctx context.Context, id string, s api.SignedOrder) (*api.OrderDone, error)
}

// Order has the operator's key sign an order, and the CA carry it out.
func (a *Agent) Order(ctx context.Context, to Orders, q api.OrderAsk) (*api.OrderDone, error) {
	return a.order(ctx, to, q, api.SignedOrder{})
}

// order is Order with what goes beside the signature.
func (a *Agent) order(ctx context.Context, to Orders, q api.OrderAsk, beside api.SignedOrder) (*api.OrderDone, error) {
	s, err := a.sign(ctx, func() (*api.Challenge, error) {
		return to.Order(ctx, q)
	}, func(ch *api.Challenge) (statement.Statement, error) {
		return CheckOrder(ch, q, a.cfg.Seen())
	})
	if err != nil {
		return nil, err
	}
	beside.SSHSIG = s.armor
	done, err := to.SignOrder(ctx, s.id, beside)
	if err != nil {
		return nil, err
	}
	if done.Act != q.Act || done.Target != q.Target {
		return nil, fmt.Errorf("%w: it carried out %s of %q", ErrAnswer, done.Act, done.Target)
	}
	return done, nil
}

// Import has the operator's key sign that exactly this text of hosts is added to exactly that policy, and the CA add it. The SHA-256s are of the
// policy's text before and after.
func (a *Agent) Import(ctx context.Context, to Orders, person, hosts string, before, after statement.Hash) (*api.OrderDone, error) {
	q := api.OrderAsk{Person: person, Act: statement.OrderImportHosts, Target: statement.ImportTarget(before, after), Detail: sha256.Sum256([]byte(hosts))}
	return a.order(ctx, to, q, api.SignedOrder{Hosts: []byte(hosts)})
}

// SetRecovery has the operator's key order that recordings are sealed to exactly this recovery key.
func (a *Agent) SetRecovery(ctx context.Context, to Orders, person, age, reason string) (*api.OrderDone, error) {
	q := api.OrderAsk{Person: person, Act: statement.OrderSetRecovery, Target: statement.RecipientFingerprint(age), Reason: reason}
	return a.order(ctx, to, q, api.SignedOrder{Recovery: age})
}

// ChangeWitnesses has the operator's key order that the site has exactly these witnesses.
func (a *Agent) ChangeWitnesses(ctx context.Context, to Orders, person string, list []string, reason string) (*api.OrderDone, error) {
	q := api.OrderAsk{Person: person, Act: statement.OrderChangeWitnesses, Target: statement.WitnessesFingerprint(list), Reason: reason}
	return a.order(ctx, to, q, api.SignedOrder{Witnesses: list})
}

// CheckOrder holds an order's statement against what the operator typed.
func CheckOrder(ch *api.Challenge, q api.OrderAsk, seen Seen) (*statement.Order, error) {
	var s statement.Order
	if err := open(ch, &s, seen); err != nil {
		return nil, err
	}
	if err := compare([]field{
		{"person", string(s.Person), q.Person},
		{"act", s.Act, q.Act},
		{"target", s.Target, q.Target},
		{"reason", s.Reason, q.Reason},
		{"detail", s.Detail, q.Detail},
	}); err != nil {
		return nil, err
	}
	_, err := sources(s.Sources)
	return &s, err
}

// Invite has the operator's key order an invite, and gives the token. Its secret is drawn here and never leaves but in the token: the CA
// knows the hash. pins are what this machine trusts, for the token pins the same.
func (a *Agent) Invite(ctx context.Context, to Orders, person, kind, who string, pins api.Pins) (api.Token, error) {
	var secret [32]byte
	rand.Read(secret[:])
	act := statement.OrderInvitePerson
	if kind == api.ForJump {
		act = statement.OrderInviteJump
	}
	done, err := a.Order(ctx, to, api.OrderAsk{Person: person, Act: act, Target: who, Detail: sha256.Sum256(secret[:])})
	if err != nil {
		return api.Token{}, err
	}
	return api.Token{Pins: pins, For: kind, Name: who, Secret: base64.RawURLEncoding.EncodeToString(secret[:]), Expires: done.Expires}, nil
}
