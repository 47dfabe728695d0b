package ca

import (
	"context"
	"errors"
	"net/netip"
	"slices"

	"golang.org/x/crypto/ssh"

	"breakglass/ca/api"
	"breakglass/ca/state"
	"breakglass/internal/name"
	"breakglass/ledger"
)

// SiteAnswer is the newest site with its proof. It is public: all of it is public halves and addresses.
func (c *CA) SiteAnswer(ctx context.Context) (*api.SiteAnswer, error) {
	out := &api.SiteAnswer{}
	return out, c.state.View(ctx, func(tx *state.Tx) error {
		s, err := tx.Site()
		if err != nil {
			return err
		}
		head, note, err := tx.Head()
		if err != nil {
			return err
		}
		out.Site = s.Site
		out.Entry, err = proven(tx, head.Size, s.Index)
		out.Entry.Checkpoint = note
		return err
	})
}

// proven is an entry with its proof to a tree of size size.
func proven(tx *state.Tx, size, idx int64) (api.ProvenEntry, error) {
	b, err := tx.Entry(idx)
	if err != nil {
		return api.ProvenEntry{}, err
	}
	p, err := tx.Inclusion(size, idx)
	return api.ProvenEntry{Index: idx, Entry: string(b), Proof: p}, err
}

// join spends a jump's token: the jump and the new site are entries.
func (c *CA) join(ctx context.Context, q *api.JoinAsk, from netip.Addr) (*api.JoinAnswer, error) {
	var keys []ssh.PublicKey
	for _, s := range []string{q.Key, q.HostKey} {
		k, err := parseKey(s)
		if err != nil || k.Type() != ssh.KeyAlgoED25519 {
			return nil, badRequest("key, host_key: want ssh-ed25519 public keys")
		}
		keys = append(keys, k)
	}
	if len(q.Addresses) == 0 || len(q.Source) == 0 || len(q.Addresses) > 16 || len(q.Source) > 8 {
		return nil, badRequest("addresses, source: want some, and not many")
	}
	for _, a := range q.Addresses {
		if _, err := netip.ParseAddrPort(a); err != nil {
			return nil, badRequest("address %q: want IP:PORT", a)
		}
	}
	var source []string
	for _, s := range q.Source {
		a, err := netip.ParseAddr(s)
		if err != nil {
			return nil, badRequest("source %q: want an IP address", s)
		}
		source = append(source, a.Unmap().String())
	}
	out := &api.JoinAnswer{}
	err := c.state.Do(ctx, func(tx *state.Tx) error {
		i, h, err := c.invite(tx, q.Invite, api.ForJump)
		if err != nil {
			return err
		}
		p, ok := c.policy.Load().Jump(name.Jump(i.Name))
		if !ok {
			return &api.Problem{Status: 403, Code: api.CodeInvite, Detail: "the policy knows no jump of that name any more"}
		}
		for _, s := range source { // hosts would list what the jump claims: the policy has the say
			if len(p.Source) > 0 && !slices.ContainsFunc(p.Source, func(n netip.Prefix) bool { return n.Contains(netip.MustParseAddr(s)) }) {
				return &api.Problem{Status: 403, Code: api.CodeInvite, Detail: "the policy does not have " + s + " among the sources of " + i.Name, Next: []string{"add it to [jumps." + i.Name + "] source"}}
			}
		}
		// Nobody proves the keys of a join: another jump's would turn that one's calls and facts into this one's.
		others, err := tx.Jumps()
		if err != nil {
			return err
		}
		for _, o := range others {
			if k := authorized(keys[0]); o.Jump.Name != name.Jump(i.Name) && (o.Jump.Key == k || o.Jump.HostKey == k || o.Jump.Key == authorized(keys[1]) || o.Jump.HostKey == authorized(keys[1])) {
				return &api.Problem{Status: 409, Code: api.CodeConflict, Detail: "that key is the jump " + string(o.Jump.Name) + "'s", Next: []string{"join from a directory of its own"}}
			}
		}
		if v, err := tx.JumpKeyRevoked(authorized(keys[0])); err != nil || v {
			return errors.Join(err, &api.Problem{Status: 409, Code: api.CodeRevoked, Detail: "that key was revoked with its jump", Next: []string{"join from a new directory: it makes new keys"}})
		}
		j := ledger.SiteJump{Name: name.Jump(i.Name), Addresses: q.Addresses, Source: source, Key: authorized(keys[0]), HostKey: authorized(keys[1])}
		if _, _, err := tx.Append(c.entry(ledger.JumpActor(j.Name), ledger.Subject{Jump: j.Name}, &ledger.JumpJoined{Jump: j, Invite: h})); err != nil {
			return err
		}
		site, err := tx.Site()
		if err != nil {
			return err
		}
		next := site.Site
		next.Jumps = slices.DeleteFunc(slices.Clone(next.Jumps), func(o ledger.SiteJump) bool { return o.Name == j.Name })
		next.Jumps = append(next.Jumps, j)
		out.Jump, out.Site = j.Name, next
		_, _, err = tx.Append(c.entry(ledger.ActorCA, ledger.Subject{Jump: j.Name}, &ledger.SiteChanged{Site: next, Why: "jump joined"}))
		return err
	})
	if pr := new(api.Problem); errors.As(err, &pr) && pr.Code == api.CodeInvite {
		c.strangers.add("invite_refused", from)
	}
	if err != nil {
		return nil, err
	}
	return out, nil
}
