package ca

import (
	"context"

	"golang.org/x/crypto/ssh"

	"breakglass/ca/api"
	"breakglass/ca/state"
	"breakglass/internal/name"
	"breakglass/internal/sshcert"
	"breakglass/ledger"
)

// hostCerts signs the certificates by which a jump answers for hosts: ahead for the names that the policy writes out, and for its own;
// for a name that only a pattern covers while a live grant names it. The preamble that asks for a name is a stranger's, so the
// policy's knowledge of the name decides, never the wish.
func (c *CA) hostCerts(ctx context.Context, q *api.HostCertsAsk, who *caller) (*api.HostCertsAnswer, error) {
	if who == nil || who.jump == "" {
		return nil, passNeeded()
	}
	p := c.policy.Load()
	var names []name.Host
	if q.Host == "" {
		names = append([]name.Host{name.Host(who.jump)}, p.HostNames()...)
	} else {
		h, err := name.ParseHost(q.Host)
		if err != nil {
			return nil, badRequest("%v", err)
		}
		names = []name.Host{h}
	}
	out := &api.HostCertsAnswer{Certificates: []string{}, Hints: map[name.Host][]string{}}
	err := c.state.Do(ctx, func(tx *state.Tx) error {
		j, err := tx.Jump(who.jump)
		if err != nil {
			return err
		}
		key, err := parseKey(j.Jump.HostKey)
		if err != nil {
			return err
		}
		if q.Host != "" {
			live, err := tx.HasLiveGrant(names[0], c.now())
			if err != nil {
				return err
			}
			if _, known := p.Host(names[0]); !known || !live {
				return &api.Problem{Status: 404, Code: api.CodeNotFound, Detail: "no live grant names that host"}
			}
		}
		for len(names) > 0 {
			n := min(len(names), sshcert.MaxPrincipals)
			cert, err := c.hostCert(tx, who.jump, key, names[:n])
			if err != nil {
				return err
			}
			out.Certificates = append(out.Certificates, cert)
			for _, h := range names[:n] {
				if info, ok := p.Host(h); ok && info.Via == "" { // behind a via nothing can begin before the answer
					out.Hints[h] = info.Address
				}
			}
			names = names[n:]
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

func (c *CA) hostCert(tx *state.Tx, jump name.Jump, key ssh.PublicKey, names []name.Host) (string, error) {
	var principals []string
	for _, n := range names {
		principals = append(principals, string(n))
	}
	cert, err := c.certify(tx, ledger.Subject{Jump: jump}, sshcert.Host, sshcert.NewHost(key, jump, principals, c.now()), nil)
	if err != nil {
		return "", err
	}
	return authorized(cert), nil
}
