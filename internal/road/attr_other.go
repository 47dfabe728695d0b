//go:build !linux

package road

import (
	"os"
	"syscall"
)

func leavesNothing() *syscall.SysProcAttr { return nil }

// Remove removes a road's directory.
func Remove(dir string) error { return os.RemoveAll(dir) }

// Mutable has nothing to take back: the store marks nothing here.
func Mutable(string) {}
