package state

import (
	"encoding/json"
	"time"

	"breakglass/internal/name"
	"breakglass/ledger"
)

// liveTables answer which grants of a person, and how many on a rule, are alive, within every decision and so in no more than a few steps of an
// index: place is what a grant's decision found of its addresses, and live_places has a person's that may still be of a living grant, so that
// nobody has to walk over all that they hold to see where they are.
const liveTables = `
CREATE TABLE live_places (person TEXT NOT NULL, place TEXT NOT NULL, until INTEGER NOT NULL, PRIMARY KEY (person, place)) STRICT, WITHOUT ROWID;
CREATE INDEX requests_live ON requests (person, place, until) WHERE until > 0;
CREATE INDEX requests_rule ON requests (rule, until) WHERE until > 0;
`

// LiveGrant is a grant that is alive.
type LiveGrant struct {
	ID        name.RequestID
	Rule      name.Rule
	Addresses []ledger.UsedAddress // as the decision that it stands on found them
}

// A grant is alive that was allowed, is not over, not the excepted one, and not revoked or ended by its holder.
const (
	livePlaces = `SELECT g.id, g.rule, g.place FROM live_places l JOIN requests g ON g.id =
	(SELECT r.id FROM requests r WHERE r.person = l.person AND r.place = l.place AND r.until > 0 AND r.until > $1 AND r.state = 'allowed' AND r.id <> $2
	AND NOT EXISTS (SELECT 1 FROM revocations v WHERE v.what = 'grant' AND v.target = r.id) ORDER BY r.until DESC LIMIT 1)
	WHERE l.until > $1 AND l.person = $3 ORDER BY g.until, g.id`
	liveAll = `SELECT r.id, r.rule, r.place FROM live_places l JOIN requests r ON r.person = l.person AND r.place = l.place
	WHERE r.until > 0 AND r.until > $1 AND r.state = 'allowed' AND r.id <> $2
	AND NOT EXISTS (SELECT 1 FROM revocations v WHERE v.what = 'grant' AND v.target = r.id)
	AND l.until > $1 AND l.person = $3 ORDER BY r.until, r.id LIMIT $4`
	liveOn = `SELECT COUNT(*) FROM (SELECT 1 FROM requests r WHERE r.until > 0 AND r.until > $1 AND r.state = 'allowed' AND r.id <> $2
	AND NOT EXISTS (SELECT 1 FROM revocations v WHERE v.what = 'grant' AND v.target = r.id) AND r.rule = $3 LIMIT $4)`
)

// LiveOf lists a person's grants that are alive at now, but for one: of limit 0 one of each place that some come from, else all, at most limit. The
// ones that end first come first.
func (t *Tx) LiveOf(p name.Person, except name.RequestID, now time.Time, limit int) ([]LiveGrant, error) {
	query := livePlaces
	args := []any{now.UnixMicro(), string(except), string(p)}
	if limit > 0 {
		query = liveAll
		args = append(args, limit)
	}
	rows, err := t.tx.Query(query, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var out []LiveGrant
	for rows.Next() {
		var g LiveGrant
		var place string
		if err := rows.Scan(&g.ID, &g.Rule, &place); err != nil {
			return nil, err
		}
		if err := json.Unmarshal([]byte(place), &g.Addresses); err != nil {
			return nil, err
		}
		out = append(out, g)
	}
	return out, rows.Err()
}

// LiveOn counts the grants that are alive on a rule at now, but for one, and stops at limit.
func (t *Tx) LiveOn(rule name.Rule, except name.RequestID, now time.Time, limit int) (n int, err error) {
	err = t.tx.QueryRow(liveOn,
		now.UnixMicro(), string(except), string(rule), limit).Scan(&n)
	return n, err
}

// applyPlace writes down on which rule, and from where, a grant stands since the entry at the time of which it was allowed or extended.
func (t *Tx) applyPlace(at int64, id name.RequestID, p name.Person, rule name.Rule, used []ledger.UsedAddress, until int64) error {
	place := text(used)
	if err := t.exec(`UPDATE requests SET rule = $1, place = $2 WHERE id = $3`, string(rule), place, string(id)); err != nil {
		return err
	}
	if err := t.exec(`DELETE FROM live_places WHERE person = $1 AND until <= $2`, string(p), at); err != nil {
		return err
	}
	return t.exec(`INSERT INTO live_places (person, place, until) VALUES ($1, $2, $3) ON CONFLICT (person, place) DO UPDATE SET until = MAX(until, excluded.until)`,
		string(p), place, until)
}
