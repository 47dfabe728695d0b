package main

import (
	"database/sql"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"breakglass/ca/catest"
	"breakglass/policy"
	"breakglass/review/replay"
)

// runs executes a command line and gives what it printed.
func runs(t *testing.T, args ...string) (string, error) {
	t.Helper()
	out, err := os.Create(filepath.Join(t.TempDir(), "out"))
	catest.Must(t, err)
	defer out.Close()
	a := &app{stdout: out, stderr: out}
	root := newRoot(a)
	root.SetArgs(args)
	root.SetOut(out)
	root.SetErr(out)
	root.SilenceErrors, root.SilenceUsage = true, true
	err = root.Execute()
	b, readErr := os.ReadFile(out.Name())
	catest.Must(t, readErr)
	return string(b), err
}

// TestDecisionsOfALedger makes real decisions at a CA, and then asks of its ledger, offline, whether they come out again, and what a changed policy
// would have said.
func TestDecisionsOfALedger(t *testing.T) {
	c := catest.New(t, catest.Config{})
	alice := c.Enrol("alice")
	g, err := alice.Request("root", "web01")
	catest.Must(t, err)
	if _, err := alice.Request("nologin", "web01"); err == nil {
		t.Fatal("a login that no rule has was allowed")
	}
	db := filepath.Join(c.Dir, "ca.db")

	out, err := runs(t, "policy", "replay", string(g.ID), "--db", db)
	if err != nil || !strings.Contains(out, "  same    allow") || !strings.Contains(out, "grant.allowed  alice for root@web01") {
		t.Errorf("the grant again: %v\n%s", err, out)
	}
	old, err := policy.Load("catest", []byte(catest.Policy))
	catest.Must(t, err)
	granted, _ := old.Rule(g.Rule)
	changed := filepath.Join(t.TempDir(), "new.toml")
	text := strings.Replace(catest.Policy, `"root"`, `"admin"`, -1)
	catest.Must(t, os.WriteFile(changed, []byte(text), 0o600))
	out, err = runs(t, "policy", "diff", changed, "--db", db)
	for _, want := range []string{"2 decisions of the last 90 days made again, 1 come out otherwise", "alice root@web01  (grant.allowed)", "old  allow", `by rule "` + string(granted.Name) + `"`, "new  deny (login_not_allowed)"} {
		if err != nil || !strings.Contains(strings.Join(strings.Fields(out), " "), strings.Join(strings.Fields(want), " ")) {
			t.Errorf("diff lacks %q: %v\n%s", want, err, out)
		}
	}

	// Somebody with the database makes the entry say another answer, and then other facts than those that were asked with.
	for what, change := range map[string]string{
		"the minutes": `UPDATE entries SET bytes = CAST(REPLACE(CAST(bytes AS TEXT), '"minutes":` + strconv.Itoa(g.Minutes) + `,"until"', '"minutes":59,"until"') AS BLOB) WHERE type = 'grant.allowed'`,
		"the key":     `UPDATE entries SET bytes = CAST(REPLACE(CAST(bytes AS TEXT), '"key":"live","touch":{', '"key":"in grace","touch":{') AS BLOB) WHERE type = 'grant.allowed'`,
		"the inquiry": `UPDATE entries SET bytes = CAST(REPLACE(CAST(bytes AS TEXT), '"uv":"yes"', '"uv":"no"') AS BLOB) WHERE type = 'grant.allowed'`,
	} {
		copied := copyOf(t, db)
		d, err := sql.Open("sqlite3", copied)
		catest.Must(t, err)
		res, err := d.Exec(change)
		catest.Must(t, err)
		if n, _ := res.RowsAffected(); n != 1 {
			t.Fatalf("%s: %d entries changed", what, n)
		}
		catest.Must(t, d.Close())
		out, err := runs(t, "policy", "replay", string(g.ID), "--db", copied)
		if !errors.Is(err, errDiffers) || statusOf(err) != exitFailed || !strings.Contains(out, "  differs ") {
			t.Errorf("%s changed: %v\n%s", what, err, out)
		}
	}
}

// copyOf copies a database with what is in its write-ahead log.
func copyOf(t *testing.T, path string) string {
	t.Helper()
	to := filepath.Join(t.TempDir(), "copy.db")
	db, err := sql.Open("sqlite3", path)
	catest.Must(t, err)
	defer db.Close()
	_, err = db.Exec(`VACUUM INTO $1`, to)
	catest.Must(t, err)
	return to
}

// BenchmarkDiff runs 10,000 decisions through two policies, as policy diff does once they are read.
func BenchmarkDiff(b *testing.B) {
	p, err := policy.Load("catest", []byte(catest.Policy))
	if err != nil {
		b.Fatal(err)
	}
	text := []byte(`{"request":{"kind":"new","person":"alice","host":"web01","login":"root","minutes":0,"reason":"the disk of the mail queue is full"},` +
		`"facts":{"now":"2026-11-24T03:00:00Z","sources":[{"addr":"127.0.0.1","anonymous":"unknown"}],"touch":"yes","uv":"yes","key":"live","live":{"known":true}}}`)
	for b.Loop() {
		var list []*replay.Decision
		for range 10_000 {
			q, err := policy.ParseInquiry(text)
			if err != nil {
				b.Fatal(err)
			}
			list = append(list, &replay.Decision{Inquiry: q})
		}
		if changed := changedBy(p, p, list); len(changed) != 0 {
			b.Fatal(changed[0])
		}
	}
}
