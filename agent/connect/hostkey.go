package connect

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"

	"breakglass/internal/name"
)

// HostError says what is wrong with the host certificate that a jump shows. Stock ssh falls back to "No ED25519 host key is known … and you have requested
// strict checking" for each of them.
type HostError struct {
	What string // a sentence without its full stop
	Next []string
}

func (e *HostError) Error() string { return e.What }

// errSeen ends a key exchange of which nothing but the host key was wanted.
var errSeen = errors.New("seen")

// CheckHost asks the first jump that answers for host's certificate and judges it as ssh does, by the host CAs (authorized_keys form) and this machine's clock.
// nil says that ssh should have taken it. What can't be told, for nobody answers, is an error that is no *HostError.
func CheckHost(ctx context.Context, addrs []string, host name.Host, cas []string, now time.Time) error {
	c, err := Dial(ctx, addrs, host)
	if err != nil {
		return err
	}
	defer c.Close()
	stop := context.AfterFunc(ctx, func() { c.Close() })
	defer stop()
	var key ssh.PublicKey
	_, _, _, err = ssh.NewClientConn(c, c.RemoteAddr().String(), &ssh.ClientConfig{User: "-",
		HostKeyAlgorithms: []string{ssh.CertAlgoED25519v01, ssh.CertAlgoECDSA256v01, ssh.KeyAlgoED25519, ssh.KeyAlgoECDSA256},
		HostKeyCallback: func(_ string, _ net.Addr, k ssh.PublicKey) error {
			key = k
			return errSeen
		}})
	if key == nil {
		return fmt.Errorf("looking at the jump's host key: %w", err)
	}
	return judgeHostKey(key, host, cas, now)
}

func judgeHostKey(key ssh.PublicKey, host name.Host, cas []string, now time.Time) error {
	cert, ok := key.(*ssh.Certificate)
	if !ok {
		return &HostError{fmt.Sprintf("the jump has no host certificate for %s: it gets one from the CA, for hosts that the policy names and while a grant is alive", host),
			[]string{"on the jump: breakglass-jump status says whether it reaches the CA", "another jump, if there is one: breakglass ssh --jump NAME " + string(host)}}
	}
	known := func(k ssh.PublicKey) bool {
		return slices.ContainsFunc(cas, func(line string) bool {
			ca, _, _, _, err := ssh.ParseAuthorizedKey([]byte(line))
			return err == nil && string(ca.Marshal()) == string(k.Marshal())
		})
	}
	at := func(t uint64) string { return time.Unix(int64(min(t, 1<<62)), 0).UTC().Format("2006-01-02 15:04 UTC") }
	clock := now.UTC().Format("2006-01-02 15:04 UTC")
	switch {
	case !known(cert.SignatureKey):
		return &HostError{fmt.Sprintf("the jump's host certificate is by a CA that this machine does not trust (%s): the site's host CA was changed, or this is no jump of the site", ssh.FingerprintSHA256(cert.SignatureKey)),
			[]string{"breakglass status asks the CA for the site's keys, with proof; then again", "breakglass pins shows what is trusted here"}}
	case uint64(now.Unix()) >= cert.ValidBefore:
		return &HostError{fmt.Sprintf("the jump's host certificate lapsed at %s, and this machine's clock says %s", at(cert.ValidBefore), clock),
			[]string{"if the clock is right: the jump has not reached the CA for a day; on the jump: breakglass-jump status", "another jump, if there is one: breakglass ssh --jump NAME " + string(host)}}
	case uint64(now.Unix()) < cert.ValidAfter:
		return &HostError{fmt.Sprintf("the jump's host certificate is good from %s, and this machine's clock says %s", at(cert.ValidAfter), clock), []string{"set the clock"}}
	case !slices.Contains(cert.ValidPrincipals, string(host)):
		return &HostError{fmt.Sprintf("the jump's host certificate is for %s, and not for %s", some(cert.ValidPrincipals), host),
			[]string{"breakglass status says whether your grant is alive: for a host that only a pattern names the CA signs while it is"}}
	}
	return (&ssh.CertChecker{IsHostAuthority: func(ssh.PublicKey, string) bool { return true }, Clock: func() time.Time { return now }}).CheckCert(string(host), cert)
}

// some lists the first few names.
func some(names []string) string {
	const few = 3
	if len(names) > few {
		return strings.Join(names[:few], ", ") + fmt.Sprintf(" and %d more", len(names)-few)
	}
	return strings.Join(names, ", ")
}
