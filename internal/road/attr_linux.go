package road

import (
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"
)

// immutable is FS_IMMUTABLE_FL of linux/fs.h.
const immutable = 0x10

// leavesNothing has the kernel end a child when the road's own process is killed, and keeps a terminal's Ctrl-C for the road,
// which ends its children in order.
func leavesNothing() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
}

// Remove removes a road's directory.
func Remove(dir string) error {
	Mutable(dir)
	return os.RemoveAll(dir)
}

// Mutable lets a test change what the store holds. The store made its recordings immutable where the filesystem can; here, and
// nowhere in a shipped program, that is taken back.
func Mutable(dir string) {
	filepath.WalkDir(filepath.Join(dir, "ca", "store"), func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return nil
		}
		f, err := os.Open(path)
		if err != nil {
			return nil
		}
		defer f.Close()
		if flags, err := unix.IoctlGetUint32(int(f.Fd()), unix.FS_IOC_GETFLAGS); err == nil && flags&immutable != 0 {
			unix.IoctlSetPointerInt(int(f.Fd()), unix.FS_IOC_SETFLAGS, int(flags&^immutable))
		}
		return nil
	})
}
