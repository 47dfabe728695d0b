package state

import (
	"time"

	"breakglass/internal/name"
	"breakglass/internal/statement"
	"breakglass/ledger"
)

// totpTables holds what follows from the totp.* entries: at most one row a person.
const totpTables = `
CREATE TABLE totp (person TEXT PRIMARY KEY, device TEXT NOT NULL, sealed BLOB NOT NULL, enrolled TEXT NOT NULL, step INTEGER NOT NULL, wrong INTEGER NOT NULL,
  locked TEXT NOT NULL, locked_until INTEGER NOT NULL, enrolled_idx INTEGER NOT NULL, locked_idx INTEGER NOT NULL) STRICT;
CREATE TABLE totp_used (request TEXT PRIMARY KEY) STRICT;
`

// TOTP is where a person's codes stand.
type TOTP struct {
	Device      name.Key
	Sealed      []byte
	Enrolled    statement.Hash // of the totp.enrolled entry
	Step        int64          // the last that was accepted: neither it nor an earlier one counts again
	Wrong       int            // wrong codes since the last right one
	Locked      statement.Hash // of the last totp.locked entry
	LockedUntil time.Time      // zero: not locked
}

// TOTP finds a person's codes; ErrNotFound if there are none.
func (t *Tx) TOTP(p name.Person) (s TOTP, err error) {
	var enrolled, locked string
	var until int64
	if err = notFound(t.tx.QueryRow(`SELECT device, sealed, enrolled, step, wrong, locked, locked_until FROM totp WHERE person = $1`, string(p)).
		Scan(&s.Device, &s.Sealed, &enrolled, &s.Step, &s.Wrong, &locked, &until)); err != nil {
		return s, err
	}
	if until != 0 {
		s.LockedUntil = time.UnixMicro(until)
	}
	if err = s.Enrolled.UnmarshalText([]byte(enrolled)); err == nil && locked != "" {
		err = s.Locked.UnmarshalText([]byte(locked))
	}
	return s, err
}

// TOTPUsedFor says whether a code counted for a request.
func (t *Tx) TOTPUsedFor(id name.RequestID) (bool, error) {
	var n int
	err := t.tx.QueryRow(`SELECT COUNT(*) FROM totp_used WHERE request = $1`, string(id)).Scan(&n)
	return n > 0, err
}

// applyTOTP is apply's part for the totp.* entries.
func (t *Tx) applyTOTP(idx int64, raw []byte, e *ledger.Entry) error {
	person := string(e.Subject.Person)
	switch f := e.Facts.(type) {
	case *ledger.TOTPEnrolled:
		return t.exec(`INSERT OR REPLACE INTO totp (person, device, sealed, enrolled, step, wrong, locked, locked_until, enrolled_idx, locked_idx) VALUES ($1, $2, $3, $4, $5, 0, '', 0, $6, 0)`,
			person, string(f.Device), f.Sealed, ledger.EntryHash(raw).String(), f.Step, idx)
	case *ledger.TOTPRemoved:
		return t.exec(`DELETE FROM totp WHERE person = $1`, person)
	case *ledger.TOTPUsed:
		if id := string(e.Subject.Request); id != "" {
			if err := t.exec(`INSERT OR IGNORE INTO totp_used (request) VALUES ($1)`, id); err != nil {
				return err
			}
		}
		return t.exec(`UPDATE totp SET step = $1, wrong = 0, locked_until = 0 WHERE person = $2 AND step < $3`, f.Step, person, f.Step)
	case *ledger.TOTPRefused:
		return t.exec(`UPDATE totp SET wrong = $1 WHERE person = $2`, f.Wrong, person)
	case *ledger.TOTPLocked:
		return t.exec(`UPDATE totp SET locked = $1, locked_until = $2, locked_idx = $3 WHERE person = $4`, ledger.EntryHash(raw).String(), f.Until.UnixMicro(), idx, person)
	case *ledger.TOTPUnlocked:
		return t.exec(`UPDATE totp SET wrong = 0, locked_until = 0 WHERE person = $1`, person)
	}
	return nil
}
