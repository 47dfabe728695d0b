package journal

import "syscall"

// Datasync is fdatasync(2): the size and place of a zero-filled segment never change, so there is no metadata to wait for.
func (f osFile) Datasync() error {
	for {
		if err := syscall.Fdatasync(int(f.Fd())); err != syscall.EINTR {
			return err
		}
	}
}
