package ledgertest

import (
	"crypto/sha256"
	"encoding/json"
	"strings"
	"time"

	"breakglass/internal/name"
	"breakglass/internal/sshcert"
	"breakglass/internal/statement"
	"breakglass/ledger"
)

// SignOrder is an operator's signed order. change, if not nil, edits it before it is signed.
func (l *Log) SignOrder(p *Person, act, target, reason string, detail statement.Hash, change func(*statement.Order)) (text, armored string) {
	l.T.Helper()
	l.ids++
	st := &statement.Order{Origin: Origin, Epoch: 1, Checkpoint: l.Pin(), ID: "o-" + string(p.Name), Nonce: statement.NewNonce(), Issued: l.Now,
		Expires: l.Now.Add(statement.Validity), Person: p.Name, Act: act, Target: target, Reason: reason, Detail: detail, Sources: []string{Source}}
	if change != nil {
		change(st)
	}
	return Sign(l.T, p.Signer, st)
}

// OrderInvite has p invite somebody. change, if not nil, edits the entry before it is appended.
func (l *Log) OrderInvite(p *Person, kind, who string, change func(*ledger.Entry)) statement.Hash {
	l.T.Helper()
	h := statement.Hash(sha256.Sum256([]byte("ordered for " + who)))
	text, sig := l.SignOrder(p, "invite-"+kind, who, "", h, nil)
	l.edited(&ledger.Entry{Actor: ledger.PersonActor(p.Name), Subject: ledger.Subject{Person: p.Name, Key: p.Fingerprint}, Statement: text, SSHSIG: sig,
		Facts: &ledger.InviteCreated{Invite: h, For: kind, Name: who, Expires: ledger.At(l.Now.Add(24 * time.Hour))}}, change)
	return h
}

// Revoke has p revoke something that matters until then; zero is for good. change, if not nil, edits the entry before it is appended.
func (l *Log) Revoke(p *Person, what, target string, until time.Time, change func(*ledger.Entry)) {
	l.T.Helper()
	text, sig := l.SignOrder(p, "revoke-"+what, target, "laptop stolen", statement.Hash{}, nil)
	f := &ledger.Revoked{What: what, Target: target, Why: "laptop stolen", How: ledger.RevokedByOrder}
	if !until.IsZero() {
		at := ledger.At(until)
		f.Until = &at
	}
	l.edited(&ledger.Entry{Actor: ledger.PersonActor(p.Name), Subject: ledger.Subject{Person: p.Name, Key: p.Fingerprint}, Statement: text, SSHSIG: sig, Facts: f}, change)
}

// Stopped is who stops a grant, and how.
type Stopped struct {
	How     string // ledger.RevokedByKill or RevokedByEnd
	Pass    string // of Log.Pass; empty: the grant's client key signs
	By      name.Person
	Session name.SessionID // one session alone
	Why     string
	// Call edits the call before it is signed, and Entry the entry before it is appended.
	Call  func(*statement.Call)
	Entry func(*ledger.Entry)
}

// Stop kills or ends a grant or a session.
func (l *Log) Stop(g *Grant, s Stopped) {
	l.T.Helper()
	if s.Why == "" {
		s.Why = "no longer needed"
	}
	body, err := json.Marshal(map[string]string{"why": s.Why, "session": string(s.Session)})
	must(l.T, err)
	st := &statement.Call{Origin: Origin, Method: "POST", Path: "/v1/requests/" + string(g.Statement.ID) + "/" + s.How, Body: sha256.Sum256(body), Issued: l.Now, Nonce: statement.NewNonce()}
	if s.Call != nil {
		s.Call(st)
	}
	signer := g.Key
	if s.Pass != "" {
		signer = l.holders[s.Pass]
	}
	text, sig := Sign(l.T, signer, st)
	at := ledger.At(g.Until)
	f := &ledger.Revoked{What: ledger.RevokedGrant, Target: string(g.Statement.ID), Why: s.Why, How: s.How, Pass: s.Pass, Asked: string(body), Until: &at}
	if s.Session != "" {
		f.What, f.Target = ledger.RevokedSession, string(s.Session)
	}
	sub := g.Subject
	sub.Person = s.By
	l.edited(&ledger.Entry{Actor: ledger.PersonActor(s.By), Subject: sub, Statement: text, SSHSIG: sig, Facts: f}, s.Entry)
}

func (l *Log) edited(e *ledger.Entry, change func(*ledger.Entry)) {
	l.T.Helper()
	if change != nil {
		change(e)
	}
	l.Append(e)
}

// IssueSession appends the entry of the certificate that a session got.
func (l *Log) IssueSession(s *Session) {
	l.T.Helper()
	e, err := ledger.Decode(s.Entry)
	must(l.T, err)
	c, err := sshcert.Parse([]byte(strings.TrimSpace(e.Facts.(*ledger.SessionOpened).Certificate)))
	must(l.T, err)
	l.Append(&ledger.Entry{Actor: ledger.ActorCA, Subject: s.Subject, Facts: issued(c, sshcert.Session)})
}
