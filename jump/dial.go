package jump

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/crypto/ssh"

	"breakglass/internal/name"
)

const (
	// dialTimeout bounds reaching one address of a host.
	dialTimeout = 8 * time.Second
	// clientVersion is how the jump names itself to hosts and people.
	identification = "SSH-2.0-breakglass"
)

// cryptoConfig is what both legs speak: measured against ssh-audit, which finds nothing to fail or to warn about. chacha20 isn't
// in it: the client's order decides, and AES-GCM costs a third; without CBC and chacha20 there is nothing for a prefix truncation (CVE-2023-48795).
func cryptoConfig() ssh.Config {
	return ssh.Config{
		KeyExchanges: []string{ssh.KeyExchangeMLKEM768X25519, ssh.KeyExchangeCurve25519, ssh.KeyExchangeDH16SHA512},
		Ciphers:      []string{ssh.CipherAES128GCM, ssh.CipherAES256GCM, ssh.CipherAES256CTR, ssh.CipherAES128CTR},
		MACs:         []string{ssh.HMACSHA256ETM, ssh.HMACSHA512ETM},
	}
}

// hostKeyMismatch: the host showed a key that the answer doesn't name.
type hostKeyMismatch struct {
	via     name.Via // it was the via; empty: the host
	address string
	seen    ssh.PublicKey
}

func (e *hostKeyMismatch) Error() string {
	if e.via != "" {
		return fmt.Sprintf("via %s at %s showed key %s", e.via, e.address, ssh.FingerprintSHA256(e.seen))
	}
	return fmt.Sprintf("host at %s showed key %s", e.address, ssh.FingerprintSHA256(e.seen))
}

// errAnother: the early connection isn't what the answer wants; a fresh one is made.
var errAnother = errors.New("early connection differs from the answer")

// upstream is a connection to a host whose key exchange may begin before the answer is there. Before release it sends nothing that
// anybody could be harmed by: no user name, no signature. Its host key is judged by the answer alone.
type upstream struct {
	address  string // as the answer has it; a name only where the policy has one
	through  string // for people: " through via …"; empty if reached directly
	login    string
	conn     net.Conn
	cancel   context.CancelFunc
	released chan struct{} // closed once order is set; order nil lets it go
	order    *order
	key      ssh.Signer // the session key with its certificate
	done     chan struct{}

	// set before done is closed
	client ssh.Conn
	chans  <-chan ssh.NewChannel
	reqs   <-chan *ssh.Request
	err    error
}

// early begins tcp and key exchange. algorithms, if known, are the host key types to ask for.
func early(ctx context.Context, address string, source netip.Addr, login string, algorithms []string) *upstream {
	u := &upstream{address: address, login: login, released: make(chan struct{}), done: make(chan struct{})}
	ctx, u.cancel = context.WithCancel(ctx)
	go func() {
		defer close(u.done)
		defer u.cancel()
		nc, err := dialTCP(ctx, address, source)
		if err != nil {
			u.err = err
			return
		}
		u.err = u.connect(ctx, nc, login, algorithms)
	}()
	return u
}

// dialTCP connects from the jump's address towards hosts, if it is of the same family.
func dialTCP(ctx context.Context, address string, source netip.Addr) (net.Conn, error) {
	d := net.Dialer{Timeout: dialTimeout}
	if to, err := netip.ParseAddrPort(address); err == nil && source.IsValid() && source.Is4() == to.Addr().Unmap().Is4() {
		d.LocalAddr = net.TCPAddrFromAddrPort(netip.AddrPortFrom(source, 0))
	}
	nc, err := d.DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	return newQuickConn(nc), nil
}

// connect speaks SSH over nc, whatever it leads through, and owns it.
func (u *upstream) connect(ctx context.Context, nc net.Conn, login string, algorithms []string) error {
	u.conn = nc
	stop := context.AfterFunc(ctx, func() { u.conn.Close() })
	defer stop()
	cfg := &ssh.ClientConfig{
		Config: cryptoConfig(), User: login, ClientVersion: identification, HostKeyAlgorithms: algorithms,
		HostKeyCallback: func(_ string, _ net.Addr, key ssh.PublicKey) error {
			// The answer has to come first: until then nothing but the key exchange was sent. Keys are changed later too (a host's
			// RekeyLimit), when ctx, which is the opening's, is long over: the key is held against the same answer.
			select {
			case <-u.released:
			default:
				select {
				case <-u.released:
				case <-ctx.Done():
					return ctx.Err()
				}
			}
			if u.order == nil {
				return errAnother
			}
			return u.order.checkHostKey(key, u.address)
		},
		Auth: []ssh.AuthMethod{ssh.PublicKeysCallback(func() ([]ssh.Signer, error) { return []ssh.Signer{u.key}, nil })},
	}
	var err error
	u.client, u.chans, u.reqs, err = ssh.NewClientConn(u.conn, u.address, cfg)
	return err
}

// release lets the connection go on under the answer, or end.
func (u *upstream) release(o *order, key ssh.Signer) {
	u.order, u.key = o, key
	close(u.released)
}

// hostKeyAlgorithms is what a host is asked for: those of the pinned keys, so that a host with keys of several types shows the one
// that we know.
func hostKeyAlgorithms(o *order) []string { return keyAlgorithms(o.hostKeys, o.hostCAs) }

func keyAlgorithms(keys, cas []ssh.PublicKey) []string {
	var out []string
	if len(cas) > 0 {
		out = append(out, ssh.CertAlgoED25519v01, ssh.CertAlgoECDSA256v01, ssh.CertAlgoRSASHA512v01, ssh.CertAlgoRSASHA256v01)
	}
	for _, k := range keys {
		if k.Type() == ssh.KeyAlgoRSA {
			out = append(out, ssh.KeyAlgoRSASHA512, ssh.KeyAlgoRSASHA256)
		} else {
			out = append(out, k.Type())
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// checkHostKey judges a host's key by the answer.
func (o *order) checkHostKey(key ssh.PublicKey, address string) error {
	if !knownKey(key, string(o.host), o.hostKeys, o.hostCAs) {
		return &hostKeyMismatch{address: address, seen: plainKey(key)}
	}
	return nil
}

// knownKey tells whether key is one of keys, or a certificate for name by one of cas.
func knownKey(key ssh.PublicKey, name string, keys, cas []ssh.PublicKey) bool {
	same := func(set []ssh.PublicKey, k ssh.PublicKey) bool {
		return slices.ContainsFunc(set, func(p ssh.PublicKey) bool { return bytes.Equal(p.Marshal(), k.Marshal()) })
	}
	if cert, ok := key.(*ssh.Certificate); ok {
		checker := ssh.CertChecker{IsHostAuthority: func(k ssh.PublicKey, _ string) bool {
			_, nested := k.(*ssh.Certificate)
			return !nested && same(cas, k)
		}}
		// CheckCert takes an empty list of principals for everybody's.
		if len(cert.ValidPrincipals) > 0 && cert.CertType == ssh.HostCert && checker.IsHostAuthority(cert.SignatureKey, "") &&
			checker.CheckCert(name, cert) == nil {
			return true
		}
	}
	return same(keys, plainKey(key))
}

// plainKey is the key of a certificate: the exchange was signed by it all the same.
func plainKey(key ssh.PublicKey) ssh.PublicKey {
	if cert, ok := key.(*ssh.Certificate); ok {
		return cert.Key
	}
	return key
}

// reach logs in to the host under the answer: over the early connection if that is what the answer wants, else anew, one address
// after the other.
func (o *order) reach(ctx context.Context, pre *upstream, source netip.Addr, key ssh.Signer) (*upstream, error) {
	// The login too: what began the connection was a certificate shown, and the one proven may be another.
	if pre != nil && o.via == nil && slices.Contains(o.addresses, pre.address) && pre.login == string(o.login) {
		pre.release(o, key)
		stop := context.AfterFunc(ctx, pre.cancel)
		<-pre.done
		stop()
		if pre.err == nil {
			return pre, nil
		}
		// Perhaps only the wrong one of several host keys was asked for: with the answer at hand the second try knows which.
	} else if pre != nil {
		pre.release(nil, nil)
	}
	if o.via != nil {
		return o.reachThrough(ctx, source, key)
	}
	var errs []error
	for _, a := range o.addresses {
		u := early(ctx, a, source, string(o.login), hostKeyAlgorithms(o))
		u.release(o, key)
		<-u.done
		if u.err == nil {
			return u, nil
		}
		var wrong *hostKeyMismatch
		if errors.As(u.err, &wrong) {
			return nil, u.err // an impostor on one address is a reason to stop, not to try the next
		}
		errs = append(errs, fmt.Errorf("%s: %w", a, u.err))
		if ctx.Err() != nil {
			break
		}
	}
	return nil, errors.Join(errs...)
}

// sessionSigner pairs the session key with its certificate.
func sessionSigner(cert *ssh.Certificate, key ssh.Signer) (ssh.Signer, error) {
	return ssh.NewCertSigner(cert, key)
}

// quickConn asks for quick acknowledgement through its first reads.
type quickConn struct {
	net.Conn
	raw  syscall.RawConn
	left atomic.Int32
}

func newQuickConn(c net.Conn) *quickConn {
	q := &quickConn{Conn: c}
	if t, ok := c.(*net.TCPConn); ok {
		q.raw, _ = t.SyscallConn()
	}
	q.left.Store(quickReads)
	if q.raw != nil {
		quickAck(q.raw)
	}
	return q
}

func (q *quickConn) Read(b []byte) (int, error) {
	n, err := q.Conn.Read(b)
	if q.raw != nil && q.left.Load() > 0 {
		q.left.Add(-1)
		quickAck(q.raw)
	}
	return n, err
}
