package ca

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"breakglass/ca/api"
	"breakglass/ca/state"
	"breakglass/internal/name"
	"breakglass/internal/statement"
	"breakglass/ledger"
)

// This file lifts what a person can't lift alone: a key's suspension (its counter went back), the lock of codes, and a device that makes codes and is
// gone. The approval signs the hash of the entry that it lifts, so one that was given for yesterday's suspension says nothing of today's.

// totpTarget is what an approval about a person's codes is of: "totp:" and the person.
const totpTarget = "totp:"

// liftable is what an approval about unlocking may be of, as of now.
type liftable struct {
	person name.Person
	key    *state.Key // of a suspension
	lifts  statement.Hash
	reset  bool // of codes: the device, not the lock
	seen   uint32
	device name.Key
}

// liftable finds what st names; a refusal is an *api.Problem.
func (c *CA) liftable(tx *state.Tx, st *statement.Approval) (*liftable, error) {
	gone := &api.Problem{Status: 409, Code: api.CodeNotLocked, Detail: "that is not locked (any more), or it was locked again since: look what is to be lifted now", Next: []string{"breakglass approve " + unlockArg(st.Of)}}
	if who, ok := strings.CutPrefix(st.Of, totpTarget); ok {
		t, err := tx.TOTP(name.Person(who))
		switch {
		case errors.Is(err, state.ErrNotFound):
			return nil, gone
		case err != nil:
			return nil, err
		case st.Hash == t.Enrolled:
			return &liftable{person: name.Person(who), lifts: t.Enrolled, reset: true, device: t.Device}, nil
		case st.Hash == t.Locked && c.now().Before(t.LockedUntil):
			return &liftable{person: name.Person(who), lifts: t.Locked, device: t.Device}, nil
		}
		return nil, gone
	}
	k, err := tx.Key(st.Of)
	if errors.Is(err, state.ErrNotFound) || err == nil && (!k.Suspended || k.Revoked) {
		return nil, gone
	} else if err != nil {
		return nil, err
	}
	s, err := tx.Suspension(st.Of)
	if errors.Is(err, state.ErrNotFound) || err == nil && s.Entry != st.Hash {
		return nil, gone
	}
	return &liftable{person: k.Person, key: &k, lifts: s.Entry, seen: s.Seen}, err
}

// unlockArg is how a person names the thing to `breakglass approve`.
func unlockArg(of string) string {
	if strings.HasPrefix(of, totpTarget) {
		return of
	}
	return "key:" + of
}

// unlockApprovers are those who lift: the policy's approvers of what circumstances add, or, where it names none, its owners.
func (c *CA) unlockApprovers() []name.Person {
	p := c.policy.Load()
	if len(p.Always.Approvers) > 0 {
		return p.Always.Approvers
	}
	return p.Site.Owners
}

// approveUnlock judges a yes or no. A suspended key is lifted by the person's other key at once, or by two approvers; codes by two approvers
// alone: a stolen key shall not take the other factor away.
func (c *CA) approveUnlock(tx *state.Tx, a *act, st *statement.Approval, out *api.ApprovalState) (outcome, error) {
	l, err := c.liftable(tx, st)
	if err != nil {
		return outcome{}, err
	}
	key, p := c.counts(a.key)
	if p != nil {
		return outcome{}, p
	}
	own := st.Person == l.person
	if own && l.key == nil {
		return outcome{}, &api.Problem{Status: 403, Code: api.CodeOwnRequest, Detail: "your own codes are lifted by others: " + people(c.others(l.person)), Next: []string{"ask one of them: breakglass approve " + unlockArg(st.Of)}}
	}
	if !own && !slices.Contains(c.unlockApprovers(), st.Person) {
		return outcome{}, &api.Problem{Status: 403, Code: api.CodeNotApprover, Detail: fmt.Sprintf("%s may not lift that: these may: %s", st.Person, people(c.others(l.person)))}
	}
	o := outcome{facts: a.given(st, key), subject: ledger.Subject{Person: st.Person, Key: a.key.Fingerprint}}
	out.State, out.Needed = "pending", ledger.UnlockApprovers
	if own {
		out.Needed = 1
	}
	if st.Verdict != statement.Approve {
		return o, nil
	}
	o.then = func(tx *state.Tx) error {
		by := []name.Person{st.Person}
		if !own {
			var err error
			if by, err = c.lifters(tx, st, l); err != nil {
				return err
			}
		}
		if out.Given = len(by); len(by) < out.Needed {
			return nil
		}
		out.State = "unlocked"
		return c.lift(tx, l, by, own)
	}
	return o, nil
}

func (c *CA) others(p name.Person) []name.Person {
	return slices.DeleteFunc(slices.Clone(c.unlockApprovers()), func(o name.Person) bool { return o == p })
}

// lifters are the approvers whose yes to exactly this entry counts now: while the key that signed it does.
func (c *CA) lifters(tx *state.Tx, st *statement.Approval, l *liftable) ([]name.Person, error) {
	said, err := tx.Approvals(st.About, st.Of)
	if err != nil {
		return nil, err
	}
	var by []name.Person
	for _, s := range said {
		if s.Verdict != statement.Approve || !c.now().Before(s.Until) || s.Person == l.person || !slices.Contains(c.unlockApprovers(), s.Person) {
			continue
		}
		k, err := tx.Key(s.Key)
		if err != nil {
			return nil, err
		}
		if _, p := c.counts(k); p != nil {
			continue
		}
		b, err := tx.Entry(s.Index)
		if err != nil {
			return nil, err
		}
		e, err := ledger.Decode(b)
		if err != nil {
			return nil, err
		}
		if f, ok := e.Facts.(*ledger.ApprovalGiven); ok && f.Hash == l.lifts {
			by = append(by, s.Person)
		}
	}
	return by, nil
}

func (c *CA) lift(tx *state.Tx, l *liftable, by []name.Person, own bool) error {
	s := ledger.Subject{Person: l.person}
	var f ledger.Facts
	switch {
	case l.key != nil:
		how := "approvers"
		if own {
			how = "other_key"
		}
		s.Key = l.key.Fingerprint
		f = &ledger.KeyUnlocked{How: how, Approved: by, Lifts: l.lifts, Seen: l.seen}
	case l.reset:
		f = &ledger.TOTPRemoved{Device: l.device, How: "approvers", Approved: by, Lifts: l.lifts}
	default:
		f = &ledger.TOTPUnlocked{Approved: by, Lifts: l.lifts}
	}
	_, _, err := tx.Append(c.entry(ledger.ActorCA, s, f))
	return err
}

// unlocks lists what there is to lift, each with the entry that an approval signs. It takes a pass.
func (c *CA) unlocks(ctx context.Context, who *caller) (*api.Unlocks, error) {
	if who == nil || who.person == "" {
		return nil, passNeeded()
	}
	out := &api.Unlocks{Unlocks: []api.Unlock{}}
	return out, c.state.View(ctx, func(tx *state.Tx) error {
		head, note, err := tx.Head()
		if err != nil {
			return err
		}
		out.Checkpoint = note
		all, err := tx.Liftable()
		if err != nil {
			return err
		}
		for _, l := range all {
			u := api.Unlock{Of: l.Of, What: l.What, Person: l.Person, Name: l.Name}
			if l.What == api.UnlockCodes && !c.now().Before(l.Until) {
				continue
			}
			if u.Entry, err = proven(tx, head.Size, l.Index); err != nil {
				return err
			}
			if u.Approvers = c.others(l.Person); l.What == api.UnlockKey {
				u.Own = true
			}
			out.Unlocks = append(out.Unlocks, u)
		}
		return nil
	})
}
