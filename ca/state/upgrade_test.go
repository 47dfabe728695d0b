package state

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"breakglass/ledger"
)

var update = flag.Bool("update", false, "write the fixture of this schema, if there is none yet")

// fixture is a database as a version of the schema wrote it, for ever: testdata/schema-N.db has user_version N.
func fixture(n int) string { return filepath.Join("testdata", fmt.Sprintf("schema-%d.db", n)) }

// makeFixture writes the database of schema n, with all that lived.
func makeFixture(t *testing.T, n int) {
	dir := t.TempDir()
	s, _ := openAt(t, dir)
	for _, raw := range lived(t).Entries {
		if err := s.Do(context.Background(), func(tx *Tx) error { return tx.AppendRaw(raw) }); err != nil {
			t.Fatal(err)
		}
	}
	if n == 1 { // before there was a table of what the tables are made by
		for _, q := range []string{`DROP TABLE meta`, `PRAGMA user_version = 1`} {
			if _, err := s.write.Exec(q); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := Copy(context.Background(), dir, fixture(n)); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

// Every schema that has shipped is opened: its entries stand byte by byte, and its tables are those that the entries give now.
func TestDatabasesOfFormerVersions(t *testing.T) {
	for n := 1; n <= len(migrations); n++ {
		if _, err := os.Stat(fixture(n)); errors.Is(err, os.ErrNotExist) {
			if !*update {
				t.Fatalf("no %s: a schema that ships gets its fixture (-update), which is never changed", fixture(n))
			}
			makeFixture(t, n)
		}
		b, err := os.ReadFile(fixture(n))
		if err != nil {
			t.Fatal(err)
		}
		old, err := OpenStored(fixture(n))
		if err != nil {
			t.Fatal(err)
		}
		var want ledger.Memory
		for raw, err := range old.Entries(old.Size) {
			if err == nil {
				err = want.Append(raw)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		old.Close()
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, "ca.db"), b, 0o600); err != nil {
			t.Fatal(err)
		}
		s, _ := openAt(t, dir)
		head, _ := s.Head()
		if pin, err := want.Checkpoint(want.Size()); err != nil || head.Pin() != pin || head.Size == 0 {
			t.Errorf("schema %d: head %v, its entries have %v, %v", n, head, pin, err)
		}
		live := dump(t, s)
		if err := s.Rebuild(); err != nil {
			t.Errorf("schema %d: %v", n, err)
		}
		if d := cmp.Diff(live, dump(t, s)); d != "" {
			t.Errorf("schema %d: after the migration other tables than its entries give:\n%s", n, d)
		}
		for _, table := range projected {
			if slices.Contains(laterTables, table) { // a database of then has no entry that fills it
				continue
			}
			if len(live[table]) == 0 {
				t.Errorf("schema %d: %s is empty", n, table)
			}
		}
		var v int
		if err := s.write.QueryRow(`PRAGMA user_version`).Scan(&v); err != nil || v != len(migrations) {
			t.Errorf("schema %d: now %d, %v", n, v, err)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		// What this test opened is a copy.
		if again, err := os.ReadFile(fixture(n)); err != nil || sha256.Sum256(again) != sha256.Sum256(b) {
			t.Errorf("the fixture changed: %v", err)
		}
	}
}

// laterTables are projected from entries of types that came after the fixtures were written.
var laterTables = []string{"watches", "recovery", "recipient_set"}

// A migration that fails leaves the database as the version before wrote it.
func TestAMigrationThatFailsChangesNothing(t *testing.T) {
	dir := t.TempDir()
	b, err := os.ReadFile(fixture(1))
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "ca.db")
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	db, err := sql.Open("sqlite3", "file:"+path)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if _, err := db.Exec(`CREATE TABLE meta (other TEXT)`); err != nil { // is in the way of migration 2
		t.Fatal(err)
	}
	if err := migrate(db); err == nil {
		t.Fatal("it migrated")
	}
	var v int
	if err := db.QueryRow(`PRAGMA user_version`).Scan(&v); err != nil || v != 1 {
		t.Errorf("version %d, %v", v, err)
	}
	if _, err := db.Exec(`DROP TABLE meta`); err != nil {
		t.Fatal(err)
	}
	if err := migrate(db); err != nil {
		t.Error(err)
	}
}
