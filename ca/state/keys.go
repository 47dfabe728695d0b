package state

import (
	"cmp"
	"encoding/json"
	"errors"
	"slices"
	"time"

	"breakglass/internal/name"
	"breakglass/internal/statement"
	"breakglass/ledger"
)

// keyTables holds the hardware keys, and what the owners have signed of the founding. Where a key's enrolment stands is no column: it
// follows from these, the policy and the time.
const keyTables = `
CREATE TABLE keys (fingerprint TEXT PRIMARY KEY, idx INTEGER NOT NULL, person TEXT NOT NULL, name TEXT NOT NULL, public_key TEXT NOT NULL, credential BLOB NOT NULL,
  counter INTEGER NOT NULL, issued INTEGER NOT NULL, suspended INTEGER NOT NULL, enrolment TEXT NOT NULL, signed TEXT NOT NULL, model TEXT NOT NULL, recovery INTEGER NOT NULL,
  code INTEGER NOT NULL, vouched INTEGER NOT NULL, counts_from INTEGER NOT NULL, since INTEGER NOT NULL, proved INTEGER NOT NULL, UNIQUE (person, name)) STRICT;
CREATE INDEX keys_enrolment ON keys (enrolment);
CREATE TABLE foundings (person TEXT PRIMARY KEY, idx INTEGER NOT NULL, key TEXT NOT NULL, policy TEXT NOT NULL, owners TEXT NOT NULL, keys TEXT NOT NULL, at INTEGER NOT NULL) STRICT;
`

// Key is an enrolled hardware key.
type Key struct {
	Fingerprint string
	Index       int64
	Person      name.Person
	Name        name.Key
	PublicKey   string
	Credential  []byte
	Counter     uint32
	Issued      time.Time // of the statement with the last accepted counter
	Suspended   bool
	Revoked     bool

	Enrolment string         // the enrolment statement's id
	Signed    statement.Hash // names that statement and its signature: what vouching is given to
	Model     string         // as the policy called it; "" where nothing was attested
	Recovery  bool           // enrolled when no other key of the person's counted any more
	Code      bool           // a code of the person's other channel was given at the enrolment
	// Vouched says that it was vouched for at some time, or founded with, or is of a demo.
	Vouched    bool
	CountsFrom time.Time // zero: it is not vouched for, or no longer since it was renewed too late
	Since      time.Time // from when the policy's time of renewal is counted
	Proved     time.Time // when the key itself last showed that it is there
}

const keyColumns = `SELECT fingerprint, idx, person, name, public_key, credential, counter, issued, suspended,
	EXISTS (SELECT 1 FROM revocations WHERE what = 'key' AND target = fingerprint),
	enrolment, signed, model, recovery, code, vouched, counts_from, since, proved FROM keys `

type scanner interface{ Scan(...any) error }

func scanKey(r scanner) (k Key, err error) {
	var issued, from, since, proved int64
	var signed string
	if err = notFound(r.Scan(&k.Fingerprint, &k.Index, &k.Person, &k.Name, &k.PublicKey, &k.Credential, &k.Counter, &issued, &k.Suspended, &k.Revoked,
		&k.Enrolment, &signed, &k.Model, &k.Recovery, &k.Code, &k.Vouched, &from, &since, &proved)); err != nil {
		return k, err
	}
	k.Issued, k.Since, k.Proved = time.Unix(issued, 0), time.UnixMicro(since), time.UnixMicro(proved)
	if from != 0 {
		k.CountsFrom = time.UnixMicro(from)
	}
	return k, k.Signed.UnmarshalText([]byte(signed))
}

// Key finds a key by its fingerprint.
func (t *Tx) Key(fingerprint string) (Key, error) {
	if r := t.rosterNow(); r != nil { // all but what acts change
		k, ok := r.Keys[fingerprint]
		if !ok {
			return Key{}, ErrNotFound
		}
		var issued int64
		err := notFound(t.tx.QueryRow(`SELECT counter, issued FROM keys WHERE fingerprint = $1`, fingerprint).Scan(&k.Counter, &issued))
		k.Issued = time.Unix(issued, 0)
		return k, err
	}
	return scanKey(t.tx.QueryRow(keyColumns+`WHERE fingerprint = $1`, fingerprint))
}

// KeyOfEnrolment finds a key by the id of its enrolment.
func (t *Tx) KeyOfEnrolment(id string) (Key, error) {
	return scanKey(t.tx.QueryRow(keyColumns+`WHERE enrolment = $1`, id))
}

// Keys lists a person's keys.
func (t *Tx) Keys(p name.Person) ([]Key, error) {
	keys, err := t.keys(keyColumns+`WHERE person = $1`, string(p))
	slices.SortFunc(keys, func(a, b Key) int { return cmp.Compare(a.Index, b.Index) }) // a few; SQLite would make a tree for it, for each act
	return keys, err
}

// AllKeys lists everybody's.
func (t *Tx) AllKeys() ([]Key, error) { return t.keys(keyColumns + `ORDER BY idx`) }

func (t *Tx) keys(query string, args ...any) ([]Key, error) {
	rows, err := t.tx.Query(query, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var out []Key
	for rows.Next() {
		k, err := scanKey(rows)
		if err != nil {
			return nil, err
		}
		out = append(out, k)
	}
	return out, rows.Err()
}

// FoundingSigned is what one owner has signed of the founding; the newest counts.
type FoundingSigned struct {
	Person name.Person
	Key    string // fingerprint of the key that signed
	Policy string // SHA-256, hex
	Owners []string
	Keys   []string
	At     time.Time
}

// Foundings lists them by owner.
func (t *Tx) Foundings() ([]FoundingSigned, error) {
	rows, err := t.tx.Query(`SELECT person, key, policy, owners, keys, at FROM foundings ORDER BY person`)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var out []FoundingSigned
	for rows.Next() {
		var f FoundingSigned
		var owners, keys string
		var at int64
		if err := rows.Scan(&f.Person, &f.Key, &f.Policy, &owners, &keys, &at); err != nil {
			return nil, err
		}
		if err := errors.Join(json.Unmarshal([]byte(owners), &f.Owners), json.Unmarshal([]byte(keys), &f.Keys)); err != nil {
			return nil, err
		}
		f.At = time.UnixMicro(at)
		out = append(out, f)
	}
	return out, rows.Err()
}

// applyKeys is apply's part for what enrols a key, lets it count, and keeps its enrolment alive.
func (t *Tx) applyKeys(idx int64, e *ledger.Entry) error {
	fp, at := e.Subject.Key, e.Time.UnixMicro()
	switch f := e.Facts.(type) {
	case *ledger.KeyEnrolled:
		return t.applyKeyEnrolled(idx, e, f)
	case *ledger.KeyVouched:
		return t.exec(`UPDATE keys SET vouched = 1, counts_from = $1, since = $2 WHERE fingerprint = $3`, f.CountsFrom.UnixMicro(), at, fp)
	case *ledger.FoundingSigned:
		// The key that signed is in the signature; the subject names it.
		return t.exec(`INSERT OR REPLACE INTO foundings (person, idx, key, policy, owners, keys, at) VALUES ($1, $2, $3, $4, $5, $6, $7)`,
			string(e.Subject.Person), idx, f.Touch.Key, f.Policy.String(), text(f.Owners), text(f.Keys), at)
	case *ledger.Founding:
		for _, k := range f.Keys {
			if err := t.exec(`UPDATE keys SET vouched = 1, counts_from = $1, since = $2 WHERE fingerprint = $3`, at, at, k); err != nil {
				return err
			}
		}
		return t.exec(`UPDATE facts_of_site SET founded = 1`)
	case *ledger.KeyProved:
		return t.exec(`UPDATE keys SET proved = $1 WHERE fingerprint = $2`, at, fp)
	case *ledger.EnrolmentRenewed:
		for _, k := range f.Keys {
			if err := t.exec(`UPDATE keys SET since = $1 WHERE fingerprint = $2`, at, k); err != nil {
				return err
			}
		}
		for _, k := range f.Lapsed { // renewed too late: they have to be vouched for once more
			if err := t.exec(`UPDATE keys SET counts_from = 0 WHERE fingerprint = $1`, k); err != nil {
				return err
			}
		}
	}
	return nil
}

func (t *Tx) applyKeyEnrolled(idx int64, e *ledger.Entry, f *ledger.KeyEnrolled) error {
	if err := t.spend(f.Invite); err != nil {
		return err
	}
	var st statement.Enrolment
	if err := statement.Parse([]byte(e.Statement), &st); err != nil {
		return err
	}
	site, err := t.Site()
	if err != nil {
		return err
	}
	at := e.Time.UnixMicro()
	vouched, from := 0, int64(0)
	if site.Site.Profile == "demo" { // nobody has to vouch there
		vouched, from = 1, at
	}
	model := ""
	if f.Attestation != nil {
		model = f.Attestation.Model
	}
	return t.exec(`INSERT INTO keys (fingerprint, idx, person, name, public_key, credential, counter, issued, suspended, enrolment, signed, model, recovery, code, vouched, counts_from, since, proved)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, 0, $9, $10, $11, $12, $13, $14, $15, $16, $17)`,
		e.Subject.Key, idx, string(e.Subject.Person), string(f.Name), f.PublicKey, f.CredentialID, f.Counter, st.Issued.Unix(),
		st.ID, statement.SignedHash(e.Statement, e.SSHSIG).String(), model, f.Recovery, f.TOTP != "", vouched, from, at, at)
}
