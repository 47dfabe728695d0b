package ca

import (
	"fmt"
	"time"

	"breakglass/ca/api"
	"breakglass/ca/state"
	"breakglass/internal/name"
	"breakglass/internal/statement"
	"breakglass/ledger"
	"breakglass/policy"
)

// circumstances are what the policy wants to know of a person and the key that signed: where its enrolment stands, and what wants an
// approval more. It reads the state and the time, and decides nothing.
func (c *CA) circumstances(tx *state.Tx, p name.Person, k state.Key, now time.Time) (policy.KeyState, []policy.Added, error) {
	var added []policy.Added
	keys, err := tx.Enrolled(p)
	if err != nil {
		return policy.KeyUnknown, nil, err
	}
	if c.counting(keys, now) < c.policy.Load().Enrolment.KeysRequired {
		added = append(added, policy.AddedKeysShort)
	}
	locked, err := c.lockedOut(tx, p, now)
	if err != nil {
		return policy.KeyUnknown, nil, err
	}
	return c.keyState(k, now), append(added, locked...), nil
}

// keyState is where a key's enrolment stands, by the policy and the time of now. It is nowhere written down: whoever acts on it asks here.
func (c *CA) keyState(k state.Key, now time.Time) policy.KeyState {
	switch {
	case k.Revoked:
		return policy.KeyRevoked
	case k.Suspended:
		return policy.KeySuspended
	case k.CountsFrom.IsZero() || now.Before(k.CountsFrom):
		return policy.KeyPending
	}
	e := c.policy.Load().Enrolment
	switch age := now.Sub(k.Since); {
	case age < e.Renew:
		return policy.KeyLive
	case age < e.Renew+e.Grace:
		return policy.KeyInGrace
	}
	return policy.KeyLapsed
}

// counting is how many of the keys count now, those in their grace too.
func (c *CA) counting(keys []state.Key, now time.Time) (n int) {
	for _, k := range keys {
		if c.counted(k, now) {
			n++
		}
	}
	return n
}

func (c *CA) counted(k state.Key, now time.Time) bool {
	s := c.keyState(k, now)
	return s == policy.KeyLive || s == policy.KeyInGrace
}

// enrolmentUntil is when the first of a person's keys that count has to have been renewed; the zero time if none counts.
func (c *CA) enrolmentUntil(keys []state.Key, now time.Time) (until time.Time) {
	for _, k := range keys {
		end := k.Since.Add(c.policy.Load().Enrolment.Renew)
		if c.counted(k, now) && (until.IsZero() || end.Before(until)) {
			until = end
		}
	}
	return until
}

// tellEnrolment puts into a grant's answer when its person has to renew.
func (c *CA) tellEnrolment(tx *state.Tx, g *api.Granted) error {
	keys, err := tx.Enrolled(g.Person)
	if until := c.enrolmentUntil(keys, c.now()); !until.IsZero() {
		g.Enrolment = until.UTC()
	}
	return err
}

// standing says what speaks against a key signing acts of that kind at all, by where its enrolment stands. Requests ask the policy instead,
// which says the same (request.go).
func (c *CA) standing(tx *state.Tx, a *act, now time.Time) (*api.Problem, error) {
	k, kind := a.key, a.ch.st.Kind()
	s := c.keyState(k, now)
	if v, ok := a.ch.st.(*statement.Approval); ok && v.About == statement.AboutEnrolment && late(k, s) {
		if scarce, err := c.scarce(tx, k.Person, now); err != nil || scarce {
			return nil, err
		}
	}
	switch {
	case s == policy.KeyLive, s == policy.KeyInGrace:
		return nil, nil
	case kind == statement.KindFounding && s == policy.KeyPending: // nobody is there yet who could vouch
		return nil, nil
	case kind == statement.KindPass && s == policy.KeyPending: // signPass looks: mayPass
		return nil, nil
	case kind == statement.KindRenewal && (s == policy.KeyLapsed || s == policy.KeyPending): // that is what it is for
		return nil, nil
	case kind == statement.KindLoss && s == policy.KeyLapsed: // it only takes away
		return nil, nil
	}
	return keyStateProblem(k, s), nil
}

// late says that a key counted once, lapsed, and was renewed after its grace with all others of its person: it waits for being vouched for.
func late(k state.Key, s policy.KeyState) bool {
	return s == policy.KeyPending && k.Vouched && k.CountsFrom.IsZero()
}

// scarce says whether too few other people's keys count to vouch for a key of p's: when a whole site let its enrolments lapse. Then those that
// were renewed late vouch for each other, or nobody would ever get in again; it takes as many people, all their keys, and the cooling off.
func (c *CA) scarce(tx *state.Tx, p name.Person, now time.Time) (bool, error) {
	all, err := tx.AllKeys()
	if err != nil {
		return false, err
	}
	others := map[name.Person]bool{}
	for _, k := range all {
		if _, known := c.policy.Load().Person(k.Person); known && k.Person != p && c.counted(k, now) {
			others[k.Person] = true
		}
	}
	return len(others) < ledger.Vouchers, nil
}

// keyStateProblem is what the holder of a key that doesn't count reads.
func keyStateProblem(k state.Key, s policy.KeyState) *api.Problem {
	p := &api.Problem{Status: 403}
	switch s {
	case policy.KeyPending:
		p.Code, p.Detail = string(policy.KeyIsPending), fmt.Sprintf("key %s of %s does not count yet: nobody has vouched for it", k.Name, k.Person)
		p.Next = []string{"have it vouched for: another key of yours, or two people: breakglass vouch " + string(k.Person) + " " + string(k.Name)}
		if !k.CountsFrom.IsZero() {
			p.Detail = fmt.Sprintf("key %s of %s does not count yet: it is cooling off until %s", k.Name, k.Person, k.CountsFrom.UTC().Format(time.RFC3339))
			p.Next = []string{"use another key of yours, or wait"}
		}
	case policy.KeyLapsed:
		p.Code, p.Detail = string(policy.KeyIsLapsed), fmt.Sprintf("the enrolment of %s's %s has lapsed", k.Person, k.Name)
		p.Next = []string{"breakglass renew", "then have two others vouch for it: breakglass vouch " + string(k.Person)}
	case policy.KeyRevoked:
		p.Code, p.Detail = string(policy.KeyIsRevoked), fmt.Sprintf("key %s of %s is revoked", k.Name, k.Person)
		p.Next = []string{"use another key of yours: breakglass keys"}
	default:
		p.Code, p.Detail = string(policy.KeyIsSuspended), fmt.Sprintf("key %s of %s is suspended", k.Name, k.Person)
		p.Next = []string{"use your other key", "two approvers can lift it"}
	}
	return p
}
