package ledgertest

import (
	"crypto/sha256"

	"breakglass/internal/name"
	"breakglass/internal/statement"
	"breakglass/ledger"
)

// TOTP enrols a device of p's, or removes it. change, if not nil, edits entry and statement before they are signed.
func (l *Log) TOTP(p *Person, act string, device name.Key, sealed []byte, lifts statement.Hash, change func(*statement.TOTP, *ledger.Entry)) statement.Hash {
	l.T.Helper()
	l.ids++
	st := &statement.TOTP{Origin: Origin, Epoch: 1, Checkpoint: l.Pin(), ID: "t-" + string(p.Name), Nonce: statement.NewNonce(), Issued: l.Now,
		Expires: l.Now.Add(statement.Validity), Person: p.Name, Act: act, Device: device}
	e := &ledger.Entry{Actor: ledger.PersonActor(p.Name), Subject: ledger.Subject{Person: p.Name, Key: p.Fingerprint}}
	if act == statement.TOTPEnrol {
		st.Seed = sha256.Sum256(sealed)
		e.Facts = &ledger.TOTPEnrolled{Device: device, Sealed: sealed, Step: ledger.TOTPStep(l.Now)}
	} else {
		e.Facts = &ledger.TOTPRemoved{Device: device, How: "person", Lifts: lifts}
	}
	if change != nil {
		change(st, e)
	}
	e.Statement, e.SSHSIG = Sign(l.T, p.Signer, st)
	if f, ok := e.Facts.(*ledger.TOTPEnrolled); ok {
		f.Touch = l.Touch(p, e.SSHSIG)
	}
	return ledger.EntryHash(l.Entries[l.Append(e)])
}

// About appends what the CA says of a person; what it says is facts.
func (l *Log) About(s ledger.Subject, f ledger.Facts) statement.Hash {
	l.T.Helper()
	return ledger.EntryHash(l.Entries[l.Append(&ledger.Entry{Actor: ledger.ActorCA, Subject: s, Facts: f})])
}

// Lift has p say yes to lifting what the entry with that hash did.
func (l *Log) Lift(p *Person, of string, entry statement.Hash) {
	l.T.Helper()
	st := &statement.Approval{Origin: Origin, Epoch: 1, Checkpoint: l.Pin(), ID: "u-" + string(p.Name), Nonce: statement.NewNonce(), Issued: l.Now,
		Expires: l.Now.Add(statement.Validity), Person: p.Name, About: statement.AboutUnlock, Of: of, Hash: entry, Verdict: statement.Approve,
		Until: l.Now.Add(statement.CountsFor(statement.AboutUnlock)), Sources: []string{Source}}
	text, sig := Sign(l.T, p.Signer, st)
	l.Append(&ledger.Entry{Actor: ledger.PersonActor(p.Name), Subject: ledger.Subject{Person: p.Name, Key: p.Fingerprint}, Statement: text, SSHSIG: sig,
		Facts: &ledger.ApprovalGiven{About: st.About, Of: st.Of, Hash: st.Hash, Verdict: st.Verdict, Until: ledger.At(st.Until), Touch: l.Touch(p, sig), Key: "live"}})
}

// Deny has a request of p refused for a reason.
func (l *Log) Deny(p *Person, code string) {
	l.T.Helper()
	r := l.Request(p, NewKey(l.T).PublicKey())
	text, sig := Sign(l.T, p.Signer, r)
	l.Append(&ledger.Entry{Actor: ledger.PersonActor(p.Name), Subject: ledger.Subject{Request: r.ID, Person: p.Name, Host: r.Host, Login: r.Login}, Statement: text, SSHSIG: sig,
		Facts: &ledger.RequestDenied{Reasons: []ledger.Reason{{Code: code, Detail: "x"}}, Used: ledger.Used{Touch: l.Touch(p, sig)}}})
}
