package policytext

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
)

func hosts(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "[hosts.h%05d]\naddress = [\"10.%d.%d.%d:22\"]\nhost_keys = [\"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHdFt%05d\"]\n", i, i>>16, i>>8&255, i&255, i)
	}
	return b.String()
}

func TestSplitAndJoinAreInverse(t *testing.T) {
	for _, files := range [][]File{
		{{Name: Main, Text: "a = 1\n"}},
		{{Name: Main, Text: "a = 1\n"}, {Name: "hosts/web.toml", Text: hosts(3)}},
		{{Name: Main, Text: ""}, {Name: "h.toml", Text: "x"}, {Name: Imported, Text: hosts(1)}},
	} {
		text, err := Join(files)
		if err != nil {
			t.Fatal(err)
		}
		got, err := Split(text)
		if err != nil || len(got) != len(files) {
			t.Fatalf("%v: %v", err, got)
		}
		lines := strings.Split(text, "\n")
		for i, f := range got {
			if f.Name != files[i].Name || strings.TrimSuffix(f.Text, "\n") != strings.TrimSuffix(files[i].Text, "\n") {
				t.Errorf("%v became %v", files[i], f)
			}
			if first, _, _ := strings.Cut(f.Text, "\n"); f.Text != "" && lines[f.Line-1] != first {
				t.Errorf("%s is said to begin at line %d, where %q stands", f.Name, f.Line, lines[f.Line-1])
			}
		}
	}
}

func TestWhatIsNoSetIsRefused(t *testing.T) {
	for _, c := range []struct{ why, text string }{
		{"a set of one file", "-- policy.toml --\na = 1\n"},
		{"a name twice", "-- policy.toml --\n-- a.toml --\n-- a.toml --\n"},
		{"a path that leaves", "-- policy.toml --\n-- ../a.toml --\n"},
		{"an absolute path", "-- policy.toml --\n-- /a.toml --\n"},
		{"a name that hides", "-- policy.toml --\n-- a\u202e.toml --\n"},
		{"another kind of file", "-- policy.toml --\n-- a.sh --\n"},
		{"a file behind the imported ones", "-- policy.toml --\n-- imported.toml --\n-- z.toml --\n"},
	} {
		if _, err := Split(c.text); err == nil {
			t.Errorf("%s: taken", c.why)
		}
	}
	if _, err := Join([]File{{Name: Main, Text: "a = '''\n-- b.toml --\n'''\n"}, {Name: "c.toml"}}); err == nil {
		t.Error("a marker inside a file is taken")
	}
	if _, err := Import("a = 1\n", "[hosts.x]\n-- policy.toml --\n"); err == nil {
		t.Error("an import smuggles a file in")
	}
}

func TestImportsOneAfterAnother(t *testing.T) {
	for _, policy := range []string{"a = 1\n", "a = 1", "-- policy.toml --\na = 1\n-- h.toml --\n[hosts.x]", "-- policy.toml --\na = 1\n-- imported.toml --\n[hosts.x]"} {
		one, err := Import(policy, hosts(1))
		if err != nil {
			t.Fatal(err)
		}
		two, err := Import(one, hosts(2))
		if err != nil {
			t.Fatal(err)
		}
		both, err := Import(policy, hosts(1)+hosts(2))
		if err != nil || both != two {
			t.Errorf("%v: %q, then %q", err, both, two)
		}
		if n := strings.Count("\n"+two, "\n[hosts.h"); n != 3 {
			t.Errorf("%d hosts begin a line of %q", n, two)
		}
	}
}

func TestCutPiecesFitAnEntryAndStayWhereTheyWere(t *testing.T) {
	text := hosts(20000)
	pieces := Cut(text)
	if !Equal(pieces, text) {
		t.Fatal("the pieces are not the text")
	}
	for _, p := range pieces {
		if b, _ := json.Marshal(p); len(b) > maxPiece+2 {
			t.Errorf("a piece of %d bytes", len(b))
		}
	}
	changed := strings.Replace(text, "[hosts.h10000]", "[hosts.new]\naddress = [\"10.9.9.9:22\"]\n[hosts.h10000]", 1)
	fresh := 0
	for _, p := range Cut(changed) {
		if !slices.Contains(pieces, p) {
			fresh++
		}
	}
	if fresh > 3 {
		t.Errorf("one host more makes %d of %d pieces new", fresh, len(pieces))
	}
}

func FuzzSplit(f *testing.F) {
	f.Add("-- policy.toml --\na = 1\n-- hosts/a.toml --\n[hosts.a]\n")
	f.Add("profile = \"demo\"\n")
	f.Add("-- policy.toml --\n" + strings.Repeat("\u2028<", 30000))
	f.Fuzz(func(t *testing.T, text string) {
		pieces := Cut(text)
		if !Equal(pieces, text) {
			t.Fatal("the pieces are not the text")
		}
		for _, p := range pieces {
			if b, _ := json.Marshal(p); len(b) > maxPiece+2 {
				t.Fatalf("a piece of %d bytes", len(b))
			}
		}
		files, err := Split(text)
		if err != nil {
			return
		}
		again, err := Join(files)
		if err != nil {
			t.Fatal(err)
		}
		if again != text && again != text+"\n" {
			t.Fatalf("%.200q became %.200q", text, again)
		}
	})
}
