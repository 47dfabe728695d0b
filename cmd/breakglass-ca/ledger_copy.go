package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"net/url"
	"os"
	"path/filepath"
	"time"

	"breakglass/ledger"
	"breakglass/policy"
	"breakglass/review/replay"
)

// ledgerCopy is a ledger that is only read: the CA's own, while the service goes on, or a copy. What it says is not proved; `ledger verify` proves it.
type ledgerCopy struct {
	db       *sql.DB
	policies replay.Policies
	asks     replay.Asks // of the entries before asked
	asked    int64
}

// withLedger opens the ledger of a ca.db; of "" that of the CA in --dir.
func (a *app) withLedger(ctx context.Context, path string, fn func(*ledgerCopy) error) error {
	if path == "" {
		path = filepath.Join(a.dir, "ca.db")
	}
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) {
		return a.explainDir(err)
	} else if err != nil {
		return err
	}
	db, err := sql.Open("sqlite3", "file:"+(&url.URL{Path: path}).EscapedPath()+"?mode=ro&_query_only=true")
	if err != nil {
		return err
	}
	defer db.Close()
	if err := db.PingContext(ctx); err != nil {
		return fmt.Errorf("opening %s: %w", path, err)
	}
	return fn(&ledgerCopy{db: db})
}

// where gives the entries that fit a condition, in order.
func (l *ledgerCopy) where(condition string, args ...any) iter.Seq2[int64, entryOrError] {
	return func(yield func(int64, entryOrError) bool) {
		rows, err := l.db.Query(`SELECT idx, bytes FROM entries WHERE `+condition+` ORDER BY idx`, args...)
		if err != nil {
			yield(0, entryOrError{err: err})
			return
		}
		defer rows.Close()
		for rows.Next() {
			var idx int64
			var b []byte
			err := rows.Scan(&idx, &b)
			var e *ledger.Entry
			if err == nil {
				e, err = ledger.Decode(b)
			}
			if err != nil {
				err = fmt.Errorf("reading entry %d: %w", idx, err)
			}
			if !yield(idx, entryOrError{e, err}) || err != nil {
				return
			}
		}
		if err := rows.Err(); err != nil {
			yield(0, entryOrError{err: err})
		}
	}
}

type entryOrError struct {
	*ledger.Entry
	err error
}

// readPolicies gathers every policy that was in force.
func (l *ledgerCopy) readPolicies() error {
	for _, e := range l.where(`type IN ('policy.text', 'policy.adopted', 'policy.imported')`) {
		if e.err != nil {
			return e.err
		}
		l.policies.Add(e.Facts)
	}
	return nil
}

// readAsks gathers what people signed for before an entry; of entries that rise.
func (l *ledgerCopy) readAsks(before int64) error {
	for _, e := range l.where(`type IN ('request.opened', 'request.overridden', 'grant.allowed', 'grant.extended') AND idx >= $1 AND idx < $2`, l.asked, before) {
		if e.err != nil {
			return e.err
		}
		l.asks.Add(e.Entry)
	}
	l.asked = before
	return nil
}

func (l *ledgerCopy) inForce() (*policy.Policy, error) {
	if err := l.readPolicies(); err != nil {
		return nil, err
	}
	return l.policies.InForce()
}

// decisionTypes are the types of entries that record decisions (replay.Of).
const decisionTypes = `type IN ('request.denied', 'request.opened', 'grant.allowed', 'grant.extended', 'session.opened', 'session.refused')`

// decisions gives the decisions since a time that can be made again, and how many can't.
func (l *ledgerCopy) decisions(since time.Time) (list []*replay.Decision, skipped int, err error) {
	for idx, e := range l.where(decisionTypes) {
		if e.err != nil {
			return nil, 0, e.err
		}
		if e.Time.Before(since) {
			continue
		}
		d, err := replay.Of(idx, e.Entry)
		switch {
		case errors.Is(err, replay.ErrNotRecorded):
			skipped++
		case err != nil:
			return nil, 0, err
		case d != nil:
			list = append(list, d)
		}
	}
	return list, skipped, nil
}
