package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"filippo.io/age"

	"breakglass/agent/recovery"
	"breakglass/internal/statement"
)

// bare is breakglass on a machine that has nothing of ours: no enrolment, no CA, no key.
func bare(t *testing.T) *road {
	t.Helper()
	dir := t.TempDir()
	return &road{T: t, home: dir, env: []string{"BREAKGLASS_HOME=" + dir, "HOME=" + dir, "PATH=" + os.Getenv("PATH")}}
}

func (r *road) typing(lines []string, args ...string) result {
	r.Helper()
	return r.with(strings.NewReader(strings.Join(lines, "\n")+"\n"), nil, "breakglass", args...)
}

// gridOf finds the five lines of a printed sheet.
func gridOf(t *testing.T, sheet string) []string {
	t.Helper()
	var out []string
	for line := range strings.Lines(sheet) {
		if l := strings.TrimSpace(line); len(l) > 3 && l[1] == ' ' && l[0] == byte('1'+len(out)) {
			out = append(out, l)
		}
	}
	if len(out) != recovery.Lines {
		t.Fatalf("no grid in\n%s", sheet)
	}
	return out
}

func TestARecoveryKeyOnOnePaper(t *testing.T) {
	r := bare(t)
	pub, identity := filepath.Join(r.home, "recovery.pub"), filepath.Join(r.home, "identity")
	sheet := r.ok("breakglass", "recovery", "init", "-o", pub).out
	grid := gridOf(t, sheet)
	b, err := os.ReadFile(pub)
	if err != nil || bytes.Contains(b, []byte("SECRET")) {
		t.Fatalf("%q, %v", b, err)
	}
	recipient, err := readPublic(pub)
	if err != nil || !strings.HasPrefix(recipient, "age1pq1") || !strings.Contains(sheet, statement.RecipientFingerprint(recipient)) {
		t.Errorf("%.20s, %v", recipient, err)
	}
	for _, line := range strings.Split(sheet, "\n") {
		if len(line) > 100 {
			t.Errorf("too long for paper: %q", line)
		}
	}
	r.wants(1, nil, "breakglass", "recovery", "init", "-o", pub) // never over another

	if res := r.typing(grid, "recovery", "check", pub); res.status != 0 || !strings.Contains(res.out, "ok: ") {
		t.Errorf("%+v", res)
	}
	wrong := append([]string(nil), grid...)
	at := strings.LastIndex(wrong[2], " ") - 2 // a letter before the check
	letter := "A"
	if wrong[2][at] == 'A' {
		letter = "B"
	}
	wrong[2] = wrong[2][:at] + letter + wrong[2][at+1:]
	if res := r.typing(wrong, "recovery", "check", pub); res.status != 1 || !strings.Contains(res.err, "line 3") || !strings.Contains(res.err, "hint:") {
		t.Errorf("%+v", res)
	}
	if res := r.typing(grid[:3], "recovery", "check", pub); res.status != 1 || !strings.Contains(res.err, "line 4") {
		t.Errorf("%+v", res)
	}

	// A drill's challenge.
	challenge := filepath.Join(r.home, "challenge")
	answer := strings.TrimSpace(r.ok("breakglass", "recovery", "challenge", pub, "-o", challenge).out)
	if res := r.typing(grid, "recovery", "check", pub, "--challenge", challenge); res.status != 0 || strings.TrimSpace(res.out) != answer {
		t.Errorf("want %q: %+v", answer, res)
	}

	// Stock age opens with it: both what combine writes, and the line on the paper.
	if res := r.typing(grid, "recovery", "combine", "-o", identity); res.status != 0 || strings.Contains(res.out+res.err, "SECRET") {
		t.Fatalf("%+v", res)
	}
	r.openEnvelope(recipient, identity)
	at = strings.Index(sheet, "AGE-SECRET-KEY-PQ-1")
	if at < 0 {
		t.Fatalf("not for stock age:\n%s", sheet)
	}
	r.openEnvelope(recipient, r.write("typed", strings.Fields(sheet[at:])[0]+"\n", 0o600))
}

func TestARecoveryKeyInShares(t *testing.T) {
	r := bare(t)
	pub := filepath.Join(r.home, "recovery.pub")
	r.wants(2, []string{"no terminal", "hint: --print"}, "breakglass", "recovery", "init", "--shares", "2-of-3", "-o", pub)
	for _, bad := range []string{"3-of-5", "2-of-1", "2-of-10", "2-of-3x", "two"} {
		r.wants(2, []string{"2-of-2"}, "breakglass", "recovery", "init", "--shares", bad, "-o", pub, "--print", r.home)
	}
	r.ok("breakglass", "recovery", "init", "--shares", "2-of-3", "--classical", "-o", pub, "--print", r.home)
	var grids [][]string
	for i := range 3 {
		path := filepath.Join(r.home, "recovery-sheet-"+string(rune('1'+i))+".txt")
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if st, _ := os.Stat(path); st.Mode().Perm() != 0o600 || strings.Contains(string(b), "SECRET") || !strings.Contains(string(b), "any two open") {
			t.Errorf("%v\n%s", st.Mode(), b)
		}
		grids = append(grids, gridOf(t, string(b)))
	}
	for i := range grids {
		for j := range grids {
			res := r.typing(append(append([]string(nil), grids[i]...), grids[j]...), "recovery", "check", pub)
			if (res.status == 0) != (i != j) {
				t.Errorf("shares %d and %d: %+v", i+1, j+1, res)
			}
		}
		if res := r.typing(grids[i], "recovery", "check", pub); res.status == 0 {
			t.Errorf("share %d alone opens it", i+1)
		}
	}
	other := filepath.Join(r.home, "other.pub")
	r.ok("breakglass", "recovery", "init", "-o", other)
	if res := r.typing(grids[0], "recovery", "check", other); res.status != 1 || !strings.Contains(res.err, "another key") {
		t.Errorf("%+v", res)
	}
	identity := filepath.Join(r.home, "identity")
	if res := r.typing(append(grids[2], grids[0]...), "recovery", "combine", "-o", identity); res.status != 0 {
		t.Fatalf("%+v", res)
	}
	recipient, err := readPublic(pub)
	if err != nil {
		t.Fatal(err)
	}
	r.openEnvelope(recipient, identity)
}

// TestABundleIsReadWithThePaper, where no reader's identity is at hand.
func TestABundleIsReadWithThePaper(t *testing.T) {
	o := newOffline(t, false)
	key, err := recovery.Parse(o.Reader.String()) // to which the bundle is sealed
	if err != nil {
		t.Fatal(err)
	}
	bundle := o.file("a.bundle", o.bundle(true))
	typed := o.file("typed", []byte(strings.Join(key.Sheet().Grid(), "\n")+"\n"))
	status, out, errs := o.runWith(typed, "export", bundle, "--trust", o.pins, "--text", "--recovery")
	if status != 0 || !strings.Contains(out, " out| ") {
		t.Errorf("%d\n%s\n%s", status, out, errs)
	}
	status, out, errs = o.runWith(typed, "verify", bundle, "--trust", o.pins, "--recovery")
	if status != 0 || !strings.HasPrefix(out, "VERIFIED\n") {
		t.Errorf("%d\n%s\n%s", status, out, errs)
	}
	other, err := recovery.New(false)
	if err != nil {
		t.Fatal(err)
	}
	typed = o.file("typed", []byte(strings.Join(other.Sheet().Grid(), "\n")+"\n"))
	if status, out, errs = o.runWith(typed, "export", bundle, "--trust", o.pins, "--text", "--recovery"); status == 0 || !strings.Contains(errs, "not sealed to") {
		t.Errorf("%d\n%s\n%s", status, out, errs)
	}
	if status, _, errs = o.runWith(typed, "export", "abc-def/1", "--text", "--recovery"); status != 2 || !strings.Contains(errs, "bundle") {
		t.Errorf("%d %s", status, errs)
	}
}

// TestAReviewerRotates: the new identity reads what is new, and what was sealed to the old one as well.
func TestAReviewerRotates(t *testing.T) {
	r := newRoad(t)
	r.ok("breakglass", "enroll", r.ca.Token("bob").String())
	recipients := func() (ages []string) {
		t.Helper()
		l, err := r.ca.Recipients(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, x := range l.Recipients {
			ages = append(ages, x.Age)
		}
		return ages
	}
	exported := func(name string) string {
		p := filepath.Join(r.home, name)
		r.ok("breakglass", "reviewer", "export", "-o", p)
		return p
	}
	r.ok("breakglass", "reviewer", "init", "--passphrase")
	first := recipients()
	r.wants(1, []string{"passphrase", "hint: breakglass reviewer rotate"}, "breakglass", "reviewer", "add-key")
	r.ok("breakglass", "reviewer", "rotate") // from a passphrase to the key
	if _, err := os.Stat(filepath.Join(r.home, "config", identityFile)); err == nil {
		t.Error("the passphrase's file is still there")
	}
	second := recipients()
	r.ok("breakglass", "reviewer", "rotate")
	third := recipients()
	if len(first) != 1 || len(second) != 1 || len(third) != 1 || first[0] == second[0] || second[0] == third[0] {
		t.Errorf("%d, %d and %d recipients, the same", len(first), len(second), len(third))
	}
	id := exported("exported")
	for _, age := range []string{first[0], second[0], third[0]} {
		r.openEnvelope(age, id)
	}
	var shown struct {
		Recipient string `json:"recipient"`
	}
	if err := json.Unmarshal([]byte(r.ok("breakglass", "reviewer", "show", "--json").out), &shown); err != nil || shown.Recipient != third[0] {
		t.Errorf("%v", err)
	}
	// The CA refuses: all is as it was.
	path := filepath.Join(r.home, "config", readerFile)
	before, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	r.ca.Stop()
	if res := r.run("breakglass", "reviewer", "rotate"); res.status == 0 {
		t.Errorf("%+v", res)
	}
	r.ca.Start()
	after, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	ids, err := age.ParseIdentities(bytes.NewReader(must(os.ReadFile(exported("again")))))
	if err != nil || len(ids) < 3 {
		t.Errorf("%d identities, %v; the file changed: %v", len(ids), err, !bytes.Equal(before, after))
	}
	r.ca.Audit()
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}
