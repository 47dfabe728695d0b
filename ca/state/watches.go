package state

import (
	"time"

	"breakglass/internal/name"
)

// watchTable holds who watches which session: a row from the entry with which a watching began to the one with which it ended.
const watchTable = `
CREATE TABLE watches (id TEXT PRIMARY KEY, session TEXT NOT NULL, person TEXT NOT NULL, pass TEXT NOT NULL, observer INTEGER NOT NULL, since INTEGER NOT NULL) STRICT;
CREATE INDEX watches_session ON watches (session);
`

// Watch is a watching that goes on.
type Watch struct {
	ID       string
	Session  name.SessionID
	Person   name.Person
	Pass     string
	Observer bool
	Since    time.Time
}

// Watches lists what goes on: of one session, or of all.
func (t *Tx) Watches(session name.SessionID) ([]Watch, error) {
	rows, err := t.tx.Query(`SELECT id, session, person, pass, observer, since FROM watches WHERE $1 = '' OR session = $1 ORDER BY since, id`, string(session))
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var out []Watch
	for rows.Next() {
		var w Watch
		var since int64
		if err := rows.Scan(&w.ID, &w.Session, &w.Person, &w.Pass, &w.Observer, &since); err != nil {
			return nil, err
		}
		w.Since = time.UnixMicro(since)
		out = append(out, w)
	}
	return out, rows.Err()
}
