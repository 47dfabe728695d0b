package jump

import (
	"encoding/binary"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"breakglass/transcript"
)

// client is a client that keeps to no manners.
func (w *world) client(g *grant) *ssh.Client {
	w.t.Helper()
	c, err := net.Dial("tcp", w.jump)
	check(w.t, err)
	c.Write(Preamble(g.host))
	conn, chans, reqs, err := ssh.NewClientConn(c, w.jump, &ssh.ClientConfig{User: string(g.login), Auth: []ssh.AuthMethod{ssh.PublicKeys(withCert(w.t, g.cert, g.signer))},
		HostKeyCallback: ssh.InsecureIgnoreHostKey(), Timeout: 10 * time.Second})
	check(w.t, err)
	return ssh.NewClient(conn, chans, reqs)
}

func str(s string) []byte { return append(binary.BigEndian.AppendUint32(nil, uint32(len(s))), s...) }

// Each is recorded and refused, or recorded and passed on; nothing gets by.
func TestEvasions(t *testing.T) {
	w := newWorld(t)
	open := func(typ string) func(*ssh.Client) error {
		return func(c *ssh.Client) error {
			_, _, err := c.OpenChannel(typ, []byte("extra"))
			var refused *ssh.OpenChannelError
			if !errors.As(err, &refused) || refused.Reason != ssh.Prohibited || !strings.Contains(refused.Message, "not recorded, so refused") && !strings.Contains(refused.Message, "invalid forward") {
				return errors.Join(errors.New("not refused with a reason"), err)
			}
			return nil
		}
	}
	global := func(typ string) func(*ssh.Client) error {
		return func(c *ssh.Client) error {
			ok, _, err := c.SendRequest(typ, true, []byte("payload"))
			if ok || err != nil {
				return errors.Join(errors.New("not refused"), err)
			}
			return nil
		}
	}
	request := func(typ string) func(*ssh.Client) error {
		return func(c *ssh.Client) error {
			ch, reqs, err := c.OpenChannel("session", nil)
			if err != nil {
				return err
			}
			go ssh.DiscardRequests(reqs)
			ok, err := ch.SendRequest(typ, true, str("x"))
			ch.Close()
			if ok || err != nil {
				return errors.Join(errors.New("not refused"), err)
			}
			return nil
		}
	}
	for _, c := range []struct {
		is   string
		do   func(*ssh.Client) error
		line []string
	}{
		{"direct-tcpip", open("direct-tcpip"), []string{"denied person direct-tcpip"}},
		{"direct-streamlocal", open("direct-streamlocal@openssh.com"), []string{"denied person direct-streamlocal"}},
		{"forwarded-tcpip from the wrong side", open("forwarded-tcpip"), []string{"denied person forwarded-tcpip"}},
		{"x11 from the wrong side", open("x11"), []string{"denied person x11"}},
		{"a tunnel", open("tun@openssh.com"), []string{"denied person tun@openssh.com"}},
		{"an unknown channel", open("nothing@example.com"), []string{"denied person nothing@example.com"}},
		{"a channel whose name drives terminals", open("\x1b[2Jx"), []string{"denied person \x1b[2Jx"}},
		{"a session with extra data", func(c *ssh.Client) error {
			if _, _, err := c.OpenChannel("session", []byte("x")); err == nil {
				return errors.New("opened")
			}
			return nil
		}, []string{"denied person session"}},
		{"tcpip-forward", global("tcpip-forward"), []string{"denied person tcpip-forward"}},
		{"streamlocal-forward", global("streamlocal-forward@openssh.com"), []string{"denied person streamlocal-forward"}},
		{"hostkeys-prove", global("hostkeys-prove-00@openssh.com"), []string{"denied person hostkeys-prove"}},
		{"an unknown global request", global("x@example.com"), []string{"denied person x@example.com"}},
		{"x11-req", request("x11-req"), []string{"denied person x11-req"}},
		{"auth-agent-req", request("auth-agent-req@openssh.com"), []string{"denied person auth-agent-req"}},
		{"an unknown channel request", request("x@example.com"), []string{"denied person x@example.com"}},
		{"an exit status from the person", request("exit-status"), []string{"denied person exit-status"}},
		{"a second shell on one channel", func(c *ssh.Client) error {
			ch, reqs, err := c.OpenChannel("session", nil)
			if err != nil {
				return err
			}
			go ssh.DiscardRequests(reqs)
			if ok, err := ch.SendRequest("exec", true, str("sleep 1")); !ok || err != nil {
				return errors.New("exec failed")
			}
			if ok, _ := ch.SendRequest("shell", true, nil); ok {
				return errors.New("a second one was started")
			}
			return ch.Close()
		}, []string{"refused person shell"}},
		{"data before anything runs reaches what runs then", func(c *ssh.Client) error {
			ch, reqs, err := c.OpenChannel("session", nil)
			if err != nil {
				return err
			}
			go ssh.DiscardRequests(reqs)
			ch.Write([]byte("early"))
			ch.CloseWrite()
			time.Sleep(50 * time.Millisecond)
			if ok, err := ch.SendRequest("exec", true, str("cat")); !ok || err != nil {
				return errors.New("exec failed")
			}
			b, err := io.ReadAll(ch)
			if string(b) != "early" {
				return errors.Join(errors.New("got "+string(b)), err)
			}
			return nil
		}, []string{"1 F person"}},
		{"two sessions on one connection are two channels", func(c *ssh.Client) error {
			for _, cmd := range []string{"echo one", "echo two"} {
				s, err := c.NewSession()
				if err != nil {
					return err
				}
				if _, err := s.Output(cmd); err != nil {
					return err
				}
			}
			return nil
		}, []string{"2 asked person exec", "echo two"}},
		{"a command that looks like a copy", func(c *ssh.Client) error {
			s, err := c.NewSession()
			if err != nil {
				return err
			}
			_, err = s.Output("true -t x; echo hidden")
			return err
		}, []string{"asked person exec", "echo hidden"}},
	} {
		t.Run(c.is, func(t *testing.T) {
			w := *w
			w.t = t
			g := w.grant()
			client := w.client(g)
			if err := c.do(client); err != nil {
				t.Error(err)
			}
			client.Close()
			w.session(g, 1).has(c.line...)
		})
	}
}

func TestTooManyChannels(t *testing.T) {
	w := newWorld(t)
	g := w.grant()
	c := w.client(g)
	defer c.Close()
	n := 0
	for ; n < maxChannels+1; n++ {
		if _, reqs, err := c.OpenChannel("session", nil); err != nil {
			break
		} else {
			go ssh.DiscardRequests(reqs)
		}
	}
	// sshd's own limit comes first here; either way it is an answer and the connection lives.
	if n != 40 {
		t.Errorf("%d channels", n)
	}
	if ok, _, err := c.SendRequest(keepalive, true, nil); err != nil || !ok {
		t.Errorf("keepalive: %v, %v", ok, err)
	}
}

// A panic cuts its own session, and the jump goes on.
func TestAPanicCutsOneSession(t *testing.T) {
	w := newWorld(t)
	g, other := w.grant(), w.grant()
	c, o := w.client(g), w.client(other)
	defer o.Close()
	var victim *session
	w.j.mu.Lock()
	for s := range w.j.sessions {
		if s.order.session == g.request.Session(1) {
			victim = s
		}
	}
	w.j.mu.Unlock()
	victim.spawn("a test", func() { panic("on purpose") })
	if err := c.Wait(); err == nil {
		t.Error("closed as if nothing had been")
	}
	rec := w.session(g, 1)
	rec.has("0 act panic")
	if rec.end == nil || rec.end.Reason != endPanic {
		t.Errorf("end %+v", rec.end)
	}
	s, err := o.NewSession()
	check(t, err)
	if b, err := s.Output("echo alive"); string(b) != "alive\n" {
		t.Errorf("the other session: %q, %v", b, err)
	}
	o.Close()
	if got := w.session(other, 1).data(transcript.KindOutput, 0); got != "alive\n" {
		t.Errorf("recorded %q", got)
	}
}
