package replay

import (
	"fmt"
	"net/netip"
	"slices"
	"time"

	"breakglass/internal/name"
	"breakglass/internal/sshsig"
	"breakglass/internal/statement"
	"breakglass/ledger"
	"breakglass/policy"
)

// This file holds an inquiry against what else the ledger says of it. The inquiry is the CA's own word: whoever holds its keys could let somebody in
// without the ticket that the rule wants, at an hour outside its window, and write down an inquiry that fits. What was signed by the person's key, and the
// time and the touch of the entry itself, are not the CA's to choose.

// clockSlack is how far the moment that the policy was asked about may lie from the entry's: both are of one transaction.
const clockSlack = time.Minute

// Asks gathers what people signed for, entry by entry, in the ledger's order.
type Asks struct {
	signed     map[name.RequestID]*statement.Request
	overridden map[name.RequestID]bool
	minutes    map[name.RequestID]int // that each grant has, of the last decision on it
}

// Add takes the next entry, after the decision that it may record was held against those before.
func (s *Asks) Add(e *ledger.Entry) {
	if s.signed == nil {
		s.signed, s.overridden, s.minutes = map[name.RequestID]*statement.Request{}, map[name.RequestID]bool{}, map[name.RequestID]int{}
	}
	switch f := e.Facts.(type) {
	case *ledger.RequestOpened:
		if r := signedIn(e); r != nil {
			s.signed[r.ID] = r
		}
	case *ledger.RequestOverridden:
		if r := signedIn(e); r != nil {
			s.overridden[r.Of] = true
		}
	case *ledger.GrantAllowed:
		s.minutes[e.Subject.Request] = f.Minutes
	case *ledger.GrantExtended:
		s.minutes[e.Subject.Request] = f.Minutes
	}
}

// signedIn is the request whose statement an entry holds. Whether it was signed is the audit's (ledger.Audit).
func signedIn(e *ledger.Entry) *statement.Request {
	r := new(statement.Request)
	if e.Statement == "" || statement.Parse([]byte(e.Statement), r) != nil {
		return nil
	}
	return r
}

// Differences says in words in what a decision's inquiry is another than what was signed for, and than its entry. Of a decision whose ask was not among
// the entries it tells less.
func (s *Asks) Differences(d *Decision, e *ledger.Entry) []string {
	if d.Inquiry == nil {
		return nil
	}
	q, f := &d.Inquiry.Request, &d.Inquiry.Facts
	var out []string
	held := func(what string, there, asked any) {
		if t, a := fmt.Sprint(there), fmt.Sprint(asked); t != a {
			out = append(out, fmt.Sprintf("%s: it was %s, the inquiry says %s", what, word(t), word(a)))
		}
	}
	if late := d.Time.Sub(f.Now); late.Abs() > clockSlack {
		held("time", stamp(d.Time), stamp(f.Now))
	}
	touch := sshsig.Touch{Flags: d.used.Touch.Flags}
	held("touch", policy.TriOf(touch.UserPresent()), f.Touch)
	held("PIN or finger", policy.TriOf(touch.UserVerified()), f.UV)

	ask, session := d.Subject.Request, false
	switch x := e.Facts.(type) {
	case *ledger.GrantExtended:
		ask = x.Request
	case *ledger.SessionOpened:
		session = true
		if peer, err := netip.ParseAddr(x.Peer); err == nil {
			held("addresses", peer.Unmap(), seenFrom(f.Sources))
		}
	case *ledger.SessionRefused:
		session = true
	}
	r, kind := signedIn(e), ""
	if session {
		r = nil // the jump's
	}
	if r == nil {
		if r = s.signed[ask]; r == nil {
			return out
		}
		if kind = r.Request; s.overridden[ask] {
			kind = statement.RequestOverride
		}
	} else {
		kind = r.Request
	}
	minutes := r.Minutes
	if session {
		kind, minutes = statement.RequestNew, s.minutes[ask]
	} else {
		held("a code of the other channel", d.used.TOTP == policy.Yes.String(), f.TOTP == policy.Yes)
		for _, from := range r.Sources {
			if !slices.ContainsFunc(f.Sources, func(x policy.Source) bool { return x.Addr.Unmap().String() == from }) {
				out = append(out, fmt.Sprintf("addresses: %s signed for %s too, which the inquiry lacks", r.Person, from))
			}
		}
	}
	held("kind", kind, q.Kind)
	held("minutes", minutes, q.Minutes)
	held("reason", r.Reason, q.Reason)
	held("ticket", r.Ticket, q.Ticket)
	held("failure", r.Failure, q.Failure)
	held("severity", r.Severity, q.Severity)
	held("drill", r.Drill != "", q.Drill)
	held("forwards asked for", r.Forwards, forwards(q.Forwards))
	return out // person, host and login: of the entry (Again), and that by the audit
}

func seenFrom(list []policy.Source) string {
	var out []netip.Addr
	for _, s := range list {
		out = append(out, s.Addr.Unmap())
	}
	if len(out) == 1 {
		return out[0].String()
	}
	return fmt.Sprint(out)
}
