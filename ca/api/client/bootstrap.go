package client

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"breakglass/ca/api"
)

// bootstrapTimeout bounds the fetch of the pins: both connections, on a bad line.
const bootstrapTimeout = 30 * time.Second

// ErrOtherCA says that what answered proves another ledger than the line pins.
var ErrOtherCA = errors.New("the CA that answers is not the one of the line")

// Bootstrap fetches the pins that a line stands for. They are proved before they are given: TLS by a key of the line, the ledger's key by
// its hash, and the site by its entry in that ledger, over a second connection that the fetched pins judge.
func Bootstrap(ctx context.Context, line api.PinsLine) (api.Pins, error) {
	ctx, cancel := context.WithTimeout(ctx, bootstrapTimeout)
	defer cancel()
	var addrs []string
	for _, a := range line.Addresses {
		addrs = append(addrs, a.String())
	}
	d := &dialer{addresses: addrs, tls: &tls.Config{
		MinVersion:         tls.VersionTLS13,
		InsecureSkipVerify: true, // as in pinned: the key is what is judged
		VerifyConnection: func(s tls.ConnectionState) error {
			if len(s.PeerCertificates) == 0 || !line.Trusts(sha256.Sum256(s.PeerCertificates[0].RawSubjectPublicKeyInfo)) {
				return ErrPin
			}
			return nil
		},
	}}
	h := &http.Client{Transport: &http.Transport{DialTLSContext: d.dial, DisableKeepAlives: true, MaxResponseHeaderBytes: maxHeader},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://breakglass-ca/v1/site", nil)
	if err != nil {
		return api.Pins{}, err
	}
	resp, err := h.Do(req)
	if errors.Is(err, ErrPin) {
		return api.Pins{}, fmt.Errorf("%w: %w", ErrUnreachable, ErrPin)
	} else if err != nil {
		return api.Pins{}, fmt.Errorf("%w: %w", ErrUnreachable, unwrapURL(err))
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return api.Pins{}, fmt.Errorf("%w: the site: status %s", ErrAnswer, resp.Status)
	}
	var a api.SiteAnswer
	j := json.NewDecoder(io.LimitReader(resp.Body, api.MaxPins))
	j.DisallowUnknownFields()
	if err := j.Decode(&a); err != nil {
		return api.Pins{}, fmt.Errorf("%w: the site: %w", ErrAnswer, err)
	}
	if !line.Is(a.Site.LedgerKey) {
		return api.Pins{}, ErrOtherCA
	}
	c, err := New(Config{Pins: api.Pins{Site: a.Site, Checkpoint: a.Entry.Checkpoint}})
	if err != nil {
		return api.Pins{}, err
	}
	defer c.Close()
	proved, err := c.Site(ctx)
	if err != nil {
		return api.Pins{}, err
	}
	p := api.Pins{Site: proved.Site, Checkpoint: proved.Entry.Checkpoint}
	if !line.Is(p.Site.LedgerKey) {
		return api.Pins{}, ErrOtherCA
	}
	return p, p.Validate()
}
