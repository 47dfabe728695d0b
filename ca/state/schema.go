package state

import (
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"errors"
	"fmt"
)

// migrations bring user_version from its index to the next. Those that have shipped are never changed.
var migrations = []string{`
CREATE TABLE entries (idx INTEGER PRIMARY KEY, type TEXT NOT NULL, request TEXT NOT NULL, session TEXT NOT NULL, bytes BLOB NOT NULL) STRICT;
CREATE INDEX entries_request ON entries (request, idx) WHERE request <> '';
CREATE INDEX entries_type ON entries (type, idx);
CREATE TABLE hashes (pos INTEGER PRIMARY KEY, hash BLOB NOT NULL) STRICT;
` + projection, `
CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;
`}

// projection holds the tables that follow from the entries.
const projection = `
CREATE TABLE facts_of_site (one INTEGER PRIMARY KEY CHECK (one = 1), idx INTEGER NOT NULL, site TEXT NOT NULL, policy_idx INTEGER NOT NULL, policy TEXT NOT NULL, founded INTEGER NOT NULL) STRICT;
CREATE TABLE invites (hash TEXT PRIMARY KEY, kind TEXT NOT NULL, name TEXT NOT NULL, expires INTEGER NOT NULL, used INTEGER NOT NULL) STRICT;
CREATE TABLE recipients (age TEXT PRIMARY KEY, idx INTEGER NOT NULL, person TEXT NOT NULL, sealed TEXT NOT NULL) STRICT;
CREATE TABLE recovery (one INTEGER PRIMARY KEY CHECK (one = 1), idx INTEGER NOT NULL, age TEXT NOT NULL) STRICT;
CREATE TABLE recipient_set (one INTEGER PRIMARY KEY CHECK (one = 1), idx INTEGER NOT NULL, facts TEXT NOT NULL) STRICT;
CREATE TABLE passes (id TEXT PRIMARY KEY, holder TEXT NOT NULL UNIQUE, person TEXT NOT NULL, key TEXT NOT NULL, until INTEGER NOT NULL) STRICT;
CREATE TABLE jumps (name TEXT PRIMARY KEY, idx INTEGER NOT NULL, jump TEXT NOT NULL, number INTEGER NOT NULL, fact TEXT NOT NULL) STRICT;
CREATE TABLE requests (id TEXT PRIMARY KEY, state TEXT NOT NULL, kind TEXT NOT NULL, of TEXT NOT NULL, person TEXT NOT NULL, login TEXT NOT NULL, host TEXT NOT NULL, reason TEXT NOT NULL,
  client_key TEXT NOT NULL, key TEXT NOT NULL, statement TEXT NOT NULL, signed TEXT NOT NULL, opened INTEGER NOT NULL, waits TEXT NOT NULL, wait_until INTEGER NOT NULL, denied TEXT NOT NULL,
  allowed TEXT NOT NULL, allowed_at INTEGER NOT NULL, until INTEGER NOT NULL, serial TEXT NOT NULL, certificate TEXT NOT NULL, earlier TEXT NOT NULL, overridden INTEGER NOT NULL,
  rule TEXT NOT NULL DEFAULT '', place TEXT NOT NULL DEFAULT '') STRICT;
CREATE INDEX requests_waiting ON requests (wait_until) WHERE wait_until > 0;
CREATE INDEX requests_of ON requests (of) WHERE of <> '';
CREATE TABLE approvals (about TEXT NOT NULL, of TEXT NOT NULL, person TEXT NOT NULL, idx INTEGER NOT NULL, key TEXT NOT NULL, verdict TEXT NOT NULL, comment TEXT NOT NULL, given INTEGER NOT NULL,
  until INTEGER NOT NULL, grace INTEGER NOT NULL, PRIMARY KEY (about, of, person)) STRICT;
CREATE INDEX requests_host ON requests (host, until) WHERE until > 0;
CREATE TABLE sessions (id TEXT PRIMARY KEY, request TEXT NOT NULL, n INTEGER NOT NULL, idx INTEGER NOT NULL, hash TEXT NOT NULL, person TEXT NOT NULL, login TEXT NOT NULL, host TEXT NOT NULL,
  jump TEXT NOT NULL, peer TEXT NOT NULL, opened INTEGER NOT NULL, until INTEGER NOT NULL, state TEXT NOT NULL, ended INTEGER NOT NULL, head TEXT NOT NULL, envelope TEXT NOT NULL,
  seconds INTEGER NOT NULL, stored INTEGER NOT NULL) STRICT;
CREATE INDEX sessions_request ON sessions (request, n);
CREATE TABLE nonces (nonce TEXT PRIMARY KEY, idx INTEGER NOT NULL) STRICT;
` + liveTables + keyTables + totpTables + lockoutTables + retiredTable + revocationTables + policyTables + watchTable

// projected names the tables of projection, for Rebuild and its test.
var projected = []string{"facts_of_site", "policies", "invites", "keys", "foundings", "recipients", "recovery", "recipient_set", "passes", "jumps", "requests", "live_places", "approvals", "sessions", "nonces", "totp", "totp_used", "refusals", "lockouts", "suspensions", "clock", "revocations", "sessioncerts", "retired_keys", "policy_pieces", "policy_signed", "policy_refused", "watches"}

// reproject makes the tables anew from the entries if this program projects otherwise than the one that wrote them: a column more
// needs no migration of its own.
func (s *State) reproject() error {
	sum := sha256.Sum256([]byte(projection))
	want, have := hex.EncodeToString(sum[:]), ""
	if err := s.write.QueryRow(`SELECT value FROM meta WHERE name = 'projection'`).Scan(&have); err != nil && !errors.Is(err, sql.ErrNoRows) {
		return err
	}
	if have == want {
		return nil
	}
	if err := s.Rebuild(); err != nil {
		return err
	}
	_, err := s.write.Exec(`INSERT OR REPLACE INTO meta (name, value) VALUES ('projection', $1)`, want)
	return err
}

// newer is the refusal of a database that a later version wrote: what this program doesn't know it must not leave out.
func newer(v int) error {
	return fmt.Errorf("%w: it is %d, this program knows %d", ErrNewer, v, len(migrations))
}

func migrate(db *sql.DB) error {
	var v int
	if err := db.QueryRow(`PRAGMA user_version`).Scan(&v); err != nil {
		return err
	}
	if v > len(migrations) {
		return newer(v)
	}
	for ; v < len(migrations); v++ {
		tx, err := db.Begin()
		if err != nil {
			return err
		}
		if _, err = tx.Exec(migrations[v]); err == nil {
			_, err = tx.Exec(fmt.Sprintf(`PRAGMA user_version = %d`, v+1))
		}
		if err != nil {
			tx.Rollback()
			return fmt.Errorf("migration %d: %w", v+1, err)
		}
		if err := tx.Commit(); err != nil {
			return err
		}
	}
	return nil
}
