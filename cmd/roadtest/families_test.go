package roadtest

import (
	"net"
	"strings"
	"testing"

	"breakglass/internal/road"
	"breakglass/internal/sshcert"
	"breakglass/ledger"
)

// TestOverBothFamilies: a CA that is there over IPv4 and IPv6 hands out a grant that is good from both, without anybody asking for it.
func TestOverBothFamilies(t *testing.T) {
	l, err := net.Listen("tcp", "[::1]:0")
	if err != nil {
		t.Skipf("this machine has no IPv6 on loopback: %v", err)
	}
	six := l.Addr().String()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	r, alice, _ := start(t, road.Config{Init: []string{"--listen", six, "--advertise", six}})
	out, err := alice.Run(t.Context(), "breakglass", "ssh", "--reason", reason, alice.Target(), "--", "echo in")
	if err != nil || strings.TrimSpace(out) != "in" {
		t.Fatalf("%v\n%s", err, out)
	}
	e := entry(t, r, func(*ledger.GrantAllowed) bool { return true })
	var from []string
	for _, a := range e.Used.Addresses {
		from = append(from, a.Address)
	}
	if strings.Join(from, " ") != "127.0.0.1 ::1" && strings.Join(from, " ") != "::1 127.0.0.1" {
		t.Errorf("judged were %v", from)
	}
	cert := entry(t, r, func(f *ledger.CertificateIssued) bool { return f.Kind == string(sshcert.Client) })
	c, err := sshcert.Parse([]byte(cert.Certificate))
	if err != nil {
		t.Fatal(err)
	}
	if s := c.CriticalOptions[sshcert.OptionSourceAddress]; !strings.Contains(s, "127.0.0.1/32") || !strings.Contains(s, "::1/128") {
		t.Errorf("the certificate is good from %s", s)
	}
}
