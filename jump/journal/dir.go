package journal

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"breakglass/internal/durable"
)

// dirFS is a journal in a real directory.
type dirFS struct {
	dir  string
	lock *os.File
}

const (
	segmentPrefix = "segment-"
	lockName      = "lock"
	tmpSuffix     = ".tmp"
)

func (d *dirFS) Lock() error {
	if err := durable.MkdirAll(d.dir, 0o700); err != nil {
		return err
	}
	f, err := os.OpenFile(filepath.Join(d.dir, lockName), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	// flock is let go by the kernel when the process dies, however it dies.
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		f.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return ErrLocked
		}
		return err
	}
	d.lock = f
	return nil
}

func (d *dirFS) Unlock() error { return d.lock.Close() }

func (d *dirFS) Names() ([]string, error) {
	es, err := os.ReadDir(d.dir)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, e := range es {
		switch n := e.Name(); {
		case strings.HasSuffix(n, tmpSuffix): // a Create that was interrupted
			if err := os.Remove(filepath.Join(d.dir, n)); err != nil {
				return nil, err
			}
		case strings.HasPrefix(n, segmentPrefix):
			names = append(names, n)
		}
	}
	slices.Sort(names)
	return names, nil
}

func (d *dirFS) Open(name string) (File, error) {
	f, err := os.OpenFile(filepath.Join(d.dir, name), os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	return osFile{f}, nil
}

func (d *dirFS) Create(name string, size int64) (_ File, err error) {
	path := filepath.Join(d.dir, name)
	f, err := os.OpenFile(path+tmpSuffix, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			f.Close()
			os.Remove(path + tmpSuffix)
		}
	}()
	zeros := make([]byte, 1<<20)
	for off := int64(0); off < size; off += int64(len(zeros)) {
		if _, err := f.WriteAt(zeros[:min(int64(len(zeros)), size-off)], off); err != nil {
			return nil, err
		}
	}
	if err := f.Sync(); err != nil {
		return nil, err
	}
	if err := durable.Rename(path+tmpSuffix, path); err != nil {
		return nil, err
	}
	return osFile{f}, nil
}

type osFile struct{ *os.File }

func (f osFile) Size() (int64, error) {
	st, err := f.Stat()
	if err != nil {
		return 0, err
	}
	if !st.Mode().IsRegular() {
		return 0, fmt.Errorf("%s is not a regular file", f.Name())
	}
	return st.Size(), nil
}
