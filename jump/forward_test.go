package jump

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"breakglass/internal/loopback"
	"breakglass/transcript"
)

// allowing lets every session of the world have the forwards.
func (w *world) allowing(forwards ...string) {
	w.ca.mu.Lock()
	defer w.ca.mu.Unlock()
	w.ca.forwards = forwards
}

// echoing is a service that sends everything back turned over (byte XOR 0xff), and closes when its client does.
func echoing(t *testing.T, network, address string) string {
	l, err := net.Listen(network, address)
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
				buf := make([]byte, 64<<10)
				for {
					n, err := c.Read(buf)
					if _, werr := c.Write(turned(buf[:n])); err != nil || werr != nil {
						return
					}
				}
			}()
		}
	}()
	return l.Addr().String()
}

func turned(b []byte) []byte {
	out := make([]byte, len(b))
	for i := range b {
		out[i] = ^b[i]
	}
	return out
}

// through sends data over a connection and gives what comes back once it has said that nothing more comes.
func through(t *testing.T, network, address string, data []byte) []byte {
	t.Helper()
	var c net.Conn
	var err error
	for range 200 { // ssh listens once it is logged in
		if c, err = net.Dial(network, address); err == nil {
			break
		}
		time.Sleep(20 * time.Millisecond)
	}
	check(t, err)
	defer c.Close()
	c.SetDeadline(time.Now().Add(30 * time.Second))
	go func() {
		c.Write(data)
		c.(interface{ CloseWrite() error }).CloseWrite()
	}()
	b, err := io.ReadAll(c)
	check(t, err)
	return b
}

// channelOf finds the channel of a type in the recording.
func (r *recording) channelOf(typ string) uint32 {
	r.t.Helper()
	for _, e := range r.events {
		if e.Kind == transcript.KindOpen {
			if o, err := transcript.ParseOpening(e.Data); err == nil && o.Type == typ && o.Step == transcript.Done {
				return e.Chan
			}
		}
	}
	r.t.Fatalf("no channel %s was opened", typ)
	return 0
}

// TestForwards: each kind, by stock ssh through to stock sshd, carries a megabyte each way, and the recording holds both, byte for byte.
func TestForwards(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	sockets := t.TempDir()
	free, err := loopback.Addresses(4)
	check(t, err)
	service := echoing(t, "tcp", "127.0.0.1:0")
	unixService := echoing(t, "unix", filepath.Join(sockets, "service"))
	port := func(a string) string { _, p, _ := net.SplitHostPort(a); return p }
	for _, c := range []struct {
		is       string
		args     []string
		network  string // where to go in, and to where
		address  string
		forwards []string
		typ      string
		reversed bool // the host's side is where it goes in
	}{
		{"-L", []string{"-L", free[0] + ":" + service}, "tcp", free[0], []string{"local " + service}, "direct-tcpip", false},
		{"-L, any port of the host", []string{"-L", free[0] + ":" + service}, "tcp", free[0], []string{"local 127.0.0.1:*"}, "direct-tcpip", false},
		{"-L to a socket", []string{"-L", free[1] + ":" + unixService}, "tcp", free[1], []string{"local-unix " + unixService}, "direct-streamlocal@openssh.com", false},
		{"-R", []string{"-R", free[2] + ":" + service}, "tcp", free[2], []string{"remote " + free[2]}, "forwarded-tcpip", true},
		{"-R on a socket", []string{"-R", filepath.Join(sockets, "remote") + ":" + service}, "unix", filepath.Join(sockets, "remote"), []string{"remote-unix " + filepath.Join(sockets, "remote")},
			"forwarded-streamlocal@openssh.com", true},
	} {
		t.Run(c.is, func(t *testing.T) {
			w := *w
			w.t = t
			w.allowing(c.forwards...)
			g := w.grant()
			data := make([]byte, 1<<20)
			rand.Read(data)
			done := make(chan result, 1)
			args := append(append(w.config(g), "-o", "ExitOnForwardFailure=yes", "-o", "GatewayPorts=no"), append(c.args, "web01", "cat")...)
			in, out := io.Pipe()
			go func() { done <- run(t, in, "ssh", args...) }()
			got := through(t, c.network, c.address, data)
			out.Close()
			if r := <-done; r.code != 0 {
				t.Errorf("ssh: %d, %q", r.code, r.stderr)
			}
			if !bytes.Equal(got, turned(data)) {
				t.Fatalf("%d bytes came back, not those that were to", len(got))
			}
			rec := w.session(g, 1)
			ch := rec.channelOf(c.typ)
			person, host := sha256.Sum256([]byte(rec.data(transcript.KindInput, ch))), sha256.Sum256([]byte(rec.data(transcript.KindOutput, ch)))
			sent, back := sha256.Sum256(data), sha256.Sum256(turned(data))
			if c.reversed { // what went in at the host is the host's
				sent, back = back, sent
			}
			if person != sent || host != back {
				t.Error("the recording holds something else than what passed")
			}
			rec.has(fmt.Sprintf("%d F person", ch))
			rec.has(fmt.Sprintf("%d F host", ch))
		})
	}
	t.Run("-R with a port that the host chooses", func(t *testing.T) {
		w := *w
		w.t = t
		w.allowing("remote localhost:0")
		g := w.grant()
		c := w.client(g)
		defer c.Close()
		l, err := c.Listen("tcp", "localhost:0")
		check(t, err)
		go func() {
			if in, err := l.Accept(); err == nil {
				io.Copy(in, in)
				in.Close()
			}
		}()
		if got := through(t, "tcp", l.Addr().String(), []byte("hello")); string(got) != "hello" {
			t.Errorf("%q came back", got)
		}
		check(t, l.Close())
		if c, err := net.DialTimeout("tcp", l.Addr().String(), time.Second); err == nil {
			c.Close()
			t.Error("the host still listens after the end")
		}
		c.Close()
		w.session(g, 1).has("done person tcpip-forward")
	})
	t.Run("-D and -W reach what the grant names, and nothing else", func(t *testing.T) {
		w := *w
		w.t = t
		other := echoing(t, "tcp", "127.0.0.1:0")
		w.allowing("local " + service)
		g := w.grant()
		r := run(t, strings.NewReader("abc"), "ssh", append(w.config(g), "-W", service, "web01")...)
		if r.code != 0 || r.stdout != string(turned([]byte("abc"))) {
			t.Errorf("-W: %+v", r)
		}
		w.session(g, 1).has("done person direct-tcpip")
		for _, wrong := range []string{other, "127.0.0.1:" + port(other), "localhost:" + port(service), "[::1]:" + port(service), "0.0.0.0:" + port(service)} {
			g := w.grant()
			r := run(t, nil, "ssh", append(w.config(g), "-W", wrong, "web01")...)
			if r.code != 255 || !strings.Contains(r.stderr, "is not in this grant") || !strings.Contains(r.stderr, `--forward "local `) {
				t.Errorf("-W %s: %+v", wrong, r)
			}
			w.session(g, 1).has("denied person direct-tcpip")
		}
	})
}

// TestForwardsThatNobodyAllowed: what the grant doesn't name is refused and recorded, on each side.
func TestForwardsThatNobodyAllowed(t *testing.T) {
	w := newWorld(t)
	free, err := loopback.Addresses(2)
	check(t, err)
	_, p0, _ := net.SplitHostPort(free[0])
	ask := func(typ string, msg any) func(*ssh.Client) error {
		return func(c *ssh.Client) error {
			if ok, _, err := c.SendRequest(typ, true, ssh.Marshal(msg)); ok || err != nil {
				return fmt.Errorf("%s: %v, %v", typ, ok, err)
			}
			return nil
		}
	}
	type bind struct {
		A string
		P uint32
	}
	var port uint32
	fmt.Sscan(p0, &port)
	for _, c := range []struct {
		is   string
		do   func(*ssh.Client) error
		line string
	}{
		{"another port", ask("tcpip-forward", bind{"127.0.0.1", port + 1}), "denied person tcpip-forward"},
		{"every address", ask("tcpip-forward", bind{"", port}), "denied person tcpip-forward"},
		{"a port that wraps around to the allowed one", ask("tcpip-forward", bind{"127.0.0.1", port + 65536}), "denied person tcpip-forward"},
		{"a socket", ask("streamlocal-forward@openssh.com", struct{ P string }{"/tmp/x"}), "denied person streamlocal-forward"},
		{"the end of what doesn't listen", ask("cancel-tcpip-forward", bind{"127.0.0.1", port}), "denied person cancel-tcpip-forward"},
		{"a malformed ask", ask("tcpip-forward", struct{ A string }{"127.0.0.1"}), "denied person tcpip-forward"},
	} {
		t.Run(c.is, func(t *testing.T) {
			w := *w
			w.t = t
			w.allowing("remote 127.0.0.1:" + p0)
			g := w.grant()
			cl := w.client(g)
			check(t, c.do(cl))
			cl.Close()
			w.session(g, 1).has(c.line)
		})
	}
	t.Run("a request on a forward's channel starts nothing", func(t *testing.T) {
		w := *w
		w.t = t
		addr := echoing(t, "tcp", "127.0.0.1:0")
		w.allowing("local " + addr)
		g := w.grant()
		c := w.client(g)
		defer c.Close()
		h, p, _ := net.SplitHostPort(addr)
		var n uint32
		fmt.Sscan(p, &n)
		ch, reqs, err := c.OpenChannel("direct-tcpip", ssh.Marshal(struct {
			H string
			P uint32
			O string
			F uint32
		}{h, n, "127.0.0.1", 1}))
		check(t, err)
		go ssh.DiscardRequests(reqs)
		for _, typ := range []string{"shell", "exec", "pty-req", "env", "auth-agent-req@openssh.com"} {
			if ok, err := ch.SendRequest(typ, true, ssh.Marshal(struct{ S string }{"id"})); ok || err != nil {
				t.Errorf("%s: %v %v", typ, ok, err)
			}
		}
		ch.Close()
		c.Close()
		w.session(g, 1).has("denied person exec")
	})
}
