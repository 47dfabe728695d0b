package state

import (
	"time"

	"breakglass/internal/name"
	"breakglass/internal/statement"
	"breakglass/ledger"
)

// lockoutTables holds what follows from refused acts, suspensions and what lifts them.
const lockoutTables = `
CREATE TABLE refusals (person TEXT NOT NULL, at INTEGER NOT NULL) STRICT;
CREATE INDEX refusals_person ON refusals (person, at);
CREATE TABLE lockouts (person TEXT PRIMARY KEY, until INTEGER NOT NULL) STRICT;
CREATE TABLE suspensions (fingerprint TEXT PRIMARY KEY, entry TEXT NOT NULL, idx INTEGER NOT NULL, at INTEGER NOT NULL, seen INTEGER NOT NULL) STRICT;
CREATE TABLE clock (one INTEGER PRIMARY KEY CHECK (one = 1), newest INTEGER NOT NULL, accepted INTEGER NOT NULL, off INTEGER NOT NULL) STRICT;
`

// Refusals counts a person's refused acts after a moment.
func (t *Tx) Refusals(p name.Person, after time.Time) (n int, err error) {
	err = t.tx.QueryRow(`SELECT COUNT(*) FROM refusals WHERE person = $1 AND at > $2`, string(p), after.UnixMicro()).Scan(&n)
	return n, err
}

// LockedOut says until when a person is; the zero time: not.
func (t *Tx) LockedOut(p name.Person) (time.Time, error) {
	if r := t.rosterNow(); r != nil {
		return r.Locked[p], nil
	}
	var us int64
	if err := notFound(t.tx.QueryRow(`SELECT until FROM lockouts WHERE person = $1`, string(p)).Scan(&us)); err == ErrNotFound {
		return time.Time{}, nil
	} else if err != nil {
		return time.Time{}, err
	}
	return time.UnixMicro(us), nil
}

// Suspension is why a key is suspended.
type Suspension struct {
	Entry statement.Hash // of the key.suspended entry: what an unlocking approval signs
	At    time.Time
	Seen  uint32 // the counter that came, not above the accepted one
}

// Suspension finds the last one of a key; ErrNotFound if it is not suspended.
func (t *Tx) Suspension(fingerprint string) (s Suspension, err error) {
	var entry string
	var at int64
	if err = notFound(t.tx.QueryRow(`SELECT entry, at, seen FROM suspensions WHERE fingerprint = $1`, fingerprint).Scan(&entry, &at, &s.Seen)); err != nil {
		return s, err
	}
	s.At = time.UnixMicro(at)
	return s, s.Entry.UnmarshalText([]byte(entry))
}

// Clock is what the entries say of the time.
type Clock struct {
	Newest      time.Time     // the latest that an entry is dated
	Accepted    time.Time     // up to there somebody found the clock right, though entries are dated later
	AcceptedOff time.Duration // and the jumps' clocks so far away
}

func (t *Tx) Clock() (c Clock, err error) {
	if r := t.rosterNow(); r != nil {
		c = r.clock
	} else if c, err = t.clockRow(); err != nil {
		return c, err
	}
	last, err := t.timeOf(t.Size() - 1)
	if at := time.UnixMicro(last); at.After(c.Newest) {
		c.Newest = at
	}
	return c, err
}

// clockRow is what the table says, which knows nothing of the last entry.
func (t *Tx) clockRow() (Clock, error) {
	var newest, accepted, off int64
	err := notFound(t.tx.QueryRow(`SELECT newest, accepted, off FROM clock`).Scan(&newest, &accepted, &off))
	if err == ErrNotFound {
		err = nil
	}
	return Clock{time.UnixMicro(newest), time.UnixMicro(accepted), time.Duration(off) * time.Second}, err
}

// lockouts lists who is, or was, locked out.
func (t *Tx) lockouts() (map[name.Person]time.Time, error) {
	rows, err := t.tx.Query(`SELECT person, until FROM lockouts`)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	out := map[name.Person]time.Time{}
	for rows.Next() {
		var p name.Person
		var us int64
		if err := rows.Scan(&p, &us); err != nil {
			return nil, err
		}
		out[p] = time.UnixMicro(us)
	}
	return out, rows.Err()
}

// Liftable is something that approvals can lift.
type Liftable struct {
	Of, What string // as api.Unlock has it
	Person   name.Person
	Name     name.Key
	Index    int64 // of the entry that an approval signs
	Until    time.Time
}

// Liftable lists suspended keys, locks of codes (past ones too), and devices that make codes.
func (t *Tx) Liftable() ([]Liftable, error) {
	rows, err := t.tx.Query(`SELECT s.fingerprint, 'key', k.person, k.name, s.idx, 0 FROM suspensions s JOIN keys k ON k.fingerprint = s.fingerprint WHERE k.suspended = 1
		UNION ALL SELECT 'totp:' || person, 'codes', person, device, locked_idx, locked_until FROM totp WHERE locked_until > 0
		UNION ALL SELECT 'totp:' || person, 'device', person, device, enrolled_idx, 0 FROM totp ORDER BY 5`)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var out []Liftable
	for rows.Next() {
		var l Liftable
		var until int64
		if err := rows.Scan(&l.Of, &l.What, &l.Person, &l.Name, &l.Index, &until); err != nil {
			return nil, err
		}
		l.Until = time.UnixMicro(until)
		out = append(out, l)
	}
	return out, rows.Err()
}

// applyRefusal keeps a refused act while it counts towards a lockout.
func (t *Tx) applyRefusal(e *ledger.Entry) error {
	if !ledger.CountsForLockout(e) {
		return nil
	}
	p, at := string(e.Subject.Person), e.Time.UnixMicro()
	if err := t.exec(`DELETE FROM refusals WHERE person = $1 AND at <= $2`, p, e.Time.Add(-ledger.LockoutWindow).UnixMicro()); err != nil {
		return err
	}
	return t.exec(`INSERT INTO refusals (person, at) VALUES ($1, $2)`, p, at)
}

// applyLockout is apply's part for what locks out, suspends, and lifts either.
func (t *Tx) applyLockout(idx int64, raw []byte, e *ledger.Entry) error {
	p := string(e.Subject.Person)
	switch f := e.Facts.(type) {
	case *ledger.PersonLocked:
		if err := t.exec(`DELETE FROM refusals WHERE person = $1`, p); err != nil {
			return err
		}
		return t.exec(`INSERT OR REPLACE INTO lockouts (person, until) VALUES ($1, $2)`, p, f.Until.UnixMicro())
	case *ledger.PersonUnlocked:
		return t.exec(`DELETE FROM lockouts WHERE person = $1`, p)
	case *ledger.KeySuspended:
		if err := t.exec(`INSERT OR REPLACE INTO suspensions (fingerprint, entry, idx, at, seen) VALUES ($1, $2, $3, $4, $5)`,
			e.Subject.Key, ledger.EntryHash(raw).String(), idx, e.Time.UnixMicro(), f.Seen); err != nil {
			return err
		}
		return t.exec(`UPDATE keys SET suspended = 1 WHERE fingerprint = $1`, e.Subject.Key)
	case *ledger.KeyUnlocked:
		if err := t.exec(`DELETE FROM suspensions WHERE fingerprint = $1`, e.Subject.Key); err != nil {
			return err
		}
		return t.exec(`UPDATE keys SET suspended = 0, counter = $1 WHERE fingerprint = $2`, f.Seen, e.Subject.Key)
	case *ledger.ClockAccepted:
		return t.exec(`INSERT INTO clock (one, newest, accepted, off) VALUES (1, 0, $1, $2) ON CONFLICT (one) DO UPDATE SET accepted = excluded.accepted, off = excluded.off`, f.Newest.UnixMicro(), f.Jumps)
	}
	return nil
}

// applyTime keeps the time of an entry that a later one is dated before: the clock went back there. The latest time of all entries is then
// either in that table or the last entry's, and an entry costs no write for it.
func (t *Tx) applyTime(idx int64, e *ledger.Entry) error {
	at := e.Time.UnixMicro()
	before, err := t.timeOf(idx - 1)
	if err != nil {
		return err
	}
	t.lastIdx, t.lastAt = idx, at
	if at >= before {
		return nil
	}
	t.unrostered = true
	return t.exec(`INSERT INTO clock (one, newest, accepted, off) VALUES (1, $1, 0, 0) ON CONFLICT (one) DO UPDATE SET newest = max(newest, excluded.newest)`, before)
}

// timeOf is an entry's time, of the one before at no cost.
func (t *Tx) timeOf(idx int64) (int64, error) {
	if idx < 0 {
		return 0, nil
	}
	if t.lastIdx == idx && t.lastAt != 0 {
		return t.lastAt, nil
	}
	b, err := t.Entry(idx)
	if err != nil {
		return 0, err
	}
	e, err := ledger.Decode(b)
	if err != nil {
		return 0, err
	}
	return e.Time.UnixMicro(), nil
}
