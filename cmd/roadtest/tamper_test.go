package roadtest

import (
	"bytes"
	"crypto/tls"
	"database/sql"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"breakglass/internal/road"
)

// ledgerIsFine demands that the audit of the whole ledger, against pins from a person's machine, finds nothing: CA and audit
// agree on what the road really wrote.
func ledgerIsFine(t *testing.T, r *road.Road, of *road.Person) {
	t.Helper()
	out, err := r.Run(t.Context(), "breakglass-ca", "ledger", "verify", "--dir", filepath.Join(r.Dir, "ca"), "--trust", pinsOf(t, of))
	if err != nil || !strings.HasPrefix(out, "VERIFIED\n") {
		t.Errorf("ledger verify: %v\n%s", err, out)
	}
}

func pinsOf(t *testing.T, p *road.Person) string {
	t.Helper()
	text, err := p.Run(t.Context(), "breakglass", "pins", "--json")
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "pins")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// change gives a copy with one bit of the byte at i turned.
func change(b []byte, i int) []byte {
	c := bytes.Clone(b)
	c[i] ^= 1
	return c
}

// TestTampering has an intruder on the CA's machine change what it keeps. Whatever the change, it is found, and where.
func TestTampering(t *testing.T) {
	r, alice, bob := start(t, road.Config{})
	ctx := t.Context()
	if _, err := alice.Run(ctx, "breakglass", "ssh", "--reason", reason, alice.Target(), "--", "seq 2000; echo the end"); err != nil {
		t.Fatal(err)
	}
	id, err := newest(ctx, bob)
	if err != nil {
		t.Fatal(err)
	}
	if out, err := bob.Run(ctx, "breakglass", "verify", id); err != nil || !strings.HasPrefix(out, "VERIFIED\n") {
		t.Fatalf("before: %v\n%s", err, out)
	}
	ledgerIsFine(t, r, bob)
	found := func(t *testing.T, where string) {
		t.Helper()
		cmd := bob.Command(ctx, "breakglass", "verify", id)
		out, _ := cmd.Output()
		if cmd.ProcessState.ExitCode() != 20 || !bytes.HasPrefix(out, []byte("FAILED")) || !bytes.Contains(out, []byte(where)) {
			t.Errorf("exit %d, want 20 and %q\n%s", cmd.ProcessState.ExitCode(), where, out)
		}
	}

	var stored string
	files, err := filepath.Glob(filepath.Join(r.Dir, "ca", "store", "*"))
	if err != nil {
		t.Fatal(err)
	}
	var whole []byte
	for _, f := range files {
		if b, err := os.ReadFile(f); err == nil && strings.Contains(filepath.Base(f), strings.Replace(id, "/", ".", 1)) && len(b) > len(whole) {
			stored, whole = f, b
		}
	}
	if stored == "" {
		t.Fatalf("no recording of %s in %v", id, files)
	}
	for _, c := range []struct {
		what string
		text []byte
	}{
		{"its first byte changed", change(whole, 0)},
		{"a byte of its header changed", change(whole, 100)},
		{"a byte in the middle changed", change(whole, len(whole)/2)},
		{"its last byte changed", change(whole, len(whole)-1)},
		{"its end cut off", whole[:len(whole)-100]},
		{"a piece of its middle removed", append(bytes.Clone(whole[:len(whole)/2]), whole[len(whole)/2+64:]...)},
	} {
		t.Run("the recording, "+c.what, func(t *testing.T) {
			road.Mutable(r.Dir)
			if err := os.Remove(stored); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(stored, c.text, 0o600); err != nil {
				t.Fatal(err)
			}
			found(t, id)
		})
	}
	if err := os.WriteFile(stored, whole, 0o600); err != nil {
		t.Fatal(err)
	}

	// The ledger: copies of the database under the head that was signed.
	web := &http.Client{Timeout: waitTime, Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}} // the note is judged by its signature
	res, err := web.Get("https://" + r.CAAddress + "/v1/checkpoint")
	if err != nil {
		t.Fatal(err)
	}
	note, err := io.ReadAll(res.Body)
	res.Body.Close()
	if err != nil || res.StatusCode != http.StatusOK {
		t.Fatalf("checkpoint: %s %v", res.Status, err)
	}
	pins := pinsOf(t, bob)
	r.End("ca", false)
	dbPath := filepath.Join(r.Dir, "ca", "ca.db")
	database, err := os.ReadFile(dbPath)
	if err != nil {
		t.Fatal(err)
	}
	const grant = `(SELECT min(idx) FROM entries WHERE type = 'grant.allowed')`
	for _, c := range []struct {
		what string
		sql  string
		note func([]byte) []byte
		want string // in what the operator reads; "" is VERIFIED
	}{
		{"nothing", ``, nil, ""},
		{"a byte of an entry", `UPDATE entries SET bytes = CAST(replace(CAST(bytes AS TEXT), 'INC-4711', 'INC-4712') AS BLOB) WHERE type = 'request.opened'`, nil, "request.opened"},
		{"a byte of an entry that nothing else speaks of", `UPDATE entries SET bytes = CAST(replace(CAST(bytes AS TEXT), '"time":"2', '"time":"3') AS BLOB) WHERE idx = 1`, nil, "root"},
		{"an entry is missing", `DELETE FROM entries WHERE idx = ` + grant, nil, "missing"},
		{"an entry is missing and the rest moved up", `CREATE TEMP TABLE gone AS SELECT ` + grant + ` AS i; DELETE FROM entries WHERE idx = (SELECT i FROM gone);
			UPDATE entries SET idx = -idx WHERE idx > (SELECT i FROM gone); UPDATE entries SET idx = -idx - 1 WHERE idx < 0`, nil, "which was not granted"},
		{"the last entry is missing", `DELETE FROM entries WHERE idx = (SELECT max(idx) FROM entries WHERE idx < $size)`, nil, "checkpoint"},
		{"a byte of the head's root", ``, func(n []byte) []byte { return change(n, bytes.Index(n, []byte("\n\n"))-3) }, "checkpoint"},
		{"a byte of the head's signature", ``, func(n []byte) []byte { return change(n, len(n)-6) }, "checkpoint"},
	} {
		t.Run("the ledger, "+c.what, func(t *testing.T) {
			dir := t.TempDir()
			copied, head := filepath.Join(dir, "ca.db"), filepath.Join(dir, "checkpoint")
			n := note
			if c.note != nil {
				n = c.note(note)
			}
			for file, b := range map[string][]byte{copied: database, head: n} {
				if err := os.WriteFile(file, b, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			tamper(t, copied, strings.ReplaceAll(c.sql, "$size", strings.Split(string(note), "\n")[1]))
			cmd := bob.Command(ctx, "breakglass-ca", "ledger", "verify", "--trust", pins, "--db", copied, "--checkpoint", head)
			out, err := cmd.CombinedOutput()
			if c.want == "" {
				if err != nil || !bytes.HasPrefix(out, []byte("VERIFIED\n")) {
					t.Errorf("%v\n%s", err, out)
				}
			} else if cmd.ProcessState.ExitCode() != 20 || !bytes.Contains(out, []byte("FAILED")) || !bytes.Contains(out, []byte(c.want)) {
				t.Errorf("exit %d, want 20 and %q\n%s", cmd.ProcessState.ExitCode(), c.want, out)
			}
		})
	}

	// A CA that goes on with a changed entry convinces no reader.
	t.Run("the CA goes on with a changed entry", func(t *testing.T) {
		tamper(t, dbPath, `UPDATE entries SET bytes = CAST(replace(CAST(bytes AS TEXT), 'INC-4711', 'INC-4712') AS BLOB) WHERE type = 'request.opened'`)
		if err := r.StartCA(ctx); err != nil {
			t.Logf("it does not even start: %v", err)
			return
		}
		found(t, "FAILED entry ")
	})
}

func tamper(t *testing.T, path, statement string) {
	t.Helper()
	if statement == "" {
		return
	}
	db, err := sql.Open("sqlite3", "file:"+path)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	db.SetMaxOpenConns(1) // a TEMP table is its connection's
	res, err := db.Exec(statement)
	if err != nil {
		t.Fatal(err)
	}
	if n, err := res.RowsAffected(); err != nil || n == 0 {
		t.Fatalf("%d rows changed: %v", n, err)
	}
}
