package jump

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"golang.org/x/crypto/ssh"

	"breakglass/internal/forward"
	"breakglass/internal/name"
	"breakglass/internal/sshcert"
	"breakglass/ledger"
)

// This file reaches a host through the machine that the answer names: an SSH bastion, a SOCKS5 or an HTTP CONNECT proxy. What runs through it is the same
// SSH connection that would run without: the via sees ciphertext, and the host's key is judged as ever. A via that lies can refuse, delay and cut.

// viaTimeout bounds all that a via does before the host is heard from, for one address of it: connecting, logging in, opening the way. Two addresses of a
// via that answer nothing fit into openTimeout with room for a third that does.
const viaTimeout = 10 * time.Second

// via is a session's via as the answer has it.
type via struct {
	name              name.Via
	kind              string
	addresses         []string
	login             name.Login
	cert              *ssh.Certificate // of an SSH bastion alone, and so the rest
	hostKeys, hostCAs []ssh.PublicKey
	signer            ssh.Signer // the session key with cert
}

// viaError says what went wrong at a via, by its name and address.
type viaError struct {
	via     name.Via
	address string
	step    string
	down    bool // nothing behind this address of the via can be reached through it
	refused bool // the bastion knows us, or the way that we want, not
	err     error
}

func (e *viaError) Error() string {
	return fmt.Sprintf("via %s at %s: %s: %v", e.via, e.address, e.step, e.err)
}

func (e *viaError) Unwrap() error { return e.err }

// checkVia reads the answer's via; session is the session certificate beside it.
func checkVia(v *ledger.SessionVia, session *ssh.Certificate, cas []ssh.PublicKey) (*via, error) {
	bad := func(format string, args ...any) (*via, error) {
		return nil, fmt.Errorf("via %q: "+format, append([]any{v.Name}, args...)...)
	}
	if _, err := name.ParseVia(string(v.Name)); err != nil {
		return nil, err
	}
	if len(v.Addresses) == 0 {
		return bad("no address")
	}
	for _, a := range v.Addresses {
		if _, err := netip.ParseAddrPort(a); err != nil { // names were looked up by the CA
			return bad("address %q", a)
		}
	}
	out := &via{name: v.Name, kind: v.Kind, addresses: v.Addresses, login: v.Login}
	switch v.Kind {
	case ledger.ViaSOCKS, ledger.ViaHTTP:
		return out, nil
	case ledger.ViaSSH:
	default:
		return bad("kind %q", v.Kind)
	}
	for _, l := range []struct {
		from []string
		to   *[]ssh.PublicKey
	}{{v.HostKeys, &out.hostKeys}, {v.HostCAs, &out.hostCAs}} {
		for _, line := range l.from {
			k, err := parseKey(line)
			if err != nil {
				return bad("host key: %w", err)
			}
			*l.to = append(*l.to, k)
		}
	}
	if len(out.hostKeys)+len(out.hostCAs) == 0 {
		return bad("no host key: nothing tells it from an impostor")
	}
	var err error
	if out.cert, err = sshcert.Parse([]byte(v.Certificate)); err == nil {
		err = sshcert.Verify(out.cert, sshcert.Via, cas, time.Time{})
	}
	if err != nil {
		return bad("certificate: %w", err)
	}
	if string(out.cert.Key.Marshal()) != string(session.Key.Marshal()) || out.cert.KeyId != session.KeyId || out.cert.ValidPrincipals[0] != sshcert.ViaPrincipal(v.Login, v.Name) {
		return bad("certificate for %q", out.cert.ValidPrincipals[0])
	}
	return out, nil
}

// reachThrough logs in to the host through the via: each address of the via, and behind it each of the host. A wrong key, the via's or the host's, stops it.
func (o *order) reachThrough(ctx context.Context, source netip.Addr, key ssh.Signer) (*upstream, error) {
	var errs []error
	for _, at := range o.via.addresses {
		for _, a := range o.addresses {
			u, err := o.through(ctx, at, a, source, key)
			if err == nil {
				return u, nil
			}
			if wrong := (*hostKeyMismatch)(nil); errors.As(err, &wrong) {
				return nil, err
			}
			errs = append(errs, err)
			if broken := (*viaError)(nil); ctx.Err() != nil || errors.As(err, &broken) && broken.down {
				break
			}
		}
		if ctx.Err() != nil {
			break
		}
	}
	return nil, errors.Join(errs...)
}

// through logs in to one address of the host through one address of the via.
func (o *order) through(ctx context.Context, at, address string, source netip.Addr, key ssh.Signer) (*upstream, error) {
	nc, err := o.via.open(ctx, at, address, source)
	if err != nil {
		return nil, err
	}
	u := &upstream{address: address, login: string(o.login), released: make(chan struct{}), done: make(chan struct{})}
	u.through = fmt.Sprintf(" through via %s (%s) at %s", o.via.name, o.via.kind, at)
	u.release(o, key)
	// Cut when ctx ends: an address behind a via may take the connection and then say nothing for ever.
	if u.err = u.connect(ctx, nc, u.login, hostKeyAlgorithms(o)); u.err != nil {
		nc.Close()
		return nil, fmt.Errorf("%s%s: %w", address, u.through, u.err)
	}
	u.cancel = func() {}
	close(u.done)
	return u, nil
}

// open gives a connection to address, made by the via at one of its addresses. Closing it closes the one to the via.
func (v *via) open(ctx context.Context, at, address string, source netip.Addr) (net.Conn, error) {
	fail := func(step string, down, refused bool, err error) (net.Conn, error) {
		return nil, &viaError{v.name, at, step, down, refused, err}
	}
	host, port, err := splitAddress(address)
	if err != nil {
		return fail("asking for the host", false, false, err)
	}
	ctx, cancel := context.WithTimeout(ctx, viaTimeout)
	defer cancel()
	nc, err := dialTCP(ctx, at, source)
	if err != nil {
		return fail("connecting", true, false, err)
	}
	stop := context.AfterFunc(ctx, func() { nc.Close() })
	var step string
	out := nc
	switch v.kind {
	case ledger.ViaSOCKS:
		step, err = "SOCKS5", socksConnect(nc, host, port)
	case ledger.ViaHTTP:
		step, err = "CONNECT", httpConnect(nc, host, port)
	default:
		var client *ssh.Client
		if client, err = v.logIn(nc, at); err != nil {
			nc.Close()
			stop()
			if ctx.Err() != nil {
				err = fmt.Errorf("no answer within %s: %w", viaTimeout, err)
			}
			return fail("logging in as "+string(v.login), true, true, err)
		}
		step = "opening the way to " + address
		var c net.Conn
		if c, err = client.DialContext(ctx, "tcp", address); err == nil {
			out = &bastionConn{Conn: c, client: client}
		}
	}
	if !stop() && err == nil { // the time was over, and nc is closed
		err = ctx.Err()
	}
	if err != nil {
		nc.Close()
		if ctx.Err() != nil {
			err = fmt.Errorf("no answer within %s: %w", viaTimeout, err)
		}
		return fail(step, errors.Is(err, errProxy), v.kind == ledger.ViaSSH, err)
	}
	return out, nil
}

// logIn makes an SSH connection to a bastion, which shows a key that the answer names before it sees ours.
func (v *via) logIn(nc net.Conn, at string) (*ssh.Client, error) {
	conn, chans, reqs, err := ssh.NewClientConn(nc, at, &ssh.ClientConfig{
		Config: cryptoConfig(), User: string(v.login), ClientVersion: identification, HostKeyAlgorithms: keyAlgorithms(v.hostKeys, v.hostCAs),
		HostKeyCallback: func(_ string, _ net.Addr, key ssh.PublicKey) error {
			if !knownKey(key, string(v.name), v.hostKeys, v.hostCAs) {
				return &hostKeyMismatch{via: v.name, address: at, seen: plainKey(key)}
			}
			return nil
		},
		Auth: []ssh.AuthMethod{ssh.PublicKeys(v.signer)},
	})
	if err != nil {
		return nil, err
	}
	return ssh.NewClient(conn, chans, reqs), nil // which refuses every channel and request of the bastion's own
}

// bastionConn is a channel through a bastion. Its end is that of the whole connection: a bastion that never answers a close keeps nobody waiting.
type bastionConn struct {
	net.Conn
	client *ssh.Client
}

func (c *bastionConn) Close() error { return c.client.Close() }

// splitAddress reads the address of a host for a via: it goes into a request's text, so that what is no address or name of the policy's form mustn't.
func splitAddress(address string) (host, port string, err error) {
	if host, port, err = net.SplitHostPort(address); err != nil {
		return "", "", err
	}
	if _, err := netip.ParseAddr(host); err != nil {
		if host, err = forward.ParseHost(host); err != nil {
			return "", "", err
		}
	}
	_, err = forward.ParsePort(port, false)
	return host, port, err
}
