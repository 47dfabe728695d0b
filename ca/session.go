package ca

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"time"

	"golang.org/x/crypto/ssh"

	"breakglass/ca/api"
	"breakglass/ca/state"
	"breakglass/internal/name"
	"breakglass/internal/sshcert"
	"breakglass/internal/sshsig"
	"breakglass/internal/statement"
	"breakglass/ledger"
	"breakglass/policy"
)

// maxSessions bounds a listing.
const maxSessions = 10_000

// resolveTimeout bounds the wait for a name server: without it a person would wait before a refusal that says nothing.
const resolveTimeout = 3 * time.Second

// openSession is the CA's decision whether a connection at a jump may become a session. What it answers is the entry.
func (c *CA) openSession(ctx context.Context, q *api.SessionAsk, from netip.Addr) (*api.SessionAnswer, error) {
	var st statement.Session
	if err := statement.Parse([]byte(q.Statement), &st); err != nil {
		return nil, badRequest("%v", err)
	}
	sig, err := sshsig.Parse([]byte(q.SSHSIG))
	if err != nil {
		return nil, badRequest("%v", err)
	}
	now := c.now()
	if d := now.Sub(st.Issued); d > api.CallSkew || d < -api.CallSkew {
		return nil, &api.Problem{Status: 401, Code: api.CodeClock, Detail: bothClocks("the jump's", st.Issued, now), Next: []string{"set the jump's clock to " + now.Format(time.RFC3339)}}
	}
	// A jump's signature comes before the writer, which a stranger's question must not even knock at, and before any name server is asked.
	if err := c.state.View(ctx, func(tx *state.Tx) error {
		_, err := c.askingJump(tx, &st, sig, q.Statement)
		return err
	}); err != nil {
		if pr := new(api.Problem); errors.As(err, &pr) {
			c.strangers.add("unknown_jump", from)
		}
		return nil, err
	}
	hosts := c.resolved(ctx, &st) // before the writer: it must not wait for a name server
	var out *api.SessionAnswer
	var refusal *api.Problem
	var idx int64
	var raw []byte
	err = c.state.Do(ctx, func(tx *state.Tx) error {
		out, refusal = nil, nil
		j, err := c.askingJump(tx, &st, sig, q.Statement) // as of now
		if err != nil {
			return err
		}
		if used, err := tx.NonceUsed(st.Nonce); err != nil || used {
			return errors.Join(err, expired())
		}
		s := &sessionAsk{st: &st, jump: j, q: q, addresses: hosts}
		var entry *ledger.Entry
		if out, entry, refusal, err = c.session(tx, s); err != nil {
			return err
		}
		entry.Statement, entry.SSHSIG = q.Statement, string(sig.Armor())
		if refusal != nil {
			_, _, err = tx.Append(entry)
			return err
		}
		session := func() error {
			_, err := c.certify(tx, entry.Subject, sshcert.Session, s.template, func(cert *ssh.Certificate) error {
				out.Opened.Certificate = authorized(cert)
				entry.Facts = &out.Opened
				idx, raw, err = tx.Append(entry)
				return err
			})
			return err
		}
		if s.via == nil {
			return session()
		}
		// session.opened holds both certificates, and comes before the entries of either.
		_, err = c.certify(tx, entry.Subject, sshcert.Via, s.via, func(cert *ssh.Certificate) error {
			out.Opened.Via.Certificate = authorized(cert)
			return session()
		})
		return err
	})
	if err != nil {
		return nil, err
	}
	if refusal != nil {
		return nil, refusal
	}
	out.Entry.Index, out.Entry.Entry = idx, string(raw)
	return out, c.state.View(ctx, func(tx *state.Tx) error {
		head, note, err := tx.Head()
		if err != nil {
			return err
		}
		out.Entry.Checkpoint = note
		out.Entry.Proof, err = tx.Inclusion(head.Size, idx)
		return err
	})
}

// askingJump is the joined jump that signed the question.
func (c *CA) askingJump(tx *state.Tx, st *statement.Session, sig *sshsig.Signature, text string) (state.Jump, error) {
	j, err := tx.Jump(st.Jump)
	if errors.Is(err, state.ErrNotFound) {
		return j, refused()
	} else if err != nil {
		return j, err
	}
	key, err := parseKey(j.Jump.Key)
	if err != nil {
		return j, err
	}
	if v, err := tx.JumpKeyRevoked(j.Jump.Key); err != nil || v {
		return j, errors.Join(err, refused())
	}
	if st.Origin != c.keys.ledger.Name() || sig.Verify(key, statement.KindSession.Namespace(), []byte(text)) != nil {
		return j, refused()
	}
	return j, nil
}

type sessionAsk struct {
	st       *statement.Session
	jump     state.Jump
	q        *api.SessionAsk
	template *ssh.Certificate // of the session
	via      *ssh.Certificate // template for the bastion, if the host is behind one
	// addresses are the host's, or those of its via: IP:PORT.
	addresses []string
}

// resolved gives the addresses to which the jump connects for the host that a client certificate names, its own or its via's: those that the policy writes out, and what a name server says
// of the others. For a certificate that is not this CA's nobody is asked.
func (c *CA) resolved(ctx context.Context, st *statement.Session) []string {
	cert, err := sshcert.Parse([]byte(st.Certificate))
	if err != nil {
		return nil
	}
	site, err := c.site(ctx)
	if err != nil {
		return nil
	}
	if cas, err := trusted(site.Site, sshcert.Client); err != nil || sshcert.Verify(cert, sshcert.Client, cas, c.now()) != nil {
		return nil
	}
	g, err := sshcert.ParseGrant(cert.CriticalOptions[sshcert.OptionGrant])
	if err != nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, resolveTimeout)
	defer cancel()
	p := c.policy.Load()
	info, _ := p.Host(g.Host)
	var out []string
	for _, a := range connectTo(p, &info) {
		if _, err := netip.ParseAddrPort(a); err == nil {
			out = append(out, a)
			continue
		}
		host, port, err := net.SplitHostPort(a)
		if err != nil {
			continue
		}
		ips, err := c.cfg.Resolve(ctx, host)
		if err != nil {
			c.log.Warn("host is known by name only, and the name is not found", "host", g.Host, "name", host, "error", err)
		}
		for _, ip := range ips {
			out = append(out, net.JoinHostPort(ip.Unmap().String(), port))
		}
	}
	return out
}

// session judges, in the writer. It gives the entry to append: session.opened, or session.refused with a problem.
func (c *CA) session(tx *state.Tx, s *sessionAsk) (*api.SessionAnswer, *ledger.Entry, *api.Problem, error) {
	st, now, p := s.st, c.now(), c.policy.Load()
	actor := ledger.JumpActor(st.Jump)
	subject := ledger.Subject{Jump: st.Jump, Login: st.Login, Host: st.Host}
	var used ledger.Used
	no := func(code, detail string, more ...ledger.Reason) (*api.SessionAnswer, *ledger.Entry, *api.Problem, error) {
		reasons := append([]ledger.Reason{{Code: code, Detail: detail}}, more...)
		pr := &api.Problem{Status: 403, Code: api.CodeSession, Detail: detail, Reasons: reasons, Request: subject.Request,
			Next: []string{fmt.Sprintf("breakglass request %s@%s", subject.Login, subject.Host)}}
		if code == api.CodeNoRecipient { // asking again changes nothing
			pr.Next = []string{"have a reader run: breakglass reviewer init"}
		}
		return nil, c.entry(actor, subject, &ledger.SessionRefused{Peer: st.Peer, Reasons: reasons, Used: used}), pr, nil
	}
	site, err := tx.Site()
	if err != nil {
		return nil, nil, nil, err
	}
	cas, err := trusted(site.Site, sshcert.Client)
	if err != nil {
		return nil, nil, nil, err
	}
	cert, err := sshcert.Parse([]byte(st.Certificate))
	if err == nil {
		err = sshcert.Verify(cert, sshcert.Client, cas, now)
	}
	if err != nil {
		return no("certificate", err.Error())
	}
	g, err := sshcert.ParseGrant(cert.CriticalOptions[sshcert.OptionGrant])
	if err != nil {
		return no("certificate", err.Error())
	}
	_, person, err := sshcert.ParseKeyID(cert.KeyId)
	if err != nil {
		return no("certificate", err.Error())
	}
	subject.Request, subject.Person, subject.Host, subject.Login = g.Request, person, g.Host, st.Login
	r, err := tx.Request(g.Request)
	if errors.Is(err, state.ErrNotFound) || err == nil && (r.Allowed == nil || !r.Issued(authorized(cert))) {
		return no("certificate_unrecorded", "no entry holds this certificate") // somebody else signed with the CA's key
	} else if err != nil {
		return nil, nil, nil, err
	}
	if v, err := c.revoked(tx, r.ID, cert.Serial); err != nil {
		return nil, nil, nil, err
	} else if v != nil {
		return no(v.Code, v.Detail)
	}
	if wrong, err := c.clockWrong(tx, now); err != nil {
		return nil, nil, nil, err
	} else if wrong != nil {
		return no(wrong.Code, wrong.Detail)
	}
	if !now.Before(r.Until) {
		return no(api.CodeGrantEnded, fmt.Sprintf("the grant %s ended at %s", r.ID, r.Until.UTC().Format("15:04:05Z")))
	}
	if st.Login != r.Login || st.Host != "" && st.Host != r.Host {
		return no("other_target", fmt.Sprintf("the grant is for %s@%s", r.Login, r.Host))
	}
	peer, err := netip.ParseAddr(st.Peer)
	if err != nil {
		return nil, nil, nil, badRequest("peer %q: want an address", st.Peer)
	}
	if err := sshcert.FromSource(cert, peer); err != nil {
		return no("other_address", fmt.Sprintf("the certificate is not for %s", peer))
	}
	jumpKey, err := parseKey(st.Key)
	if err != nil || jumpKey.Type() != ssh.KeyAlgoED25519 {
		return nil, nil, nil, badRequest("key: want an ssh-ed25519 public key")
	}
	// The policy once more, as it is now, with the address that the jump sees.
	asked := &statement.Request{}
	if err := statement.Parse([]byte(r.Statement), asked); err != nil {
		return nil, nil, nil, err
	}
	k, err := tx.Key(r.Allowed.Used.Touch.Key)
	if err != nil {
		return nil, nil, nil, err
	}
	keyState := c.keyState(k, now)
	forwards, err := policyForwards(asked.Forwards)
	if err != nil {
		return nil, nil, nil, err
	}
	code, err := c.totpOf(tx, asked)
	if err != nil {
		return nil, nil, nil, err
	}
	touch := sshsig.Touch{Flags: r.Allowed.Used.Touch.Flags, Counter: r.Allowed.Used.Touch.Counter}
	sources := c.geo.Sources(peer)
	used = usedFacts(p, sources, nil)
	used.Key, used.Touch = keyState.String(), r.Allowed.Used.Touch
	inquiry := policy.Inquiry{Request: policy.Request{Kind: policy.KindNew, Person: r.Person, Host: r.Host, Login: r.Login, Minutes: r.Allowed.Minutes,
		Reason: asked.Reason, Ticket: asked.Ticket, Failure: asked.Failure, Severity: asked.Severity, Forwards: forwards, Drill: asked.Drill != ""},
		Grant: &policy.GrantTime{Start: r.AllowedAt, End: r.Until},
		Facts: policy.Facts{Now: now, Sources: sources, Touch: policy.TriOf(touch.UserPresent()), UV: policy.TriOf(touch.UserVerified()), Key: keyState, TOTP: code,
			Approved: r.Allowed.Used.Approved, Overridden: r.Allowed.Overridden > 0, OnCall: c.onCall.facts(p, r.Person, now)}}
	used.Asked = c.asked(&inquiry)
	d := inquiry.Answer(p)
	if d.Outcome != policy.Allow {
		more := reasonsOf(d.Reasons)
		if len(more) == 0 {
			more = []ledger.Reason{{Code: api.CodeApproval, Detail: "the policy now asks for approvals"}}
		}
		return no(more[0].Code, more[0].Detail, more[1:]...)
	}
	allowed := used
	used = notThePolicy(used) // of what refuses below
	host, ok := p.Host(r.Host)
	if !ok || len(host.HostKeys)+len(host.HostCA) == 0 {
		return no("unknown_host", fmt.Sprintf("the policy names no key by which %s is known", r.Host))
	}
	if len(s.addresses) == 0 {
		what := string(r.Host)
		if host.Via != "" {
			what = "via " + string(host.Via) + ", which leads to " + what + ","
		}
		return no("address_unknown", fmt.Sprintf("the policy knows %s by name only, and no name server answers for it", what))
	}
	recipients, err := c.recipientSet(tx, p, now)
	if err != nil {
		return nil, nil, nil, err
	}
	if len(recipients.readers) == 0 {
		return no(api.CodeNoRecipient, "nobody could read the recording: no reader of the policy has run `breakglass reviewer init`")
	}
	n, err := tx.NextSession(r.ID)
	if err != nil {
		return nil, nil, nil, err
	}
	subject.Session = r.ID.Session(n)
	source, err := addresses(s.jump.Jump.Source)
	if err != nil {
		return nil, nil, nil, err
	}
	until := r.Until
	if d.End.Before(until) {
		until = d.End
	}
	f := &ledger.SessionOpened{Door: st.Door, Peer: st.Peer, SSHSession: st.SSHSession, Serial: cert.Serial, Key: st.Key, Addresses: s.addresses,
		HostKeys: keyTexts(host.HostKeys), HostCAs: keyTexts(host.HostCA), Until: ledger.At(until), IdleSeconds: int(d.Idle.Seconds()), Grace: int(p.Always.Grace.Seconds()), Budget: d.Budget,
		WatchedBy: d.WatchedBy, Quiet: !p.Always.ShowWatchers && len(d.WatchedBy) == 0,
		Forwards: forwardTexts(d.Forwards, r.Allowed.Forwards), Policy: allowed.Policy, Rule: d.Rule, Used: allowed}
	if r.Key != f.Used.Touch.Key {
		f.Opener = r.Key
	}
	// The set is in the ledger before the session that names it; here, if time or another policy changed it and nothing else came since.
	if recipients, f.Set, err = c.recordSet(tx); err != nil {
		return nil, nil, nil, err
	}
	f.Recipients, f.Readers = recipients.ages, recipients.readers
	if host.ClockSlack > sshcert.SessionSlack {
		f.ClockSlack = int(host.ClockSlack.Seconds())
	}
	rule, ok := p.Rule(d.Rule)
	if !ok { // how long it has to stay must not be a guess
		return nil, nil, nil, fmt.Errorf("decided by rule %q, which the policy doesn't have", d.Rule)
	}
	f.RetainDays, f.LegalHold = rule.RetainDays, rule.LegalHold
	source = c.through(p, s, f, &host, &r, jumpKey, source, now)
	s.template = sshcert.NewSession(jumpKey, r.Person, g, source, len(f.Forwards) > 0, now, host.ClockSlack)
	return &api.SessionAnswer{Session: subject.Session, Person: r.Person, Login: r.Login, Host: r.Host, Opened: *f, Now: now},
		c.entry(actor, subject, f), nil, nil
}

// forwardTexts are those that the policy allows now and the grant allowed then.
func forwardTexts(now []policy.Forward, then []string) []string {
	var out []string
	for _, f := range now {
		if slices.Contains(then, f.String()) {
			out = append(out, f.String())
		}
	}
	return out
}

func keyTexts(keys []ssh.PublicKey) []string {
	var out []string
	for _, k := range keys {
		out = append(out, authorized(k))
	}
	return out
}

func addresses(list []string) ([]netip.Addr, error) {
	var out []netip.Addr
	for _, s := range list {
		a, err := netip.ParseAddr(s)
		if err != nil {
			return nil, err
		}
		out = append(out, a)
	}
	return out, nil
}

func sessionState(s state.Session) api.SessionState {
	out := api.SessionState{ID: s.ID, Person: s.Person, Login: s.Login, Host: s.Host, Jump: s.Jump, Reason: s.Reason, Peer: s.Peer,
		Opened: s.Opened.UTC(), Until: s.Until.UTC(), State: s.State, Stored: s.Stored, Seconds: s.Seconds, Overridden: s.Overridden}
	if !s.Ended.IsZero() {
		out.Ended = s.Ended.UTC()
	}
	if s.Head != nil {
		out.Bytes = s.Head.Bytes
	}
	return out
}

// sessions lists what a caller may see: all with a pass, a request's own to its client key.
func (c *CA) sessions(ctx context.Context, request name.RequestID, who *caller) ([]api.SessionState, error) {
	out := []api.SessionState{}
	return out, c.state.View(ctx, func(tx *state.Tx) error {
		if who == nil || who.person == "" {
			r, err := tx.Request(request)
			if err != nil || !who.mayReadRequest(r) {
				return passNeeded()
			}
		}
		list, err := tx.Sessions(request, maxSessions)
		if err != nil {
			return err
		}
		watching, err := tx.Watches("")
		for _, s := range list {
			st := sessionState(s)
			for _, w := range watching {
				if w.Session == s.ID {
					st.Watchers = append(st.Watchers, api.Watcher{Person: w.Person, Since: w.Since.UTC(), Observer: w.Observer})
				}
			}
			out = append(out, st)
		}
		return err
	})
}
