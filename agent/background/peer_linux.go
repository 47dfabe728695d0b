package background

import (
	"fmt"
	"net"
	"os"

	"golang.org/x/sys/unix"
)

// checkPeer asks the kernel whose the other end is.
func checkPeer(c net.Conn) error {
	raw, err := c.(*net.UnixConn).SyscallConn()
	if err != nil {
		return fmt.Errorf("checking the peer: %w", err)
	}
	var cred *unix.Ucred
	var cerr error
	if err := raw.Control(func(fd uintptr) {
		cred, cerr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	}); err != nil {
		return fmt.Errorf("checking the peer: %w", err)
	}
	if cerr != nil {
		return fmt.Errorf("checking the peer: %w", cerr)
	}
	if int(cred.Uid) != os.Getuid() {
		return fmt.Errorf("checking the peer: user %d, not %d", cred.Uid, os.Getuid())
	}
	return nil
}

// harden keeps the keys from core dumps and from debuggers of the same user.
func harden() error { return unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0) }
