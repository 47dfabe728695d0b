package jump

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"breakglass/internal/loopback"
	"breakglass/internal/name"
	"breakglass/internal/sshcert"
	"breakglass/internal/statement"
	"breakglass/jump/journal"
	"breakglass/ledger"
	"breakglass/transcript"
)

// The test binary is also the ProxyCommand that names the host and hands the socket over, and a jump to be killed.
const (
	roleEnv     = "BREAKGLASS_JUMP_TEST_ROLE"
	roleConnect = "connect"
	roleJump    = "jump"
	roleTap     = "tap"
)

func TestMain(m *testing.M) {
	switch os.Getenv(roleEnv) {
	case roleConnect:
		if err := connect(os.Args[1], os.Args[2]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	case roleTap:
		code, err := tap(os.Args[1], os.Args[2:])
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(code)
	case roleJump:
		if err := childJump(os.Args[1], os.Args[2], os.Args[3]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	// Tests that run beside each other wait most of their time, for warnings, silences and ends: more of them than there are processors.
	flag.Parse()
	if err := flag.Set("test.parallel", "6"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// connect is what `breakglass connect` does: preamble, then the socket over standard output (ProxyUseFdpass).
func connect(address, host string) error {
	c, err := net.Dial("tcp", address)
	if err != nil {
		return err
	}
	if host != "-" {
		if _, err := c.Write(Preamble(name.Host(host))); err != nil {
			return err
		}
	}
	f, err := c.(*net.TCPConn).File()
	if err != nil {
		return err
	}
	return syscall.Sendmsg(1, []byte{0}, syscall.UnixRights(int(f.Fd())), nil, 0)
}

func me(t testing.TB) string {
	u, err := user.Current()
	check(t, err)
	return u.Username
}

// world is a CA in memory, a stock sshd and a jump, on loopback.
type world struct {
	t      testing.TB
	dir    string
	ca     *authority
	login  string
	sshd   string // address
	jump   string
	j      *Jump
	jour   *journal.Journal
	log    *bytes.Buffer
	stop   func() error
	served chan error // what Serve ended with

	segments    int
	segmentSize int64
	fs          journal.FS
	proxies     []netip.Prefix
	drain       time.Duration
}

// newWorld starts everything; settings run before the jump does.
func newWorld(t testing.TB, settings ...func(*world)) *world {
	w := &world{t: t, dir: t.TempDir(), login: me(t)}
	w.ca = newAuthority(t, filepath.Join(w.dir, "keys"))
	w.startSSHD()
	hostKey := loadKey(t, filepath.Join(w.dir, "keys"), "sshd_host")
	w.ca.hosts["web01"] = &testHost{address: w.sshd, hostKeys: []string{authorizedKey(hostKey.PublicKey())}}
	for _, f := range settings {
		f(w)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	check(t, err)
	w.startJump(l)
	return w
}

func (w *world) startJump(l net.Listener) {
	w.jump = l.Addr().String()
	cfg := journal.Config{Dir: filepath.Join(w.dir, "journal"), Segments: w.segments, SegmentSize: w.segmentSize, Reserve: w.segmentSize / 8}
	cfg.FS = w.fs
	jour, rec, err := journal.Open(cfg)
	check(w.t, err)
	w.jour = jour
	w.log = &bytes.Buffer{}
	var out io.Writer = io.Discard
	if testing.Verbose() {
		out = os.Stderr
	}
	w.j, err = New(Config{Name: "jump-a", Site: w.ca.site(), Key: w.ca.jumpKey, HostKey: w.ca.jumpHost, CA: w.ca, Journal: jour, Recovered: rec, Proxies: w.proxies, Drain: w.drain,
		Logger: slog.New(slog.NewTextHandler(out, &slog.HandlerOptions{Level: slog.LevelDebug}))})
	check(w.t, err)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 2)
	w.served = done
	go func() { done <- w.j.Serve(ctx, l) }()
	stopped := false
	w.stop = func() error {
		if stopped {
			return nil
		}
		stopped = true
		cancel()
		err := <-done
		if cerr := jour.Close(); cerr != nil && err == nil {
			err = cerr
		}
		return err
	}
	w.t.Cleanup(func() { w.stop() })
	deadline := time.Now().Add(5 * time.Second)
	for w.j.hostCerts.count() == 0 && !w.ca.down {
		if time.Now().After(deadline) {
			w.t.Fatal("no host certificates")
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// startSSHD starts a host; lines are set before the others, so they count.
func (w *world) startSSHD(lines ...string) {
	t := w.t
	bin := "/usr/sbin/sshd"
	if _, err := os.Stat(bin); err != nil {
		t.Skip("no sshd")
	}
	if os.Getuid() == 0 {
		check(t, os.MkdirAll("/run/sshd", 0o755))
	}
	keys := filepath.Join(w.dir, "keys")
	loadKey(t, keys, "sshd_host")
	free, err := loopback.Addresses(1)
	check(t, err)
	w.sshd = free[0]
	host, port, _ := net.SplitHostPort(w.sshd)
	check(t, os.WriteFile(filepath.Join(w.dir, "principals"), []byte(sshcert.SessionPrincipal(name.Login(w.login), "web01")+"\n"), 0o644))
	check(t, os.MkdirAll(filepath.Join(w.dir, "home"), 0o700))
	conf := strings.Join(lines, "\n") + fmt.Sprintf(`
ListenAddress %s
Port %s
HostKey %s/sshd_host
PidFile none
StrictModes no
UsePAM no
PermitRootLogin prohibit-password
PasswordAuthentication no
KbdInteractiveAuthentication no
AuthorizedKeysFile none
TrustedUserCAKeys %s/session_ca.pub
AuthorizedPrincipalsFile %s/principals
LogLevel VERBOSE
MaxStartups 1000
MaxSessions 40
AcceptEnv LANG LC_* GOOD
SetEnv HOME=%s/home
Subsystem sftp internal-sftp
`, host, port, keys, keys, w.dir, w.dir)
	path := filepath.Join(w.dir, "sshd_config")
	check(t, os.WriteFile(path, []byte(conf), 0o600))
	log, err := os.Create(filepath.Join(w.dir, "sshd.log"))
	check(t, err)
	cmd := exec.Command(bin, "-D", "-e", "-f", path)
	cmd.Stderr = log
	check(t, cmd.Start())
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
		if t.Failed() && testing.Verbose() {
			b, _ := os.ReadFile(log.Name())
			t.Logf("sshd:\n%s", b)
		}
		log.Close()
	})
	for range 400 {
		c, err := net.Dial("tcp", w.sshd)
		if err == nil {
			c.Close()
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatal("sshd does not answer")
}

// grant is a client key with its certificate, on disk for stock ssh.
type grant struct {
	request name.RequestID
	login   name.Login
	host    name.Host
	file    string
	signer  ssh.Signer
	cert    *ssh.Certificate
}

var grants atomic.Int64

// grant issues one for login@web01 from loopback; change, if given, works on what is issued.
func (w *world) grant() *grant {
	return w.grantFor("web01", w.login, "127.0.0.1", time.Now(), 30*time.Minute)
}

func (w *world) grantFor(host, login, from string, now time.Time, life time.Duration) *grant {
	nth := grants.Add(1)
	g := &grant{request: name.NewRequestID(), login: name.Login(login), host: name.Host(host)}
	dir := filepath.Join(w.dir, "grants")
	check(w.t, os.MkdirAll(dir, 0o700))
	file := fmt.Sprintf("id%d", nth)
	g.file = filepath.Join(dir, file)
	g.signer = loadKey(w.t, dir, file)
	g.cert = w.ca.client(w.t, g.signer.PublicKey(), sshcert.Grant{Request: g.request, Login: g.login, Host: g.host}, from, now, life)
	check(w.t, os.WriteFile(g.file+"-cert.pub", ssh.MarshalAuthorizedKey(g.cert), 0o600))
	return g
}

// config writes an ssh_config as people have it and gives the arguments to use it.
func (w *world) config(g *grant) []string {
	known := filepath.Join(w.dir, "known_hosts")
	check(w.t, os.WriteFile(known, []byte("@cert-authority web*,db*,jump-a "+authorizedKey(w.ca.hostCA.PublicKey())+"\n"), 0o600))
	exe, err := os.Executable()
	check(w.t, err)
	path := g.file + ".conf"
	check(w.t, os.WriteFile(path, fmt.Appendf(nil, `Host *
  User %s
  ProxyCommand env %s=%s %s %s %%h
  ProxyUseFdpass yes
  IdentitiesOnly yes
  IdentityFile %s
  CertificateFile %s-cert.pub
  StrictHostKeyChecking yes
  UserKnownHostsFile %s
  GlobalKnownHostsFile none
  UpdateHostKeys yes
  BatchMode yes
  LogLevel INFO
`, g.login, roleEnv, roleConnect, exe, w.jump, g.file, g.file, known), 0o600))
	return []string{"-F", path}
}

// result is how a command ended.
type result struct {
	stdout, stderr string
	code           int
}

func run(t testing.TB, stdin io.Reader, program string, args ...string) result {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Stdin = stdin
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	cmd.WaitDelay = 5 * time.Second
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatalf("%s: %v\n%s", program, err, errs.String())
	}
	return result{out.String(), errs.String(), cmd.ProcessState.ExitCode()}
}

// ssh runs stock ssh to web01.
func (w *world) ssh(g *grant, stdin io.Reader, args ...string) result {
	w.t.Helper()
	return run(w.t, stdin, "ssh", append(append(w.config(g), string(g.host)), args...)...)
}

// session waits until a session's recording is stored, and opens it.
func (w *world) session(g *grant, n int) *recording {
	w.t.Helper()
	id := g.request.Session(n)
	deadline := time.Now().Add(20 * time.Second)
	for {
		w.ca.mu.Lock()
		_, ok := w.ca.finished[id]
		stream, env := w.ca.stored[id], w.ca.envelopes[id]
		w.ca.mu.Unlock()
		if ok {
			return openRecording(w.t, stream, env, w.ca)
		}
		if time.Now().After(deadline) {
			w.t.Fatalf("session %s is not stored", id)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// recording is a transcript, opened by its reader.
type recording struct {
	t      testing.TB
	header transcript.Header
	events []transcript.Event
	end    *transcript.End
}

func openRecording(t testing.TB, stream, env []byte, ca *authority) *recording {
	t.Helper()
	r, err := transcript.NewReader(bytes.NewReader(stream))
	check(t, err)
	key, err := transcript.OpenEnvelope(r.Header(), env, ca.reader)
	check(t, err)
	check(t, r.Unlock(key))
	rec := &recording{t: t, header: r.Header()}
	for {
		f, err := r.Next()
		if err == io.EOF {
			return rec
		}
		check(t, err)
		for _, e := range f.Events {
			e.Data = bytes.Clone(e.Data)
			rec.events = append(rec.events, e)
		}
		if f.End != nil {
			rec.end = f.End
		}
	}
}

// data joins one kind of a channel; channel 0 is all.
func (r *recording) data(k transcript.Kind, ch uint32) string {
	var b strings.Builder
	for _, e := range r.events {
		if e.Kind == k && (ch == 0 || e.Chan == ch) {
			b.Write(e.Data)
		}
	}
	return b.String()
}

// lines are the other events as sentences: "1 person asks exec (ls)".
func (r *recording) lines() []string {
	var out []string
	for _, e := range r.events {
		switch e.Kind {
		case transcript.KindOpen:
			o, err := transcript.ParseOpening(e.Data)
			check(r.t, err)
			out = append(out, strings.TrimSpace(fmt.Sprintf("%d open %s %s %s %s", e.Chan, o.Step, o.From, o.Type, o.Message)))
		case transcript.KindRequest, transcript.KindGlobal:
			q, err := transcript.ParseRequest(e.Data)
			check(r.t, err)
			out = append(out, strings.TrimSpace(fmt.Sprintf("%d %s %s %s %q %s", e.Chan, q.Step, q.From, q.Type, q.Payload, q.Message)))
		case transcript.KindEOF, transcript.KindClose:
			s, err := transcript.ParseSide(e.Data)
			check(r.t, err)
			out = append(out, fmt.Sprintf("%d %c %s", e.Chan, e.Kind, s))
		case transcript.KindAct:
			a, err := transcript.ParseAction(e.Data)
			check(r.t, err)
			out = append(out, fmt.Sprintf("%d act %s %s", e.Chan, a.Code, a.Text))
		case transcript.KindMark:
			out = append(out, fmt.Sprintf("%d mark %s", e.Chan, e.Data))
		}
	}
	return out
}

func (r *recording) has(parts ...string) {
	r.t.Helper()
	for _, l := range r.lines() {
		ok := true
		for _, p := range parts {
			ok = ok && strings.Contains(l, p)
		}
		if ok {
			return
		}
	}
	r.t.Errorf("the recording has no line with %q:\n%s", parts, strings.Join(r.lines(), "\n"))
}

// ended gives the fact that told a session's end.
func (w *world) ended(g *grant, n int) *ledger.SessionEnded {
	w.t.Helper()
	f := w.fact("session.ended", g.request.Session(n))
	var e ledger.SessionEnded
	check(w.t, json.Unmarshal([]byte(f.Body), &e))
	return &e
}

func (w *world) fact(typ string, id name.SessionID) statement.Fact {
	w.t.Helper()
	deadline := time.Now().Add(10 * time.Second)
	for time.Now().Before(deadline) {
		w.ca.mu.Lock()
		for _, f := range w.ca.facts {
			if f.Type == typ && f.Session == id {
				w.ca.mu.Unlock()
				return f
			}
		}
		w.ca.mu.Unlock()
		time.Sleep(10 * time.Millisecond)
	}
	w.t.Fatalf("no fact %s about %s", typ, id)
	return statement.Fact{}
}

// strangers are the counted reasons so far.
func (w *world) strangers() map[string]int64 {
	w.j.strangers.mu.Lock()
	defer w.j.strangers.mu.Unlock()
	out := map[string]int64{}
	for k, n := range w.j.strangers.counts {
		out[k.reason] += n
	}
	return out
}
