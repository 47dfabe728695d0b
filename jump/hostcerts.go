package jump

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/crypto/ssh"

	"breakglass/ca/api"
	"breakglass/internal/name"
	"breakglass/internal/sshcert"
)

const (
	// askTimeout bounds the wait for a certificate that a pattern covers: the person's client waits in the key exchange.
	askTimeout = 3 * time.Second
	// maxAsking bounds such questions at once, and maxUnknown the names that were refused lately: strangers choose the names.
	maxAsking  = 4
	maxUnknown = 1024
	// unknownFor is how long a refused name isn't asked for again.
	unknownFor = 3 * time.Second
)

// hostCerts are the names that the jump can answer for, with the addresses known ahead.
type hostCerts struct {
	ca  CA
	key ssh.Signer
	now func() time.Time
	log *slog.Logger

	again chan struct{} // the host CAs changed: fetch now

	mu      sync.Mutex
	trusted []ssh.PublicKey
	byName  map[name.Host]ssh.Signer
	until   map[name.Host]time.Time
	hints   map[name.Host][]string
	unknown map[name.Host]time.Time
	asking  chan struct{}
}

func newHostCerts(ca CA, key ssh.Signer, trusted []ssh.PublicKey, now func() time.Time, log *slog.Logger) *hostCerts {
	return &hostCerts{ca: ca, key: key, trusted: trusted, now: now, log: log,
		byName: map[name.Host]ssh.Signer{}, until: map[name.Host]time.Time{}, hints: map[name.Host][]string{},
		unknown: map[name.Host]time.Time{}, asking: make(chan struct{}, maxAsking), again: make(chan struct{}, 1)}
}

// fetch gets all names that the policy writes out.
func (h *hostCerts) fetch(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, caTimeout)
	defer cancel()
	a, err := h.ca.HostCerts(ctx, &api.HostCertsAsk{})
	if err != nil {
		return fmt.Errorf("fetching host certificates: %w", err)
	}
	return h.take(a)
}

// take checks and keeps an answer. A certificate that isn't over our key by the pinned host CA would make each person's client refuse,
// so it isn't used.
func (h *hostCerts) take(a *api.HostCertsAnswer) error {
	var errs []error
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, line := range a.Certificates {
		c, err := sshcert.Parse([]byte(line))
		if err == nil {
			err = sshcert.Verify(c, sshcert.Host, h.trusted, h.now())
		}
		if err == nil && string(c.Key.Marshal()) != string(h.key.PublicKey().Marshal()) {
			err = errors.New("it is over another key")
		}
		var s ssh.Signer
		if err == nil {
			s, err = ssh.NewCertSigner(c, h.key)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("host certificate: %w", err))
			continue
		}
		for _, p := range c.ValidPrincipals {
			h.byName[name.Host(p)], h.until[name.Host(p)] = s, time.Unix(int64(c.ValidBefore), 0)
			delete(h.unknown, name.Host(p))
			delete(h.hints, name.Host(p)) // a host that has come behind a via has none any more
		}
	}
	for host, as := range a.Hints {
		h.hints[host] = as
	}
	return errors.Join(errs...)
}

// signer gives the certificate for a name, or nil. For a name that isn't known it asks the CA once: the CA signs only while a live
// grant names it.
func (h *hostCerts) signer(ctx context.Context, host name.Host) ssh.Signer {
	h.mu.Lock()
	s, ok := h.byName[host]
	if ok && h.until[host].Before(h.now()) {
		delete(h.byName, host)
		s, ok = nil, false
	}
	again := h.unknown[host]
	h.mu.Unlock()
	if ok || h.now().Before(again) {
		return s
	}
	select {
	case h.asking <- struct{}{}:
		defer func() { <-h.asking }()
	default:
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	a, err := h.ca.HostCerts(ctx, &api.HostCertsAsk{Host: string(host)})
	if err == nil {
		err = h.take(a)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if s := h.byName[host]; s != nil {
		return s
	}
	if err != nil {
		h.log.Debug("no host certificate", "host", host, "error", err)
	}
	if len(h.unknown) >= maxUnknown {
		clear(h.unknown)
	}
	h.unknown[host] = h.now().Add(unknownFor)
	return nil
}

// trust takes the host CAs that are trusted now. After a change the certificates are fetched anew: people's clients will refuse those of a
// retired CA.
func (h *hostCerts) trust(cas []ssh.PublicKey) {
	same := func(a, b ssh.PublicKey) bool { return string(a.Marshal()) == string(b.Marshal()) }
	h.mu.Lock()
	defer h.mu.Unlock()
	if slices.EqualFunc(h.trusted, cas, same) {
		return
	}
	h.trusted = cas
	select {
	case h.again <- struct{}{}:
	default:
	}
}

// addresses are the hints for the early dial.
func (h *hostCerts) addresses(host name.Host) []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.hints[host]
}

func (h *hostCerts) count() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.byName)
}

// run keeps the certificates fresh until ctx ends; the first attempts come quickly, because without them nobody's client accepts us.
func (h *hostCerts) run(ctx context.Context) {
	wait := 200 * time.Millisecond
	for {
		if err := h.fetch(ctx); err != nil {
			if ctx.Err() != nil {
				return
			}
			h.log.Warn("host certificates not fetched", "error", err)
			wait = min(2*wait, 30*time.Second)
		} else {
			wait = hostCertRefresh
		}
		select {
		case <-time.After(wait):
		case <-h.again:
		case <-ctx.Done():
			return
		}
	}
}

// authorizedKey is the one-line form without its line feed.
func authorizedKey(k ssh.PublicKey) string {
	return strings.TrimSuffix(string(ssh.MarshalAuthorizedKey(k)), "\n")
}
