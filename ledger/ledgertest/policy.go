package ledgertest

import (
	"crypto/sha256"

	"breakglass/internal/policytext"
	"breakglass/internal/statement"
	"breakglass/ledger"
)

// Adopt puts another policy in force, signed by those owners of the one before.
func (l *Log) Adopt(text string, owners ...*Person) {
	l.T.Helper()
	for _, p := range owners {
		l.SignPolicy(p, text, nil)
	}
	l.Adopted(text, nil)
}

// SignPolicy has p sign the text as the next policy. change, if not nil, edits the statement before it is signed.
func (l *Log) SignPolicy(p *Person, text string, change func(*statement.Policy)) int64 {
	l.T.Helper()
	st := &statement.Policy{Origin: Origin, Epoch: 1, Checkpoint: l.Pin(), ID: "c-" + string(p.Name), Nonce: statement.NewNonce(), Issued: l.Now, Expires: l.Now.Add(statement.Validity),
		Person: p.Name, Policy: sha256.Sum256([]byte(text)), Previous: l.policy, Changes: sha256.Sum256([]byte(policytext.Diff(l.text, text))), Sources: []string{Source}}
	if change != nil {
		change(st)
	}
	signed, sig := Sign(l.T, p.Signer, st)
	return l.Append(&ledger.Entry{Actor: ledger.PersonActor(p.Name), Subject: ledger.Subject{Person: p.Name, Key: p.Fingerprint}, Statement: signed, SSHSIG: sig,
		Facts: &ledger.PolicySigned{SHA256: st.Policy, Previous: st.Previous, Changes: st.Changes, Touch: l.Touch(p, sig)}})
}

// Adopted puts the text in force, in pieces, without asking who signed. change, if not nil, edits the entry.
func (l *Log) Adopted(text string, change func(*ledger.PolicyAdopted)) {
	l.T.Helper()
	f := &ledger.PolicyAdopted{SHA256: sha256.Sum256([]byte(text)), Previous: l.policy, How: ledger.AdoptedByOwners, Diff: policytext.Shorten(policytext.Diff(l.text, text))}
	for _, piece := range policytext.Cut(text) {
		sum := statement.Hash(sha256.Sum256([]byte(piece)))
		if f.Pieces = append(f.Pieces, sum); !l.pieces[sum] {
			l.Append(&ledger.Entry{Actor: ledger.ActorCA, Facts: &ledger.PolicyText{SHA256: sum, Text: piece}})
			l.pieces[sum] = true
		}
	}
	if change != nil {
		change(f)
	}
	l.Append(&ledger.Entry{Actor: ledger.ActorCA, Facts: f})
	l.policy, l.text = sha256.Sum256([]byte(text)), text
}

// PolicyHash is the SHA-256 of the policy in force.
func (l *Log) PolicyHash() statement.Hash { return l.policy }
