package ca

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"breakglass/ca/state"
	"breakglass/internal/name"
	"breakglass/internal/statement"
	"breakglass/ledger"
	"breakglass/transcript"
	"breakglass/transcript/s3"
)

// store keeps recordings. What it acknowledged is durable, and never another.
type store interface {
	// Put stores a piece at offset and gives the size stored; Finish says that it is whole. Both may be said again.
	Put(id name.SessionID, offset int64, piece []byte) (int64, error)
	Finish(id name.SessionID, size int64) (transcript.Stored, error)
	Stat(id name.SessionID) (transcript.Stored, error)
	Open(id name.SessionID) (io.ReadCloser, error)
	PutEnvelope(id name.SessionID, env []byte) error
	Envelope(id name.SessionID) ([]byte, error)
	// List gives the sessions of which anything is stored.
	List() ([]name.SessionID, error)
}

// FileStore is [store] of config.toml.
type FileStore struct {
	S3 FileS3 `toml:"s3" comment:"a bucket in a domain of its own; before the service serves it proves that what is retained there can't be deleted"`
}

// FileS3 says which bucket. Nothing is files under the CA's directory.
type FileS3 struct {
	Endpoint      string `toml:"endpoint" comment:"https://HOST[:PORT]; http on loopback alone"`
	Region        string `toml:"region"`
	Bucket        string `toml:"bucket" comment:"made with Object Lock"`
	Credentials   string `toml:"credentials" comment:"a file of two lines, access key and secret key, or credential:NAME of the unit"`
	RetentionDays int    `toml:"retention_days" comment:"how long nobody can delete a recording, its owner included"`
}

// maxRetentionDays: COMPLIANCE can't be undone, and nobody means a thousand years.
const maxRetentionDays = 100 * 366

func (f *FileS3) used() bool { return *f != FileS3{} }

// check says what is wrong.
func (f *FileS3) check() error {
	u, err := url.Parse(f.Endpoint)
	if err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" {
		return fmt.Errorf("[store.s3] endpoint = %q: want https://HOST[:PORT]", f.Endpoint)
	}
	if a, err := netip.ParseAddr(u.Hostname()); u.Scheme == "http" && (err != nil || !a.IsLoopback()) {
		return fmt.Errorf("[store.s3] endpoint = %q: without TLS only on loopback", f.Endpoint)
	}
	switch {
	case f.Bucket == "" || f.Region == "" || f.Credentials == "":
		return errors.New("[store.s3] wants region, bucket and credentials")
	case f.RetentionDays < 1 || f.RetentionDays > maxRetentionDays:
		return fmt.Errorf("[store.s3] retention_days = %d: want 1 to %d", f.RetentionDays, maxRetentionDays)
	}
	return nil
}

// credentials reads the two lines.
func (f *FileS3) credentials(dir string) (access, secret string, err error) {
	path := f.Credentials
	if n, ok := strings.CutPrefix(path, "credential:"); ok {
		given := os.Getenv("CREDENTIALS_DIRECTORY")
		if given == "" {
			return "", "", fmt.Errorf("[store.s3] credentials = %q: no credentials directory: this process wasn't started by its unit; outside of it name a file", f.Credentials)
		}
		path = filepath.Join(given, n)
	} else if !filepath.IsAbs(path) {
		path = filepath.Join(dir, path)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return "", "", fmt.Errorf("[store.s3] credentials: %w", err)
	}
	lines := strings.Fields(string(b))
	if len(lines) != 2 {
		return "", "", fmt.Errorf("[store.s3] credentials: %s has %d words: want an access key and a secret key, a line each", path, len(lines))
	}
	return lines[0], lines[1], nil
}

// openStore opens what the configuration names. manifest gives what the ledger holds of a whole recording, nil if nothing; keep how long a session's has to stay, nil
// for whoever writes nothing.
func openStore(dir string, f FileStore, manifest func(name.SessionID) (*ledger.StoredObject, error), keep func(name.SessionID) (s3.Keep, error)) (store, error) {
	if !f.S3.used() {
		return transcript.NewFileStore(filepath.Join(dir, "store"))
	}
	if err := f.S3.check(); err != nil {
		return nil, err
	}
	access, secret, err := f.S3.credentials(dir)
	if err != nil {
		return nil, err
	}
	return s3.New(s3.Config{Endpoint: f.S3.Endpoint, Region: f.S3.Region, Bucket: f.S3.Bucket, AccessKey: access, SecretKey: secret,
		Retention: time.Duration(f.S3.RetentionDays) * 24 * time.Hour, Keep: keep,
		Resolve: func(id name.SessionID) (*s3.Ref, error) {
			m, err := manifest(id)
			if m == nil || err != nil {
				return nil, err
			}
			return &s3.Ref{Bucket: m.Bucket, Key: m.Key, Version: m.Version, SHA256: transcript.Hash(m.SHA256), Size: m.Size}, nil
		}})
}

// keepOf is how long the policy wanted a session's recording to stay, when it was opened.
func (c *CA) keepOf(id name.SessionID) (k s3.Keep, err error) {
	err = c.state.View(context.Background(), func(tx *state.Tx) error {
		s, err := tx.Session(id)
		if err != nil {
			return err
		}
		f, err := openedOf(tx, s)
		if err == nil {
			k = s3.Keep{For: time.Duration(f.RetainDays) * 24 * time.Hour, Hold: f.LegalHold}
		}
		return err
	})
	return k, err
}

// manifestOf is what the ledger holds of a whole recording.
func (c *CA) manifestOf(id name.SessionID) (m *ledger.StoredObject, err error) {
	err = c.state.View(context.Background(), func(tx *state.Tx) error {
		s, err := tx.Session(id)
		if errors.Is(err, state.ErrNotFound) || err == nil && !s.Stored {
			return nil
		} else if err != nil {
			return err
		}
		own, err := tx.OfRequest(string(id.Request()))
		if err != nil {
			return err
		}
		for i := len(own) - 1; i >= 0; i-- {
			b, err := tx.Entry(own[i])
			if err != nil {
				return err
			}
			e, err := ledger.Decode(b)
			if err != nil {
				return fmt.Errorf("entry %d: %w", own[i], err)
			}
			if f, ok := e.Facts.(*ledger.TranscriptStored); ok && e.Subject.Session == id {
				m = f.Manifest
				return nil
			}
		}
		return nil
	})
	return m, err
}

// finishStored has the store take a stream as whole; what it gives goes into the ledger.
func (c *CA) finishStored(id name.SessionID, size int64) (*ledger.StoredObject, error) {
	bucket, ok := c.store.(*s3.Store)
	if !ok {
		_, err := c.store.Finish(id, size)
		if errors.Is(err, transcript.ErrFinished) {
			err = nil
		}
		return nil, err
	}
	r, err := bucket.FinishRef(id, size)
	if err != nil {
		return nil, err
	}
	return &ledger.StoredObject{Bucket: r.Bucket, Key: r.Key, Version: r.Version, SHA256: statement.Hash(r.SHA256), Size: r.Size}, nil
}

// ErrStore says that the store doesn't protect what is in it.
var ErrStore = errors.New("the store does not protect recordings")

// StoreCheck is what was tried on a store, and what wasn't.
type StoreCheck struct {
	Tried []string // and held
	Left  []string // what isn't proved, and why
}

// CheckStore proves that what is stored can't be deleted or changed by this service, by trying it. A bucket in which it can is an error that is ErrStore.
func CheckStore(ctx context.Context, dir string) (out StoreCheck, err error) {
	f, err := readFile(filepath.Join(dir, "config.toml"))
	if err != nil {
		return out, err
	}
	s, err := openStore(dir, f.Store, func(name.SessionID) (*ledger.StoredObject, error) { return nil, nil }, nil)
	if err != nil {
		return out, err
	}
	return checkStore(ctx, s)
}

func checkStore(ctx context.Context, s store) (out StoreCheck, err error) {
	switch s := s.(type) {
	case *s3.Store:
		out.Tried, err = s.Check(ctx)
		if errors.Is(err, s3.ErrLock) {
			err = fmt.Errorf("%w: %w", ErrStore, err)
		}
	case *transcript.FileStore:
		out.Tried, out.Left, err = s.Check()
		if errors.Is(err, transcript.ErrMutable) {
			err = fmt.Errorf("%w: %w", ErrStore, err)
		}
	default:
		err = fmt.Errorf("%w: nothing is known of a %T", ErrStore, s)
	}
	return out, err
}

// storeAgain is how often a store that couldn't be asked is asked again.
const storeAgain = time.Minute

// proveStore refuses a store that doesn't protect what is in it. One that can't be asked just now is no reason not to serve: recordings wait in the jumps' journals.
func (c *CA) proveStore(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	out, err := checkStore(ctx, c.store)
	for _, l := range out.Left {
		c.log.Warn("not proved of the store", "what", l)
	}
	if errors.Is(err, ErrStore) {
		return err
	}
	c.storeProved = err == nil
	if err != nil {
		c.log.Error("the store can't be asked; it is tried again", "error", err)
	}
	return nil
}

// proveStoreLater asks again until the store answered.
func (c *CA) proveStoreLater(ctx context.Context) {
	for !c.storeProved {
		select {
		case <-time.After(storeAgain):
		case <-ctx.Done():
			return
		}
		if err := c.proveStore(ctx); err != nil {
			c.log.Error("the store does not protect recordings: mend it, and start anew", "error", err)
			return
		}
	}
}

// OpenStore opens a CA's store to read, and for `store copy` and `store verify`, beside the service. stored gives what the ledger holds of a recording.
func OpenStore(dir string, stored func(name.SessionID) (*ledger.TranscriptStored, error)) (Store, error) {
	f, err := readFile(filepath.Join(dir, "config.toml"))
	if err != nil {
		return nil, err
	}
	return openStore(dir, f.Store, func(id name.SessionID) (*ledger.StoredObject, error) {
		e, err := stored(id)
		if e == nil || err != nil {
			return nil, err
		}
		return e.Manifest, nil
	}, nil)
}

// Store is what OpenStore gives.
type Store interface {
	Stat(id name.SessionID) (transcript.Stored, error)
	Open(id name.SessionID) (io.ReadCloser, error)
	Envelope(id name.SessionID) ([]byte, error)
	List() ([]name.SessionID, error)
}

var _ Store = (store)(nil)
