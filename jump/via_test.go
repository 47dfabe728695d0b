package jump

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"breakglass/internal/loopback"
	"breakglass/internal/name"
	"breakglass/internal/sshcert"
	"breakglass/ledger"
	"breakglass/transcript"
)

// bastion starts a stock sshd set up as contrib/sshd/README.md says, which leads to web01 and nowhere else.
func (w *world) bastion() *ledger.SessionVia {
	t := w.t
	free, err := loopback.Addresses(1)
	check(t, err)
	host, port, _ := net.SplitHostPort(free[0])
	keys := filepath.Join(w.dir, "keys")
	key := loadKey(t, keys, "bastion_host")
	check(t, os.WriteFile(filepath.Join(w.dir, "bastion_principals"), []byte(sshcert.ViaPrincipal(name.Login(w.login), "bastion1")+"\n"), 0o644))
	conf := filepath.Join(w.dir, "bastion_config")
	check(t, os.WriteFile(conf, fmt.Appendf(nil, `ListenAddress %s
Port %s
HostKey %s/bastion_host
PidFile none
StrictModes no
UsePAM no
PermitRootLogin prohibit-password
PasswordAuthentication no
KbdInteractiveAuthentication no
AuthorizedKeysFile none
TrustedUserCAKeys %s/session_ca.pub
AuthorizedPrincipalsFile %s/bastion_principals
AllowTcpForwarding local
PermitOpen %s
X11Forwarding no
AllowAgentForwarding no
PermitTTY no
MaxStartups 1000
LogLevel VERBOSE
`, host, port, keys, keys, w.dir, w.sshd), 0o600))
	log, err := os.Create(filepath.Join(w.dir, "bastion.log"))
	check(t, err)
	cmd := exec.Command("/usr/sbin/sshd", "-D", "-e", "-f", conf)
	cmd.Stderr = log
	check(t, cmd.Start())
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait(); log.Close() })
	for range 400 {
		if c, err := net.Dial("tcp", free[0]); err == nil {
			c.Close()
			return &ledger.SessionVia{Name: "bastion1", Kind: ledger.ViaSSH, Addresses: free, Login: name.Login(w.login), HostKeys: []string{authorizedKey(key.PublicKey())}}
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatal("the bastion does not answer")
	return nil
}

// proxy listens and has each connection answered by f.
func proxy(t testing.TB, f func(net.Conn)) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	check(t, err)
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				f(c)
			}()
		}
	}()
	return l.Addr().String()
}

// join passes bytes both ways until either end is over.
func join(a io.ReadWriter, to string) {
	b, err := net.Dial("tcp", to)
	if err != nil {
		return
	}
	defer b.Close()
	done := make(chan struct{}, 2)
	go func() { io.Copy(a, b); done <- struct{}{} }()
	go func() { io.Copy(b, a); done <- struct{}{} }()
	<-done
}

// socksProxy is an honest one; names it looks up in names.
func socksProxy(names map[string]string) func(net.Conn) {
	return func(c net.Conn) {
		b := make([]byte, 512)
		if _, err := io.ReadFull(c, b[:3]); err != nil || string(b[:3]) != "\x05\x01\x00" {
			return
		}
		c.Write([]byte{5, 0})
		if _, err := io.ReadFull(c, b[:4]); err != nil || b[1] != 1 {
			return
		}
		var host string
		switch b[3] {
		case 1:
			io.ReadFull(c, b[:4])
			host = netip.AddrFrom4([4]byte(b[:4])).String()
		case 4:
			io.ReadFull(c, b[:16])
			host = netip.AddrFrom16([16]byte(b[:16])).String()
		case 3:
			io.ReadFull(c, b[:1])
			n := int(b[0])
			io.ReadFull(c, b[:n])
			host = names[string(b[:n])]
		}
		io.ReadFull(c, b[:2])
		if host == "" {
			c.Write([]byte{5, 4, 0, 1, 0, 0, 0, 0, 0, 0})
			return
		}
		c.Write(append([]byte{5, 0, 0, 3, 4}, "here\x00\x00"...)) // its own address as a name: longer than the usual
		join(c, net.JoinHostPort(host, fmt.Sprint(int(b[0])<<8|int(b[1]))))
	}
}

func connectProxy(c net.Conn) {
	r := bufio.NewReader(c)
	q, err := http.ReadRequest(r)
	if err != nil || q.Method != "CONNECT" || q.Host != q.URL.Host {
		fmt.Fprint(c, "HTTP/1.1 400 Bad Request\r\n\r\n")
		return
	}
	fmt.Fprint(c, "HTTP/1.0 200 Connection established\r\nProxy-Agent: test\r\nContent-Length: 5\r\n\r\n")
	join(struct {
		io.Reader
		io.Writer
	}{r, c}, q.URL.Host)
}

// TestViaCarriesASession: recorded, byte for byte, through each kind, and with a name that only the via knows.
func TestViaCarriesASession(t *testing.T) {
	for _, c := range []struct {
		name string
		set  func(w *world, h *testHost)
	}{
		{"bastion", func(w *world, h *testHost) { h.via = w.bastion() }},
		{"bastion, the second address", func(w *world, h *testHost) {
			h.via = w.bastion()
			h.via.Addresses = append([]string{"127.0.0.1:1"}, h.via.Addresses...)
		}},
		{"bastion, the host's second address", func(w *world, h *testHost) {
			h.via = w.bastion()
			h.address, h.more = "127.0.0.1:1", []string{w.sshd} // the bastion forbids the first
		}},
		{"socks5", func(w *world, h *testHost) {
			h.via = &ledger.SessionVia{Name: "proxy1", Kind: ledger.ViaSOCKS, Addresses: []string{proxy(w.t, socksProxy(nil))}}
		}},
		{"socks5, by name", func(w *world, h *testHost) {
			host, port, _ := net.SplitHostPort(w.sshd)
			h.via = &ledger.SessionVia{Name: "proxy1", Kind: ledger.ViaSOCKS, Addresses: []string{proxy(w.t, socksProxy(map[string]string{"web01.far.invalid": host}))}}
			h.address = "web01.far.invalid:" + port
		}},
		{"http", func(w *world, h *testHost) {
			h.via = &ledger.SessionVia{Name: "proxy2", Kind: ledger.ViaHTTP, Addresses: []string{proxy(w.t, connectProxy)}}
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t, func(w *world) { c.set(w, w.ca.hosts["web01"]) })
			g := w.grant()
			r := w.ssh(g, strings.NewReader("typed\n"), "cat; head -c 300000 /dev/zero | tr '\\0' x; exit 7")
			want := "typed\n" + strings.Repeat("x", 300000)
			if r.code != 7 || r.stdout != want {
				t.Fatalf("exit %d, %d bytes\n%s", r.code, len(r.stdout), r.stderr)
			}
			rec := w.session(g, 1)
			if rec.data(transcript.KindOutput, 0) != want || rec.data(transcript.KindInput, 0) != "typed\n" {
				t.Error("the recording holds something else")
			}
			rec.has("act host", "logged in at", "through via "+string(w.ca.hosts["web01"].via.Name))
		})
	}
}

// TestViaBastionRunsNothing: what the jump has at the bastion opens the way and no more, also where the bastion's configuration doesn't say so.
func TestViaBastionRunsNothing(t *testing.T) {
	w := newWorld(t)
	v := w.bastion()
	key := loadKey(t, w.dir, "thief")
	c, err := sign(sshcert.NewVia(key.PublicKey(), "alice", name.NewRequestID(), v.Login, v.Name, parseAddrs("127.0.0.1"), time.Now()), sshcert.Via, w.ca.sessionCA)
	check(t, err)
	signer, err := sessionSigner(c, key)
	check(t, err)
	hostKey, err := parseKey(v.HostKeys[0])
	check(t, err)
	vv := &via{name: v.Name, kind: v.Kind, addresses: v.Addresses, login: v.Login, cert: c, signer: signer}
	vv.hostKeys = append(vv.hostKeys, hostKey)
	nc, err := net.Dial("tcp", v.Addresses[0])
	check(t, err)
	client, err := vv.logIn(nc, v.Addresses[0])
	check(t, err)
	defer client.Close()
	s, err := client.NewSession()
	check(t, err)
	file := filepath.Join(w.dir, "ran")
	if out, err := s.CombinedOutput("touch " + file); err == nil || len(out) > 0 {
		t.Errorf("the bastion ran it: %q", out)
	}
	if _, err := os.Stat(file); err == nil {
		t.Error("the bastion ran it")
	}
	if _, err := client.Dial("tcp", w.jump); err == nil {
		t.Error("the bastion leads elsewhere")
	}
	// And at the host it opens nothing.
	if nc, err = net.Dial("tcp", w.sshd); err != nil {
		t.Fatal(err)
	}
	vv.hostKeys[0], err = parseKey(w.ca.hosts["web01"].hostKeys[0])
	check(t, err)
	if c, err := vv.logIn(nc, w.sshd); err == nil {
		c.Close()
		t.Error("a via certificate opens a host")
	}
}

// TestViaWrongKey: an impostor of a bastion stops everything, loudly, though another address would do, and is sent nothing.
func TestViaWrongKey(t *testing.T) {
	w := newWorld(t, func(w *world) {
		h := w.ca.hosts["web01"]
		h.via = w.bastion()
		good := h.via.Addresses[0]
		h.via.Addresses = []string{w.sshd, good} // web01's sshd, whose key is not the bastion's
	})
	g := w.grant()
	r := w.ssh(g, nil, "echo hello")
	if r.code != 255 || !strings.Contains(r.stderr, "via bastion1, which leads to web01, IS NOT WHO IT SHOULD BE") || strings.Contains(r.stdout, "hello") {
		t.Fatalf("exit %d\n%s%s", r.code, r.stdout, r.stderr)
	}
	var f ledger.HostKeyMismatch
	check(t, json.Unmarshal([]byte(w.fact("host.key_mismatch", g.request.Session(1)).Body), &f))
	if f.Via != "bastion1" || f.Address != w.sshd || len(f.Wanted) != 1 {
		t.Errorf("told: %+v", f)
	}
	if e := w.ended(g, 1); e.Reason != endWrongHost {
		t.Errorf("ended: %+v", e)
	}
	if b, _ := os.ReadFile(filepath.Join(w.dir, "bastion.log")); strings.Contains(string(b), "Accepted") {
		t.Error("the second address was tried")
	}
}

// TestViaWrongHostBehind: a via that leads to another machine than the host is found out by the host's key.
func TestViaWrongHostBehind(t *testing.T) {
	w := newWorld(t, func(w *world) {
		h := w.ca.hosts["web01"]
		other := w.bastion().Addresses[0]
		h.via = &ledger.SessionVia{Name: "proxy1", Kind: ledger.ViaHTTP, Addresses: []string{proxy(w.t, func(c net.Conn) {
			http.ReadRequest(bufio.NewReader(c))
			fmt.Fprint(c, "HTTP/1.1 200 OK\r\n\r\n")
			join(c, other)
		})}}
	})
	r := w.ssh(w.grant(), nil, "echo hello")
	if r.code != 255 || !strings.Contains(r.stderr, "web01 IS NOT WHO IT SHOULD BE") {
		t.Fatalf("exit %d\n%s", r.code, r.stderr)
	}
}

// TestViaFails: each step's failure names the via, its address and what it did.
func TestViaFails(t *testing.T) {
	for _, c := range []struct {
		name, kind string
		answer     func(net.Conn)
		says       string
	}{
		{"socks5 wants a password", ledger.ViaSOCKS, func(c net.Conn) { c.Read(make([]byte, 9)); c.Write([]byte{5, 0xff}) }, "SOCKS5: the proxy answers against its protocol: it wants a password"},
		{"socks5 is another version", ledger.ViaSOCKS, func(c net.Conn) { c.Read(make([]byte, 9)); c.Write([]byte{4, 0}) }, "version 4"},
		{"socks5 is SSH", ledger.ViaSOCKS, func(c net.Conn) { fmt.Fprint(c, "SSH-2.0-x\r\n"); c.Read(make([]byte, 9)) }, "version 83"},
		{"socks5 hangs up", ledger.ViaSOCKS, func(c net.Conn) { c.Read(make([]byte, 9)); c.Write([]byte{5, 0}); c.Read(make([]byte, 99)) }, "the proxy opens no way: EOF"},
		{"socks5 knows no such host", ledger.ViaSOCKS, func(c net.Conn) {
			c.Read(make([]byte, 9))
			c.Write([]byte{5, 0})
			c.Read(make([]byte, 99))
			c.Write([]byte{5, 4, 0, 1, 0, 0, 0, 0, 0, 0})
		}, "host unreachable"},
		{"http forbids", ledger.ViaHTTP, func(c net.Conn) {
			c.Read(make([]byte, 999))
			fmt.Fprint(c, "HTTP/1.1 403 \x1b[2JForbidden\r\n\r\n")
		}, `CONNECT: the proxy opens no way: "HTTP/1.1 403 \x1b[2JForbidden"`},
		{"http says something else", ledger.ViaHTTP, func(c net.Conn) { c.Read(make([]byte, 999)); fmt.Fprint(c, "220 smtp ready\r\n") }, `"220 smtp ready" is no status`},
		{"http never ends its header", ledger.ViaHTTP, func(c net.Conn) {
			c.Read(make([]byte, 999))
			fmt.Fprint(c, "HTTP/1.1 200 OK\r\n")
			for {
				if _, err := fmt.Fprint(c, "X: y\r\n"); err != nil {
					return
				}
			}
		}, "longer than 8192 bytes"},
		{"http never ends its first line", ledger.ViaHTTP, func(c net.Conn) {
			for {
				if _, err := c.Write(make([]byte, 1<<10)); err != nil {
					return
				}
			}
		}, "longer than 8192 bytes"},
		{"a bastion that is none", ledger.ViaSSH, func(c net.Conn) { fmt.Fprint(c, "HTTP/1.1 400 Bad Request\r\n\r\n") }, "logging in as " + me(t)},
	} {
		t.Run(c.name, func(t *testing.T) {
			at := ""
			w := newWorld(t, func(w *world) {
				at = proxy(w.t, c.answer)
				v := &ledger.SessionVia{Name: "via1", Kind: c.kind, Addresses: []string{at}}
				if c.kind == ledger.ViaSSH {
					v.Login, v.HostKeys = name.Login(w.login), w.ca.hosts["web01"].hostKeys
				}
				w.ca.hosts["web01"].via = v
			})
			g := w.grant()
			r := w.ssh(g, nil, "echo hello")
			if r.code != 255 || !strings.Contains(r.stderr, "web01 can't be entered: via via1 at "+at) || !strings.Contains(r.stderr, c.says) || strings.Contains(r.stderr, "\x1b") {
				t.Fatalf("exit %d\n%s", r.code, r.stderr)
			}
			if e := w.ended(g, 1); e.Reason != endUnreachable {
				t.Errorf("ended: %+v", e)
			}
		})
	}
}

// TestViaIsSilent: one that never answers, at any step, holds nobody longer than its caller waits; nothing is left of it.
func TestViaIsSilent(t *testing.T) {
	silent := func(c net.Conn) { io.Copy(io.Discard, c) }
	for _, kind := range []string{ledger.ViaSOCKS, ledger.ViaHTTP, ledger.ViaSSH} {
		closed := make(chan struct{}, 1)
		v := &via{name: "via1", kind: kind, addresses: []string{proxy(t, func(c net.Conn) { silent(c); closed <- struct{}{} })}, login: "jump", signer: loadKey(t, t.TempDir(), "k")}
		ctx, cancel := context.WithTimeout(context.Background(), 200*time.Millisecond)
		began := time.Now()
		_, err := v.open(ctx, v.addresses[0], "127.0.0.1:22", netip.Addr{})
		cancel()
		var broken *viaError
		if !errors.As(err, &broken) || time.Since(began) > 3*time.Second {
			t.Errorf("%s: %v after %v", kind, err, time.Since(began))
		}
		select {
		case <-closed:
		case <-time.After(3 * time.Second):
			t.Errorf("%s: the connection stays", kind)
		}
	}
}

// TestViaEndsWithTheSession: once the session is over, so is the connection to the via; and the other way round.
func TestViaEndsWithTheSession(t *testing.T) {
	ended := make(chan struct{}, 8)
	cut := make(chan struct{})
	w := newWorld(t, func(w *world) {
		bastion := w.bastion()
		at := bastion.Addresses[0]
		through := proxy(w.t, func(c net.Conn) {
			defer func() { ended <- struct{}{} }()
			b, err := net.Dial("tcp", at)
			if err != nil {
				return
			}
			defer b.Close()
			done := make(chan struct{}, 2)
			go func() { io.Copy(c, b); done <- struct{}{} }()
			go func() { io.Copy(b, c); done <- struct{}{} }()
			select {
			case <-done:
			case <-cut:
			}
		})
		bastion.Addresses = []string{through}
		w.ca.hosts["web01"].via = bastion
	})
	wait := func() {
		t.Helper()
		select {
		case <-ended:
		case <-time.After(5 * time.Second):
			t.Fatal("the connection to the via stays")
		}
	}
	if r := w.ssh(w.grant(), nil, "true"); r.code != 0 {
		t.Fatal(r.stderr)
	}
	wait()
	g := w.grant()
	time.AfterFunc(time.Second, func() { close(cut) })
	if r := w.ssh(g, nil, "sleep 30"); r.code == 0 {
		t.Error("the session outlived its via")
	}
	wait()
	if e := w.ended(g, 1); e.Reason != endHost && e.Reason != endClosed { // the person's client leaves with its last channel
		t.Errorf("ended: %+v", e)
	}
}

// TestViaAnswersThatDontHold: an answer whose via isn't whole opens nothing.
func TestViaAnswersThatDontHold(t *testing.T) {
	for what, change := range map[string]func(o *ledger.SessionOpened){
		"no address":              func(o *ledger.SessionOpened) { o.Via.Addresses = nil },
		"an address by name":      func(o *ledger.SessionOpened) { o.Via.Addresses = []string{"localhost:22"} },
		"a kind that is none":     func(o *ledger.SessionOpened) { o.Via.Kind = "telnet" },
		"no key":                  func(o *ledger.SessionOpened) { o.Via.HostKeys = nil },
		"no certificate":          func(o *ledger.SessionOpened) { o.Via.Certificate = "" },
		"the host's certificate":  func(o *ledger.SessionOpened) { o.Via.Certificate = o.Certificate },
		"another login":           func(o *ledger.SessionOpened) { o.Via.Login = "other" },
		"another bastion's":       func(o *ledger.SessionOpened) { o.Via.Name = "bastion2" },
		"a name that is none":     func(o *ledger.SessionOpened) { o.Via.Name = "../x" },
		"the via's as the host's": func(o *ledger.SessionOpened) { o.Certificate = o.Via.Certificate },
	} {
		w := newWorld(t, func(w *world) {
			w.ca.hosts["web01"].via = &ledger.SessionVia{Name: "bastion1", Kind: ledger.ViaSSH, Addresses: []string{"127.0.0.1:1"}, Login: "jump", HostKeys: w.ca.hosts["web01"].hostKeys}
			w.ca.change = change
		})
		if r := w.ssh(w.grant(), nil, "true"); r.code != 255 || !strings.Contains(r.stderr, "the CA's answer does not hold") {
			t.Errorf("%s: exit %d\n%s", what, r.code, r.stderr)
		}
		w.stop()
	}
}
