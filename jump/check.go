package jump

import (
	"errors"
	"net"
	"net/netip"
	"time"

	"golang.org/x/crypto/ssh"

	"breakglass/internal/name"
	"breakglass/internal/sshcert"
)

// claim is what a client certificate says, checked against the connection. It is public data until the key is proven.
type claim struct {
	cert   *ssh.Certificate
	grant  sshcert.Grant
	person name.Person
	peer   netip.Addr
}

// refusal is a typed no at the key query.
type refusal struct {
	reason string
	err    error
}

func (r *refusal) Error() string {
	if r.err != nil {
		return r.reason + ": " + r.err.Error()
	}
	return r.reason
}
func (r *refusal) Unwrap() error { return r.err }

// judge holds a key against the connection on which it came: it runs at the query, so that a client with several certificates
// goes on to the next, and again on what was proven. Whether it fits what was asked for is for fit.
func judge(key ssh.PublicKey, remote net.Addr, cas []ssh.PublicKey, now time.Time) (*claim, *refusal) {
	cert, ok := key.(*ssh.Certificate)
	if !ok {
		return nil, &refusal{refusedNoCert, nil}
	}
	if err := sshcert.Verify(cert, sshcert.Client, cas, now); err != nil {
		reason := refusedShape
		switch {
		case errors.Is(err, sshcert.ErrIssuer):
			reason = refusedIssuer
		case errors.Is(err, sshcert.ErrExpired):
			reason = refusedExpired
		case errors.Is(err, sshcert.ErrEarly):
			reason = refusedEarly
		}
		return nil, &refusal{reason, err}
	}
	c := &claim{cert: cert, peer: peerAddr(remote)}
	var err error
	if c.grant, err = sshcert.ParseGrant(cert.CriticalOptions[sshcert.OptionGrant]); err != nil {
		return nil, &refusal{refusedShape, err}
	}
	if _, c.person, err = sshcert.ParseKeyID(cert.KeyId); err != nil {
		return nil, &refusal{refusedShape, err}
	}
	if err := sshcert.FromSource(cert, c.peer); err != nil {
		return nil, &refusal{refusedSource, err}
	}
	return c, nil
}

// peerAddr is the address of the other end, or the zero Addr, which no certificate names.
func peerAddr(a net.Addr) netip.Addr {
	t, ok := a.(*net.TCPAddr)
	if !ok {
		return netip.Addr{}
	}
	return t.AddrPort().Addr().Unmap()
}
