package policy

import (
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode"

	"breakglass/internal/name"
)

// Outcome is the answer. Its zero value is Deny.
type Outcome uint8

const (
	Deny Outcome = iota
	Ask          // Missing approvals are still wanted
	Allow
)

var outcomeText = [...]string{Deny: "deny", Ask: "ask", Allow: "allow"}

func (o Outcome) String() string {
	if int(o) < len(outcomeText) {
		return outcomeText[o]
	}
	return outcomeText[Deny]
}

func (o Outcome) MarshalText() ([]byte, error) { return []byte(o.String()), nil }

// Decision is what the policy says to one request.
type Decision struct {
	Outcome   Outcome       `json:"outcome"`
	Rule      name.Rule     `json:"rule,omitempty"` // that decided; of a deny, the one that came closest, if any fits person, host and login
	Why       string        `json:"why,omitempty"`  // the rule's own words
	Minutes   int           `json:"minutes,omitempty"`
	Approvals int           `json:"approvals,omitempty"` // how many the rule wants
	Missing   int           `json:"missing,omitempty"`   // how many of them are not there yet
	Approvers []name.Person `json:"approvers,omitempty"` // who may give them: never the requester
	Wait      time.Duration `json:"wait,omitempty"`      // how long the request waits for them
	Idle      time.Duration `json:"idle,omitempty"`
	Budget    int64         `json:"budget,omitempty"`     // bytes that a session may carry
	WatchedBy []string      `json:"watched_by,omitempty"` // a session's input is held while none of them watches; as the rule writes it
	Observers []name.Person `json:"observers,omitempty"`  // who they are: never the requester
	Added     []Added       `json:"added,omitempty"`      // circumstances that each want an approval more; counted in Approvals
	// Override is how long a request of this kind has to wait before an override may replace what is missing; 0: never.
	Override   time.Duration `json:"override,omitempty"`
	Overridden int           `json:"overridden,omitempty"` // how many missing approvals this override replaces
	TOTP       bool          `json:"totp,omitempty"`       // the rule asked for a code too
	Forwards   []Forward     `json:"forwards,omitempty"`   // the ones asked for; all of them, or it is a deny
	End        time.Time     `json:"end,omitzero"`         // of the grant under this policy; DecideSession only
	Reasons    []Reason      `json:"reasons,omitempty"`    // of a deny: every one
}

// Decide answers a request from the policy and the facts and from nothing else.
//
// First what [always] demands and whether person, host and key are in order; every failure is a reason. Then the rules
// from top to bottom: the first whose conditions all hold decides. Where none does, the reasons are those of
// the rule that came closest: it names the person, the host and the login, and fails the fewest conditions (the first
// of equals). Nothing else in the file can turn a reason of the first part into an allow.
//
// What was said to a request, and that it goes on without approvals, comes last: a rule whose conditions hold decides, and its veto, or an
// override that it doesn't offer, is the end of it. Were that a condition like the others, a no would hand the request to the next rule, which
// may ask for less.
func Decide(p *Policy, req Request, facts Facts) Decision {
	return (&evaluation{p: p, req: req, facts: facts}).run()
}

// PreCheck gives what [always] refuses to everybody at these addresses. It is told to strangers, so it names no
// host, rule, person or network.
func PreCheck(p *Policy, facts Facts) []Reason {
	e := &evaluation{p: p, facts: facts, stranger: true}
	e.place(nil)
	return e.reasons
}

// evaluation is one run of the evaluator. Explain hands in a trace; nothing else differs.
type evaluation struct {
	p        *Policy
	req      Request
	facts    Facts
	stranger bool
	trace    func(line int, ok bool, text string)
	reasons  []Reason

	unsure, unsureOf []Reason       // what the geo databases can't tell of [always]'s places and of the rule's, where that is asked of a person
	elsewhere        bool           // a grant of the person is alive that came from another country, and that is asked of a person
	lines            map[Reason]int // where each reason comes from, if somebody wants to know (AnswerLines)
}

// fail notes a reason; pass, for a trace only, that a check held.
func (e *evaluation) fail(line int, r Reason) {
	if e.trace != nil {
		e.trace(line, false, r.Detail+" ("+string(r.Code)+")")
	}
	if e.lines != nil {
		e.lines[r] = line
	}
	e.reasons = append(e.reasons, r)
}

func (e *evaluation) pass(line int, format string, args ...any) {
	e.trace(line, true, fmt.Sprintf(format, args...))
}

func (e *evaluation) run() Decision {
	host := e.always()
	general := e.reasons
	e.reasons = nil

	var closest *Rule
	var against []Reason
	depth := 0 // how far any rule goes: 1 names the person, 2 the host too
	if host != nil && e.p.people[e.req.Person] != nil {
		decided := false
		at := 0 // the first rule that the trace has not told of
		for _, r := range e.p.rulesOf[e.req.Person] {
			at = e.unnamed(at, r)
			if !r.hosts.has(host) {
				depth = max(depth, 1)
				e.skip(r, "does not reach ", string(e.req.Host))
				continue
			}
			if !slices.Contains(r.Logins, e.req.Login) {
				depth = 2
				e.skip(r, "has no login ", string(e.req.Login))
				continue
			}
			if e.trace != nil {
				e.trace(r.Line, true, fmt.Sprintf("rule %q names %s, %s and login %s", r.Name, e.req.Person, e.req.Host, e.req.Login))
			}
			e.reasons = nil
			e.conditions(r)
			decides := len(e.reasons) == 0
			e.approvals(r)
			if len(e.reasons) == 0 && len(general) == 0 {
				return e.granted(r)
			}
			if decides || closest == nil || len(e.reasons) < len(against) {
				closest, against = r, e.reasons
			}
			if decides {
				decided = true
				break // or would, were it not for the general reasons
			}
		}
		if !decided {
			e.unnamed(at, nil)
		}
		if closest == nil {
			against = []Reason{e.unreached(host, depth)}
		}
	}
	d := Decision{Outcome: Deny, Reasons: general}
	for _, r := range against {
		if !slices.Contains(general, r) {
			d.Reasons = append(d.Reasons, r)
		}
	}
	if closest != nil {
		d.Rule, d.Why = closest.Name, closest.Why
	}
	return d
}

// unnamed tells a trace of the rules from the given one on that do not name the person, up to the next that does; nil: to the end. It returns
// which comes after that one.
func (e *evaluation) unnamed(from int, next *Rule) int {
	if e.trace == nil {
		return from
	}
	for ; from < len(e.p.Rules); from++ {
		r := &e.p.Rules[from]
		if r == next {
			return from + 1
		}
		e.skip(r, "does not name ", string(e.req.Person))
	}
	return from
}

func (e *evaluation) skip(r *Rule, what, whom string) {
	if e.trace != nil {
		e.trace(r.Line, false, fmt.Sprintf("rule %q %s%s", r.Name, what, whom))
	}
}

// granted is the decision of a rule all of whose conditions hold.
func (e *evaluation) granted(r *Rule) Decision {
	d := Decision{Outcome: Allow, Rule: r.Name, Why: r.Why, Minutes: min(r.Minutes, e.p.Always.MaxMinutes), Approvals: r.Approvals, Idle: r.Idle, Budget: r.Budget, Forwards: e.req.Forwards}
	if e.req.Minutes > 0 {
		d.Minutes = min(d.Minutes, e.req.Minutes)
	}
	d.TOTP = r.TOTP
	e.watched(r, &d)
	n := e.needed(r)
	d.Approvals, d.Added = n.all, n.added
	if n.all == 0 {
		return d
	}
	d.Wait, d.Approvers, d.Override = r.Wait, r.approversFor(e.req.Person), n.override
	if n.missing == 0 {
		return d
	}
	if n.place == 0 && (e.req.Kind == KindOverride || e.req.Kind == KindSession && e.facts.Overridden) {
		d.Overridden = n.missing // that the time has come was a condition
		return d
	}
	d.Outcome, d.Missing = Ask, n.missing
	return d
}

// always checks what does not depend on a rule, and finds the host.
func (e *evaluation) always() *HostInfo {
	p, q := e.p, &e.req
	line := p.Always.Line
	switch q.Kind {
	case KindNew, KindExtend, KindSession, KindOverride:
	default:
		e.fail(line, Reason{KindNotAllowed, fmt.Sprintf("the CA does not know requests of kind %q", q.Kind), "update breakglass"})
	}
	person := p.people[q.Person]
	if person == nil {
		e.fail(0, Reason{UnknownPerson, fmt.Sprintf("the policy does not know a person %q", q.Person), "ask an owner of this site (" + words(p.Site.Owners) + ") to add you"})
	} else if e.trace != nil {
		e.pass(person.Line, "%s is known%s", q.Person, inGroups(person.Groups))
	}
	e.key(line)
	e.factors(line)
	if n := textLength(q.Reason); n < p.Always.ReasonMin {
		e.fail(line, tooShort(n, p.Always.ReasonMin))
	} else if e.trace != nil {
		e.pass(line, "the reason has %d characters (at least %d)", n, p.Always.ReasonMin)
	}
	if q.Minutes < 0 {
		e.fail(line, Reason{MinutesInvalid, fmt.Sprintf("%d minutes were asked for", q.Minutes), "ask for a positive number, or for none to get what the rule gives"})
	}
	e.declared(line)
	e.grants(line)
	e.place(nil)
	e.second(line)

	host := p.host(q.Host)
	if host == nil {
		next := "breakglass-ca policy who --all lists the hosts that somebody can get into; an owner may add one"
		if hint := p.closeHost(string(q.Host)); hint != "" {
			next = hint
		}
		e.fail(0, Reason{UnknownHost, fmt.Sprintf("the policy does not know a host %q", q.Host), next})
	} else if e.trace != nil {
		e.pass(host.Line, "%s is known as %q%s, %s", q.Host, host.Entry, inGroups(host.Groups), strings.Join(host.Address, ", "))
	}
	return host
}

func (e *evaluation) key(line int) {
	switch e.facts.Key {
	case KeyLive:
		if e.trace != nil {
			e.pass(line, "the key is enrolled and in date")
		}
	case KeyInGrace:
		if e.trace != nil {
			e.pass(line, "the key's enrolment has lapsed, but its grace runs: one approval more")
		}
	case KeyPending:
		e.fail(line, Reason{KeyIsPending, "the key is enrolled but does not count yet: it is not vouched for, or still cooling off", "use another key of yours, or have it vouched for: breakglass keys"})
	case KeySuspended:
		e.fail(line, Reason{KeyIsSuspended, "the key is suspended: its counter went back, as a copied key's would", "use your other key; it, or two approvers, can lift this: breakglass keys"})
	case KeyLapsed:
		e.fail(line, Reason{KeyIsLapsed, "the key's enrolment has lapsed: it was not renewed in time", "use your other key, or renew this one: breakglass renew"})
	case KeyRevoked:
		e.fail(line, Reason{KeyIsRevoked, "the key is revoked", "use another key of yours: breakglass keys"})
	default:
		e.fail(line, Reason{KeyNotKnown, "it is unknown whether the key is enrolled", "use an enrolled key: breakglass keys"})
	}
}

func (e *evaluation) factors(line int) {
	if e.facts.Touch != Yes {
		detail := "the key signed without a touch"
		if e.facts.Touch == Unknown {
			detail = "it is unknown whether the key was touched"
		}
		e.fail(line, Reason{TouchMissing, detail, "run the command again and touch the key when it blinks"})
	} else if e.trace != nil {
		e.pass(line, "the key was touched")
	}
	if !e.p.Always.UV {
		return
	}
	if e.facts.UV != Yes {
		detail := "the key signed without PIN or biometric"
		if e.facts.UV == Unknown {
			detail = "it is unknown whether the key saw a PIN or biometric"
		}
		e.fail(line, Reason{UVMissing, detail, "run the command again and enter the key's PIN"})
	} else if e.trace != nil {
		e.pass(line, "the key saw a PIN or biometric")
	}
}

// conditions checks all that a rule demands beside person, host and login.
func (e *evaluation) conditions(r *Rule) {
	if r.Drill && !e.req.Drill {
		e.fail(r.Line, Reason{DrillOnly, fmt.Sprintf("rule %q answers drills only", r.Name), "breakglass drill rehearses; a real request needs another rule"})
	}
	if n := textLength(e.req.Reason); n < r.ReasonMin && n >= e.p.Always.ReasonMin { // less was refused before any rule
		e.fail(r.Line, tooShort(n, r.ReasonMin))
	}
	if r.ticket != nil {
		switch {
		case e.req.Ticket == "":
			e.fail(r.Line, Reason{TicketMissing, fmt.Sprintf("rule %q wants a ticket", r.Name), fmt.Sprintf("give one that fits %s: --ticket", r.Ticket)})
		case !r.ticket.MatchString(e.req.Ticket):
			e.fail(r.Line, Reason{TicketInvalid, fmt.Sprintf("the ticket does not fit rule %q", r.Name), fmt.Sprintf("give one that fits %s: --ticket", r.Ticket)})
		case e.trace != nil:
			e.pass(r.Line, "the ticket fits %s", r.Ticket)
		}
	}
	if r.TOTP {
		if e.facts.TOTP != Yes {
			e.fail(r.Line, Reason{TOTPMissing, fmt.Sprintf("rule %q wants a code of your other channel too", r.Name), "give it: --totp CODE"})
		} else if e.trace != nil {
			e.pass(r.Line, "the code of the other channel is right")
		}
	}
	e.place(r)
	e.circumstances(r)
	for _, f := range e.req.Forwards {
		if !slices.ContainsFunc(r.Forwards, func(g Forward) bool { return g.Allows(f) }) {
			next := fmt.Sprintf("rule %q allows no forwards: ask without", r.Name)
			if len(r.Forwards) > 0 {
				next = fmt.Sprintf("rule %q allows: %s", r.Name, forwardWords(r.Forwards))
			}
			e.fail(r.Line, Reason{ForwardsNotAllowed, fmt.Sprintf("the forward `%s` is not allowed by rule %q", f, r.Name), next})
		} else if e.trace != nil {
			e.pass(r.Line, "the forward `%s` is allowed", f)
		}
	}
}

// unreached is the reason where no rule names person, host and login together. depth is how far the rules go.
func (e *evaluation) unreached(host *HostInfo, depth int) Reason {
	q := &e.req
	if depth == 0 {
		return Reason{NoRule, fmt.Sprintf("no rule names %s", q.Person), "ask an owner of this site (" + words(e.p.Site.Owners) + ")"}
	}
	var hosts, logins []string
	for _, r := range e.p.rulesOf[q.Person] {
		for _, h := range r.Hosts {
			if !slices.Contains(hosts, h) {
				hosts = append(hosts, h)
			}
		}
		if !r.hosts.has(host) {
			continue
		}
		for _, l := range r.Logins {
			if s := "breakglass request " + string(l) + "@" + string(q.Host); !slices.Contains(logins, s) {
				logins = append(logins, s)
			}
		}
	}
	if depth == 1 {
		return Reason{HostNotAllowed, fmt.Sprintf("no rule lets %s into %s", q.Person, q.Host), "the rules for you reach " + strings.Join(hosts, ", ")}
	}
	return Reason{LoginNotAllowed, fmt.Sprintf("no rule lets %s be %s on %s", q.Person, q.Login, q.Host), strings.Join(logins, ", or ")}
}

func tooShort(n, want int) Reason {
	return Reason{ReasonTooShort, fmt.Sprintf("the reason has %d characters; at least %d are wanted", n, want), "say what is broken, for the person who reviews this tomorrow"}
}

// textLength counts characters with every run of blanks as one, so that blanks are no reason.
func textLength(s string) int {
	n, gap := 0, false
	for _, r := range s {
		switch {
		case unicode.IsSpace(r):
			gap = n > 0
		case !unicode.IsPrint(r):
		default:
			if gap {
				n++
			}
			n, gap = n+1, false
		}
	}
	return n
}

func inGroups(groups []name.Group) string {
	if len(groups) == 0 {
		return ""
	}
	return " (in " + words(groups) + ")"
}

func forwardWords(list []Forward) string {
	out := make([]string, len(list))
	for i, f := range list {
		out[i] = "`" + f.String() + "`"
	}
	return strings.Join(out, ", ")
}
