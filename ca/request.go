package ca

import (
	"context"
	"net/netip"
	"slices"
	"strings"
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
	var err error
	switch r.Request {
	case statement.RequestNew:
		if r.Of != "" {
			return nil, badRequest("of: a new request is of no other")
		}
	case statement.RequestOverride, statement.RequestExtend: // whether there is such a request is judged after the signature
		if r.Of, err = name.ParseRequestID(string(q.Of)); err != nil {
			return nil, badRequest("of: %v", err)
		}
	default:
		return nil, badRequest("kind %q: want %s, %s or %s", q.Kind, statement.RequestNew, statement.RequestOverride, statement.RequestExtend)
	}
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
	var seen *api.Problem
	if r.Sources, seen = c.sources(from, q.Seen, r.ClientKey); seen != nil {
		return nil, seen
	}
	p := c.policy.Load()
	if err := r.Policy.UnmarshalText([]byte(p.SHA256)); err != nil {
		return nil, err
	}
	now, err := c.roster(ctx)
	if err != nil {
		return nil, err
	}
	if !now.Site.Founded {
		return nil, notFounded()
	}
	r.Origin, r.Epoch = now.Site.Site.Origin, now.Site.Site.Epoch
	for taken := true; taken; { // the id is its grant's too: never one that was
		r.ID = name.NewRequestID()
		var held bool
		if held, taken, err = c.state.Taken(ctx, authorized(key), r.ID); err != nil {
			return nil, err
		} else if held {
			return nil, badRequest("client_key: that key holds a pass; a request takes a key of its own")
		}
	}
	var known bool
	out := &api.Challenge{Namespace: statement.KindRequest.Namespace()}
	if out.Keys, known, err = c.handles(now, r.Person); err != nil {
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

// answer is what a signed request leads to that is not refused.
type answer struct {
	granted *api.Granted
	waiting *api.Waiting // it needs approvals
}

// sign judges the signed request and, if the policy allows it, issues the client certificate: decision, certificate and counter in one
// transaction, before anything is answered.
func (c *CA) sign(ctx context.Context, id, armored, code string, from netip.Addr) (answer, error) {
	ch := c.challenges.take(id)
	if ch == nil || ch.clientKey == nil {
		c.strangers.add("unknown_statement", from)
		return answer{}, expired()
	}
	a, err := c.proven(ctx, ch, armored, from)
	if err != nil {
		return answer{}, err
	}
	a.code = code
	var out answer
	var denied *api.Problem
	err = c.state.Do(ctx, func(tx *state.Tx) error {
		out, denied = answer{}, nil
		var err error
		out, denied, err = c.decide(tx, a, from)
		return err
	})
	r := ch.st.(*statement.Request)
	switch {
	case err != nil:
		return answer{}, err
	case denied != nil:
		return answer{}, denied
	case r.Of != "": // whoever waits for it hears of it
		c.changes.tell(r.Of)
	}
	if out.granted != nil {
		_, out.granted.Checkpoint = c.state.Head()
	}
	return out, nil
}

// asking is a signed request being judged, in the writer.
type asking struct {
	tx      *state.Tx
	a       *act
	r       *statement.Request
	site    state.Site
	sources []policy.Source
	subject ledger.Subject
	used    ledger.Used
}

// deny records that the request came to nothing.
func (c *CA) deny(q *asking, rule name.Rule, reasons ...ledger.Reason) error {
	if _, _, err := q.tx.Append(q.a.signed(c.entry(ledger.PersonActor(q.r.Person), q.subject, &ledger.RequestDenied{Rule: rule, Reasons: reasons, Used: q.used}))); err != nil {
		return err
	}
	return c.refusedAct(q.tx, q.r.Person)
}

// refuse is deny with one reason that is no policy's.
func (c *CA) refuse(q *asking, p *api.Problem) (answer, *api.Problem, error) {
	p.Reasons = []ledger.Reason{{Code: p.Code, Detail: p.Detail}}
	q.used = notThePolicy(q.used)
	return answer{}, p.About(q.r.ID), c.deny(q, p.Rule, p.Reasons...)
}

// decide runs in the writer. What it refuses, it records.
func (c *CA) decide(tx *state.Tx, a *act, from netip.Addr) (answer, *api.Problem, error) {
	r := a.ch.st.(*statement.Request)
	site, err := tx.Site()
	if err != nil {
		return answer{}, nil, err
	}
	if a.key, err = tx.Key(a.key.Fingerprint); err != nil { // as of now, not as of the proof
		return answer{}, nil, err
	}
	p := c.policy.Load()
	q := &asking{tx: tx, a: a, r: r, site: site,
		subject: ledger.Subject{Request: r.ID, Person: r.Person, Host: r.Host, Login: r.Login, Key: a.key.Fingerprint}}
	if q.sources, err = c.lookUp(r.Sources); err != nil {
		return answer{}, nil, err
	}
	if !slices.Contains(r.Sources, from.String()) { // signed from elsewhere than asked: that must be allowed too
		q.sources = append(q.sources, c.geo.Sources(from)...)
	}
	q.used = usedFacts(p, q.sources, a)
	if reason := judgeTouch(a.key, a.touch, p.Always.UV); reason != nil {
		return answer{}, keyProblem(*reason).About(r.ID), c.deny(q, "", *reason)
	}
	if wrong, err := c.clockRefusal(tx); err != nil {
		return answer{}, nil, err
	} else if wrong != nil {
		return answer{}, wrong.About(r.ID), c.deny(q, "", wrong.Reasons...)
	}
	if _, reason, err := c.totpFact(tx, r.Person, a.code, q.subject); err != nil {
		return answer{}, nil, err
	} else if reason != nil {
		return answer{}, totpProblem(*reason).About(r.ID), c.deny(q, "", *reason)
	}
	switch r.Request {
	case statement.RequestOverride:
		return c.override(q)
	case statement.RequestExtend:
		return c.extend(q)
	}
	d, err := c.weigh(tx, &weighing{kind: policy.KindNew, r: r, sources: q.sources, key: a.key, touch: a.touch}, &q.used)
	if err != nil {
		return answer{}, nil, err
	}
	if d.Outcome == policy.Deny {
		return answer{}, deniedProblem(d.Rule, d.Reasons).About(r.ID), c.deny(q, d.Rule, reasonsOf(d.Reasons)...)
	}
	return c.open(q, d)
}

// late judges the counter, which comes last of all. A refusal is recorded.
func (c *CA) late(q *asking) (*api.Problem, error) {
	reason, clone := judgeCounter(q.a.key, q.a.touch, q.r.Issued)
	if reason == nil {
		return nil, nil
	}
	q.used = notThePolicy(q.used)
	if err := c.deny(q, "", *reason); err != nil {
		return nil, err
	}
	if clone {
		return keyProblem(*reason).About(q.r.ID), c.suspend(q.tx, q.a, q.a.key.Counter)
	}
	return keyProblem(*reason).About(q.r.ID), nil
}

// open appends request.opened, and what was decided at once: of a request that needs approvals, nothing yet.
func (c *CA) open(q *asking, d policy.Decision) (answer, *api.Problem, error) {
	opened := &ledger.RequestOpened{Touch: q.a.ledgerTouch()}
	now := c.now()
	if d.Outcome == policy.Ask {
		if p, err := c.crowded(q.tx, q.r.Person, now); err != nil {
			return answer{}, nil, err
		} else if p != nil {
			return c.refuse(q, p)
		}
		opened.Waits = &ledger.Waits{ClientKey: authorized(q.a.ch.clientKey), Rule: d.Rule, Why: d.Why, Approvals: d.Approvals, Approvers: d.Approvers,
			Until: ledger.At(now.Add(d.Wait)), Used: q.used}
		if d.Override > 0 {
			t := ledger.At(now.Add(d.Override))
			opened.Waits.Override = &t
		}
	}
	if p, err := c.late(q); err != nil || p != nil {
		return answer{}, p, err
	}
	if _, _, err := q.tx.Append(q.a.signed(c.entry(ledger.PersonActor(q.r.Person), q.subject, opened))); err != nil {
		return answer{}, nil, err
	}
	if d.Outcome == policy.Ask {
		row, err := q.tx.Request(q.r.ID)
		if err != nil {
			return answer{}, nil, err
		}
		w, err := c.waiting(q.tx, &row)
		return answer{waiting: w}, nil, err
	}
	g, err := c.conclude(q.tx, q.r, q.a.ch.clientKey, d, q.used)
	return answer{granted: g}, nil, err
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
		ua := ledger.UsedAddress{Address: s.Addr.String(), Country: s.Country, Anonymous: s.Anonymous.String(), Subdivision: strings.Join(s.Subdivisions, " "), ASN: s.ASN}
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
