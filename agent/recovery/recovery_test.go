package recovery

import (
	"bytes"
	"errors"
	"flag"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"filippo.io/age"
)

var update = flag.Bool("update", false, "write golden files that are missing")

func newKey(t testing.TB, classical bool) *Key {
	t.Helper()
	k, err := New(classical)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func typed(t testing.TB, s *Sheet) *Sheet {
	t.Helper()
	back, err := ParseSheet(s.Grid())
	if err != nil {
		t.Fatal(err)
	}
	return back
}

// TestGF: the field is one, by trying all of it.
func TestGF(t *testing.T) {
	if mul(0x57, 0x83) != 0xc1 || mul(0x57, 0x13) != 0xfe { // FIPS 197 section 4.2
		t.Error("not the field of FIPS 197")
	}
	for a := range 256 {
		if a > 0 && mul(byte(a), inverse(byte(a))) != 1 {
			t.Errorf("%d has no inverse", a)
		}
		for b := range 256 {
			if mul(byte(a), byte(b)) != mul(byte(b), byte(a)) || (mul(byte(a), byte(b)) == 0) != (a == 0 || b == 0) {
				t.Fatalf("%d times %d", a, b)
			}
		}
	}
}

// TestEverySplit: each byte of a key with each random byte, in up to six shares: each pair gives it back, in either order.
func TestEverySplit(t *testing.T) {
	const n = 6
	for s := range 256 {
		for r0 := 0; r0 < 256; r0 += keyLen {
			var secret, r [keyLen]byte
			for j := range secret {
				secret[j], r[j] = byte(s), byte(r0+j)
			}
			y := splitWith(&secret, &r, n)
			for i := range n {
				for j := range n {
					if i != j && combine(byte(i+1), &y[i], byte(j+1), &y[j]) != secret {
						t.Fatalf("byte %d, random %d.., shares %d and %d", s, r0, i+1, j+1)
					}
				}
			}
		}
	}
}

// TestOneShareSaysNothing: for each share and each byte of a key, every value of the share comes of exactly one random byte.
func TestOneShareSaysNothing(t *testing.T) {
	for x := 1; x <= MaxShares; x++ {
		for s := range 256 {
			var seen [256]int
			for r := range 256 {
				seen[byte(s)^mul(byte(r), byte(x))]++
			}
			for y, n := range seen {
				if n != 1 {
					t.Fatalf("share %d of byte %d is %d for %d random bytes", x, s, y, n)
				}
			}
		}
	}
	k := newKey(t, false)
	one, err := k.Shares(3)
	if err != nil {
		t.Fatal(err)
	}
	two, err := k.Shares(3)
	if err != nil {
		t.Fatal(err)
	}
	if one[0].payload == two[0].payload {
		t.Error("two prints have the same share: its random bytes are not random")
	}
}

func TestPapersOpenTheKey(t *testing.T) {
	for _, classical := range []bool{false, true} {
		k := newKey(t, classical)
		if got, err := Open(typed(t, k.Sheet())); err != nil || got.Public() != k.Public() || got.Text() != k.Text() {
			t.Errorf("whole: %v", err)
		}
		for n := 2; n <= MaxShares; n++ {
			shares, err := k.Shares(n)
			if err != nil {
				t.Fatal(err)
			}
			for i := range shares {
				for j := range shares {
					got, err := Open(typed(t, shares[i]), typed(t, shares[j]))
					switch {
					case i == j && !errors.Is(err, ErrShares):
						t.Errorf("share %d twice: %v", i+1, err)
					case i != j && (err != nil || got.Text() != k.Text()):
						t.Errorf("2 of %d, %d and %d: %v", n, i+1, j+1, err)
					}
				}
			}
		}
		// What age sealed to it opens.
		var buf bytes.Buffer
		r, err := parseRecipient(k.Public())
		if err != nil {
			t.Fatal(err)
		}
		w, err := age.Encrypt(&buf, r)
		if err != nil {
			t.Fatal(err)
		}
		io.WriteString(w, "secret")
		w.Close()
		back, err := age.Decrypt(&buf, k.Identity())
		if err != nil {
			t.Fatal(err)
		}
		if b, _ := io.ReadAll(back); string(b) != "secret" {
			t.Error("not what was sealed")
		}
	}
}

func TestWhatOpensNoKey(t *testing.T) {
	k, other := newKey(t, false), newKey(t, false)
	shares := func(k *Key, n int) []*Sheet {
		s, err := k.Shares(n)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	one, again, wider := shares(k, 3), shares(k, 3), shares(k, 4)
	for what, sheets := range map[string][]*Sheet{
		"nothing":                       nil,
		"one share":                     {one[0]},
		"three shares":                  one,
		"two whole sheets":              {k.Sheet(), k.Sheet()},
		"a whole sheet and a share":     {k.Sheet(), one[0]},
		"a share and a whole sheet":     {one[0], k.Sheet()},
		"shares of two keys":            {one[0], shares(other, 3)[1]},
		"shares of two prints":          {one[0], again[1]},
		"of a print of three, and four": {one[0], wider[1]},
		"of a classical key":            {one[0], shares(newKey(t, true), 3)[1]},
	} {
		if _, err := Open(sheets...); !errors.Is(err, ErrShares) {
			t.Errorf("%s: %v", what, err)
		}
	}
	for _, n := range []int{-1, 0, 1, MaxShares + 1} {
		if _, err := k.Shares(n); err == nil {
			t.Errorf("%d shares were made", n)
		}
	}
}

// TestATypo: every single wrong letter is found, in its line; so are two that changed places and a line of another sheet.
func TestATypo(t *testing.T) {
	k := newKey(t, false)
	grid := k.Sheet().Grid()
	for n, line := range grid {
		for i := 3; i < len(line); i++ {
			if line[i] == ' ' {
				continue
			}
			for _, c := range letters {
				if byte(c) == line[i] {
					continue
				}
				wrong := line[:i] + string(c) + line[i+1:]
				if _, err := ParseLine(n+1, wrong); !errors.Is(err, ErrLine) || !strings.Contains(err.Error(), "line "+string(rune('1'+n))) {
					t.Fatalf("%q for %q: %v", wrong, line, err)
				}
			}
			if i+1 < len(line) && line[i+1] != ' ' && line[i+1] != line[i] {
				wrong := line[:i] + string(line[i+1]) + string(line[i]) + line[i+2:]
				if _, err := ParseLine(n+1, wrong); !errors.Is(err, ErrLine) {
					t.Fatalf("%q for %q: %v", wrong, line, err)
				}
			}
		}
		for m := 1; m <= Lines; m++ {
			if _, err := ParseLine(m, line[3:]); (err == nil) != (m == n+1) {
				t.Errorf("line %d as line %d: %v", n+1, m, err)
			}
		}
	}
	other := newKey(t, false).Sheet().Grid()
	for n := range grid {
		mixed := append([]string(nil), grid...)
		mixed[n] = other[n]
		if _, err := ParseSheet(mixed); !errors.Is(err, ErrSheet) {
			t.Errorf("line %d of another sheet: %v", n+1, err)
		}
	}
	if _, err := ParseSheet(grid[:4]); !errors.Is(err, ErrSheet) {
		t.Errorf("four lines: %v", err)
	}
	for what, line := range map[string]string{
		"small letters": strings.ToLower(grid[0]), "no spaces": strings.ReplaceAll(grid[0], " ", ""), "hyphens": strings.ReplaceAll(grid[0][3:], " ", "-"),
		"O for 0": strings.ReplaceAll(grid[0], "0", "o"), "l for 1": "1" + strings.ReplaceAll(grid[0][1:], "1", "l"), "I for 1": "1" + strings.ReplaceAll(grid[0][1:], "1", "I"),
	} {
		if _, err := ParseLine(1, line); err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
}

func TestAChallenge(t *testing.T) {
	for _, classical := range []bool{false, true} {
		k := newKey(t, classical)
		sealed, answer, err := NewChallenge(k.Public())
		if err != nil {
			t.Fatal(err)
		}
		if got, err := k.Answer(sealed); err != nil || got != answer {
			t.Errorf("%q, want %q: %v", got, answer, err)
		}
		if _, err := newKey(t, classical).Answer(sealed); !errors.Is(err, ErrChallenge) {
			t.Errorf("another key: %v", err)
		}
		// A transcript's key is no challenge: this would print it.
		r, err := parseRecipient(k.Public())
		if err != nil {
			t.Fatal(err)
		}
		var buf bytes.Buffer
		w, err := age.Encrypt(&buf, r)
		if err != nil {
			t.Fatal(err)
		}
		w.Write(make([]byte, 32))
		w.Close()
		if got, err := k.Answer(buf.Bytes()); !errors.Is(err, ErrChallenge) {
			t.Errorf("an envelope: %q, %v", got, err)
		}
	}
	if _, _, err := NewChallenge("age1nonsense"); err == nil {
		t.Error("sealed to nobody")
	}
}

// TestGolden: a sheet of version 1 is read for ever, and age's own spelling is what we write.
func TestGolden(t *testing.T) {
	path := filepath.Join("testdata", "v1", "sheets.txt")
	if _, err := os.Stat(path); *update && err != nil {
		k := newKey(t, false)
		shares, err := k.Shares(3)
		if err != nil {
			t.Fatal(err)
		}
		out := []string{k.Text()}
		for _, s := range append([]*Sheet{k.Sheet()}, shares...) {
			out = append(out, s.Grid()...)
		}
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(strings.Join(out, "\n")+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(string(b)), "\n")
	var sheets []*Sheet
	for rest := lines[1:]; len(rest) > 0; rest = rest[Lines:] {
		s, err := ParseSheet(rest[:Lines])
		if err != nil {
			t.Fatal(err)
		}
		if got := strings.Join(s.Grid(), "\n"); got != strings.Join(rest[:Lines], "\n") {
			t.Errorf("printed again:\n%s", got)
		}
		sheets = append(sheets, s)
	}
	for _, of := range [][]*Sheet{sheets[:1], sheets[1:3], {sheets[3], sheets[1]}} {
		if k, err := Open(of...); err != nil || k.Text() != lines[0] {
			t.Errorf("%v", err)
		}
	}
}

func FuzzParseSheet(f *testing.F) {
	b, err := os.ReadFile(filepath.Join("testdata", "v1", "sheets.txt"))
	if err != nil {
		f.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(string(b)), "\n")
	for rest := lines[1:]; len(rest) > 0; rest = rest[Lines:] {
		f.Add(strings.Join(rest[:Lines], "\n"))
	}
	f.Fuzz(func(t *testing.T, text string) {
		s, err := ParseSheet(strings.Split(text, "\n"))
		if err != nil {
			return
		}
		again, err := ParseSheet(s.Grid())
		if err != nil || *again != *s {
			t.Fatalf("printed and read back as another: %v", err)
		}
		Open(s) // never a panic
	})
}
