// Package durable writes files that are still there after the power goes.
//
// Guarantee, to every caller: when a function here returns nil, what it did survives a power cut: the bytes of the
// file and its name in the directory are on the disk (as far as the disk says the truth about a flush). When
// WriteFile returns an error, or the power goes while it runs, the path holds either the old content or the new one,
// whole; never a mixture, never an empty file. That last case is no theory: a key written without fsync came back 0
// bytes long after a simulated cut.
//
// Directories can't be flushed on Windows, where only the client runs; there a name may be lost, the content not.
package durable

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
)

// WriteFile replaces path by data with exactly the permissions perm (the umask doesn't widen or narrow them).
func WriteFile(path string, data []byte, perm fs.FileMode) error {
	tmp, err := writeTemp(path, data, perm)
	if err != nil {
		return fmt.Errorf("writing %s: %w", path, err)
	}
	if err := Rename(tmp, path); err != nil {
		os.Remove(tmp)
		return fmt.Errorf("writing %s: %w", path, err)
	}
	return nil
}

// WriteNew is WriteFile for a path that must not exist yet: keys and tokens that nobody may replace. The error is
// fs.ErrExist if it does. Of several callers at once exactly one wins.
func WriteNew(path string, data []byte, perm fs.FileMode) error {
	tmp, err := writeTemp(path, data, perm)
	if err != nil {
		return fmt.Errorf("writing %s: %w", path, err)
	}
	defer os.Remove(tmp)
	// link(2) fails on an existing name, rename(2) would replace it.
	if err := os.Link(tmp, path); err != nil {
		return fmt.Errorf("writing %s: %w", path, err)
	}
	return SyncDir(filepath.Dir(path))
}

// writeTemp leaves a flushed file with data beside path.
func writeTemp(path string, data []byte, perm fs.FileMode) (name string, err error) {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".tmp*")
	if err != nil {
		return "", err
	}
	defer func() {
		if err != nil {
			f.Close()
			os.Remove(f.Name())
		}
	}()
	if err := f.Chmod(perm); err != nil && runtime.GOOS != "windows" {
		return "", err
	}
	if _, err := f.Write(data); err != nil {
		return "", err
	}
	if err := f.Sync(); err != nil {
		return "", err
	}
	if err := f.Close(); err != nil {
		return "", err
	}
	return f.Name(), nil
}

// Rename moves a file within its file system and flushes the directories it left and came to. The file's content is
// its writer's business.
func Rename(from, to string) error {
	if err := os.Rename(from, to); err != nil {
		return err
	}
	if err := SyncDir(filepath.Dir(to)); err != nil {
		return err
	}
	if a, b := filepath.Dir(from), filepath.Dir(to); a != b {
		return SyncDir(a)
	}
	return nil
}

// Remove deletes a name for good. A name that isn't there is no error.
func Remove(path string) error {
	if err := os.Remove(path); err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return err
	}
	return SyncDir(filepath.Dir(path))
}

// MkdirAll makes a directory and its missing parents, each flushed into its parent.
func MkdirAll(dir string, perm fs.FileMode) error {
	dir = filepath.Clean(dir)
	if st, err := os.Stat(dir); err == nil {
		if !st.IsDir() {
			return fmt.Errorf("making %s: %w", dir, &fs.PathError{Op: "mkdir", Path: dir, Err: errors.New("is a file")})
		}
		return nil
	}
	parent := filepath.Dir(dir)
	if parent != dir {
		if err := MkdirAll(parent, perm); err != nil {
			return err
		}
	}
	if err := os.Mkdir(dir, perm); err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("making %s: %w", dir, err)
	}
	return SyncDir(parent)
}

// SyncDir flushes a directory's names.
func SyncDir(dir string) error {
	if runtime.GOOS == "windows" {
		return nil // FlushFileBuffers refuses directories
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	if err := d.Sync(); err != nil {
		return fmt.Errorf("flushing directory %s: %w", dir, err)
	}
	return nil
}
