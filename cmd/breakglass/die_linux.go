package main

import "syscall"

// dieWithUs: a killed breakglass leaves no ssh behind that nobody waits for.
func dieWithUs() *syscall.SysProcAttr { return &syscall.SysProcAttr{Pdeathsig: syscall.SIGHUP} }
