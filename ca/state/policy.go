package state

import (
	"fmt"
	"slices"
	"strings"

	"breakglass/internal/name"
	"breakglass/internal/policytext"
	"breakglass/internal/statement"
	"breakglass/ledger"
)

// policyTables hold where each policy's text and its pieces stand, who has signed what is to follow the one in force, and which files were refused.
const policyTables = `
CREATE TABLE policies (sha256 TEXT PRIMARY KEY, idx INTEGER NOT NULL) STRICT;
CREATE TABLE policy_pieces (sha256 TEXT PRIMARY KEY, idx INTEGER NOT NULL) STRICT;
CREATE TABLE policy_signed (person TEXT PRIMARY KEY, idx INTEGER NOT NULL, key TEXT NOT NULL, sha256 TEXT NOT NULL, previous TEXT NOT NULL, changes TEXT NOT NULL) STRICT;
CREATE TABLE policy_refused (sha256 TEXT PRIMARY KEY, idx INTEGER NOT NULL) STRICT;
`

func (t *Tx) applyPolicy(idx int64, e *ledger.Entry) error {
	switch f := e.Facts.(type) {
	case *ledger.PolicyText:
		return t.exec(`INSERT OR IGNORE INTO policy_pieces (sha256, idx) VALUES ($1, $2)`, f.SHA256.String(), idx)
	case *ledger.PolicyAdopted:
		return t.inForce(idx, f.SHA256)
	case *ledger.PolicyImported:
		return t.inForce(idx, f.SHA256)
	case *ledger.PolicySigned: // a person's newest word
		return t.exec(`INSERT OR REPLACE INTO policy_signed (person, idx, key, sha256, previous, changes) VALUES ($1, $2, $3, $4, $5, $6)`,
			string(e.Subject.Person), idx, f.Touch.Key, f.SHA256.String(), f.Previous.String(), f.Changes.String())
	case *ledger.PolicyRefused:
		return t.exec(`INSERT OR IGNORE INTO policy_refused (sha256, idx) VALUES ($1, $2)`, f.SHA256.String(), idx)
	}
	return nil
}

// inForce notes the policy that the entry puts in force. Nobody's signature counts beyond that.
func (t *Tx) inForce(idx int64, sum statement.Hash) error {
	if err := t.exec(`DELETE FROM policy_signed`); err != nil {
		return err
	}
	if err := t.exec(`INSERT OR REPLACE INTO policies (sha256, idx) VALUES ($1, $2)`, sum.String(), idx); err != nil {
		return err
	}
	return t.exec(`UPDATE facts_of_site SET policy_idx = $1, policy = $2`, idx, sum.String())
}

// PolicyIndex is the entry that put a policy in force, the last time.
func (t *Tx) PolicyIndex(sha256 string) (idx int64, err error) {
	err = notFound(t.tx.QueryRow(`SELECT idx FROM policies WHERE sha256 = $1`, sha256).Scan(&idx))
	return idx, err
}

// PolicyPiece is the entry that holds a piece of a policy's text.
func (t *Tx) PolicyPiece(sum statement.Hash) (idx int64, err error) {
	err = notFound(t.tx.QueryRow(`SELECT idx FROM policy_pieces WHERE sha256 = $1`, sum.String()).Scan(&idx))
	return idx, err
}

// PolicyText is a policy's own words, as they came into force: as the owners adopted them, and what operators imported into that since.
func (t *Tx) PolicyText(sum statement.Hash) (string, error) {
	var hosts []string
	for {
		idx, err := t.PolicyIndex(sum.String())
		if err != nil {
			return "", fmt.Errorf("policy %s: %w", sum, err)
		}
		e, err := t.decoded(idx)
		if err != nil {
			return "", err
		}
		switch f := e.Facts.(type) {
		case *ledger.PolicyAdopted:
			text, err := t.adoptedText(f)
			if err != nil || len(hosts) == 0 {
				return text, err
			}
			slices.Reverse(hosts)
			return policytext.Import(text, strings.Join(hosts, ""))
		case *ledger.PolicyImported:
			hosts = append(hosts, f.Hosts)
			sum = f.Previous
		default:
			return "", fmt.Errorf("entry %d is %s, and puts no policy in force", idx, e.Type())
		}
	}
}

func (t *Tx) adoptedText(f *ledger.PolicyAdopted) (string, error) {
	if len(f.Pieces) == 0 {
		return f.Text, nil
	}
	var b strings.Builder
	for _, h := range f.Pieces {
		idx, err := t.PolicyPiece(h)
		if err != nil {
			return "", fmt.Errorf("piece %s of policy %s: %w", h, f.SHA256, err)
		}
		e, err := t.decoded(idx)
		if err != nil {
			return "", err
		}
		piece, ok := e.Facts.(*ledger.PolicyText)
		if !ok {
			return "", fmt.Errorf("entry %d is %s, and no piece of a policy", idx, e.Type())
		}
		b.WriteString(piece.Text)
	}
	return b.String(), nil
}

func (t *Tx) decoded(idx int64) (*ledger.Entry, error) {
	b, err := t.Entry(idx)
	if err != nil {
		return nil, err
	}
	return ledger.Decode(b)
}

// PolicySigned is somebody's signature under a policy that is to follow the one in force; their newest.
type PolicySigned struct {
	Person                    name.Person
	Index                     int64
	Key                       string // fingerprint
	SHA256, Previous, Changes string
}

// PolicySignatures lists them by person.
func (t *Tx) PolicySignatures() ([]PolicySigned, error) {
	rows, err := t.tx.Query(`SELECT person, idx, key, sha256, previous, changes FROM policy_signed ORDER BY person`)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var out []PolicySigned
	for rows.Next() {
		var s PolicySigned
		if err := rows.Scan(&s.Person, &s.Index, &s.Key, &s.SHA256, &s.Previous, &s.Changes); err != nil {
			return nil, err
		}
		out = append(out, s)
	}
	return out, rows.Err()
}

// PolicyWasRefused says whether an entry tells already that the file with that SHA-256 was refused.
func (t *Tx) PolicyWasRefused(sum statement.Hash) (bool, error) {
	var n int
	err := t.tx.QueryRow(`SELECT COUNT(*) FROM policy_refused WHERE sha256 = $1`, sum.String()).Scan(&n)
	return n > 0, err
}
