package ca

import (
	"context"
	"fmt"
	"slices"

	"breakglass/ca/api"
	"breakglass/ca/state"
	"breakglass/internal/statement"
	"breakglass/ledger"
	"breakglass/policy"
)

// Whoever has the CA's keys could take the witnesses away, if its word were enough: after the founding it takes an operator's order, which the audit demands.

// WitnessesAsk asks for another list.
type WitnessesAsk struct {
	Witnesses []string `json:"witnesses"` // ledger.Site.Witnesses
}

// WitnessesDone says that the site has it, or what order it waits for.
type WitnessesDone struct {
	Witnesses []string `json:"witnesses"`
	Order     string   `json:"order,omitempty"` // the target of the order that it takes; "" is none, it is done
}

// ChangeWitnesses gives the site another list of witnesses, where local root may.
func (c *CA) ChangeWitnesses(ctx context.Context, q *WitnessesAsk) (*WitnessesDone, error) {
	site, err := c.site(ctx)
	if err != nil {
		return nil, err
	}
	if _, err := withWitnesses(site.Site, q.Witnesses); err != nil {
		return nil, err
	}
	out := &WitnessesDone{Witnesses: q.Witnesses}
	if site.Founded && site.Site.Profile != string(policy.Demo) {
		out.Order = statement.WitnessesFingerprint(q.Witnesses)
		return out, nil
	}
	return out, c.state.Do(ctx, func(tx *state.Tx) error {
		s, err := tx.Site()
		if err != nil {
			return err
		}
		f, err := withWitnesses(s.Site, q.Witnesses)
		if err != nil {
			return err
		}
		_, _, err = tx.Append(c.entry(ledger.ActorRoot, ledger.Subject{}, f))
		return err
	})
}

// withWitnesses is the site with that list.
func withWitnesses(site ledger.Site, list []string) (*ledger.SiteChanged, error) {
	if slices.Equal(site.Witnesses, list) {
		return nil, &api.Problem{Status: 409, Code: api.CodeConflict, Detail: "those are the site's witnesses already"}
	}
	site.Witnesses = slices.Clone(list)
	ws, err := ledger.ParseWitnesses(site)
	if err != nil {
		return nil, badRequest("witnesses: %v", err)
	}
	if ws.Quorum > len(ws.List) {
		return nil, &api.Problem{Status: 409, Code: api.CodeConflict, Detail: fmt.Sprintf("%d have to cosign, and the site has %d witnesses: no head would ever be cosigned", ws.Quorum, len(ws.List))}
	}
	return &ledger.SiteChanged{Site: site, Why: "witnesses changed"}, nil
}

// orderWitnesses is an operator's order of a list that came beside the signature.
func (c *CA) orderWitnesses(tx *state.Tx, o *order) (outcome, error) {
	if statement.WitnessesFingerprint(o.witnesses) != o.Target {
		return outcome{}, &api.Problem{Status: 409, Code: api.CodeConflict, Detail: "the witnesses beside the signature are not those that were signed for"}
	}
	s, err := tx.Site()
	if err != nil {
		return outcome{}, err
	}
	f, err := withWitnesses(s.Site, o.witnesses)
	return outcome{facts: f}, err
}
