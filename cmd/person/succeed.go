package person

import (
	"context"
	"errors"

	"breakglass/ca/api"
	"breakglass/ca/api/client"
)

// ErrUnsigned says that a succession is there which its founders have not signed.
var ErrUnsigned = errors.New("the CA follows one that is lost, and its founders have not signed that yet")

// Succession fetches and checks what follows the pinned ledger; the client is the one of the pins.
func (p *Person) Succession(ctx context.Context) (*api.Succession, *client.Client, error) {
	c, err := p.Client()
	if err != nil {
		return nil, nil, err
	}
	s, err := c.Succession(ctx)
	return s, c, err
}

// Succeed takes over what follows the pinned ledger, once that is proved, and keeps the old pins.
func (p *Person) Succeed(ctx context.Context) (*api.Succession, error) {
	s, c, err := p.Succession(ctx)
	if err != nil {
		return nil, err
	}
	if s.Entry == nil {
		return s, ErrUnsigned
	}
	next := api.Pins{Site: s.Facts.Site, Checkpoint: s.Entry.Checkpoint}
	if err := next.Validate(); err != nil {
		return nil, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.Home.Succeed(c.Pins(), next); err != nil {
		return nil, err
	}
	p.pins = next
	return s, nil
}
