package catest

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"database/sql"
)

// Tables gives every row of every table that follows from the entries, read beside the running CA: what a rebuild has to give again.
func (c *CA) Tables() map[string][]string {
	c.T.Helper()
	db, err := sql.Open("sqlite3", "file:"+filepath.Join(c.Dir, "ca.db")+"?_query_only=true&_busy_timeout=5000")
	Must(c.T, err)
	defer db.Close()
	tx, err := db.Begin() // one moment for all tables
	Must(c.T, err)
	defer tx.Rollback()
	names := column(c, tx, `SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT IN ('entries', 'hashes', 'meta') AND name NOT LIKE 'sqlite_%' ORDER BY name`)
	out := map[string][]string{}
	for _, n := range names {
		out[n] = rowsOf(c, tx, n)
	}
	return out
}

func column(c *CA, tx *sql.Tx, query string) []string {
	c.T.Helper()
	rows, err := tx.Query(query)
	Must(c.T, err)
	defer rows.Close()
	var out []string
	for rows.Next() {
		var s string
		Must(c.T, rows.Scan(&s))
		out = append(out, s)
	}
	Must(c.T, rows.Err())
	return out
}

// rowsOf is sorted, for the order in which rows were written says nothing.
func rowsOf(c *CA, tx *sql.Tx, table string) []string {
	c.T.Helper()
	rows, err := tx.Query(`SELECT * FROM ` + table)
	Must(c.T, err)
	defer rows.Close()
	cols, err := rows.Columns()
	Must(c.T, err)
	out := []string{}
	for rows.Next() {
		vals, ptrs := make([]any, len(cols)), make([]any, len(cols))
		for i := range vals {
			ptrs[i] = &vals[i]
		}
		Must(c.T, rows.Scan(ptrs...))
		var b strings.Builder
		for i, v := range vals {
			fmt.Fprintf(&b, "%s=%v ", cols[i], v)
		}
		out = append(out, b.String())
	}
	Must(c.T, rows.Err())
	slices.Sort(out)
	return out
}
