package jump

import (
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"breakglass/internal/name"
	"breakglass/internal/sshcert"
)

// dialAs opens a connection as a client that tries just these keys; it gives the banners that it was shown.
func (w *world) dialAs(user string, preamble name.Host, auth ...ssh.AuthMethod) (banners string, err error) {
	c, err := net.Dial("tcp", w.jump)
	check(w.t, err)
	defer c.Close()
	if preamble != "" {
		c.Write(Preamble(preamble))
	}
	var b strings.Builder
	conn, chans, reqs, err := ssh.NewClientConn(c, w.jump, &ssh.ClientConfig{User: user, Auth: auth, Timeout: 10 * time.Second,
		HostKeyCallback: ssh.InsecureIgnoreHostKey(), // judged in other tests
		BannerCallback:  func(m string) error { b.WriteString(m); return nil }})
	if err == nil {
		go ssh.DiscardRequests(reqs)
		go func() {
			for nc := range chans {
				nc.Reject(ssh.Prohibited, "")
			}
		}()
		conn.Close()
	}
	return b.String(), err
}

func withCert(t testing.TB, c *ssh.Certificate, s ssh.Signer) ssh.Signer {
	cs, err := ssh.NewCertSigner(c, s)
	check(t, err)
	return cs
}

func TestWhoIsRefusedAtTheQuery(t *testing.T) {
	w := newWorld(t)
	other := newAuthority(t, t.TempDir())
	now := time.Now()
	key := loadKey(t, t.TempDir(), "k")
	g := sshcert.Grant{Request: "k7f-2mq", Login: name.Login(w.login), Host: "web01"}
	good := w.ca.client(t, key.PublicKey(), g, "127.0.0.1", now, time.Minute)
	session, err := sign(sshcert.NewSession(key.PublicKey(), "alice", g, parseAddrs("127.0.0.1"), false, now, sshcert.SessionSlack), sshcert.Session, w.ca.sessionCA)
	check(t, err)
	// A session certificate signed by the client CA would have the wrong shape; one by its own CA the wrong issuer too.
	sessionByClientCA, err := sign(sshcert.NewSession(key.PublicKey(), "alice", g, parseAddrs("127.0.0.1"), false, now, sshcert.SessionSlack), sshcert.Session, w.ca.clientCA)
	check(t, err)
	everybody := *good
	everybody.ValidPrincipals = nil
	check(t, everybody.SignCert(randReader, w.ca.clientCA))
	noTouch := *good
	noTouch.Extensions = map[string]string{"permit-pty": "", "no-touch-required": ""}
	check(t, noTouch.SignCert(randReader, w.ca.clientCA))
	forever := *good
	forever.ValidBefore = ssh.CertTimeInfinity
	check(t, forever.SignCert(randReader, w.ca.clientCA))
	for _, c := range []struct {
		is       string
		user     string
		preamble name.Host
		auth     ssh.AuthMethod
		reason   string
	}{
		{"a plain key", w.login, "web01", ssh.PublicKeys(key), refusedNoCert},
		{"a certificate by another CA", w.login, "web01", ssh.PublicKeys(withCert(t, other.client(t, key.PublicKey(), g, "127.0.0.1", now, time.Minute), key)), refusedIssuer},
		{"an expired certificate", w.login, "web01", ssh.PublicKeys(withCert(t, w.ca.client(t, key.PublicKey(), g, "127.0.0.1", now.Add(-time.Hour), time.Minute), key)), refusedExpired},
		{"a certificate of the future", w.login, "web01", ssh.PublicKeys(withCert(t, w.ca.client(t, key.PublicKey(), g, "127.0.0.1", now.Add(time.Hour), time.Minute), key)), refusedEarly},
		{"a certificate for another address", w.login, "web01", ssh.PublicKeys(withCert(t, w.ca.client(t, key.PublicKey(), g, "192.0.2.7", now, time.Minute), key)), refusedSource},
		{"a certificate for another login", "nobody", "web01", ssh.PublicKeys(withCert(t, good, key)), refusedLogin},
		{"a certificate for another host", w.login, "web02", ssh.PublicKeys(withCert(t, good, key)), refusedHost},
		{"a session certificate", w.login, "web01", ssh.PublicKeys(withCert(t, session, key)), refusedShape},
		{"a session certificate by the client CA", w.login, "web01", ssh.PublicKeys(withCert(t, sessionByClientCA, key)), refusedShape},
		{"a certificate without a principal", w.login, "web01", ssh.PublicKeys(withCert(t, &everybody, key)), refusedShape},
		{"a certificate that waives the touch", w.login, "web01", ssh.PublicKeys(withCert(t, &noTouch, key)), refusedShape},
		{"a certificate for ever", w.login, "web01", ssh.PublicKeys(withCert(t, &forever, key)), refusedShape},
		{"a password", w.login, "web01", ssh.Password("x"), ""},
	} {
		before := w.strangers()
		_, err := w.dialAs(c.user, c.preamble, c.auth)
		if err == nil {
			t.Errorf("%s: was let in", c.is)
			continue
		}
		if c.reason != "" && w.strangers()[c.reason] != before[c.reason]+1 {
			t.Errorf("%s: counted %v, want one more %s", c.is, w.strangers(), c.reason)
		}
	}
	if _, err := w.dialAs(w.login, "web01"); err == nil {
		t.Error("`none` was let in")
	}
	w.ca.mu.Lock()
	asked := w.ca.asked
	w.ca.mu.Unlock()
	if asked != 0 {
		t.Errorf("the CA was asked %d times about strangers", asked)
	}
	// The same key with the right certificate comes in: so the refusals above were for what they say.
	if _, err := w.dialAs(w.login, "web01", ssh.PublicKeys(withCert(t, good, key))); err != nil {
		t.Errorf("the good certificate: %v", err)
	}
	w.j.tellStrangers()
	f := w.fact("strangers.summed", "")
	if !strings.Contains(f.Body, refusedIssuer) || !strings.Contains(f.Body, "127.0.0.0/24") {
		t.Errorf("sum: %s", f.Body)
	}
}

func TestSeveralCertificatesTheRightOneIsFound(t *testing.T) {
	w := newWorld(t)
	key := loadKey(t, t.TempDir(), "k")
	now := time.Now()
	var signers []ssh.Signer
	for _, h := range []name.Host{"db01", "db02", "db03", "web01"} {
		g := sshcert.Grant{Request: name.NewRequestID(), Login: name.Login(w.login), Host: h}
		signers = append(signers, withCert(t, w.ca.client(t, key.PublicKey(), g, "127.0.0.1", now, time.Minute), key))
	}
	if _, err := w.dialAs(w.login, "web01", ssh.PublicKeys(signers...)); err != nil {
		t.Error(err)
	}
}

// A stranger holds a connection no longer than allowed, whatever they send or don't.
func TestPreamblesOnTheWire(t *testing.T) {
	w := newWorld(t)
	for _, c := range []struct {
		is, send, reason string
	}{
		{"a PROXY header with an address", "\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x0c\x01\x02\x03\x04\x7f\x00\x00\x01\x00\x50\x00\x16SSH-2.0-x\r\n", refusedProxied},
		{"a malformed preamble", "\r\n\r\nGET / HTTP/1.1\r\n\r\n", refusedPreamble},
	} {
		conn, err := net.Dial("tcp", w.jump)
		check(t, err)
		conn.Write([]byte(c.send))
		conn.SetReadDeadline(time.Now().Add(3 * time.Second))
		n, err := conn.Read(make([]byte, 100))
		if n != 0 || os.IsTimeout(err) {
			t.Errorf("%s: %d bytes, %v", c.is, n, err)
		}
		conn.Close()
		if w.strangers()[c.reason] != 1 {
			t.Errorf("%s: counted %v", c.is, w.strangers())
		}
	}
	// One that waits for our identification string gets it, a little later.
	conn, err := net.Dial("tcp", w.jump)
	check(t, err)
	defer conn.Close()
	conn.SetReadDeadline(time.Now().Add(5 * time.Second))
	b := make([]byte, 100)
	n, err := conn.Read(b)
	if err != nil || !strings.HasPrefix(string(b[:n]), "SSH-2.0-breakglass") {
		t.Errorf("silent client got %q, %v", b[:n], err)
	}
}

func TestUnprovenConnectionsAreCapped(t *testing.T) {
	w := newWorld(t)
	var held []net.Conn
	defer func() {
		for _, c := range held {
			c.Close()
		}
	}()
	for range maxUnprovenPerNetwork {
		c, err := net.Dial("tcp", w.jump)
		check(t, err)
		c.Write([]byte("SSH-2.0-idle\r\n"))
		held = append(held, c)
	}
	for i := 0; ; i++ {
		w.j.caps.mu.Lock()
		n := w.j.caps.all
		w.j.caps.mu.Unlock()
		if n == maxUnprovenPerNetwork {
			break
		}
		if i > 500 {
			t.Fatalf("%d connections counted", n)
		}
		time.Sleep(10 * time.Millisecond)
	}
	c, err := net.Dial("tcp", w.jump)
	check(t, err)
	defer c.Close()
	c.SetReadDeadline(time.Now().Add(5 * time.Second))
	if n, err := c.Read(make([]byte, 1)); n != 0 || os.IsTimeout(err) {
		t.Errorf("one above the cap: %d bytes, %v", n, err)
	}
	if w.strangers()[refusedBusy] != 1 {
		t.Errorf("counted %v", w.strangers())
	}
	held[0].Close()
	for i := 0; ; i++ {
		g := w.grant()
		if _, err := w.dialAs(w.login, "web01", ssh.PublicKeys(withCert(t, g.cert, g.signer))); err == nil {
			break
		} else if i > 50 {
			t.Fatalf("no place was freed: %v", err)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

func TestHandshakeDeadline(t *testing.T) {
	if testing.Short() {
		t.Skip("waits for the deadline")
	}
	t.Parallel()
	w := newWorld(t)
	c, err := net.Dial("tcp", w.jump)
	check(t, err)
	defer c.Close()
	c.Write([]byte("SSH-2.0-slow\r\n"))
	began := time.Now()
	c.SetReadDeadline(began.Add(handshakeTimeout + 5*time.Second))
	b := make([]byte, 4096)
	for err == nil {
		_, err = c.Read(b)
	}
	if os.IsTimeout(err) {
		t.Fatal("still open after the deadline")
	}
	if d := time.Since(began); d < handshakeTimeout-2*time.Second {
		t.Errorf("closed after %v", d)
	}
	if w.strangers()[refusedSlow] != 1 {
		t.Errorf("counted %v", w.strangers())
	}
}
