package ledger

import (
	"breakglass/internal/name"
	"breakglass/internal/sshcert"
)

// What a via speaks (policy.ViaKind).
const (
	ViaSSH   = "ssh"
	ViaSOCKS = "socks5"
	ViaHTTP  = "http"
)

// SessionVia is the machine through which a jump reaches a session's host, as the policy has it. Its source, as the host sees it, is the
// session certificate's source-address.
type SessionVia struct {
	Name        name.Via   `json:"name"`
	Kind        string     `json:"kind"`
	Addresses   []string   `json:"addresses"` // IP:PORT
	Login       name.Login `json:"login,omitempty"`
	HostKeys    []string   `json:"host_keys,omitempty"` // of an SSH bastion
	HostCAs     []string   `json:"host_cas,omitempty"`
	Certificate string     `json:"certificate,omitempty"` // over the jump key, for an SSH bastion
}

// sessionVia holds what a session's via was given against the grant.
func (a *Audit) sessionVia(g *Grant, f *SessionOpened) {
	v := f.Via
	if len(v.Addresses) == 0 {
		a.fault(FaultSession, "via %q is nowhere", v.Name)
	}
	switch v.Kind {
	case ViaSOCKS, ViaHTTP:
		if v.Certificate != "" || v.Login != "" || len(v.HostKeys)+len(v.HostCAs) > 0 {
			a.fault(FaultSession, "via %q is a proxy, and has what a bastion has", v.Name)
		}
		return
	case ViaSSH:
	default:
		a.fault(FaultSession, "via %q of kind %q", v.Name, v.Kind)
		return
	}
	if len(v.HostKeys) == 0 && len(v.HostCAs) == 0 {
		a.fault(FaultSession, "no key by which via %q can be known", v.Name)
	}
	c, err := sshcert.Parse([]byte(v.Certificate))
	if err == nil {
		err = sshcert.Verify(c, sshcert.Via, a.cas("session_ca"), noClock)
	}
	if err != nil {
		a.fault(FaultCertificate, "via %q: %v", v.Name, err)
		return
	}
	if key, err := parseKey(f.Key); err != nil || !sameKey(c.Key, key) {
		a.fault(FaultCertificate, "via certificate over another key than the jump's")
	}
	if c.KeyId != sshcert.KeyID(g.Request.ID, g.Request.Person) || c.ValidPrincipals[0] != sshcert.ViaPrincipal(v.Login, v.Name) {
		a.fault(FaultCertificate, "via certificate of %s for %s", c.KeyId, c.ValidPrincipals[0])
	}
	a.serial(c, true)
}
