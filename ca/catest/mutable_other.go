//go:build !linux

package catest

func mutable(string) {}
