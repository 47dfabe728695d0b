package state

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mattn/go-sqlite3"
)

const (
	// foldEvery is how often the write-ahead log is folded into the database while there are commits: often, so that each time is short.
	foldEvery = 100 * time.Millisecond
	// maxLog is at how many pages the log is begun anew, between two commits: it bounds the file (64 MiB) and a start's reading of it.
	maxLog = 16 << 10
)

// wal folds SQLite's write-ahead log into the database beside the commits. SQLite itself would do it within the commit that makes the log
// longer than a thousand pages, and that caller would wait for two syncs more. It changes nothing about what is durable: a commit is in the log,
// synced, before it returns.
type wal struct {
	db    *sql.DB // a connection of its own
	dirty atomic.Bool
	due   chan struct{} // the writer is to fold the rest
	wg    sync.WaitGroup
}

func (w *wal) start(s *State) {
	w.due = make(chan struct{}, 1)
	w.wg.Go(func() {
		t := time.NewTicker(foldEvery)
		defer t.Stop()
		for {
			select {
			case <-t.C:
			case <-s.done:
				return
			}
			if !w.dirty.Swap(false) {
				continue
			}
			// Nobody waits for it. If it fails the log only grows, and what is wrong with the disk shows in a commit.
			if pages, err := w.fold(w.db); err == nil && pages > maxLog {
				select {
				case w.due <- struct{}{}:
				default:
				}
			}
		}
	})
}

func (w *wal) wrote() { w.dirty.Store(true) }

func (w *wal) wait() { w.wg.Wait() }

// fold moves into the database what no reader still needs from the log; it waits for nobody. By the writer itself, between commits, that is
// all of it, and the next commit begins the log anew. It gives the log's length in pages.
func (w *wal) fold(db *sql.DB) (pages int, err error) {
	var busy, folded int
	err = db.QueryRow(`PRAGMA wal_checkpoint(PASSIVE)`).Scan(&busy, &pages, &folded)
	return pages, err
}

// connector opens connections that leave the folding to wal.
type connector struct{ dsn string }

func (c connector) Connect(context.Context) (driver.Conn, error) { return c.Driver().Open(c.dsn) }

func (c connector) Driver() driver.Driver {
	return &sqlite3.SQLiteDriver{ConnectHook: func(conn *sqlite3.SQLiteConn) error {
		// Each job's savepoint keeps the pages that it changes, in memory rather than in a file; the log alone is what is durable.
		_, err := conn.Exec(`PRAGMA wal_autocheckpoint = 0; PRAGMA temp_store = MEMORY`, nil)
		return err
	}}
}
