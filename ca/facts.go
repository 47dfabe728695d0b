package ca

import (
	"context"
	"errors"
	"fmt"

	"breakglass/ca/api"
	"breakglass/ca/state"
	"breakglass/internal/name"
	"breakglass/internal/sshsig"
	"breakglass/internal/statement"
	"breakglass/ledger"
)

// maxFacts bounds one delivery.
const maxFacts = 100

// facts appends what a jump decided and saw, in the order in which it counted. Those that are there already are no error, so
// that a delivery whose answer was lost can be repeated. A gap is an entry of its own and alerts; what comes behind it is taken.
func (c *CA) facts(ctx context.Context, q *api.FactsAsk, who *caller) (*api.FactsAnswer, error) {
	if who == nil || who.jump == "" {
		return nil, passNeeded()
	}
	if len(q.Facts) > maxFacts {
		return nil, badRequest("%d facts, limit %d", len(q.Facts), maxFacts)
	}
	out := &api.FactsAnswer{}
	err := c.state.Do(ctx, func(tx *state.Tx) error {
		for _, f := range q.Facts {
			if err := c.fact(tx, who, f); err != nil {
				return err
			}
		}
		j, err := tx.Jump(who.jump)
		out.Number, out.Hash = j.Number, j.Hash
		return err
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

func (c *CA) fact(tx *state.Tx, who *caller, s api.SignedStatement) error {
	var f statement.Fact
	if err := statement.Parse([]byte(s.Statement), &f); err != nil {
		return badRequest("%v", err)
	}
	sig, err := sshsig.Parse([]byte(s.SSHSIG))
	if err != nil {
		return badRequest("%v", err)
	}
	if f.Machine != string(who.jump) || f.Origin != c.keys.ledger.Name() {
		return badRequest("fact of %q for %q", f.Machine, f.Origin)
	}
	if err := sig.Verify(who.key, statement.KindFact.Namespace(), []byte(s.Statement)); err != nil {
		return badRequest("fact %d: %v", f.Number, err)
	}
	j, err := tx.Jump(who.jump)
	if err != nil {
		return err
	}
	conflict := func(format string, a ...any) error {
		return &api.Problem{Status: 409, Code: api.CodeConflict, Detail: fmt.Sprintf(format, a...)}
	}
	switch {
	case f.Number <= j.Number:
		if f.Number == j.Number && j.Hash != (statement.Hash{}) && j.Hash != ledger.EntryHash([]byte(s.Statement)) {
			return conflict("fact %d is there, and it is another", f.Number)
		}
		return nil
	case f.Number > j.Number+1:
		if _, _, err := tx.Append(c.entry(ledger.ActorCA, ledger.Subject{Jump: who.jump}, &ledger.JumpGap{Have: j.Number, Got: f.Number})); err != nil {
			return err
		}
		c.log.Error("facts of a jump are missing", "jump", who.jump, "have", j.Number, "got", f.Number)
	case f.Previous != j.Hash && (j.Hash != statement.Hash{} || j.Number == 0):
		return conflict("fact %d follows another fact %d than the one that is there", f.Number, j.Number)
	}
	facts, subject, err := c.factBody(tx, who.jump, &f)
	if err != nil {
		return err
	}
	e := c.entry(ledger.JumpActor(who.jump), subject, facts)
	e.Statement, e.SSHSIG = s.Statement, string(sig.Armor())
	_, _, err = tx.Append(e)
	return err
}

// factBody reads the facts that a jump may report, and no others.
func (c *CA) factBody(tx *state.Tx, jump name.Jump, f *statement.Fact) (ledger.Facts, ledger.Subject, error) {
	subject := ledger.Subject{Jump: jump, Session: f.Session}
	facts, err := ledger.DecodeFacts(ledger.Type(f.Type), []byte(f.Body))
	if err != nil {
		return nil, subject, badRequest("fact %d: %v", f.Number, err)
	}
	switch facts.(type) {
	case *ledger.SessionEnded, *ledger.SessionCrashed, *ledger.SessionHead, *ledger.SessionBlind, *ledger.SessionSighted, *ledger.HostKeyMismatch:
		s, err := tx.Session(f.Session)
		if errors.Is(err, state.ErrNotFound) || err == nil && s.Jump != jump {
			return nil, subject, badRequest("fact %d: session %q is not of this jump", f.Number, f.Session)
		} else if err != nil {
			return nil, subject, err
		}
		switch facts.(type) {
		case *ledger.SessionEnded, *ledger.SessionCrashed, *ledger.SessionHead:
			if s.State != "open" {
				return nil, subject, badRequest("fact %d: session %s is over", f.Number, f.Session)
			}
		}
		subject.Request, subject.Person, subject.Login, subject.Host = s.Request, s.Person, s.Login, s.Host
		return facts, subject, nil
	case *ledger.StrangersSummed:
		if f.Session != "" {
			return nil, subject, badRequest("fact %d: a sum has no session", f.Number)
		}
		return facts, subject, nil
	}
	return nil, subject, badRequest("fact %d: a jump can't report %q", f.Number, f.Type)
}
