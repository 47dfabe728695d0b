//go:build unix

package home

import (
	"fmt"
	"os"
	"syscall"
)

func tempDir() string { return "/tmp" }

// checkPrivate refuses a directory that is a link, another user's, or open to others.
func checkPrivate(dir string) error {
	st, err := os.Lstat(dir)
	if err != nil {
		return fmt.Errorf("checking the run directory: %w", err)
	}
	if !st.IsDir() {
		return fmt.Errorf("checking the run directory: %s is no directory", dir)
	}
	if sys, ok := st.Sys().(*syscall.Stat_t); !ok || int(sys.Uid) != os.Getuid() {
		return fmt.Errorf("checking the run directory: %s belongs to another user", dir)
	}
	if st.Mode().Perm()&0o077 != 0 {
		return fmt.Errorf("checking the run directory: %s is open to others (mode %04o, want 0700)", dir, st.Mode().Perm())
	}
	return nil
}
