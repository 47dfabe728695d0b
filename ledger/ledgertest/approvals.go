package ledgertest

import (
	"net/netip"
	"strings"
	"time"

	"breakglass/internal/name"
	"breakglass/internal/sshcert"
	"breakglass/internal/statement"
	"breakglass/ledger"
)

// Emergency is Policy with a rule that wants two approvals, of bob and carol.
var Emergency = strings.Replace(strings.Replace(Policy, "[people.bob]", "[people.bob]\n[people.carol]", 1),
	"minutes = 30", "minutes = 30\napprovals = 2\napprovers = [\"bob\", \"carol\"]\noverride = \"after 10m\"", 1)

// Wait opens a request of p that waits for n approvals of the approvers. change, if not nil, edits the statement before it is signed.
func (l *Log) Wait(p *Person, n int, approvers []name.Person, change func(*statement.Request)) *Waiting {
	l.T.Helper()
	w := &Waiting{Grant: Grant{Key: NewKey(l.T), Until: l.Now.Add(30 * time.Minute)}}
	st := l.Request(p, w.Key.PublicKey())
	if change != nil {
		change(st)
	}
	if of := l.waiting[st.Of]; of != nil { // an extension is the grant's own key's
		st.ClientKey, w.Key = of.Statement.ClientKey, of.Key
	}
	text, sig := Sign(l.T, p.Signer, st)
	t := l.Touch(p, sig)
	w.Statement, w.Signed = *st, statement.SignedHash(text, sig)
	w.Subject = ledger.Subject{Request: st.ID, Person: p.Name, Host: st.Host, Login: st.Login}
	w.Used = ledger.Used{Policy: l.policy, Addresses: []ledger.UsedAddress{{Address: Source, Country: "DE", Anonymous: "no"}}, Key: "live", Touch: t}
	over := ledger.At(l.Now.Add(10 * time.Minute))
	w.Wants = n
	l.Append(&ledger.Entry{Actor: ledger.PersonActor(p.Name), Subject: w.Subject, Statement: text, SSHSIG: sig, Facts: &ledger.RequestOpened{Touch: t,
		Waits: &ledger.Waits{ClientKey: Line(w.Key.PublicKey()), Rule: "test", Why: "test", Approvals: n, Approvers: approvers,
			Until: ledger.At(l.Now.Add(30 * time.Minute)), Override: &over, Used: w.Used}}})
	if l.waiting == nil {
		l.waiting = map[name.RequestID]*Waiting{}
	}
	l.waiting[st.ID] = w
	return w
}

// Waiting is a request that waits for approvals, and the grant that it becomes.
type Waiting struct {
	Grant
	Signed statement.Hash
	Wants  int
}

// Approve has p say yes or no to w. change, if not nil, edits the statement before it is signed.
func (l *Log) Approve(p *Person, w *Waiting, verdict string, change func(*statement.Approval)) int64 {
	l.T.Helper()
	l.ids++
	st := &statement.Approval{Origin: Origin, Epoch: 1, Checkpoint: l.Pin(), ID: "a-" + string(p.Name), Nonce: statement.NewNonce(), Issued: l.Now,
		Expires: l.Now.Add(statement.Validity), Person: p.Name, About: statement.AboutRequest, Of: string(w.Statement.ID), Hash: w.Signed, Verdict: verdict,
		Until: l.Now.Add(statement.ApprovalCounts), Sources: []string{Source}}
	if change != nil {
		change(st)
	}
	text, sig := Sign(l.T, p.Signer, st)
	return l.Append(&ledger.Entry{Actor: ledger.PersonActor(p.Name), Subject: ledger.Subject{Request: name.RequestID(st.Of), Person: p.Name, Key: p.Fingerprint}, Statement: text, SSHSIG: sig,
		Facts: &ledger.ApprovalGiven{About: st.About, Of: st.Of, Hash: st.Hash, Verdict: st.Verdict, Comment: st.Comment, Until: ledger.At(st.Until), Touch: l.Touch(p, sig), Key: "live"}})
}

// Override has p go on without the approvals of w that are missing.
func (l *Log) Override(p *Person, w *Waiting, missing int, change func(*statement.Request)) {
	l.T.Helper()
	st := w.Statement
	st.Request, st.ID, st.Of = statement.RequestOverride, name.NewRequestID(), w.Statement.ID
	st.Nonce, st.Issued, st.Expires, st.Checkpoint = statement.NewNonce(), l.Now, l.Now.Add(statement.Validity), l.Pin()
	if change != nil {
		change(&st)
	}
	text, sig := Sign(l.T, p.Signer, &st)
	w.Used.Touch = l.Touch(p, sig)
	l.Append(&ledger.Entry{Actor: ledger.PersonActor(p.Name), Subject: w.Subject, Statement: text, SSHSIG: sig,
		Facts: &ledger.RequestOverridden{Touch: w.Used.Touch, Approvals: w.Wants, Missing: missing, Waited: 600}})
}

// Allow lets w's requester in: grant.allowed on those approvals, certificate.issued.
func (l *Log) Allow(w *Waiting, approved []name.Person, overridden int) {
	l.T.Helper()
	w.Used.Approved, w.Until = approved, l.Now.Add(30*time.Minute)
	l.Append(&ledger.Entry{Actor: ledger.ActorCA, Subject: w.Subject, Facts: &ledger.GrantAllowed{Rule: "test", Why: "test", Minutes: 30, Until: ledger.At(w.Until), Used: w.Used,
		Approvals: w.Wants, Overridden: overridden}})
	l.issue(&w.Grant)
}

// Extend moves the end of g, as ext asked for it and people approved: grant.extended, certificate.issued.
func (l *Log) Extend(g *Waiting, ext *Waiting, approved []name.Person) {
	l.T.Helper()
	ext.Used.Approved, g.Until = approved, l.Now.Add(30*time.Minute)
	l.Append(&ledger.Entry{Actor: ledger.ActorCA, Subject: g.Subject, Facts: &ledger.GrantExtended{Request: ext.Statement.ID, Rule: "test", Why: "test", Minutes: 30,
		Until: ledger.At(g.Until), Used: ext.Used, Approvals: ext.Wants}})
	l.issue(&g.Grant)
}

func (l *Log) issue(g *Grant) {
	l.T.Helper()
	st := &g.Statement
	g.Certificate = l.sign(sshcert.NewClient(g.Key.PublicKey(), st.Person, sshcert.Grant{Request: st.ID, Login: st.Login, Host: st.Host},
		[]netip.Addr{netip.MustParseAddr(Source)}, l.Now, g.Until), sshcert.Client, l.ClientCA)
	l.Append(&ledger.Entry{Actor: ledger.ActorCA, Subject: g.Subject, Facts: issued(g.Certificate, sshcert.Client)})
}
