//go:build !linux

package softkey

import "errors"

// openPTY works on Linux only; in process (Enroll, SignSK, Signer) the key works everywhere.
func openPTY() (device, error) {
	return nil, errors.New("a software key can be plugged in on Linux only")
}
