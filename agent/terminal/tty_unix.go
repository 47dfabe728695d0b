//go:build linux || darwin

package terminal

import (
	"os"

	"golang.org/x/sys/unix"
)

func openTTY() (*os.File, error) { return os.OpenFile("/dev/tty", os.O_RDWR, 0) }

// foreground says whether a read from f would not stop us (SIGTTIN).
func foreground(f *os.File) bool {
	pgrp, err := unix.IoctlGetInt(int(f.Fd()), unix.TIOCGPGRP)
	return err == nil && pgrp == unix.Getpgrp()
}
