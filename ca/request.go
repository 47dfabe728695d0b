package ca

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"golang.org/x/crypto/ssh"

	"breakglass/ca/api"
	"breakglass/ca/state"
	"breakglass/internal/name"
	"breakglass/internal/sshcert"
	"breakglass/internal/statement"
	"breakglass/ledger"
	"breakglass/policy"
)

// ask makes the statement of a request. Nothing is recorded and nothing of the policy is told: only the place is looked at, as the
// policy asks it of everybody.
func (c *CA) ask(ctx context.Context, q *api.Ask, from netip.Addr) (*api.Challenge, error) {
	if p := c.place(from); p != nil {
		return nil, p
	}
	r := &statement.Request{Request: q.Kind, Of: q.Of, Minutes: q.Minutes, Reason: q.Reason, Ticket: q.Ticket, Failure: q.Failure,
		Severity: q.Severity, Forwards: q.Forwards, Drill: q.Drill}
	if r.Request == "" {
		r.Request = statement.RequestNew
	}
	if r.Request != statement.RequestNew || r.Of != "" {
		return nil, badRequest("kind %q: only new requests stand", q.Kind)
	}
	var err error
	if r.Person, err = name.ParsePerson(q.Person); err != nil {
		return nil, badRequest("%v", err)
	}
	if r.Login, err = name.ParseLogin(q.Login); err != nil {
		return nil, badRequest("%v", err)
	}
	if r.Host, err = name.ParseHost(q.Host); err != nil {
		return nil, badRequest("%v", err)
	}
	if q.Minutes < 0 || q.Minutes > int(sshcert.MaxClientLifetime.Minutes()) {
		return nil, badRequest("minutes: %d", q.Minutes)
	}
	key, err := parseKey(q.ClientKey)
	if err != nil || key.Type() != ssh.KeyAlgoED25519 {
		return nil, badRequest("client_key: want an ssh-ed25519 public key")
	}
	r.ClientKey = ssh.FingerprintSHA256(key)
	r.Sources = []string{from.String()}
	p := c.policy.Load()
	if err := r.Policy.UnmarshalText([]byte(p.SHA256)); err != nil {
		return nil, err
	}
	var known bool
	out := &api.Challenge{Namespace: statement.KindRequest.Namespace()}
	if err := c.state.View(ctx, func(tx *state.Tx) error {
		site, err := tx.Site()
		if err != nil {
			return err
		}
		if !site.Founded {
			return &api.Problem{Status: 403, Code: api.CodeNotFounded, Detail: "this CA is not founded yet: only enrolment works until its owners have adopted keys and policy"}
		}
		r.Origin, r.Epoch = site.Site.Origin, site.Site.Epoch
		if held, err := tx.IsHolder(authorized(key)); err != nil || held {
			return errors.Join(err, badRequest("client_key: that key holds a pass; a request takes a key of its own"))
		}
		if out.Keys, known, err = c.handles(tx, r.Person, p.Always.UV); err != nil {
			return err
		}
		for { // the id is its grant's too: never one that was
			r.ID = name.NewRequestID()
			if _, err := tx.Request(r.ID); errors.Is(err, state.ErrNotFound) {
				return nil
			} else if err != nil {
				return err
			}
		}
	}); err != nil {
		return nil, err
	}
	if !known {
		c.strangers.add("unknown_person", from)
	}
	r.Checkpoint, r.Nonce, r.Issued, r.Expires = c.moment()
	ch, err := c.hand(r, string(r.ID), r.Person, known)
	if err != nil {
		return nil, err
	}
	ch.clientKey = key
	out.ID, out.Statement = ch.id, string(ch.text)
	return out, c.keep(ch)
}

// moment is what every statement for a person says of the moment.
func (c *CA) moment() (statement.Checkpoint, statement.Nonce, time.Time, time.Time) {
	head, _ := c.state.Head()
	now := c.now().Truncate(time.Second)
	return head.Pin(), statement.NewNonce(), now, now.Add(statement.Validity)
}

// hand makes a challenge of a statement. For a decoy nobody can sign it.
func (c *CA) hand(st statement.Statement, id string, p name.Person, known bool) (*challenge, error) {
	text, err := statement.Marshal(st)
	if err != nil {
		return nil, badRequest("%v", err)
	}
	now := c.now().Truncate(time.Second)
	ch := &challenge{id: id, st: st, text: text, issued: now, expires: now.Add(statement.Validity)}
	if known {
		ch.person = p
	}
	return ch, nil
}

func (c *CA) keep(ch *challenge) error {
	in := c.challenges
	if ch.st == nil {
		in = c.enrolling
	}
	if !in.add(ch) {
		return &api.Problem{Status: 503, Code: api.CodeTooMany, Detail: "try again", Next: []string{"ask again"}}
	}
	return nil
}

// place is the pre-check: what the policy refuses to everybody at that address.
func (c *CA) place(from netip.Addr) *api.Problem {
	reasons := policy.PreCheck(c.policy.Load(), policy.Facts{Now: c.now(), Sources: c.geo.Sources(from)})
	if len(reasons) == 0 {
		return nil
	}
	p := &api.Problem{Status: 403, Code: api.CodePlace, Detail: reasons[0].Detail}
	for _, r := range reasons {
		p.Reasons = append(p.Reasons, ledger.Reason{Code: string(r.Code), Detail: r.Detail})
		p.Next = append(p.Next, r.Next)
		c.strangers.add(string(r.Code), from)
	}
	return p
}

// sign judges the signed request and, if the policy allows it, issues the client certificate: decision, certificate and counter in one
// transaction, before anything is answered.
func (c *CA) sign(ctx context.Context, id, armored string, from netip.Addr) (*api.Granted, error) {
	ch := c.challenges.take(id)
	if ch == nil || ch.clientKey == nil {
		c.strangers.add("unknown_statement", from)
		return nil, expired()
	}
	a, err := c.proven(ctx, ch, armored, from)
	if err != nil {
		return nil, err
	}
	var granted *api.Granted
	var denied *api.Problem
	err = c.state.Do(ctx, func(tx *state.Tx) error {
		granted, denied = nil, nil
		var err error
		granted, denied, err = c.decide(tx, a, from)
		return err
	})
	switch {
	case err != nil:
		return nil, err
	case denied != nil:
		return nil, denied
	}
	_, granted.Checkpoint = c.state.Head()
	return granted, nil
}

// decide runs in the writer. What it refuses, it records.
func (c *CA) decide(tx *state.Tx, a *act, from netip.Addr) (*api.Granted, *api.Problem, error) {
	r := a.ch.st.(*statement.Request)
	site, err := tx.Site()
	if err != nil {
		return nil, nil, err
	}
	k, err := tx.Key(a.key.Fingerprint) // as of now, not as of the proof
	if err != nil {
		return nil, nil, err
	}
	a.key = k
	p := c.policy.Load()
	sources := c.geo.Sources(from)
	if from.String() != r.Sources[0] { // signed from elsewhere than asked: both must be allowed
		asked, err := netip.ParseAddr(r.Sources[0])
		if err != nil {
			return nil, nil, err
		}
		sources = append(c.geo.Sources(asked), sources...)
	}
	used := usedFacts(p, sources, a)
	subject := ledger.Subject{Request: r.ID, Person: r.Person, Host: r.Host, Login: r.Login, Key: a.key.Fingerprint}
	actor := ledger.PersonActor(r.Person)
	deny := func(rule name.Rule, reasons ...ledger.Reason) error {
		_, _, err := tx.Append(a.signed(c.entry(actor, subject, &ledger.RequestDenied{Rule: rule, Reasons: reasons, Used: used})))
		return err
	}
	if reason := judgeTouch(k, a.touch, p.Always.UV); reason != nil {
		return nil, keyProblem(*reason).About(r.ID), deny("", *reason)
	}
	forwards, err := policyForwards(r.Forwards)
	if err != nil {
		reason := ledger.Reason{Code: string(policy.ForwardsNotAllowed), Detail: err.Error()}
		return nil, deniedProblem("", []policy.Reason{{Code: policy.ForwardsNotAllowed, Detail: err.Error(), Next: "ask without it"}}).About(r.ID), deny("", reason)
	}
	d := policy.Decide(p, policy.Request{Kind: policy.KindNew, Person: r.Person, Host: r.Host, Login: r.Login, Minutes: r.Minutes, Reason: r.Reason,
		Ticket: r.Ticket, Failure: r.Failure, Severity: r.Severity, Forwards: forwards, Drill: r.Drill != ""},
		policy.Facts{Now: c.now(), Sources: sources, Touch: policy.TriOf(a.touch.UserPresent()), UV: policy.TriOf(a.touch.UserVerified()), Key: policy.KeyLive})
	switch d.Outcome {
	case policy.Allow:
	case policy.Ask:
		reason := ledger.Reason{Code: api.CodeApproval, Detail: fmt.Sprintf("rule %s asks for %d approvals, which can't be given yet", d.Rule, d.Missing)}
		pr := &api.Problem{Status: 403, Code: api.CodeApproval, Detail: reason.Detail, Reasons: []ledger.Reason{reason}, Rule: d.Rule,
			Next: []string{"ask for a host or login that a rule opens without approvals"}}
		return nil, pr.About(r.ID), deny(d.Rule, reason)
	default:
		return nil, deniedProblem(d.Rule, d.Reasons).About(r.ID), deny(d.Rule, reasonsOf(d.Reasons)...)
	}
	if reason, clone := judgeCounter(k, a.touch, r.Issued); reason != nil {
		if err := deny("", *reason); err != nil {
			return nil, nil, err
		}
		if clone {
			return nil, keyProblem(*reason).About(r.ID), c.suspend(tx, a, k.Counter)
		}
		return nil, keyProblem(*reason).About(r.ID), nil
	}
	return c.grant(tx, a, r, site, d, used, subject, sources)
}

// grant appends request.opened, grant.allowed and certificate.issued.
func (c *CA) grant(tx *state.Tx, a *act, r *statement.Request, site state.Site, d policy.Decision, used ledger.Used, subject ledger.Subject, sources []policy.Source) (*api.Granted, *api.Problem, error) {
	now := c.now()
	until := now.Add(time.Duration(d.Minutes) * time.Minute).Truncate(time.Second)
	g := sshcert.Grant{Request: r.ID, Login: r.Login, Host: r.Host}
	addr, err := netip.ParseAddr(r.Sources[0]) // the addresses that were signed for, no others
	if err != nil {
		return nil, nil, err
	}
	linted, err := sshcert.Lint(sshcert.NewClient(a.ch.clientKey, r.Person, g, []netip.Addr{addr}, now, until), sshcert.Client)
	if err != nil {
		return nil, nil, err
	}
	cert, err := linted.Sign(c.keys.clientCA)
	if err != nil {
		return nil, nil, err
	}
	allowed := &ledger.GrantAllowed{Rule: d.Rule, Why: d.Why, Minutes: d.Minutes, Until: ledger.At(until), IdleSeconds: int(d.Idle.Seconds()), Used: used}
	for _, f := range d.Forwards {
		allowed.Forwards = append(allowed.Forwards, f.String())
	}
	for _, e := range []*ledger.Entry{
		a.signed(c.entry(ledger.PersonActor(r.Person), subject, &ledger.RequestOpened{Touch: a.ledgerTouch()})),
		c.entry(ledger.ActorCA, subject, allowed),
		c.issued(subject, sshcert.Client, cert),
	} {
		if _, _, err := tx.Append(e); err != nil {
			return nil, nil, err
		}
	}
	return &api.Granted{ID: r.ID, Person: r.Person, Login: r.Login, Host: r.Host, Certificate: authorized(cert), Rule: d.Rule, Why: d.Why,
		Minutes: d.Minutes, Until: until, Forwards: allowed.Forwards, Jumps: site.Site.Jumps, HostCA: site.Site.HostCA}, nil, nil
}

// issued is the entry of a certificate.
func (c *CA) issued(s ledger.Subject, kind sshcert.Kind, cert *ssh.Certificate) *ledger.Entry {
	return c.entry(ledger.ActorCA, s, &ledger.CertificateIssued{Kind: string(kind), Serial: cert.Serial, KeyID: cert.KeyId,
		CA: ssh.FingerprintSHA256(cert.SignatureKey), Until: ledger.At(time.Unix(int64(cert.ValidBefore), 0)), Certificate: authorized(cert)})
}

// usedFacts is what the decision's entry says of the facts that it stood on.
func usedFacts(p *policy.Policy, sources []policy.Source, a *act) ledger.Used {
	u := ledger.Used{Key: "live"}
	if err := u.Policy.UnmarshalText([]byte(p.SHA256)); err != nil {
		panic(err) // Load made it
	}
	if a != nil {
		u.Touch = a.ledgerTouch()
		if a.key.Suspended {
			u.Key = "suspended"
		}
	}
	for _, s := range sources {
		ua := ledger.UsedAddress{Address: s.Addr.String(), Country: s.Country, Anonymous: s.Anonymous.String()}
		if !s.CountryBuilt.IsZero() {
			ua.Database = s.CountryBuilt.UTC().Format(time.RFC3339)
		}
		u.Addresses = append(u.Addresses, ua)
	}
	return u
}

func policyForwards(list []string) ([]policy.Forward, error) {
	var out []policy.Forward
	for _, s := range list {
		f, err := policy.ParseForward(s)
		if err != nil {
			return nil, err
		}
		out = append(out, f)
	}
	return out, nil
}

func reasonsOf(reasons []policy.Reason) []ledger.Reason {
	var out []ledger.Reason
	for _, r := range reasons {
		out = append(out, ledger.Reason{Code: string(r.Code), Detail: r.Detail})
	}
	return out
}

// deniedProblem is what a person who signed reads of a denial: every reason, and what to type.
func deniedProblem(rule name.Rule, reasons []policy.Reason) *api.Problem {
	p := &api.Problem{Status: 403, Code: api.CodeDenied, Detail: "denied by the policy", Rule: rule, Reasons: reasonsOf(reasons)}
	if len(reasons) > 0 {
		p.Detail = reasons[0].Detail
	}
	for _, r := range reasons {
		if r.Next != "" {
			p.Next = append(p.Next, r.Next)
		}
	}
	return p
}

// request tells what became of one: to its client key, or with a pass.
func (c *CA) request(ctx context.Context, id name.RequestID, who *caller) (*api.RequestState, error) {
	out := &api.RequestState{ID: id, Sessions: []api.SessionState{}}
	return out, c.state.View(ctx, func(tx *state.Tx) error {
		r, err := tx.Request(id)
		if errors.Is(err, state.ErrNotFound) || err == nil && !who.mayReadRequest(r) {
			return passNeeded()
		} else if err != nil {
			return err
		}
		out.State = r.State
		if r.Denied != nil {
			out.Problem = &api.Problem{Status: 403, Code: api.CodeDenied, Detail: r.Denied.Reasons[0].Detail, Reasons: r.Denied.Reasons, Rule: r.Denied.Rule, Request: id}
		}
		if r.Allowed != nil {
			site, err := tx.Site()
			if err != nil {
				return err
			}
			if !c.now().Before(r.Until) {
				out.State = "ended"
			}
			out.Granted = &api.Granted{ID: id, Person: r.Person, Login: r.Login, Host: r.Host, Certificate: r.Certificate, Rule: r.Allowed.Rule,
				Why: r.Allowed.Why, Minutes: r.Allowed.Minutes, Until: r.Until.UTC(), Forwards: r.Allowed.Forwards, Jumps: site.Site.Jumps, HostCA: site.Site.HostCA}
		}
		sessions, err := tx.Sessions(id, maxSessions)
		for _, s := range sessions {
			out.Sessions = append(out.Sessions, sessionState(s))
		}
		return err
	})
}
