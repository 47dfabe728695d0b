package transcript

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"

	"breakglass/internal/durable"
	"breakglass/internal/name"
)

// FileStore keeps streams and envelopes as files in one directory: ID.transcript when it is whole, ID.part while it
// arrives, ID.envelope.
//
// It only ever adds. The same bytes may be put again, as a jump does that doesn't know whether it was heard; other bytes in
// their place are ErrConflict. What Put and Finish acknowledged is durable. A finished stream is read-only, and immutable
// where the filesystem can and the process may: that stops accidents and a compromised service that dropped
// CAP_LINUX_IMMUTABLE, not root.
//
// One process owns the directory; within it a FileStore may be used from many goroutines.
type FileStore struct {
	Dir string

	mu      sync.Mutex
	busy    map[string]*sync.Mutex
	flushed map[string]bool // unfinished streams of which all that is there is durable
}

var (
	// ErrConflict: other bytes are stored there already.
	ErrConflict = errors.New("store holds other bytes under this name")
	// ErrGap: the piece begins behind the end of what is stored.
	ErrGap = errors.New("piece begins behind what is stored")
	// ErrNotStored: there is no such stream or envelope.
	ErrNotStored = errors.New("not in the store")
	// ErrFinished: the stream is whole; nothing can be added.
	ErrFinished = errors.New("stream is finished")
)

const (
	suffixWhole    = ".transcript"
	suffixPart     = ".part"
	suffixEnvelope = ".envelope"
	// modeStored: nobody writes a finished file, not even we.
	modeStored = 0o400
	// prefixCheck is of the files on which Check tries.
	prefixCheck = ".check-"
)

// Stored is what the store holds of a stream.
type Stored struct {
	Size      int64
	Finished  bool
	Immutable bool // the filesystem refuses changes
}

// NewFileStore makes the directory if it is missing.
func NewFileStore(dir string) (*FileStore, error) {
	if err := durable.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("opening store: %w", err)
	}
	return &FileStore{Dir: dir, busy: map[string]*sync.Mutex{}, flushed: map[string]bool{}}, nil
}

// lock serialises what is done to one session.
func (s *FileStore) lock(id name.SessionID) (base string, unlock func(), err error) {
	if p, err := name.ParseSessionID(string(id)); err != nil || p != id {
		return "", nil, fmt.Errorf("store: %w", errors.Join(err, name.ErrInvalid))
	}
	s.mu.Lock()
	m := s.busy[id.File()]
	if m == nil {
		m = &sync.Mutex{}
		s.busy[id.File()] = m
	}
	s.mu.Unlock()
	m.Lock()
	return filepath.Join(s.Dir, id.File()), m.Unlock, nil
}

// Put stores a piece of a stream at offset, durably, and returns the size stored. A piece may overlap what is there, if
// the bytes are the same.
func (s *FileStore) Put(id name.SessionID, offset int64, piece []byte) (size int64, err error) {
	base, unlock, err := s.lock(id)
	if err != nil {
		return 0, err
	}
	defer unlock()
	if offset < 0 {
		return 0, fmt.Errorf("storing %s: negative offset", id)
	}
	flags := os.O_RDWR
	finished := exists(base + suffixWhole)
	path := base + suffixPart
	if finished {
		path, flags = base+suffixWhole, os.O_RDONLY
	}
	if !finished {
		if exists(path) {
			if err := s.flush(path); err != nil {
				return 0, fmt.Errorf("storing %s: %w", id, err)
			}
		} else {
			flags |= os.O_CREATE | os.O_EXCL
		}
	}
	f, err := os.OpenFile(path, flags, 0o600)
	if err != nil {
		return 0, fmt.Errorf("storing %s: %w", id, err)
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return 0, fmt.Errorf("storing %s: %w", id, err)
	}
	size = st.Size()
	if offset > size {
		return size, fmt.Errorf("storing %s at %d of %d: %w", id, offset, size, ErrGap)
	}
	known := piece[:min(int64(len(piece)), size-offset)]
	if err := same(io.NewSectionReader(f, offset, int64(len(known))), known); err != nil {
		return size, fmt.Errorf("storing %s: %w", id, err)
	}
	if piece = piece[len(known):]; len(piece) == 0 {
		return size, nil
	}
	if finished {
		return size, fmt.Errorf("storing %s: %w", id, ErrFinished)
	}
	s.setFlushed(path, false)
	if _, err := f.WriteAt(piece, size); err != nil {
		// What was written in part isn't acknowledged; it must not stay where the next Put would compare with it.
		return size, fmt.Errorf("storing %s: %w", id, errors.Join(err, f.Truncate(size)))
	}
	if err := f.Sync(); err != nil {
		return size, fmt.Errorf("storing %s: %w", id, errors.Join(err, f.Truncate(size)))
	}
	if flags&os.O_CREATE != 0 {
		if err := durable.SyncDir(s.Dir); err != nil {
			return 0, fmt.Errorf("storing %s: %w", id, err)
		}
	}
	s.setFlushed(path, true)
	return size + int64(len(piece)), nil
}

// flush makes what is there of an unfinished stream durable before anybody is told of it: a process that was killed may have written it and not flushed
// it, and a jump deletes what the store says that it has.
func (s *FileStore) flush(path string) error {
	s.mu.Lock()
	done := s.flushed[path]
	s.mu.Unlock()
	if done {
		return nil
	}
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	if err := errors.Join(f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := durable.SyncDir(s.Dir); err != nil {
		return err
	}
	s.setFlushed(path, true)
	return nil
}

func (s *FileStore) setFlushed(path string, is bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if is {
		s.flushed[path] = true
	} else {
		delete(s.flushed, path)
	}
}

// same demands that r gives exactly want.
func same(r io.Reader, want []byte) error {
	buf := make([]byte, 32<<10)
	for len(want) > 0 {
		n := min(len(buf), len(want))
		if _, err := io.ReadFull(r, buf[:n]); err != nil {
			return err
		}
		if string(buf[:n]) != string(want[:n]) {
			return ErrConflict
		}
		want = want[n:]
	}
	return nil
}

// Finish says that the stream is whole with size bytes. It may be said again.
func (s *FileStore) Finish(id name.SessionID, size int64) (Stored, error) {
	base, unlock, err := s.lock(id)
	if err != nil {
		return Stored{}, err
	}
	defer unlock()
	whole, part := base+suffixWhole, base+suffixPart
	if st, err := os.Stat(whole); err == nil {
		if st.Size() != size {
			return Stored{}, fmt.Errorf("finishing %s: %d bytes, not %d: %w", id, st.Size(), size, ErrConflict)
		}
		// A crash may have come between the rename and the flag.
		return Stored{size, true, setImmutable(whole) == nil}, nil
	}
	st, err := os.Stat(part)
	if errors.Is(err, fs.ErrNotExist) {
		return Stored{}, fmt.Errorf("finishing %s: %w", id, ErrNotStored)
	}
	if err != nil {
		return Stored{}, fmt.Errorf("finishing %s: %w", id, err)
	}
	if st.Size() != size {
		return Stored{Size: st.Size()}, fmt.Errorf("finishing %s: %d bytes are here, not %d: %w", id, st.Size(), size, ErrGap)
	}
	if err := os.Chmod(part, modeStored); err != nil {
		return Stored{}, fmt.Errorf("finishing %s: %w", id, err)
	}
	if err := syncFile(part); err != nil {
		return Stored{}, fmt.Errorf("finishing %s: %w", id, err)
	}
	s.setFlushed(part, false) // nobody asks any more
	if err := durable.Rename(part, whole); err != nil {
		return Stored{}, fmt.Errorf("finishing %s: %w", id, err)
	}
	return Stored{size, true, setImmutable(whole) == nil}, nil
}

// syncFile flushes content and mode of a file that may be read only.
func syncFile(path string) error {
	if runtime.GOOS == "windows" {
		return nil // wants a handle that may write; Put has flushed the content
	}
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	return f.Sync()
}

// Stat says what is stored of a stream: where a jump goes on.
func (s *FileStore) Stat(id name.SessionID) (Stored, error) {
	base, unlock, err := s.lock(id)
	if err != nil {
		return Stored{}, err
	}
	defer unlock()
	if st, err := os.Stat(base + suffixWhole); err == nil {
		return Stored{st.Size(), true, isImmutable(base + suffixWhole)}, nil
	}
	st, err := os.Stat(base + suffixPart)
	if errors.Is(err, fs.ErrNotExist) {
		return Stored{}, fmt.Errorf("%s: %w", id, ErrNotStored)
	}
	if err == nil {
		err = s.flush(base + suffixPart)
	}
	if err != nil {
		return Stored{}, err
	}
	return Stored{Size: st.Size()}, nil
}

// Open reads a stream, finished or not.
func (s *FileStore) Open(id name.SessionID) (io.ReadCloser, error) {
	base, unlock, err := s.lock(id)
	if err != nil {
		return nil, err
	}
	defer unlock()
	for _, suffix := range []string{suffixWhole, suffixPart} {
		f, err := os.Open(base + suffix)
		if !errors.Is(err, fs.ErrNotExist) {
			return f, err
		}
	}
	return nil, fmt.Errorf("%s: %w", id, ErrNotStored)
}

// PutEnvelope stores a session's envelope, whole and for ever.
func (s *FileStore) PutEnvelope(id name.SessionID, env []byte) error {
	if len(env) == 0 || len(env) > MaxEnvelope {
		return fmt.Errorf("storing envelope of %s: %w: %d bytes", id, ErrEnvelope, len(env))
	}
	base, unlock, err := s.lock(id)
	if err != nil {
		return err
	}
	defer unlock()
	err = durable.WriteNew(base+suffixEnvelope, env, modeStored)
	if errors.Is(err, fs.ErrExist) {
		have, err := os.ReadFile(base + suffixEnvelope)
		if err == nil && string(have) != string(env) {
			err = ErrConflict
		}
		if err != nil {
			return fmt.Errorf("storing envelope of %s: %w", id, err)
		}
		// The first to write it may have died before it was flushed.
		return durable.SyncDir(s.Dir)
	}
	if err == nil {
		setImmutable(base + suffixEnvelope) // where it can be
	}
	return err
}

// Envelope gives it back.
func (s *FileStore) Envelope(id name.SessionID) ([]byte, error) {
	base, unlock, err := s.lock(id)
	if err != nil {
		return nil, err
	}
	defer unlock()
	b, err := os.ReadFile(base + suffixEnvelope)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("envelope of %s: %w", id, ErrNotStored)
	}
	return b, err
}

// List gives the sessions of which anything of a stream is stored, in the order of their file names.
func (s *FileStore) List() ([]name.SessionID, error) {
	es, err := os.ReadDir(s.Dir)
	if err != nil {
		return nil, fmt.Errorf("listing store: %w", err)
	}
	var ids []name.SessionID
	for _, e := range es {
		n, ok := strings.CutSuffix(e.Name(), suffixWhole)
		if !ok {
			n, ok = strings.CutSuffix(e.Name(), suffixPart)
		}
		if !ok {
			continue
		}
		if id, err := name.ParseSessionID(strings.Replace(n, ".", "/", 1)); err == nil {
			ids = append(ids, id)
		}
	}
	return ids, nil
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}
