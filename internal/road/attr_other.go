//go:build !linux

package road

import (
	"os"
	"syscall"
)

func leavesNothing() *syscall.SysProcAttr { return nil }

// Remove removes a road's directory.
func Remove(dir string) error { return os.RemoveAll(dir) }
