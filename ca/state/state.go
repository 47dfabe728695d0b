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
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

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
	// statements is how many prepared statements each connection keeps: more than there are in this package.
	statements = 256
	// pages is each connection's page cache, in KiB: the indexes by random ids are read all over.
	pages = 16 << 10
)

var (
	// ErrClosed says that the state was closed.
	ErrClosed = errors.New("state is closed")
	// ErrInUse says that another process has the directory.
	ErrInUse = errors.New("another process has this CA's state open")
	// ErrFull says that the ledger's disk has no room: nothing of what was asked happened.
	ErrFull = errors.New("no room for the ledger")
	// ErrUnknown says that a commit failed, and with it whether what was asked stands: nothing of it may be acted on, and asking for what
	// became of it, or asking again, is safe.
	ErrUnknown = errors.New("the ledger could not be written, and whether the decision stands is not known yet")
	// ErrFailed says that the disk failed under the ledger. It is final for this process.
	ErrFailed = errors.New("the ledger's disk failed")
	// ErrNewer says that a newer version wrote the database.
	ErrNewer = errors.New("database is of a newer version")
)

// Config says where and whose.
type Config struct {
	Dir    string
	Origin string
	Signer note.Signer // the ledger's key
	Now    func() time.Time
	// Commit is called in place of each commit and calls it, or doesn't; nil just commits. A test makes a commit fail that did or did not
	// persist.
	Commit func(commit func() error) error
}

// State is open until Close.
type State struct {
	cfg   Config
	write *sql.DB
	read  *sql.DB
	lock  *os.File
	work  chan *job
	done  chan struct{} // the writer has ended
	once  sync.Once
	stop  chan struct{}
	wal   wal
	grown growth
	// parsed is the site that was read last.
	parsed parsedSite
	// roster may be of an older commit than rosters says, which counts those that changed what is in it.
	roster  atomic.Pointer[Roster]
	rosters atomic.Int64
	// frozen is why nothing is appended; nil: all is well.
	frozen atomic.Pointer[error]

	// The writer's own:
	size    int64             // of the committed tree
	edge    edge              // of the committed tree
	lastAt  int64             // the time of the last entry; 0: not known
	unknown bool              // a commit failed: size, edge and lastAt are to be read anew
	then    []func(*Tx) error // what is to run before the next job
	failed  error             // why the writer ended by itself; for others once done is closed

	// head and note change together: whoever reads the head reads a root that fits its size.
	mu   sync.RWMutex
	head ledger.Checkpoint
	note string
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
	s.wal.start(s)
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
	dsn := fmt.Sprintf("file:%s?_journal_mode=WAL&_synchronous=FULL&_busy_timeout=10000&_foreign_keys=on&_stmt_cache_size=%d&_cache_size=-%d", path, statements, pages)
	s.write = sql.OpenDB(connector{dsn + "&_txlock=immediate"})
	s.write.SetMaxOpenConns(1)
	s.read = sql.OpenDB(connector{dsn + "&_query_only=true"})
	s.read.SetMaxOpenConns(readers)
	s.read.SetMaxIdleConns(readers) // a connection that is opened anew has nothing prepared and nothing cached
	s.wal.db = sql.OpenDB(connector{dsn})
	s.wal.db.SetMaxOpenConns(1)
	if err := migrate(s.write); err != nil {
		return err
	}
	if err := s.reproject(); err != nil {
		return err
	}
	return s.loadHead()
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
			return cmp.Or(s.failed, ErrClosed)
		}
	}
}

// Done is closed when the writer has ended, by Close or, with an Err, because the disk failed under it: whatever then stands is known only
// to a process that starts anew.
func (s *State) Done() <-chan struct{} { return s.done }

// Err says why the writer ended by itself; ask it after Done.
func (s *State) Err() error {
	select {
	case <-s.done:
		return s.failed
	default:
		return nil
	}
}

// View runs fn on a consistent snapshot of committed state.
func (s *State) View(ctx context.Context, fn func(*Tx) error) error {
	tx, err := s.read.BeginTx(ctx, nil)
	if err != nil {
		return fmt.Errorf("reading state: %w", err)
	}
	defer tx.Rollback()
	t := &Tx{tx: tx, s: s, readOnly: true}
	if err := fn(t); err != nil {
		return err
	}
	if t.failed != nil {
		return fmt.Errorf("reading state: %w", t.failed)
	}
	return nil
}

// Close ends the writer after the job at hand.
func (s *State) Close() error {
	s.once.Do(func() { close(s.stop) })
	<-s.done
	s.wal.wait()
	return s.closeFiles()
}

func (s *State) closeFiles() error {
	var errs []error
	for _, db := range []*sql.DB{s.wal.db, s.read, s.write} { // the last one folds the log into the database
		if db != nil {
			errs = append(errs, db.Close())
		}
	}
	return errors.Join(append(errs, s.lock.Close())...)
}
