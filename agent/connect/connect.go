// Package connect opens the one connection of an ssh session: to a jump, with the host named in a preamble.
//
// It guarantees that the first bytes on the connection are the preamble (a PROXY protocol version 2 header, command LOCAL, with the
// host in the AUTHORITY TLV and nothing else), and that the socket is handed to ssh (ProxyUseFdpass) and not copied where the system
// can do that: no process of ours stays between ssh and the jump. A jump that is down, full, going down, cut off from the CA or hung costs a person
// a moment where there is another.
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
	"strings"
	"time"

	"breakglass/internal/name"
)

const (
	// dialTime bounds one address; with a second jump the next is tried soon.
	dialTime = 10 * time.Second
	// speakTime bounds the wait for the answer of one that was reached.
	speakTime = 10 * time.Second
	// headStart is how long one address is tried before the next is tried beside it (as RFC 8305 does for families). One that was reached gets
	// as much again to speak, and twice what the reaching took: it is that far away.
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

// Conn is a connection to a jump, with the preamble sent.
type Conn struct {
	*net.TCPConn
	head []byte // read already, where reading is the only way to look
}

// Dial reaches one of the jumps' addresses and sends the preamble. They are tried in order, each with a head start on the next, and with more than
// one that is taken whose SSH answers first: one that refuses, that says it lets nobody in, or that takes a connection and says nothing is passed over.
// With one alone there is nothing to choose, and its answer isn't waited for: that is a round trip, and ssh says what is wrong.
func Dial(ctx context.Context, addrs []string, host name.Host) (*Conn, error) {
	if len(addrs) == 0 {
		return nil, fmt.Errorf("%w: none is known", ErrNoJump)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	type result struct {
		attempt int
		c       *Conn
		err     error
	}
	type near struct {
		attempt int
		took    time.Duration
	}
	got, reached := make(chan result, len(addrs)), make(chan near, len(addrs))
	var errs []error
	begun, open := 0, 0
	timer := time.NewTimer(headStart)
	defer timer.Stop()
	more := func() {
		if begun == len(addrs) {
			return
		}
		n := begun
		begun++
		open++
		timer.Reset(headStart)
		go func() {
			began := time.Now()
			c, err := try(ctx, addrs[n], host, len(addrs) > 1, func() { reached <- near{n, time.Since(began)} })
			got <- result{n, c, err}
		}()
	}
	more()
	for open > 0 {
		select {
		case r := <-reached:
			if r.attempt == begun-1 {
				timer.Reset(headStart + 2*r.took)
			}
		case <-timer.C:
			more()
		case r := <-got:
			open--
			if r.err != nil {
				errs = append(errs, r.err)
				if r.attempt == begun-1 { // the next waits for this one
					more()
				}
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
			return r.c, nil
		}
	}
	return nil, fmt.Errorf("%w: %w", ErrNoJump, errors.Join(errs...))
}

// Probe says whether a jump at that address answers, and lets people in as far as it can tell before it knows who asks. host is any that it may
// show a certificate for: its own name.
func Probe(ctx context.Context, addr string, host name.Host) error {
	c, err := try(ctx, addr, host, true, func() {})
	if err == nil {
		c.Close()
	}
	return err
}

// errSilent is what a hung jump looks like, or a machine in between that takes connections for one.
var errSilent = errors.New("it takes connections and says nothing")

// try reaches one address; wait says that its SSH has to answer.
func try(ctx context.Context, addr string, host name.Host, wait bool, reached func()) (*Conn, error) {
	d := net.Dialer{Timeout: dialTime}
	nc, err := d.DialContext(ctx, "tcp", addr)
	if op := (*net.OpError)(nil); errors.As(err, &op) {
		err = op.Err // its address is said already
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", addr, err)
	}
	reached()
	c := &Conn{TCPConn: nc.(*net.TCPConn)}
	fail := func(err error) (*Conn, error) {
		c.Close()
		return nil, fmt.Errorf("%s: %w", addr, err)
	}
	if _, err := c.Write(Preamble(host)); err != nil {
		return fail(err)
	}
	if !wait {
		return c, nil
	}
	if err := c.SetReadDeadline(time.Now().Add(speakTime)); err != nil {
		return fail(err)
	}
	stop := context.AfterFunc(ctx, func() { c.SetReadDeadline(time.Unix(1, 0)) }) // another was taken
	err = c.speaks()
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return fail(errSilent)
	}
	if !stop() { // the deadline may be set just now
		return fail(errors.Join(err, ctx.Err()))
	}
	if err != nil {
		return fail(err)
	}
	if err := c.SetReadDeadline(time.Time{}); err != nil {
		return fail(err)
	}
	return c, nil
}

const (
	// identification begins the line by which SSH says what it is (RFC 4253 section 4.2); a server may send others before.
	identification = "SSH-"
	// maxRefusal bounds what a jump says in place of it.
	maxRefusal = 512
)

// judge looks at the first bytes that a jump sends: an identification, or why it lets nobody in. all is what it sends from there on, the first again.
func judge(first []byte, all io.Reader) error {
	if string(first) == identification {
		return nil
	}
	text, err := io.ReadAll(io.LimitReader(all, maxRefusal))
	if err != nil && len(text) == 0 {
		return err
	}
	line, _, _ := strings.Cut(string(text), "\r\n")
	return fmt.Errorf("it says %q", strings.TrimPrefix(line, "breakglass: "))
}

// Hand gives the connection to ssh: by its descriptor where stdout is a Unix socket, else by copying until ssh or the jump closes.
func Hand(c *Conn, stdin io.Reader, stdout *os.File) error {
	if ok, err := pass(c.TCPConn, stdout); ok {
		c.Close()
		return err
	}
	defer c.Close()
	done := make(chan error, 1)
	go func() {
		_, err := stdout.Write(c.head)
		if err == nil {
			_, err = io.Copy(stdout, c.TCPConn)
		}
		done <- err
	}()
	go func() {
		_, _ = io.Copy(c.TCPConn, stdin)
		_ = c.CloseWrite() // ssh has closed; what the jump still sends is wanted
	}()
	if err := <-done; err != nil {
		return fmt.Errorf("copying: %w", err)
	}
	return nil
}
