package ca

import (
	"context"
	"errors"

	"breakglass/ca/api"
	"breakglass/ca/state"
	"breakglass/internal/name"
	"breakglass/internal/statement"
	"breakglass/ledger"
)

// Stopping takes no order: whoever may read may kill, for a mistake costs a touch and waiting costs more; and everybody may end what is their own.
// It is always visible: the entry holds the signed call, with body and name.

// kill stops a grant or one session of it, on the word of a pass's holder.
func (c *CA) kill(ctx context.Context, id name.RequestID, body []byte, who *caller) (*api.Stopped, error) {
	if who == nil || who.person == "" {
		return nil, passNeeded()
	}
	return c.stop(ctx, id, body, who, ledger.RevokedByKill, func(state.Request) bool { return true })
}

// endOwn stops one's own grant, on the word of its client key or of its person's pass.
func (c *CA) endOwn(ctx context.Context, id name.RequestID, body []byte, who *caller) (*api.Stopped, error) {
	if who == nil {
		return nil, passNeeded()
	}
	return c.stop(ctx, id, body, who, ledger.RevokedByEnd, func(r state.Request) bool {
		return who.fingerprint() == r.ClientKey || who.person != "" && who.person == r.Person
	})
}

func (c *CA) stop(ctx context.Context, id name.RequestID, body []byte, who *caller, how string, may func(state.Request) bool) (*api.Stopped, error) {
	var q api.StopAsk
	if err := decode(body, &q); err != nil {
		return nil, err
	}
	if err := statement.CheckLine(q.Why); err != nil || q.Why == "" || len(q.Why) > maxOrderReason {
		return nil, badRequest("why: want a line of at most %d bytes", maxOrderReason)
	}
	f := &ledger.Revoked{What: ledger.RevokedGrant, Target: string(id), Why: q.Why, How: how, Pass: who.pass, Asked: string(body)}
	if q.Session != "" {
		if s, err := name.ParseSessionID(string(q.Session)); err != nil || s != q.Session || s.Request() != id {
			return nil, badRequest("session %q is none of %s", q.Session, id)
		}
		f.What, f.Target = ledger.RevokedSession, string(q.Session)
	}
	var stopped *api.Stopped
	err := c.state.Do(ctx, func(tx *state.Tx) error {
		r, err := tx.Request(id)
		if errors.Is(err, state.ErrNotFound) || err == nil && !may(r) {
			return passNeeded() // the same for both: a key that holds nothing learns nothing
		} else if err != nil {
			return err
		}
		if who.pass != "" { // as of now, not as of the door
			if v, err := tx.PassRevoked(who.pass); err != nil || v {
				return errors.Join(err, passNeeded())
			}
		}
		var out outcome
		if out, stopped, err = c.revocation(tx, f); err != nil {
			return err
		}
		out.subject.Person = who.person
		if who.person == "" {
			out.subject.Person = r.Person
		}
		e := c.entry(ledger.PersonActor(out.subject.Person), out.subject, out.facts)
		e.Statement, e.SSHSIG = who.text, who.armored
		if _, _, err := tx.Append(e); err != nil {
			return err
		}
		return out.then(tx)
	})
	if err != nil {
		return nil, err
	}
	c.toldStopped(stopped)
	return stopped, nil
}
