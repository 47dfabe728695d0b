package client

import (
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"sync"
	"time"

	"breakglass/ca/api"
)

// seenTime bounds the question from where one is seen over the other family: a family that is not there must not keep a person waiting.
const seenTime = 300 * time.Millisecond

// Seen asks the CA over each family of addresses that it has, IPv4 and IPv6, from where it sees us; clientKey is in authorized_keys form. A
// family that doesn't answer in time is left out: then the certificate is not good from there. A CA that has addresses of one family alone is
// not asked.
func (c *Client) Seen(ctx context.Context, clientKey string) []api.Seen {
	by := map[string][]string{}
	for _, a := range c.dialer.order() {
		if p, err := netip.ParseAddrPort(a); err == nil {
			network := "tcp6"
			if p.Addr().Unmap().Is4() {
				network = "tcp4"
			}
			by[network] = append(by[network], a)
		}
	}
	if len(by) < 2 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, seenTime)
	defer cancel()
	var mu sync.Mutex
	var out []api.Seen
	var all sync.WaitGroup
	for network, addresses := range by {
		all.Go(func() {
			s, err := c.seenOver(ctx, network, addresses, clientKey)
			if err != nil {
				return // not there, or of no use: its addresses are left out
			}
			mu.Lock()
			defer mu.Unlock()
			out = append(out, *s)
		})
	}
	all.Wait()
	slices.SortFunc(out, func(a, b api.Seen) int { return netip.MustParseAddr(a.Address).Compare(netip.MustParseAddr(b.Address)) })
	return out
}

// SeenHere asks from where the CA sees this client, over whichever address it is reached.
func (c *Client) SeenHere(ctx context.Context, clientKey string) (*api.Seen, error) {
	return post[api.Seen](ctx, c, "/v1/seen", api.SeenAsk{ClientKey: clientKey})
}

// seenOver asks over one family, each address at once.
func (c *Client) seenOver(ctx context.Context, network string, addresses []string, clientKey string) (*api.Seen, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	d := &tls.Dialer{NetDialer: &net.Dialer{}, Config: c.dialer.pins()}
	one := *c
	type answer struct {
		seen *api.Seen
		err  error
	}
	answers := make(chan answer, len(addresses))
	for _, a := range addresses {
		one := one
		one.http = &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DisableCompression: true, MaxResponseHeaderBytes: maxHeader,
			DialTLSContext: func(ctx context.Context, _, _ string) (net.Conn, error) { return d.DialContext(ctx, network, a) }},
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
		go func() {
			s, err := one.SeenHere(ctx, clientKey)
			if err == nil {
				_, err = netip.ParseAddr(s.Address)
			}
			answers <- answer{s, err}
		}()
	}
	var last error
	for range addresses {
		r := <-answers
		if r.err == nil {
			return r.seen, nil
		}
		last = r.err
	}
	return nil, last
}
