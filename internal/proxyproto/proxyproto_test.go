package proxyproto

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io"
	"net"
	"net/netip"
	"strings"
	"testing"

	peer "github.com/pires/go-proxyproto"
)

func v4() Header {
	return Header{Family: TCP4, Source: netip.MustParseAddrPort("203.0.113.9:4711"), Destination: netip.MustParseAddrPort("198.51.100.1:22")}
}

func v6() Header {
	return Header{Family: TCP6, Source: netip.MustParseAddrPort("[2001:db8::9]:4711"), Destination: netip.MustParseAddrPort("[2001:db8::1]:22")}
}

// TestAnotherImplementation: what go-proxyproto writes we read, and what we write it reads.
func TestAnotherImplementation(t *testing.T) {
	for _, want := range []Header{v4(), v6()} {
		p := &peer.Header{Version: 2, Command: peer.PROXY, TransportProtocol: peer.TCPv4,
			SourceAddr: net.TCPAddrFromAddrPort(want.Source), DestinationAddr: net.TCPAddrFromAddrPort(want.Destination)}
		if want.Family == TCP6 {
			p.TransportProtocol = peer.TCPv6
		}
		b, err := p.Format()
		if err != nil {
			t.Fatal(err)
		}
		got, err := Parse(b)
		if err != nil || got.Source != want.Source || got.Destination != want.Destination || got.Local {
			t.Errorf("%+v %v, want %+v", got, err, want)
		}
		if mine := Append(nil, want); !bytes.Equal(mine, b) {
			t.Errorf("%x, want %x", mine, b)
		}
		back, err := peer.Read(bufio.NewReader(bytes.NewReader(Append(nil, want))))
		if err != nil || back.SourceAddr.String() != want.Source.String() {
			t.Errorf("%v %v", back, err)
		}
	}
}

func TestParse(t *testing.T) {
	with := func(h Header, tlvs ...TLV) string {
		h.TLVs = tlvs
		return string(Append(nil, h))
	}
	at := func(s string, i int, c byte) string { return s[:i] + string([]byte{c}) + s[i+1:] }
	crc := func(right bool) string {
		b := []byte(with(v4(), TLV{typeCRC32C, make([]byte, 4)}))
		sum := crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli))
		if !right {
			sum++
		}
		binary.BigEndian.PutUint32(b[len(b)-4:], sum)
		return string(b)
	}
	mapped := v6()
	mapped.Source = netip.MustParseAddrPort("[::ffff:203.0.113.9]:4711")
	good := with(v4())
	for _, c := range []struct {
		is, b, source string // source "": refused; "local"
	}{
		{"an IPv4 client", good, "203.0.113.9:4711"},
		{"an IPv6 client", with(v6()), "[2001:db8::9]:4711"},
		{"a mapped IPv4 client is that IPv4 client", with(mapped), "203.0.113.9:4711"},
		{"TLVs behind the addresses", with(v4(), TLV{0xea, []byte("vpce-1")}, TLV{TypeAuthority, []byte("web01")}), "203.0.113.9:4711"},
		{"a right checksum", crc(true), "203.0.113.9:4711"},
		{"LOCAL", with(Header{Local: true}), "local"},
		{"LOCAL whose addresses mean nothing", at(good, 12, Local), "local"},

		{"a wrong checksum", crc(false), ""},
		{"a checksum of another length", with(v4(), TLV{typeCRC32C, []byte("12345")}), ""},
		{"version 1", "PROXY TCP4 203.0.113.9 198.51.100.1 4711 22\r\n", ""},
		{"version 3", at(good, 12, 0x31), ""},
		{"an unknown command", at(good, 12, 0x22), ""},
		{"UDP", at(good, 13, 0x12), ""},
		{"a Unix socket", at(good, 13, 0x31), ""},
		{"PROXY without an address", at(with(Header{Local: true}), 12, Proxy), ""},
		{"IPv6 in the room of IPv4", at(good, 13, TCP6), ""},
		{"addresses cut off", good[:len(good)-1], ""},
		{"bytes left over", good + "x", ""},
		{"a TLV that claims more than there is", at(with(v4(), TLV{1, []byte("abc")}), len(good)+2, 9), ""},
		{"half a TLV", strings.Replace(good, "\x11\x00\x0c", "\x11\x00\x0e", 1) + "\x01\x00", ""},
		{"a length over the limit", at(good, 14, 0xff), ""},
		{"a client from nowhere", strings.Replace(good, "\xcb\x00\x71\x09", "\x00\x00\x00\x00", 1), ""},
		{"nothing", "", ""},
	} {
		h, err := Parse([]byte(c.b))
		got := h.Source.String()
		switch {
		case err != nil:
			got = ""
		case h.Local:
			got = "local"
		}
		if got != c.source || err != nil && !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: %q, %v", c.is, got, err)
		}
	}
}

func TestReadTakesTheHeaderAlone(t *testing.T) {
	r := bytes.NewReader(append(Append(nil, v4()), "SSH-2.0-x\r\n"...))
	if h, err := Read(r); err != nil || h.Source != v4().Source {
		t.Fatalf("%+v %v", h, err)
	}
	if rest, _ := io.ReadAll(r); string(rest) != "SSH-2.0-x\r\n" {
		t.Errorf("left is %q", rest)
	}
	if _, err := Read(strings.NewReader("SSH-2.0-x\r\n")); !errors.Is(err, ErrMissing) {
		t.Error(err)
	}
}

func TestParseList(t *testing.T) {
	for s, ok := range map[string]bool{"10.0.0.5": true, "10.0.0.0/29": true, "::1": true, "2001:db8::/64": true, "::ffff:10.0.0.5": true,
		"10.0.0.5/29": false, "0.0.0.0/0": false, "10.0.0.0/8": false, "::/0": false, "2001:db8::/32": false, "lb1": false, "fe80::1%eth0": false, "": false} {
		l, err := ParseList([]string{s})
		if (err == nil) != ok {
			t.Errorf("%q: %v %v", s, l, err)
		}
	}
	l, _ := ParseList([]string{"::ffff:10.0.0.5"})
	if !Listed(l, netip.MustParseAddr("10.0.0.5")) || !Listed(l, netip.MustParseAddr("::ffff:10.0.0.5")) || Listed(l, netip.MustParseAddr("10.0.0.6")) {
		t.Error("a mapped address is the address")
	}
}

func FuzzParse(f *testing.F) {
	f.Add(Append(nil, v4()))
	f.Add(Append(nil, v6()))
	f.Add(Append(nil, Header{Local: true, TLVs: []TLV{{TypeAuthority, []byte("web01")}}}))
	f.Fuzz(func(t *testing.T, b []byte) {
		h, err := Parse(b)
		if err != nil {
			return
		}
		if len(b) > FixedLength+MaxLength || h.Source.Addr().Is4In6() || !h.Local && !h.Source.IsValid() {
			t.Fatalf("%x is %+v", b, h)
		}
		again, err := Read(bytes.NewReader(b))
		if err != nil || again.Source != h.Source {
			t.Fatalf("%+v, read is %+v, %v", h, again, err)
		}
	})
}
