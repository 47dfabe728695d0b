package sshconfig

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestStockSSHReadsTheBlock: what `ssh -G` makes of it, with paths that have a space and a percent sign, and over a configuration
// that says otherwise.
func TestStockSSHReadsTheBlock(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a b%c")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	// It answers as `breakglass ensure` would: a grant is alive for root@web01 alone.
	program := filepath.Join(dir, "breakglass")
	if err := os.WriteFile(program, []byte("#!/bin/sh\nfor last; do :; done\n[ \"$1\" = ensure ] && [ \"$last\" = root@web01 ]\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	text, err := Block{Program: program, Run: filepath.Join(dir, "run"), KnownHosts: filepath.Join(dir, "known_hosts"), Hosts: []string{"web*", "db*"}}.Text()
	if err != nil {
		t.Fatal(err)
	}
	own := filepath.Join(dir, "ssh_config")
	if err := os.WriteFile(own, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	line, err := Include(own)
	if err != nil {
		t.Fatal(err)
	}
	main := filepath.Join(dir, "config")
	const theirs = "Host *\n  ForwardAgent yes\n  ControlMaster auto\n  ControlPath /tmp/%C\n  IdentityFile ~/.ssh/id_x\n  StrictHostKeyChecking no\nHost web01\n  HostName 192.0.2.1\n  ProxyJump bastion\n"
	if err := os.WriteFile(main, []byte(WithInclude(theirs, line)), 0o600); err != nil {
		t.Fatal(err)
	}
	ask := func(args ...string) map[string]string {
		t.Helper()
		out, err := exec.Command("ssh", append([]string{"-F", main, "-G"}, args...)...).Output()
		if err != nil {
			t.Fatalf("%v: %v", args, err)
		}
		m := map[string]string{}
		for l := range strings.Lines(string(out)) {
			k, v, _ := strings.Cut(strings.TrimSpace(l), " ")
			if _, ok := m[k]; !ok {
				m[k] = v
			}
		}
		return m
	}
	live := ask("root@web01")
	for k, want := range map[string]string{
		"hostname": "web01", "port": "22", "proxyusefdpass": "yes", "forwardagent": "no", "controlmaster": "false", "stricthostkeychecking": "true",
		"proxycommand": "'" + strings.ReplaceAll(program, "%", "%%") + "' connect -- %n", "userknownhostsfile": filepath.Join(dir, "known_hosts"),
		"identityfile": "none", "identitiesonly": "no", "updatehostkeys": "false",
	} {
		if got := live[k]; got != want && !(k == "userknownhostsfile" && got == strings.ReplaceAll(want, "%", "%%")) && !(k == "userknownhostsfile" && got == `"`+want+`"`) {
			t.Errorf("with a grant: %s %q, want %q", k, got, want)
		}
	}
	if got := live["identityagent"]; got != filepath.Join(dir, "run", "root@web01.sock") {
		t.Errorf("agent %q", got)
	}
	if got := ask("bob@web01"); !strings.Contains(got["proxycommand"], "connect --refuse -- %n") || got["identityagent"] != "" && got["identityagent"] == live["identityagent"] {
		t.Errorf("without a grant: %q", got["proxycommand"])
	}
	if got := ask("bob@mail"); got["proxycommand"] != "" || got["forwardagent"] != "yes" || got["stricthostkeychecking"] != "false" {
		t.Errorf("another name is changed: %v", got)
	}
}

func TestPathsThatSSHCannotWriteAreRefused(t *testing.T) {
	for _, p := range []string{"/a\"b", "/a'b", "/a\nb", `/a\b`, "/a${HOME}b"} {
		if _, err := (Block{Program: p, Run: "/run", KnownHosts: "/k"}).Text(); p != "/a${HOME}b" && !errors.Is(err, ErrPath) {
			t.Errorf("program %q: %v", p, err)
		}
		if _, err := (Session{Program: "/bin/x", Socket: p, KnownHosts: "/k", Host: "h", Login: "l"}).Options(); p != "/a'b" && !errors.Is(err, ErrPath) {
			t.Errorf("socket %q: %v", p, err)
		}
	}
	for _, h := range []string{"", "web 01", "web*;id", "Web", "!web"} {
		if CheckPattern(h) == nil {
			t.Errorf("pattern %q", h)
		}
	}
}

func TestTheIncludeLineComesFirstOnceAndGoesWithoutATrace(t *testing.T) {
	line, err := Include("/home/a b/.config/breakglass/ssh_config")
	if err != nil {
		t.Fatal(err)
	}
	for _, config := range []string{"", "Host x\n  User y\n", "Host x\n  User y", "# only a comment\n\n\n"} {
		once := WithInclude(config, line)
		if !strings.HasPrefix(once, line+"\n") || WithInclude(once, line) != once {
			t.Errorf("%q becomes %q", config, once)
		}
		if got := WithoutInclude(once); got != config {
			t.Errorf("%q comes back as %q", config, got)
		}
	}
	if got := Diff("/f", "a\nb\nc\n", "a\nx\nc\n"); got != "--- /f\n-b\n+x\n" {
		t.Errorf("%q", got)
	}
}
