package jump

import (
	"errors"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"breakglass/internal/sshcert"
	"breakglass/transcript"
)

// carrier is a connection under a user name that is no login: it may carry others, and is nothing itself.
func (w *world) carrier(g *grant) *ssh.Client {
	w.t.Helper()
	c, err := w.plain("who-ever", ssh.PublicKeys(withCert(w.t, g.cert, g.signer)))
	check(w.t, err)
	return c
}

// plain connects without a preamble.
func (w *world) plain(user string, auth ...ssh.AuthMethod) (*ssh.Client, error) {
	return ssh.Dial("tcp", w.jump, &ssh.ClientConfig{User: user, Auth: auth, HostKeyCallback: ssh.InsecureIgnoreHostKey(), Timeout: 10 * time.Second})
}

// tcpip is the extra data of a direct-tcpip channel.
func tcpip(host string, port uint32) []byte {
	return cat(str(host), u32(port), str("127.0.0.1"), u32(40000))
}

// inner logs in over a channel to port 22 of a name.
func inner(c *ssh.Client, user, host string, auth ...ssh.AuthMethod) (*ssh.Client, error) {
	ch, reqs, err := c.OpenChannel("direct-tcpip", tcpip(host, 22))
	if err != nil {
		return nil, err
	}
	go ssh.DiscardRequests(reqs)
	conn, chans, in, err := ssh.NewClientConn(&channelConn{Channel: ch}, host, &ssh.ClientConfig{User: user, Auth: auth, HostKeyCallback: ssh.InsecureIgnoreHostKey()})
	if err != nil {
		return nil, err
	}
	return ssh.NewClient(conn, chans, in), nil
}

// channelConn is a client's channel as a connection.
type channelConn struct {
	ssh.Channel
}

func (c *channelConn) LocalAddr() net.Addr              { return &net.TCPAddr{} }
func (c *channelConn) RemoteAddr() net.Addr             { return &net.TCPAddr{} }
func (c *channelConn) SetDeadline(time.Time) error      { return nil }
func (c *channelConn) SetReadDeadline(time.Time) error  { return nil }
func (c *channelConn) SetWriteDeadline(time.Time) error { return nil }

// An outer connection opens nothing, and costs the CA no question; what is inside it must prove itself as at any other door.
func TestAnOuterConnectionIsNoSession(t *testing.T) {
	w := newWorld(t)
	for _, c := range []struct {
		is   string
		do   func(c *ssh.Client) error
		want string // in the refusal
	}{
		{"a session", func(c *ssh.Client) error { _, _, err := c.OpenChannel("session", nil); return err }, "leads to hosts"},
		{"a host by its address", func(c *ssh.Client) error {
			_, _, err := c.OpenChannel("direct-tcpip", tcpip("127.0.0.1", 22))
			return err
		}, "by their names"},
		{"a host by its IPv6 address", func(c *ssh.Client) error { _, _, err := c.OpenChannel("direct-tcpip", tcpip("::1", 22)); return err }, "by their names"},
		{"another port", func(c *ssh.Client) error {
			_, _, err := c.OpenChannel("direct-tcpip", tcpip("web01", 5432))
			return err
		}, "by their names"},
		{"a name that is none", func(c *ssh.Client) error {
			_, _, err := c.OpenChannel("direct-tcpip", tcpip("Web 01\n", 22))
			return err
		}, "by their names"},
		{"extra data that is none", func(c *ssh.Client) error { _, _, err := c.OpenChannel("direct-tcpip", []byte{0, 0, 0, 99}); return err }, "by their names"},
		{"a socket", func(c *ssh.Client) error {
			_, _, err := c.OpenChannel("direct-streamlocal@openssh.com", cat(str("/run/x"), str(""), u32(0)))
			return err
		}, "by their names"},
		{"a listener", func(c *ssh.Client) error {
			ok, _, err := c.SendRequest("tcpip-forward", true, cat(str(""), u32(0)))
			if ok {
				return nil
			}
			return errors.Join(errors.New("refused"), err)
		}, "refused"},
		{"a host that the grant isn't for", func(c *ssh.Client) error {
			g := w.grant()
			_, err := inner(c, w.login, "db01", ssh.PublicKeys(withCert(t, g.cert, g.signer)))
			return err
		}, "unable to authenticate"},
	} {
		g := w.grant()
		o := w.carrier(g)
		err := c.do(o)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", c.is, err)
		}
		if ok, _, err := o.SendRequest(keepalive, true, nil); !ok || err != nil {
			t.Errorf("%s: then the connection is gone: %v", c.is, err)
		}
		o.Close()
	}
	w.ca.mu.Lock()
	asked := w.ca.asked
	w.ca.mu.Unlock()
	if asked != 0 {
		t.Errorf("the CA was asked %d times", asked)
	}
}

// What is inside an outer connection proves itself anew.
func TestInnerConnectionsProveThemselves(t *testing.T) {
	w := newWorld(t)
	g := w.grant()
	o := w.carrier(g)
	defer o.Close()
	mine := ssh.PublicKeys(withCert(t, g.cert, g.signer))

	// Somebody else's certificate, however good, doesn't come through this one's connection.
	bob := w.grant()
	cert := sshcert.NewClient(bob.signer.PublicKey(), "bob", sshcert.Grant{Request: bob.request, Login: bob.login, Host: bob.host}, parseAddrs("127.0.0.1"), time.Now(), time.Now().Add(time.Minute))
	bobs, err := sign(cert, sshcert.Client, w.ca.clientCA)
	check(t, err)
	for _, c := range []struct {
		is, user, host string
		auth           []ssh.AuthMethod
		reason         string
	}{
		{"another person's certificate", w.login, "web01", []ssh.AuthMethod{ssh.PublicKeys(withCert(t, bobs, bob.signer))}, refusedPerson},
		{"the same certificate for another login", "nobody", "web01", []ssh.AuthMethod{mine}, refusedLogin},
		{"the same certificate for another host", w.login, "web02", []ssh.AuthMethod{mine}, refusedHost},
		{"a user name that names another host", w.login + "@web02", "web01", []ssh.AuthMethod{mine}, refusedLogin},
		{"the plain key", w.login, "web01", []ssh.AuthMethod{ssh.PublicKeys(g.signer)}, refusedNoCert},
		{"no key at all", w.login, "web01", nil, ""},
	} {
		before := w.strangers()
		if in, err := inner(o, c.user, c.host, c.auth...); err == nil {
			in.Close()
			t.Errorf("%s: was let in", c.is)
		}
		if c.reason != "" && w.strangers()[c.reason] != before[c.reason]+1 {
			t.Errorf("%s: counted %v, want one more %s", c.is, w.strangers(), c.reason)
		}
	}

	// Two inner connections are two sessions, and a connection inside a connection inside a connection is a forward like any other.
	for n := 1; n <= 2; n++ {
		in, err := inner(o, w.login, "web01", mine)
		check(t, err)
		s, err := in.NewSession()
		check(t, err)
		if b, err := s.Output(fmt.Sprint("echo ", n)); string(b) != fmt.Sprintln(n) {
			t.Errorf("session %d: %q, %v", n, b, err)
		}
		if _, _, err := in.OpenChannel("direct-tcpip", tcpip("web01", 22)); err == nil || !strings.Contains(err.Error(), "is not in this grant") {
			t.Errorf("a jump inside a jump: %v", err)
		}
		in.Close()
		rec := w.session(g, n)
		if got := rec.data(transcript.KindOutput, 0); got != fmt.Sprintln(n) {
			t.Errorf("recorded %q", got)
		}
		rec.has("denied person direct-tcpip")
	}
	if ok, _, err := o.SendRequest(keepalive, true, nil); !ok || err != nil {
		t.Errorf("the outer connection ended with what was inside: %v", err)
	}
}

// User names that name a host are held against the certificate, and so is a preamble beside them.
func TestUserNamesThatNameAHost(t *testing.T) {
	w := newWorld(t)
	g := w.grant()
	mine := ssh.PublicKeys(withCert(t, g.cert, g.signer))
	for _, c := range []struct{ user, preamble, reason string }{
		{w.login + "@web02", "", refusedHost},
		{"nobody@web01", "", refusedLogin},
		{w.login + "@web01", "web02", refusedLogin}, // with a preamble the user name is a login
		{w.login + "@web01", "web01", refusedLogin},
		{w.login + "@web02@web01", "", refusedHost},
		{"@web01", "", refusedLogin},
		{w.login + "@", "", refusedHost},
		{w.login + "@web01\n", "", refusedHost},
		{w.login + "@WEB01", "", refusedHost},
	} {
		before := w.strangers()
		var err error
		if c.preamble == "" {
			_, err = w.dialAs(c.user, "", mine)
		} else {
			_, err = w.dialAs(c.user, "web02", mine)
		}
		if err == nil {
			t.Errorf("%q: was let in", c.user)
		}
		if w.strangers()[c.reason] != before[c.reason]+1 {
			t.Errorf("%q, preamble %q: counted %v, want one more %s", c.user, c.preamble, w.strangers(), c.reason)
		}
	}
	if c, err := w.plain(w.login+"@web01", mine); err != nil {
		t.Errorf("the right name: %v", err)
	} else {
		c.Close()
		w.session(g, 1)
	}
}

// An outer connection is bounded: in what it carries, and in how long it stays without.
func TestAnOuterConnectionIsBounded(t *testing.T) {
	w := newWorld(t)
	o := w.carrier(w.grant())
	defer o.Close()
	var open []ssh.Channel
	for range maxInner + 3 {
		// The handshake is never finished: these count among the strangers' places, and end with their time.
		ch, reqs, err := o.OpenChannel("direct-tcpip", tcpip("web01", 22))
		if err != nil {
			if !strings.Contains(err.Error(), "no more than") {
				t.Errorf("%v", err)
			}
			break
		}
		go ssh.DiscardRequests(reqs)
		open = append(open, ch)
	}
	if len(open) != maxInner {
		t.Errorf("%d inner connections", len(open))
	}
	// Somebody else still comes in.
	g := w.grant()
	if r := w.ssh(g, nil, "echo in"); r.stdout != "in\n" {
		t.Errorf("%+v", r)
	}
	o.Close()
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		w.j.caps.mu.Lock()
		left := w.j.caps.all
		w.j.caps.mu.Unlock()
		if left == 0 && w.j.caps.outers.Load() == 0 {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("%d places among the unproven and %d among the outer ones are still taken", left, w.j.caps.outers.Load())
		}
	}
}

// One person holds only so many connections that lead nowhere; those that name their host are none of them.
func TestNobodyTakesEveryOuterPlace(t *testing.T) {
	w := newWorld(t)
	g := w.grant()
	mine := ssh.PublicKeys(withCert(t, g.cert, g.signer))
	var open []*ssh.Client
	defer func() {
		for _, c := range open {
			c.Close()
		}
	}()
	for range maxOutersPerPerson + 1 {
		c, err := w.plain("who-ever", mine)
		if err != nil {
			break
		}
		open = append(open, c)
	}
	if len(open) != maxOutersPerPerson {
		t.Errorf("%d outer connections", len(open))
	}
	if r := w.ssh(g, nil, "echo in"); r.stdout != "in\n" {
		t.Errorf("%+v", r)
	}
	open[0].Close()
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		if c, err := w.plain("who-ever", mine); err == nil {
			open[0] = c
			return
		}
		if time.Now().After(end) {
			t.Fatal("a place that was left isn't free")
		}
	}
}
