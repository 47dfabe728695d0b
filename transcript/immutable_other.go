//go:build !linux

package transcript

import "errors"

// setImmutable: only Linux's flag is one that the file's owner can't take off again.
func setImmutable(string) error { return errors.ErrUnsupported }

func isImmutable(string) bool { return false }

func clearImmutable(string) error { return errors.ErrUnsupported }
