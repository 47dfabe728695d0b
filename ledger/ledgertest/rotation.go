package ledgertest

import (
	"slices"

	"golang.org/x/crypto/ssh"

	"breakglass/internal/name"
	"breakglass/internal/statement"
	"breakglass/ledger"
)

// Found has p be the owner who founds a production site; until then local root's word is enough. Its entry stands for the signatures, which the tests of
// foundings hold.
func (l *Log) Found(p *Person) {
	l.T.Helper()
	l.ids++
	st := &statement.Founding{Origin: Origin, Epoch: 1, Checkpoint: l.Pin(), ID: "f-" + string(p.Name), Nonce: statement.NewNonce(), Issued: l.Now,
		Expires: l.Now.Add(statement.Validity), Person: p.Name, Policy: l.policy, Owners: []string{string(p.Name)}, Keys: []string{p.Fingerprint}, Profile: l.Site.Profile}
	text, sig := Sign(l.T, p.Signer, st)
	l.Append(&ledger.Entry{Actor: ledger.PersonActor(p.Name), Subject: ledger.Subject{Person: p.Name, Key: p.Fingerprint}, Statement: text, SSHSIG: sig,
		Facts: &ledger.FoundingSigned{Policy: l.policy, Owners: []name.Person{p.Name}, Keys: []string{p.Fingerprint}, Touch: l.Touch(p, sig)}})
	l.Append(&ledger.Entry{Actor: ledger.ActorCA, Facts: &ledger.Founding{Policy: l.policy, Owners: []name.Person{p.Name}, Keys: []string{p.Fingerprint}, How: "owners"}})
}

// Standby has the site trust one session CA more, as init does for all, and gives it.
func (l *Log) Standby() ssh.Signer {
	l.T.Helper()
	k := NewKey(l.T)
	l.Site.SessionCA = append(slices.Clone(l.Site.SessionCA), Line(k.PublicKey()))
	l.Append(&ledger.Entry{Actor: ledger.ActorRoot, Facts: &ledger.SiteChanged{Site: l.Site, Why: "a standby"}})
	return k
}

// Rotate makes k the active session CA, on p's order or, without one, on local root's word; the standby that is made with it is its answer. change, if
// not nil, edits the entry before it is appended.
func (l *Log) Rotate(p *Person, k ssh.Signer, change func(*ledger.Entry)) ssh.Signer {
	l.T.Helper()
	made, public := NewKey(l.T), Line(k.PublicKey())
	list := slices.DeleteFunc(slices.Clone(l.Site.SessionCA), func(s string) bool { return s == public })
	next := l.Site
	next.SessionCA = append(append([]string{public}, list...), Line(made.PublicKey()))
	l.change(p, "rotate-key", k.PublicKey(), next, change)
	l.SessionCA = k
	return made
}

// Retire drops k.
func (l *Log) Retire(p *Person, k ssh.PublicKey, change func(*ledger.Entry)) {
	l.T.Helper()
	next := l.Site
	next.SessionCA = slices.DeleteFunc(slices.Clone(l.Site.SessionCA), func(s string) bool { return s == Line(k) })
	next.Retired = append(slices.Clone(l.Site.Retired), ledger.RetiredKey{Kind: "session_ca", Key: Line(k), Before: int64(len(l.Entries))})
	l.change(p, "retire-key", k, next, change)
}

func (l *Log) change(p *Person, act string, k ssh.PublicKey, next ledger.Site, change func(*ledger.Entry)) {
	l.T.Helper()
	f := &ledger.SiteChanged{Site: next, Why: act}
	e := &ledger.Entry{Actor: ledger.ActorRoot, Facts: f}
	if p != nil {
		e.Actor, e.Subject = ledger.PersonActor(p.Name), ledger.Subject{Person: p.Name, Key: p.Fingerprint}
		e.Statement, e.SSHSIG = l.SignOrder(p, act, "session_ca:"+ssh.FingerprintSHA256(k), "the yearly change", statement.Hash{}, nil)
	}
	l.edited(e, change)
	l.Site = f.Site
}

// Witnesses gives the site another list, by p's order, or by local root's word if p is nil.
func (l *Log) Witnesses(p *Person, list []string, change func(*ledger.Entry)) {
	l.T.Helper()
	next := l.Site
	next.Witnesses = list
	e := &ledger.Entry{Actor: ledger.ActorRoot, Facts: &ledger.SiteChanged{Site: next, Why: "witnesses changed"}}
	if p != nil {
		e.Actor, e.Subject = ledger.PersonActor(p.Name), ledger.Subject{Person: p.Name, Key: p.Fingerprint}
		e.Statement, e.SSHSIG = l.SignOrder(p, statement.OrderChangeWitnesses, statement.WitnessesFingerprint(list), "one more", statement.Hash{}, nil)
	}
	if change != nil {
		change(e)
	}
	l.Site = e.Facts.(*ledger.SiteChanged).Site
	l.Append(e)
}
