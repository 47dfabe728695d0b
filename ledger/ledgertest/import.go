package ledgertest

import (
	"crypto/sha256"

	"breakglass/internal/policytext"
	"breakglass/internal/statement"
	"breakglass/ledger"
)

// Import has p import hosts into the policy in force. change, if not nil, edits the entry before it is appended, what the statement's.
func (l *Log) Import(p *Person, hosts string, what func(*statement.Order), change func(*ledger.Entry)) {
	l.T.Helper()
	text, err := policytext.Import(l.text, hosts)
	must(l.T, err)
	f := &ledger.PolicyImported{SHA256: sha256.Sum256([]byte(text)), Previous: l.policy, Hosts: hosts}
	signed, sig := l.SignOrder(p, statement.OrderImportHosts, statement.ImportTarget(f.Previous, f.SHA256), "", sha256.Sum256([]byte(hosts)), what)
	l.edited(&ledger.Entry{Actor: ledger.PersonActor(p.Name), Subject: ledger.Subject{Person: p.Name, Key: p.Fingerprint}, Statement: signed, SSHSIG: sig, Facts: f}, change)
	l.policy, l.text = f.SHA256, text
}
