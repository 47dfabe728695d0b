package state

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"iter"
	"net/url"
	"path/filepath"

	"github.com/mattn/go-sqlite3"

	"breakglass/ledger"
)

// This file is how a database gets out of a CA's directory and its entries into another: a copy of one moment, read by anybody who may read the
// files, and entries that are taken over byte by byte. Only entries are ever taken over. Tables and hashes are made anew from them, so that nothing
// in a copy is believed that the ledger's checkpoint doesn't sign.

// ErrEntries says that a database's entries are not those of a ledger: one is missing, or can't be read.
var ErrEntries = errors.New("the entries are not whole")

// Copy writes the database of the CA in dir, as of one commit, to a file that must not exist. The service goes on meanwhile. The copy is not flushed.
func Copy(ctx context.Context, dir, to string) error {
	db, err := openToRead(filepath.Join(dir, "ca.db"), "") // query_only would keep VACUUM from writing elsewhere
	if err != nil {
		return err
	}
	defer db.Close()
	if _, err := db.ExecContext(ctx, `VACUUM INTO $1`, to); err != nil {
		if isCode(err, sqlite3.ErrFull) {
			return fmt.Errorf("copying the ledger: %w: %w", ErrFull, err)
		}
		return fmt.Errorf("copying the ledger: %w", err)
	}
	return nil
}

func openToRead(path, more string) (*sql.DB, error) {
	return sql.Open("sqlite3", "file:"+(&url.URL{Path: path}).EscapedPath()+"?mode=ro&_busy_timeout=10000"+more)
}

// Stored is a database file that is only read.
type Stored struct {
	db *sql.DB
	// Size is how many entries it has.
	Size int64
}

// OpenStored opens a database file to read its entries. One of a newer version is ErrNewer.
func OpenStored(path string) (*Stored, error) {
	db, err := openToRead(path, "&_query_only=true")
	if err != nil {
		return nil, err
	}
	s := &Stored{db: db}
	v := 0
	err = db.QueryRow(`PRAGMA user_version`).Scan(&v)
	if err == nil && v > len(migrations) {
		err = newer(v)
	}
	if err == nil {
		err = db.QueryRow(`SELECT COUNT(*) FROM entries`).Scan(&s.Size)
	}
	if err != nil {
		db.Close()
		return nil, fmt.Errorf("opening %s: %w", path, err)
	}
	return s, nil
}

// Close closes it.
func (s *Stored) Close() error { return s.db.Close() }

// Entries gives the exact bytes of the first n, or of all if there are fewer, in order and without a gap.
func (s *Stored) Entries(n int64) iter.Seq2[[]byte, error] {
	return func(yield func([]byte, error) bool) {
		rows, err := s.db.Query(`SELECT idx, bytes FROM entries WHERE idx < ? ORDER BY idx`, n)
		if err != nil {
			yield(nil, err)
			return
		}
		defer rows.Close()
		for want := int64(0); rows.Next(); want++ {
			var idx int64
			var b []byte
			err := rows.Scan(&idx, &b)
			if err == nil && idx != want {
				err = fmt.Errorf("%w: entry %d is missing", ErrEntries, want)
			}
			if !yield(b, err) || err != nil {
				return
			}
		}
		if err := rows.Err(); err != nil {
			yield(nil, err)
		}
	}
}

// AppendRaw takes over an entry of this ledger that was written before, by its exact bytes: from a backup, or from a jump that cosigned it. Whoever calls
// it holds the root against a checkpoint before the transaction ends. Unlike Append it goes on in a ledger that is frozen: this is the way back.
func (t *Tx) AppendRaw(b []byte) error {
	if t.readOnly {
		return errors.New("an entry in a transaction that only reads")
	}
	e, err := ledger.Decode(b)
	if err != nil {
		return fmt.Errorf("entry %d: %w", t.size, err)
	}
	if err := t.append(b, e); err != nil {
		return fmt.Errorf("entry %d: %w", t.size, err)
	}
	return nil
}

// Root is the root over what the transaction sees.
func (t *Tx) Root() (ledger.Checkpoint, error) {
	root, err := ledger.Root(t.Size(), t)
	return ledger.Checkpoint{Origin: t.s.cfg.Origin, Size: t.Size(), Root: root}, err
}

// RootAt is the root of the first size entries.
func (t *Tx) RootAt(size int64) (ledger.Checkpoint, error) {
	if size < 0 || size > t.Size() {
		return ledger.Checkpoint{}, fmt.Errorf("root of %d entries of %d", size, t.Size())
	}
	root, err := ledger.Root(size, t)
	return ledger.Checkpoint{Origin: t.s.cfg.Origin, Size: size, Root: root}, err
}

// Freeze keeps every entry but those of AppendRaw out, from the next one on: Append then fails with why. Nil lets them in again.
func (s *State) Freeze(why error) {
	if why == nil {
		s.frozen.Store(nil)
		return
	}
	s.frozen.Store(&why)
}

// Import makes a database in dir out of a ledger's entries, which must lead to head.
func Import(ctx context.Context, dir, origin string, entries iter.Seq2[[]byte, error], head ledger.Checkpoint, many int) (err error) {
	s, err := Open(Config{Dir: dir, Origin: origin, Signer: unsigned(origin)})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	var batch [][]byte
	flush := func() error {
		defer func() { batch = batch[:0] }()
		return s.Do(ctx, func(tx *Tx) error {
			for _, b := range batch {
				if err := tx.AppendRaw(b); err != nil {
					return err
				}
			}
			return nil
		})
	}
	for b, err := range entries {
		if err != nil {
			return err
		}
		if batch = append(batch, b); len(batch) == many {
			if err := flush(); err != nil {
				return err
			}
		}
	}
	if err := flush(); err != nil {
		return err
	}
	if have, _ := s.Head(); have != head {
		return fmt.Errorf("%w: they lead to root %s of %d entries, signed is %s of %d", ErrEntries, have.Root, have.Size, head.Root, head.Size)
	}
	return nil
}

// unsigned stands for the ledger's key where a database is made and nothing is signed that anybody sees.
type unsigned string

func (u unsigned) Name() string                { return string(u) }
func (u unsigned) KeyHash() uint32             { return 0 }
func (u unsigned) Sign([]byte) ([]byte, error) { return []byte{0}, nil }
