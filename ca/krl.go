package ca

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"time"

	"breakglass/ca/state"
	"breakglass/internal/krl"
	"breakglass/internal/name"
	"breakglass/internal/sshcert"
	"breakglass/ledger"
)

const (
	// krlSlack is how much longer than its certificates a revocation stands in the KRL: a host's clock may be behind, and whoever looks at a host
	// on the morning after still sees why it refused.
	krlSlack = 24 * time.Hour
	// krlAge is how long a list is handed out again, while nothing was revoked, before it is made anew: it is public, and a thousand hosts ask in
	// the same minute.
	krlAge = time.Second
)

// krlCache keeps the list that was made last.
type krlCache struct {
	mu   sync.Mutex
	made time.Time     // monotonic
	of   *state.Roster // what stood then: each entry that revokes or retires makes another one
	list []byte
}

// KRL is the revocation list that hosts read: everything signed by a session CA that this ledger says must not be accepted any more. Its version is
// the size of the ledger that it was made from, so it rises, and an older list can be told.
func (c *CA) KRL(ctx context.Context) ([]byte, error) {
	c.revocations.mu.Lock()
	defer c.revocations.mu.Unlock()
	of, err := c.state.Roster(ctx)
	if err != nil {
		return nil, err
	}
	if c.revocations.list != nil && c.revocations.of == of && time.Since(c.revocations.made) < krlAge {
		return c.revocations.list, nil
	}
	l, err := c.krl(ctx)
	if err != nil {
		return nil, err
	}
	b, err := l.Marshal()
	if err != nil {
		return nil, err
	}
	// What sshd can't read locks everybody out: nothing leaves here that we can't read ourselves.
	if _, err := krl.Parse(b); err != nil {
		return nil, err
	}
	c.revocations.made, c.revocations.of, c.revocations.list = time.Now(), of, b
	return b, nil
}

func (c *CA) krl(ctx context.Context) (*krl.List, error) {
	l := &krl.List{Generated: c.now().Truncate(time.Second)}
	return l, c.state.View(ctx, func(tx *state.Tx) error {
		site, err := tx.Site()
		if err != nil {
			return err
		}
		l.Version, l.Comment = uint64(tx.Size()), site.Site.Origin
		since := c.now().Add(-krlSlack)
		serials, err := revokedSerials(tx, since)
		if err != nil {
			return err
		}
		ids, err := revokedKeyIDs(tx, since)
		if err != nil {
			return err
		}
		for _, s := range site.Site.SessionCA { // whichever of them signed it
			key, err := parseKey(s)
			if err != nil {
				return fmt.Errorf("session CA: %w", err)
			}
			l.CAs = append(l.CAs, krl.CA{Key: key, Serials: serials, KeyIDs: ids})
		}
		retired, err := tx.RetiredKeys()
		if err != nil {
			return err
		}
		for _, r := range retired {
			if r.Kind != KeySessionCA {
				continue
			}
			key, err := parseKey(r.PublicKey)
			if err != nil {
				return fmt.Errorf("retired session CA: %w", err)
			}
			l.Keys = append(l.Keys, key)
		}
		return nil
	})
}

// revokedSerials are session certificates of what was revoked, and serials that were revoked by themselves, also such as no entry holds.
func revokedSerials(tx *state.Tx, since time.Time) ([]krl.Range, error) {
	var out []krl.Range
	add := func(s string) error {
		n, err := strconv.ParseUint(s, 10, 64)
		if err != nil {
			return fmt.Errorf("serial: %w", err)
		}
		out = append(out, krl.Single(n))
		return nil
	}
	certs, err := tx.RevokedSessionCertificates(since)
	if err != nil {
		return nil, err
	}
	for _, x := range certs {
		if err := add(x.Serial); err != nil {
			return nil, err
		}
	}
	list, err := tx.Revocations(ledger.RevokedCertificate, since)
	if err != nil {
		return nil, err
	}
	for _, v := range list {
		if err := add(v.Target); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// revokedKeyIDs are those of revoked grants: also certificates that a thief of the session CA signs under one are refused.
func revokedKeyIDs(tx *state.Tx, since time.Time) ([]string, error) {
	list, err := tx.Revocations(ledger.RevokedGrant, since)
	if err != nil {
		return nil, err
	}
	var out []string
	for _, v := range list {
		r, err := tx.Request(name.RequestID(v.Target))
		if errors.Is(err, state.ErrNotFound) {
			continue
		} else if err != nil {
			return nil, err
		}
		out = append(out, sshcert.KeyID(r.ID, r.Person))
	}
	return out, nil
}
