package ca

import (
	"net/netip"
	"time"

	"golang.org/x/crypto/ssh"

	"breakglass/ca/state"
	"breakglass/internal/sshcert"
	"breakglass/ledger"
	"breakglass/policy"
)

// connectTo are the addresses to which a jump connects for a host: its own, or those of its via.
func connectTo(p *policy.Policy, h *policy.HostInfo) []string {
	if v, ok := p.Via(h.Via); ok {
		return v.Address
	}
	return h.Address
}

// through puts the host's via into the answer: s.addresses are then the via's, and the host's are as the policy has them, names too, which the via looks up
// where it stands. It gives the addresses from which the host sees the jump come.
func (c *CA) through(p *policy.Policy, s *sessionAsk, f *ledger.SessionOpened, host *policy.HostInfo, r *state.Request, jumpKey ssh.PublicKey, jump []netip.Addr, now time.Time) []netip.Addr {
	v, ok := p.Via(host.Via)
	if !ok {
		return jump
	}
	f.Addresses = host.Address
	f.Via = &ledger.SessionVia{Name: v.Name, Kind: string(v.Kind), Addresses: s.addresses, Login: v.Login, HostKeys: keyTexts(v.HostKeys), HostCAs: keyTexts(v.HostCA)}
	if v.Kind == policy.ViaSSH {
		s.via = sshcert.NewVia(jumpKey, r.Person, r.ID, v.Login, v.Name, jump, now)
	}
	return v.Source
}
