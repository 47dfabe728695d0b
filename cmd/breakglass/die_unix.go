//go:build unix && !linux

package main

import "syscall"

// dieWithUs has no counterpart here; ssh ends with its terminal.
func dieWithUs() *syscall.SysProcAttr { return nil }
