package main

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// harden keeps the PIN, which the binding leaves in memory, from core dumps and from debuggers of the
// same user.
func harden() error {
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return fmt.Errorf("turning core dumps off: %w", err)
	}
	return nil
}
