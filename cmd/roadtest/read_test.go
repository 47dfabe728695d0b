package roadtest

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"breakglass/internal/road"
)

// A reviewer finds a text in all recordings, and takes the files out that were carried.
func TestSearchAndFiles(t *testing.T) {
	r, alice, bob := start(t, road.Config{})
	ctx := t.Context()
	target := r.Login + "@" + road.Host
	if _, err := alice.Run(ctx, "breakglass", "request", "--reason", reason, target); err != nil {
		t.Fatal(err)
	}
	conf := filepath.Join(alice.Home, "plain_ssh_config")
	if _, err := alice.Run(ctx, "breakglass", "config", "install", "--file", conf); err != nil {
		t.Fatal(err)
	}
	work := t.TempDir()
	body := []byte(strings.Repeat("not for everybody\n", 5000))
	up := filepath.Join(work, "secret.txt")
	if err := os.WriteFile(up, body, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range [][]string{
		{"ssh", "-F", conf, target, `printf 'one \033[31mred\033[0m needle\nother line\n'`},
		{"ssh", "-F", conf, target, "seq 20000; echo done with the needle"},
		{"scp", "-F", conf, up, target + ":" + filepath.Join(work, "there.txt")},
	} {
		if _, err := alice.Run(ctx, c[0], c[1:]...); err != nil {
			t.Fatal(err)
		}
	}
	id, err := newest(ctx, bob)
	if err != nil {
		t.Fatal(err)
	}
	before := entriesOf(t, r, "transcript.read")
	out, err := bob.Run(ctx, "breakglass", "search", "--json", "--host", road.Host, "--person", "alice", "--since", "1h", "red needle")
	if err != nil {
		t.Fatal(err)
	}
	var found struct {
		Matches []struct {
			Session, Source, Text string
		}
		Recordings, Searched int
	}
	if err := json.Unmarshal([]byte(out), &found); err != nil {
		t.Fatal(err)
	}
	if len(found.Matches) != 1 || found.Matches[0].Text != "one red needle" || found.Matches[0].Source != "out" || found.Recordings < 3 || found.Searched != found.Recordings {
		t.Errorf("%s", out)
	}
	if n := entriesOf(t, r, "transcript.read") - before; n != found.Searched {
		t.Errorf("%d recordings were searched, %d entries say so", found.Searched, n)
	}
	// Commands are found, nobody else's are looked through, and what isn't there isn't found.
	for _, c := range []struct {
		args []string
		want int
	}{{[]string{"-i", "DONE WITH THE"}, 2}, {[]string{"--regexp", `^1999[0-9]$`}, 10}, {[]string{"--output", "printf"}, 0}, {[]string{"--person", "carol", "needle"}, 0}, {[]string{"nowhere at all"}, 0}} {
		out, err := bob.Run(ctx, "breakglass", append([]string{"search", "--json"}, c.args...)...)
		if err != nil {
			t.Fatal(err)
		}
		found.Matches = nil
		if err := json.Unmarshal([]byte(out), &found); err != nil || len(found.Matches) != c.want {
			t.Errorf("%q: %d lines, want %d, %v", c.args, len(found.Matches), c.want, err)
		}
	}
	if out, err := alice.Run(ctx, "breakglass", "search", "needle"); err == nil {
		t.Errorf("alice, who is no reader, searches:\n%s", out)
	}

	// The file that went up, with its hash, and out of the recording again.
	dir := filepath.Join(work, "out")
	if out, err = bob.Run(ctx, "breakglass", "files", id, "--extract", dir, "--json"); err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(body)
	if !strings.Contains(out, hex.EncodeToString(sum[:])) || !strings.Contains(out, "there.txt") {
		t.Errorf("%s", out)
	}
	if got, err := os.ReadFile(filepath.Join(dir, "1-there.txt")); err != nil || string(got) != string(body) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
	if _, err := bob.Run(ctx, "breakglass", "files", id, "--extract", dir); err == nil {
		t.Error("extracted over what was there")
	}
	if out, err = bob.Run(ctx, "breakglass", "files", id); err != nil || !strings.Contains(out, "to-host") {
		t.Errorf("%v\n%s", err, out)
	}
}

// entriesOf counts the ledger's entries of a type.
func entriesOf(t *testing.T, r *road.Road, typ string) int {
	t.Helper()
	n := 0
	for _, e := range entries(t, r) {
		if string(e.Type()) == typ {
			n++
		}
	}
	return n
}
