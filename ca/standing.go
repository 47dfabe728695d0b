package ca

import (
	"context"

	"breakglass/ca/state"
	"breakglass/internal/name"
	"breakglass/internal/statement"
	"breakglass/policy"
)

// Standing is what the CA knows of a person now that a decision about them would look at: for its administration, never for the network.
type Standing struct {
	Person name.Person     `json:"person"`
	Keys   []KeyStanding   `json:"keys"`
	Added  []policy.Added  `json:"added,omitempty"`
	OnCall []policy.OnCall `json:"oncall,omitempty"`
	Live   policy.Live     `json:"live,omitzero"`
}

// KeyStanding is one enrolled key and where its enrolment stands.
type KeyStanding struct {
	Name        name.Key        `json:"name"`
	Fingerprint string          `json:"fingerprint"`
	State       policy.KeyState `json:"state"`
}

// Standing gathers the facts about a person as a request of now would find them.
func (c *CA) Standing(ctx context.Context, person name.Person) (*Standing, error) {
	out := &Standing{Person: person, Keys: []KeyStanding{}}
	p, now := c.policy.Load(), c.now()
	out.OnCall = c.onCall.facts(p, person, now)
	return out, c.state.View(ctx, func(tx *state.Tx) error {
		keys, err := tx.Enrolled(person)
		if err != nil {
			return err
		}
		for _, k := range keys {
			out.Keys = append(out.Keys, KeyStanding{k.Name, k.Fingerprint, c.keyState(k, now)})
		}
		if _, out.Added, err = c.circumstances(tx, person, state.Key{}, now); err != nil {
			return err
		}
		out.Live, err = live(tx, p, &statement.Request{Request: statement.RequestNew, Person: person}, now)
		return err
	})
}

// KeysThatCount says of each person of the policy how many of their keys count now.
func (c *CA) KeysThatCount(ctx context.Context) (map[name.Person]int, error) {
	out := map[name.Person]int{}
	now := c.now()
	return out, c.state.View(ctx, func(tx *state.Tx) error {
		for _, person := range c.policy.Load().People() {
			keys, err := tx.Enrolled(person)
			if err != nil {
				return err
			}
			out[person] = c.counting(keys, now)
		}
		return nil
	})
}
