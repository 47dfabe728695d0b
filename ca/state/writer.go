package state

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"

	"github.com/mattn/go-sqlite3"

	"breakglass/ledger"
)

// This file is the one writer: whatever has arrived shares a transaction, and a transaction that could not be committed leaves nothing that
// the next one builds on.

type job struct {
	fn   func(*Tx) error
	err  error
	done chan struct{}
}

func (s *State) run() {
	defer close(s.done)
	for {
		var jobs []*job
		select {
		case j := <-s.work:
			jobs = append(jobs, j)
		case <-s.wal.due:
			s.wal.fold(s.write)
			continue
		case <-s.stop:
			return
		}
	more:
		for len(jobs) < batch {
			select {
			case j := <-s.work:
				jobs = append(jobs, j)
			default:
				break more
			}
		}
		s.commit(jobs)
		if s.failed != nil {
			return
		}
	}
}

// commit runs the jobs in one transaction, or in more where one of them is to end it (Tx.Then). If the commit fails, every job of it fails, whether or
// not it persisted.
func (s *State) commit(jobs []*job) {
	for len(jobs) > 0 {
		n, err := s.inTransaction(jobs)
		// A failed write or sync may have left pages that the kernel holds for clean: nothing that is read in this boot can be trusted to be on
		// the disk, so trying again here could acknowledge what is lost.
		if isCode(err, sqlite3.ErrIoErr) || isCode(err, sqlite3.ErrCorrupt) {
			err = fmt.Errorf("%w: %w", ErrFailed, err)
			s.failed = err
			n = len(jobs)
		}
		for _, j := range jobs[:n] {
			if j.err == nil {
				j.err = err
			}
			if isCode(j.err, sqlite3.ErrFull) {
				j.err = fmt.Errorf("%w: %w", ErrFull, j.err)
			}
			close(j.done)
		}
		jobs = jobs[n:]
	}
}

func isCode(err error, code sqlite3.ErrNo) bool {
	var e sqlite3.Error
	return errors.As(err, &e) && e.Code == code
}

// inTransaction runs as many of the jobs as one transaction takes, and says how many.
func (s *State) inTransaction(jobs []*job) (n int, err error) {
	if s.unknown {
		if err := s.reload(); err != nil {
			return len(jobs), fmt.Errorf("reading the ledger after a failed commit: %w", err)
		}
	}
	if err := s.settle(); err != nil {
		return len(jobs), err
	}
	tx, err := s.write.Begin()
	if err != nil {
		return len(jobs), fmt.Errorf("writing the ledger: %w", err)
	}
	defer tx.Rollback()
	t := &Tx{tx: tx, s: s, size: s.size, edge: s.edge.clone(), stored: ledger.HashCount(s.size), lastIdx: s.size - 1, lastAt: s.lastAt}
	for n < len(jobs) && len(t.then) == 0 {
		if err := s.one(t, jobs[n]); err != nil {
			return len(jobs), fmt.Errorf("writing the ledger: %w", err)
		}
		n++
	}
	if t.size == s.size {
		return n, nil // nothing was appended; every change of a table comes from an entry
	}
	if err := t.storeHashes(); err != nil {
		return n, fmt.Errorf("writing the ledger: %w", err)
	}
	root, err := ledger.Root(t.size, t)
	if err != nil {
		return n, fmt.Errorf("writing the ledger: %w", err)
	}
	s.then = append(s.then, t.then...)
	commit := tx.Commit
	if s.cfg.Commit != nil {
		commit = func() error { return s.cfg.Commit(tx.Commit) }
	}
	err = commit()
	if t.unrostered { // also if it failed: it may have persisted
		s.rosters.Add(1)
	}
	if err != nil {
		s.unknown = true
		return n, fmt.Errorf("%w: %w", ErrUnknown, err)
	}
	s.size, s.edge, s.lastAt = t.size, t.edge.trim(t.size), 0
	if t.lastIdx == t.size-1 {
		s.lastAt = t.lastAt
	}
	s.wal.wrote()
	// Signed after the commit: a head that never was must not exist anywhere.
	c := ledger.Checkpoint{Origin: s.cfg.Origin, Size: t.size, Root: root}
	note, err := c.Sign(s.cfg.Signer)
	if err != nil {
		s.unknown = true // the entries stand and nobody may act on them: the next caller reads and signs anew
		return n, fmt.Errorf("%w: signing the head: %w", ErrUnknown, err)
	}
	s.setHead(c, note)
	// What was asked stands, whatever settle says: it is run again before the next job.
	s.settle()
	return n, nil
}

// settle runs what waits for the outcome of earlier transactions.
func (s *State) settle() error {
	if len(s.then) == 0 {
		return nil
	}
	tx, err := s.write.Begin()
	if err != nil {
		return fmt.Errorf("reading what stands: %w", err)
	}
	defer tx.Rollback()
	t := &Tx{tx: tx, s: s, readOnly: true}
	for len(s.then) > 0 {
		if err := safely(s.then[0], t); err != nil {
			return fmt.Errorf("reading what stands: %w", err)
		}
		s.then = s.then[1:]
	}
	return t.failed
}

// one runs a job under a savepoint. Its error is of the transaction, not of the job.
func (s *State) one(t *Tx, j *job) error {
	before, lastIdx, lastAt, then := t.size, t.lastIdx, t.lastAt, len(t.then)
	if err := t.exec(`SAVEPOINT job`); err != nil {
		return err
	}
	if j.err = safely(j.fn, t); j.err != nil {
		t.size, t.lastIdx, t.lastAt, t.then = before, lastIdx, lastAt, t.then[:then]
		if err := t.exec(`ROLLBACK TO job`); err != nil {
			return err
		}
	}
	return t.exec(`RELEASE job`)
}

// safely keeps one job's panic from ending the writer with everybody's.
func safely(fn func(*Tx) error, t *Tx) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic in the writer: %v", p)
		}
	}()
	return fn(t)
}

// reload forgets what the writer thinks stands and reads it from the database, on a new connection: a commit that failed may have
// persisted, and the next entry must not be written over it, nor be hashed onto one that is not there.
func (s *State) reload() error {
	conn, err := s.write.Conn(context.Background())
	if err != nil {
		return err
	}
	conn.Raw(func(any) error { return driver.ErrBadConn }) // it is not used again
	conn.Close()
	if err := s.loadHead(); err != nil {
		return err
	}
	s.unknown = false
	return nil
}

// loadHead signs the head that the database holds: the entries are what counts, the note is made from them.
func (s *State) loadHead() error {
	tx, err := s.write.Begin()
	if err != nil {
		return err
	}
	defer tx.Rollback()
	t := &Tx{tx: tx, s: s, edge: edge{}}
	if err := t.readSize(); err != nil {
		return err
	}
	c, note, err := s.checkpoint(t)
	if err != nil {
		return err
	}
	s.size, s.edge, s.lastAt = t.size, t.edge.trim(t.size), 0
	s.setHead(c, note)
	return nil
}

func (s *State) setHead(c ledger.Checkpoint, note string) {
	s.mu.Lock()
	s.head, s.note = c, note
	s.mu.Unlock()
	s.grown.tell()
}

// checkpoint signs the head of what t sees.
func (s *State) checkpoint(t *Tx) (ledger.Checkpoint, string, error) {
	root, err := ledger.Root(t.size, t)
	if err != nil {
		return ledger.Checkpoint{}, "", err
	}
	c := ledger.Checkpoint{Origin: s.cfg.Origin, Size: t.size, Root: root}
	signed, err := c.Sign(s.cfg.Signer)
	return c, signed, err
}

// readSize reads how many entries t sees. They are numbered without a gap, so the last one says it; counting would read them all.
func (t *Tx) readSize() error {
	var last sql.NullInt64
	if err := t.tx.QueryRow(`SELECT MAX(idx) FROM entries`).Scan(&last); err != nil {
		return err
	}
	t.size = 0
	if last.Valid {
		t.size = last.Int64 + 1
	}
	return nil
}
