package jump

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"

	"breakglass/ca/api"
	"breakglass/ca/api/client"
	"breakglass/internal/sshsig"
	"breakglass/internal/statement"
	"breakglass/ledger"
	"breakglass/transcript"
)

// say makes an error that the person reads before "Permission denied".
func say(err error, text string, hints ...string) error {
	var b strings.Builder
	fmt.Fprintf(&b, "breakglass: error: %s\n", printable(text))
	for _, h := range hints {
		fmt.Fprintf(&b, "breakglass: hint: %s\n", printable(h))
	}
	return &ssh.BannerError{Err: fmt.Errorf("%s: %w", text, err), Message: b.String()}
}

// printable keeps other people's words (a host's, the CA's) from driving the person's terminal.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || r >= 0x80 && r < 0xa0 {
			return '?'
		}
		return r
	}, s)
}

// openSession makes a session of a proven connection: the CA's entry first, then the recorder, then the host. What it returns is an
// error that tells the person why not.
func (j *Jump) openSession(ctx context.Context, d *doorConn, c *claim, sshSession []byte) (*session, error) {
	ctx, cancel := context.WithTimeout(ctx, openTimeout)
	defer cancel()
	j.opening.Add(1)
	defer j.opening.Add(-1)
	pre := d.early
	d.early = nil
	used := false
	defer func() {
		if pre != nil && !used {
			pre.release(nil, nil)
		}
	}()
	if err := j.admits(target(c)); err != nil {
		return nil, err
	}
	if j.journalErr() != nil {
		return nil, say(j.journalErr(), "this jump can't record, so it opens nothing", j.elsewhere(target(c)))
	}
	if left, _ := j.cfg.Journal.Room(); left < 2*journalLow {
		return nil, say(errors.New("journal is full"), "this jump has no room to record another session: recordings wait for the store",
			j.elsewhere(target(c)))
	}
	_, priv, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, say(err, "the jump could not make a key")
	}
	key, err := ssh.NewSignerFromKey(priv)
	if err != nil {
		return nil, say(err, "the jump could not make a key")
	}
	o, err := j.askCA(ctx, d, c, sshSession, key)
	if err != nil {
		return nil, err
	}
	log := j.log.With("session", o.session)
	_, door := d.way.words()
	s := &session{j: j, order: o, until: o.opened.Until.Time, channels: map[*channel]struct{}{}, done: make(chan struct{}), hold: newHold(o.opened.WatchedBy)}
	s.client, s.personAlgs, s.peer, s.door = string(d.meta.ClientVersion()), algorithms(d.meta), c.peer, door
	s.budget.each = o.budget
	s.pace = newPace()
	s.budget.all.Store(o.budget)
	if s.rec, err = j.newRecorder(o, door, s.failed); err != nil {
		log.Error("recorder not begun", "error", err)
		return nil, say(err, "the session can't be recorded, so it isn't opened", j.elsewhere(target(c)))
	}
	s.rec.requested = s.requested
	if !j.keepSession(s) {
		return nil, s.never(endStopped, say(errors.New("stopping"), "this jump is going down or full", j.elsewhere(s.target())))
	}
	if h := j.expect(o); h != nil { // heard while the CA's answer was on its way
		s.cut(endRevoked, h.text())
		return nil, s.cutEarly()
	}
	first := fmt.Sprintf("%s@%s from %s, %s", o.login, o.host, c.peer, printable(string(d.meta.ClientVersion())))
	err = s.rec.now(transcript.Event{Kind: transcript.KindWall, Data: transcript.EncodeWall(j.cfg.Now())}, act(0, "connection", first))
	if err != nil {
		return nil, s.never(endFailed, say(err, "the session can't be recorded, so it isn't opened"))
	}
	signer, err := sessionSigner(o.cert, key)
	if err != nil {
		return nil, s.never(endUnreachable, say(err, "the CA's session certificate doesn't fit its key"))
	}
	if o.via != nil && o.via.cert != nil {
		if o.via.signer, err = sessionSigner(o.via.cert, key); err != nil {
			return nil, s.never(endUnreachable, say(err, "the CA's certificate for the bastion doesn't fit its key"))
		}
	}
	used = true
	up, err := o.reach(ctx, pre, j.source, signer)
	if err != nil {
		return nil, s.notReached(err)
	}
	if !s.take(up, func() { d.Close() }) {
		up.client.Close()
		return nil, s.never(endStopped, s.cutEarly())
	}
	if err := s.rec.now(act(0, "host", fmt.Sprintf("logged in at %s%s, %s", s.up.address, s.up.through, printable(string(s.up.client.ServerVersion()))))); err != nil {
		return nil, s.never(endFailed, say(err, "the session can't be recorded, so it isn't opened"))
	}
	j.figures.count(j.figures.opened, door)
	log.Info("session opened", "person", o.person, "login", o.login, "host", o.host, "peer", c.peer, "until", o.opened.Until, "address", up.address+up.through)
	s.start()
	return s, nil
}

// cutEarly says why a session was cut before it began.
func (s *session) cutEarly() error {
	s.mu.Lock()
	reason, text := s.reason, s.parting
	s.mu.Unlock()
	if reason == endRevoked {
		return say(errRevoked, strings.TrimPrefix(text, "breakglass: "))
	}
	return say(errors.New("cut while opening"), "the session was cut before it began", "breakglass ssh "+s.target())
}

func target(c *claim) string { return string(c.grant.Login) + "@" + string(c.grant.Host) }

// never ends a session that didn't come to a channel, and passes the error on.
func (s *session) never(reason string, err error) error {
	s.close(reason)
	return err
}

// take gives the session its two ends, unless it was cut before.
func (s *session) take(up *upstream, hangUp func()) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.over {
		return false
	}
	s.up, s.hangUp = up, hangUp
	return true
}

// notReached tells why the host couldn't be entered.
func (s *session) notReached(err error) error {
	var wrong *hostKeyMismatch
	if errors.As(err, &wrong) {
		seen := ssh.FingerprintSHA256(wrong.seen)
		who, keys := string(s.order.host), slices.Concat(s.order.hostKeys, s.order.hostCAs)
		if wrong.via != "" {
			who, keys = fmt.Sprintf("via %s, which leads to %s,", wrong.via, s.order.host), slices.Concat(s.order.via.hostKeys, s.order.via.hostCAs)
		}
		f := &ledger.HostKeyMismatch{Via: wrong.via, Address: wrong.address, Seen: seen}
		for _, k := range keys {
			f.Wanted = append(f.Wanted, ssh.FingerprintSHA256(k))
		}
		s.rec.now(act(0, endWrongHost, wrong.Error()))
		if _, ferr := s.j.facts.Append(f, s.order.session, nil); ferr != nil {
			s.j.log.Error("host key mismatch not told", "session", s.order.session, "error", ferr)
		}
		s.j.log.Error("host showed a wrong key", "session", s.order.session, "host", s.order.host, "via", wrong.via, "address", wrong.address, "seen", seen)
		return s.never(endWrongHost, say(err,
			fmt.Sprintf("%s IS NOT WHO IT SHOULD BE. At %s it showed host key %s; the policy names %s. Nothing was sent to it. This is recorded and alerted.",
				who, wrong.address, seen, strings.Join(f.Wanted, ", ")),
			"somebody may be in between, or the machine was installed anew; if it was, an owner puts its new key into the policy"))
	}
	if rerr := s.rec.now(act(0, endUnreachable, printable(err.Error()))); rerr != nil { // the host's words may be in it
		return s.never(endFailed, say(rerr, "the session can't be recorded, so it isn't opened"))
	}
	if broken := (*viaError)(nil); errors.As(err, &broken) && broken.refused { // by the bastion, not by the host
		return s.never(endUnreachable, say(err, fmt.Sprintf("%s can't be entered: %v", s.order.host, err),
			"if the bastion refuses the jump: contrib/sshd/README.md says what its sshd needs"))
	}
	return s.never(endUnreachable, say(err, fmt.Sprintf("%s can't be entered: %v", s.order.host, err),
		"if it answers but refuses: `breakglass-ca host setup "+string(s.order.host)+"` prints what its sshd needs; a clock that is off by "+
			s.order.opened.Slack().String()+" refuses too (clock_slack in the policy)"))
}

// askCA gets the session.opened entry and checks it.
func (j *Jump) askCA(ctx context.Context, d *doorConn, c *claim, sshSession []byte, key ssh.Signer) (*order, error) {
	q := j.question(c, d, sshSession, key.PublicKey())
	text, err := statement.Marshal(q)
	if err != nil {
		return nil, say(err, "the jump could not ask the CA")
	}
	sig, err := sshsig.Sign(j.cfg.Key, statement.KindSession.Namespace(), text)
	if err != nil {
		return nil, say(err, "the jump could not ask the CA")
	}
	ask := &api.SessionAsk{Statement: string(text), SSHSIG: string(sig.Armor())}
	cctx, cancel := context.WithTimeout(ctx, caTimeout)
	defer cancel()
	a, err := j.cfg.CA.OpenSession(cctx, ask)
	var p *api.Problem
	if errors.As(err, &p) {
		j.log.Info("session refused by the CA", "request", c.grant.Request, "code", p.Code, "detail", p.Detail)
		text := p.Detail
		if text == "" {
			text = p.Title
		}
		for _, r := range p.Reasons {
			if !strings.Contains(text, r.Detail) {
				text += "; " + r.Detail
			}
		}
		code := p.Code
		if len(p.Reasons) > 0 {
			code = p.Reasons[0].Code // the word in the entry too: session_refused alone says nothing
		}
		return nil, say(err, fmt.Sprintf("%s (%s)", text, code), p.Next...)
	}
	if errors.Is(err, client.ErrPin) || errors.Is(err, client.ErrProof) || errors.Is(err, client.ErrRollback) || errors.Is(err, client.ErrAnswer) {
		j.log.Error("CA's answer refused", "request", c.grant.Request, "error", err)
		return nil, say(err, "the CA's answer does not hold; nothing is opened", "tell an operator: "+err.Error())
	}
	if err != nil {
		j.log.Warn("CA unreachable", "error", err)
		return nil, say(err, "the CA does not answer, and nothing is opened that it has not written down first",
			"sessions that run go on; try again in a moment: breakglass ssh "+target(c),
			"breakglass status says what is down")
	}
	o, err := checkAnswer(a, q, ask, c, j.trusted())
	if err != nil {
		j.log.Error("CA's answer refused", "request", c.grant.Request, "error", err)
		return nil, say(err, "the CA's answer does not hold; nothing is opened", "tell an operator: "+err.Error())
	}
	return o, nil
}

// beginEarly reaches for the host while the person still proves the key: the certificate is one that our CA signed for it.
func (j *Jump) beginEarly(ctx context.Context, d *doorConn, c *claim) {
	if d.early != nil {
		return
	}
	as := j.hostCerts.addresses(c.grant.Host)
	if len(as) == 0 {
		return
	}
	d.early = early(ctx, as[0], j.source, string(c.grant.Login), j.algorithms(c))
}

// algorithms are the host key types that the last answer about this host named.
func (j *Jump) algorithms(c *claim) []string {
	j.mu.Lock()
	defer j.mu.Unlock()
	if a, ok := j.hostAlgs[c.grant.Host]; ok {
		return a
	}
	return []string{ssh.CertAlgoED25519v01, ssh.KeyAlgoED25519, ssh.CertAlgoECDSA256v01, ssh.KeyAlgoECDSA256, ssh.KeyAlgoRSASHA512, ssh.KeyAlgoRSASHA256}
}

func firstSource(as []netip.Addr) netip.Addr {
	if len(as) == 1 {
		return as[0]
	}
	return netip.Addr{} // several: the system chooses by the route
}

// wallNow is Config.Now's default.
func wallNow() time.Time { return time.Now() }
