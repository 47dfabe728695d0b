package roadtest

import (
	"crypto/tls"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"breakglass/internal/proxyproto"
	"breakglass/internal/road"
)

// relay is a proxy, which says of everybody that they come from client: PROXY v2, as haproxy's send-proxy-v2 does. It connects from an address of
// loopback.
func relay(t *testing.T, from, to, client string) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	header := proxyproto.Append(nil, proxyproto.Header{Source: netip.AddrPortFrom(netip.MustParseAddr(client), 4711), Destination: netip.MustParseAddrPort(l.Addr().String())})
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}
	go func() {
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer in.Close()
				out, err := d.DialContext(t.Context(), "tcp", to)
				if err != nil {
					return
				}
				defer out.Close()
				out.Write(header)
				go func() { io.Copy(out, in); out.Close() }()
				io.Copy(in, out)
			}()
		}
	}()
	return l.Addr().String()
}

// TestThroughAProxy: through a listed proxy a person gets in with their own address, in what the CA signs and at the jump; through one that isn't
// listed nobody gets as far as a greeting; and whoever comes directly does, as before.
func TestThroughAProxy(t *testing.T) {
	const listed, unlisted, home = "127.0.0.2", "127.0.0.3", "127.0.0.99"
	r, alice, _ := start(t, road.Config{Init: []string{"--proxy", listed}, Proxy: func(address string) string { return relay(t, listed, address, home) }})
	ctx := t.Context()
	// The jump learns of its proxy as an administrator tells it.
	path := filepath.Join(r.Dir, "jump", "config.toml")
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, append([]byte("proxies = [\""+listed+"/32\"]\n"), text...), 0o600); err != nil {
		t.Fatal(err)
	}
	r.End("jump", false)
	if err := r.StartJump(ctx); err != nil {
		t.Fatal(err)
	}
	out, err := alice.Command(ctx, "breakglass", "ssh", "--reason", reason, r.Login+"@"+road.Host, "echo", "reached-$((40+2))").CombinedOutput()
	if err != nil || !strings.Contains(string(out), "reached-42") {
		t.Errorf("through the listed proxy: %v\n%s", err, out)
	}
	// A request that the CA took from there is a certificate for there: the jump compared it with what its own proxy said.
	log, err := os.ReadFile(filepath.Join(r.Dir, "jump.log"))
	if err != nil || !strings.Contains(string(log), `"peer":"`+home+`"`) {
		t.Errorf("the jump saw another address: %v", err)
	}
	for _, c := range []struct {
		is, ca, jump string
		greeted      bool
	}{
		{"directly, from an address that isn't listed", r.CAAddress, r.JumpAddress, true},
		{"through a proxy that isn't listed", relay(t, unlisted, r.CAAddress, home), relay(t, unlisted, r.JumpAddress, home), false},
	} {
		tc, err := tls.Dial("tcp", c.ca, &tls.Config{InsecureSkipVerify: true})
		if (err == nil) != c.greeted {
			t.Errorf("%s, the CA: %v", c.is, err)
		}
		if err == nil {
			tc.Close()
		}
		jc, err := net.Dial("tcp", c.jump)
		if err != nil {
			t.Fatal(err)
		}
		jc.SetDeadline(time.Now().Add(10 * time.Second))
		b := make([]byte, 8)
		if _, err := io.ReadFull(jc, b); (err == nil && string(b) == "SSH-2.0-") != c.greeted || os.IsTimeout(err) {
			t.Errorf("%s, the jump: %v, %q", c.is, err, b)
		}
		jc.Close()
	}
}
