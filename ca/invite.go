package ca

import (
	"errors"
	"fmt"
	"time"

	"breakglass/ca/api"
	"breakglass/ca/state"
	"breakglass/internal/name"
	"breakglass/internal/statement"
	"breakglass/ledger"
)

// invitable says whether the policy knows whom or what an invite is for.
func (c *CA) invitable(kind, who string) *api.Problem {
	p := c.policy.Load()
	switch kind {
	case api.ForPerson:
		if _, ok := p.Person(name.Person(who)); ok {
			return nil
		}
		return &api.Problem{Status: 404, Code: api.CodeNotFound, Detail: fmt.Sprintf("%q is no person of the policy", who), Next: []string{"add [people." + who + "] to the policy"}}
	case api.ForJump:
		if _, ok := p.Jump(name.Jump(who)); ok {
			return nil
		}
		return &api.Problem{Status: 404, Code: api.CodeNotFound, Detail: fmt.Sprintf("%q is no jump of the policy", who), Next: []string{"add [jumps." + who + "] to the policy"}}
	}
	return badRequest("invite for %q", kind)
}

// orderInvite records an invite of which this CA knows the hash alone: the operator's client drew the secret, so whoever reads our log or stands
// on the line can't spend it.
func (c *CA) orderInvite(tx *state.Tx, o *order) (outcome, error) {
	kind := api.ForPerson
	if o.Act == statement.OrderInviteJump {
		kind = api.ForJump
	}
	if p := c.invitable(kind, o.Target); p != nil {
		return outcome{}, p
	}
	if _, err := tx.Invite(o.Detail); err == nil {
		return outcome{}, &api.Problem{Status: 409, Code: api.CodeConflict, Detail: "that secret was used for an invite before", Next: []string{"ask again"}}
	} else if !errors.Is(err, state.ErrNotFound) {
		return outcome{}, err
	}
	o.done.Expires = c.now().Add(inviteLifetime).Truncate(time.Second)
	out := outcome{facts: &ledger.InviteCreated{Invite: o.Detail, For: kind, Name: o.Target, Expires: ledger.At(o.done.Expires)}}
	if kind == api.ForJump {
		out.subject.Jump = name.Jump(o.Target)
	}
	return out, nil
}

// inviteArgs is what is typed after `breakglass-ca invite`.
func inviteArgs(kind, who string) string {
	if kind == api.ForJump {
		return "--jump " + who
	}
	return who
}
