package jump

import (
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"time"

	"filippo.io/age"
	"golang.org/x/crypto/ssh"

	"breakglass/ca/api"
	"breakglass/internal/forward"
	"breakglass/internal/name"
	"breakglass/internal/sshcert"
	"breakglass/internal/statement"
	"breakglass/ledger"
	"breakglass/transcript"
)

// errAnswer is wrapped by every refusal of the CA's answer: it is not the entry that was asked for, or is not in the ledger.
var errAnswer = errors.New("the CA's answer does not hold")

// order is all that a session may do: the checked session.opened entry. Nothing else that the CA said is used.
type order struct {
	session    name.SessionID
	person     name.Person
	login      name.Login
	host       name.Host
	index      int64          // of the entry
	bind       statement.Hash // of the entry
	checkpoint ledger.Checkpoint
	opened     *ledger.SessionOpened
	cert       *ssh.Certificate
	via        *via     // nil: the host is reached directly
	addresses  []string // of the host
	hostKeys   []ssh.PublicKey
	hostCAs    []ssh.PublicKey
	recipients []age.Recipient
	forwards   []forward.Forward
	left       time.Duration // to the grant's end, by the CA's clock
	grace      time.Duration // without the CA's sign of life
	budget     int64         // bytes
}

// checkAnswer holds the answer against the question.
func checkAnswer(a *api.SessionAnswer, q *statement.Session, ask *api.SessionAsk, c *claim, t trust) (*order, error) {
	bad := func(format string, args ...any) error {
		return fmt.Errorf("%w: "+format, append([]any{errAnswer}, args...)...)
	}
	raw := []byte(a.Entry.Entry)
	cp, err := ledger.OpenCheckpoint(a.Entry.Checkpoint, t.ledgerKey)
	if err != nil {
		return nil, bad("%w", err)
	}
	if cp.Origin != t.origin {
		return nil, bad("checkpoint of %q", cp.Origin)
	}
	if err := ledger.CheckInclusion(raw, a.Entry.Index, a.Entry.Proof, cp); err != nil {
		return nil, bad("%w", err)
	}
	e, err := ledger.Decode(raw)
	if err != nil {
		return nil, bad("%w", err)
	}
	o, ok := e.Facts.(*ledger.SessionOpened)
	if !ok {
		return nil, bad("entry %s", e.Type())
	}
	// The entry carries our own signed question: so it is the answer to it, and to nothing else.
	if e.Statement != ask.Statement || e.SSHSIG != ask.SSHSIG {
		return nil, bad("the entry answers another question")
	}
	s := e.Subject
	if s.Request != c.grant.Request || s.Session.Request() != c.grant.Request || s.Person != c.person || s.Login != c.grant.Login || s.Host != c.grant.Host {
		return nil, bad("the entry is about %s, %s@%s for %s", s.Session, s.Login, s.Host, s.Person)
	}
	if id, err := name.ParseSessionID(string(s.Session)); err != nil || id != s.Session || s.Session != a.Session {
		return nil, bad("session %q", s.Session)
	}
	if o.Key != q.Key || o.SSHSession != q.SSHSession || o.Peer != q.Peer || o.Serial != c.cert.Serial {
		return nil, bad("the entry names another connection")
	}
	d := &order{session: s.Session, person: s.Person, login: s.Login, host: s.Host, index: a.Entry.Index, bind: ledger.EntryHash(raw), checkpoint: cp, opened: o}
	if d.cert, err = sshcert.Parse([]byte(o.Certificate)); err != nil {
		return nil, bad("%w", err)
	}
	if err := sshcert.Verify(d.cert, sshcert.Session, t.sessionCA, time.Time{}); err != nil {
		return nil, bad("session certificate: %w", err)
	}
	if err := o.InSlack(d.cert); err != nil {
		return nil, bad("%w", err)
	}
	key, err := parseKey(q.Key)
	if err != nil || string(d.cert.Key.Marshal()) != string(key.Marshal()) || d.cert.ValidPrincipals[0] != sshcert.SessionPrincipal(s.Login, s.Host) {
		return nil, bad("session certificate for %q", d.cert.ValidPrincipals[0])
	}
	for _, x := range o.Addresses {
		if _, _, err := net.SplitHostPort(x); err != nil {
			return nil, bad("host address %q", x)
		}
		d.addresses = append(d.addresses, x)
	}
	for _, l := range []struct {
		from []string
		to   *[]ssh.PublicKey
	}{{o.HostKeys, &d.hostKeys}, {o.HostCAs, &d.hostCAs}} {
		for _, line := range l.from {
			k, err := parseKey(line)
			if err != nil {
				return nil, bad("host key: %w", err)
			}
			*l.to = append(*l.to, k)
		}
	}
	switch {
	case len(d.addresses) == 0:
		return nil, bad("no host address")
	case len(d.hostKeys)+len(d.hostCAs) == 0:
		return nil, bad("no host key: nothing tells the host from an impostor")
	}
	if o.Via != nil {
		if d.via, err = checkVia(o.Via, d.cert, t.sessionCA); err != nil {
			return nil, bad("%w", err)
		}
	}
	for _, x := range o.Forwards {
		f, err := forward.Parse(x)
		if err != nil {
			return nil, bad("%w", err)
		}
		d.forwards = append(d.forwards, f)
	}
	if d.recipients, err = transcript.ParseRecipients(o.Recipients); err != nil {
		return nil, bad("%w", err)
	}
	if d.grace = time.Duration(o.Grace) * time.Second; d.grace <= 0 {
		d.grace = defaultGrace
	}
	switch d.budget = o.Budget; {
	case d.budget == 0:
		d.budget = defaultBudget
	case d.budget < 0:
		return nil, bad("a budget of %d bytes", d.budget)
	}
	// Both times are the CA's: our own clock has no say.
	if d.left = o.Until.Sub(a.Now); d.left <= 0 {
		return nil, bad("the grant has ended")
	}
	return d, nil
}

// question is the signed part of an ask.
func (j *Jump) question(c *claim, d *doorConn, sshSession []byte, key ssh.PublicKey) *statement.Session {
	door, _ := d.way.words()
	asked := d.host
	if d.way == wayUser { // fit held it against the certificate
		asked = c.grant.Host
	}
	return &statement.Session{
		Origin: j.trusted().origin, Jump: j.cfg.Name, Issued: j.cfg.Now().UTC().Truncate(time.Second), Nonce: statement.NewNonce(),
		Certificate: authorizedKey(c.cert), Login: c.grant.Login, Host: asked, Peer: c.peer.String(),
		SSHSession: hex.EncodeToString(sshSession), Key: authorizedKey(key), Journal: j.facts.Head(), Door: door,
	}
}
