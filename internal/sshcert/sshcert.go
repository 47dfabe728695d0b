// Package sshcert is the one home of what a breakglass certificate may hold: the CA builds and lints with it, the jump
// checks with it, and verify checks again. A certificate that passes Check is exactly of one of four shapes:
//
//	client   subject: the person's in-memory client key · type user · one principal client:PERSON · critical options
//	         grant@breakglass and source-address · extension permit-pty · ends with the grant
//	session  subject: the jump's key for one session · type user · one principal session:LOGIN@HOST · critical option
//	         source-address · extension permit-pty, permit-port-forwarding only where forwards were granted · −5 to +5 minutes
//	via      subject: the jump's key for one session · type user · one principal via:LOGIN@VIA · critical options source-address and
//	         force-command (no shell, no command, no subsystem: what it opens is forwards) · extension permit-port-forwarding · −5 to +5 minutes
//	host     subject: the jump's host key · type host · principals are literal host names · no options · 24 hours
//
// All carry a random 64-bit serial and the key id by which sshd's own log names the person.
package sshcert

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"

	"breakglass/internal/name"
)

// Extension and option names (OpenSSH PROTOCOL.certkeys, and ours).
const (
	// OptionGrant is a critical option: every stock sshd refuses a certificate with one that it doesn't know, so a client
	// certificate is good at the jump alone. Its value is "REQUEST LOGIN HOST".
	OptionGrant           = "grant@breakglass"
	OptionSourceAddress   = "source-address"
	ExtensionPTY          = "permit-pty"
	ExtensionPortForwards = "permit-port-forwarding"
)

const (
	// SessionSlack is how far a session certificate reaches to both sides: host clocks drift, and the key never leaves memory.
	SessionSlack = 5 * time.Minute
	// MaxSessionSlack bounds what the policy gives a host whose clock is known to be off.
	MaxSessionSlack = 12 * time.Hour
	// HostLifetime is how long a jump's host certificate for a name is good.
	HostLifetime = 24 * time.Hour
	// MaxClientLifetime bounds a client certificate whatever the policy says: a grant is minutes.
	MaxClientLifetime = 12 * time.Hour
	// Backdate lets a client certificate begin a little before the CA's now; the jump's clock may be behind.
	Backdate = 30 * time.Second
	// MaxPrincipals is OpenSSH's own limit (sshkey.h SSHKEY_CERT_MAX_PRINCIPALS).
	MaxPrincipals = 256
	// MaxSources bounds the addresses of a person with several families.
	MaxSources = 8
	// RandomNonce is the length of a certificate's nonce field.
	randomNonce = 32
)

// ErrLint is wrapped by every refusal of Check.
var ErrLint = errors.New("certificate fails lint")

// Kind is one of the four shapes.
type Kind string

const (
	Client  Kind = "client"
	Session Kind = "session"
	Via     Kind = "via"
	Host    Kind = "host"
)

// Grant is the value of OptionGrant.
type Grant struct {
	Request name.RequestID
	Login   name.Login
	Host    name.Host
}

func (g Grant) String() string { return fmt.Sprintf("%s %s %s", g.Request, g.Login, g.Host) }

// ParseGrant reads a grant option's value; it accepts only what String writes.
func ParseGrant(s string) (Grant, error) {
	f := strings.Split(s, " ")
	if len(f) != 3 {
		return Grant{}, fmt.Errorf("%w: grant %q", ErrLint, s)
	}
	r, err1 := name.ParseRequestID(f[0])
	l, err2 := name.ParseLogin(f[1])
	h, err3 := name.ParseHost(f[2])
	if err := errors.Join(err1, err2, err3); err != nil {
		return Grant{}, fmt.Errorf("%w: grant %q: %w", ErrLint, s, err)
	}
	g := Grant{r, l, h}
	if g.String() != s {
		return Grant{}, fmt.Errorf("%w: grant %q is not canonical", ErrLint, s)
	}
	return g, nil
}

// KeyID is "breakglass:REQUEST:PERSON".
func KeyID(r name.RequestID, p name.Person) string {
	return "breakglass:" + string(r) + ":" + string(p)
}

// ParseKeyID is KeyID's inverse.
func ParseKeyID(s string) (name.RequestID, name.Person, error) {
	f := strings.Split(s, ":")
	if len(f) != 3 || f[0] != "breakglass" {
		return "", "", fmt.Errorf("%w: key id %q", ErrLint, s)
	}
	r, err1 := name.ParseRequestID(f[1])
	p, err2 := name.ParsePerson(f[2])
	if err := errors.Join(err1, err2); err != nil || KeyID(r, p) != s {
		return "", "", fmt.Errorf("%w: key id %q", ErrLint, s)
	}
	return r, p, nil
}

// ClientPrincipal is the one principal of a client certificate.
func ClientPrincipal(p name.Person) string { return "client:" + string(p) }

// SessionPrincipal is the one principal of a session certificate; that host alone lists it.
func SessionPrincipal(l name.Login, h name.Host) string {
	return "session:" + string(l) + "@" + string(h)
}

func sources(addrs []netip.Addr) string {
	var s []string
	for _, a := range addrs {
		a = a.Unmap()
		s = append(s, netip.PrefixFrom(a, a.BitLen()).String())
	}
	return strings.Join(s, ",")
}

// ParseSources reads a source-address option of single addresses.
func ParseSources(s string) ([]netip.Addr, error) {
	var out []netip.Addr
	for f := range strings.SplitSeq(s, ",") {
		p, err := netip.ParsePrefix(f)
		if err != nil || !p.IsSingleIP() || p.Addr().Is4In6() || p.String() != f {
			return nil, fmt.Errorf("%w: source address %q", ErrLint, f)
		}
		out = append(out, p.Addr())
	}
	return out, nil
}

func newSerial() uint64 {
	var b [8]byte
	rand.Read(b[:])
	return binary.BigEndian.Uint64(b[:]) | 1 // never 0, which tools show as "unset"
}

func template(key ssh.PublicKey, typ uint32, id string, principals []string, from, to time.Time) *ssh.Certificate {
	return &ssh.Certificate{
		Key: key, Serial: newSerial(), CertType: typ, KeyId: id, ValidPrincipals: principals,
		ValidAfter: uint64(from.Unix()), ValidBefore: uint64(to.Unix()),
	}
}

// NewClient is the unsigned certificate of a grant.
func NewClient(key ssh.PublicKey, p name.Person, g Grant, addrs []netip.Addr, now, end time.Time) *ssh.Certificate {
	c := template(key, ssh.UserCert, KeyID(g.Request, p), []string{ClientPrincipal(p)}, now.Add(-Backdate), end)
	c.CriticalOptions = map[string]string{OptionGrant: g.String(), OptionSourceAddress: sources(addrs)}
	c.Extensions = map[string]string{ExtensionPTY: ""}
	return c
}

// NewSession is the unsigned certificate of a session; jump is the jump's address as the host sees it, slack how far the host's clock may be off.
func NewSession(key ssh.PublicKey, p name.Person, g Grant, jump []netip.Addr, forwards bool, now time.Time, slack time.Duration) *ssh.Certificate {
	c := template(key, ssh.UserCert, KeyID(g.Request, p), []string{SessionPrincipal(g.Login, g.Host)}, now.Add(-slack), now.Add(slack))
	c.CriticalOptions = map[string]string{OptionSourceAddress: sources(jump)}
	c.Extensions = map[string]string{ExtensionPTY: ""}
	if forwards {
		c.Extensions[ExtensionPortForwards] = ""
	}
	return c
}

// NewHost is the unsigned certificate by which a jump answers for the hosts (never a wildcard: OpenSSH doesn't match them there).
func NewHost(key ssh.PublicKey, j name.Jump, names []string, now time.Time) *ssh.Certificate {
	return template(key, ssh.HostCert, "breakglass-jump:"+string(j), names, now.Add(-SessionSlack), now.Add(HostLifetime))
}

// Check lints c against all that a certificate of the kind must have and must never have. It does not judge the clock
// or the signature's issuer: see Verify.
func Check(c *ssh.Certificate, kind Kind) error {
	bad := func(format string, a ...any) error { return fmt.Errorf("%w: "+format, append([]any{ErrLint}, a...)...) }
	if _, ok := c.Key.(*ssh.Certificate); ok {
		return bad("a certificate within a certificate")
	}
	if _, ok := c.SignatureKey.(*ssh.Certificate); ok { // CVE-2025-49825
		return bad("signed by a certificate")
	}
	switch c.Key.Type() {
	case ssh.KeyAlgoED25519, ssh.KeyAlgoECDSA256:
	default:
		return bad("subject is %s", c.Key.Type())
	}
	if len(c.Nonce) != randomNonce || c.Serial == 0 || len(c.Reserved) != 0 {
		return bad("nonce, serial or reserved field")
	}
	if c.ValidBefore <= c.ValidAfter || c.ValidBefore > 1<<40 { // also refuses "forever" (2^64-1)
		return bad("validity %d to %d", c.ValidAfter, c.ValidBefore)
	}
	life := time.Duration(c.ValidBefore-c.ValidAfter) * time.Second
	if len(c.ValidPrincipals) == 0 || len(c.ValidPrincipals) > MaxPrincipals {
		return bad("%d principals", len(c.ValidPrincipals)) // an empty list is everybody
	}
	for _, p := range c.ValidPrincipals {
		if p == "" || strings.ContainsAny(p, ",*?! \t\r\n\"'\\/") { // CVE-2026-35414
			return bad("principal %q", p)
		}
	}
	if kind == Host {
		if c.CertType != ssh.HostCert || len(c.CriticalOptions) != 0 || len(c.Extensions) != 0 || life > HostLifetime+SessionSlack {
			return bad("not a host certificate of ours")
		}
		for _, p := range c.ValidPrincipals {
			if _, err := name.ParseHost(p); err != nil {
				return bad("host name %q", p)
			}
		}
		return nil
	}
	if c.CertType != ssh.UserCert {
		return bad("type %d", c.CertType)
	}
	if len(c.ValidPrincipals) != 1 {
		return bad("%d principals, want 1", len(c.ValidPrincipals))
	}
	_, person, err := ParseKeyID(c.KeyId)
	if err != nil {
		return err
	}
	if addrs, err := ParseSources(c.CriticalOptions[OptionSourceAddress]); err != nil {
		return err
	} else if len(addrs) > MaxSources {
		return bad("%d source addresses", len(addrs))
	}
	exts := []string{ExtensionPTY}
	switch kind {
	case Client:
		g, err := ParseGrant(c.CriticalOptions[OptionGrant])
		if err != nil {
			return err
		}
		if c.KeyId != KeyID(g.Request, person) || c.ValidPrincipals[0] != ClientPrincipal(person) {
			return bad("key id %q, principal %q, grant %q disagree", c.KeyId, c.ValidPrincipals[0], g)
		}
		if len(c.CriticalOptions) != 2 || life > MaxClientLifetime+Backdate {
			return bad("options %v, lifetime %v", c.CriticalOptions, life)
		}
	case Via:
		return checkVia(c, life)
	case Session:
		l, h, err := parseSessionPrincipal(c.ValidPrincipals[0])
		if err != nil || c.ValidPrincipals[0] != SessionPrincipal(l, h) {
			return bad("principal %q", c.ValidPrincipals[0])
		}
		if len(c.CriticalOptions) != 1 || life > 2*MaxSessionSlack {
			return bad("options %v, lifetime %v", c.CriticalOptions, life)
		}
		exts = append(exts, ExtensionPortForwards)
	default:
		return bad("kind %q", kind)
	}
	if _, ok := c.Extensions[ExtensionPTY]; !ok {
		return bad("no %s", ExtensionPTY)
	}
	for e, v := range c.Extensions {
		if !slices.Contains(exts, e) || v != "" { // no-touch-required above all
			return bad("extension %q", e)
		}
	}
	return nil
}

func parseSessionPrincipal(p string) (name.Login, name.Host, error) {
	s, ok := strings.CutPrefix(p, "session:")
	if !ok {
		return "", "", ErrLint
	}
	l, h, err := name.SplitTarget(s)
	if err != nil || l == "" {
		return "", "", ErrLint
	}
	return l, h, nil
}

// Reasons why a certificate that is of the right shape is not good here and now.
var (
	ErrIssuer  = errors.New("certificate is not signed by the pinned CA")
	ErrExpired = errors.New("certificate has ended")
	ErrEarly   = errors.New("certificate is not valid yet")
	ErrSource  = errors.New("certificate is for another source address")
)

// Verify checks c's shape, that one of the CA keys signed it, and, unless now is zero, the clock.
func Verify(c *ssh.Certificate, kind Kind, cas []ssh.PublicKey, now time.Time) error {
	if err := Check(c, kind); err != nil {
		return err
	}
	// Compared as bytes against a fixed set of plain keys.
	if !slices.ContainsFunc(cas, func(k ssh.PublicKey) bool { return string(k.Marshal()) == string(c.SignatureKey.Marshal()) }) {
		return ErrIssuer
	}
	if err := c.SignatureKey.Verify(signedBytes(c), c.Signature); err != nil {
		return fmt.Errorf("%w: %w", ErrIssuer, err)
	}
	if !now.IsZero() {
		if t := uint64(now.Unix()); t >= c.ValidBefore {
			return ErrExpired
		} else if t < c.ValidAfter {
			return ErrEarly
		}
	}
	return nil
}

// FromSource checks that addr is one of the certificate's source addresses, each a single address.
func FromSource(c *ssh.Certificate, addr netip.Addr) error {
	addrs, err := ParseSources(c.CriticalOptions[OptionSourceAddress])
	if err != nil {
		return err
	}
	if !slices.Contains(addrs, addr.Unmap()) {
		return ErrSource
	}
	return nil
}

// signedBytes is the certificate without its signature field (PROTOCOL.certkeys: the signature covers all before it).
func signedBytes(c *ssh.Certificate) []byte {
	cc := *c
	cc.Signature = nil
	out := cc.Marshal()
	return out[:len(out)-4] // the empty signature's length
}
