package background

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"

	"breakglass/agent/home"
	"breakglass/ca/api"
	"breakglass/internal/name"
	"breakglass/internal/sshcert"
	"breakglass/internal/sshsig"
)

type fixture struct {
	*testing.T
	home home.Home
	c    *Client
	ca   ssh.Signer
	over chan error
}

// start runs a background process in this one.
func start(t *testing.T, idle time.Duration) *fixture {
	t.Helper()
	dir, err := os.MkdirTemp("", "bg") // t.TempDir is too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	h := home.Home{Config: filepath.Join(dir, "config"), Run: filepath.Join(dir, "run")}
	_, priv, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	ca, err := ssh.NewSignerFromKey(priv)
	if err != nil {
		t.Fatal(err)
	}
	f := &fixture{t, h, nil, ca, make(chan error, 1)}
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(func() { cancel(); <-f.over })
	f.c = &Client{Home: h, Start: func(home.Home) error {
		go func() {
			f.over <- Run(ctx, Config{Home: h, Log: slog.New(slog.DiscardHandler), IdleGrace: idle})
			close(f.over)
		}()
		return nil
	}}
	return f
}

func (f *fixture) key() ssh.PublicKey {
	f.Helper()
	k, err := f.c.NewKey(f.Context())
	if err != nil {
		f.Fatal(err)
	}
	return k
}

func (f *fixture) granted(k ssh.PublicKey, id name.RequestID, login name.Login, host name.Host) *api.Granted {
	f.Helper()
	now := time.Now()
	l, err := sshcert.Lint(sshcert.NewClient(k, "alice", sshcert.Grant{Request: id, Login: login, Host: host},
		[]netip.Addr{netip.MustParseAddr("127.0.0.1")}, now, now.Add(time.Hour)), sshcert.Client)
	if err != nil {
		f.Fatal(err)
	}
	cert, err := l.Sign(f.ca)
	if err != nil {
		f.Fatal(err)
	}
	return &api.Granted{ID: id, Person: "alice", Login: login, Host: host, Until: now.Add(time.Hour),
		Certificate: strings.TrimSpace(string(ssh.MarshalAuthorizedKey(cert)))}
}

func (f *fixture) install(id name.RequestID, login name.Login, host name.Host, left time.Duration) (ssh.PublicKey, *api.Granted, string) {
	f.Helper()
	k := f.key()
	g := f.granted(k, id, login, host)
	sock, err := f.c.Install(f.Context(), k, g, left)
	if err != nil {
		f.Fatal(err)
	}
	return k, g, sock
}

func TestStockSSHAddListsTheCertificateAlone(t *testing.T) {
	f := start(t, time.Minute)
	_, g, sock := f.install("k7f-2mq", "root", "web01", time.Hour)
	if want := filepath.Join(f.home.Run, "root@web01.sock"); sock != want {
		t.Errorf("socket %s, want %s", sock, want)
	}
	cmd := exec.Command("ssh-add", "-L")
	cmd.Env = append(os.Environ(), "SSH_AUTH_SOCK="+sock)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if got := strings.TrimSpace(string(out)); got != g.Certificate+" k7f-2mq root@web01" {
		t.Errorf("listed:\n%s\nwant:\n%s", got, g.Certificate)
	}
	for _, args := range [][]string{{"-D"}, {"-x"}} {
		cmd := exec.Command("ssh-add", args...)
		cmd.Env, cmd.Stdin = append(os.Environ(), "SSH_AUTH_SOCK="+sock), strings.NewReader("x\nx\n")
		if out, err := cmd.CombinedOutput(); err == nil {
			t.Errorf("ssh-add %v was obeyed: %s", args, out)
		}
	}
	for _, p := range []string{sock, f.home.Socket(controlName)} {
		if st, err := os.Stat(p); err != nil || st.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v", p, st.Mode(), err)
		}
	}
	if st, _ := os.Stat(f.home.Run); st.Mode().Perm() != 0o700 {
		t.Errorf("run directory: %v", st.Mode())
	}
}

// userauth is what ssh has its agent sign (RFC 4252 section 7).
func userauth(user, service, method, alg string, key []byte, hasSig bool) []byte {
	return ssh.Marshal(struct {
		Session               []byte
		Type                  byte
		User, Service, Method string
		HasSig                bool
		Alg                   string
		Key                   []byte
	}{[]byte("session id"), 50, user, service, method, hasSig, alg, key})
}

func TestAClientKeySignsItsOwnLoginAlone(t *testing.T) {
	f := start(t, time.Minute)
	_, g, sock := f.install("k7f-2mq", "root", "web01", time.Hour)
	cert, err := sshcert.Parse([]byte(g.Certificate))
	if err != nil {
		t.Fatal(err)
	}
	conn, err := net.Dial("unix", sock)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	a := agent.NewClient(conn)
	b, alg := cert.Marshal(), ssh.CertAlgoED25519v01
	hostbound := append(userauth("root", "ssh-connection", "publickey-hostbound-v00@openssh.com", alg, b, true), ssh.Marshal(struct{ K string }{"host key"})...)
	for _, c := range []struct {
		what string
		key  ssh.PublicKey
		data []byte
		ok   bool
	}{
		{"its own login", cert, userauth("root", "ssh-connection", "publickey", alg, b, true), true},
		{"its own login, bound to a host key", cert, hostbound, true},
		{"its own login with something behind it", cert, append(userauth("root", "ssh-connection", "publickey", alg, b, true), 0), false},
		{"its own login and host", cert, userauth("root@web01", "ssh-connection", "publickey", alg, b, true), true},
		{"its own login and another host", cert, userauth("root@web02", "ssh-connection", "publickey", alg, b, true), false},
		{"another login", cert, userauth("bob", "ssh-connection", "publickey", alg, b, true), false},
		{"another service", cert, userauth("root", "ssh-userauth", "publickey", alg, b, true), false},
		{"host-based", cert, userauth("root", "ssh-connection", "hostbased", alg, b, true), false},
		{"the bare key's login", cert, userauth("root", "ssh-connection", "publickey", ssh.KeyAlgoED25519, cert.Key.Marshal(), true), false},
		{"by the bare key", cert.Key, userauth("root", "ssh-connection", "publickey", alg, b, true), false},
		{"an SSHSIG", cert, sshsig.SignedData("call@breakglass", []byte("x")), false},
		{"nothing", cert, nil, false},
	} {
		sig, err := a.Sign(c.key, c.data)
		if (err == nil) != c.ok {
			t.Errorf("%s: %v, want ok=%v", c.what, err, c.ok)
		}
		if err == nil && cert.Key.Verify(c.data, sig) != nil {
			t.Errorf("%s: the signature doesn't verify", c.what)
		}
	}
}

// TestTheAgentForJumpsKnowsWhoIsAlive: the certificates of living grants, the longest first and no bare key, and each signs a login under any name.
func TestTheAgentForJumpsKnowsWhoIsAlive(t *testing.T) {
	f := start(t, time.Minute)
	list := func() (a agent.ExtendedAgent, got []string) {
		conn, err := net.Dial("unix", JumpSocket(f.home))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		a = agent.NewClient(conn)
		keys, err := a.List()
		if err != nil {
			t.Fatal(err)
		}
		for _, k := range keys {
			if k.Format != ssh.CertAlgoED25519v01 {
				t.Errorf("it offers a %s", k.Format)
			}
			got = append(got, k.Comment)
		}
		return a, got
	}
	f.key() // has no grant
	if _, got := list(); len(got) != 0 {
		t.Errorf("before any grant: %v", got)
	}
	k, g, _ := f.install("k7f-2mq", "root", "web01", time.Hour)
	k2, _, _ := f.install("q2c-9dd", "root", "web02", time.Hour)
	a, got := list()
	slices.Sort(got)
	if want := []string{"k7f-2mq root@web01", "q2c-9dd root@web02"}; !slices.Equal(got, want) {
		t.Errorf("%v", got)
	}
	cert, err := sshcert.Parse([]byte(g.Certificate))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		what string
		key  ssh.PublicKey
		data []byte
		ok   bool
	}{
		{"a login under the local name", cert, userauth("alice", "ssh-connection", "publickey", ssh.CertAlgoED25519v01, cert.Marshal(), true), true},
		{"by the bare key", k, userauth("alice", "ssh-connection", "publickey", ssh.KeyAlgoED25519, k.Marshal(), true), false},
		{"another service", cert, userauth("alice", "ssh-userauth", "publickey", ssh.CertAlgoED25519v01, cert.Marshal(), true), false},
		{"an SSHSIG", cert, sshsig.SignedData("call@breakglass", []byte("x")), false},
	} {
		if _, err := a.Sign(c.key, c.data); (err == nil) != c.ok {
			t.Errorf("%s: %v, want ok=%v", c.what, err, c.ok)
		}
	}
	if err := f.c.Drop(t.Context(), k2); err != nil {
		t.Fatal(err)
	}
	if _, got := list(); !slices.Equal(got, []string{"k7f-2mq root@web01"}) {
		t.Errorf("after one was given up: %v", got)
	}
}

func TestCallsAreAllThatIsSignedOverTheControlSocket(t *testing.T) {
	f := start(t, time.Minute)
	k := f.key()
	s := f.c.Signer(k)
	sig, err := sshsig.Sign(s, "call@breakglass", []byte("a call"))
	if err != nil {
		t.Fatal(err)
	}
	if err := sig.Verify(k, "call@breakglass", []byte("a call")); err != nil {
		t.Error(err)
	}
	for what, data := range map[string][]byte{
		"another namespace": sshsig.SignedData("request@breakglass", []byte("x")),
		"raw bytes":         []byte("hello"),
		"a login":           userauth("root", "ssh-connection", "publickey", ssh.KeyAlgoED25519, k.Marshal(), true),
	} {
		if _, err := s.Sign(nil, data); !errors.Is(err, ErrForbidden) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

func TestWhatIsInstalledIsChecked(t *testing.T) {
	f := start(t, time.Minute)
	k, other := f.key(), f.key()
	good := f.granted(k, "k7f-2mq", "root", "web01")
	for _, c := range []struct {
		what string
		edit func(g *api.Granted)
		left time.Duration
	}{
		{"another key's certificate", func(g *api.Granted) { g.Certificate = f.granted(other, "k7f-2mq", "root", "web01").Certificate }, time.Hour},
		{"another host than the certificate's", func(g *api.Granted) { g.Host = "web02" }, time.Hour},
		{"another login", func(g *api.Granted) { g.Login = "bob" }, time.Hour},
		{"another request", func(g *api.Granted) { g.ID = "q2c-9dd" }, time.Hour},
		{"a bare key", func(g *api.Granted) { g.Certificate = string(ssh.MarshalAuthorizedKey(k)) }, time.Hour},
		{"no time left", func(*api.Granted) {}, 0},
		{"a lifetime beyond all policy", func(*api.Granted) {}, sshcert.MaxClientLifetime + time.Second},
	} {
		g := *good
		c.edit(&g)
		if _, err := f.c.Install(t.Context(), k, &g, c.left); err == nil {
			t.Errorf("%s: installed", c.what)
		}
	}
	if _, err := f.c.Install(t.Context(), k, good, time.Hour); err != nil {
		t.Fatal(err)
	}
	if _, err := f.c.Install(t.Context(), k, good, time.Hour); !errors.Is(err, ErrForbidden) {
		t.Errorf("a second time: %v", err)
	}
}

func TestAGrantEndsAndTheProcessWithTheLast(t *testing.T) {
	f := start(t, 300*time.Millisecond)
	k, _, sock := f.install("k7f-2mq", "root", "web01", time.Second)
	k2, _, _ := f.install("q2c-9dd", "root", "web02", time.Hour)
	conn, err := net.Dial("unix", sock)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	time.Sleep(1200 * time.Millisecond)
	if _, err := os.Stat(sock); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the ended grant's socket: %v", err)
	}
	if _, err := f.c.Signer(k).Sign(nil, sshsig.SignedData("call@breakglass", nil)); !errors.Is(err, ErrNoKey) {
		t.Errorf("the ended grant's key: %v", err)
	}
	if gs, _, err := f.c.Grants(t.Context()); err != nil || len(gs) != 1 || gs[0].ID != "q2c-9dd" {
		t.Errorf("alive: %+v, %v", gs, err)
	}
	if err := f.c.Drop(t.Context(), k2); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-f.over:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(3 * time.Second):
		t.Fatal("it doesn't end")
	}
	if left, _ := filepath.Glob(filepath.Join(f.home.Run, "*.sock")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

func TestTheNewestGrantOfALoginHasTheSocket(t *testing.T) {
	f := start(t, time.Minute)
	first, _, sock := f.install("k7f-2mq", "root", "web01", time.Minute)
	_, g, sock2 := f.install("q2c-9dd", "root", "web01", time.Hour)
	if sock != sock2 {
		t.Errorf("%s, then %s", sock, sock2)
	}
	live, err := f.c.Live(t.Context(), "root", "web01", time.Second)
	if err != nil || live == nil || live.ID != g.ID {
		t.Errorf("live: %+v, %v", live, err)
	}
	if _, err := f.c.Signer(first).Sign(nil, sshsig.SignedData("call@breakglass", nil)); err != nil {
		t.Errorf("the older key reads its own request no more: %v", err)
	}
	if none, err := f.c.Live(t.Context(), "root", "web01", 2*time.Hour); none != nil || err != nil {
		t.Errorf("with more than is left: %+v, %v", none, err)
	}
}

func TestAPassIsReplacedByTheNext(t *testing.T) {
	f := start(t, time.Minute)
	until := time.Now().Add(15 * time.Minute).UTC().Truncate(time.Second)
	k1, k2 := f.key(), f.key()
	for _, k := range []ssh.PublicKey{k1, k2} {
		if err := f.c.InstallPass(t.Context(), k, "alice", until, 15*time.Minute); err != nil {
			t.Fatal(err)
		}
	}
	_, p, err := f.c.Grants(t.Context())
	if err != nil || p == nil || p.Person != "alice" || !p.Until.Equal(until) || p.Key != ssh.FingerprintSHA256(k2) {
		t.Fatalf("pass %+v, %v", p, err)
	}
	if _, err := f.c.Signer(k1).Sign(nil, sshsig.SignedData("call@breakglass", nil)); !errors.Is(err, ErrNoKey) {
		t.Errorf("the first pass's key: %v", err)
	}
}

func TestTheControlSocketRefusesWhatItDoesNotKnow(t *testing.T) {
	f := start(t, time.Minute)
	f.key()
	for _, line := range []string{"", "hello", `{"version":2,"op":"list"}`, `{"version":1,"op":"list","more":1}`, `{"version":1,"op":"export"}`} {
		c, err := net.Dial("unix", f.home.Socket(controlName))
		if err != nil {
			t.Fatal(err)
		}
		c.Write([]byte(line + "\n"))
		buf := make([]byte, 4096)
		n, _ := c.Read(buf)
		if !bytes.Contains(buf[:n], []byte(`"error"`)) {
			t.Errorf("%q: %s", line, buf[:n])
		}
		c.Close()
	}
}

func TestAnotherProcessLeavesAtOnce(t *testing.T) {
	f := start(t, time.Minute)
	f.key()
	if err := Run(t.Context(), Config{Home: f.home, Log: slog.New(slog.DiscardHandler)}); err != nil {
		t.Error(err)
	}
	if _, err := f.c.NewKey(t.Context()); err != nil {
		t.Errorf("the first one: %v", err)
	}
}
