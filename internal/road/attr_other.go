//go:build !linux

package road

import "syscall"

func leavesNothing() *syscall.SysProcAttr { return nil }
