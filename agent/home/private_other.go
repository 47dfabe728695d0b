//go:build !unix

package home

import (
	"fmt"
	"os"
)

func tempDir() string { return os.TempDir() } // already the user's own

func checkPrivate(dir string) error {
	st, err := os.Lstat(dir)
	if err != nil {
		return fmt.Errorf("checking the run directory: %w", err)
	}
	if !st.IsDir() {
		return fmt.Errorf("checking the run directory: %s is no directory", dir)
	}
	return nil
}
