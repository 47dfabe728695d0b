package transcript

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"breakglass/internal/durable"
)

// ErrMutable: a finished file could be changed or removed although the file system said that it can't.
var ErrMutable = errors.New("a file that is immutable was changed")

// sealPatience is how long Check waits for another process to seal a file (SealFinished).
const sealPatience = 3 * time.Second

// Check tries on a file of its own, in the store's directory, whether what is finished can be changed or removed by this process. left says what isn't proved:
// where the file system has no immutable flag, or the process not the right to set it, files are only read only.
func (s *FileStore) Check() (tried, left []string, err error) {
	var r [8]byte
	rand.Read(r[:])
	path := filepath.Join(s.Dir, prefixCheck+hex.EncodeToString(r[:]))
	if err := durable.WriteNew(path, []byte("what is finished stays\n"), modeStored); err != nil {
		return nil, nil, err
	}
	err = setImmutable(path)
	for end := time.Now().Add(sealPatience); errors.Is(err, fs.ErrPermission) && time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		if isImmutable(path) { // by a process that may, as it should be: we may not
			err = nil
		}
	}
	if err != nil {
		os.Remove(path)
		return nil, []string{fmt.Sprintf("finished files are read only, and not immutable: %v. Let `breakglass-ca store seal` make them so, as root (contrib/systemd), and keep a second copy elsewhere (breakglass-ca store copy)", err)}, nil
	}
	defer func() {
		// A try of this leaves one file of some bytes behind where nobody may clear the flag, which is the point.
		if clearImmutable(path) == nil {
			os.Remove(path)
			left = append(left, "this process may clear the flag, as root may: only a copy in another domain is out of its reach (breakglass-ca store copy)")
		}
	}()
	for _, t := range []struct {
		what string
		do   func() error
	}{
		{"writing", func() error {
			f, err := os.OpenFile(path, os.O_WRONLY, 0)
			if err == nil {
				f.Close()
			}
			return err
		}},
		{"truncating", func() error { return os.Truncate(path, 0) }},
		{"renaming", func() error { return os.Rename(path, path+"-2") }},
		{"linking", func() error { return os.Link(path, path+"-3") }},
		{"changing the mode of", func() error { return os.Chmod(path, 0o600) }},
		{"removing", func() error { return os.Remove(path) }},
	} {
		if err := t.do(); err == nil {
			return tried, left, fmt.Errorf("%w: %s went through", ErrMutable, t.what)
		}
		tried = append(tried, t.what+" a finished file: refused")
	}
	return tried, left, nil
}
