package jump

import (
	"net"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/crypto/ssh"

	"breakglass/internal/name"
)

// `ssh -J jump host` speaks SSH to the jump, opens a direct-tcpip channel to port 22 of the host, and speaks SSH again on that channel. The jump
// doesn't connect it to anything: it answers the second SSH itself, as it answers a connection with a preamble, and asks for the certificate again. So the
// host is checked and the session recorded as through any door; the outer connection carries ciphertext, of which nothing is kept.

// sshPort is what `ssh -J` asks for. Which port the host really has is the policy's to say.
const sshPort = 22

// hangTimeout is how long a client may keep a channel open that the jump has closed; then its whole connection goes.
const hangTimeout = 10 * time.Second

// isAddress tells an IP address, which is also a valid name.
func isAddress(s string) bool { _, err := netip.ParseAddr(s); return err == nil }

// innerConn is a channel as a connection.
type innerConn struct {
	ssh.Channel
	outer *lobby
	host  name.Host
	over  chan struct{} // closed once the client has closed the channel, too
	once  sync.Once
}

// Close closes our side. X reads on until the other side has closed its own: a client that never does holds a reader and its memory, so its whole connection
// goes.
func (c *innerConn) Close() error {
	c.once.Do(func() {
		time.AfterFunc(hangTimeout, func() {
			select {
			case <-c.over:
			default:
				c.outer.d.Close()
			}
		})
	})
	return c.Channel.Close()
}

func (c *innerConn) LocalAddr() net.Addr { return c.outer.d.LocalAddr() }

// RemoteAddr is the person's: the inner certificate is good from where the outer one is.
func (c *innerConn) RemoteAddr() net.Addr { return c.outer.d.RemoteAddr() }

// Deadlines are for nobody: timers close (see connected).
func (c *innerConn) SetDeadline(time.Time) error      { return nil }
func (c *innerConn) SetReadDeadline(time.Time) error  { return nil }
func (c *innerConn) SetWriteDeadline(time.Time) error { return nil }

// intercept answers the channel as the host's SSH, and returns when that has ended. The inner connection was counted in.
func (l *lobby) intercept(nc ssh.NewChannel, host name.Host) {
	defer l.leave()
	ch, reqs, err := nc.Accept()
	if err != nil {
		return
	}
	c := &innerConn{Channel: ch, outer: l, host: host, over: make(chan struct{})}
	go func() {
		ssh.DiscardRequests(reqs) // until the client has closed the channel
		close(c.over)
	}()
	defer func() {
		c.Close()
		<-c.over
	}()
	l.d.quickConn.left.Store(quickReads) // the inner login has small packets, too
	l.j.front.HandleConn(c)
}
