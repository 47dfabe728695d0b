package ca

import (
	"time"

	"breakglass/ca/state"
	"breakglass/internal/name"
	"breakglass/policy"
)

// circumstances are what the policy wants to know of a person and the key that signed: where its enrolment stands, and what wants an
// approval more. It reads the state and the time, and decides nothing.
func (c *CA) circumstances(tx *state.Tx, p name.Person, k state.Key, now time.Time) (policy.KeyState, []policy.Added, error) {
	return c.keyState(k, now), nil, nil
}

// keyState is where a key's enrolment stands.
func (c *CA) keyState(k state.Key, now time.Time) policy.KeyState {
	if k.Suspended {
		return policy.KeySuspended
	}
	return policy.KeyLive
}
