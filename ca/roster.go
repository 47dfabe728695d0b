package ca

import (
	"context"
	"fmt"

	"golang.org/x/crypto/ssh"

	"breakglass/ca/api"
	"breakglass/ca/state"
	"breakglass/internal/name"
	"breakglass/internal/skfile"
)

// roster is state.Roster with what every ask and every signature would make of it anew.
type roster struct {
	*state.Roster
	uv      bool
	handles map[name.Person][]api.KeyHandle
	public  map[string]ssh.PublicKey // by fingerprint
}

// roster gives it as of now. It is made whole, for everybody at once: what was made for one person when they first asked would be heard, in
// the time of the answer, by the next who asks about them.
func (c *CA) roster(ctx context.Context) (*roster, error) {
	now, err := c.state.Roster(ctx)
	if err != nil {
		return nil, err
	}
	uv := c.policy.Load().Always.UV
	if r := c.rosters.Load(); r != nil && r.Roster == now && r.uv == uv {
		return r, nil
	}
	r := &roster{now, uv, map[name.Person][]api.KeyHandle{}, map[string]ssh.PublicKey{}}
	for p, keys := range now.ByPerson {
		for _, k := range keys {
			pub, err := parseKey(k.PublicKey)
			if err != nil {
				return nil, fmt.Errorf("key %s: %w", k.Fingerprint, err)
			}
			r.public[k.Fingerprint] = pub
			if k.Suspended || k.Revoked {
				continue
			}
			h, err := handle(handleName(len(r.handles[p])), pub.Marshal(), k.Credential, r.flags())
			if err != nil {
				return nil, fmt.Errorf("key %s: %w", k.Fingerprint, err)
			}
			r.handles[p] = append(r.handles[p], h)
		}
	}
	c.rosters.Store(r)
	return r, nil
}

// flags are those of key files: what a key asks its holder for.
func (r *roster) flags() byte {
	if r.uv {
		return skfile.FlagUserPresence | skfile.FlagUserVerification
	}
	return skfile.FlagUserPresence
}
