package jump

import (
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"breakglass/internal/name"
	"breakglass/transcript"
)

// witness is a host that agrees to everything and writes down what it is asked.
type witness struct {
	mu   sync.Mutex
	seen []string
	in   []byte
}

func (h *witness) saw(format string, args ...any) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.seen = append(h.seen, fmt.Sprintf(format, args...))
}

// asked gives what was seen so far.
func (h *witness) asked() (seen []string, in string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.seen), string(h.in)
}

// serve takes connections until the test ends.
func (h *witness) serve(w *world, host name.Host) {
	w.t.Helper()
	key := loadKey(w.t, w.t.TempDir(), "witness")
	cfg := &ssh.ServerConfig{PublicKeyCallback: func(ssh.ConnMetadata, ssh.PublicKey) (*ssh.Permissions, error) { return nil, nil }}
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
			go h.conn(nc, cfg)
		}
	}()
	w.ca.mu.Lock()
	defer w.ca.mu.Unlock()
	w.ca.hosts[host] = &testHost{address: l.Addr().String(), hostKeys: []string{authorizedKey(key.PublicKey())}}
}

func (h *witness) conn(nc net.Conn, cfg *ssh.ServerConfig) {
	defer nc.Close()
	_, chans, reqs, err := ssh.NewServerConn(nc, cfg)
	if err != nil {
		return
	}
	go func() {
		for r := range reqs {
			h.saw("global %s", r.Type)
			r.Reply(true, nil)
		}
	}()
	for nch := range chans {
		h.saw("open %s", nch.ChannelType())
		ch, reqs, err := nch.Accept()
		if err != nil {
			return
		}
		go func() {
			b := make([]byte, 4096)
			for {
				n, err := ch.Read(b)
				h.mu.Lock()
				h.in = append(h.in, b[:n]...)
				h.mu.Unlock()
				if err != nil {
					ch.Close()
					return
				}
			}
		}()
		go func() {
			for r := range reqs {
				h.saw("request %s", r.Type)
				r.Reply(true, nil)
			}
		}()
	}
}

// To a host that agrees to everything goes what is recorded, byte for byte, and nothing else: no matter how it is asked for.
func TestOnlyWhatIsRecordedReachesAHost(t *testing.T) {
	w := newWorld(t)
	w.allowing("local 127.0.0.1:5432", "local-unix /run/app/db.sock")

	open := func(typ string, extra ...[]byte) func(*world, *ssh.Client) {
		return func(w *world, c *ssh.Client) {
			ch, reqs, err := c.OpenChannel(typ, cat(extra...))
			if err == nil {
				go ssh.DiscardRequests(reqs)
				ch.Write([]byte("through"))
				ch.CloseWrite()
				b := make([]byte, 1)
				ch.Read(b) // the host closes what it has read to the end
			}
		}
	}
	tcp := func(host string, port uint32) func(*world, *ssh.Client) {
		return open("direct-tcpip", tcpip(host, port))
	}
	unix := func(path string) func(*world, *ssh.Client) {
		return open("direct-streamlocal@openssh.com", str(path), str(""), u32(0))
	}
	request := func(typ string, payload ...[]byte) func(*world, *ssh.Client) {
		return func(w *world, c *ssh.Client) { w.raw(c).ask(typ, cat(payload...)) }
	}
	global := func(typ string, payload ...[]byte) func(*world, *ssh.Client) {
		return func(w *world, c *ssh.Client) { c.SendRequest(typ, true, cat(payload...)) }
	}
	const denied, in = "denied", "through"
	const perhaps = "\x00" // what came before the end may or may not have got there
	for _, c := range []struct {
		is   string
		do   func(*world, *ssh.Client)
		seen []string // by the host
		in   string   // what it read
		line []string // in the recording
	}{
		// What the grant names goes through.
		{"a forward that the grant names", tcp("127.0.0.1", 5432), []string{"open direct-tcpip"}, in, []string{"open done person direct-tcpip"}},
		{"the same, as an IPv4 address in IPv6", tcp("::ffff:127.0.0.1", 5432), []string{"open direct-tcpip"}, in, []string{"open done person direct-tcpip"}},
		{"a socket that the grant names", unix("/run/app/db.sock"), []string{"open direct-streamlocal@openssh.com"}, in, []string{"open done person direct-streamlocal"}},

		// Other spellings of an address, and addresses that lead to the same place or to many.
		{"a name that resolves to the address", tcp("localhost", 5432), nil, "", []string{denied, "direct-tcpip"}},
		{"the address with a dot behind", tcp("127.0.0.1.", 5432), nil, "", []string{denied, "direct-tcpip"}},
		{"the address in short", tcp("127.1", 5432), nil, "", []string{denied, "direct-tcpip"}},
		{"the address as a number", tcp("2130706433", 5432), nil, "", []string{denied, "direct-tcpip"}},
		{"the address in octal", tcp("0177.0.0.1", 5432), nil, "", []string{denied, "direct-tcpip"}},
		{"the address in hexadecimal", tcp("0x7f.0.0.1", 5432), nil, "", []string{denied, "direct-tcpip"}},
		{"the address with a space", tcp("127.0.0.1 ", 5432), nil, "", []string{denied, "direct-tcpip"}},
		{"the address, a NUL and a name", tcp("127.0.0.1\x00.example.com", 5432), nil, "", []string{denied, "direct-tcpip"}},
		{"the address with its port in it", tcp("127.0.0.1:5432", 22), nil, "", []string{denied, "direct-tcpip"}},
		{"the address in brackets", tcp("[127.0.0.1]", 5432), nil, "", []string{denied, "direct-tcpip"}},
		{"every address", tcp("0.0.0.0", 5432), nil, "", []string{denied, "direct-tcpip"}},
		{"every IPv6 address", tcp("::", 5432), nil, "", []string{denied, "direct-tcpip"}},
		{"its IPv6 fellow", tcp("::1", 5432), nil, "", []string{denied, "direct-tcpip"}},
		{"its IPv6 fellow with a zone", tcp("::ffff:127.0.0.1%lo", 5432), nil, "", []string{denied, "direct-tcpip"}},
		{"no address", tcp("", 5432), nil, "", []string{denied, "direct-tcpip"}},
		{"an asterisk", tcp("*", 5432), nil, "", []string{denied, "direct-tcpip"}},
		{"port 0", tcp("127.0.0.1", 0), nil, "", []string{denied, "direct-tcpip"}},
		{"a port that wraps around to the allowed one", tcp("127.0.0.1", 5432+65536), nil, "", []string{denied, "direct-tcpip"}},
		{"the right address with bytes behind it", open("direct-tcpip", tcpip("127.0.0.1", 5432), []byte("more")), nil, "", []string{denied, "direct-tcpip"}},
		{"half an address", open("direct-tcpip", tcpip("127.0.0.1", 5432)[:9]), nil, "", []string{denied, "direct-tcpip"}},
		{"a length past the end", open("direct-tcpip", u32(1<<32-1), []byte("x")), nil, "", []string{denied, "direct-tcpip"}},

		// Paths.
		{"a path around it", unix("/run/app/../app/db.sock"), nil, "", []string{denied, "direct-streamlocal"}},
		{"a path with two slashes", unix("/run//app/db.sock"), nil, "", []string{denied, "direct-streamlocal"}},
		{"a path with a dot", unix("/run/./app/db.sock"), nil, "", []string{denied, "direct-streamlocal"}},
		{"a path with a slash behind", unix("/run/app/db.sock/"), nil, "", []string{denied, "direct-streamlocal"}},
		{"the path and a NUL", unix("/run/app/db.sock\x00"), nil, "", []string{denied, "direct-streamlocal"}},
		{"a relative path", unix("run/app/db.sock"), nil, "", []string{denied, "direct-streamlocal"}},
		{"an abstract name", unix("@/run/app/db.sock"), nil, "", []string{denied, "direct-streamlocal"}},
		{"an abstract name as the kernel has it", unix("\x00/run/app/db.sock"), nil, "", []string{denied, "direct-streamlocal"}},
		{"no path", unix(""), nil, "", []string{denied, "direct-streamlocal"}},
		{"the path with a port behind", open("direct-streamlocal@openssh.com", str("/run/app/db.sock"), str(""), u32(0), []byte{1}), nil, "", []string{denied, "direct-streamlocal"}},

		// Channels.
		{"a way to the person's own screen", open("x11", str("127.0.0.1"), u32(6000)), nil, "", []string{denied, "person x11"}},
		{"a way to an agent", open("auth-agent@openssh.com"), nil, "", []string{denied, "person auth-agent"}},
		{"an older way to an agent", open("auth-agent"), nil, "", []string{denied, "person auth-agent"}},
		{"a tunnel of packets", open("tun@openssh.com", u32(1), u32(1<<31-1)), nil, "", []string{denied, "person tun@openssh.com"}},
		{"a tunnel of frames", open("tun@openssh.com", u32(2), u32(0)), nil, "", []string{denied, "person tun@openssh.com"}},
		{"a forwarded connection from the person", open("forwarded-tcpip", tcpip("127.0.0.1", 5432)), nil, "", []string{denied, "person forwarded-tcpip"}},
		{"a forwarded socket from the person", open("forwarded-streamlocal@openssh.com", str("/run/app/db.sock"), str("")), nil, "", []string{denied, "person forwarded-streamlocal"}},
		{"a session in capitals", open("SESSION"), nil, "", []string{denied, "person SESSION"}},
		{"a session and a NUL", open("session\x00"), nil, "", []string{denied, "person session\x00"}},
		{"a session and a space", open("session "), nil, "", []string{denied, "person session"}},
		{"a control channel of a multiplexer", open("mux-control"), nil, "", []string{denied, "person mux-control"}},
		{"a channel that belongs to another vendor", open("direct-tcpip@ssh.com", tcpip("127.0.0.1", 5432)), nil, "", []string{denied, "person direct-tcpip@ssh.com"}},

		// Requests of a session.
		{"a screen", request("x11-req", []byte{0}, str("MIT-MAGIC-COOKIE-1"), str("00"), u32(0)), []string{"open session"}, "", []string{denied, "x11-req"}},
		{"an agent", request("auth-agent-req@openssh.com"), []string{"open session"}, "", []string{denied, "auth-agent-req"}},
		{"an agent, the older way", request("auth-agent-req"), []string{"open session"}, "", []string{denied, "auth-agent-req"}},
		{"a shell in capitals", request("SHELL"), []string{"open session"}, "", []string{denied, "SHELL"}},
		{"a command and a NUL in the request's name", request("exec\x00", str("id")), []string{"open session"}, "", []string{denied, "exec\x00"}},
		{"a subsystem of another vendor", request("subsystem@example.com", str("sftp")), []string{"open session"}, "", []string{denied, "subsystem@example.com"}},
		{"a payload past what a packet should carry", request("env", str("GOOD"), str(strings.Repeat("v", 250_000))), []string{"open session", "request env"}, "", []string{"asked person env", strings.Repeat("v", 250_000)}},
		{"a subsystem whose name is in another script", request("subsystem", str("ѕftp")), []string{"open session", "request subsystem"}, "", []string{"asked person subsystem", "ѕftp"}},

		// Global requests.
		{"proof of host keys", global("hostkeys-prove-00@openssh.com", str("key")), nil, "", []string{denied, "hostkeys-prove"}},
		{"a listener that the grant doesn't name", global("tcpip-forward", str("127.0.0.1"), u32(5432)), nil, "", []string{denied, "tcpip-forward"}},
		{"a listener on every address", global("tcpip-forward", str(""), u32(0)), nil, "", []string{denied, "tcpip-forward"}},
		{"a listening socket", global("streamlocal-forward@openssh.com", str("/run/app/db.sock")), nil, "", []string{denied, "streamlocal-forward"}},
		{"the end of a listener that isn't theirs", global("cancel-streamlocal-forward@openssh.com", str("/run/app/db.sock")), nil, "", []string{denied, "cancel-streamlocal-forward"}},
		{"no more sessions, and an answer to that", global("no-more-sessions@openssh.com"), nil, "", []string{denied, "no-more-sessions"}},
		{"a global request without a name", global(""), nil, "", []string{denied}},

		// Order.
		{"input before anything runs, and nothing that runs", func(w *world, c *ssh.Client) {
			r := w.raw(c)
			r.Write([]byte("early"))
			r.ask("env", cat(str("GOOD"), str("x")))
		}, []string{"open session", "request env"}, perhaps, []string{"asked person env"}},
		{"requests after the end of input", func(w *world, c *ssh.Client) {
			r := w.raw(c)
			r.ask("env", cat(str("GOOD"), str("1")))
			r.CloseWrite()
			r.ask("exec", str("late"))
			r.all()
		}, []string{"open session", "request env", "request exec"}, "", []string{"asked person exec", "late"}},
		{"input that is empty", func(w *world, c *ssh.Client) {
			r := w.raw(c)
			r.ask("exec", str("x"))
			r.Write(nil)
			r.Write([]byte("a"))
			r.Write(nil)
			r.CloseWrite()
			r.all()
		}, []string{"open session", "request exec"}, "a", []string{"1 F person"}},
		{"three commands on one channel", func(w *world, c *ssh.Client) {
			r := w.raw(c)
			r.ask("exec", str("one"))
			r.ask("exec", str("two"))
			r.ask("subsystem", str("three"))
		}, []string{"open session", "request exec", "request exec", "request subsystem"}, "", []string{"asked person subsystem", "three"}},
		{"a flood of requests that want answers", func(w *world, c *ssh.Client) {
			r := w.raw(c)
			for range 200 {
				r.ask("x@example.com", nil)
			}
		}, []string{"open session"}, "", []string{denied, "x@example.com"}},
	} {
		t.Run(c.is, func(t *testing.T) {
			w := *w
			w.t = t
			h := &witness{}
			h.serve(&w, "web03")
			g := w.grantFor("web03", w.login, "127.0.0.1", time.Now(), time.Minute)
			client := w.client(g)
			late := time.AfterFunc(20*time.Second, func() { client.Close() })
			defer late.Stop()
			c.do(&w, client)
			client.Close()
			rec := w.session(g, 1)
			rec.has(c.line...)
			seen, in := h.asked()
			if !slices.Equal(seen, c.seen) {
				t.Errorf("the host saw %q, want %q", seen, c.seen)
			}
			if in != c.in && c.in != perhaps {
				t.Errorf("the host read %q, want %q", in, c.in)
			}
			// Nothing reached it that isn't there.
			if got := rec.data(transcript.KindInput, 0); !strings.HasPrefix(got, in) {
				t.Errorf("the host read %q, recorded %q", in, got)
			}
			all := strings.Join(rec.lines(), "\n")
			for _, s := range seen {
				if what := strings.SplitN(s, " ", 2)[1]; !strings.Contains(all, "asked person "+what) {
					t.Errorf("the host saw %q, and the recording has no such line:\n%s", s, all)
				}
			}
		})
	}
}
