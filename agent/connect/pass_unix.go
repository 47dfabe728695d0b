//go:build linux || darwin

package connect

import (
	"fmt"
	"net"
	"os"

	"golang.org/x/sys/unix"
)

// pass sends the socket as ssh's ProxyUseFdpass wants it: one byte with SCM_RIGHTS over its Unix socket, which is our stdout.
// ok is false where stdout is no such socket.
func pass(c *net.TCPConn, stdout *os.File) (ok bool, err error) {
	fd := int(stdout.Fd())
	sa, err := unix.Getsockname(fd)
	if err != nil {
		return false, nil
	}
	if _, isUnix := sa.(*unix.SockaddrUnix); !isUnix {
		return false, nil
	}
	raw, err := c.SyscallConn()
	if err != nil {
		return true, fmt.Errorf("passing the socket: %w", err)
	}
	var serr error
	if err := raw.Control(func(conn uintptr) {
		// Blocking is what OpenSSH expects of an inherited socket; it sets its own mode afterwards.
		serr = unix.SetNonblock(int(conn), false)
		if serr == nil {
			serr = unix.Sendmsg(fd, []byte{0}, unix.UnixRights(int(conn)), nil, 0)
		}
	}); err != nil {
		return true, fmt.Errorf("passing the socket: %w", err)
	}
	if serr != nil {
		return true, fmt.Errorf("passing the socket: %w", serr)
	}
	return true, nil
}
