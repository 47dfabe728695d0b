package ca

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"breakglass/ca/api"
	"breakglass/ca/state"
	"breakglass/internal/name"
	"breakglass/internal/statement"
	"breakglass/ledger"
)

// This file stops things: by an operator's order, or by whoever kills or ends a grant (kill.go). The entry stops it, for every question asked
// after it; the jumps hear of it and end what runs, and hosts read it from the KRL.

// unreviewedSpan is how far back a person's grants are named when they leave: who reviews them should still remember.
const unreviewedSpan = 30 * 24 * time.Hour

// revokes says what an act of revoking is about.
func revokes(act string) string {
	switch act {
	case statement.OrderRevokeCertificate:
		return ledger.RevokedCertificate
	case statement.OrderRevokeGrant:
		return ledger.RevokedGrant
	case statement.OrderRevokeKey:
		return ledger.RevokedKey
	case statement.OrderRevokePerson:
		return ledger.RevokedPerson
	case statement.OrderRevokeJump:
		return ledger.RevokedJump
	}
	return ""
}

func (c *CA) orderRevoke(tx *state.Tx, o *order) (outcome, error) {
	out, stopped, err := c.revocation(tx, &ledger.Revoked{What: revokes(o.Act), Target: o.Target, Why: o.Reason, How: ledger.RevokedByOrder})
	if err != nil {
		return outcome{}, err
	}
	o.done.Stopped = stopped
	if o.Act == statement.OrderRevokePerson {
		if o.done.Left, err = c.left(tx, name.Person(o.Target)); err != nil {
			return outcome{}, err
		}
	}
	o.after = func() { c.toldStopped(stopped) }
	return out, nil
}

// revocation finds what f is about and what it stops. The entry that it gives does the rest; requests that wait for approvals are closed with it.
func (c *CA) revocation(tx *state.Tx, f *ledger.Revoked) (outcome, *api.Stopped, error) {
	now := c.now()
	unknown := func(format string, a ...any) error {
		next := "breakglass sessions lists what runs"
		if f.What == ledger.RevokedJump || f.What == ledger.RevokedPerson {
			next = "breakglass-ca status, on the CA's machine; the policy names people and jumps"
		}
		return &api.Problem{Status: 404, Code: api.CodeUnknownTarget, Detail: fmt.Sprintf(format, a...), Next: []string{next}}
	}
	over := func(format string, a ...any) error {
		return &api.Problem{Status: 409, Code: api.CodeOver, Detail: fmt.Sprintf(format, a...)}
	}
	if v, err := tx.Revoked(f.What, f.Target); err == nil && f.What != ledger.RevokedPerson { // a person may have been invited anew since
		return outcome{}, nil, over("%s %s was revoked at %s by %s: %s", f.What, f.Target, v.At.UTC().Format("2006-01-02 15:04Z"), v.By, v.Why)
	} else if err != nil && !errors.Is(err, state.ErrNotFound) {
		return outcome{}, nil, err
	}
	var out outcome
	reached := func(state.ReachedRequest) bool { return false }
	session := func(state.Session) bool { return false }
	switch f.What {
	case ledger.RevokedGrant:
		r, err := tx.Request(name.RequestID(f.Target))
		if errors.Is(err, state.ErrNotFound) {
			return out, nil, unknown("no request is called %s", f.Target)
		} else if err != nil {
			return out, nil, err
		}
		if end := lastMoment(&r); !now.Before(end) || r.State == "denied" {
			return out, nil, over("%s is over already", f.Target)
		} else {
			at := ledger.At(end)
			f.Until = &at
		}
		out.subject = ledger.Subject{Request: r.ID, Host: r.Host, Login: r.Login}
		reached = func(x state.ReachedRequest) bool { return x.ID == r.ID }
		session = func(s state.Session) bool { return s.Request == r.ID }
	case ledger.RevokedSession:
		s, err := tx.Session(name.SessionID(f.Target))
		if errors.Is(err, state.ErrNotFound) {
			return out, nil, unknown("no session is called %s", f.Target)
		} else if err != nil {
			return out, nil, err
		}
		if s.State != "open" {
			return out, nil, over("session %s is over already", s.ID)
		}
		at := ledger.At(s.Until)
		f.Until = &at
		out.subject = ledger.Subject{Request: s.Request, Session: s.ID, Host: s.Host, Login: s.Login, Jump: s.Jump}
		session = func(x state.Session) bool { return x.ID == s.ID }
	case ledger.RevokedKey:
		if _, err := tx.Key(f.Target); errors.Is(err, state.ErrNotFound) {
			return out, nil, unknown("no key with fingerprint %s is enrolled", f.Target)
		} else if err != nil {
			return out, nil, err
		}
		reached = func(x state.ReachedRequest) bool { return slices.Contains(x.Keys, f.Target) }
	case ledger.RevokedPerson:
		keys, err := tx.Keys(name.Person(f.Target))
		if err != nil {
			return out, nil, err
		}
		_, known := c.policy.Load().Person(name.Person(f.Target))
		if !known && len(keys) == 0 {
			return out, nil, unknown("nobody is called %s", f.Target)
		}
		if v, err := tx.Revoked(f.What, f.Target); err == nil && !slices.ContainsFunc(keys, func(k state.Key) bool { return k.Index > v.Index }) {
			return out, nil, over("%s was revoked at %s by %s, and no key of theirs was enrolled since", f.Target, v.At.UTC().Format("2006-01-02 15:04Z"), v.By)
		}
		reached = func(x state.ReachedRequest) bool { return x.Person == name.Person(f.Target) }
	case ledger.RevokedJump:
		if _, err := tx.Jump(name.Jump(f.Target)); errors.Is(err, state.ErrNotFound) {
			return out, nil, unknown("no jump called %s has joined", f.Target)
		} else if err != nil {
			return out, nil, err
		}
		out.subject.Jump = name.Jump(f.Target)
		session = func(s state.Session) bool { return s.Jump == name.Jump(f.Target) }
	case ledger.RevokedCertificate: // also a serial that no entry holds: that is the one to fear
		serial, err := strconv.ParseUint(f.Target, 10, 64)
		if err != nil {
			return out, nil, badRequest("serial: %v", err)
		}
		until, of, err := tx.CertificateEnd(serial)
		if err != nil && !errors.Is(err, state.ErrNotFound) {
			return out, nil, err
		}
		if err == nil {
			if !now.Before(until.Add(krlSlack)) {
				return out, nil, over("certificate %s ended at %s", f.Target, until.UTC().Format(time.RFC3339))
			}
			at := ledger.At(until)
			f.Until = &at
		}
		session = func(s state.Session) bool { return of != "" && s.ID == of }
	default:
		return out, nil, fmt.Errorf("revocation of a %q", f.What)
	}
	return c.reach(tx, f, out, reached, session)
}

// lastMoment is when a request's grant, or its wait, ends by itself.
func lastMoment(r *state.Request) time.Time {
	if r.State == "open" && r.Waits != nil {
		return r.Waits.Until.Time
	}
	return r.Until
}

// reach lists what a revocation stops.
func (c *CA) reach(tx *state.Tx, f *ledger.Revoked, out outcome, reached func(state.ReachedRequest) bool, session func(state.Session) bool) (outcome, *api.Stopped, error) {
	stopped := &api.Stopped{Grants: []name.RequestID{}, Sessions: []name.SessionID{}}
	live, err := tx.Live("", c.now())
	if err != nil {
		return out, nil, err
	}
	for _, r := range live {
		if reached(r) {
			stopped.Grants = append(stopped.Grants, r.ID)
		}
	}
	open, err := tx.OpenSessions()
	if err != nil {
		return out, nil, err
	}
	for _, s := range open {
		if session(s) || slices.Contains(stopped.Grants, s.Request) {
			stopped.Sessions = append(stopped.Sessions, s.ID)
		}
	}
	out.facts = f
	out.then = func(tx *state.Tx) error {
		for _, id := range stopped.Grants {
			r, err := tx.Request(id)
			if err != nil {
				return err
			}
			if r.State != "open" || r.Waits == nil {
				continue
			}
			// Nobody shall go on waiting for it, or be asked to approve it.
			if err := c.end(tx, &r, r.Waits.Rule, []ledger.Reason{{Code: api.CodeRevoked, Detail: "revoked: " + f.Why}}, notThePolicy(r.Waits.Used)); err != nil {
				return err
			}
		}
		if f.What != ledger.RevokedJump {
			return nil
		}
		site, err := tx.Site()
		if err != nil {
			return err
		}
		next := site.Site
		next.Jumps = slices.DeleteFunc(slices.Clone(next.Jumps), func(j ledger.SiteJump) bool { return j.Name == name.Jump(f.Target) })
		_, _, err = tx.Append(c.entry(ledger.ActorCA, ledger.Subject{Jump: name.Jump(f.Target)}, &ledger.SiteChanged{Site: next, Why: "jump revoked"}))
		return err
	}
	return out, stopped, nil
}

// toldStopped wakes those who wait for a request that is over now.
func (c *CA) toldStopped(s *api.Stopped) {
	for _, id := range s.Grants {
		c.changes.tell(id)
	}
}

// left is what a person leaves behind, in words that somebody can act on.
func (c *CA) left(tx *state.Tx, p name.Person) (*api.Left, error) {
	out := &api.Left{Unreviewed: []name.RequestID{}, Recipients: []string{}, Rules: c.policy.Load().Without(p)}
	all, err := tx.Recipients()
	if err != nil {
		return nil, err
	}
	for _, r := range all {
		if r.Person == p {
			out.Recipients = append(out.Recipients, r.Age)
		}
	}
	// No grant has been reviewed: a review is an entry that this ledger does not have yet.
	out.Unreviewed, err = tx.GrantsOf(p, c.now().Add(-unreviewedSpan))
	return out, err
}

// revoked says whether a grant, its certificate or the key that opened it was revoked; nil if all stand.
func (c *CA) revoked(tx *state.Tx, id name.RequestID, serial uint64) (*ledger.Reason, error) {
	for _, x := range []struct{ what, target string }{{ledger.RevokedGrant, string(id)}, {ledger.RevokedCertificate, strconv.FormatUint(serial, 10)}} {
		if x.target == "0" { // no certificate has that serial, and nothing is asked about one
			continue
		}
		v, err := tx.Revoked(x.what, x.target)
		if errors.Is(err, state.ErrNotFound) {
			continue
		} else if err != nil {
			return nil, err
		}
		return &ledger.Reason{Code: api.CodeRevoked, Detail: fmt.Sprintf("%s was revoked by %s: %s", x.what, v.By, v.Why)}, nil
	}
	return nil, nil
}
