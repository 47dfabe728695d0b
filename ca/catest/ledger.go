package catest

import (
	"database/sql"
	"path/filepath"

	_ "github.com/mattn/go-sqlite3" // the driver "sqlite3"

	"breakglass/ledger"
	"breakglass/ledger/ledgertest"
	"breakglass/review/replay"
)

// Raw gives the exact bytes of every entry, read beside the running CA.
func (c *CA) Raw() [][]byte {
	c.T.Helper()
	db, err := sql.Open("sqlite3", "file:"+filepath.Join(c.Dir, "ca.db")+"?_query_only=true&_busy_timeout=5000")
	Must(c.T, err)
	defer db.Close()
	rows, err := db.Query(`SELECT bytes FROM entries ORDER BY idx`)
	Must(c.T, err)
	defer rows.Close()
	var out [][]byte
	for rows.Next() {
		var b []byte
		Must(c.T, rows.Scan(&b))
		out = append(out, b)
	}
	Must(c.T, rows.Err())
	return out
}

// Entries gives every entry.
func (c *CA) Entries() []*ledger.Entry {
	c.T.Helper()
	var out []*ledger.Entry
	for _, b := range c.Raw() {
		e, err := ledger.Decode(b)
		Must(c.T, err)
		out = append(out, e)
	}
	return out
}

// Audit holds the whole ledger against all that ledger.Verify demands, and makes each of its decisions again. The CA must be quiet meanwhile.
func (c *CA) Audit() {
	c.T.Helper()
	note := c.Checkpoint()
	r, err := ledger.Verify(ledgertest.All(c.Raw()), note, c.Pins.Site.LedgerKey)
	Must(c.T, err)
	for _, f := range r.Findings {
		c.T.Errorf("audit: %v", f)
	}
	var pass replay.Pass
	for i, e := range c.Entries() {
		pass.Add(int64(i), e)
	}
	for _, f := range pass.Findings {
		c.T.Errorf("replay: %s", f)
	}
}
