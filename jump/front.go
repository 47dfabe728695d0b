package jump

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"runtime/debug"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	front "github.com/gliderlabs/ssh"
	"golang.org/x/crypto/ssh"

	"breakglass/internal/name"
	"breakglass/internal/proxyproto"
	"breakglass/internal/sshcert"
)

// doorConn is a person's connection, from accept on.
type doorConn struct {
	*quickConn
	j      *Jump
	peer   netip.Addr
	remote net.Addr  // the person's; of a listed proxy's connection, as its header says
	head   []byte    // read while looking for a preamble
	host   name.Host // what the preamble named, or the channel of an outer connection; "" without either
	outer  *lobby    // the connection in which this is one; nil: it stands for itself
	way    way       // set once proven
	meta   ssh.ServerPreAuthConn
	timer  *time.Timer

	counted atomic.Bool // among the strangers
	proven  atomic.Bool
	left    atomic.Bool // its place among the unproven is free
	early   *upstream
	tried   bool // to open a session
	told    bool // why it can't come in

	certless bool // the client knows no certificates
	once     sync.Once
}

type doorKey struct{}
type lobbyKey struct{}

func (d *doorConn) Read(b []byte) (int, error) {
	if len(d.head) > 0 {
		n := copy(b, d.head)
		d.head = d.head[n:]
		return n, nil
	}
	return d.quickConn.Read(b)
}

// RemoteAddr is the person's: the certificate's source address is held against it, here and in x/crypto.
func (d *doorConn) RemoteAddr() net.Addr { return d.remote }

func (d *doorConn) Close() error {
	d.once.Do(func() {
		d.timer.Stop()
		d.leave()
	})
	return d.quickConn.Close()
}

// leave gives the stranger's place back, once: the deadline may close while the key is being proven.
func (d *doorConn) leave() {
	if !d.left.Swap(true) {
		d.j.caps.leave(d.peer)
	}
}

func (d *doorConn) refuse(r *refusal) {
	d.counted.Store(true)
	d.j.strangers.count(r.reason, d.peer)
	d.j.log.Debug("refused", "reason", r.reason, "peer", d.peer, "error", r.err)
}

// readIdentification reads on to the end of the client's first line (RFC 4253 section 4.2: at most 255 bytes) and keeps it for SSH. What doesn't come in
// time is not waited for.
func (d *doorConn) readIdentification() {
	const limit = 255
	for b := make([]byte, limit); len(d.head) < limit && !bytes.ContainsRune(d.head, '\n'); {
		n, err := d.quickConn.Read(b[:limit-len(d.head)])
		d.head = append(d.head, b[:n]...) // perhaps more than the line: it is all SSH's
		if err != nil {
			break
		}
	}
	d.certless = bytes.HasPrefix(d.head, []byte("SSH-2.0-"+certless))
}

// certless begins the identification of the one client still in use that knows no certificates. It can't come in: all that it gets is a word why, and to hear
// that it needs a MAC that nobody else is offered.
const certless = "dropbear"

// explain tells a client that can't come in at all why. Others hear nothing at the query: they may offer the right certificate next.
func (d *doorConn) explain(r *refusal) {
	if r.reason != refusedNoCert || d.told || !d.certless {
		return
	}
	d.told = true
	d.meta.SendAuthBanner("breakglass: error: this client knows no certificates, and a plain key opens nothing here\n" +
		"breakglass: hint: OpenSSH, PuTTY 0.78 or newer, or paramiko: breakglass ssh " + printable(d.meta.User()) + "\n")
}

// caps bounds who proved nothing yet, and who is no session yet.
type caps struct {
	outers atomic.Int32 // proven connections that are no session

	mu       sync.Mutex
	all      int
	byNet    map[string]int
	byPerson map[name.Person]int // of the outer ones
}

// enterOuter counts a proven connection that is no session, unless there are too many, of this person or in all.
func (c *caps) enterOuter(p name.Person) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.outers.Load() >= maxOuters || c.byPerson[p] >= maxOutersPerPerson {
		return false
	}
	if c.byPerson == nil {
		c.byPerson = map[name.Person]int{}
	}
	c.outers.Add(1)
	c.byPerson[p]++
	return true
}

func (c *caps) leaveOuter(p name.Person) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.outers.Add(-1)
	if c.byPerson[p]--; c.byPerson[p] <= 0 {
		delete(c.byPerson, p)
	}
}

func (c *caps) enter(a netip.Addr) bool {
	n := network(a)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.all >= maxUnproven || c.byNet[n] >= maxUnprovenPerNetwork {
		return false
	}
	c.all++
	c.byNet[n]++
	return true
}

func (c *caps) leave(a netip.Addr) {
	n := network(a)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.all--
	if c.byNet[n]--; c.byNet[n] <= 0 {
		delete(c.byNet, n)
	}
}

// server is the front. Handler, SubsystemHandlers and PtyCallback stay unset: gliderlabs' session rewrites line ends and drops
// requests. HostSigners must not be empty, or a random RSA key would be offered beside ours.
func (j *Jump) server() *front.Server {
	return &front.Server{
		Version:                  "breakglass",
		HostSigners:              []front.Signer{j.cfg.HostKey},
		ConnCallback:             j.connected,
		ServerConfigCallback:     j.serverConfig,
		PublicKeyHandler:         j.offered,
		ConnectionFailedCallback: j.failedHandshake,
		ChannelHandlers:          map[string]front.ChannelHandler{"default": j.channel},
		RequestHandlers:          map[string]front.RequestHandler{"default": j.globalRequest},
	}
}

// connected reads the preamble, before anything else and in the connection's own goroutine.
func (j *Jump) connected(ctx front.Context, nc net.Conn) net.Conn {
	d := &doorConn{quickConn: newQuickConn(nc), j: j, peer: peerAddr(nc.RemoteAddr()), remote: nc.RemoteAddr()}
	if inner, ok := nc.(*innerConn); ok {
		d.outer, d.host = inner.outer, inner.host
	} else if proxyproto.Listed(j.cfg.Proxies, d.peer) && !j.unwrap(d) {
		return nil
	}
	if !j.caps.enter(d.peer) {
		j.strangers.count(refusedBusy, d.peer)
		return nil
	}
	// gliderlabs clears deadlines with each read (its conn.go), so a timer closes.
	d.timer = time.AfterFunc(handshakeTimeout, func() {
		if !d.proven.Load() {
			d.refuse(&refusal{refusedSlow, nil})
		}
		d.Close()
	})
	if d.outer != nil { // its host is named already
		ctx.SetValue(doorKey{}, d)
		return d
	}
	if err := d.readPreamble(); err != nil {
		reason := refusedPreamble
		if errors.Is(err, errProxied) {
			reason = refusedProxied
		} else if !errors.Is(err, errPreamble) {
			reason = refusedHandshake
		}
		if !d.counted.Load() {
			d.refuse(&refusal{reason, err})
		}
		d.Close()
		return nil
	}
	if d.host != "" && j.turnAway(d) {
		d.Close()
		return nil
	}
	ctx.SetValue(doorKey{}, d)
	return d
}

// unwrap takes a listed proxy's header, and says whether the connection goes on. Until it is read, the proxy's connections have places of their
// own: they all come from one address, and whoever is behind it must not shut out the others.
func (j *Jump) unwrap(d *doorConn) bool {
	if j.unwrapping.Add(1) > maxUnwrapping {
		j.unwrapping.Add(-1)
		j.strangers.count(refusedBusy, d.peer)
		return false
	}
	err := d.readProxy()
	j.unwrapping.Add(-1)
	switch {
	case err == nil:
		return true
	case errors.Is(err, errUnproxied):
		j.strangers.count(refusedUnproxied, d.peer)
		if now := time.Now().Unix(); j.unproxied.Swap(now/60) != now/60 { // a line a minute: a misconfigured proxy does it all the time
			j.log.Error("a listed proxy sends no PROXY v2 header: nobody gets in through it", "proxy", d.peer)
		}
	case !errors.Is(err, errHealth):
		j.strangers.count(refusedPreamble, d.peer)
		j.log.Debug("refused", "reason", refusedPreamble, "proxy", d.peer, "error", err)
	}
	return false
}

func (d *doorConn) readPreamble() error {
	d.SetReadDeadline(time.Now().Add(preambleTimeout))
	defer d.SetReadDeadline(time.Time{})
	b := make([]byte, proxyproto.FixedLength, proxyproto.FixedLength+proxyproto.MaxLength)
	n, err := io.ReadAtLeast(d.quickConn, b[:len(proxyproto.Start)], len(proxyproto.Start))
	if !strings.HasPrefix(proxyproto.Start, string(b[:n])) || n == 0 {
		var timeout net.Error
		if err != nil && !(errors.As(err, &timeout) && timeout.Timeout()) {
			return err
		}
		d.head = b[:n]
		if n == len(proxyproto.Start) {
			d.readIdentification()
		}
		return nil // no preamble: an identification string, or a client that waits for ours
	}
	if err != nil {
		return err
	}
	if _, err := io.ReadFull(d.quickConn, b[n:]); err != nil {
		return fmt.Errorf("%w: %w", errPreamble, err)
	}
	size, err := proxyproto.Length(b)
	if err != nil {
		return fmt.Errorf("%w: %w", errPreamble, err)
	}
	b = b[:proxyproto.FixedLength+size]
	if _, err := io.ReadFull(d.quickConn, b[proxyproto.FixedLength:]); err != nil {
		return fmt.Errorf("%w: %w", errPreamble, err)
	}
	d.host, err = preambleHost(b)
	return err
}

func door(ctx context.Context) *doorConn {
	d, _ := ctx.Value(doorKey{}).(*doorConn)
	return d
}

// serverConfig makes the connection's own configuration: the host certificate for the asked name among known names, and what happens
// once a key is proven.
func (j *Jump) serverConfig(ctx front.Context) *ssh.ServerConfig {
	d := door(ctx)
	cfg := &ssh.ServerConfig{
		Config:                  cryptoConfig(),
		MaxAuthTries:            maxAuthTries,
		PublicKeyAuthAlgorithms: []string{ssh.KeyAlgoED25519, ssh.KeyAlgoECDSA256},
		// The one place from which the user name is true at each attempt: gliderlabs' context keeps the first (its context.go).
		PreAuthConnCallback: func(c ssh.ServerPreAuthConn) { d.meta = c },
	}
	if d.certless {
		cfg.MACs = append(cfg.MACs, ssh.HMACSHA256)
	}
	asked := d.host
	if asked == "" {
		asked = name.Host(j.cfg.Name)
	}
	s := j.hostCerts.signer(ctx, asked)
	if s == nil && d.host != "" {
		s = j.hostCerts.signer(ctx, name.Host(j.cfg.Name))
	}
	if s != nil {
		cfg.AddHostKey(s)
	}
	cfg.VerifiedPublicKeyCallback = func(meta ssh.ConnMetadata, key ssh.PublicKey, _ *ssh.Permissions, _ string) (perms *ssh.Permissions, err error) {
		defer func() {
			if v := recover(); v != nil {
				j.log.Error("panic while opening", "panic", v, "stack", string(debug.Stack()))
				perms, err = nil, errors.New("the jump has a fault")
			}
		}()
		return j.proven(ctx, d, meta, key)
	}
	return cfg
}

// offered answers the query for a key. It is set always: without it gliderlabs lets everybody in. It reads nothing from its context
// but the connection, and what it finds is forgotten: only a proven key decides (CVE-2024-45337).
func (j *Jump) offered(ctx front.Context, key front.PublicKey) (ok bool) {
	d := door(ctx)
	defer func() {
		if v := recover(); v != nil {
			j.log.Error("panic at a key query", "panic", v, "stack", string(debug.Stack()))
			ok = false
		}
	}()
	if d == nil || d.meta == nil {
		return false
	}
	c, w, r := d.judge(key, d.meta.User())
	if r != nil {
		d.refuse(r)
		d.explain(r)
		return false
	}
	if w != wayPlain && w != wayOuter { // those may never come to that host
		j.beginEarly(ctx, d, c)
	}
	return true
}

// proven runs when the signature was verified: from here on it is a person.
func (j *Jump) proven(ctx front.Context, d *doorConn, meta ssh.ConnMetadata, key ssh.PublicKey) (*ssh.Permissions, error) {
	// Judged again, on what was proven and on nothing that the query left behind.
	c, w, r := d.judge(key, meta.User())
	if r == nil && d.certless { // it says that it knows none: then nobody comes in with what it alone was offered
		r = &refusal{refusedNoCert, nil}
	}
	if r != nil {
		d.refuse(r)
		return nil, r
	}
	d.tried, d.way = true, w
	d.proven.Store(true)
	d.leave()
	d.timer.Reset(openTimeout + 5*time.Second)
	var l *lobby
	if w == wayPlain || w == wayOuter {
		var err error
		if l, err = j.newLobby(ctx, d, c, meta.SessionID()); err != nil {
			return nil, err
		}
	} else {
		s, err := j.openSession(ctx, d, c, meta.SessionID())
		if err != nil {
			return nil, err
		}
		// The session ends with the connection, whether or not a channel is ever opened (ssh -N).
		context.AfterFunc(ctx, func() { s.close(endClosed) })
		l = &lobby{j: j, d: d, ctx: ctx, claim: c, eager: s}
	}
	d.timer.Stop()
	return &ssh.Permissions{
		// X enforces this option only from here.
		CriticalOptions: map[string]string{sshcert.OptionSourceAddress: c.cert.CriticalOptions[sshcert.OptionSourceAddress]},
		ExtraData:       map[any]any{lobbyKey{}: l},
	}, nil
}

// judge holds a key against the connection and what it asks for.
func (d *doorConn) judge(key ssh.PublicKey, user string) (*claim, way, *refusal) {
	c, r := judge(key, d.RemoteAddr(), d.j.trusted().clientCA, d.j.cfg.Now())
	if r != nil {
		return nil, 0, r
	}
	w, r := d.fit(c, user)
	if r == nil && d.tried {
		r = &refusal{refusedRepeated, nil}
	}
	return c, w, r
}

func (j *Jump) failedHandshake(nc net.Conn, err error) {
	c, ok := nc.RemoteAddr().(*net.TCPAddr)
	if !ok {
		return
	}
	// A refusal at the query was counted with its own reason.
	var auth *ssh.ServerAuthError
	if errors.As(err, &auth) && len(auth.Errors) > 0 {
		return
	}
	j.strangers.count(refusedHandshake, peerAddr(c))
	j.log.Debug("handshake failed", "peer", c, "error", err)
}

// lobbyOf finds what a proven connection leads to, in its permissions.
func lobbyOf(c *ssh.ServerConn) *lobby {
	if c == nil || c.Permissions == nil {
		return nil
	}
	l, _ := c.Permissions.ExtraData[lobbyKey{}].(*lobby)
	return l
}

func (j *Jump) channel(_ *front.Server, c *ssh.ServerConn, nc ssh.NewChannel, _ front.Context) {
	if l := lobbyOf(c); l != nil {
		l.channel(nc)
		return
	}
	nc.Reject(ssh.Prohibited, "breakglass: no session")
}

func (j *Jump) globalRequest(ctx front.Context, _ *front.Server, req *ssh.Request) (bool, []byte) {
	c, _ := ctx.Value(front.ContextKeyConn).(*ssh.ServerConn)
	if l := lobbyOf(c); l != nil {
		return l.globalRequest(c, req)
	}
	return false, nil
}
