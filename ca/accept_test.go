package ca_test

import (
	"bytes"
	"crypto/tls"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"breakglass/ca"
	"breakglass/ca/api"
	"breakglass/ca/catest"
	"breakglass/internal/loopback"
	"breakglass/internal/proxyproto"
	"breakglass/internal/sshcert"
	"breakglass/internal/statement"
	"breakglass/ledger"
)

// proxy is a relay at 127.0.0.7 in front of the CA. It says of everybody that they come from client; if that is "", it says nothing.
func proxy(t *testing.T, to, client string) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	catest.Must(t, err)
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer in.Close()
				out, err := as("127.0.0.7", to)
				if err != nil {
					return
				}
				defer out.Close()
				if client != "" {
					out.Write(headerOf(client))
				}
				go func() { io.Copy(out, in); out.Close() }()
				io.Copy(in, out)
			}()
		}
	}()
	return l.Addr().String()
}

func headerOf(client string) []byte {
	return proxyproto.Append(nil, proxyproto.Header{Source: netip.AddrPortFrom(netip.MustParseAddr(client), 4711), Destination: netip.MustParseAddrPort("198.51.100.1:443")})
}

// as connects from an address of loopback.
func as(from, to string) (net.Conn, error) {
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}, Timeout: 5 * time.Second}
	return d.Dial("tcp", to)
}

// sums are what the strangers' entries count.
func sums(t *testing.T, c *catest.CA) map[string]int64 {
	t.Helper()
	out := map[string]int64{}
	for _, e := range c.Entries() {
		if f, ok := e.Facts.(*ledger.StrangersSummed); ok {
			for _, n := range f.Counts {
				out[n.Reason] += n.Count
			}
		}
	}
	return out
}

// TestBehindAProxy: whoever comes through a listed proxy comes from where it says; nobody else is believed.
func TestBehindAProxy(t *testing.T) {
	c := catest.New(t, catest.Config{Proxies: []string{"127.0.0.7"}, Policy: strings.Replace(catest.Policy, "[always]", "[always]\nsecond_country = \"allow\"", 1)})
	alice := c.Enrol("alice")
	direct := c.Address
	at := func(address string) {
		c.Pins.Site.Addresses = []string{address}
		alice.Client = c.Client(nil)
	}
	for client, want := range map[string]string{"203.0.113.9": "203.0.113.9", "2001:db8::9": "2001:db8::9", "::ffff:203.0.113.10": "203.0.113.10"} {
		at(proxy(t, direct, client))
		g, err := alice.Request("root", "web01")
		catest.Must(t, err)
		e := c.Entries()
		found := false
		for _, x := range e {
			if f, ok := x.Facts.(*ledger.GrantAllowed); ok && x.Subject.Request == g.ID {
				found = len(f.Used.Addresses) == 1 && f.Used.Addresses[0].Address == want
			}
			if x.Type() == "request.opened" && x.Subject.Request == g.ID {
				var st statement.Request
				catest.Must(t, statement.Parse([]byte(x.Statement), &st))
				if len(st.Sources) != 1 || st.Sources[0] != want {
					t.Errorf("%s: signed for %v", client, st.Sources)
				}
			}
		}
		if !found {
			t.Errorf("%s: the entry names another address", client)
		}
		cert, err := sshcert.Parse([]byte(g.Certificate))
		catest.Must(t, err)
		if err := sshcert.FromSource(cert, netip.MustParseAddr(want)); err != nil || sshcert.FromSource(cert, netip.MustParseAddr("127.0.0.7")) == nil {
			t.Errorf("%s: the certificate is for %s", client, cert.CriticalOptions[sshcert.OptionSourceAddress])
		}
	}
	at(proxy(t, direct, ""))
	if _, err := alice.Request("root", "web01"); err == nil {
		t.Error("a proxy without a header is taken for the person")
	}
	// Somebody who isn't listed.
	closed := func(from string, first []byte) {
		t.Helper()
		nc, err := as(from, direct)
		catest.Must(t, err)
		defer nc.Close()
		nc.Write(first)
		nc.SetReadDeadline(time.Now().Add(10 * time.Second))
		if b, err := io.ReadAll(nc); len(b) > 0 || os.IsTimeout(err) {
			t.Errorf("%s: %q, %v", from, b, err)
		}
	}
	closed("127.0.0.8", headerOf("203.0.113.9"))
	closed("127.0.0.8", proxyproto.Append(nil, proxyproto.Header{Local: true}))
	closed("127.0.0.7", []byte("PROXY TCP4 203.0.113.9 198.51.100.1 4711 443\r\n"))
	closed("127.0.0.7", append([]byte("\r\n\r\n\x00\r\nQUIT\n\x21\x12\x00\x0c"), make([]byte, 12)...))
	closed("127.0.0.7", proxyproto.Append(nil, proxyproto.Header{Local: true})) // a health check
	closed("127.0.0.7", headerOf("203.0.113.9")[:9])                            // slow for ever
	c.Stop()
	c.Start()
	got := sums(t, c)
	if got["proxy_header"] != 2 || got["bad_proxy_header"] != 1 || got["no_proxy_header"] < 2 {
		t.Errorf("counted %v", got)
	}
	at(direct)
	if _, err := alice.Request("root", "web01"); err != nil {
		t.Errorf("without a proxy, from an address that isn't listed: %v", err)
	}
	c.Audit()
}

// TestNoLineOfHTTPIsBelieved: whatever a header says, what is to be signed names the connection's other end.
func TestNoLineOfHTTPIsBelieved(t *testing.T) {
	c := catest.New(t, catest.Config{Limits: ca.FileLimits{Network: 100, NetworkBurst: 100}})
	alice := c.Enrol("alice")
	ask, err := json.Marshal(alice.Want(catest.NewKey(t).PublicKey()))
	catest.Must(t, err)
	h := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}
	for _, name := range []string{"X-Forwarded-For", "Forwarded", "X-Real-Ip", "True-Client-Ip", "Cf-Connecting-Ip", "X-Client-Ip", "X-Cluster-Client-Ip"} {
		for _, value := range []string{"203.0.113.9", "for=203.0.113.9"} {
			q, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "https://"+c.Address+"/v1/requests", bytes.NewReader(ask))
			catest.Must(t, err)
			q.Header.Set("Content-Type", "application/json")
			q.Header.Set(name, value)
			a, err := h.Do(q)
			catest.Must(t, err)
			b, err := io.ReadAll(a.Body)
			catest.Must(t, errors.Join(err, a.Body.Close()))
			var ch api.Challenge
			catest.Must(t, json.Unmarshal(b, &ch))
			var st statement.Request
			if err := statement.Parse([]byte(ch.Statement), &st); err != nil || len(st.Sources) != 1 || st.Sources[0] != "127.0.0.1" {
				t.Errorf("%s: %s: %v, %s", name, value, err, b)
			}
		}
	}
}

// TestSeveralAddresses: the CA is there at each; one that can't be had is named, and nothing is served.
func TestSeveralAddresses(t *testing.T) {
	free, err := loopback.Addresses(1)
	catest.Must(t, err)
	more := []string{free[0]}
	if l, err := net.Listen("tcp", "[::1]:0"); err == nil {
		more = append(more, l.Addr().String())
		l.Close()
	}
	c := catest.New(t, catest.Config{More: more})
	if len(c.Pins.Site.Addresses) != 1+len(more) {
		t.Errorf("pinned are %v", c.Pins.Site.Addresses)
	}
	for _, a := range more {
		nc, err := tls.Dial("tcp", a, &tls.Config{InsecureSkipVerify: true})
		if err != nil {
			t.Errorf("%s: %v", a, err)
			continue
		}
		nc.Close()
	}
	c.Stop()
	taken, err := net.Listen("tcp", more[0])
	catest.Must(t, err)
	defer taken.Close()
	again, err := ca.Open(ca.Config{Dir: c.Dir, Logger: slog.New(slog.DiscardHandler)})
	catest.Must(t, err)
	defer again.Close()
	if err := again.Serve(t.Context()); err == nil || !strings.Contains(err.Error(), more[0]) {
		t.Errorf("serving beside a taken address: %v", err)
	}
	if nc, err := net.DialTimeout("tcp", c.Address, time.Second); err == nil {
		nc.Close()
		t.Error("the first address is served all the same")
	}
}

// TestSlowHeadersShutOutNobody who comes another way, and those behind the proxy for the deadline only.
func TestSlowHeadersShutOutNobody(t *testing.T) {
	c := catest.New(t, catest.Config{Proxies: []string{"127.0.0.7"}})
	alice := c.Enrol("alice")
	direct := c.Address
	for range 300 { // more than there are places
		nc, err := as("127.0.0.7", direct)
		catest.Must(t, err)
		defer nc.Close()
		nc.Write(headerOf("203.0.113.9")[:5])
	}
	began := time.Now()
	if _, err := alice.Request("root", "web01"); err != nil || time.Since(began) > 2*time.Second {
		t.Errorf("directly, beside 300 slow headers: %v after %v", err, time.Since(began))
	}
	c.Pins.Site.Addresses = []string{proxy(t, direct, "203.0.113.10")}
	for end := time.Now().Add(15 * time.Second); ; time.Sleep(200 * time.Millisecond) {
		alice.Client = c.Client(nil)
		_, err := alice.Request("root", "web01")
		if err == nil {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("through the proxy, long after the slow ones' deadline: %v", err)
		}
	}
}
