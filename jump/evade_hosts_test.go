package jump

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"breakglass/internal/name"
	"breakglass/transcript"
)

// hostile is a host with no manners: conn is what it does once somebody is logged in, exec what it does with a command.
type hostile struct {
	conn   func(c *ssh.ServerConn)
	exec   func(c *ssh.ServerConn, ch ssh.Channel)
	banner string
}

// host serves a hostile host under a name. It takes any key: that is its own affair.
func (w *world) host(host name.Host, h hostile) {
	w.t.Helper()
	key := loadKey(w.t, w.t.TempDir(), "host")
	cfg := &ssh.ServerConfig{PublicKeyCallback: func(ssh.ConnMetadata, ssh.PublicKey) (*ssh.Permissions, error) { return nil, nil }}
	if h.banner != "" {
		cfg.BannerCallback = func(ssh.ConnMetadata) string { return h.banner }
	}
	cfg.AddHostKey(key)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	check(w.t, err)
	w.t.Cleanup(func() { l.Close() })
	go func() {
		for {
			nc, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer nc.Close()
				c, chans, reqs, err := ssh.NewServerConn(nc, cfg)
				if err != nil {
					return
				}
				go ssh.DiscardRequests(reqs)
				if h.conn != nil {
					go h.conn(c)
				}
				for nch := range chans {
					ch, reqs, err := nch.Accept()
					if err != nil {
						return
					}
					go func() {
						for r := range reqs {
							r.Reply(r.Type == "exec", nil)
							if r.Type == "exec" {
								go h.exec(c, ch)
							}
						}
					}()
				}
			}()
		}
	}()
	w.ca.mu.Lock()
	defer w.ca.mu.Unlock()
	w.ca.hosts[host] = &testHost{address: l.Addr().String(), hostKeys: []string{authorizedKey(key.PublicKey())}}
}

func exits(ch ssh.Channel, code uint32) { ch.SendRequest("exit-status", false, u32(code)) }

// What a host sends reaches the person as it is and is recorded as it is, or is recorded as refused and reaches nobody.
func TestHostsWithoutManners(t *testing.T) {
	w := newWorld(t)
	open := func(typ string, extra []byte) func(c *ssh.ServerConn, ch ssh.Channel) {
		return func(c *ssh.ServerConn, ch ssh.Channel) {
			got, _, err := c.OpenChannel(typ, extra)
			if err == nil {
				got.Write([]byte("inside"))
			}
			fmt.Fprint(ch, err == nil)
			exits(ch, 0)
			ch.Close()
		}
	}
	global := func(typ string) func(c *ssh.ServerConn, ch ssh.Channel) {
		return func(c *ssh.ServerConn, ch ssh.Channel) {
			ok, _, _ := c.SendRequest(typ, true, []byte("payload"))
			fmt.Fprint(ch, ok)
			exits(ch, 0)
			ch.Close()
		}
	}
	for _, c := range []struct {
		is   string
		host hostile
		code int
		want string
		line []string
	}{
		{"a forwarded connection that nobody asked for", hostile{exec: open("forwarded-tcpip", cat(str("localhost"), u32(80), str("127.0.0.1"), u32(1)))}, 0, "false", []string{"denied host forwarded-tcpip"}},
		{"a forwarded socket that nobody asked for", hostile{exec: open("forwarded-streamlocal@openssh.com", cat(str("/run/x"), str("")))}, 0, "false", []string{"denied host forwarded-streamlocal"}},
		{"a way to the person's agent", hostile{exec: open("auth-agent@openssh.com", nil)}, 0, "false", []string{"denied host auth-agent"}},
		{"a way to the person's screen", hostile{exec: open("x11", cat(str("127.0.0.1"), u32(6000)))}, 0, "false", []string{"denied host x11"}},
		{"a session on the person's machine", hostile{exec: open("session", nil)}, 0, "false", []string{"denied host session"}},
		{"a connection from the person's machine", hostile{exec: open("direct-tcpip", tcpip("127.0.0.1", 22))}, 0, "false", []string{"denied host direct-tcpip"}},
		{"an unknown channel", hostile{exec: open("x@example.com", bytes.Repeat([]byte("x"), 100_000))}, 0, "false", []string{"denied host x@example.com"}},
		{"host keys for the person's known_hosts", hostile{exec: global("hostkeys-00@openssh.com")}, 0, "false", []string{"denied host hostkeys-00@openssh.com"}},
		{"a listener on the person's machine", hostile{exec: global("tcpip-forward")}, 0, "false", []string{"denied host tcpip-forward"}},
		{"an unknown global request", hostile{exec: global("x@example.com")}, 0, "false", []string{"denied host x@example.com"}},
		{"two ends of one command", hostile{exec: func(_ *ssh.ServerConn, ch ssh.Channel) {
			exits(ch, 3)
			exits(ch, 0)
			ch.Close()
		}}, 0, "", []string{"asked host exit-status", `\x00\x00\x00\x03`}},
		{"a signal's name that drives terminals", hostile{exec: func(_ *ssh.ServerConn, ch ssh.Channel) {
			ch.SendRequest("exit-signal", false, cat(str("\x1b[2J"), []byte{0}, str("\x1b]0;x\x07"), str("")))
			ch.Close()
		}}, 255, "", []string{"asked host exit-signal", `\x1b[2J`}},
		{"an exit status of one byte", hostile{exec: func(_ *ssh.ServerConn, ch ssh.Channel) {
			ch.SendRequest("exit-status", false, []byte{7})
			ch.Close()
		}}, -1, "", []string{"asked host exit-status", `"\a"`}},
		{"a request that only persons make", hostile{exec: func(_ *ssh.ServerConn, ch ssh.Channel) {
			ok, err := ch.SendRequest("shell", true, nil)
			fmt.Fprint(ch, ok, err)
			exits(ch, 0)
			ch.Close()
		}}, 0, "false <nil>", []string{"denied host shell"}},
		{"an unknown channel request", hostile{exec: func(_ *ssh.ServerConn, ch ssh.Channel) {
			ok, err := ch.SendRequest("x@example.com", true, nil)
			fmt.Fprint(ch, ok, err)
			exits(ch, 0)
			ch.Close()
		}}, 0, "false <nil>", []string{"denied host x@example.com"}},
		{"extended data of a kind that nobody knows", hostile{exec: func(_ *ssh.ServerConn, ch ssh.Channel) {
			ch.(interface{ Extended(uint32) io.ReadWriter }).Extended(7).Write([]byte("smuggled"))
			fmt.Fprint(ch, "plain")
			exits(ch, 0)
			ch.Close()
		}}, 0, "plain", nil},
		{"output without an end", hostile{exec: func(c *ssh.ServerConn, ch ssh.Channel) {
			fmt.Fprint(ch, "half")
			time.Sleep(50 * time.Millisecond)
			c.Close()
		}}, 255, "half", nil},
		{"output after the exit status", hostile{exec: func(c *ssh.ServerConn, ch ssh.Channel) {
			exits(ch, 4)
			fmt.Fprint(ch, "late")
			ch.Close()
		}}, 4, "late", nil},
		{"a banner that drives terminals", hostile{banner: "\x1b[2Jhello", exec: func(_ *ssh.ServerConn, ch ssh.Channel) {
			exits(ch, 0)
			ch.Close()
		}}, 0, "", nil},
	} {
		t.Run(c.is, func(t *testing.T) {
			w := *w
			w.t = t
			w.host("web03", c.host)
			g := w.grantFor("web03", w.login, "127.0.0.1", time.Now(), time.Minute)
			r := w.ssh(g, nil, "x")
			if c.code >= 0 && r.code != c.code || r.stdout != c.want {
				t.Errorf("%+v, want %d, %q", r, c.code, c.want)
			}
			if strings.ContainsAny(strings.ReplaceAll(r.stderr, "\r\n", "\n"), "\x1b\x07") {
				t.Errorf("the person's terminal was sent %q", r.stderr)
			}
			rec := w.session(g, 1)
			if c.line != nil {
				rec.has(c.line...)
			}
			if got := rec.data(transcript.KindOutput, 0); got != c.want {
				t.Errorf("recorded %q, seen %q", got, c.want)
			}
			if all := strings.Join(rec.lines(), "\n") + rec.data(transcript.KindOutput, 0) + rec.data(transcript.KindStderr, 0); strings.Contains(all, "smuggled") || strings.Contains(all, "inside") {
				t.Error("what reached nobody is recorded as if it had")
			}
		})
	}
}

// resident is the process's memory in bytes, after what is dead was given back.
func resident(t *testing.T) int64 {
	t.Helper()
	runtime.GC()
	b, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		t.Skip("no /proc here")
	}
	pages, err := strconv.ParseInt(strings.Fields(string(b))[1], 10, 64)
	check(t, err)
	return pages * int64(os.Getpagesize())
}

// A host that floods a client that doesn't read is held back: what is in between stays bounded, and the session ends when it is told to.
func TestAFloodIsHeldBack(t *testing.T) {
	for _, c := range []struct {
		is    string
		flood func(ch ssh.Channel)
	}{
		{"output", func(ch ssh.Channel) { flood(ch) }},
		{"stderr", func(ch ssh.Channel) { flood(ch.Stderr()) }},
		{"both", func(ch ssh.Channel) { go flood(ch.Stderr()); flood(ch) }},
	} {
		t.Run(c.is, func(t *testing.T) {
			w := newWorld(t)
			w.host("web03", hostile{exec: func(_ *ssh.ServerConn, ch ssh.Channel) { c.flood(ch) }})
			g := w.grantFor("web03", w.login, "127.0.0.1", time.Now(), time.Minute)
			client := w.client(g)
			r := w.raw(client)
			r.ask("exec", str("x"))
			time.Sleep(300 * time.Millisecond)
			before := resident(t)
			time.Sleep(700 * time.Millisecond)
			// Two windows of 2 MiB for each stream on each leg, and what is on its way: far below what would come in this time.
			if grown := resident(t) - before; grown > 64<<20 {
				t.Errorf("%d MiB more in less than a second", grown>>20)
			}
			client.Close()
			w.session(g, 1)
		})
	}
}

func flood(to io.Writer) {
	b := make([]byte, 32<<10)
	for {
		if _, err := to.Write(b); err != nil {
			return
		}
	}
}

// A client that floods a host that doesn't read is held back as well.
func TestAFloodOfInputIsHeldBack(t *testing.T) {
	w := newWorld(t)
	hold := make(chan struct{})
	defer close(hold)
	w.host("web03", hostile{exec: func(_ *ssh.ServerConn, ch ssh.Channel) { <-hold }})
	g := w.grantFor("web03", w.login, "127.0.0.1", time.Now(), time.Minute)
	client := w.client(g)
	r := w.raw(client)
	r.ask("exec", str("x"))
	go flood(r)
	time.Sleep(300 * time.Millisecond)
	before := resident(t)
	time.Sleep(700 * time.Millisecond)
	if grown := resident(t) - before; grown > 64<<20 {
		t.Errorf("%d MiB more in less than a second", grown>>20)
	}
	// And the session is still there to be ended.
	if ok, _, err := client.SendRequest(keepalive, true, nil); !ok || err != nil {
		t.Errorf("%v, %v", ok, err)
	}
	client.Close()
	if in := w.session(g, 1).data(transcript.KindInput, 0); len(in) == 0 || len(in) > 32<<20 {
		t.Errorf("recorded %d bytes", len(in))
	}
}

// Whatever became of them, sessions leave nothing behind: no goroutine, no descriptor.
func TestNothingIsLeftOfHostileSessions(t *testing.T) {
	w := newWorld(t)
	w.host("web03", hostile{exec: func(_ *ssh.ServerConn, ch ssh.Channel) { go flood(ch.Stderr()); flood(ch) }})
	round := func() {
		g := w.grantFor("web03", w.login, "127.0.0.1", time.Now(), time.Minute)
		client := w.client(g)
		r := w.raw(client)
		r.ask("exec", str("x"))
		o := w.carrier(w.grant())
		if _, _, err := o.OpenChannel("direct-tcpip", tcpip("web01", 22)); err != nil {
			t.Error(err)
		}
		time.Sleep(20 * time.Millisecond)
		o.Close()
		client.Close()
		w.session(g, 1)
	}
	descriptors := func() int {
		names, err := os.ReadDir("/proc/self/fd")
		if errors.Is(err, os.ErrNotExist) {
			t.Skip("no /proc here")
		}
		check(t, err)
		return len(names)
	}
	round()
	time.Sleep(500 * time.Millisecond)
	goroutines, open := runtime.NumGoroutine(), descriptors()
	for range 5 {
		round()
	}
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		g, d := runtime.NumGoroutine(), descriptors()
		if g <= goroutines+2 && d <= open {
			return
		}
		if time.Now().After(end) {
			stacks := make([]byte, 1<<20)
			stacks = stacks[:runtime.Stack(stacks, true)]
			t.Fatalf("%d goroutines of %d, %d descriptors of %d\n%.4000s", g, goroutines, d, open, stacks)
		}
	}
}
