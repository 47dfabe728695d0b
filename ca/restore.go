package ca

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"breakglass/ca/state"
	"breakglass/internal/durable"
	"breakglass/ledger"
)

// A restore makes a CA's directory out of a backup. It believes the manifest's hashes as far as accidents go, and the ledger as far as it proves
// itself: every entry, signature and proof of it is checked, and the database is made anew from the entries, so that no table of the copy counts.
// The CA that it makes is frozen: it says what it holds, and issues nothing until its tail is back.
//
// A file marks a directory whose restore has not ended: the service doesn't start on it, and another restore begins it anew.

const (
	restoringFile = "restoring"
	// restoreBatch is how many entries are one transaction.
	restoreBatch = 1000
)

// ErrRestoring says that a restore into the directory did not end.
var ErrRestoring = errors.New("a restore into this directory did not end")

// ErrOtherLedger says that a backup is not of the ledger that is pinned.
var ErrOtherLedger = errors.New("the backup is of another ledger than the pinned one")

// RestoreConfig says what to restore, and where to.
type RestoreConfig struct {
	From string
	Dir  string // must not exist, or be empty, or hold a restore that did not end
	// LedgerKey is the ledger's key by pins from elsewhere; "" takes the backup's word for whose it is.
	LedgerKey string
	Now       func() time.Time
}

// Restored says what came of it.
type Restored struct {
	Manifest *Manifest
	Age      time.Duration
	Last     time.Time // of its last entry
	Report   *ledger.Report
}

// Restore makes the CA.
func Restore(ctx context.Context, cfg RestoreConfig) (*Restored, error) {
	out, err := restore(ctx, cfg)
	if err != nil {
		return nil, fmt.Errorf("restore: %w", err)
	}
	return out, nil
}

func restore(ctx context.Context, cfg RestoreConfig) (*Restored, error) {
	m, err := ReadManifest(cfg.From)
	if err != nil {
		return nil, err
	}
	unlock, err := takeDir(cfg.Dir)
	if err != nil {
		return nil, err
	}
	defer unlock()
	for _, f := range m.Files {
		if f.Path == ledgerFile {
			continue
		}
		if err := restoreFile(cfg, f); err != nil {
			return nil, err
		}
	}
	i := slices.IndexFunc(m.Files, func(f ManifestFile) bool { return f.Path == ledgerFile })
	if err := checkFile(filepath.Join(cfg.From, ledgerFile), m.Files[i]); err != nil {
		return nil, err
	}
	out := &Restored{Manifest: m, Age: cfg.Now().Sub(m.Time)}
	if err := out.ledger(ctx, cfg); err != nil {
		return nil, err
	}
	f := &Frozen{Why: FrozenRestored, Since: cfg.Now().UTC().Truncate(time.Second), Entries: m.Entries, Backup: m.Time, Ours: m.Checkpoint, From: "restore"}
	if err := f.write(cfg.Dir); err != nil {
		return nil, err
	}
	return out, durable.Remove(filepath.Join(cfg.Dir, restoringFile))
}

// takeDir marks the directory as one whose restore has not ended, and empties it of what an earlier one left.
func takeDir(dir string) (unlock func(), err error) {
	marker := filepath.Join(dir, restoringFile)
	if _, err := os.Stat(marker); errors.Is(err, fs.ErrNotExist) {
		es, err := os.ReadDir(dir)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
		for _, e := range es {
			if e.Name() != "lost+found" { // a file system of its own
				return nil, fmt.Errorf("%w: %s holds %s", ErrNotEmpty, dir, e.Name())
			}
		}
	} else if err != nil {
		return nil, err
	}
	if err := durable.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	if err := os.Chmod(dir, 0o700); err != nil { // admin.sock lies in it
		return nil, err
	}
	f, err := os.OpenFile(marker, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	unlock = func() { f.Close() }
	err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if err != nil {
		err = fmt.Errorf("%w: another restore into %s is under way", state.ErrInUse, dir)
	} else {
		err = errors.Join(f.Sync(), durable.SyncDir(dir))
	}
	es, rerr := os.ReadDir(dir)
	if err = errors.Join(err, rerr); err == nil {
		for _, e := range es {
			if e.Name() != restoringFile && e.Name() != "lost+found" {
				err = errors.Join(err, os.RemoveAll(filepath.Join(dir, e.Name())))
			}
		}
	}
	if err != nil {
		unlock()
		return nil, err
	}
	return unlock, nil
}

// notRestoring refuses a directory whose restore has not ended.
func notRestoring(dir string) error {
	if _, err := os.Stat(filepath.Join(dir, restoringFile)); !errors.Is(err, fs.ErrNotExist) {
		return errors.Join(err, fmt.Errorf("%w: %s", ErrRestoring, dir))
	}
	return nil
}

func checkFile(path string, want ManifestFile) error {
	f, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrBackup, err)
	}
	defer f.Close()
	return checkBytes(f, io.Discard, want)
}

// checkBytes copies r, which must be what the manifest says.
func checkBytes(r io.Reader, w io.Writer, want ManifestFile) error {
	h := sha256.New()
	n, err := io.Copy(io.MultiWriter(w, h), io.LimitReader(r, want.Size+1))
	if err != nil {
		return err
	}
	if n != want.Size || hex.EncodeToString(h.Sum(nil)) != want.SHA256 {
		return fmt.Errorf("%w: %s is not what the manifest says", ErrBackup, want.Path)
	}
	return nil
}

// restoreFile copies one file and flushes it. An envelope is as the store keeps it: nobody writes it any more.
func restoreFile(cfg RestoreConfig, want ManifestFile) error {
	to := filepath.Join(cfg.Dir, want.Path)
	if err := durable.MkdirAll(filepath.Dir(to), 0o700); err != nil {
		return err
	}
	in, err := os.Open(filepath.Join(cfg.From, want.Path))
	if err != nil {
		return fmt.Errorf("%w: %w", ErrBackup, err)
	}
	defer in.Close()
	mode := fs.FileMode(0o600)
	if filepath.Dir(want.Path) == storeDir {
		mode = 0o400
	}
	out, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_WRONLY, mode)
	if err != nil {
		return err
	}
	err = checkBytes(in, out, want)
	if err == nil {
		err = out.Sync()
	}
	return errors.Join(err, out.Close(), durable.SyncDir(filepath.Dir(to)))
}

// ledger checks the backup's ledger and takes its entries over.
func (r *Restored) ledger(ctx context.Context, cfg RestoreConfig) (err error) {
	s, err := state.OpenStored(filepath.Join(cfg.From, ledgerFile))
	if err != nil {
		return err
	}
	defer s.Close()
	var site *ledger.Site
	for raw, err := range s.Entries(s.Size) {
		if err != nil {
			return err
		}
		e, err := ledger.Decode(raw)
		if err != nil {
			return err
		}
		if site == nil {
			site = siteOf(e)
		}
		r.Last = e.Time.Time
	}
	if site == nil {
		return fmt.Errorf("%w: its ledger has no site", ErrBackup)
	}
	if cfg.LedgerKey != "" && cfg.LedgerKey != site.LedgerKey {
		return fmt.Errorf("%w: it is %s", ErrOtherLedger, site.Origin)
	}
	if r.Report, err = ledger.Verify(s.Entries(s.Size), r.Manifest.Checkpoint, site.LedgerKey); err != nil {
		return err
	}
	if err := r.Report.Err(); err != nil && broken(r.Report) {
		return fmt.Errorf("%w: %w", ErrBackup, err)
	}
	return state.Import(ctx, cfg.Dir, site.Origin, s.Entries(s.Size), r.Report.Checkpoint, restoreBatch)
}

// broken says that a fault is one of the copy. Others are of what happened, and came with it: a gap in a jump's facts doesn't keep anybody from restoring.
func broken(r *ledger.Report) bool {
	return slices.ContainsFunc(r.Findings, func(f ledger.Finding) bool {
		return f.Index < 0 || f.Code == ledger.FaultRoot || f.Code == ledger.FaultCheckpoint || f.Code == ledger.FaultOrder || f.Code == ledger.FaultMalformed
	})
}
