package witness

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"os"
	"path/filepath"

	"golang.org/x/mod/sumdb/tlog"

	"breakglass/internal/durable"
	"breakglass/internal/statement"
	"breakglass/ledger"
)

// ErrMirror says that the copy on the disk is not what was cosigned.
var ErrMirror = errors.New("the copy of the ledger is damaged")

// Mirror is the copy of a ledger, up to the head that was cosigned last. Reading it needs no lock: what is below the head never changes.
type Mirror struct {
	dir                      string
	entries, offsets, hashes *os.File

	head   ledger.Checkpoint // of what is cosigned
	signed string            // its note; "" while nothing is cosigned
	size   int64             // entries written, which may be more
	end    int64             // where they end
}

// OpenMirror opens or makes the copy in dir, of the ledger whose key is vkey, and checks that its tree has the cosigned root.
func OpenMirror(dir, vkey string) (*Mirror, error) {
	if err := durable.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("opening the copy of the ledger: %w", err)
	}
	m := &Mirror{dir: dir}
	for name, f := range map[string]**os.File{"entries": &m.entries, "offsets": &m.offsets, "hashes": &m.hashes} {
		var err error
		if *f, err = os.OpenFile(filepath.Join(dir, name), os.O_RDWR|os.O_CREATE, 0o600); err != nil {
			m.Close()
			return nil, fmt.Errorf("opening the copy of the ledger: %w", err)
		}
	}
	if err := m.load(vkey); err != nil {
		m.Close()
		return nil, fmt.Errorf("opening the copy of the ledger in %s: %w", dir, err)
	}
	return m, durable.SyncDir(dir)
}

func (m *Mirror) load(vkey string) error {
	b, err := os.ReadFile(filepath.Join(m.dir, "head"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	head, err := ledger.OpenCheckpoint(string(b), vkey)
	if err != nil {
		return err
	}
	if head.Size > 0 {
		if m.end, err = m.offset(head.Size); err != nil {
			return err
		}
	}
	m.size = head.Size
	root, err := ledger.Root(head.Size, m)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrMirror, err)
	}
	if root != head.Root {
		return fmt.Errorf("%w: its root of %d entries is %s, cosigned was %s", ErrMirror, head.Size, root, head.Root)
	}
	m.head, m.signed = head, string(b)
	return nil
}

// Close closes the files.
func (m *Mirror) Close() error {
	var errs []error
	for _, f := range []*os.File{m.entries, m.offsets, m.hashes} {
		if f != nil {
			errs = append(errs, f.Close())
		}
	}
	return errors.Join(errs...)
}

// Head is the newest cosigned head with its note; a size of 0 and no note where there is none.
func (m *Mirror) Head() (ledger.Checkpoint, string) { return m.head, m.signed }

// offset is where the first n entries end.
func (m *Mirror) offset(n int64) (int64, error) {
	if n == 0 {
		return 0, nil
	}
	var b [8]byte
	if _, err := m.offsets.ReadAt(b[:], (n-1)*8); err != nil {
		return 0, fmt.Errorf("%w: offset of entry %d: %w", ErrMirror, n-1, err)
	}
	return int64(binary.BigEndian.Uint64(b[:])), nil
}

// Entry reads one entry, below the head's size, and holds it against its leaf.
func (m *Mirror) Entry(n int64) ([]byte, error) {
	if n < 0 || n >= m.size {
		return nil, fmt.Errorf("entry %d of %d", n, m.size)
	}
	from, err := m.offset(n)
	if err != nil {
		return nil, err
	}
	to, err := m.offset(n + 1)
	if err != nil {
		return nil, err
	}
	if to-from < 4 || to-from > 4+ledger.MaxEntry {
		return nil, fmt.Errorf("%w: entry %d from %d to %d", ErrMirror, n, from, to)
	}
	b := make([]byte, to-from)
	if _, err := m.entries.ReadAt(b, from); err != nil {
		return nil, fmt.Errorf("%w: entry %d: %w", ErrMirror, n, err)
	}
	if int64(binary.BigEndian.Uint32(b)) != to-from-4 {
		return nil, fmt.Errorf("%w: entry %d says %d bytes of %d", ErrMirror, n, binary.BigEndian.Uint32(b), to-from-4)
	}
	leaf, err := m.ReadHashes([]int64{tlog.StoredHashIndex(0, n)})
	if err != nil {
		return nil, err
	}
	if leaf[0] != tlog.Hash(ledger.LeafHash(b[4:])) {
		return nil, fmt.Errorf("%w: entry %d is not the one whose hash is kept", ErrMirror, n)
	}
	return b[4:], nil
}

// Entries reads the entries from … to-1.
func (m *Mirror) Entries(from, to int64) iter.Seq2[[]byte, error] {
	return func(yield func([]byte, error) bool) {
		for n := from; n < to; n++ {
			b, err := m.Entry(n)
			if !yield(b, err) || err != nil {
				return
			}
		}
	}
}

// RootAt is the root of the first n entries.
func (m *Mirror) RootAt(n int64) (statement.Hash, error) { return ledger.Root(n, m) }

// ReadHashes implements tlog.HashReader.
func (m *Mirror) ReadHashes(indexes []int64) ([]tlog.Hash, error) {
	out := make([]tlog.Hash, len(indexes))
	for i, n := range indexes {
		if _, err := m.hashes.ReadAt(out[i][:], n*tlog.HashSize); err != nil {
			return nil, fmt.Errorf("%w: hash %d: %w", ErrMirror, n, err)
		}
	}
	return out, nil
}

// append writes entries behind what is there. Nothing of it counts before commit.
func (m *Mirror) append(entries [][]byte) error {
	for _, e := range entries {
		hashes, err := ledger.Append(m.size, e, m)
		if err != nil {
			return err
		}
		b := binary.BigEndian.AppendUint32(make([]byte, 0, 4+len(e)), uint32(len(e)))
		end := m.end + 4 + int64(len(e))
		var hs []byte
		for _, h := range hashes {
			hs = append(hs, h[:]...)
		}
		for _, w := range []struct {
			to *os.File
			b  []byte
			at int64
		}{{m.entries, append(b, e...), m.end}, {m.offsets, binary.BigEndian.AppendUint64(nil, uint64(end)), m.size * 8}, {m.hashes, hs, ledger.HashCount(m.size) * tlog.HashSize}} {
			if _, err := w.to.WriteAt(w.b, w.at); err != nil {
				return fmt.Errorf("writing the copy of the ledger: %w", err)
			}
		}
		m.size, m.end = m.size+1, end
	}
	return nil
}

// back forgets what isn't committed.
func (m *Mirror) back() error {
	end, err := m.offset(m.head.Size)
	m.size, m.end = m.head.Size, end
	return err
}

// commit makes the head the newest: it and all below it are durable when it returns.
func (m *Mirror) commit(head ledger.Checkpoint, signed string) error {
	if head.Size != m.size {
		return fmt.Errorf("a head of %d entries, %d are written", head.Size, m.size)
	}
	for _, f := range []*os.File{m.entries, m.offsets, m.hashes} {
		if err := f.Sync(); err != nil {
			return fmt.Errorf("flushing the copy of the ledger: %w", err)
		}
	}
	if err := durable.WriteFile(filepath.Join(m.dir, "head"), []byte(signed), 0o600); err != nil {
		return err
	}
	m.head, m.signed = head, signed
	return nil
}

// refuse keeps a head that does not continue the cosigned one. The same is kept once.
func (m *Mirror) refuse(signed, why string, head ledger.Checkpoint) error {
	text := fmt.Sprintf("%s\n\ncosigned before:\n%s\nrefused:\n%s", why, m.signed, signed)
	path := filepath.Join(m.dir, fmt.Sprintf("refused-%d-%.12s.txt", head.Size, head.Root))
	err := durable.WriteNew(path, []byte(text), 0o600)
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	return err
}
