// Package state is the CA's one writer: the ledger and every table that follows from it, in one SQLite database.
//
// It guarantees to the CA: what Do's function appends and changes is durable (WAL, synchronous=FULL) when Do returns nil, all of it or
// nothing; entries and tables change in the same transaction; the ledger's order is the order of the commits. Concurrent callers share a
// commit: the writer takes whatever has arrived, gives each a savepoint, and has no timer.
//
// All tables but entries and hashes are a projection of the entries (apply.go) and can be rebuilt from them (Rebuild). What is not in
// the ledger (pending statements, rate limits) is not here.
package state

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/mattn/go-sqlite3" // and the driver "sqlite3"
	"golang.org/x/mod/sumdb/note"

	"breakglass/ledger"
)

const (
	// batch bounds how many callers share a commit, so that the first does not wait for a crowd.
	batch = 256
	// queue bounds the callers that wait; the next ones wait in Do.
	queue = 1024
	// readers bounds connections that only read.
	readers = 4
)

var (
	// ErrClosed says that the state was closed.
	ErrClosed = errors.New("state is closed")
	// ErrInUse says that another process has the directory.
	ErrInUse = errors.New("another process has this CA's state open")
	// ErrFull says that the ledger's disk has no room: nothing of what was asked happened.
	ErrFull = errors.New("no room for the ledger")
	// ErrNewer says that a newer version wrote the database.
	ErrNewer = errors.New("database is of a newer version")
)

// Config says where and whose.
type Config struct {
	Dir    string
	Origin string
	Signer note.Signer // the ledger's key
	Now    func() time.Time
}

// State is open until Close.
type State struct {
	cfg   Config
	write *sql.DB
	read  *sql.DB
	lock  *os.File
	work  chan *job
	done  chan struct{}
	once  sync.Once
	stop  chan struct{}

	size int64 // of the committed tree; the writer's own

	// head and note change together: whoever reads the head reads a root that fits its size.
	mu   sync.RWMutex
	head ledger.Checkpoint
	note string
}

type job struct {
	fn   func(*Tx) error
	err  error
	done chan struct{}
}

// Open opens or makes the database in dir and takes its lock.
func Open(cfg Config) (*State, error) {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	lock, err := os.OpenFile(filepath.Join(cfg.Dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("opening state: %w", err)
	}
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		lock.Close()
		return nil, fmt.Errorf("%w: %s", ErrInUse, cfg.Dir)
	}
	s := &State{cfg: cfg, lock: lock, work: make(chan *job, queue), done: make(chan struct{}), stop: make(chan struct{})}
	if err := s.open(); err != nil {
		s.closeFiles()
		return nil, fmt.Errorf("opening state: %w", err)
	}
	go s.run()
	return s, nil
}

func (s *State) open() error {
	path := filepath.Join(s.cfg.Dir, "ca.db")
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600) // before SQLite makes it with a wider mode
	if err != nil {
		return err
	}
	f.Close()
	dsn := "file:" + path + "?_journal_mode=WAL&_synchronous=FULL&_busy_timeout=10000&_foreign_keys=on"
	if s.write, err = sql.Open("sqlite3", dsn+"&_txlock=immediate"); err != nil {
		return err
	}
	s.write.SetMaxOpenConns(1)
	if s.read, err = sql.Open("sqlite3", dsn+"&_query_only=true"); err != nil {
		return err
	}
	s.read.SetMaxOpenConns(readers)
	if err := migrate(s.write); err != nil {
		return err
	}
	if err := s.reproject(); err != nil {
		return err
	}
	return s.loadHead()
}

// loadHead signs the head that the database holds: the entries are what counts, the note is made from them.
func (s *State) loadHead() error {
	tx, err := s.write.Begin()
	if err != nil {
		return err
	}
	defer tx.Rollback()
	t := &Tx{tx: tx, s: s}
	if err := tx.QueryRow(`SELECT COUNT(*) FROM entries`).Scan(&t.size); err != nil {
		return err
	}
	s.size = t.size
	return s.setHead(t)
}

func (s *State) setHead(t *Tx) error {
	c, signed, err := s.checkpoint(t)
	if err != nil {
		return err
	}
	s.mu.Lock()
	s.head, s.note = c, signed
	s.mu.Unlock()
	return nil
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

// Head is the newest committed checkpoint and its signed note.
func (s *State) Head() (ledger.Checkpoint, string) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.head, s.note
}

// Do runs fn in the writer and returns when what it did is durable, or fn's error when nothing of it is. fn runs alone and must not
// block; it may not keep the Tx. A refusal that has to be recorded is not fn's error: fn appends the entry and returns nil.
func (s *State) Do(ctx context.Context, fn func(*Tx) error) error {
	j := &job{fn: fn, done: make(chan struct{})}
	select {
	case s.work <- j:
	case <-s.stop:
		return ErrClosed
	case <-ctx.Done():
		return ctx.Err()
	}
	// From here on it will be done: waiting for less would leave the caller not knowing.
	select {
	case <-j.done:
		return j.err
	case <-s.done:
		select {
		case <-j.done:
			return j.err
		default:
			return ErrClosed
		}
	}
}

func (s *State) run() {
	defer close(s.done)
	for {
		var jobs []*job
		select {
		case j := <-s.work:
			jobs = append(jobs, j)
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
	}
}

// commit runs the jobs in one transaction. If the commit fails, every job fails: nothing of any is durable.
func (s *State) commit(jobs []*job) {
	err := s.inTransaction(jobs)
	for _, j := range jobs {
		if j.err == nil {
			j.err = err
		}
		var e sqlite3.Error
		if errors.As(j.err, &e) && e.Code == sqlite3.ErrFull {
			j.err = fmt.Errorf("%w: %w", ErrFull, j.err)
		}
		close(j.done)
	}
}

func (s *State) inTransaction(jobs []*job) error {
	tx, err := s.write.Begin()
	if err != nil {
		return fmt.Errorf("writing the ledger: %w", err)
	}
	defer tx.Rollback()
	t := &Tx{tx: tx, s: s, size: s.size}
	for _, j := range jobs {
		before := t.size
		if _, err := tx.Exec(`SAVEPOINT job`); err != nil {
			return fmt.Errorf("writing the ledger: %w", err)
		}
		if j.err = safely(j.fn, t); j.err != nil {
			t.size = before
			if _, err := tx.Exec(`ROLLBACK TO job`); err != nil {
				return fmt.Errorf("writing the ledger: %w", err)
			}
		}
		if _, err := tx.Exec(`RELEASE job`); err != nil {
			return fmt.Errorf("writing the ledger: %w", err)
		}
	}
	if t.size == s.size {
		return nil // nothing was appended; every change of a table comes from an entry
	}
	if err := tx.Commit(); err != nil {
		return fmt.Errorf("writing the ledger: %w", err)
	}
	s.size = t.size // also if the note can't be made: the next transaction must not append over these entries
	return s.sign()
}

func (s *State) sign() error {
	tx, err := s.read.Begin()
	if err != nil {
		return err
	}
	defer tx.Rollback()
	return s.setHead(&Tx{tx: tx, s: s, size: s.size})
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

// View runs fn on a consistent snapshot of committed state.
func (s *State) View(ctx context.Context, fn func(*Tx) error) error {
	tx, err := s.read.BeginTx(ctx, nil)
	if err != nil {
		return fmt.Errorf("reading state: %w", err)
	}
	defer tx.Rollback()
	t := &Tx{tx: tx, s: s, readOnly: true}
	if err := tx.QueryRow(`SELECT COUNT(*) FROM entries`).Scan(&t.size); err != nil {
		return fmt.Errorf("reading state: %w", err)
	}
	return fn(t)
}

// Close ends the writer after the job at hand.
func (s *State) Close() error {
	s.once.Do(func() { close(s.stop) })
	<-s.done
	return s.closeFiles()
}

func (s *State) closeFiles() error {
	var errs []error
	for _, db := range []*sql.DB{s.read, s.write} {
		if db != nil {
			errs = append(errs, db.Close())
		}
	}
	return errors.Join(append(errs, s.lock.Close())...)
}
