package jump

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"breakglass/internal/sshcert"
	"breakglass/transcript"
)

// A row is a shell script that is run against the host itself and through each door. What comes out must be the same, and what passed between the tool
// and each ssh must be what the recordings hold.
//
// The script has $F (ssh_config), $H (what to call the host), $D (an empty directory), $X (a mebibyte of random bytes), $B (more of it) and $SSH (an ssh
// that keeps a copy of what passes).
type row struct {
	is     string
	script string
	tools  []string // without which it is left out

	untapped bool     // the script runs plain ssh: there are no copies
	part     bool     // the host left early: it need not have got all that was sent
	chatty   bool     // ssh itself writes to stderr too
	idle     bool     // it opens no channel: the door that learns from the first one where it leads is never used
	mute     bool     // ssh doesn't read what it is given (-n)
	typed    string   // what the host got instead, where ssh took some of it as its escapes
	lines    []string // of each recording of the row's
}

// tap is ssh that keeps copies of what went in and came out, in a directory of its own below dir.
func tap(dir string, args []string) (int, error) {
	var mine string
	for n := 1; ; n++ {
		mine = filepath.Join(dir, strconv.Itoa(n))
		if err := os.Mkdir(mine, 0o700); err == nil {
			break
		} else if !errors.Is(err, os.ErrExist) {
			return 0, err
		}
	}
	var files [3]*os.File
	for i, name := range []string{"in", "out", "err"} {
		f, err := os.Create(filepath.Join(mine, name))
		if err != nil {
			return 0, err
		}
		defer f.Close()
		files[i] = f
	}
	cmd := exec.Command("ssh", args...)
	in, err := cmd.StdinPipe()
	if err != nil {
		return 0, err
	}
	cmd.Stdout, cmd.Stderr = io.MultiWriter(os.Stdout, files[1]), io.MultiWriter(os.Stderr, files[2])
	if err := cmd.Start(); err != nil {
		return 0, err
	}
	go func() {
		io.Copy(io.MultiWriter(files[0], in), os.Stdin)
		in.Close()
	}()
	var exit *exec.ExitError
	if err := cmd.Wait(); err != nil && !errors.As(err, &exit) {
		return 0, err
	}
	return cmd.ProcessState.ExitCode(), nil
}

// straight writes an ssh_config that leads to the host itself, past the jump, with a certificate as the jump has one.
func (w *world) straight(g *grant) (conf, target string) {
	w.t.Helper()
	c, err := sign(sshcert.NewSession(g.signer.PublicKey(), "alice", sshcert.Grant{Request: g.request, Login: g.login, Host: g.host},
		[]netip.Addr{netip.MustParseAddr("127.0.0.1")}, true, time.Now(), sshcert.SessionSlack), sshcert.Session, w.ca.sessionCA)
	check(w.t, err)
	check(w.t, os.WriteFile(g.file+".straight-cert.pub", ssh.MarshalAuthorizedKey(c), 0o600))
	host, port, err := net.SplitHostPort(w.sshd)
	check(w.t, err)
	key := loadKey(w.t, filepath.Join(w.dir, "keys"), "sshd_host").PublicKey()
	check(w.t, os.WriteFile(g.file+".known", []byte("web01 "+authorizedKey(key)+"\n"), 0o600))
	conf = g.file + ".straight.conf"
	check(w.t, os.WriteFile(conf, fmt.Appendf(nil, `Host web01
  HostName %s
  Port %s
  HostKeyAlias web01
  User %s
  IdentitiesOnly yes
  IdentityFile %s
  CertificateFile %s.straight-cert.pub
  StrictHostKeyChecking yes
  UserKnownHostsFile %s.known
  GlobalKnownHostsFile none
  BatchMode yes
  LogLevel INFO
`, host, port, g.login, g.file, g.file, g.file), 0o600))
	return conf, "web01"
}

// outcome is what a row came to, with the names of this run taken out.
type outcome struct {
	result
	dir string
}

func (w *world) runRow(t *testing.T, r row, conf, target, big string) outcome {
	t.Helper()
	dir := t.TempDir()
	work, taps := filepath.Join(dir, "work"), filepath.Join(dir, "taps")
	check(t, os.Mkdir(work, 0o700))
	check(t, os.Mkdir(taps, 0o700))
	exe, err := os.Executable()
	check(t, err)
	ssh := filepath.Join(dir, "ssh")
	check(t, os.WriteFile(ssh, fmt.Appendf(nil, "#!/bin/sh\n%s=%s exec %s %s \"$@\"\n", roleEnv, roleTap, exe, taps), 0o700))
	cmd := exec.Command("sh", "-c", r.script)
	cmd.Dir = work
	cmd.Env = append(os.Environ(), "F="+conf, "H="+target, "D="+work, "X="+filepath.Join(w.dir, "mebibyte"), "B="+big, "SSH="+ssh,
		"GIT_CONFIG_GLOBAL=/dev/null", "LC_ALL=C", "LC_GIVEN=given", "HOME="+work)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	cmd.WaitDelay = 10 * time.Second
	timer := time.AfterFunc(3*time.Minute, func() { cmd.Process.Kill() })
	defer timer.Stop()
	err = cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatalf("%v\n%s", err, errs.String())
	}
	host, port, _ := net.SplitHostPort(w.sshd)
	names := []string{work, "DIR", target, "HOST", "web01", "HOST", "jump-a", "HOST", host, "HOST", port, "PORT"}
	if h, p, err := net.SplitHostPort(w.jump); err == nil {
		names = append(names, h, "HOST", p, "PORT")
	}
	mask := strings.NewReplacer(names...)
	// On a terminal the jump says that it records, before all else: that is its one difference, and wanted.
	var kept []string
	for _, l := range strings.Split(strings.ReplaceAll(mask.Replace(errs.String()), "\r\n", "\n"), "\n") {
		if !strings.HasPrefix(l, "breakglass: ") {
			kept = append(kept, l)
		}
	}
	if len(kept) < strings.Count(errs.String(), "\n")+1 && !r.chatty {
		t.Errorf("the jump's own lines where no terminal is: %q", errs.String())
	}
	return outcome{result{mask.Replace(out.String()), strings.Join(kept, "\n"), cmd.ProcessState.ExitCode()}, taps}
}

// doorsOf are those that a row goes through: all with N of CI or more, else two, in turn.
func doorsOf(r row) []string {
	if mebibytes() >= 32*5 {
		return doors
	}
	n := len(r.is) % len(doors)
	return []string{doors[n], doors[(n+1)%len(doors)]}
}

// same runs a row straight and through each door.
func same(t *testing.T, w *world, big string, r row) {
	for _, name := range r.tools {
		tool(t, name)
	}
	g := w.grant()
	w.config(g)
	conf, target := w.straight(g)
	want := w.runRow(t, r, conf, target, big)
	if strings.Contains(want.stderr, "Permission denied (") || strings.Contains(want.stderr, "yntax error") {
		t.Fatalf("the row itself doesn't work: %+v", want.result)
	}
	known := filepath.Join(w.dir, "known_hosts")
	for _, door := range doorsOf(r) {
		t.Run(door, func(t *testing.T) {
			w := *w
			w.t = t
			g := w.grant()
			conf, target := w.through(door, g)
			before, err := os.ReadFile(known)
			check(t, err)
			t.Parallel()
			got := w.runRow(t, r, conf, target, big)
			if got.code != want.code || got.stdout != want.stdout || got.stderr != want.stderr {
				t.Errorf("through the jump: %s\nstraight:         %s", brief(got.result), brief(want.result))
			}
			if after, err := os.ReadFile(known); err != nil || !bytes.Equal(before, after) {
				t.Errorf("the client has learnt a key: %q, %v", after, err)
			}
			w.ca.mu.Lock()
			n := w.ca.opened[g.request]
			w.ca.mu.Unlock()
			if n == 0 && !(r.idle && door == "plain") {
				t.Fatal("nothing went through the jump")
			}
			var recs []*recording
			for i := range n {
				rec := w.session(g, i+1)
				if rec.end == nil {
					t.Errorf("session %d has no end", i+1)
				}
				if r.lines != nil {
					rec.has(r.lines...)
				}
				recs = append(recs, rec)
			}
			if !r.untapped {
				r.compare(t, got.dir, recs)
			}
		})
	}
}

func brief(r result) string {
	cut := func(s string) string {
		if len(s) > 600 {
			return fmt.Sprintf("%q… (%d bytes, sha256 %x)", s[:600], len(s), sha256.Sum256([]byte(s)))
		}
		return strconv.Quote(s)
	}
	return fmt.Sprintf("exit %d, stdout %s, stderr %s", r.code, cut(r.stdout), cut(r.stderr))
}

// compare holds the copies of what passed against the recordings: each recording is one copy's, both directions, by hash.
func (r row) compare(t *testing.T, taps string, recs []*recording) {
	t.Helper()
	type passed struct{ in, out, err string }
	var copies []passed
	for n := 1; ; n++ {
		var p passed
		ok := true
		for file, to := range map[string]*string{"in": &p.in, "out": &p.out, "err": &p.err} {
			b, err := os.ReadFile(filepath.Join(taps, strconv.Itoa(n), file))
			*to, ok = string(b), ok && err == nil
		}
		if !ok {
			break
		}
		if r.mute {
			p.in = ""
		}
		if r.typed != "" {
			p.in = r.typed
		}
		copies = append(copies, p)
	}
	if len(copies) != len(recs) {
		t.Fatalf("%d runs of ssh, %d recordings", len(copies), len(recs))
	}
	for i, rec := range recs {
		in, out, err := rec.data(transcript.KindInput, 0), rec.data(transcript.KindOutput, 0), rec.data(transcript.KindStderr, 0)
		at := slices.IndexFunc(copies, func(p passed) bool {
			fits := sha256.Sum256([]byte(p.out)) == sha256.Sum256([]byte(out))
			if r.part {
				fits = fits && strings.HasPrefix(p.in, in)
			} else {
				fits = fits && sha256.Sum256([]byte(p.in)) == sha256.Sum256([]byte(in))
			}
			if r.chatty {
				return fits && strings.Contains(p.err, err)
			}
			return fits && p.err == err
		})
		if at < 0 {
			t.Errorf("recording %d is of no run: %d in, %d out, %d err; the runs:", i+1, len(in), len(out), len(err))
			for _, p := range copies {
				t.Errorf("  %d in, %d out, %d err %.300q", len(p.in), len(p.out), len(p.err), p.err)
			}
			continue
		}
		copies = slices.Delete(copies, at, at+1)
	}
}
