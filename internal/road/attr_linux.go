package road

import "syscall"

// leavesNothing has the kernel end a child when the road's own process is killed, and keeps a terminal's Ctrl-C for the road,
// which ends its children in order.
func leavesNothing() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
}
