package jump

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"time"

	"golang.org/x/crypto/ssh"

	"breakglass/ca/api"
	"breakglass/internal/name"
	"breakglass/jump/facts"
	"breakglass/jump/journal"
	"breakglass/jump/ship"
	"breakglass/ledger"
)

// CA is what the jump asks of the CA; ca/api/client meets it. An error of the CA's own is an *api.Problem.
type CA interface {
	// OpenSession asks whether a proven connection may become a session; the answer is an entry of the ledger.
	OpenSession(ctx context.Context, ask *api.SessionAsk) (*api.SessionAnswer, error)
	// HostCerts gets host certificates over the jump's host key.
	HostCerts(ctx context.Context, ask *api.HostCertsAsk) (*api.HostCertsAnswer, error)
	// JumpOrders waits for entries behind after that concern jumps; none is a sign of life. after -1 asks only how far the ledger is.
	JumpOrders(ctx context.Context, after int64, wait time.Duration) (*api.JumpOrders, error)
	facts.Sender
	ship.Store
}

// Config says who the jump is and what it trusts.
type Config struct {
	Name name.Jump
	// Site is what was pinned at the join: the CAs, the ledger's key and origin.
	Site ledger.Site
	// NewestSite, if not nil, is asked when the jump begins to listen; later changes of the site are heard. Followed is told of each, so that
	// the next start begins with it.
	NewestSite Site
	Followed   func(s ledger.Site, checkpoint string)
	// Key signs facts and questions.
	Key ssh.Signer
	// HostKey is the jump's own host key, ed25519.
	HostKey ssh.Signer
	CA      CA
	// Journal is open, and Recovered is what its opening found.
	Journal   *journal.Journal
	Recovered journal.Recovered
	// Sources are the addresses that the jump dials from; empty leaves it to the system.
	Sources []netip.Addr
	// Proxies are those whose PROXY v2 header is believed, and asked for. A header with an address from anybody else ends the connection.
	Proxies []netip.Prefix
	// Drain is how long what runs may go on after Serve was told to end; 0: it is cut at once.
	Drain time.Duration
	// Now is the wall clock; time.Now if nil.
	Now    func() time.Time
	Logger *slog.Logger
}

// trust is a Site's keys, parsed.
type trust struct {
	clientCA, sessionCA, hostCA []ssh.PublicKey
	ledgerKey                   string
	jumps                       []name.Jump
	origin                      string
}

func parseTrust(s ledger.Site) (t trust, err error) {
	for _, l := range []struct {
		name string
		from []string
		to   *[]ssh.PublicKey
	}{{"client CA", s.ClientCA, &t.clientCA}, {"session CA", s.SessionCA, &t.sessionCA}, {"host CA", s.HostCA, &t.hostCA}} {
		for _, line := range l.from {
			k, err := parseKey(line)
			if err != nil {
				return t, fmt.Errorf("reading the pinned %s: %w", l.name, err)
			}
			*l.to = append(*l.to, k)
		}
		if len(*l.to) == 0 {
			return t, fmt.Errorf("no %s is pinned", l.name)
		}
	}
	for _, j := range s.Jumps {
		t.jumps = append(t.jumps, j.Name)
	}
	if t.ledgerKey, t.origin = s.LedgerKey, s.Origin; t.ledgerKey == "" || t.origin == "" {
		return t, errors.New("no ledger is pinned")
	}
	return t, nil
}

// parseKey reads a plain public key in authorized_keys form; a certificate is none.
func parseKey(line string) (ssh.PublicKey, error) {
	k, _, _, rest, err := ssh.ParseAuthorizedKey([]byte(line))
	if err != nil {
		return nil, err
	}
	if _, ok := k.(*ssh.Certificate); ok || len(rest) != 0 {
		return nil, errors.New("not one plain public key")
	}
	return k, nil
}
