package ca

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"breakglass/ca/api"
	"breakglass/ca/state"
	"breakglass/internal/name"
	"breakglass/internal/statement"
	"breakglass/policy"
)

// This file is the one road of operators' orders: what an order may be about, who may give one, and that it is recorded with the operator's
// own signature before anything of it happens. What each act does stands in the file of its subject.

// maxOrderReason bounds the reason of an order in bytes: it is read on terminals, in alerts and by whoever is cut off.
const maxOrderReason = 400

// order is one being carried out, in the writer.
type order struct {
	*statement.Order
	act  *act
	done *api.OrderDone // what the answer says beside act and target
	// after, if set, runs once the entry is durable, or may be (state.ErrUnknown): it does only what is true either way, or looks.
	after func()
	// imported is the import, and recovery the recipient, that was sent beside the signature.
	imported imported
	recovery string
	// witnesses is the list that was sent beside the signature.
	witnesses []string
}

// ordered is an act: what its target looks like, what else it takes, and what it does.
type ordered struct {
	target func(string) error
	detail bool // it names something by its hash
	reason bool // it says why
	// stops says that it only takes away: a key in the grace after its enrolment lapsed may do that.
	stops bool
	do    func(*state.Tx, *order) (outcome, error)
}

// ordered finds an act; false for one that is not known.
func (c *CA) ordered(act string) (ordered, bool) {
	switch act {
	case statement.OrderInvitePerson:
		return ordered{target: isPerson, detail: true, do: c.orderInvite}, true
	case statement.OrderInviteJump:
		return ordered{target: isJump, detail: true, do: c.orderInvite}, true
	case statement.OrderRevokeCertificate:
		return ordered{target: isSerial, reason: true, stops: true, do: c.orderRevoke}, true
	case statement.OrderRevokeGrant:
		return ordered{target: isRequest, reason: true, stops: true, do: c.orderRevoke}, true
	case statement.OrderRevokeKey:
		return ordered{target: isFingerprint, reason: true, stops: true, do: c.orderRevoke}, true
	case statement.OrderRevokePerson:
		return ordered{target: isPerson, reason: true, stops: true, do: c.orderRevoke}, true
	case statement.OrderRevokeJump:
		return ordered{target: isJump, reason: true, stops: true, do: c.orderRevoke}, true
	case statement.OrderRotateKey:
		return ordered{target: isRotation, do: c.orderRotate}, true
	case statement.OrderRetireKey:
		return ordered{target: isRotation, reason: true, do: c.orderRetire}, true
	case statement.OrderImportHosts:
		return ordered{target: isImport, detail: true, do: c.orderImport}, true
	case statement.OrderRemoveRecipients:
		return ordered{target: isPerson, reason: true, stops: true, do: c.orderRemoveRecipients}, true
	case statement.OrderSetRecovery:
		return ordered{target: isRecovery, reason: true, do: c.orderRecovery}, true
	case statement.OrderChangeWitnesses:
		return ordered{target: isFingerprint, reason: true, do: c.orderWitnesses}, true
	case statement.OrderClockAccept:
		return ordered{target: isClock, reason: true, do: c.orderClock}, true
	}
	return ordered{}, false
}

// Targets as the statement spells them; each has one spelling, so that the entry names the thing that was meant.
func isPerson(s string) error  { _, err := name.ParsePerson(s); return err }
func isJump(s string) error    { _, err := name.ParseJump(s); return err }
func isRequest(s string) error { return spelled(s, name.ParseRequestID) }
func isSerial(s string) error {
	if n, err := strconv.ParseUint(s, 10, 64); err != nil || strconv.FormatUint(n, 10) != s || n == 0 {
		return fmt.Errorf("serial %q: want a decimal number", s)
	}
	return nil
}

func isFingerprint(s string) error {
	b, ok := strings.CutPrefix(s, "SHA256:")
	if !ok || len(b) != 43 { // unpadded base64 of 32 bytes
		return fmt.Errorf("key %q: want its SHA256:… fingerprint", s)
	}
	return nil
}

func spelled[T ~string](s string, parse func(string) (T, error)) error {
	v, err := parse(s)
	if err == nil && string(v) != s {
		err = fmt.Errorf("%q is spelled %q", s, v)
	}
	return err
}

// order makes the statement of an operator's order. Whether its person is an operator, and whether there is such a target, is judged after the
// signature.
func (c *CA) order(ctx context.Context, q *api.OrderAsk, from netip.Addr) (*api.Challenge, error) {
	o, ok := c.ordered(q.Act)
	if !ok {
		return nil, badRequest("act: no order is called %q", q.Act)
	}
	if err := o.target(q.Target); err != nil {
		return nil, badRequest("target: %v", err)
	}
	if none := q.Detail == (statement.Hash{}); o.detail == none {
		return nil, badRequest("detail: want one of an invite, a rotation and the like, and of no other order")
	}
	if o.reason && q.Reason == "" || len(q.Reason) > maxOrderReason {
		return nil, badRequest("reason: want one of at most %d bytes", maxOrderReason)
	}
	return c.begin(ctx, q.Person, from, &statement.Order{Act: q.Act, Target: q.Target, Reason: q.Reason, Detail: q.Detail, Sources: []string{from.String()}}, nil)
}

// signOrder takes the signature of an order and what goes beside it.
func (c *CA) signOrder(ctx context.Context, id string, q *api.SignedOrder, from netip.Addr) (*api.OrderDone, error) {
	o := &order{}
	var read imported
	err := c.finishPrepared(ctx, id, q.SSHSIG, from, statement.KindOrder, func(a *act) {
		read = c.readImport(a.ch.st.(*statement.Order), string(q.Hosts))
	}, func(tx *state.Tx, a *act) (outcome, error) {
		*o = order{Order: a.ch.st.(*statement.Order), act: a, imported: read, recovery: q.Recovery, witnesses: q.Witnesses}
		o.done = &api.OrderDone{Act: o.Act, Target: o.Target}
		what, _ := c.ordered(o.Act)
		if p, err := c.mayOrder(tx, o, what); err != nil || p != nil {
			if p != nil {
				err = p
			}
			return outcome{}, err
		}
		return what.do(tx, o)
	})
	if o.after != nil && (err == nil || errors.Is(err, state.ErrUnknown)) {
		o.after()
	}
	if err != nil {
		return nil, err
	}
	_, o.done.Checkpoint = c.state.Head()
	return o.done, nil
}

// mayOrder says who gives orders: an operator of the policy in force, with a key that counts.
func (c *CA) mayOrder(tx *state.Tx, o *order, what ordered) (*api.Problem, error) {
	p := c.policy.Load()
	site, err := tx.Site()
	if err != nil {
		return nil, err
	}
	if !site.Founded {
		return &api.Problem{Status: 403, Code: api.CodeNotFounded, Detail: "this CA is not founded yet: until its owners have adopted keys and policy, local root invites"}, nil
	}
	if _, known := p.Person(o.Person); !known || !p.IsOperator(o.Person) {
		return &api.Problem{Status: 403, Code: api.CodeNotOperator, Detail: fmt.Sprintf("%s is no operator of the policy in force", o.Person),
			Next: []string{"ask one of: " + people(p.Site.Operators)}}, nil
	}
	k, err := tx.Key(o.act.key.Fingerprint)
	if err != nil {
		return nil, err
	}
	switch st := c.keyState(k, c.now()); {
	case st == policy.KeyLive, st == policy.KeyInGrace && what.stops:
		return nil, nil
	default:
		return &api.Problem{Status: 403, Code: api.CodeKeyState, Detail: fmt.Sprintf("key %s of %s does not count for this: %s", k.Name, k.Person, st),
			Next: []string{"use another key of yours", "breakglass keys"}}, nil
	}
}
