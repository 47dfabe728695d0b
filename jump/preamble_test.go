package jump

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"breakglass/internal/name"
)

func TestPreamble(t *testing.T) {
	good := string(Preamble("web01"))
	at := func(i int, c byte) string {
		b := []byte(good)
		b[i] = c
		return string(b)
	}
	for _, c := range []struct {
		is   string
		b    string
		host name.Host
		err  error
	}{
		{"the authority alone names the host", good, "web01", nil},
		{"a PROXY command speaks for another address", at(12, 0x21), "", errProxied},
		{"an address family may bring addresses, even with LOCAL", at(13, 0x11), "", errProxied},
		{"version 1 is not read", at(12, 0x10), "", errPreamble},
		{"an unknown command", at(12, 0x22), "", errPreamble},
		{"another signature", at(11, 'x'), "", errPreamble},
		{"a TLV of another type", at(16, 0x01), "", errPreamble},
		{"a TLV that claims more than there is", at(18, 9), "", errPreamble},
		{"a TLV that leaves bytes over", at(18, 4), "", errPreamble},
		{"no TLV", at(15, 0), "", errPreamble},
		{"a name in upper case", string(Preamble("WEB01")), "", errPreamble},
		{"a name with a path in it", string(Preamble("../x")), "", errPreamble},
		{"an empty name", string(Preamble("")), "", errPreamble},
		{"a name over its limit", string(Preamble(name.Host(strings.Repeat("a", name.MaxLen+1)))), "", errPreamble},
		{"a length over the limit, before anything is read", at(14, 0xff), "", errPreamble},
		{"two TLVs", strings.Replace(good, "\x00\x08\x02", "\x00\x10\x02", 1) + "\x02\x00\x05web02", "", errPreamble},
	} {
		h, err := preambleHost([]byte(c.b))
		if h != c.host || !errors.Is(err, c.err) {
			t.Errorf("%s: got %q, %v", c.is, h, err)
		}
	}
}

func FuzzPreamble(f *testing.F) {
	f.Add(Preamble("web01"))
	f.Add([]byte("\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x0c\x7f\x00\x00\x01\x7f\x00\x00\x01\x00\x50\x00\x16"))
	f.Add([]byte("SSH-2.0-OpenSSH_9.2p1\r\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		h, err := preambleHost(b)
		if err != nil {
			return
		}
		if _, err := name.ParseHost(string(h)); err != nil {
			t.Fatalf("host %q passed", h)
		}
		// One spelling: what is accepted is what Preamble writes.
		if p := Preamble(h); !bytes.Equal(b[:len(p)], p) {
			t.Fatalf("%q is read as %q", b, h)
		}
	})
}
