package jump

import (
	"io"
	"net"
	"net/netip"
	"os"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"breakglass/internal/proxyproto"
	"breakglass/ledger"
)

// behind has the jump believe proxies at those addresses.
func behind(proxies ...string) func(*world) {
	return func(w *world) {
		l, err := proxyproto.ParseList(proxies)
		check(w.t, err)
		w.proxies = l
	}
}

// header is what a proxy sends for a client at the address.
func header(client string) []byte {
	return proxyproto.Append(nil, proxyproto.Header{Source: netip.AddrPortFrom(netip.MustParseAddr(client), 4711), Destination: netip.MustParseAddrPort("198.51.100.1:22")})
}

// enters says how a connection fares that begins with the bytes and goes on as the grant's client.
func (w *world) enters(g *grant, first []byte) error {
	c, err := net.Dial("tcp", w.jump)
	check(w.t, err)
	defer c.Close()
	c.SetDeadline(time.Now().Add(15 * time.Second))
	c.Write(first)
	sc, chans, reqs, err := ssh.NewClientConn(c, "web01", &ssh.ClientConfig{User: string(g.login), HostKeyCallback: ssh.InsecureIgnoreHostKey(),
		Auth: []ssh.AuthMethod{ssh.PublicKeys(withCert(w.t, g.cert, g.signer))}})
	if err != nil {
		return err
	}
	cl := ssh.NewClient(sc, chans, reqs)
	defer cl.Close()
	s, err := cl.NewSession()
	if err != nil {
		return err
	}
	return s.Run("true")
}

// TestBehindAProxy: a person comes from where the listed proxy says, in the certificate's check and in the CA's entry.
func TestBehindAProxy(t *testing.T) {
	w := newWorld(t, behind("127.0.0.1"))
	var peer string
	w.ca.mu.Lock()
	w.ca.change = func(o *ledger.SessionOpened) { peer = o.Peer }
	w.ca.mu.Unlock()
	g := w.grantFor("web01", w.login, "203.0.113.9", time.Now(), 30*time.Minute)
	if err := w.enters(g, header("203.0.113.9")); err != nil {
		t.Errorf("without a preamble: %v", err)
	}
	if err := w.enters(g, append(header("203.0.113.9"), Preamble("web01")...)); err != nil {
		t.Errorf("the person's preamble behind the proxy's header: %v", err)
	}
	if peer != "203.0.113.9" {
		t.Errorf("the CA was told of %s", peer)
	}
	if err := w.enters(g, header("::ffff:203.0.113.9")); err != nil {
		t.Errorf("a mapped address is the address: %v", err)
	}
	if err := w.enters(g, header("203.0.113.10")); err == nil {
		t.Error("a certificate for another address opens")
	}
	if n := w.strangers()[refusedSource]; n == 0 {
		t.Errorf("counted %v", w.strangers())
	}
	local := w.grant() // good from 127.0.0.1, which is the proxy's own address and nobody's behind it
	for _, c := range []struct {
		is, reason string
		first      []byte
	}{
		{"no header", refusedUnproxied, nil},
		{"a client's preamble in the place of the header", refusedUnproxied, Preamble("web01")},
		{"a second header that claims an address", refusedProxied, append(header("203.0.113.9"), header("127.0.0.1")...)},
		{"a malformed header", refusedPreamble, []byte("\r\n\r\n\x00\r\nQUIT\n\x21\x12\x00\x00SSH-2.0-x\r\n")},
	} {
		before := w.strangers()[c.reason]
		if err := w.enters(local, c.first); err == nil {
			t.Errorf("%s: let in", c.is)
		}
		if w.strangers()[c.reason] != before+1 {
			t.Errorf("%s: counted %v", c.is, w.strangers())
		}
	}
	// A health check is closed, and nobody's fault.
	before := w.strangers()
	c, err := net.Dial("tcp", w.jump)
	check(t, err)
	defer c.Close()
	c.Write(proxyproto.Append(nil, proxyproto.Header{Local: true}))
	c.SetReadDeadline(time.Now().Add(5 * time.Second))
	if b, err := io.ReadAll(c); len(b) > 0 || os.IsTimeout(err) {
		t.Errorf("health check: %q, %v", b, err)
	}
	for k, n := range w.strangers() {
		if n != before[k] {
			t.Errorf("a health check is counted as %s", k)
		}
	}
}

// TestNoProxyIsBelievedThatIsNotListed: whoever claims an address is cut off, and those who don't come in as before.
func TestNoProxyIsBelievedThatIsNotListed(t *testing.T) {
	w := newWorld(t, behind("192.0.2.1"))
	g := w.grant()
	if err := w.enters(g, nil); err != nil {
		t.Errorf("a plain connection: %v", err)
	}
	if err := w.enters(g, Preamble("web01")); err != nil {
		t.Errorf("a preamble: %v", err)
	}
	if err := w.enters(g, header("127.0.0.1")); err == nil {
		t.Error("a header from an address that isn't listed is taken")
	}
	if w.strangers()[refusedProxied] != 1 {
		t.Errorf("counted %v", w.strangers())
	}
}

// TestASlowProxyHoldsNothing: the header has its own deadline.
func TestASlowProxyHoldsNothing(t *testing.T) {
	w := newWorld(t, behind("127.0.0.1"))
	c, err := net.Dial("tcp", w.jump)
	check(t, err)
	defer c.Close()
	c.Write(header("203.0.113.9")[:10])
	c.SetReadDeadline(time.Now().Add(proxyTimeout + 5*time.Second))
	if b, err := io.ReadAll(c); len(b) > 0 || os.IsTimeout(err) {
		t.Errorf("%q, %v", b, err)
	}
	if n := w.j.unwrapping.Load(); n != 0 {
		t.Errorf("%d places are held", n)
	}
}
