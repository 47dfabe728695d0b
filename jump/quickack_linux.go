package jump

import (
	"syscall"
)

// quickAck asks for an immediate acknowledgement of what comes next. Linux forgets it, so it is asked again after each read.
func quickAck(c syscall.RawConn) {
	c.Control(func(fd uintptr) {
		syscall.SetsockoptInt(int(fd), syscall.IPPROTO_TCP, syscall.TCP_QUICKACK, 1)
	})
}
