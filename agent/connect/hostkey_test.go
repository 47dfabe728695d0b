package connect

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"net"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"
)

func signer(t *testing.T) ssh.Signer {
	t.Helper()
	_, k, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	s, err := ssh.NewSignerFromKey(k)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// Each thing that can be wrong with a jump's host certificate is told by its own name, over a real key exchange.
func TestAWrongHostCertificateIsExplained(t *testing.T) {
	ca, other := signer(t), signer(t)
	now := time.Now()
	for _, c := range []struct {
		is          string
		by          ssh.Signer // nil: a plain key
		names       []string
		from, until time.Time
		want        string
	}{
		{"as it should be", ca, []string{"db01", "web01"}, now.Add(-time.Hour), now.Add(time.Hour), ""},
		{"none", nil, nil, now, now, "has no host certificate for web01"},
		{"of another CA", other, []string{"web01"}, now.Add(-time.Hour), now.Add(time.Hour), "by a CA that this machine does not trust (" + ssh.FingerprintSHA256(other.PublicKey())},
		{"lapsed", ca, []string{"web01"}, now.Add(-25 * time.Hour), now.Add(-time.Hour), "lapsed at "},
		{"not good yet", ca, []string{"web01"}, now.Add(time.Hour), now.Add(2 * time.Hour), "is good from "},
		{"of other names", ca, []string{"a", "b", "c", "d", "e"}, now.Add(-time.Hour), now.Add(time.Hour), "is for a, b, c and 2 more, and not for web01"},
		{"of no names, which would be everybody's", ca, nil, now.Add(-time.Hour), now.Add(time.Hour), "and not for web01"},
	} {
		t.Run(c.is, func(t *testing.T) {
			key := signer(t)
			if c.by != nil {
				cert := &ssh.Certificate{Key: key.PublicKey(), CertType: ssh.HostCert, ValidPrincipals: c.names, ValidAfter: uint64(c.from.Unix()), ValidBefore: uint64(c.until.Unix())}
				if err := cert.SignCert(rand.Reader, c.by); err != nil {
					t.Fatal(err)
				}
				s, err := ssh.NewCertSigner(cert, key)
				if err != nil {
					t.Fatal(err)
				}
				key = s
			}
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			go func() {
				for {
					nc, err := l.Accept()
					if err != nil {
						return
					}
					go func() {
						defer nc.Close()
						b := make([]byte, len(Preamble("web01")))
						if _, err := nc.Read(b); err != nil {
							return
						}
						cfg := &ssh.ServerConfig{NoClientAuth: true}
						cfg.AddHostKey(key)
						ssh.NewServerConn(nc, cfg)
					}()
				}
			}()
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
			defer cancel()
			err = CheckHost(ctx, []string{l.Addr().String()}, "web01", []string{string(ssh.MarshalAuthorizedKey(ca.PublicKey()))}, now)
			var wrong *HostError
			switch {
			case c.want == "" && err != nil:
				t.Errorf("%v", err)
			case c.want != "" && (!errors.As(err, &wrong) || !strings.Contains(err.Error(), c.want) || len(wrong.Next) == 0):
				t.Errorf("%v, want %s", err, c.want)
			}
		})
	}
	if err := CheckHost(t.Context(), []string{"127.0.0.1:1"}, "web01", nil, now); err == nil || errors.As(err, new(*HostError)) {
		t.Errorf("nobody answers: %v", err)
	}
}
