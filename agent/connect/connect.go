// Package connect opens the one connection of an ssh session: to a jump, with the host named in a preamble.
//
// It guarantees that the first bytes on the connection are the preamble (a PROXY protocol version 2 header, command LOCAL, with the
// host in the AUTHORITY TLV and nothing else), and that the socket is handed to ssh (ProxyUseFdpass) and not copied where the system
// can do that: no process of ours stays between ssh and the jump.
//
// The preamble is unauthenticated and carries no address: it only lets the jump choose which host certificate to show.
package connect

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"time"

	"breakglass/internal/name"
)

const (
	// dialTime bounds one address; with a second jump the next is tried soon.
	dialTime = 10 * time.Second
	// headStart is how long one address is tried before the next is tried beside it (as RFC 8305 does for families).
	headStart = 300 * time.Millisecond
)

// ErrNoJump says that no jump could be reached.
var ErrNoJump = errors.New("no jump can be reached")

// signature begins every PROXY v2 header (section 2.2 of the specification).
const signature = "\r\n\r\n\x00\r\nQUIT\n"

// Preamble names host.
func Preamble(host name.Host) []byte {
	const (
		versionLocal = 0x20 // version 2, command LOCAL: the header says nothing about addresses
		unspec       = 0x00
		authority    = 0x02 // PP2_TYPE_AUTHORITY
	)
	n := len(host)
	b := append([]byte(signature), versionLocal, unspec, byte((n+3)>>8), byte(n+3))
	b = append(b, authority, byte(n>>8), byte(n))
	return append(b, host...)
}

// Dial reaches one of the jumps' addresses, in order, each with a head start on the next, and writes the preamble.
func Dial(ctx context.Context, addrs []string, host name.Host) (*net.TCPConn, error) {
	if len(addrs) == 0 {
		return nil, fmt.Errorf("%w: none is known", ErrNoJump)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	type result struct {
		c   net.Conn
		err error
	}
	got := make(chan result, len(addrs))
	start := func(addr string) {
		go func() {
			d := net.Dialer{Timeout: dialTime}
			c, err := d.DialContext(ctx, "tcp", addr)
			got <- result{c, err}
		}()
	}
	var errs []error
	next, open := 0, 0
	more := func() {
		if next < len(addrs) {
			start(addrs[next])
			next++
			open++
		}
	}
	more()
	tick := time.NewTicker(headStart)
	defer tick.Stop()
	for open > 0 {
		select {
		case <-tick.C:
			more()
		case r := <-got:
			open--
			if r.err != nil {
				errs = append(errs, r.err)
				more()
				continue
			}
			cancel()
			for range open { // late ones
				go func() {
					if r := <-got; r.c != nil {
						r.c.Close()
					}
				}()
			}
			c := r.c.(*net.TCPConn)
			if _, err := c.Write(Preamble(host)); err != nil {
				c.Close()
				return nil, fmt.Errorf("%w: %w", ErrNoJump, err)
			}
			return c, nil
		}
	}
	return nil, fmt.Errorf("%w: %w", ErrNoJump, errors.Join(errs...))
}

// Hand gives the connection to ssh: by its descriptor where stdout is a Unix socket, else by copying until ssh or the jump closes.
func Hand(c *net.TCPConn, stdin io.Reader, stdout *os.File) error {
	if ok, err := pass(c, stdout); ok {
		c.Close()
		return err
	}
	defer c.Close()
	done := make(chan error, 1)
	go func() {
		_, err := io.Copy(stdout, c)
		done <- err
	}()
	go func() {
		_, _ = io.Copy(c, stdin)
		_ = c.CloseWrite() // ssh has closed; what the jump still sends is wanted
	}()
	if err := <-done; err != nil {
		return fmt.Errorf("copying: %w", err)
	}
	return nil
}
