//go:build linux

package transcript

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"breakglass/internal/name"

	"github.com/google/go-cmp/cmp"
)

func store(t *testing.T) *FileStore {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "store")
	s, err := NewFileStore(dir)
	if err != nil {
		t.Fatal(err)
	}
	mutable(t, dir)
	return s
}

func TestFileStore(t *testing.T) {
	s := store(t)
	const id = name.SessionID("k7f-2mq/1")
	stream := bytes.Repeat([]byte("0123456789"), 10_000)
	if _, err := s.Stat(id); !errors.Is(err, ErrNotStored) {
		t.Errorf("nothing yet: %v", err)
	}
	for _, c := range []struct {
		what  string
		at    int64
		piece []byte
		size  int64
		err   error
	}{
		{"the first piece", 0, stream[:1000], 1000, nil},
		{"the next", 1000, stream[1000:1500], 1500, nil},
		{"the same again", 1000, stream[1000:1500], 1500, nil},
		{"all again and more", 0, stream[:50_000], 50_000, nil},
		{"nothing at the end", 50_000, nil, 50_000, nil},
		{"a gap", 50_001, []byte("1"), 50_000, ErrGap},
		{"other bytes", 40_000, []byte("x"), 50_000, ErrConflict},
		{"other bytes and more", 0, append([]byte("x"), stream[1:60_000]...), 50_000, ErrConflict},
		{"the rest", 50_000, stream[50_000:], 100_000, nil},
	} {
		size, err := s.Put(id, c.at, c.piece)
		if size != c.size || !errors.Is(err, c.err) {
			t.Errorf("%s: %d, %v; want %d, %v", c.what, size, err, c.size, c.err)
		}
	}
	if _, err := s.Finish(id, 99_999); !errors.Is(err, ErrGap) {
		t.Errorf("finished with another size: %v", err)
	}
	var immutable bool
	for range 2 {
		st, err := s.Finish(id, 100_000)
		if err != nil || !st.Finished || st.Size != 100_000 {
			t.Fatalf("%+v, %v", st, err)
		}
		immutable = st.Immutable
	}
	if _, err := s.Finish(id, 5); !errors.Is(err, ErrConflict) {
		t.Errorf("finished again with another size: %v", err)
	}
	if n, err := s.Put(id, 0, stream); err != nil || n != 100_000 {
		t.Errorf("the same bytes after the end: %d, %v", n, err)
	}
	if _, err := s.Put(id, 0, append(stream, '!')); !errors.Is(err, ErrFinished) {
		t.Errorf("more bytes after the end: %v", err)
	}
	if _, err := s.Put(id, 5, []byte("x")); !errors.Is(err, ErrConflict) {
		t.Errorf("other bytes after the end: %v", err)
	}
	st, err := s.Stat(id)
	if d := cmp.Diff(Stored{100_000, true, immutable}, st); d != "" || err != nil {
		t.Error(d, err)
	}
	r, err := s.Open(id)
	if err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(r)
	r.Close()
	if err != nil || !bytes.Equal(got, stream) {
		t.Errorf("read %d bytes, %v", len(got), err)
	}
	path := filepath.Join(s.Dir, "k7f-2mq.1.transcript")
	fi, err := os.Stat(path)
	if err != nil || fi.Mode().Perm() != 0o400 {
		t.Errorf("%v, %v", fi, err)
	}
	if immutable {
		if err := os.Remove(path); err == nil {
			t.Error("an immutable file was removed")
		}
		if err := os.WriteFile(path, []byte("x"), 0o600); err == nil {
			t.Error("an immutable file was overwritten")
		}
	} else {
		t.Log("this filesystem or process can't make files immutable")
	}
	s.Put("q2c-9dd/12", 0, []byte("a"))
	ids, err := s.List()
	if d := cmp.Diff([]name.SessionID{id, "q2c-9dd/12"}, ids); d != "" || err != nil {
		t.Error(d, err)
	}
}

func TestFileStoreEnvelopes(t *testing.T) {
	s := store(t)
	const id = name.SessionID("k7f-2mq/1")
	if _, err := s.Envelope(id); !errors.Is(err, ErrNotStored) {
		t.Errorf("nothing yet: %v", err)
	}
	for range 2 {
		if err := s.PutEnvelope(id, []byte("env")); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.PutEnvelope(id, []byte("other")); !errors.Is(err, ErrConflict) {
		t.Errorf("another: %v", err)
	}
	if err := s.PutEnvelope(id, nil); !errors.Is(err, ErrEnvelope) {
		t.Errorf("an empty one: %v", err)
	}
	if b, err := s.Envelope(id); err != nil || string(b) != "env" {
		t.Errorf("%q, %v", b, err)
	}
}

func TestFileStoreNames(t *testing.T) {
	s := store(t)
	for _, id := range []name.SessionID{"", "../x", "k7f-2mq", "k7f-2mq/0", "K7F-2MQ/1", "k7f-2mq/1/../../x"} {
		if _, err := s.Put(id, 0, []byte("x")); !errors.Is(err, name.ErrInvalid) {
			t.Errorf("%q: %v", id, err)
		}
		if err := s.PutEnvelope(id, []byte("x")); !errors.Is(err, name.ErrInvalid) {
			t.Errorf("%q: %v", id, err)
		}
	}
}

func TestFileStoreRacers(t *testing.T) {
	s := store(t)
	stream := bytes.Repeat([]byte("abcdefgh"), 5000)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for at := 0; at < len(stream); at += 4000 {
				if _, err := s.Put("k7f-2mq/2", int64(at), stream[at:at+4000]); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if st, err := s.Finish("k7f-2mq/2", int64(len(stream))); err != nil || !st.Finished {
		t.Errorf("%+v, %v", st, err)
	}
}
