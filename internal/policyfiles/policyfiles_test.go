package policyfiles

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"breakglass/internal/policytext"
)

const limit = 1 << 20

func tree(t *testing.T, files ...string) string {
	t.Helper()
	dir := t.TempDir()
	for i := 0; i < len(files); i += 2 {
		p := filepath.Join(dir, files[i])
		if err := os.MkdirAll(filepath.Dir(p), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(p, []byte(files[i+1]), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestRead(t *testing.T) {
	for _, c := range []struct {
		why   string
		files []string
		path  string
		want  string
	}{
		{"a file is that file, whatever lies beside it", []string{"policy.toml", "a = 1\n", "hosts/x.toml", "[hosts.x]\n"}, "policy.toml", "a = 1\n"},
		{"a directory with policy.toml alone is that file", []string{"policy.toml", "a = 1\n", "notes.txt", "n"}, "", "a = 1\n"},
		{"a directory is its set, in the order of names, what was imported last", []string{"policy.toml", "a = 1\n", "hosts/b.toml", "[hosts.b]\n", "hosts/a.toml", "[hosts.a]\n", "imported.toml", "[hosts.i]"}, "",
			"-- policy.toml --\na = 1\n-- hosts/a.toml --\n[hosts.a]\n-- hosts/b.toml --\n[hosts.b]\n-- imported.toml --\n[hosts.i]\n"},
		{"an editor's leavings don't count", []string{"policy.toml", "a = 1\n", "hosts/a.toml", "[hosts.a]\n", "hosts/a.toml~", "x", "hosts/.a.toml.swp", "x", "hosts/#a.toml#", "x"}, "",
			"-- policy.toml --\na = 1\n-- hosts/a.toml --\n[hosts.a]\n"},
	} {
		got, err := Read(filepath.Join(tree(t, c.files...), c.path), limit)
		if err != nil || string(got) != c.want {
			t.Errorf("%s: %v %q", c.why, err, got)
		}
	}
	for _, c := range []struct {
		why   string
		files []string
		want  string
	}{
		{"no policy.toml", []string{"hosts/a.toml", ""}, "policy.toml"},
		{"rules in a file of their own", []string{"policy.toml", "", "rules.toml", "[[rule]]\n"}, "is no part of the policy"},
		{"a misspelt file of hosts", []string{"policy.toml", "", "hosts/a.tml", ""}, "is no .toml file"},
		{"a directory below hosts", []string{"policy.toml", "", "hosts/more/a.toml", ""}, "is no .toml file"},
		{"a name that no set takes", []string{"policy.toml", "", "hosts/a b.toml", ""}, "only letters"},
		{"a marker in a file", []string{"policy.toml", "", "hosts/a.toml", "x\n-- b.toml --\n"}, "would begin another file"},
	} {
		if got, err := Read(tree(t, c.files...), limit); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v %q", c.why, err, got)
		}
	}
	if _, err := Read(tree(t, "policy.toml", strings.Repeat("#", 60), "hosts/a.toml", strings.Repeat("#", 60)), 100); !errors.Is(err, ErrTooLong) {
		t.Errorf("120 bytes where 100 are the limit: %v", err)
	}
}

func TestWhatIsWrittenIsReadAgain(t *testing.T) {
	set, err := policytext.Join([]policytext.File{{Name: policytext.Main, Text: "a = 1\n"}, {Name: "hosts/a.toml", Text: "[hosts.a]\n"}, {Name: policytext.Imported, Text: "[hosts.i]\n"}})
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{"a = 1\n", set} {
		dir := t.TempDir()
		if err := Write(dir, text); err != nil {
			t.Fatal(err)
		}
		if got, err := Read(dir, limit); err != nil || string(got) != text {
			t.Errorf("%v %q", err, got)
		}
	}
	dir := tree(t, "hosts/old.toml", "[hosts.old]\n")
	if err := Write(dir, set); err == nil {
		t.Error("a policy is written beside a file of hosts that would be read as a part of it")
	}
	other, err := policytext.Join([]policytext.File{{Name: policytext.Main, Text: "a = 1\n"}, {Name: "else/a.toml", Text: "[hosts.a]\n"}})
	if err != nil {
		t.Fatal(err)
	}
	if err := Write(t.TempDir(), other); err == nil {
		t.Error("a file is written where it isn't read again")
	}
}
