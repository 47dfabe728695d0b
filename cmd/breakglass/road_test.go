package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"breakglass/agent/connect"
	"breakglass/ca/api"
	"breakglass/ca/catest"
	"breakglass/internal/name"
	"breakglass/internal/softkey"
)

// bin holds the programs, built from this tree once for all tests.
var bin string

func TestMain(m *testing.M) {
	os.Exit(func() int {
		dir, err := os.MkdirTemp("", "breakglass-bin-")
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		defer os.RemoveAll(dir)
		bin = dir
		for pkg, cgo := range map[string]string{".": "0", "../breakglass-fido2": "1"} {
			cmd := exec.Command("go", "build", "-o", dir+"/", pkg)
			cmd.Env = append(os.Environ(), "CGO_ENABLED="+cgo)
			if out, err := cmd.CombinedOutput(); err != nil {
				fmt.Fprintf(os.Stderr, "building %s: %v\n%s", pkg, err, out)
				return 1
			}
		}
		return m.Run()
	}())
}

const pin = "123456"

// road is a whole CA, a jump that runs commands here, and a person with a software key behind the real helper and libfido2.
type road struct {
	*testing.T
	ca      *catest.CA
	home    string
	key     *softkey.Key
	touches atomic.Int32
	env     []string
	jumps   atomic.Int32 // connections that the jump has seen
}

func newRoad(t *testing.T) *road {
	t.Helper()
	return newRoadOf(t, catest.Config{}, softkey.Config{})
}

// newRoadOf is newRoad with another CA and another key, whose PIN is pin.
func newRoadOf(t *testing.T, of catest.Config, key softkey.Config) *road {
	t.Helper()
	dir, err := os.MkdirTemp("", "bg") // short: sockets stand in it
	if err != nil {
		t.Fatal(err)
	}
	r := &road{T: t, ca: catest.New(t, of), home: dir}
	t.Cleanup(func() {
		r.run("breakglass", "agent", "--stop")
		os.RemoveAll(dir)
	})
	key.PIN, key.Touch = pin, func(string) bool { r.touches.Add(1); return true }
	r.key, err = softkey.Open(key)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.key.Close() })
	r.jump()
	r.write("askpass", "#!/bin/sh\necho "+pin+"\n", 0o700)
	r.write("passphrase", "correct horse battery\n", 0o600)
	for _, e := range os.Environ() {
		if k, _, _ := strings.Cut(e, "="); k != "SSH_AUTH_SOCK" && !strings.HasPrefix(k, "BREAKGLASS_") {
			r.env = append(r.env, e)
		}
	}
	r.env = append(r.env, "BREAKGLASS_HOME="+dir, "BREAKGLASS_FIDO2_DEVICE="+r.key.Path(), "SSH_ASKPASS="+filepath.Join(dir, "askpass"),
		"SSH_ASKPASS_REQUIRE=force", "BREAKGLASS_PASSPHRASE_FILE="+filepath.Join(dir, "passphrase"), "PATH="+bin+":"+os.Getenv("PATH"))
	return r
}

func (r *road) write(file, text string, mode os.FileMode) string {
	r.Helper()
	p := filepath.Join(r.home, file)
	if err := os.WriteFile(p, []byte(text), mode); err != nil {
		r.Fatal(err)
	}
	return p
}

// result of a command.
type result struct {
	out, err string
	status   int
	took     time.Duration
}

func (r *road) run(program string, args ...string) result { return r.with(nil, nil, program, args...) }

// with runs a command without a terminal.
func (r *road) with(stdin io.Reader, env []string, program string, args ...string) result {
	r.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if !strings.Contains(program, "/") && program == "breakglass" {
		program = filepath.Join(bin, program)
	}
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Env = append(append([]string{}, r.env...), env...)
	cmd.Stdin = stdin
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true} // no controlling terminal, wherever the test is run
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	begin := time.Now()
	err := cmd.Run()
	res := result{out.String(), errs.String(), 0, time.Since(begin)}
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		res.status = exit.ExitCode()
	} else if err != nil {
		r.Fatalf("%s %v: %v", program, args, err)
	}
	return res
}

func (r *road) ok(program string, args ...string) result {
	r.Helper()
	res := r.run(program, args...)
	if res.status != 0 {
		r.Fatalf("%s %v: status %d\n%s%s", program, args, res.status, res.out, res.err)
	}
	return res
}

// wants runs a command that has to end with status and say each of the texts on stderr.
func (r *road) wants(status int, texts []string, program string, args ...string) {
	r.Helper()
	res := r.run(program, args...)
	if res.status != status {
		r.Errorf("%s %v: status %d, want %d\n%s%s", program, args, res.status, status, res.out, res.err)
	}
	for _, t := range texts {
		if !strings.Contains(res.err, t) {
			r.Errorf("%s %v: stderr has no %q:\n%s", program, args, t, res.err)
		}
	}
}

func (r *road) enroll() {
	r.Helper()
	r.ok("breakglass", "enroll", "--key-name", "yubi-desk", r.ca.Token("alice").String())
}

const reason = catest.Reason

// jump joins and answers as the real one would: with a host certificate for the name in the preamble, to a certificate alone.
func (r *road) jump() {
	r.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		r.Fatal(err)
	}
	r.Cleanup(func() { ln.Close() })
	key, hostKey := catest.NewKey(r.T), catest.NewKey(r.T)
	ctx := context.Background()
	if _, err := r.ca.Client(nil).Join(ctx, &api.JoinAsk{Invite: r.ca.JumpToken("jump-a").Secret, Key: catest.Line(key.PublicKey()),
		HostKey: catest.Line(hostKey.PublicKey()), Addresses: []string{ln.Addr().String()}, Source: []string{"127.0.0.1"}}); err != nil {
		r.Fatal(err)
	}
	certs, err := r.ca.Client(key).HostCerts(ctx, &api.HostCertsAsk{})
	if err != nil {
		r.Fatal(err)
	}
	signers := map[string]ssh.Signer{}
	for _, text := range certs.Certificates {
		k, _, _, _, err := ssh.ParseAuthorizedKey([]byte(text))
		if err != nil {
			r.Fatal(err)
		}
		s, err := ssh.NewCertSigner(k.(*ssh.Certificate), hostKey)
		if err != nil {
			r.Fatal(err)
		}
		for _, p := range k.(*ssh.Certificate).ValidPrincipals {
			signers[p] = s
		}
	}
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			r.jumps.Add(1)
			go serveJump(c, signers)
		}
	}()
}

func serveJump(c net.Conn, hosts map[string]ssh.Signer) {
	defer c.Close()
	head := make([]byte, 16)
	if _, err := io.ReadFull(c, head); err != nil {
		return
	}
	tlv := make([]byte, int(head[14])<<8|int(head[15]))
	if _, err := io.ReadFull(c, tlv); err != nil {
		return
	}
	host := string(tlv[3:])
	if !bytes.Equal(append(head, tlv...), connect.Preamble(name.Host(host))) || hosts[host] == nil {
		return
	}
	first := true
	cfg := &ssh.ServerConfig{PublicKeyCallback: func(m ssh.ConnMetadata, k ssh.PublicKey) (*ssh.Permissions, error) {
		cert, ok := k.(*ssh.Certificate)
		if !ok || !first {
			return nil, errors.New("the certificate is not offered first and alone")
		}
		if !strings.HasSuffix(cert.CriticalOptions["grant@breakglass"], " "+m.User()+" "+host) {
			first = false
			return nil, errors.New("another grant")
		}
		return nil, nil
	}}
	cfg.AddHostKey(hosts[host])
	_, chans, reqs, err := ssh.NewServerConn(c, cfg)
	if err != nil {
		return
	}
	go ssh.DiscardRequests(reqs)
	for n := range chans {
		ch, reqs, err := n.Accept()
		if err != nil {
			return
		}
		go serveChannel(ch, reqs)
	}
}

// serveChannel runs a command here, as sshd would without a terminal.
func serveChannel(ch ssh.Channel, reqs <-chan *ssh.Request) {
	defer ch.Close()
	for req := range reqs {
		var cmd *exec.Cmd
		var w struct{ Command string }
		switch {
		case req.Type == "exec" && ssh.Unmarshal(req.Payload, &w) == nil:
			cmd = exec.Command("/bin/sh", "-c", w.Command)
		case req.Type == "subsystem" && ssh.Unmarshal(req.Payload, &w) == nil && w.Command == "sftp":
			cmd = exec.Command("/usr/lib/openssh/sftp-server")
		default:
			req.Reply(false, nil)
			continue
		}
		req.Reply(true, nil)
		go ssh.DiscardRequests(reqs)
		cmd.Stdout, cmd.Stderr = ch, ch.Stderr()
		in, _ := cmd.StdinPipe()
		if err := cmd.Start(); err != nil {
			return
		}
		go func() { io.Copy(in, ch); in.Close() }()
		err := cmd.Wait()
		var exit *exec.ExitError
		ws := syscall.WaitStatus(0)
		if errors.As(err, &exit) {
			ws = exit.Sys().(syscall.WaitStatus)
		}
		if ws.Signaled() {
			ch.SendRequest("exit-signal", false, ssh.Marshal(struct {
				Signal string
				Core   bool
				Msg    string
				Lang   string
			}{"TERM", false, "", ""}))
			return
		}
		ch.SendRequest("exit-status", false, ssh.Marshal(struct{ Status uint32 }{uint32(ws.ExitStatus())}))
		return
	}
}

func TestEnrollTakesTwoTouchesAndPins(t *testing.T) {
	r := newRoad(t)
	res := r.ok("breakglass", "enroll", "--key-name", "yubi-desk", r.ca.Token("alice").String())
	if n := r.touches.Load(); n != 2 {
		t.Errorf("%d touches", n)
	}
	if res.out != "" || !strings.Contains(res.err, "yubi-desk is enrolled for alice") {
		t.Errorf("said %q, %q", res.out, res.err)
	}
	var p api.Pins
	if err := json.Unmarshal([]byte(r.ok("breakglass", "pins", "--json").out), &p); err != nil || p.Site.Origin != r.ca.Pins.Site.Origin || len(p.Site.Jumps) != 1 {
		t.Errorf("pins %+v, %v", p, err)
	}
	if out := r.ok("breakglass", "keys").out; !strings.Contains(out, "yubi-desk  yes         PIN") {
		t.Errorf("keys:\n%s", out)
	}
	r.wants(2, []string{"already"}, "breakglass", "enroll", "--key-name", "yubi-desk", r.ca.Token("alice").String())
	r.wants(2, []string{"alice's", "bob"}, "breakglass", "enroll", r.ca.Token("bob").String())
	r.wants(12, []string{"already_enrolled"}, "breakglass", "enroll", "--key-name", "other", r.ca.Token("alice").String())
	r.wants(2, []string{"bg1."}, "breakglass", "enroll", "hello")
	r.wants(2, []string{"breakglass-jump join"}, "breakglass", "enroll", r.ca.JumpToken("jump-a").String())
}

func TestBreakingTheGlass(t *testing.T) {
	r := newRoad(t)
	r.enroll()
	before := r.touches.Load()
	// Ask once; stdin and stdout are the remote command's alone.
	in := make([]byte, 3<<20)
	rand.Read(in)
	res := r.with(bytes.NewReader(in), nil, "breakglass", "ssh", "--reason", reason, "root@web01", "--", "cat")
	if res.status != 0 || res.out != string(in) {
		t.Fatalf("status %d, %d bytes of %d\n%s", res.status, len(res.out), len(in), res.err)
	}
	if !strings.Contains(res.err, `allowed by rule "oncall-web": 30 min as root on web01`) {
		t.Errorf("said %q", res.err)
	}
	if n := r.touches.Load() - before; n != 1 {
		t.Errorf("%d touches for one session", n)
	}
	// The grant is used again without asking, and without a terminal.
	for _, c := range []struct {
		args   []string
		status int
		out    string
	}{
		{[]string{"ssh", "root@web01", "--", "printf %s exact"}, 0, "exact"},
		{[]string{"ssh", "root@web01", "false"}, 1, ""},
		{[]string{"ssh", "root@web01", "exit", "42"}, 42, ""},
		{[]string{"ssh", "root@web01", "exit 255"}, 255, ""},
		{[]string{"ssh", "root@web01", "kill -TERM $$"}, 255, ""},
		{[]string{"ssh", "-q", "-l", "root", "web01", "echo hi"}, 0, "hi\n"},
		{[]string{"ssh", "-nTq", "-oServerAliveInterval=5", "root@web01", "cat; echo end"}, 0, "end\n"},
		{[]string{"ssh", "root@web01", "-n", "echo after"}, 0, "after\n"},
		{[]string{"ssh", "--jump", "jump-a", "root@web01", "echo via"}, 0, "via\n"},
		{[]string{"ssh", "--jump", "jump-z", "root@web01", "echo via"}, 255, ""},
		{[]string{"ssh", "-J", "elsewhere", "root@web01", "echo via"}, 255, ""},
		{[]string{"ssh", "-S", "/tmp/x", "root@web01", "echo via"}, 255, ""},
	} {
		res := r.run("breakglass", c.args...)
		if res.status != c.status || res.out != c.out {
			t.Errorf("%v: status %d, out %q, want %d, %q\n%s", c.args, res.status, res.out, c.status, c.out, res.err)
		}
	}
	if n := r.touches.Load() - before; n != 1 {
		t.Errorf("%d touches for a live grant", n)
	}
	var grants []struct {
		ID, Socket, Login, Host string
	}
	if err := json.Unmarshal([]byte(r.ok("breakglass", "grants", "--json").out), &grants); err != nil || len(grants) != 1 || grants[0].Host != "web01" {
		t.Fatalf("grants %+v, %v", grants, err)
	}
	r.ok("breakglass", "end", grants[0].ID[:3])
	r.wants(255, []string{"no terminal", "hint: breakglass request"}, "breakglass", "ssh", "root@web01", "true")
}

func TestPlainSSHUsesAGrant(t *testing.T) {
	r := newRoad(t)
	r.enroll()
	conf := filepath.Join(r.home, "ssh_config_of_alice")
	if err := os.WriteFile(conf, []byte("Host web01\n  HostName 127.0.0.1\n  Port 1\n  User root\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	install := r.ok("breakglass", "config", "install", "--file", conf, "--hosts", "web*")
	if !strings.Contains(install.err, "+Include") {
		t.Errorf("shows no change:\n%s", install.err)
	}
	again := r.ok("breakglass", "config", "install", "--file", conf)
	if !strings.Contains(again.err, "Nothing to change") {
		t.Errorf("a second time:\n%s", again.err)
	}
	ssh := func(args ...string) []string { return append([]string{"-F", conf}, args...) }
	// Without a grant, a name of ours is not reached at all, and the person reads what to type.
	r.wants(255, []string{"breakglass request root@web01"}, "ssh", ssh("root@web01", "true")...)
	if r.jumps.Load() != 0 {
		t.Error("the jump was reached without a grant")
	}
	r.ok("breakglass", "request", "--reason", reason, "root@web01")
	before := r.touches.Load()
	if res := r.with(strings.NewReader("through"), nil, "ssh", ssh("root@web01", "cat; exit 9")...); res.out != "through" || res.status != 9 {
		t.Errorf("status %d, %q\n%s", res.status, res.out, res.err)
	}
	data := make([]byte, 200_000)
	rand.Read(data)
	src, dst := filepath.Join(r.home, "a"), filepath.Join(r.home, "b")
	if err := os.WriteFile(src, data, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range [][]string{
		append([]string{"scp"}, ssh(src, "root@web01:"+dst)...),
		append([]string{"scp"}, ssh("-O", src, "root@web01:"+dst)...),
		{"rsync", "-a", "--ignore-times", "-e", "ssh -F " + conf, src, "root@web01:" + dst},
	} {
		os.Remove(dst)
		r.ok(c[0], c[1:]...)
		if got, err := os.ReadFile(dst); err != nil || !bytes.Equal(got, data) {
			t.Errorf("%s: %d bytes, %v", c[0], len(got), err)
		}
	}
	// Another login has no grant; another name is none of our business.
	r.wants(255, []string{"breakglass request bob@web01"}, "ssh", ssh("bob@web01", "true")...)
	res := r.run("ssh", ssh("-o", "ConnectTimeout=2", "root@127.0.0.1", "-p", "1", "true")...)
	if strings.Contains(res.err, "breakglass") {
		t.Errorf("another name: %s", res.err)
	}
	if n := r.touches.Load() - before; n != 0 {
		t.Errorf("%d touches by plain ssh", n)
	}
	r.ok("breakglass", "config", "install", "--remove", "--file", conf)
	if b, _ := os.ReadFile(conf); string(b) != "Host web01\n  HostName 127.0.0.1\n  Port 1\n  User root\n" {
		t.Errorf("after removal:\n%s", b)
	}
}

func TestWhatIsRefusedSaysWhyAndWhatToType(t *testing.T) {
	r := newRoad(t)
	r.wants(1, []string{"not_enrolled", "breakglass enroll TOKEN"}, "breakglass", "request", "--reason", reason, "root@web01")
	r.enroll()
	r.wants(2, []string{"no reason given", "hint: breakglass request --reason"}, "breakglass", "request", "root@web01")
	r.wants(2, []string{"at least 20"}, "breakglass", "request", "--reason", "short", "root@web01")
	r.wants(2, []string{"invalid name"}, "breakglass", "request", "--reason", reason, "root@WEB01")
	r.wants(2, []string{"U+202E"}, "breakglass", "request", "--reason", reason+" \u202e hidden", "root@web01")
	r.wants(10, []string{"error: denied", "reason:"}, "breakglass", "request", "--reason", reason, "postgres@web01")
	r.wants(10, []string{"error: denied", "reason:"}, "breakglass", "request", "--reason", reason, "root@web99")
	r.wants(11, []string{"error: approval_needed"}, "breakglass", "request", "--no-wait", "--reason", reason, "root@db01")
	r.wants(255, []string{"error: approval_needed", "goes on"}, "breakglass", "ssh", "--no-wait", "root@db01", "true")
	r.wants(10, []string{"error: denied", "reason: kind_not_allowed", "bob"}, "breakglass", "request", "--override", "root@db01")
	r.wants(1, []string{"error: not_waiting"}, "breakglass", "request", "--override", "root@web01")
	if out := r.ok("breakglass", "grants", "--json").out; !strings.Contains(out, `"state": "waiting"`) {
		t.Errorf("waiting: %s", out)
	}
	r.ok("breakglass", "end", "root@db01")
	r.wants(255, []string{"error: denied"}, "breakglass", "ssh", "--reason", reason, "postgres@web01", "true")
	r.wants(2, []string{`unknown command "shh"`, "hint: breakglass ssh"}, "breakglass", "shh")
	r.wants(2, []string{"unknown flag"}, "breakglass", "grants", "--all")
	// ensure never asks without a terminal.
	r.wants(1, []string{"hint: breakglass request root@web01"}, "breakglass", "ensure", "root@web01")
	res := r.run("breakglass", "ensure", "--live", "root@web01")
	if res.status != 1 || res.err != "" {
		t.Errorf("ensure --live: status %d, %q", res.status, res.err)
	}
	// Nothing that failed left a key behind.
	if out := r.ok("breakglass", "grants", "--json").out; strings.TrimSpace(out) != "[]" {
		t.Errorf("alive: %s", out)
	}
	r.key.SetFaults(softkey.Faults{DenyTouch: true})
	r.wants(12, []string{"error: no_touch", "hint:"}, "breakglass", "request", "--reason", reason, "root@web01")
	r.key.SetFaults(softkey.Faults{NoUP: true})
	r.wants(12, []string{"no_touch"}, "breakglass", "request", "--reason", reason, "root@web01")
	r.key.SetFaults(softkey.Faults{NoUV: true})
	r.wants(12, []string{"no_pin"}, "breakglass", "request", "--reason", reason, "root@web01")
	r.key.SetFaults(softkey.Faults{})
	r.write("askpass", "#!/bin/sh\necho 000000\n", 0o700)
	r.wants(12, []string{"wrong PIN, 7 tries left", "hint:"}, "breakglass", "request", "--reason", reason, "root@web01")
	r.ca.Stop()
	r.wants(13, []string{"ca_unreachable", "hint: breakglass status"}, "breakglass", "request", "--reason", reason, "root@web01")
	r.wants(1, nil, "breakglass", "status")
}

func TestTheStatementIsShownBeforeItIsSigned(t *testing.T) {
	r := newRoad(t)
	r.enroll()
	res := r.ok("breakglass", "request", "--show", "--reason", reason, "root@web01")
	for _, line := range []string{"breakglass request v1\n", "\nperson: alice\n", "\nlogin: root\n", "\nhost: web01\n", "\nreason: " + reason + "\n", "\nkind: new\n"} {
		if !strings.Contains(res.err, line) {
			t.Errorf("no %q in\n%s", line, res.err)
		}
	}
	if strings.Index(res.err, "breakglass request v1") > strings.Index(res.err, "Touch your key") {
		t.Errorf("shown after the touch:\n%s", res.err)
	}
}
