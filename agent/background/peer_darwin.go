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
	var cred *unix.Xucred
	var cerr error
	if err := raw.Control(func(fd uintptr) {
		cred, cerr = unix.GetsockoptXucred(int(fd), unix.SOL_LOCAL, unix.LOCAL_PEERCRED)
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

// harden turns core dumps off.
func harden() error {
	return unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{})
}
