package policy_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"

	"breakglass/policy"
)

// minRows is how many sentences there are at least: fewer, and a file was not found.
const minRows = 150

// TestTables decides every row of testdata/v1/tables: a policy, and sentences that say what it answers (row_test.go has their grammar). Each code of a
// deny and each circumstance has a row.
func TestTables(t *testing.T) {
	rows := 0
	codes, added, kinds := map[policy.Code]int{}, map[policy.Added]int{}, map[policy.Kind]int{}
	for file, table := range tables(t) {
		p := table.policy
		for line, s := range table.rows {
			rows++
			r, err := parseRow(s)
			if err != nil {
				t.Errorf("%s: %s\n\t%v", file, s, err)
				continue
			}
			before := asJSON(t, r.ask)
			d := r.decide(p)
			for _, difference := range r.differs(p, d) {
				t.Errorf("%s, row %d: %s\n\t%s", file, line+1, s, difference)
			}
			if diff := cmp.Diff(before, asJSON(t, r.ask)); diff != "" {
				t.Errorf("%s: %s\n\tthe decision changed what it was asked: %s", file, s, diff)
			}
			for _, c := range r.answer.codes {
				codes[c]++
			}
			for _, a := range r.answer.added {
				added[a]++
			}
			kinds[r.req.Kind]++
			if !r.stranger && r.req.Kind != policy.KindSession {
				if text := policy.Explain(p, r.req, r.facts); !strings.Contains(text, "\n"+d.Outcome.String()) {
					t.Errorf("%s: %s\n\tthe explanation says otherwise:\n%s", file, s, text)
				}
			}
		}
	}
	t.Logf("%d rows", rows)
	if rows < minRows {
		t.Errorf("%d rows, want at least %d", rows, minRows)
	}
	for _, c := range policy.Codes() {
		if codes[c] == 0 {
			t.Errorf("no row is denied for %s", c)
		}
	}
	for _, a := range policy.AllAdded() {
		if added[a] == 0 {
			t.Errorf("no row wants an approval for %s", a)
		}
	}
	for _, k := range []policy.Kind{policy.KindNew, policy.KindExtend, policy.KindOverride, policy.KindSession} {
		if kinds[k] < 3 {
			t.Errorf("%d rows of kind %s", kinds[k], k)
		}
	}
}

func asJSON(t testing.TB, a ask) string {
	t.Helper()
	b, err := json.Marshal([]any{a.req, a.facts})
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

type table struct {
	policy *policy.Policy
	text   string
	rows   []string
}

func tables(t testing.TB) map[string]table {
	t.Helper()
	files, err := filepath.Glob("testdata/v1/tables/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	out := map[string]table{}
	for _, file := range files {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		a := txtar.Parse(b)
		if len(a.Files) != 2 || a.Files[0].Name != "policy.toml" || a.Files[1].Name != "rows" {
			t.Fatalf("%s: want policy.toml and rows", file)
		}
		p, err := policy.Load(filepath.Base(file), a.Files[0].Data)
		if err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		tab := table{policy: p, text: string(a.Files[0].Data)}
		for _, line := range strings.Split(string(a.Files[1].Data), "\n") {
			if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "#") {
				tab.rows = append(tab.rows, line)
			}
		}
		if len(tab.rows) == 0 {
			t.Fatalf("%s has no rows", file)
		}
		out[filepath.Base(file)] = tab
	}
	return out
}

// TestRowsAreReadStrictly: a slip in a row is an error, not another row.
func TestRowsAreReadStrictly(t *testing.T) {
	const good = `alice asks for root@web01 for 5 min from 203.0.113.9 (DE, DE-BE, AS64500) and 2001:db8::1 at Sat 03:00 Berlin, ticket INC-1 → allow by home for 5 min`
	if _, err := parseRow(good); err != nil {
		t.Fatal(err)
	}
	for _, change := range [][2]string{
		{"alice asks", "alice wants"}, {" for 5 min from", " for five min from"}, {"203.0.113.9", "203.0.113"}, {"(DE", "DE"}, {"DE-BE", "Berlin"}, {"AS64500", "64500"},
		{"AS64500)", "AS64500"}, {" at Sat", " at Sab"}, {"03:00", "3 o'clock"}, {"Berlin, ", "Bonn, "}, {"ticket", "tiket"}, {" → ", " -> "}, {"allow by", "allowed by"},
		{"home for 5 min", "home"}, {"allow by home for 5 min", "deny: because"}, {"allow by home for 5 min", "deny: touch_missing, key_lapsed"}, {"for 5 min", "for 5 min, for nothing at all, then"},
	} {
		i := strings.LastIndex(good, change[0])
		if i < 0 {
			t.Fatalf("%q is not there", change[0])
		}
		s := good[:i] + change[1] + good[i+len(change[0]):]
		if _, err := parseRow(s); err == nil {
			t.Errorf("read: %s", s)
		}
	}
}

// FuzzRow: whatever the text, reading it ends; what it reads is decided the same way twice.
func FuzzRow(f *testing.F) {
	all := tables(f)
	for _, tab := range all {
		for _, s := range tab.rows {
			f.Add(s)
		}
	}
	f.Fuzz(func(t *testing.T, s string) {
		r, err := parseRow(s)
		if err != nil {
			return
		}
		for _, tab := range all {
			if diff := cmp.Diff(r.decide(tab.policy), r.decide(tab.policy)); diff != "" {
				t.Fatal(diff)
			}
		}
	})
}
