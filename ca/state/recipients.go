package state

import (
	"encoding/json"
	"errors"
	"fmt"

	"breakglass/internal/name"
	"breakglass/ledger"
)

// Recipient is an age public key and whose it is.
type Recipient struct {
	Age    string
	Index  int64
	Person name.Person
	Sealed string // how its owner said that they keep the other half
}

func (t *Tx) applyRecipients(idx int64, e *ledger.Entry) error {
	put := func(age, sealed string) error {
		return t.exec(`INSERT OR REPLACE INTO recipients (age, idx, person, sealed) VALUES ($1, $2, $3, $4)`, age, idx, string(e.Subject.Person), sealed)
	}
	switch f := e.Facts.(type) {
	case *ledger.RecipientAdded:
		return put(f.Age, f.Sealed)
	case *ledger.RecipientRotated:
		return errors.Join(t.exec(`DELETE FROM recipients WHERE age = $1`, f.Old), put(f.Age, f.Sealed))
	case *ledger.RecipientsRemoved:
		return t.exec(`DELETE FROM recipients WHERE person = $1`, string(f.Person))
	case *ledger.RecoverySet:
		return t.exec(`INSERT OR REPLACE INTO recovery (one, idx, age) VALUES (1, $1, $2)`, idx, f.Age)
	case *ledger.RecipientsChanged:
		return t.exec(`INSERT OR REPLACE INTO recipient_set (one, idx, facts) VALUES (1, $1, $2)`, idx, text(f))
	}
	return fmt.Errorf("no recipients in %s", e.Type())
}

// Recipients are all that people named, in the order in which they did, whatever the policy says of them now.
func (t *Tx) Recipients() ([]Recipient, error) {
	rows, err := t.tx.Query(`SELECT age, idx, person, sealed FROM recipients ORDER BY idx`)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var out []Recipient
	for rows.Next() {
		var r Recipient
		if err := rows.Scan(&r.Age, &r.Index, &r.Person, &r.Sealed); err != nil {
			return nil, err
		}
		out = append(out, r)
	}
	return out, rows.Err()
}

// Recovery is the recovery key's public half; "" where there is none.
func (t *Tx) Recovery() (age string, index int64, err error) {
	err = notFound(t.tx.QueryRow(`SELECT age, idx FROM recovery WHERE one = 1`).Scan(&age, &index))
	if errors.Is(err, ErrNotFound) {
		return "", 0, nil
	}
	return age, index, err
}

// RecipientSet is the last that the ledger names, and its index; nil where it names none yet.
func (t *Tx) RecipientSet() (*ledger.RecipientsChanged, int64, error) {
	var b []byte
	var idx int64
	err := notFound(t.tx.QueryRow(`SELECT facts, idx FROM recipient_set WHERE one = 1`).Scan(&b, &idx))
	if errors.Is(err, ErrNotFound) {
		return nil, 0, nil
	}
	if err != nil {
		return nil, 0, err
	}
	f := &ledger.RecipientsChanged{}
	return f, idx, json.Unmarshal(b, f)
}
