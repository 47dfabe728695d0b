package ca

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"breakglass/ca/api"
	"breakglass/ca/state"
	"breakglass/internal/name"
	"breakglass/internal/statement"
	"breakglass/ledger"
	"breakglass/policy"
)

// This file lets a key count: by the person with another key of theirs, or by other people, who heard its fingerprint from its holder. Nobody
// who runs the CA can do it alone; and between the last yes and the first use lies the policy's time of cooling off, for the person to see the
// alert and report a key that isn't theirs (lost.go).

// lost says whether a person whose keys these are had some that counted, and has none now: a new key then stands for all that they may do.
func (c *CA) lost(keys []state.Key, but string, now time.Time) bool {
	had := false
	for _, k := range keys {
		if k.Fingerprint == but {
			continue
		}
		if c.counted(k, now) {
			return false
		}
		had = had || k.Vouched
	}
	return had
}

// vouchers is how many others have to stand for k now. keys are all of its person's.
func (c *CA) vouchers(k state.Key, keys []state.Key, now time.Time) (needed int, recovery bool) {
	if k.Vouched { // it counted once and was renewed too late: it is the person's, as all keys that they have proved just now
		return ledger.Vouchers, false
	}
	if recovery = c.lost(keys, k.Fingerprint, now); recovery && !k.Code {
		return ledger.RecoveryVouchers, true
	}
	return ledger.Vouchers, recovery
}

// recovers judges an enrolment of somebody who has lost every key that they had. Where they have a device that makes codes, one has to come with the
// new key: whoever only has their mailbox, and so the invite, has no such device. In a demo, where nobody vouches, it is written down only.
func (c *CA) recovers(tx *state.Tx, p name.Person, code string, f *ledger.KeyEnrolled) (*api.Problem, error) {
	now := c.now()
	keys, err := tx.Keys(p)
	if err != nil {
		return nil, err
	}
	if f.Recovery = c.lost(keys, "", now); !f.Recovery || c.policy.Load().Profile == policy.Demo {
		return nil, nil
	}
	if _, err := tx.TOTP(p); errors.Is(err, state.ErrNotFound) { // then one more has to vouch
		return nil, nil
	} else if err != nil {
		return nil, err
	}
	if code == "" {
		return &api.Problem{Status: 403, Code: string(policy.TOTPMissing), Detail: fmt.Sprintf("%s has no key left that counts, and has a device that makes codes: a new key takes a code too", p),
			Next: []string{"breakglass enroll --totp TOKEN", "that device is gone too: two approvers take it away: breakglass approve --reset totp:" + string(p)}}, nil
	}
	ok, reason, err := c.totpCheck(tx, p, code, now, ledger.Subject{Person: p})
	if err != nil {
		return nil, err
	}
	if !ok {
		return totpProblem(*reason), nil
	}
	f.TOTP = "yes"
	return nil, nil
}

// tellEnrolled says in out what is missing until the key counts.
func (c *CA) tellEnrolled(tx *state.Tx, fp string, out *api.Enrolled) error {
	now := c.now()
	k, err := tx.Key(fp)
	if err != nil {
		return err
	}
	keys, err := tx.Keys(k.Person)
	if err != nil {
		return err
	}
	out.Recovery = k.Recovery
	if out.Pending = c.keyState(k, now) == policy.KeyPending; out.Pending {
		out.Needed, _ = c.vouchers(k, keys, now)
	}
	return nil
}

// approveEnrolment judges a yes or no to somebody's key. With enough of them the key counts, once it has cooled off.
func (c *CA) approveEnrolment(tx *state.Tx, a *act, st *statement.Approval, out *api.ApprovalState) (outcome, error) {
	now := c.now()
	k, err := tx.KeyOfEnrolment(st.Of)
	if errors.Is(err, state.ErrNotFound) {
		return outcome{}, &api.Problem{Status: 404, Code: api.CodeNotFound, Detail: "no key was enrolled as " + st.Of, Next: []string{"breakglass vouch (lists those that wait)"}}
	} else if err != nil {
		return outcome{}, err
	}
	if st.Hash != k.Signed {
		return outcome{}, &api.Problem{Status: 409, Code: api.CodeOtherEnrolment, Detail: fmt.Sprintf("what was vouched for is not what %s's %s signed as %s", k.Person, k.Name, st.Of),
			Next: []string{"breakglass vouch " + string(k.Person) + " " + string(k.Name)}}
	}
	switch s := c.keyState(k, now); {
	case s == policy.KeyRevoked, s == policy.KeySuspended:
		return outcome{}, keyStateProblem(k, s)
	case !k.CountsFrom.IsZero():
		return outcome{}, &api.Problem{Status: 409, Code: api.CodeVouched, Detail: fmt.Sprintf("key %s of %s is vouched for: it counts from %s", k.Name, k.Person, k.CountsFrom.UTC().Format(time.RFC3339))}
	}
	key, p := c.counts(a.key)
	if p != nil && !late(a.key, key) { // a late one came past the gate because too few others are there
		return outcome{}, p
	}
	said, err := tx.Approvals(statement.AboutEnrolment, st.Of)
	if err != nil {
		return outcome{}, err
	}
	for _, s := range said {
		if s.Person == st.Person && s.Verdict == st.Verdict && now.Before(s.Until) {
			return outcome{}, &api.Problem{Status: 409, Code: api.CodeApproved, Detail: fmt.Sprintf("%s said so at %s, and one person counts once", st.Person, s.Given.UTC().Format("15:04:05Z")),
				Next: []string{"have somebody else vouch: breakglass vouch " + string(k.Person) + " " + string(k.Name)}}
		}
	}
	return outcome{facts: a.given(st, key), then: func(tx *state.Tx) error { return c.vouch(tx, k, out) }}, nil
}

// vouch lets k count if enough people stand for it now.
func (c *CA) vouch(tx *state.Tx, k state.Key, out *api.ApprovalState) error {
	now := c.now()
	keys, err := tx.Keys(k.Person)
	if err != nil {
		return err
	}
	own, others, err := c.vouchedBy(tx, k, now)
	if err != nil {
		return err
	}
	needed, recovery := c.vouchers(k, keys, now)
	scarce, err := c.scarce(tx, k.Person, now)
	if err != nil {
		return err
	}
	f := &ledger.KeyVouched{How: ledger.VouchedByOthers, By: others, Needed: needed, Recovery: recovery, Scarce: scarce}
	if own {
		f.How, f.By, f.Needed, f.Recovery = ledger.VouchedByOwnKey, []name.Person{k.Person}, 1, false
	}
	out.State, out.Needed, out.Given = "pending", f.Needed, len(f.By)
	if len(f.By) < f.Needed {
		return nil
	}
	cooling := c.policy.Load().Enrolment.CoolingOff
	e := c.entry(ledger.ActorCA, ledger.Subject{Person: k.Person, Key: k.Fingerprint}, f)
	f.Cooling, f.CountsFrom = int(cooling.Seconds()), ledger.At(e.Time.Add(cooling))
	out.State, out.CountsFrom = "vouched", f.CountsFrom.Time
	_, _, err = tx.Append(e)
	return err
}

// vouchedBy is who stands for k now: the person with another key, and others, each once, while their own key counts and the policy knows them.
func (c *CA) vouchedBy(tx *state.Tx, k state.Key, now time.Time) (own bool, others []name.Person, err error) {
	said, err := tx.Approvals(statement.AboutEnrolment, k.Enrolment)
	if err != nil {
		return false, nil, err
	}
	scarce, err := c.scarce(tx, k.Person, now)
	if err != nil {
		return false, nil, err
	}
	others = []name.Person{}
	for _, s := range said {
		by, err := tx.Key(s.Key)
		if err != nil {
			return false, nil, err
		}
		_, known := c.policy.Load().Person(s.Person)
		counts := c.counted(by, now) || scarce && s.Person != k.Person && late(by, c.keyState(by, now))
		switch {
		case s.Verdict != statement.Approve, !now.Before(s.Until), !counts, !known, by.Fingerprint == k.Fingerprint:
		// What was said before the key lapsed was said of another moment.
		case s.Given.Before(k.Since):
		case s.Person == k.Person:
			own = true
		case !slices.Contains(others, s.Person):
			others = append(others, s.Person)
		}
	}
	return own, others, nil
}

// enrolments lists the keys that wait for being vouched for, with the entries that prove them: to a pass.
func (c *CA) enrolments(ctx context.Context, who *caller) (*api.EnrolmentList, error) {
	if who == nil || who.person == "" {
		return nil, passNeeded()
	}
	out := &api.EnrolmentList{Enrolments: []api.Enrolment{}}
	return out, c.state.View(ctx, func(tx *state.Tx) error {
		all, err := tx.AllKeys()
		if err != nil {
			return err
		}
		head, note, err := tx.Head()
		if err != nil {
			return err
		}
		now := c.now()
		out.Checkpoint = note
		for _, k := range all {
			if c.keyState(k, now) != policy.KeyPending {
				continue
			}
			if len(out.Enrolments) == maxPendingKeys {
				break
			}
			e := api.Enrolment{ID: k.Enrolment, Signed: k.Signed, Recovery: k.Recovery, Again: k.Vouched, CountsFrom: k.CountsFrom}
			if e.Entry, err = proven(tx, head.Size, k.Index); err != nil {
				return err
			}
			own, others, err := c.vouchedBy(tx, k, now)
			if err != nil {
				return err
			}
			if e.By = others; own {
				e.By = append(e.By, k.Person)
			}
			keys, err := tx.Keys(k.Person)
			if err != nil {
				return err
			}
			e.Needed, _ = c.vouchers(k, keys, now)
			if e.Said, err = c.saidOf(tx, k); err != nil {
				return err
			}
			out.Enrolments = append(out.Enrolments, e)
		}
		return nil
	})
}

// maxPendingKeys bounds the list: more than these wait only if something is wrong.
const maxPendingKeys = 100

// saidOf is what people last said to a key.
func (c *CA) saidOf(tx *state.Tx, k state.Key) ([]api.Said, error) {
	list, err := tx.Approvals(statement.AboutEnrolment, k.Enrolment)
	if err != nil {
		return nil, err
	}
	var out []api.Said
	for _, s := range list {
		out = append(out, api.Said{Person: s.Person, Verdict: s.Verdict, Comment: s.Comment, At: s.Given.UTC(), Until: s.Until.UTC(), Grace: s.Grace})
	}
	return out, nil
}

// keysOf lists a person's own keys and where each stands: to a pass of theirs.
func (c *CA) keysOf(ctx context.Context, who *caller) (*api.KeyList, error) {
	if who == nil || who.person == "" {
		return nil, passNeeded()
	}
	out := &api.KeyList{Person: who.person, Keys: []api.KeyStanding{}}
	return out, c.state.View(ctx, func(tx *state.Tx) error {
		now, p := c.now(), c.policy.Load()
		keys, err := tx.Keys(who.person)
		if err != nil {
			return err
		}
		out.Required, out.Counting, out.Until, out.Now = p.Enrolment.KeysRequired, c.counting(keys, now), c.enrolmentUntil(keys, now), now.UTC()
		for _, k := range keys {
			s := api.KeyStanding{Name: k.Name, Fingerprint: k.Fingerprint, Model: k.Model, Counter: k.Counter, State: c.keyState(k, now).String(),
				Proved: k.Proved.UTC(), CountsFrom: k.CountsFrom, Recovery: k.Recovery}
			if !k.CountsFrom.IsZero() && !k.Revoked {
				s.Until = k.Since.Add(p.Enrolment.Renew).UTC()
				s.Grace = s.Until.Add(p.Enrolment.Grace)
			}
			out.Keys = append(out.Keys, s)
		}
		return nil
	})
}
