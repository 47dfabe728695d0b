package transcript

import (
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// mutable takes the flags off all files in dir when the test ends, so that its directory can be removed.
func mutable(t *testing.T, dir string) {
	t.Cleanup(func() {
		files, _ := filepath.Glob(filepath.Join(dir, "*"))
		for _, p := range files {
			f, err := os.Open(p)
			if err != nil {
				continue
			}
			if flags, err := unix.IoctlGetInt(int(f.Fd()), unix.FS_IOC_GETFLAGS); err == nil {
				unix.IoctlSetPointerInt(int(f.Fd()), unix.FS_IOC_SETFLAGS, flags&^immutableFlag)
			}
			f.Close()
		}
	})
}
