// Package replay makes the decisions of a ledger again.
//
// The entry of each decision names the policy by its SHA-256 and holds the policy.Inquiry: all that the decision stood on. The policy's text stands in
// the same ledger. So whoever holds the entries can decide again, offline, with the same evaluator, and an answer that differs means that the entry
// doesn't say what was decided, or that the policy, the facts or the program are others than they were. It is for auditors, and for `policy diff`, which
// asks what a changed policy would have said.
//
// It can't show that the facts were true: where the address lies is the geo database's word.
package replay

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"breakglass/internal/name"
	"breakglass/internal/statement"
	"breakglass/ledger"
	"breakglass/policy"
)

// ErrNotRecorded says of an entry of a decision that it does not hold what the policy was asked: an older one's, or a refusal that was not the policy's.
var ErrNotRecorded = errors.New("the entry does not hold what the policy was asked")

// Decision is a decision as its entry tells it.
type Decision struct {
	Index   int64
	Time    time.Time
	Type    ledger.Type
	Subject ledger.Subject
	Policy  statement.Hash
	Inquiry *policy.Inquiry
	Answer  Answer

	used *ledger.Used
}

// Answer is what a policy said, as far as an entry of that type holds it; what it doesn't hold is zero.
type Answer struct {
	Outcome    policy.Outcome `json:"outcome"`
	Rule       name.Rule      `json:"rule,omitempty"`
	Minutes    int            `json:"minutes,omitempty"`
	Approvals  int            `json:"approvals,omitempty"`
	Approvers  []name.Person  `json:"approvers,omitempty"`
	Overridden int            `json:"overridden,omitempty"`
	Override   bool           `json:"override,omitempty"` // it can be overridden, later
	Idle       int            `json:"idle_seconds,omitempty"`
	Budget     int64          `json:"budget,omitempty"`
	WatchedBy  []string       `json:"watched_by,omitempty"`
	Forwards   []string       `json:"forwards,omitempty"`
	Until      time.Time      `json:"until,omitzero"`
	Reasons    []string       `json:"reasons,omitempty"` // codes, in order
}

// Of gives the decision that an entry records; nil if it records none. An error wraps ErrNotRecorded or policy.ErrInquiry.
func Of(index int64, e *ledger.Entry) (*Decision, error) {
	d := &Decision{Index: index, Time: e.Time.Time, Type: e.Type(), Subject: e.Subject}
	a := &d.Answer
	switch f := e.Facts.(type) {
	case *ledger.RequestDenied:
		d.used, a.Rule, a.Reasons = &f.Used, f.Rule, codes(f.Reasons)
	case *ledger.RequestOpened:
		w := f.Waits
		if w == nil {
			return nil, nil // grant.allowed follows
		}
		d.used = &w.Used
		a.Outcome, a.Rule, a.Approvals, a.Approvers, a.Override = policy.Ask, w.Rule, w.Approvals, w.Approvers, w.Override != nil
	case *ledger.GrantAllowed:
		d.used = &f.Used
		a.Outcome, a.Rule, a.Minutes, a.Approvals, a.Overridden, a.Idle, a.Forwards = policy.Allow, f.Rule, f.Minutes, f.Approvals, f.Overridden, f.IdleSeconds, f.Forwards
	case *ledger.GrantExtended:
		d.used = &f.Used
		a.Outcome, a.Rule, a.Minutes, a.Approvals, a.Overridden = policy.Allow, f.Rule, f.Minutes, f.Approvals, f.Overridden
	case *ledger.SessionOpened:
		d.used = &f.Used
		a.Outcome, a.Rule, a.Idle, a.Budget, a.WatchedBy, a.Forwards, a.Until = policy.Allow, f.Rule, f.IdleSeconds, f.Budget, f.WatchedBy, f.Forwards, f.Until.Time
	case *ledger.SessionRefused:
		d.used, a.Reasons = &f.Used, codes(f.Reasons)
	default:
		return nil, nil
	}
	d.Policy = d.used.Policy
	if len(d.used.Asked) == 0 {
		return d, fmt.Errorf("entry %d, %s: %w", index, d.Type, ErrNotRecorded)
	}
	var err error
	if d.Inquiry, err = policy.ParseInquiry(d.used.Asked); err != nil {
		return d, fmt.Errorf("entry %d, %s: %w", index, d.Type, err)
	}
	return d, nil
}

func codes(list []ledger.Reason) []string {
	var out []string
	for _, r := range list {
		out = append(out, r.Code)
	}
	return out
}

// Again is what p says to the same inquiry, as an entry of the decision's type would hold it, and what differs from the entry in words; none: the same.
func (d *Decision) Again(p *policy.Policy) (Answer, []string) {
	x := d.Inquiry.Answer(p)
	a := Answer{Outcome: x.Outcome, Rule: x.Rule}
	switch d.Type {
	case "request.denied":
		a.Reasons = policyCodes(x.Reasons)
	case "request.opened":
		a.Approvals, a.Approvers, a.Override = x.Approvals, x.Approvers, x.Override > 0
	case "grant.allowed":
		a.Minutes, a.Approvals, a.Overridden, a.Idle, a.Forwards = x.Minutes, x.Approvals, x.Overridden, int(x.Idle.Seconds()), forwards(x.Forwards)
	case "grant.extended":
		a.Minutes, a.Approvals, a.Overridden = x.Minutes, x.Approvals, x.Overridden
	case "session.opened":
		// Of what is allowed now it gives what the grant gave: the inquiry asks for that, and the entry can't hold more.
		a.Idle, a.Budget, a.WatchedBy, a.Forwards, a.Until = int(x.Idle.Seconds()), x.Budget, x.WatchedBy, both(forwards(x.Forwards), d.Answer.Forwards), ledger.At(x.End).Time
	case "session.refused":
		a.Rule = "" // the entry names none
		if a.Reasons = policyCodes(x.Reasons); x.Outcome == policy.Ask {
			a.Outcome, a.Reasons = policy.Deny, []string{approvalNeeded}
		}
	}
	return a, d.differences(a)
}

// approvalNeeded is the code of a session.refused whose grant the policy now wants approvals for.
const approvalNeeded = "approval_needed"

func policyCodes(list []policy.Reason) []string {
	var out []string
	for _, r := range list {
		out = append(out, string(r.Code))
	}
	return out
}

func forwards(list []policy.Forward) []string {
	var out []string
	for _, f := range list {
		out = append(out, f.String())
	}
	return out
}

func both(now, then []string) []string {
	var out []string
	for _, f := range now {
		if slices.Contains(then, f) {
			out = append(out, f)
		}
	}
	return out
}

// differences says in words what the entry holds otherwise: of the answer, and of the facts that stand in it beside the inquiry.
func (d *Decision) differences(a Answer) []string {
	var out []string
	differ := func(what string, then, now any) {
		if t, n := fmt.Sprint(then), fmt.Sprint(now); t != n {
			out = append(out, fmt.Sprintf("%s: the entry says %s, deciding again says %s", what, word(t), word(n)))
		}
	}
	was := d.Answer
	differ("answer", was.Outcome, a.Outcome)
	differ("rule", was.Rule, a.Rule)
	differ("minutes", was.Minutes, a.Minutes)
	differ("approvals", was.Approvals, a.Approvals)
	differ("approvers", list(was.Approvers), list(a.Approvers))
	differ("replaced by the override", was.Overridden, a.Overridden)
	differ("can be overridden", was.Override, a.Override)
	differ("idle limit", was.Idle, a.Idle)
	differ("byte budget", was.Budget, a.Budget)
	differ("watched_by", was.WatchedBy, a.WatchedBy)
	differ("forwards", strings.Join(was.Forwards, ", "), strings.Join(a.Forwards, ", "))
	differ("end", stamp(was.Until), stamp(a.Until))
	differ("reasons", strings.Join(was.Reasons, ", "), strings.Join(a.Reasons, ", "))

	// The facts that a person reads in the entry are those that were asked with.
	held := func(what string, entry, asked any) {
		if e, q := fmt.Sprint(entry), fmt.Sprint(asked); e != q {
			out = append(out, fmt.Sprintf("%s: the entry says %s, its inquiry %s", what, word(e), word(q)))
		}
	}
	q, f, s := &d.Inquiry.Request, &d.Inquiry.Facts, &d.Subject
	held("person", s.Person, q.Person)
	held("target", string(s.Login)+"@"+string(s.Host), string(q.Login)+"@"+string(q.Host))
	held("key", d.used.Key, f.Key)
	held("addresses", addresses(d.used.Addresses), sources(f.Sources))
	held("seconds waited", d.used.Waited, int(f.Waited.Seconds()))
	held("who refused", list(d.used.Refused), list(f.Refused))
	for _, who := range d.used.Approved {
		if !slices.Contains(f.Approved, who) {
			out = append(out, fmt.Sprintf("approvals: the entry counts %s, whom its inquiry lacks", who))
		}
	}
	return out
}

func word(s string) string {
	if s == "" {
		return "nothing"
	}
	return s
}

func list(people []name.Person) string {
	out := make([]string, len(people))
	for i, p := range people {
		out[i] = string(p)
	}
	return strings.Join(out, ", ")
}

func stamp(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(time.RFC3339Nano)
}

func addresses(list []ledger.UsedAddress) string {
	var out []string
	for _, a := range list {
		out = append(out, place(a.Address, a.Country, a.Subdivision, a.ASN, a.Anonymous))
	}
	return strings.Join(out, ", ")
}

func sources(list []policy.Source) string {
	var out []string
	for _, s := range list {
		out = append(out, place(s.Addr.String(), s.Country, strings.Join(s.Subdivisions, " "), s.ASN, s.Anonymous.String()))
	}
	return strings.Join(out, ", ")
}

func place(address, country, subdivision string, asn uint32, anonymous string) string {
	return fmt.Sprintf("%s (country %s, subdivision %s, AS %d, anonymous %s)", address, word(country), word(subdivision), asn, anonymous)
}
