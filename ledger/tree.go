package ledger

import (
	"crypto/sha256"
	"errors"
	"fmt"

	"golang.org/x/mod/sumdb/tlog"

	"breakglass/internal/statement"
)

// ErrProof is wrapped by the errors of CheckInclusion and CheckConsistency.
var ErrProof = errors.New("proof does not hold")

// MaxProof bounds a proof in hashes: a tree of 2^62 entries needs no more.
const MaxProof = 64

// EntryHash is the SHA-256 of an entry's exact bytes: what a transcript's header binds to. It is not the leaf's hash,
// which RFC 6962 sets apart by a zero byte in front.
func EntryHash(entry []byte) statement.Hash { return sha256.Sum256(entry) }

// LeafHash is the entry's leaf in the tree (RFC 6962 section 2.1).
func LeafHash(entry []byte) statement.Hash { return statement.Hash(tlog.RecordHash(entry)) }

// Append gives the hashes to store for an entry that makes the tree of size size one larger. They belong at the
// consecutive positions from HashCount(size) on (tlog.StoredHashIndex); r reads the earlier ones.
func Append(size int64, entry []byte, r tlog.HashReader) ([]tlog.Hash, error) {
	if len(entry) > MaxEntry {
		return nil, fmt.Errorf("%w: %d bytes, limit %d", ErrEntry, len(entry), MaxEntry)
	}
	h, err := tlog.StoredHashes(size, entry, r)
	if err != nil {
		return nil, fmt.Errorf("hashing entry %d: %w", size, err)
	}
	return h, nil
}

// HashCount is the number of hashes that a tree of size size has stored.
func HashCount(size int64) int64 { return tlog.StoredHashCount(size) }

// Root is the root of the tree of size size; that of the empty tree is SHA-256 of nothing.
func Root(size int64, r tlog.HashReader) (statement.Hash, error) {
	h, err := tlog.TreeHash(size, r)
	if err != nil {
		return statement.Hash{}, fmt.Errorf("root of %d entries: %w", size, err)
	}
	return statement.Hash(h), nil
}

// ProveInclusion shows that entry index is in the tree of size size (RFC 6962 section 2.1.1).
func ProveInclusion(size, index int64, r tlog.HashReader) ([]statement.Hash, error) {
	p, err := tlog.ProveRecord(size, index, r)
	if err != nil {
		return nil, fmt.Errorf("proving entry %d of %d: %w", index, size, err)
	}
	return ours(p), nil
}

// ProveConsistency shows that the tree of size from is a prefix of that of size to (RFC 6962 section 2.1.2). From the empty tree
// to any other there is nothing to show.
func ProveConsistency(from, to int64, r tlog.HashReader) ([]statement.Hash, error) {
	if from < 0 || from > to {
		return nil, fmt.Errorf("proving %d to %d: sizes out of order", from, to)
	}
	if from == 0 || from == to {
		return nil, nil
	}
	p, err := tlog.ProveTree(to, from, r)
	if err != nil {
		return nil, fmt.Errorf("proving %d to %d: %w", from, to, err)
	}
	return ours(p), nil
}

// CheckInclusion checks that entry's exact bytes stand at index in the ledger whose head is c.
func CheckInclusion(entry []byte, index int64, proof []statement.Hash, c Checkpoint) error {
	if len(proof) > MaxProof {
		return fmt.Errorf("%w: entry %d: %d hashes, limit %d", ErrProof, index, len(proof), MaxProof)
	}
	if err := tlog.CheckRecord(theirs(proof), c.Size, tlog.Hash(c.Root), index, tlog.RecordHash(entry)); err != nil {
		return fmt.Errorf("%w: entry %d in a tree of %d: %w", ErrProof, index, c.Size, err)
	}
	return nil
}

// CheckConsistency checks that the history pinned by from is a prefix of the one pinned by to.
func CheckConsistency(from, to statement.Checkpoint, proof []statement.Hash) error {
	switch {
	case len(proof) > MaxProof:
		return fmt.Errorf("%w: %d hashes, limit %d", ErrProof, len(proof), MaxProof)
	case from.Size < 0 || from.Size > to.Size:
		return fmt.Errorf("%w: from %d entries to %d", ErrProof, from.Size, to.Size)
	case from.Size == 0 || from.Size == to.Size:
		want := to.Root
		if from.Size == 0 {
			want = EntryHash(nil)
		}
		if from.Root != want || len(proof) != 0 {
			return fmt.Errorf("%w: another root of %d entries", ErrProof, from.Size)
		}
		return nil
	}
	if err := tlog.CheckTree(theirs(proof), to.Size, tlog.Hash(to.Root), from.Size, tlog.Hash(from.Root)); err != nil {
		return fmt.Errorf("%w: from %d entries to %d: %w", ErrProof, from.Size, to.Size, err)
	}
	return nil
}

func ours[P ~[]tlog.Hash](p P) []statement.Hash {
	out := make([]statement.Hash, len(p))
	for i, h := range p {
		out[i] = statement.Hash(h)
	}
	return out
}

func theirs(p []statement.Hash) []tlog.Hash {
	out := make([]tlog.Hash, len(p))
	for i, h := range p {
		out[i] = tlog.Hash(h)
	}
	return out
}

// Memory is a whole tree's stored hashes, about 64 bytes an entry: for verification of a copy, and for tests.
type Memory struct {
	size   int64
	hashes []tlog.Hash
}

// Append adds an entry.
func (m *Memory) Append(entry []byte) error {
	h, err := Append(m.size, entry, m)
	if err != nil {
		return err
	}
	m.hashes = append(m.hashes, h...)
	m.size++
	return nil
}

// Size is the number of entries.
func (m *Memory) Size() int64 { return m.size }

// Checkpoint is the unsigned head at size.
func (m *Memory) Checkpoint(size int64) (statement.Checkpoint, error) {
	if size < 0 || size > m.size {
		return statement.Checkpoint{}, fmt.Errorf("head at %d of a tree of %d", size, m.size)
	}
	r, err := Root(size, m)
	return statement.Checkpoint{Size: size, Root: r}, err
}

// ReadHashes implements tlog.HashReader.
func (m *Memory) ReadHashes(indexes []int64) ([]tlog.Hash, error) {
	out := make([]tlog.Hash, len(indexes))
	for i, x := range indexes {
		if x < 0 || x >= int64(len(m.hashes)) {
			return nil, fmt.Errorf("hash %d of %d", x, len(m.hashes))
		}
		out[i] = m.hashes[x]
	}
	return out, nil
}
