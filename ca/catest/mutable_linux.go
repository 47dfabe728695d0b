package catest

import (
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// mutable takes the immutable flag, which the store sets where it may, off what it holds, so that the test's directory can be removed.
func mutable(store string) {
	files, _ := filepath.Glob(filepath.Join(store, "*"))
	for _, p := range files {
		f, err := os.Open(p)
		if err != nil {
			continue
		}
		if flags, err := unix.IoctlGetInt(int(f.Fd()), unix.FS_IOC_GETFLAGS); err == nil {
			unix.IoctlSetPointerInt(int(f.Fd()), unix.FS_IOC_SETFLAGS, flags&^0x10) // FS_IMMUTABLE_FL
		}
		f.Close()
	}
}
