package state

import (
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/mod/sumdb/tlog"

	"breakglass/internal/statement"
	"breakglass/ledger"
)

// Tx is one transaction: all that is in the state, and, in Do, the right to append.
type Tx struct {
	tx       *sql.Tx
	s        *State
	size     int64
	edge     edge  // nil in a View
	stored   int64 // hashes from this position on are in edge alone until the commit
	readOnly bool
	sized    bool  // of a View: size was read
	failed   error // of a View: reading the size failed
	lastIdx  int64 // of the entry applied last, for applyTime
	lastAt   int64
	signed   statement.Statement // of the entry being applied, if a person signed it
	// unrostered says that an entry was applied, or tried, that the roster does not have.
	unrostered bool
	then       []func(*Tx) error
}

// Then has fn run in the writer once it is known what became of this transaction, and before any other job: what is kept in memory of what the ledger says
// is changed there, so that nobody decides by the old of it behind the entry that changed it. fn reads what stands, for the commit may have failed; where
// it fails itself, nothing is written until it was run again.
func (t *Tx) Then(fn func(*Tx) error) { t.then = append(t.then, fn) }

// ErrNotFound says that there is no such row.
var ErrNotFound = errors.New("not found")

// Size is the number of entries. In a View that can't read it, it is 0 and the View fails.
func (t *Tx) Size() int64 {
	if t.readOnly && !t.sized { // few ask, and it is one question more
		t.sized, t.failed = true, t.readSize()
	}
	return t.size
}

// Head is the checkpoint over exactly what a View sees, with its signed note: proofs of anything seen there hold against it. (State.Head may
// be of a moment before or after.)
func (t *Tx) Head() (ledger.Checkpoint, string, error) {
	if !t.readOnly { // a writer's entries may yet be rolled back: nothing is signed over them
		return ledger.Checkpoint{}, "", errors.New("no head within a transaction that writes")
	}
	size := t.Size()
	if t.failed != nil {
		return ledger.Checkpoint{}, "", t.failed
	}
	if head, note := t.s.Head(); head.Size == size {
		return head, note, nil
	}
	return t.s.checkpoint(t)
}

// Append adds e to the ledger and changes the tables that follow from it. It gives e's index and exact bytes.
func (t *Tx) Append(e *ledger.Entry) (int64, []byte, error) {
	if t.readOnly {
		return 0, nil, errors.New("an entry in a transaction that only reads")
	}
	if why := t.s.frozen.Load(); why != nil {
		return 0, nil, *why
	}
	b, err := ledger.Encode(e)
	if err != nil {
		return 0, nil, err
	}
	idx := t.size
	if err := t.append(b, e); err != nil {
		return 0, nil, fmt.Errorf("appending %s: %w", e.Type(), err)
	}
	return idx, b, nil
}

// append stores the bytes of an entry and applies it.
func (t *Tx) append(b []byte, e *ledger.Entry) error {
	hashes, err := ledger.Append(t.size, b, t)
	if err != nil {
		return err
	}
	idx := t.size
	if _, err := t.tx.Exec(`INSERT INTO entries (idx, type, request, session, bytes) VALUES ($1, $2, $3, $4, $5)`,
		idx, string(e.Type()), string(e.Subject.Request), string(e.Subject.Session), b); err != nil {
		return err
	}
	for i, h := range hashes {
		t.edge[ledger.HashCount(idx)+int64(i)] = h
	}
	t.size++
	return t.apply(idx, b, e)
}

// storeHashes writes the hashes of the entries that stand at the end of the transaction, many a statement.
func (t *Tx) storeHashes() error {
	const many = 16
	end := ledger.HashCount(t.size)
	insert := func(n int64) error {
		args := make([]any, 0, 2*n)
		for pos := t.stored; pos < t.stored+n; pos++ {
			h, ok := t.edge[pos]
			if !ok {
				return fmt.Errorf("hash %d was not made", pos)
			}
			args = append(args, pos, h[:])
		}
		t.stored += n
		return t.exec(hashRows(n), args...)
	}
	for t.stored+many <= end {
		if err := insert(many); err != nil {
			return err
		}
	}
	for t.stored < end {
		if err := insert(1); err != nil {
			return err
		}
	}
	return nil
}

func hashRows(n int64) string {
	var b strings.Builder
	b.WriteString(`INSERT INTO hashes (pos, hash) VALUES `)
	for i := range n {
		if i > 0 {
			b.WriteString(`, `)
		}
		fmt.Fprintf(&b, `($%d, $%d)`, 2*i+1, 2*i+2)
	}
	return b.String()
}

// ReadHashes implements tlog.HashReader.
func (t *Tx) ReadHashes(indexes []int64) ([]tlog.Hash, error) {
	out := make([]tlog.Hash, len(indexes))
	for i, n := range indexes {
		// Beyond the tree's own there may be hashes of a job that was rolled back; tlog asks for none of them, and this would not give one.
		if h, ok := t.edge[n]; ok && n < ledger.HashCount(t.size) {
			out[i] = h
			continue
		}
		var b []byte
		if err := t.tx.QueryRow(`SELECT hash FROM hashes WHERE pos = $1`, n).Scan(&b); err != nil {
			return nil, fmt.Errorf("reading hash %d: %w", n, err)
		}
		if copy(out[i][:], b) != len(out[i]) {
			return nil, fmt.Errorf("hash %d has %d bytes", n, len(b))
		}
		if t.edge != nil {
			t.edge[n] = out[i]
		}
	}
	return out, nil
}

// Entry gives the exact bytes of an entry.
func (t *Tx) Entry(idx int64) ([]byte, error) {
	var b []byte
	err := t.tx.QueryRow(`SELECT bytes FROM entries WHERE idx = $1`, idx).Scan(&b)
	return b, notFound(err)
}

// Entries calls fn for each entry from from on.
func (t *Tx) Entries(from int64, fn func(idx int64, b []byte) error) error {
	rows, err := t.tx.Query(`SELECT idx, bytes FROM entries WHERE idx >= $1 ORDER BY idx`, from)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var idx int64
		var b []byte
		if err := rows.Scan(&idx, &b); err != nil {
			return err
		}
		if err := fn(idx, b); err != nil {
			return err
		}
	}
	return rows.Err()
}

// OfRequest gives the indexes of the entries about a request, and OfType of those of a type.
func (t *Tx) OfRequest(id string) ([]int64, error) {
	return t.indexes(`SELECT idx FROM entries WHERE request = $1 ORDER BY idx`, id)
}

func (t *Tx) OfType(typ ledger.Type) ([]int64, error) {
	return t.indexes(`SELECT idx FROM entries WHERE type = $1 ORDER BY idx`, string(typ))
}

// After gives the indexes of at most limit entries of the types behind an index, and the last index up to which that is all there is.
func (t *Tx) After(index int64, types []ledger.Type, limit int) (found []int64, upTo int64, err error) {
	for _, typ := range types {
		list, err := t.ints(`SELECT idx FROM entries WHERE type = $1 AND idx > $2 ORDER BY idx LIMIT $3`, string(typ), index, limit)
		if err != nil {
			return nil, 0, err
		}
		found = append(found, list...)
	}
	slices.Sort(found)
	if len(found) > limit {
		found = found[:limit]
		return found, found[limit-1], nil
	}
	return found, t.Size() - 1, nil
}

func (t *Tx) indexes(query, arg string) ([]int64, error) { return t.ints(query, arg) }

func (t *Tx) ints(query string, args ...any) ([]int64, error) {
	rows, err := t.tx.Query(query, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var out []int64
	for rows.Next() {
		var n int64
		if err := rows.Scan(&n); err != nil {
			return nil, err
		}
		out = append(out, n)
	}
	return out, rows.Err()
}

// Inclusion proves entry idx to the tree of size size; Consistency that from is a prefix of to.
func (t *Tx) Inclusion(size, idx int64) ([]statement.Hash, error) {
	return ledger.ProveInclusion(size, idx, t)
}

func (t *Tx) Consistency(from, to int64) ([]statement.Hash, error) {
	return ledger.ProveConsistency(from, to, t)
}

func notFound(err error) error {
	if errors.Is(err, sql.ErrNoRows) {
		return ErrNotFound
	}
	return err
}
