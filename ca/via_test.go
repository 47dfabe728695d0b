package ca_test

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"breakglass/ca/api"
	"breakglass/ca/catest"
	"breakglass/internal/krl"
	"breakglass/internal/sshcert"
	"breakglass/internal/statement"
	"breakglass/ledger"
)

// viaPolicy has web01 behind VIA, and web02 reached directly.
func viaPolicy(via string) string {
	return strings.Replace(catest.Policy, "[hosts.web01]\n", `[vias.bastion1]
kind = "ssh"
address = ["bastion.example.net:22"]
login = "jump"
host_keys = ["`+catest.HostKey+`"]
source = ["10.0.5.1/32", "10.0.5.2/32"]
[vias.proxy1]
kind = "http"
address = ["10.0.8.10:3128", "[fd00::10]:3128"]
source = ["10.0.6.1/32"]
[hosts.web01]
via = "`+via+`"
`, 1)
}

// TestSessionThroughVia: the answer says through what the host is reached, and each of the two machines gets a certificate of its own that is good from
// where it sees the connection come.
func TestSessionThroughVia(t *testing.T) {
	resolve := func(_ context.Context, host string) ([]netip.Addr, error) {
		if host == "bastion.example.net" {
			return []netip.Addr{netip.MustParseAddr("10.0.8.9")}, nil
		}
		return nil, errors.New("no such name")
	}
	for _, c := range []struct {
		via       string
		addresses []string
		sources   string
		bastion   bool
	}{
		{"bastion1", []string{"10.0.8.9:22"}, "10.0.5.1/32,10.0.5.2/32", true},
		{"proxy1", []string{"10.0.8.10:3128", "[fd00::10]:3128"}, "10.0.6.1/32", false},
	} {
		t.Run(c.via, func(t *testing.T) {
			s := newStageWith(t, catest.Config{Policy: viaPolicy(c.via), Resolve: resolve})
			certs, err := s.jump.Client.HostCerts(context.Background(), &api.HostCertsAsk{})
			catest.Must(t, err)
			if h := certs.Hints["web01"]; len(h) > 0 {
				t.Errorf("the jump would begin early at %v", h)
			}
			g := s.grant(t)
			a, err := s.jump.Open(s.jump.Question(g))
			catest.Must(t, err)
			f := a.Opened
			if f.Via == nil || string(f.Via.Name) != c.via || !slices.Equal(f.Via.Addresses, c.addresses) {
				t.Fatalf("through %+v", f.Via)
			}
			cas, err := api.Keys(s.Pins.Site.SessionCA)
			catest.Must(t, err)
			host, err := sshcert.Parse([]byte(f.Certificate))
			catest.Must(t, err)
			catest.Must(t, sshcert.Verify(host, sshcert.Session, cas, s.clock.now()))
			if got := host.CriticalOptions[sshcert.OptionSourceAddress]; got != c.sources {
				t.Errorf("the host's certificate is good from %s, want %s", got, c.sources)
			}
			if c.bastion {
				cert, err := sshcert.Parse([]byte(f.Via.Certificate))
				catest.Must(t, err)
				catest.Must(t, sshcert.Verify(cert, sshcert.Via, cas, s.clock.now()))
				if cert.ValidPrincipals[0] != "via:jump@bastion1" || cert.CriticalOptions[sshcert.OptionSourceAddress] == c.sources || f.Via.HostKeys[0] != catest.HostKey {
					t.Errorf("the bastion is shown %v, %v", cert.ValidPrincipals, cert.CriticalOptions)
				}
				_, err = order(s.alice, statement.OrderRevokeGrant, string(g.ID), "laptop stolen", statement.Hash{})
				catest.Must(t, err)
				b, err := s.Client(nil).KRL(context.Background())
				catest.Must(t, err)
				list, err := krl.Parse(b)
				catest.Must(t, err)
				if !list.Revokes(cert) {
					t.Error("the bastion isn't told that the grant was revoked")
				}
			} else if f.Via.Certificate != "" {
				t.Error("a proxy has a certificate")
			}
			issued := 0
			for _, e := range s.Entries() {
				if f, ok := e.Facts.(*ledger.CertificateIssued); ok && f.Kind == string(sshcert.Via) {
					issued++
				}
			}
			if c.bastion && issued != 1 || !c.bastion && issued != 0 {
				t.Errorf("%d entries of via certificates", issued)
			}
			s.Audit()
		})
	}
}

// TestViaUnknownToDNS: a via that is known by name only and isn't found is told apart from a host that isn't.
func TestViaUnknownToDNS(t *testing.T) {
	s := newStageWith(t, catest.Config{Policy: viaPolicy("bastion1"), Resolve: func(context.Context, string) ([]netip.Addr, error) { return nil, errors.New("down") }})
	_, err := s.jump.Open(s.jump.Question(s.grant(t)))
	var p *api.Problem
	if !errors.As(err, &p) || !strings.Contains(p.Detail, "via bastion1, which leads to web01, by name only") {
		t.Errorf("%v", err)
	}
	s.Audit()
}
