package jump

import (
	"context"
	"fmt"

	"breakglass/ca/api"
	"breakglass/ledger"
)

// trusted is what the jump trusts now: what was pinned at the join, and what proven entries of the pinned ledger have made of it since.
func (j *Jump) trusted() trust { return *j.trust.Load() }

// follow takes a site that is proven to be the ledger's: CA keys come and go by rotation while the jump serves. What runs goes on: it was
// opened by what was trusted then, and a revocation is another entry. What can't be read changes nothing.
func (j *Jump) follow(s ledger.Site, signed string) error {
	had := j.trusted()
	t, err := parseTrust(s)
	if err != nil {
		return fmt.Errorf("following the site: %w", err)
	}
	if t.origin != had.origin || t.ledgerKey != had.ledgerKey { // never by a site.changed: that would be a succession
		return fmt.Errorf("following the site: it is of %q, pinned is %q", t.origin, had.origin)
	}
	j.trust.Store(&t)
	j.hostCerts.trust(t.hostCA)
	if j.cfg.Followed != nil {
		j.cfg.Followed(s, signed)
	}
	return nil
}

// catchUp asks for the site that is in force: what changed while nobody listened is not heard again.
func (j *Jump) catchUp(ctx context.Context) error {
	if j.cfg.NewestSite == nil {
		return nil
	}
	a, err := j.cfg.NewestSite(ctx)
	if err != nil {
		return fmt.Errorf("following the site: %w", err)
	}
	return j.follow(a.Site, a.Entry.Checkpoint)
}

// Site is a function that gives the newest site, proven; ca/api/client's method is one.
type Site func(ctx context.Context) (*api.SiteAnswer, error)
