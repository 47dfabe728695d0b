package ca

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"breakglass/ca/api"
	"breakglass/ca/state"
	"breakglass/internal/name"
	"breakglass/internal/statement"
	"breakglass/ledger"
	"breakglass/policy"
)

// This file founds a production site. Before it, nobody is there who could vouch for a key or adopt a policy; so each owner whom the first
// policy names signs, with a key of their own, the policy and the fingerprints of all keys enrolled so far. With the last owner's signature
// those keys count, at once: they vouch for each other. Whoever set up the CA can't do it without them, and they see everything they adopt.

// maxFoundingKeys keeps the statement, which names each key, within its limits. Who comes after is vouched for.
const maxFoundingKeys = 100

// founding is what there is to be founded now.
type founding struct {
	policy statement.Hash
	owners []name.Person
	keys   []state.Key
	signed []state.FoundingSigned // under exactly this, by keys that are among them
	stale  []name.Person
	short  []string // what is missing beside signatures
}

func (f *founding) fingerprints() []string {
	out := []string{}
	for _, k := range f.keys {
		out = append(out, k.Fingerprint)
	}
	return out
}

// toFound gathers it.
func (c *CA) toFound(tx *state.Tx) (*founding, error) {
	p := c.policy.Load()
	f := &founding{owners: p.Site.Owners}
	if err := f.policy.UnmarshalText([]byte(p.SHA256)); err != nil {
		return nil, err
	}
	all, err := tx.AllKeys()
	if err != nil {
		return nil, err
	}
	has := map[name.Person]int{}
	for _, k := range all {
		if _, known := p.Person(k.Person); known && !k.Suspended && !k.Revoked {
			f.keys = append(f.keys, k)
			has[k.Person]++
		}
	}
	for _, o := range f.owners {
		if n := p.Enrolment.KeysRequired - has[o]; n > 0 {
			f.short = append(f.short, fmt.Sprintf("%s has to enrol %d of %d keys", o, n, p.Enrolment.KeysRequired))
		}
	}
	if len(f.keys) > maxFoundingKeys {
		f.short = append(f.short, fmt.Sprintf("%d keys are enrolled, a founding names at most %d: revoke some, and enrol them after it", len(f.keys), maxFoundingKeys))
	}
	signed, err := tx.Foundings()
	if err != nil {
		return nil, err
	}
	for _, s := range signed {
		switch {
		case !slices.Contains(f.owners, s.Person):
		case s.Policy == f.policy.String() && slices.Equal(s.Owners, personTexts(f.owners)) && slices.Equal(s.Keys, f.fingerprints()) && slices.Contains(s.Keys, s.Key):
			f.signed = append(f.signed, s)
		default:
			f.stale = append(f.stale, s.Person)
		}
	}
	return f, nil
}

func personTexts(list []name.Person) []string {
	out := []string{}
	for _, p := range list {
		out = append(out, string(p))
	}
	return out
}

// state is what the owners, and local root, read of it.
func (f *founding) state(p *policy.Policy) *api.FoundingState {
	out := &api.FoundingState{Profile: string(p.Profile), Policy: f.policy, Owners: f.owners, Keys: f.fingerprints(),
		Signed: []name.Person{}, Stale: []name.Person{}, Missing: slices.Clone(f.short)}
	for _, s := range f.signed {
		out.Signed = append(out.Signed, s.Person)
	}
	for _, o := range f.owners {
		switch {
		case slices.Contains(out.Signed, o):
		case slices.Contains(f.stale, o):
			out.Stale = append(out.Stale, o)
			out.Missing = append(out.Missing, fmt.Sprintf("%s has to sign again: policy or keys have changed since (breakglass found)", o))
		default:
			out.Missing = append(out.Missing, fmt.Sprintf("%s has to sign (breakglass found)", o))
		}
	}
	return out
}

// FoundingState is what is missing until the site is founded; nil once it is.
func (c *CA) FoundingState(ctx context.Context) (out *api.FoundingState, err error) {
	err = c.state.View(ctx, func(tx *state.Tx) error {
		site, err := tx.Site()
		if err != nil || site.Founded {
			return err
		}
		f, err := c.toFound(tx)
		if err == nil {
			out = f.state(c.policy.Load())
		}
		return err
	})
	return out, err
}

func founded() *api.Problem {
	return &api.Problem{Status: 409, Code: api.CodeFounded, Detail: "this CA is founded"}
}

func notFounded() *api.Problem {
	return &api.Problem{Status: 403, Code: api.CodeNotFounded, Detail: "this CA is not founded yet: only enrolment works until its owners have adopted keys and policy",
		Next: []string{"each owner: breakglass found"}}
}

// mayFound says who may: an owner, with a key that is among those to be adopted, while there is something to found.
func (c *CA) mayFound(site state.Site, p name.Person) *api.Problem {
	switch {
	case site.Founded:
		return founded()
	case !slices.Contains(c.policy.Load().Site.Owners, p):
		return &api.Problem{Status: 403, Code: api.CodeNotOwner, Detail: fmt.Sprintf("the policy names no owner %s", p), Next: []string{"the owners found this CA; then it opens"}}
	}
	return nil
}

// mayPass says who gets a pass: whoever's key counts; before the founding an owner, who has to read what they adopt; and where too few are left
// who could vouch, those who have to vouch for each other.
func (c *CA) mayPass(tx *state.Tx, a *act) (*api.Problem, error) {
	site, err := tx.Site()
	if err != nil {
		return nil, err
	}
	if !site.Founded {
		return c.mayFound(site, a.key.Person), nil
	}
	s := c.keyState(a.key, c.now())
	if s != policy.KeyPending {
		return nil, nil
	}
	if scarce, err := c.scarce(tx, a.key.Person, c.now()); err != nil || scarce && late(a.key, s) {
		return nil, err
	}
	return keyStateProblem(a.key, s), nil
}

// reader is for whom a pass reads now: while the key that signed it counts; before the founding, for an owner, as founder.
func (c *CA) reader(tx *state.Tx, p state.Pass, now time.Time) (person, founder name.Person, err error) {
	k, err := tx.Key(p.Key)
	if err != nil {
		return "", "", err
	}
	if c.counted(k, now) {
		return p.Person, "", nil
	}
	if late(k, c.keyState(k, now)) {
		if scarce, err := c.scarce(tx, p.Person, now); err != nil || scarce {
			return p.Person, "", err
		}
	}
	site, err := tx.Site()
	if err != nil || c.keyState(k, now) != policy.KeyPending || c.mayFound(site, p.Person) != nil {
		return "", "", err
	}
	return "", p.Person, nil
}

// readFounding tells an owner what there is to be founded, with the entries that prove each key. It is all that a pass reads before it.
func (c *CA) readFounding(ctx context.Context, who *caller) (*api.FoundingState, error) {
	if who == nil || who.founder == "" {
		return nil, passNeeded()
	}
	var out *api.FoundingState
	return out, c.state.View(ctx, func(tx *state.Tx) error {
		site, err := tx.Site()
		if err != nil {
			return err
		}
		if p := c.mayFound(site, who.founder); p != nil {
			return p
		}
		f, err := c.toFound(tx)
		if err != nil {
			return err
		}
		out = f.state(c.policy.Load())
		head, note, err := tx.Head()
		if err != nil {
			return err
		}
		out.Checkpoint = note
		if out.Text, err = tx.PolicyText(f.policy); err != nil {
			return err
		}
		for _, k := range f.keys {
			e, err := proven(tx, head.Size, k.Index)
			if err != nil {
				return err
			}
			out.Entries = append(out.Entries, e)
		}
		return nil
	})
}

// found makes the statement of a founding, out of what the owner has read and asks for.
func (c *CA) found(ctx context.Context, q *api.FoundingAsk, from netip.Addr) (*api.Challenge, error) {
	if len(q.Keys) > maxFoundingKeys || len(q.Owners) > maxFoundingKeys {
		return nil, badRequest("more than %d keys or owners", maxFoundingKeys)
	}
	return c.begin(ctx, q.Person, from, &statement.Founding{Policy: q.Policy, Owners: personTexts(q.Owners), Keys: q.Keys, Profile: string(c.policy.Load().Profile)}, nil)
}

func (c *CA) signFounding(ctx context.Context, id, armored string, from netip.Addr) (*api.FoundingState, error) {
	var out *api.FoundingState
	err := c.finish(ctx, id, armored, from, statement.KindFounding, func(tx *state.Tx, a *act) (outcome, error) {
		st := a.ch.st.(*statement.Founding)
		site, err := tx.Site()
		if err != nil {
			return outcome{}, err
		}
		if p := c.mayFound(site, st.Person); p != nil {
			return outcome{}, p
		}
		f, err := c.toFound(tx)
		if err != nil {
			return outcome{}, err
		}
		if len(f.short) > 0 {
			return outcome{}, &api.Problem{Status: 409, Code: api.CodeFounding, Detail: f.short[0], Next: append(slices.Clone(f.short), "then: breakglass found")}
		}
		if st.Policy != f.policy || !slices.Equal(st.Owners, personTexts(f.owners)) || !slices.Equal(st.Keys, f.fingerprints()) || st.Profile != site.Site.Profile {
			return outcome{}, &api.Problem{Status: 409, Code: api.CodeOtherFounding, Detail: "policy, owners or keys are no longer those that were signed for", Next: []string{"breakglass found"}}
		}
		facts := &ledger.FoundingSigned{Policy: f.policy, Owners: f.owners, Keys: f.fingerprints(), Touch: a.ledgerTouch()}
		return outcome{facts: facts, then: func(tx *state.Tx) error {
			if f, err = c.toFound(tx); err != nil { // with this one
				return err
			}
			out = f.state(c.policy.Load())
			if out.Founded = len(out.Missing) == 0; !out.Founded {
				return nil
			}
			_, _, err := tx.Append(c.entry(ledger.ActorCA, ledger.Subject{}, &ledger.Founding{Policy: f.policy, Owners: f.owners, Keys: f.fingerprints(), How: "owners"}))
			return err
		}}, nil
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}
