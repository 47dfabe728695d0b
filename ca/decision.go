package ca

import (
	"time"

	"golang.org/x/crypto/ssh"

	"breakglass/ca/api"
	"breakglass/ca/state"
	"breakglass/internal/sshcert"
	"breakglass/internal/sshsig"
	"breakglass/internal/statement"
	"breakglass/ledger"
	"breakglass/policy"
)

// This file is the one way to a grant, whatever led there: the first signature, the last approval, an override, an extension. weigh gathers the
// facts of this moment and asks the policy; conclude records what it allowed, with the certificate.

// weighing is what a decision stands on.
type weighing struct {
	kind     policy.Kind
	r        *statement.Request // what was signed
	sources  []policy.Source
	key      state.Key // that was touched
	touch    sshsig.Touch
	approved []approverOf
	waited   time.Duration
	waits    bool // it waits for approvals (policy.Facts.Waits)
}

// weigh decides. What the decision stood on is written into used.
func (c *CA) weigh(tx *state.Tx, w *weighing, used *ledger.Used) (policy.Decision, error) {
	p, now := c.policy.Load(), c.now()
	forwards, err := policyForwards(w.r.Forwards)
	if err != nil {
		return policy.Decision{Outcome: policy.Deny, Reasons: []policy.Reason{{Code: policy.ForwardsNotAllowed, Detail: err.Error(), Next: "ask without it"}}}, nil
	}
	f := policy.Facts{Now: now, Sources: w.sources, Touch: policy.TriOf(w.touch.UserPresent()), UV: policy.TriOf(w.touch.UserVerified()), Waited: w.waited, Waits: w.waits}
	if f.Key, f.Added, err = c.circumstances(tx, w.r.Person, w.key, now); err != nil {
		return policy.Decision{}, err
	}
	if f.TOTP, err = c.totpOf(tx, w.r); err != nil {
		return policy.Decision{}, err
	}
	f.OnCall = c.onCall.facts(p, w.r.Person, now)
	if f.Live, err = live(tx, p, w.r, now); err != nil {
		return policy.Decision{}, err
	}
	f.Approved, f.Refused = verdicts(w.approved)
	*used = usedFacts(p, w.sources, nil)
	used.Key, used.Touch = f.Key.String(), ledger.Touch{Key: w.key.Fingerprint, Flags: w.touch.Flags, Counter: w.touch.Counter}
	if f.TOTP == policy.Yes {
		used.TOTP = f.TOTP.String()
	}
	used.Refused, used.Waited = f.Refused, int(w.waited.Seconds())
	r := w.r
	inquiry := policy.Inquiry{Request: policy.Request{Kind: w.kind, Person: r.Person, Host: r.Host, Login: r.Login, Minutes: r.Minutes, Reason: r.Reason,
		Ticket: r.Ticket, Failure: r.Failure, Severity: r.Severity, Forwards: forwards, Drill: r.Drill != ""}, Facts: f}
	used.Asked = c.asked(&inquiry)
	d := inquiry.Answer(p)
	for _, a := range d.Added {
		used.Added = append(used.Added, string(a))
	}
	if rule, ok := p.Rule(d.Rule); ok && (d.Approvals > 0 || w.waits) { // those that counted, no others
		for _, a := range f.Approved {
			if rule.MayApprove(a, r.Person) {
				used.Approved = append(used.Approved, a)
			}
		}
	}
	return d, nil
}

// lookUp is what the geo databases say now of addresses in a statement.
func (c *CA) lookUp(list []string) ([]policy.Source, error) {
	addrs, err := addresses(list)
	if err != nil {
		return nil, err
	}
	var out []policy.Source
	for _, a := range addrs {
		out = append(out, c.geo.Sources(a)...)
	}
	return out, nil
}

// conclude appends what the policy allowed: grant.allowed, or of an extension grant.extended, and certificate.issued. The minutes start here. An
// extension that would not end later is an *api.Problem.
func (c *CA) conclude(tx *state.Tx, r *statement.Request, key ssh.PublicKey, d policy.Decision, used ledger.Used) (*api.Granted, error) {
	now := c.now()
	until := now.Add(time.Duration(d.Minutes) * time.Minute).Truncate(time.Second)
	id, sources := r.ID, r.Sources
	subject := ledger.Subject{Request: r.ID, Person: r.Person, Host: r.Host, Login: r.Login, Key: used.Touch.Key}
	var decision ledger.Facts
	if r.Request == statement.RequestExtend {
		g, err := tx.Request(r.Of)
		if err != nil {
			return nil, err
		}
		if p := extendable(&g, until, now); p != nil {
			return nil, p
		}
		var asked statement.Request
		if err := statement.Parse([]byte(g.Statement), &asked); err != nil {
			return nil, err
		}
		id, sources, subject.Request = g.ID, asked.Sources, g.ID
		decision = &ledger.GrantExtended{Request: r.ID, Rule: d.Rule, Why: d.Why, Minutes: d.Minutes, Until: ledger.At(until), Used: used, Approvals: d.Approvals, Overridden: d.Overridden}
	} else {
		f := &ledger.GrantAllowed{Rule: d.Rule, Why: d.Why, Minutes: d.Minutes, Until: ledger.At(until), IdleSeconds: int(d.Idle.Seconds()), Used: used,
			Approvals: d.Approvals, Overridden: d.Overridden}
		for _, w := range d.Forwards {
			f.Forwards = append(f.Forwards, w.String())
		}
		decision = f
	}
	if v, err := c.revoked(tx, id, 0); err != nil {
		return nil, err
	} else if v != nil {
		return nil, &api.Problem{Status: 403, Code: v.Code, Detail: v.Detail, Reasons: []ledger.Reason{*v}, Request: id}
	}
	addrs, err := addresses(sources) // those that were signed for, no others
	if err != nil {
		return nil, err
	}
	template := sshcert.NewClient(key, r.Person, sshcert.Grant{Request: id, Login: r.Login, Host: r.Host}, addrs, now, until)
	cert, err := c.certify(tx, subject, sshcert.Client, template, func(*ssh.Certificate) error {
		_, _, err := tx.Append(c.entry(ledger.ActorCA, subject, decision))
		return err
	})
	if err != nil {
		return nil, err
	}
	var g state.Request
	if f, ok := decision.(*ledger.GrantAllowed); ok { // its row holds what was just appended, and nothing else
		if err := c.approvedIn(tx, subject, used.Approved, d.Overridden); err != nil {
			return nil, err
		}
		g = state.Request{ID: id, Person: r.Person, Login: r.Login, Host: r.Host, Certificate: authorized(cert), Allowed: f, Until: f.Until.Time, Overridden: f.Overridden}
	} else if g, err = tx.Request(id); err != nil {
		return nil, err
	}
	out, err := granted(tx, &g)
	if err != nil {
		return nil, err
	}
	return out, c.tellEnrolment(tx, out)
}

// granted is a grant as its holder reads it.
func granted(tx *state.Tx, r *state.Request) (*api.Granted, error) {
	site, err := tx.Site()
	if err != nil {
		return nil, err
	}
	return &api.Granted{ID: r.ID, Person: r.Person, Login: r.Login, Host: r.Host, Certificate: r.Certificate, Rule: r.Allowed.Rule, Why: r.Allowed.Why,
		Minutes: r.Allowed.Minutes, Until: r.Until.UTC(), Forwards: r.Allowed.Forwards, Jumps: site.Site.Jumps, HostCA: site.Site.HostCA,
		Approved: r.Allowed.Used.Approved, Overridden: r.Overridden}, nil
}
