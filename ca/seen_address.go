package ca

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"

	"breakglass/ca/api"
)

// This file tells clients over which addresses they are seen, and believes itself about it. A request lists every address from which its
// certificate will be good, and each has to be allowed; so the CA must have seen each. A client with two families of addresses shows that it has the
// other one by a token that the CA handed out over it.
//
// A token is a MAC under a key that is drawn at each start and leaves the process nowhere: it is worth a minute, and only to the CA. It is bound to
// the client key, whose owner alone can use the certificate: a token that somebody lends adds an address to a certificate that they can't use,
// and takes none away; the address that the request itself comes from is always among the sources.

const (
	seenFor     = time.Minute
	seenPrefix  = "breakglass seen v1\n"
	maxSeenText = 512 // of a token: an address, a fingerprint, a time and a MAC have some 200
)

// tokens makes and reads them.
type tokens struct {
	key    [32]byte
	origin string
	now    func() time.Time
}

// make writes a token.
func (t *tokens) make(address netip.Addr, fingerprint string, expires time.Time) string {
	text := strings.Join([]string{address.String(), fingerprint, expires.UTC().Format(time.RFC3339)}, " ")
	return base64.RawURLEncoding.EncodeToString([]byte(text)) + "." + base64.RawURLEncoding.EncodeToString(t.mac(text))
}

func (t *tokens) mac(text string) []byte {
	m := hmac.New(sha256.New, t.key[:])
	m.Write([]byte(seenPrefix + t.origin + "\n" + text))
	return m.Sum(nil)
}

// tellSeen answers POST /v1/seen.
func (c *CA) tellSeen(_ context.Context, q *api.SeenAsk, from netip.Addr) (*api.Seen, error) {
	if p := c.place(from); p != nil {
		return nil, p
	}
	key, err := parseKey(q.ClientKey)
	if err != nil || key.Type() != ssh.KeyAlgoED25519 {
		return nil, badRequest("client_key: want an ssh-ed25519 public key")
	}
	expires := c.now().Add(seenFor).Truncate(time.Second)
	return &api.Seen{Address: from.String(), Expires: expires, Token: c.tokens.make(from, ssh.FingerprintSHA256(key), expires)}, nil
}

// open reads a token of the client key.
func (t *tokens) open(token, fingerprint string) (netip.Addr, *api.Problem) {
	bad := func(format string, a ...any) (netip.Addr, *api.Problem) {
		return netip.Addr{}, &api.Problem{Status: 400, Code: api.CodeSeen, Detail: "seen: " + fmt.Sprintf(format, a...), Next: []string{"ask again; a token is good for a minute, for the client key that asked, and not over a restart of the CA"}}
	}
	if len(token) > maxSeenText {
		return bad("a token of %d bytes", len(token))
	}
	text, mac, ok := strings.Cut(token, ".")
	b, err := base64.RawURLEncoding.Strict().DecodeString(text)
	m, err2 := base64.RawURLEncoding.Strict().DecodeString(mac)
	if !ok || err != nil || err2 != nil || !hmac.Equal(m, t.mac(string(b))) {
		return bad("a token that this CA did not make since it started")
	}
	f := strings.Split(string(b), " ") // ours, and whole
	if len(f) != 3 || f[1] != fingerprint {
		return bad("a token of another client key")
	}
	expires, err := time.Parse(time.RFC3339, f[2])
	if err != nil || !t.now().Before(expires) {
		return bad("a token that has expired")
	}
	a, err := netip.ParseAddr(f[0])
	if err != nil {
		return bad("%v", err)
	}
	return a, nil
}

// sources are the addresses of a request: the one that it comes from first, then those of its tokens, sorted. Each is looked at as the first is.
func (c *CA) sources(from netip.Addr, list []string, fingerprint string) ([]string, *api.Problem) {
	if len(list) > api.MaxSeen {
		return nil, badRequest("seen: %d tokens, limit %d", len(list), api.MaxSeen)
	}
	more := []netip.Addr{}
	for _, t := range list {
		a, p := c.tokens.open(t, fingerprint)
		if p != nil {
			c.strangers.add(api.CodeSeen, from)
			return nil, p
		}
		if a == from || slices.Contains(more, a) {
			continue
		}
		if p := c.place(a); p != nil {
			return nil, p
		}
		more = append(more, a)
	}
	slices.SortFunc(more, netip.Addr.Compare)
	out := []string{from.String()}
	for _, a := range more {
		out = append(out, a.String())
	}
	return out, nil
}
