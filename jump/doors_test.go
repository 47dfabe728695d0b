package jump

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"breakglass/transcript"
)

// doors are the ways in, each for stock clients.
var doors = []string{"hop", "jump", "user", "plain"}

// doorOf is what the recording's header says of a door.
var doorOf = map[string]string{"hop": transcript.DoorHop, "jump": transcript.DoorIntercept, "user": transcript.DoorUser, "plain": transcript.DoorHop}

// through writes an ssh_config as people have it for a door, and gives it with the target that ssh, scp, sftp, rsync and git take.
func (w *world) through(door string, g *grant) (conf, target string) {
	w.t.Helper()
	hop := w.config(g)[1]
	if door == "hop" {
		return hop, string(g.host)
	}
	host, port, err := net.SplitHostPort(w.jump)
	check(w.t, err)
	text := fmt.Sprintf("Host jump-a\n  HostName %s\n  Port %s\n  HostKeyAlias jump-a\n", host, port)
	target = string(g.host)
	switch door {
	case "jump":
		text += fmt.Sprintf("  User who-ever\nHost %s\n  User %s\n  ProxyJump jump-a\n", target, g.login)
	case "user":
		target = fmt.Sprintf("%s@%s@jump-a", g.login, g.host)
	case "plain":
		text += fmt.Sprintf("  User %s\n", g.login)
		target = "jump-a"
	}
	conf = g.file + "." + door + ".conf"
	check(w.t, os.WriteFile(conf, fmt.Appendf(nil, `%sHost *
  IdentitiesOnly yes
  IdentityFile %s
  CertificateFile %s-cert.pub
  StrictHostKeyChecking yes
  UserKnownHostsFile %s
  GlobalKnownHostsFile none
  UpdateHostKeys yes
  BatchMode yes
  LogLevel INFO
`, text, g.file, g.file, filepath.Join(w.dir, "known_hosts")), 0o600))
	return conf, target
}

// sshOver runs stock ssh through a door.
func (w *world) sshOver(door string, g *grant, args ...string) result {
	w.t.Helper()
	conf, target := w.through(door, g)
	return run(w.t, nil, "ssh", append([]string{"-F", conf, target}, args...)...)
}

// eachDoor runs a test through each door, in a world of its own copy.
func eachDoor(t *testing.T, w *world, f func(t *testing.T, w *world, door string)) {
	for _, door := range doors {
		t.Run(door, func(t *testing.T) {
			w := *w
			w.t = t
			f(t, &w, door)
		})
	}
}

func TestEachDoorLeadsToTheHostAndIsRecorded(t *testing.T) {
	eachDoor(t, newWorld(t), func(t *testing.T, w *world, door string) {
		g := w.grant()
		r := w.sshOver(door, g, "echo out; echo err >&2; exit 7")
		if r.stdout != "out\n" || r.code != 7 || r.stderr != "err\n" {
			t.Fatalf("%+v", r)
		}
		rec := w.session(g, 1)
		if rec.header.Door != doorOf[door] || rec.data(transcript.KindOutput, 0) != "out\n" || rec.data(transcript.KindStderr, 0) != "err\n" {
			t.Errorf("door %q, recorded %q", rec.header.Door, rec.lines())
		}
	})
}

// stock ssh's own way to say it.
func TestProxyJumpOnTheCommandLine(t *testing.T) {
	w := newWorld(t)
	g := w.grant()
	conf, target := w.through("jump", g)
	b, err := os.ReadFile(conf)
	check(t, err)
	check(t, os.WriteFile(conf, []byte(strings.Replace(string(b), "  ProxyJump jump-a\n", "", 1)), 0o600))
	if r := run(t, nil, "ssh", "-F", conf, "-J", "jump-a", target, "echo in"); r.stdout != "in\n" || r.code != 0 {
		t.Errorf("%+v", r)
	}
	w.session(g, 1)
}
