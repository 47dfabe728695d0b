package ca

import (
	"errors"
	"net"
	"net/netip"
	"sync"
	"time"

	"breakglass/internal/listen"
	"breakglass/internal/proxyproto"
)

// This file is the way in for connections, before TLS: several addresses as one, caps, and whose connection it is. That is the other end, or, of
// a listed proxy, what its PROXY v2 header says; there is no other way to be believed about an address, least of all a line of HTTP.

const (
	// maxConnections bounds connections in all, and maxPerAddress those of one address, so that one can't take all.
	maxConnections = 4096
	maxPerAddress  = 256
	// maxUnwrapping bounds connections of proxies whose header isn't read yet, and unwrapTimeout how long that may take: a proxy sends it at once.
	maxUnwrapping = 256
	unwrapTimeout = 3 * time.Second
	// acceptPause is between tries when nothing can be accepted: no descriptors left, most likely.
	acceptPause = 50 * time.Millisecond
)

// Reasons of the strangers' sum.
const (
	strangerProxied   = "proxy_header"    // claims another address
	strangerUnproxied = "no_proxy_header" // a listed proxy that doesn't say whose connection it is
	strangerHeader    = "bad_proxy_header"
)

// door hands out connections that may go on.
type door struct {
	ca      *CA
	from    []net.Listener
	proxies []netip.Prefix
	ready   chan net.Conn
	closed  chan struct{}
	close   func() error

	mu         sync.Mutex
	all        int
	by         map[netip.Addr]int
	unwrapping int
	logged     time.Time // that a proxy sends no header
}

// listen opens all addresses of the configuration, or none.
func (c *CA) listen() (*door, error) {
	proxies, err := proxyproto.ParseList(c.file.Proxies)
	if err != nil {
		return nil, err
	}
	from, err := listen.All(c.file.listens())
	if err != nil {
		return nil, err
	}
	d := &door{ca: c, from: from, proxies: proxies, ready: make(chan net.Conn), closed: make(chan struct{}), by: map[netip.Addr]int{}}
	d.close = sync.OnceValue(func() error {
		close(d.closed)
		var errs []error
		for _, l := range d.from {
			errs = append(errs, l.Close())
		}
		return errors.Join(errs...)
	})
	for _, l := range d.from {
		go d.accept(l)
	}
	return d, nil
}

// accept never waits for what a connection sends.
func (d *door) accept(l net.Listener) {
	for {
		nc, err := l.Accept()
		if err != nil {
			select {
			case <-d.closed:
				return
			case <-time.After(acceptPause):
				continue
			}
		}
		peer := addr(nc.RemoteAddr().String())
		if !proxyproto.Listed(d.proxies, peer) {
			if c := d.admit(nc, nc.RemoteAddr(), peer); c != nil {
				d.hand(&unproxied{Conn: c, door: d, peer: peer})
			}
			continue
		}
		d.mu.Lock()
		full := d.unwrapping >= maxUnwrapping
		if !full {
			d.unwrapping++
		}
		d.mu.Unlock()
		if full {
			nc.Close()
			continue
		}
		go func() {
			c := d.unwrap(nc, peer)
			d.mu.Lock()
			d.unwrapping--
			d.mu.Unlock()
			if c != nil {
				d.hand(c)
			}
		}()
	}
}

// hand gives a connection to whoever accepts, unless the door is closed.
func (d *door) hand(c net.Conn) {
	select {
	case d.ready <- c:
	case <-d.closed:
		c.Close()
	}
}

// unwrap reads a listed proxy's header; nil if the connection doesn't go on.
func (d *door) unwrap(nc net.Conn, proxy netip.Addr) net.Conn {
	nc.SetReadDeadline(time.Now().Add(unwrapTimeout))
	h, err := proxyproto.Read(nc)
	switch {
	case err == nil && !h.Local:
		nc.SetReadDeadline(time.Time{})
		if c := d.admit(nc, net.TCPAddrFromAddrPort(h.Source), h.Source.Addr()); c != nil {
			return c
		}
		return nil
	case err == nil: // LOCAL is the proxy itself, which looks whether we live
	case errors.Is(err, proxyproto.ErrMissing):
		d.ca.strangers.add(strangerUnproxied, proxy)
		d.mu.Lock()
		log := time.Since(d.logged) > time.Minute // a misconfigured proxy does it all the time
		if log {
			d.logged = time.Now()
		}
		d.mu.Unlock()
		if log {
			d.ca.log.Error("a listed proxy sends no PROXY v2 header: nobody gets in through it", "proxy", proxy)
		}
	case errors.Is(err, proxyproto.ErrMalformed):
		d.ca.strangers.add(strangerHeader, proxy)
	}
	nc.Close()
	return nil
}

// admit counts a connection of an address in, or closes it.
func (d *door) admit(nc net.Conn, remote net.Addr, who netip.Addr) net.Conn {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.all >= maxConnections || d.by[who] >= maxPerAddress {
		nc.Close()
		return nil
	}
	d.all++
	d.by[who]++
	return &doorConn{Conn: nc, remote: remote, release: sync.OnceFunc(func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		d.all--
		if d.by[who]--; d.by[who] == 0 {
			delete(d.by, who)
		}
	})}
}

// Accept implements net.Listener.
func (d *door) Accept() (net.Conn, error) {
	select {
	case c := <-d.ready:
		return c, nil
	case <-d.closed:
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener. It waits for nobody: a header that is being read ends at its deadline.
func (d *door) Close() error { return d.close() }

// Addr implements net.Listener.
func (d *door) Addr() net.Addr { return d.from[0].Addr() }

// doorConn is a connection of whoever it is said to be.
type doorConn struct {
	net.Conn
	remote  net.Addr
	release func()
}

func (c *doorConn) RemoteAddr() net.Addr { return c.remote }

func (c *doorConn) Close() error {
	c.release()
	return c.Conn.Close()
}

// errProxied: somebody claims to speak for another address.
var errProxied = errors.New("a PROXY header from an address that is no listed proxy")

// unproxied is a connection that may not begin with a PROXY header. TLS would refuse it too, and nobody would know why.
type unproxied struct {
	net.Conn
	door *door
	peer netip.Addr
	seen bool // the first byte
}

func (c *unproxied) Read(b []byte) (int, error) {
	if !c.seen { // one reader at a time: TLS reads its records under a lock
		c.seen = true
		n, err := c.Conn.Read(b)
		if n > 0 && b[0] == proxyproto.Start[0] { // a TLS record begins with its type, 20 to 24
			c.door.ca.strangers.add(strangerProxied, c.peer)
			c.Close()
			return 0, errProxied
		}
		return n, err
	}
	return c.Conn.Read(b)
}
