//go:build linux || darwin

package connect

import (
	"io"

	"golang.org/x/sys/unix"
)

// speaks waits for the first bytes and leaves them in the socket, which is ssh's to read.
func (c *Conn) speaks() error {
	raw, err := c.SyscallConn()
	if err != nil {
		return err
	}
	first := make([]byte, len(identification))
	var n int
	var perr error
	if err := raw.Read(func(fd uintptr) bool {
		for {
			n, _, perr = unix.Recvfrom(int(fd), first, unix.MSG_PEEK)
			if perr != unix.EINTR {
				break
			}
		}
		// Fewer than it takes, and neither end nor error: more will come.
		return perr != unix.EAGAIN && (perr != nil || n == 0 || n == len(first))
	}); err != nil {
		return err
	}
	if perr != nil {
		return perr
	}
	if n == 0 {
		return io.ErrUnexpectedEOF
	}
	return judge(first, c.TCPConn)
}
