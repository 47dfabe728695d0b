package ledgertest

import (
	"breakglass/internal/name"
	"breakglass/internal/statement"
	"breakglass/ledger"
)

func (l *Log) by(p *Person, text, sig string, f ledger.Facts, change func(*ledger.Entry)) int64 {
	l.T.Helper()
	e := &ledger.Entry{Actor: ledger.PersonActor(p.Name), Subject: ledger.Subject{Person: p.Name, Key: p.Fingerprint}, Statement: text, SSHSIG: sig, Facts: f}
	if change != nil {
		change(e)
	}
	return l.Append(e)
}

// RotateRecipient has p put a recipient in the place of one. change, if not nil, edits the entry before it is appended.
func (l *Log) RotateRecipient(p *Person, old, age string, change func(*ledger.Entry)) {
	l.T.Helper()
	text, sig := Sign(l.T, p.Signer, &statement.ReadingRotation{Origin: Origin, Epoch: 1, Checkpoint: l.Pin(), ID: "rot-" + string(p.Name), Nonce: statement.NewNonce(),
		Issued: l.Now, Expires: l.Now.Add(statement.Validity), Person: p.Name, Old: old, Age: age, Sealed: "hardware"})
	l.by(p, text, sig, &ledger.RecipientRotated{Old: old, Age: age, Sealed: "hardware"}, change)
}

// RemoveRecipients has p order that nothing more is sealed to somebody whose recipients are these.
func (l *Log) RemoveRecipients(p *Person, of name.Person, ages []string, change func(*ledger.Entry)) {
	l.T.Helper()
	text, sig := l.SignOrder(p, statement.OrderRemoveRecipients, string(of), "laptop stolen", statement.Hash{}, nil)
	l.by(p, text, sig, &ledger.RecipientsRemoved{Person: of, Ages: ages, Why: "laptop stolen"}, change)
}

// SetRecovery has p order a recovery key in the place of old.
func (l *Log) SetRecovery(p *Person, old, age string, change func(*ledger.Entry)) {
	l.T.Helper()
	text, sig := l.SignOrder(p, statement.OrderSetRecovery, statement.RecipientFingerprint(age), "made in the vault", statement.Hash{}, nil)
	l.by(p, text, sig, &ledger.RecoverySet{Age: age, Old: old, Why: "made in the vault"}, change)
}

// Set says to whom transcripts are sealed from here on: ages and whose they are, "" of the recovery key.
func (l *Log) Set(change func(*ledger.Entry), sealed ...ledger.SealedTo) int64 {
	l.T.Helper()
	e := &ledger.Entry{Actor: ledger.ActorCA, Facts: &ledger.RecipientsChanged{Sealed: sealed}}
	if change != nil {
		change(e)
	}
	l.set = l.Append(e)
	return l.set
}

// NameSet has sessions from here on name another entry than the last set's.
func (l *Log) NameSet(index int64) { l.set = index }

// To is one of a set.
func To(age string, p name.Person) ledger.SealedTo {
	return ledger.SealedTo{Age: statement.RecipientFingerprint(age), Person: p}
}
