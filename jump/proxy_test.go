package jump

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
)

// said is a proxy that says in, whatever it is asked.
type said struct {
	in    io.Reader
	asked bytes.Buffer
}

func (s *said) Read(b []byte) (int, error)  { return s.in.Read(b) }
func (s *said) Write(b []byte) (int, error) { return s.asked.Write(b) }

// TestProxyTakesNothingOfTheHost: of what comes after the answer not one byte is read.
func TestProxyTakesNothingOfTheHost(t *testing.T) {
	const host = "SSH-2.0-host\r\n\r\n"
	for name, c := range map[string]struct {
		connect func(io.ReadWriter, string, string) error
		answer  string
		asked   string
	}{
		"socks5, IPv4": {socksConnect, "\x05\x00\x05\x00\x00\x01\x0a\x00\x00\x01\x04\x38", "\x05\x01\x00\x05\x01\x00\x04" + strings.Repeat("\x00", 15) + "\x01\x00\x16"},
		"socks5, IPv6": {socksConnect, "\x05\x00\x05\x00\x00\x04" + strings.Repeat("\x01", 16) + "\x04\x38", ""},
		"socks5, name": {socksConnect, "\x05\x00\x05\x00\x00\x03\x00\x04\x38", ""},
		"http":         {httpConnect, "HTTP/1.1 200\r\n\r\n", "CONNECT [::1]:22 HTTP/1.1\r\nHost: [::1]:22\r\n\r\n"},
		"http, bare":   {httpConnect, "HTTP/1.0 204 ok\nA: b\n\n", ""},
	} {
		s := &said{in: strings.NewReader(c.answer + host)}
		if err := c.connect(s, "::1", "22"); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if rest, _ := io.ReadAll(s.in); string(rest) != host {
			t.Errorf("%s: left is %q", name, rest)
		}
		if c.asked != "" && s.asked.String() != c.asked {
			t.Errorf("%s: asked was %q", name, s.asked.String())
		}
	}
}

// TestViaAddressesAreAddresses: nothing but a policy's address gets into a request.
func TestViaAddressesAreAddresses(t *testing.T) {
	for _, a := range []string{"a b:22", "a\r\nX: y:22", "a:22\r\n", "a:x", "a", ":22", "a:0", "a/b:22", "fe80::1%eth0", strings.Repeat("a", 300) + ":22"} {
		if host, port, err := splitAddress(a); err == nil {
			t.Errorf("%q is %q, %q", a, host, port)
		}
	}
	for _, a := range []string{"10.0.0.1:22", "[fd00::1]:2222", "web01.example.net:22"} {
		if _, _, err := splitAddress(a); err != nil {
			t.Errorf("%q: %v", a, err)
		}
	}
}

// FuzzProxies: whatever a proxy says, it is opened, or refused with an error of ours; and no more is read than is bounded.
func FuzzProxies(f *testing.F) {
	for _, s := range []string{"", "\x05\x00\x05\x00\x00\x01\x0a\x00\x00\x01\x04\x38x", "\x05\x00\x05\x00\x00\x03\xffabc", "\x05\xff", "\x04\x00", "\x05\x00\x05\x02\x00\x01",
		"HTTP/1.1 200 OK\r\n\r\nSSH-", "HTTP/1.1 407 no\r\n\r\n", "HTTP/1.1 2000 x\r\n\r\n", "HTTP/2 200\r\n\r\n", "HTTP/1.1 200 OK\r\n" + strings.Repeat("a", maxHeader), "HTTP/1.1 20\x00 "} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		for kind, connect := range map[string]func(io.ReadWriter, string, string) error{"socks5": socksConnect, "http": httpConnect} {
			s := &said{in: bytes.NewReader(in)}
			err := connect(s, "web01.example.net", "22")
			rest, _ := io.ReadAll(s.in)
			if read := len(in) - len(rest); read > maxHeader {
				t.Errorf("%s: %d bytes were read", kind, read)
			}
			if err != nil && !errors.Is(err, errProxy) && !errors.Is(err, errNoWay) {
				t.Errorf("%s: %v", kind, err)
			}
			if err != nil && len(err.Error()) > 500 {
				t.Errorf("%s: an error of %d bytes", kind, len(err.Error()))
			}
		}
	})
}
