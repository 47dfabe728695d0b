package main

import (
	"bytes"
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"breakglass/ca/catest"
	"breakglass/internal/loopback"
	"breakglass/jump"
)

// command runs the program's command line.
func command(ctx context.Context, args ...string) (code int, stdout, stderr string) {
	var out, errs bytes.Buffer
	code = run(ctx, args, &out, &errs)
	return code, out.String(), errs.String()
}

func TestJoinServeStatus(t *testing.T) {
	ca := catest.New(t, catest.Config{})
	free, err := loopback.Addresses(1)
	catest.Must(t, err)
	address := free[0]
	dir := filepath.Join(t.TempDir(), "jump")
	token := ca.JumpToken("jump-a").String()
	ctx := t.Context()

	code, _, errs := command(ctx, "serve", "--dir", dir)
	if code != exitFailed || !strings.Contains(errs, "hint: here: breakglass-jump join TOKEN") {
		t.Errorf("serve before join: %d, %s", code, errs)
	}
	code, _, errs = command(ctx, "join", token, "--dir", dir, "--listen", "nowhere", "--source", "127.0.0.1")
	if code != exitUsage || !strings.Contains(errs, `"nowhere" is not IP:PORT`) {
		t.Errorf("join at a bad address: %d, %s", code, errs)
	}
	code, _, errs = command(ctx, "join", ca.Token("alice").String(), "--dir", dir, "--listen", address, "--source", "127.0.0.1")
	if code != exitFailed || !strings.Contains(errs, "that token is for person alice") {
		t.Errorf("join with a person's token: %d, %s", code, errs)
	}
	code, out, errs := command(ctx, "join", token, "--dir", dir, "--listen", address, "--advertise", address, "--source", "127.0.0.1")
	if code != 0 || out != "" || !strings.Contains(errs, "jump-a joined") {
		t.Fatalf("join: %d, %s%s", code, out, errs)
	}
	for _, f := range []string{"keys/jump", "keys/host", "config.toml"} {
		if st, err := os.Stat(filepath.Join(dir, f)); err != nil || st.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v", f, st.Mode(), err)
		}
	}
	code, _, errs = command(ctx, "join", token, "--dir", dir, "--listen", address, "--source", "127.0.0.1")
	if code != exitFailed || !strings.Contains(errs, "is a jump already") {
		t.Errorf("join again: %d, %s", code, errs)
	}
	other := filepath.Join(t.TempDir(), "other")
	code, _, errs = command(ctx, "join", token, "--dir", other, "--listen", address, "--source", "127.0.0.1")
	if code != exitRefused {
		t.Errorf("a spent token: %d, %s", code, errs)
	}

	serving, stop := context.WithCancel(ctx)
	ended := make(chan string, 1)
	go func() {
		_, _, errs := command(serving, "serve", "--dir", dir)
		ended <- errs
	}()
	// It answers as web01 by a certificate of the host CA, as soon as it has one.
	hostCA, _, _, _, err := ssh.ParseAuthorizedKey([]byte(ca.Pins.Site.HostCA[0]))
	catest.Must(t, err)
	checker := ssh.CertChecker{IsHostAuthority: func(k ssh.PublicKey, _ string) bool { return bytes.Equal(k.Marshal(), hostCA.Marshal()) }}
	var seen error
	for range 200 {
		seen = errors.New("no connection")
		if c, err := net.Dial("tcp", address); err == nil {
			c.Write(jump.Preamble("web01"))
			ssh.NewClientConn(c, "web01:22", &ssh.ClientConfig{User: "root", HostKeyAlgorithms: []string{ssh.CertAlgoED25519v01},
				HostKeyCallback: func(h string, a net.Addr, k ssh.PublicKey) error { seen = checker.CheckHostKey(h, a, k); return seen }})
			c.Close()
		}
		if seen == nil {
			break
		}
		time.Sleep(25 * time.Millisecond)
	}
	if seen != nil {
		t.Errorf("as web01: %v", seen)
	}
	for range 100 {
		if code, out, errs = command(ctx, "status", "--dir", dir); code == 0 {
			break
		}
		time.Sleep(20 * time.Millisecond)
	}
	if code != 0 || !strings.Contains(out, "jump-a of ") || !strings.Contains(out, "0 running") {
		t.Errorf("status: %d, %s%s", code, out, errs)
	}
	code, _, errs = command(ctx, "serve", "--dir", dir)
	if code != exitFailed || !strings.Contains(errs, "in use by another process") {
		t.Errorf("a second serve: %d, %s", code, errs)
	}
	stop()
	select {
	case errs := <-ended:
		if strings.Contains(errs, "breakglass-jump: error") {
			t.Errorf("serve ended with %s", errs)
		}
	case <-time.After(15 * time.Second):
		t.Fatal("serve doesn't end")
	}
	if code, _, errs = command(ctx, "status", "--dir", dir); code != exitFailed || !strings.Contains(errs, "does not run") {
		t.Errorf("status afterwards: %d, %s", code, errs)
	}
}

// A config of before knows nothing of drains, and one that says none has none.
func TestDrainOfAConfig(t *testing.T) {
	const text = "name = \"a\"\nlisten = [\"127.0.0.1:1\"]\nadvertise = [\"127.0.0.1:1\"]\nsource = [\"127.0.0.1\"]\n[journal]\nsegments = 3\nsegment_mib = 16\n"
	for more, want := range map[string]time.Duration{"": defaultDrain, "[drain]\n": defaultDrain, "[drain]\nseconds = 0\n": 0, "[drain]\nseconds = 90\n": 90 * time.Second} {
		dir := t.TempDir()
		catest.Must(t, os.WriteFile(filepath.Join(dir, "config.toml"), []byte(text+more), 0o600))
		c, err := directory(dir).readConfig()
		if err != nil || time.Duration(c.Drain.Seconds)*time.Second != want {
			t.Errorf("%q: %+v, %v", more, c, err)
		}
	}
}

func TestConfigIsStrict(t *testing.T) {
	for _, c := range []struct{ is, text, want string }{
		{"an unknown key", "name = \"a\"\nnmae = \"b\"\n", "nmae"},
		{"no TOML", "name = \n", "config.toml"},
		{"every fault at once", "name = \"A\"\nlisten = [\"x\"]\n", "source is empty"},
		{"everybody as a proxy", "name = \"a\"\nlisten = [\"127.0.0.1:1\"]\nadvertise = [\"127.0.0.1:1\"]\nsource = [\"127.0.0.1\"]\nproxies = [\"0.0.0.0/0\"]\n[journal]\nsegments = 3\nsegment_mib = 16\n", "name the proxies themselves"},
		{"a journal too small to be one", "name = \"a\"\nlisten = [\"127.0.0.1:1\"]\nadvertise = [\"127.0.0.1:1\"]\nsource = [\"127.0.0.1\"]\n[journal]\nsegments = 1\nsegment_mib = 16\n", "1 segments"},
		{"a drain of days", "name = \"a\"\nlisten = [\"127.0.0.1:1\"]\nadvertise = [\"127.0.0.1:1\"]\nsource = [\"127.0.0.1\"]\n[journal]\nsegments = 3\nsegment_mib = 16\n[drain]\nseconds = 86401\n", "drain: 86401 seconds, want 0 to 86400"},
	} {
		dir := t.TempDir()
		catest.Must(t, os.WriteFile(filepath.Join(dir, "config.toml"), []byte(c.text), 0o600))
		code, _, errs := command(t.Context(), "serve", "--dir", dir)
		if code != exitFailed || !strings.Contains(errs, c.want) {
			t.Errorf("%s: %d, %s", c.is, code, errs)
		}
	}
}
