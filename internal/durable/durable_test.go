package durable

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
)

func TestWriteFile(t *testing.T) {
	dir := t.TempDir()
	p := filepath.Join(dir, "key")
	for _, c := range []struct {
		data string
		perm fs.FileMode
	}{{"first", 0o600}, {"", 0o644}, {"third and longer", 0o400}} {
		if err := WriteFile(p, []byte(c.data), c.perm); err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile(p)
		if err != nil || string(got) != c.data {
			t.Fatalf("read %q, %v; want %q", got, err, c.data)
		}
		st, _ := os.Stat(p)
		if st.Mode().Perm() != c.perm {
			t.Errorf("mode %v, want %v", st.Mode().Perm(), c.perm)
		}
	}
	only(t, dir, "key")
}

func TestFailedWriteLeavesTheOldContent(t *testing.T) {
	dir := t.TempDir()
	p := filepath.Join(dir, "sub")
	if err := os.MkdirAll(filepath.Join(p, "full"), 0o700); err != nil {
		t.Fatal(err)
	}
	// A directory that isn't empty can't be replaced by a file.
	if err := WriteFile(p, []byte("x"), 0o600); err == nil {
		t.Fatal("a directory was replaced")
	}
	only(t, dir, "sub")
	if err := WriteFile(filepath.Join(dir, "none", "x"), nil, 0o600); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("missing directory: %v", err)
	}
}

func TestWriteNewHasOneWinner(t *testing.T) {
	dir := t.TempDir()
	p := filepath.Join(dir, "token")
	var won atomic.Int32
	var wg sync.WaitGroup
	for i := range 16 {
		wg.Go(func() {
			switch err := WriteNew(p, []byte{byte(i)}, 0o600); {
			case err == nil:
				won.Add(1)
			case !errors.Is(err, fs.ErrExist):
				t.Errorf("loser got %v, want fs.ErrExist", err)
			}
		})
	}
	wg.Wait()
	if won.Load() != 1 {
		t.Errorf("%d winners", won.Load())
	}
	only(t, dir, "token")
}

func TestMkdirAllRenameRemove(t *testing.T) {
	dir := t.TempDir()
	deep := filepath.Join(dir, "a", "b", "c")
	for range 2 {
		if err := MkdirAll(deep, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	f := filepath.Join(deep, "f")
	if err := WriteFile(f, []byte("1"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := MkdirAll(filepath.Join(f, "d"), 0o700); err == nil {
		t.Error("made a directory under a file")
	}
	g := filepath.Join(dir, "g")
	if err := Rename(f, g); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := Remove(g); err != nil {
			t.Errorf("removing: %v", err)
		}
	}
	if _, err := os.Stat(g); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("still there: %v", err)
	}
}

// only checks that dir holds exactly the named files: no temporary one was left.
func only(t *testing.T, dir string, want ...string) {
	t.Helper()
	es, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, e := range es {
		got = append(got, e.Name())
	}
	if len(got) != len(want) {
		t.Fatalf("directory holds %q, want %q", got, want)
	}
	for i := range want {
		if got[i] != want[i] {
			t.Fatalf("directory holds %q, want %q", got, want)
		}
	}
}
