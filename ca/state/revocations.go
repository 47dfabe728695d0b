package state

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"breakglass/internal/name"
	"breakglass/internal/sshcert"
	"breakglass/ledger"
)

// revocationTables hold what was revoked, spread out: one row for everything that a revocation reaches, so that whoever asks needs to know
// nothing of how it was reached. sessioncerts are the certificates that hosts were or will be shown.
const revocationTables = `
CREATE TABLE revocations (what TEXT NOT NULL, target TEXT NOT NULL, idx INTEGER NOT NULL, at INTEGER NOT NULL, until INTEGER NOT NULL, by TEXT NOT NULL, why TEXT NOT NULL, PRIMARY KEY (what, target)) STRICT;
CREATE TABLE sessioncerts (serial TEXT PRIMARY KEY, key_id TEXT NOT NULL, request TEXT NOT NULL, session TEXT NOT NULL, jump TEXT NOT NULL, until INTEGER NOT NULL, revoked INTEGER NOT NULL) STRICT;
CREATE INDEX sessioncerts_until ON sessioncerts (until);
CREATE INDEX sessioncerts_request ON sessioncerts (request);
`

// Kinds of rows that no order names: they follow from one.
const (
	revokedPass    = "pass"     // target: its id
	revokedJumpKey = "jump-key" // target: authorized_keys form
)

// Revocation says that something is revoked, since which entry, by whom and why.
type Revocation struct {
	What, Target string
	Index        int64
	At           time.Time
	Until        time.Time // zero: for good
	By           string    // a person
	Why          string
}

const revocationColumns = `SELECT what, target, idx, at, until, by, why FROM revocations `

func scanRevocation(r scanner) (v Revocation, err error) {
	var at, until int64
	err = notFound(r.Scan(&v.What, &v.Target, &v.Index, &at, &until, &v.By, &v.Why))
	v.At = time.UnixMicro(at)
	if until != 0 {
		v.Until = time.UnixMicro(until)
	}
	return v, err
}

// Revoked finds the revocation of something (ledger.RevokedGrant …); ErrNotFound says that it stands.
func (t *Tx) Revoked(what, target string) (Revocation, error) {
	return scanRevocation(t.tx.QueryRow(revocationColumns+`WHERE what = $1 AND target = $2`, what, target))
}

// PassRevoked and JumpKeyRevoked say whether what a caller shows was revoked.
func (t *Tx) PassRevoked(id string) (bool, error)     { return t.isRevoked(revokedPass, id) }
func (t *Tx) JumpKeyRevoked(key string) (bool, error) { return t.isRevoked(revokedJumpKey, key) }
func (t *Tx) isRevoked(what, target string) (bool, error) {
	var n int
	err := t.tx.QueryRow(`SELECT COUNT(*) FROM revocations WHERE what = $1 AND target = $2`, what, target).Scan(&n)
	return n > 0, err
}

// Revocations lists those of a kind that still matter at now, in the ledger's order.
func (t *Tx) Revocations(what string, now time.Time) ([]Revocation, error) {
	rows, err := t.tx.Query(revocationColumns+`WHERE what = $1 AND (until = 0 OR until > $2) ORDER BY idx, target`, what, now.UnixMicro())
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var out []Revocation
	for rows.Next() {
		v, err := scanRevocation(rows)
		if err != nil {
			return nil, err
		}
		out = append(out, v)
	}
	return out, rows.Err()
}

// SessionCertificate is one that a host may be shown.
type SessionCertificate struct {
	Serial  string
	KeyID   string
	Revoked bool
}

// RevokedSessionCertificates lists the revoked ones that could still be taken for valid at or after since.
func (t *Tx) RevokedSessionCertificates(since time.Time) ([]SessionCertificate, error) {
	rows, err := t.tx.Query(`SELECT serial, key_id FROM sessioncerts WHERE until > $1 AND revoked > 0 ORDER BY serial`, since.UnixMicro())
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var out []SessionCertificate
	for rows.Next() {
		c := SessionCertificate{Revoked: true}
		if err := rows.Scan(&c.Serial, &c.KeyID); err != nil {
			return nil, err
		}
		out = append(out, c)
	}
	return out, rows.Err()
}

// CertificateEnd says until when a certificate that this ledger holds is good, and of a session's, of which. Of host certificates it knows nothing.
func (t *Tx) CertificateEnd(serial uint64) (until time.Time, session name.SessionID, err error) {
	var us int64
	s := fmt.Sprint(serial)
	err = notFound(t.tx.QueryRow(`SELECT until, session FROM sessioncerts WHERE serial = $1`, s).Scan(&us, &session))
	if errors.Is(err, ErrNotFound) {
		err = notFound(t.tx.QueryRow(`SELECT until FROM requests WHERE serial = $1`, s).Scan(&us))
	}
	return time.UnixMicro(us), session, err
}

// OpenSessions lists the sessions that run, as far as the jumps have told.
func (t *Tx) OpenSessions() ([]Session, error) {
	rows, err := t.tx.Query(sessionColumns + `WHERE s.state = 'open' ORDER BY s.idx`)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var out []Session
	for rows.Next() {
		s, err := scanSession(rows)
		if err != nil {
			return nil, err
		}
		out = append(out, s)
	}
	return out, rows.Err()
}

// GrantsOf lists a person's grants that were allowed after since, oldest first.
func (t *Tx) GrantsOf(p name.Person, since time.Time) ([]name.RequestID, error) {
	ids, err := t.strings(`SELECT id FROM requests WHERE person = $1 AND state = 'allowed' AND allowed_at > $2 ORDER BY allowed_at`, string(p), since.UnixMicro())
	out := []name.RequestID{}
	for _, id := range ids {
		out = append(out, name.RequestID(id))
	}
	return out, err
}

// ReachedRequest is a request that a revocation would stop.
type ReachedRequest struct {
	ID     name.RequestID
	Person name.Person
	Keys   []string  // fingerprints of the hardware keys that it stands on: the one that signed it, and that of an override or of the last extension
	Until  time.Time // of the grant, or of the wait
}

// Live lists the requests that are alive at now, granted or waiting, and not revoked: of a person, or of everybody if it is empty.
func (t *Tx) Live(p name.Person, now time.Time) ([]ReachedRequest, error) {
	rows, err := t.tx.Query(`SELECT r.id, r.person, r.key, r.allowed, CASE r.state WHEN 'allowed' THEN r.until ELSE r.wait_until END FROM requests r WHERE ($1 = '' OR r.person = $1)
		AND (r.state = 'allowed' AND r.until > $2 OR r.state = 'open' AND r.wait_until > $2)
		AND NOT EXISTS (SELECT 1 FROM revocations v WHERE v.what = 'grant' AND v.target = r.id) ORDER BY r.id`, string(p), now.UnixMicro())
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var out []ReachedRequest
	for rows.Next() {
		var r ReachedRequest
		var key, allowed string
		var until int64
		if err := rows.Scan(&r.ID, &r.Person, &key, &allowed, &until); err != nil {
			return nil, err
		}
		r.Until, r.Keys = time.UnixMicro(until), []string{key}
		if allowed != "" { // it holds the facts that the decision stood on, the key's touch among them
			var f struct{ Used ledger.Used }
			if err := json.Unmarshal([]byte(allowed), &f); err != nil {
				return nil, err
			}
			r.Keys = append(r.Keys, f.Used.Touch.Key)
		}
		out = append(out, r)
	}
	return out, rows.Err()
}

// applyRevoked writes a row for everything that the revocation reaches.
func (t *Tx) applyRevoked(idx int64, e *ledger.Entry, f *ledger.Revoked) error {
	var end time.Time
	if f.Until != nil {
		end = f.Until.Time
	}
	putUntil := func(what, target string, end time.Time) error {
		until := int64(0)
		if !end.IsZero() {
			until = end.UnixMicro()
		}
		return t.exec(`INSERT OR REPLACE INTO revocations (what, target, idx, at, until, by, why) VALUES ($1, $2, $3, $4, $5, $6, $7)`,
			what, target, idx, e.Time.UnixMicro(), until, string(e.Subject.Person), f.Why)
	}
	put := func(what, target string) error { return putUntil(what, target, end) }
	if err := put(f.What, f.Target); err != nil {
		return err
	}
	certs := func(where string, arg string) error {
		return t.exec(fmt.Sprintf(`UPDATE sessioncerts SET revoked = %d WHERE revoked = 0 AND %s = $1`, idx, where), arg)
	}
	grants := func(p name.Person, reached func(ReachedRequest) bool) error {
		live, err := t.Live(p, e.Time.Time)
		if err != nil {
			return err
		}
		for _, r := range live {
			if !reached(r) {
				continue
			}
			if err := putUntil(ledger.RevokedGrant, string(r.ID), r.Until); err != nil {
				return err
			}
			if err := certs("request", string(r.ID)); err != nil {
				return err
			}
		}
		return nil
	}
	switch f.What {
	case ledger.RevokedCertificate:
		return certs("serial", f.Target)
	case ledger.RevokedGrant:
		return certs("request", f.Target)
	case ledger.RevokedSession:
		return certs("session", f.Target)
	case ledger.RevokedKey:
		return grants("", func(r ReachedRequest) bool { return slices.Contains(r.Keys, f.Target) })
	case ledger.RevokedPerson:
		return t.applyRevokedPerson(name.Person(f.Target), put, grants)
	case ledger.RevokedJump:
		return t.applyRevokedJump(name.Jump(f.Target), e, put, certs)
	}
	return fmt.Errorf("revocation of a %q", f.What)
}

// applyRevokedPerson reaches all that is the person's up to now. What an operator gives them later, by a new invite, is another matter.
func (t *Tx) applyRevokedPerson(p name.Person, put func(what, target string) error, grants func(name.Person, func(ReachedRequest) bool) error) error {
	keys, err := t.Keys(p)
	if err != nil {
		return err
	}
	for _, k := range keys {
		if err := put(ledger.RevokedKey, k.Fingerprint); err != nil {
			return err
		}
	}
	passes, err := t.strings(`SELECT id FROM passes WHERE person = $1`, string(p))
	if err != nil {
		return err
	}
	for _, id := range passes {
		if err := put(revokedPass, id); err != nil {
			return err
		}
	}
	if err := grants(p, func(ReachedRequest) bool { return true }); err != nil {
		return err
	}
	// A token that lies unused in a mailbox would enrol them again, and a code from their telephone be half of a recovery.
	if err := t.exec(`UPDATE invites SET used = 1 WHERE kind = 'person' AND name = $1`, string(p)); err != nil {
		return err
	}
	if err := t.exec(`DELETE FROM totp WHERE person = $1`, string(p)); err != nil {
		return err
	}
	return t.exec(`DELETE FROM recipients WHERE person = $1`, string(p))
}

// applyRevokedJump stops a jump: its key signs nothing any more, and what it never reported as ended counts as cut off here.
func (t *Tx) applyRevokedJump(j name.Jump, e *ledger.Entry, put func(what, target string) error, certs func(where, arg string) error) error {
	row, err := t.Jump(j)
	if err != nil {
		return err
	}
	if err := put(revokedJumpKey, row.Jump.Key); err != nil {
		return err
	}
	if err := certs("jump", string(j)); err != nil {
		return err
	}
	if err := t.exec(`UPDATE invites SET used = 1 WHERE kind = 'jump' AND name = $1`, string(j)); err != nil {
		return err
	}
	return t.exec(`UPDATE sessions SET state = 'cut', ended = $1 WHERE jump = $2 AND state = 'open'`, e.Time.UnixMicro(), string(j))
}

// applySessionCertificate remembers a certificate that a host will be shown.
func (t *Tx) applySessionCertificate(e *ledger.Entry, f *ledger.CertificateIssued) error {
	if f.Kind != string(sshcert.Session) && f.Kind != string(sshcert.Via) { // a bastion reads the revocation list as hosts do
		return nil
	}
	return t.exec(`INSERT INTO sessioncerts (serial, key_id, request, session, jump, until, revoked) VALUES ($1, $2, $3, $4, $5, $6, 0)`,
		fmt.Sprint(f.Serial), f.KeyID, string(e.Subject.Request), string(e.Subject.Session), string(e.Subject.Jump), f.Until.UnixMicro())
}

func (t *Tx) strings(query string, args ...any) ([]string, error) {
	rows, err := t.tx.Query(query, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var out []string
	for rows.Next() {
		var s string
		if err := rows.Scan(&s); err != nil {
			return nil, err
		}
		out = append(out, s)
	}
	return out, rows.Err()
}
