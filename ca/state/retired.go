package state

import (
	"breakglass/ledger"
)

// retiredTable holds the CA keys that left the site; a KRL lists them, so that a host that still has an old file refuses them.
const retiredTable = `
CREATE TABLE retired_keys (kind TEXT NOT NULL, public_key TEXT NOT NULL, idx INTEGER NOT NULL, PRIMARY KEY (kind, public_key)) STRICT;
`

// RetiredKey is a CA key that left the site with entry Index.
type RetiredKey struct {
	Kind      string // client_ca, session_ca, host_ca or tls
	PublicKey string // authorized_keys form; of tls the SPKI hash
	Index     int64
}

// applyRetired keeps what a site names as retired.
func (t *Tx) applyRetired(s *ledger.Site) error {
	for _, r := range s.Retired {
		if err := t.exec(`INSERT OR IGNORE INTO retired_keys (kind, public_key, idx) VALUES ($1, $2, $3)`, r.Kind, r.Key, r.Before); err != nil {
			return err
		}
	}
	return nil
}

// RetiredKeys lists them, oldest first.
func (t *Tx) RetiredKeys() ([]RetiredKey, error) {
	rows, err := t.tx.Query(`SELECT kind, public_key, idx FROM retired_keys ORDER BY idx, kind, public_key`)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var out []RetiredKey
	for rows.Next() {
		var k RetiredKey
		if err := rows.Scan(&k.Kind, &k.PublicKey, &k.Index); err != nil {
			return nil, err
		}
		out = append(out, k)
	}
	return out, rows.Err()
}
