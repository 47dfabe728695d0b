package ca

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"breakglass/ca/custody"
	"breakglass/ca/state"
	"breakglass/internal/durable"
	"breakglass/ledger"
	"breakglass/policy"
)

// A backup is a directory with what a CA can't be without, as of one commit: the ledger, config.toml, the files that it names, the keys as they are
// kept, and the envelopes, without which no transcript is ever read again. manifest.json names every file with its hash, and the signed head of
// that ledger; it is written last, so what has none is no backup.
//
// Not in it, and said so: the standby keys, which lie off the CA, and credentials and keys of an agent, which the machine holds; geo
// databases, which are fetched anew; transcripts, which have copies of their own. A production key is in it only as it lies there: sealed.
//
// The directory is made beside its place under another name and gets its own once all of it is on the disk. Whoever kills this leaves that
// other one, which the next run takes away.

const (
	manifestFile = "manifest.json"
	ledgerFile   = "ca.db"
	configFile   = "config.toml"
	storeDir     = "store"
	// maxManifest bounds a manifest: a hundred thousand envelopes are 15 MiB.
	maxManifest = 64 << 20
	// backupTries is how often a backup begins anew because the configuration changed meanwhile: a rotation takes seconds.
	backupTries = 3
	partial     = ".partial"
)

var (
	// ErrNoBackup says that a directory holds no backup that was finished.
	ErrNoBackup = errors.New("no finished backup")
	// ErrBackup says that a backup is not what its manifest says.
	ErrBackup = errors.New("the backup is damaged")
	// ErrNotEmpty says that something is where a backup or a CA is to be made.
	ErrNotEmpty = errors.New("something is there already")
)

// BackupConfig says what to back up, and where.
type BackupConfig struct {
	Dir string // the CA's
	To  string // must not exist, or be an empty directory
	// Head signs the head of that many entries: the running service does, or who has its state open.
	Head func(ctx context.Context, size int64) (string, error)
	Now  func() time.Time
}

// Manifest is manifest.json.
type Manifest struct {
	V          int            `json:"v"`
	Time       time.Time      `json:"time"`
	Version    string         `json:"version"`
	Name       string         `json:"name"`
	Profile    string         `json:"profile"`
	Origin     string         `json:"origin"`
	Epoch      int            `json:"epoch"`
	Entries    int64          `json:"entries"`
	Checkpoint string         `json:"checkpoint"`
	Files      []ManifestFile `json:"files"`
	// Elsewhere says what a CA needs beside it, in words.
	Elsewhere []string `json:"elsewhere"`
}

// ManifestFile is one file.
type ManifestFile struct {
	Path   string `json:"path"` // below the backup, and below the CA's directory
	Size   int64  `json:"size"`
	SHA256 string `json:"sha256"`
}

// HeadAt signs the head of the first size entries.
func (c *CA) HeadAt(ctx context.Context, size int64) (signed string, err error) {
	err = c.state.View(ctx, func(tx *state.Tx) error {
		head, err := tx.RootAt(size)
		if err == nil {
			signed, err = head.Sign(c.keys.ledger)
		}
		return err
	})
	return signed, err
}

// Backup makes one, beside a service that goes on.
func Backup(ctx context.Context, cfg BackupConfig) (*Manifest, error) {
	for range backupTries {
		m, again, err := backupOnce(ctx, cfg)
		if err != nil {
			return nil, fmt.Errorf("backup: %w", err)
		}
		if !again {
			return m, nil
		}
	}
	return nil, errors.New("backup: the configuration keeps changing: is a rotation under way?")
}

func backupOnce(ctx context.Context, cfg BackupConfig) (m *Manifest, again bool, err error) {
	if err := freePlace(cfg.To); err != nil {
		return nil, false, err
	}
	tmp := filepath.Clean(cfg.To) + partial
	unlock, err := takePartial(tmp)
	if err != nil {
		return nil, false, err
	}
	defer unlock()
	defer func() {
		if err != nil || again { // a full disk gets its room back
			err = errors.Join(err, os.RemoveAll(tmp))
		}
	}()
	before, err := os.ReadFile(filepath.Join(cfg.Dir, configFile))
	if err != nil {
		return nil, false, err
	}
	b := &backup{cfg: cfg, tmp: tmp, m: &Manifest{V: 1, Time: cfg.Now().UTC().Truncate(time.Second), Version: Version, Elsewhere: []string{}}}
	if err := b.ledger(ctx); err != nil {
		return nil, false, err
	}
	// After the ledger: a key that became active meanwhile is there too, and the configuration names both until the ledger has the new one.
	if err := b.files(); err != nil {
		return nil, false, err
	}
	after, err := os.ReadFile(filepath.Join(cfg.Dir, configFile))
	if err != nil || string(after) != string(before) {
		return nil, err == nil, err
	}
	text, err := json.MarshalIndent(b.m, "", "  ")
	if err != nil {
		return nil, false, err
	}
	if err := os.Remove(filepath.Join(tmp, lockFile)); err != nil {
		return nil, false, err
	}
	if err := durable.WriteNew(filepath.Join(tmp, manifestFile), append(text, '\n'), 0o600); err != nil {
		return nil, false, err
	}
	return b.m, false, durable.Rename(tmp, cfg.To)
}

// lockFile is held by whoever writes an unfinished backup.
const lockFile = "lock"

// freePlace demands that nothing is there.
func freePlace(path string) error {
	es, err := os.ReadDir(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err == nil && len(es) > 0:
		return fmt.Errorf("%w: %s", ErrNotEmpty, path)
	}
	return err
}

// takePartial makes the directory that a backup is written to, in the place of one that a killed run left.
func takePartial(tmp string) (unlock func(), err error) {
	if err := durable.MkdirAll(tmp, 0o700); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(filepath.Join(tmp, lockFile), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		f.Close()
		return nil, fmt.Errorf("%w: another backup is writing to %s", state.ErrInUse, tmp)
	}
	es, err := os.ReadDir(tmp)
	for _, e := range es {
		if err == nil && e.Name() != lockFile {
			err = os.RemoveAll(filepath.Join(tmp, e.Name()))
		}
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return func() { f.Close() }, nil
}

// backup is one under way.
type backup struct {
	cfg BackupConfig
	tmp string
	m   *Manifest
}

// ledger copies the database, and has the head of exactly that copy signed.
func (b *backup) ledger(ctx context.Context) error {
	path := filepath.Join(b.tmp, ledgerFile)
	if err := state.Copy(ctx, b.cfg.Dir, path); err != nil {
		return err
	}
	if err := os.Chmod(path, 0o600); err != nil {
		return err
	}
	if err := b.add(ledgerFile); err != nil {
		return err
	}
	s, err := state.OpenStored(path)
	if err != nil {
		return err
	}
	defer s.Close()
	b.m.Entries = s.Size
	var site *ledger.Site
	for raw, err := range s.Entries(s.Size) {
		if err != nil {
			return err
		}
		e, err := ledger.Decode(raw)
		if err != nil {
			return err
		}
		if at := siteOf(e); at != nil {
			site = at
		}
	}
	if site == nil {
		return errors.New("the ledger has no site: init did not end")
	}
	b.m.Name, b.m.Profile, b.m.Origin, b.m.Epoch = site.Name, site.Profile, site.Origin, site.Epoch
	b.m.Checkpoint, err = b.cfg.Head(ctx, s.Size)
	return err
}

// siteOf is the site that an entry sets, or nil.
func siteOf(e *ledger.Entry) *ledger.Site {
	switch f := e.Facts.(type) {
	case *ledger.SiteCreated:
		return &f.Site
	case *ledger.SiteChanged:
		return &f.Site
	case *ledger.SiteSucceeded:
		return &f.Site
	}
	return nil
}

// files copies the configuration and what it names.
func (b *backup) files() error {
	f, err := readFile(filepath.Join(b.cfg.Dir, configFile))
	if err != nil {
		return err
	}
	paths := []string{configFile}
	for _, n := range allKeys {
		places, err := f.Keys.places(n)
		if err != nil {
			return err
		}
		for _, p := range places {
			switch {
			case p.Kind == custody.File && b.m.Profile == string(policy.Production):
				return fmt.Errorf("%w: %s is one, and would lie in every backup: breakglass-ca keys seal %[2]s", ErrPlainKey, n)
			case p.Kind == custody.File || p.Kind == custody.Sealed:
				paths = append(paths, p.At)
			default:
				b.elsewhere("key %s, at %s", n, p)
			}
		}
	}
	paths = append(paths, f.Attestation.Roots...)
	paths = append(paths, f.Attestation.Intermediates...)
	paths = append(paths, proposalFile, "policy.toml")
	if f.Policy != "" {
		paths = append(paths, f.Policy)
	}
	for _, g := range []string{f.Geo.Country, f.Geo.ASN, f.Geo.Anonymous} {
		if g != "" {
			b.elsewhere("geo database %s", g)
		}
	}
	if _, err := os.Stat(filepath.Join(b.cfg.Dir, "standby-keys")); err == nil {
		b.elsewhere("standby keys: they lie in standby-keys and belong off this machine")
	}
	envelopes, err := filepath.Glob(filepath.Join(b.cfg.Dir, storeDir, "*.envelope"))
	if err != nil {
		return err
	}
	for _, e := range envelopes {
		paths = append(paths, filepath.Join(storeDir, filepath.Base(e)))
	}
	if f.Store.S3.used() {
		b.elsewhere("transcripts and their envelopes: in the bucket that config.toml names, and in its copies; what opens the bucket is where config.toml says")
	} else {
		b.elsewhere("transcripts: in store/, and in its copies (breakglass-ca store copy)")
	}
	done := map[string]bool{}
	for _, p := range paths {
		if filepath.IsAbs(p) {
			rel, err := filepath.Rel(b.cfg.Dir, p)
			if err != nil || !filepath.IsLocal(rel) {
				b.elsewhere("file %s", p)
				continue
			}
			p = rel
		}
		if p = filepath.Clean(p); done[p] {
			continue
		}
		done[p] = true
		if err := b.tree(p); err != nil {
			return err
		}
	}
	return nil
}

func (b *backup) elsewhere(format string, a ...any) {
	b.m.Elsewhere = append(b.m.Elsewhere, fmt.Sprintf(format, a...))
}

// tree copies a file, or all of a directory. What isn't there isn't missed: a policy file that somebody took away, an envelope that is on its way.
func (b *backup) tree(path string) error {
	if !filepath.IsLocal(path) {
		b.elsewhere("file %s", path)
		return nil
	}
	return filepath.WalkDir(filepath.Join(b.cfg.Dir, path), func(at string, e fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil || e.IsDir() {
			return err
		}
		rel, err := filepath.Rel(b.cfg.Dir, at)
		if err != nil {
			return err
		}
		if !e.Type().IsRegular() {
			b.elsewhere("%s: no plain file", rel)
			return nil
		}
		to := filepath.Join(b.tmp, rel)
		if err := durable.MkdirAll(filepath.Dir(to), 0o700); err != nil {
			return err
		}
		if err := copyFile(at, to); errors.Is(err, fs.ErrNotExist) {
			return nil
		} else if err != nil {
			return err
		}
		return b.add(rel)
	})
}

func copyFile(from, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Close())
}

// add hashes a file that is in its place, flushes it and names it.
func (b *backup) add(path string) error {
	f, err := os.OpenFile(filepath.Join(b.tmp, path), os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	h := sha256.New()
	n, err := io.Copy(h, f)
	if err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	b.m.Files = append(b.m.Files, ManifestFile{path, n, hex.EncodeToString(h.Sum(nil))})
	return durable.SyncDir(filepath.Dir(filepath.Join(b.tmp, path)))
}

// ReadManifest reads the manifest of a backup.
func ReadManifest(from string) (*Manifest, error) {
	path := filepath.Join(from, manifestFile)
	st, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w: %s has no %s", ErrNoBackup, from, manifestFile)
	} else if err != nil {
		return nil, err
	}
	if st.Size() > maxManifest {
		return nil, fmt.Errorf("%w: %s is over %d bytes", ErrBackup, path, maxManifest)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	return ParseManifest(text)
}

// ParseManifest reads a manifest strictly: a path that leads out of the backup, or a file of no hash, is none.
func ParseManifest(text []byte) (*Manifest, error) {
	m := &Manifest{}
	d := json.NewDecoder(strings.NewReader(string(text)))
	d.DisallowUnknownFields()
	if err := d.Decode(m); err != nil {
		return nil, fmt.Errorf("%w: %s: %w", ErrBackup, manifestFile, err)
	}
	if m.V != 1 {
		return nil, fmt.Errorf("%w: %s is of version %d, this program knows 1", ErrBackup, manifestFile, m.V)
	}
	seen := map[string]bool{}
	for _, f := range m.Files {
		sum, err := hex.DecodeString(f.SHA256)
		switch {
		case err != nil || len(sum) != sha256.Size:
			return nil, fmt.Errorf("%w: %s: hash of %q", ErrBackup, manifestFile, f.Path)
		case f.Size < 0 || !filepath.IsLocal(f.Path) || filepath.Clean(f.Path) != f.Path || seen[f.Path] || slices.Contains([]string{manifestFile, lockFile, frozenFile, restoringFile}, f.Path):
			return nil, fmt.Errorf("%w: %s: file %q", ErrBackup, manifestFile, f.Path)
		}
		seen[f.Path] = true
	}
	if !seen[ledgerFile] || !seen[configFile] {
		return nil, fmt.Errorf("%w: %s names no ledger or no configuration", ErrBackup, manifestFile)
	}
	return m, nil
}
