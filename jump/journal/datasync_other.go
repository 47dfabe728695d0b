//go:build !linux

package journal

// Datasync flushes the file, with its metadata where there is no fdatasync(2).
func (f osFile) Datasync() error { return f.Sync() }
