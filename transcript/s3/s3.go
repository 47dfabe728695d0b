package s3

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awss3 "github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/aws/smithy-go"

	"breakglass/internal/name"
	"breakglass/transcript"
)

const (
	// callTimeout bounds one call of the bucket's service.
	callTimeout = 30 * time.Second
	// maxPiece bounds an object that is read into memory: a jump's piece is 1 MiB.
	maxPiece = 8 << 20
	// maxManifest bounds a manifest: 16 GiB in pieces of some KiB.
	maxManifest = 64 << 20
	// conflicts is how often a PUT is tried that met another (409 ConditionalRequestConflict).
	conflicts = 5
)

var (
	// ErrDamaged: an object isn't what its manifest, or the ledger, says.
	ErrDamaged = errors.New("an object of the store is not what was stored")
	// ErrLock: the bucket doesn't hold what is retained in it.
	ErrLock = errors.New("the bucket does not protect what is retained in it")
)

// Config says which bucket, and for how long.
type Config struct {
	Endpoint  string // https://HOST[:PORT]; http on loopback alone
	Region    string
	Bucket    string
	AccessKey string
	SecretKey string
	// Retention is how long nothing can be deleted, at least.
	Retention time.Duration
	// Keep says what is asked for a session's objects beyond that; nil: nothing. It is asked once for each stream, and for its envelope and manifest.
	Keep func(name.SessionID) (Keep, error)
	// Resolve gives the reference that the ledger holds of a whole recording, if it holds one.
	Resolve func(name.SessionID) (*Ref, error)
	Now     func() time.Time
	HTTP    *http.Client // http.DefaultClient's settings if nil
}

// Keep is how long what is stored of a session has to stay.
type Keep struct {
	For  time.Duration // from when an object is put
	Hold bool          // legal hold: until it is released, whatever its age; by whoever owns the bucket, not by us
}

// Ref is one object as the ledger names it.
type Ref struct {
	Bucket  string          `json:"bucket"`
	Key     string          `json:"key"`
	Version string          `json:"version"`
	SHA256  transcript.Hash `json:"sha256"`
	Size    int64           `json:"size"`
}

// object is a piece of a stream.
type object struct {
	Key     string          `json:"key"`
	Version string          `json:"version"`
	SHA256  transcript.Hash `json:"sha256"`
	Offset  int64           `json:"offset"`
	Size    int64           `json:"size"`
}

// manifest names all pieces of a whole recording.
type manifest struct {
	V       int            `json:"v"`
	Session name.SessionID `json:"session"`
	Size    int64          `json:"size"`
	Objects []object       `json:"objects"`
}

// Store is a bucket. It may be used from many goroutines.
type Store struct {
	cfg Config
	s3  *awss3.Client

	mu      sync.Mutex
	streams map[name.SessionID]*pending
}

// pending is what is known of one that isn't whole yet.
type pending struct {
	mu      sync.Mutex
	known   bool
	objects []object
	keep    *Keep // once it is known
}

// New makes no call.
func New(cfg Config) (*Store, error) {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Bucket == "" || cfg.Endpoint == "" || cfg.AccessKey == "" || cfg.SecretKey == "" {
		return nil, errors.New("s3: endpoint, bucket and credentials are needed")
	}
	if cfg.Retention <= 0 {
		return nil, errors.New("s3: how long recordings are retained is to be said")
	}
	o := awss3.Options{
		BaseEndpoint: &cfg.Endpoint, Region: cfg.Region, UsePathStyle: true, RetryMaxAttempts: 3,
		Credentials: aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
			return aws.Credentials{AccessKeyID: cfg.AccessKey, SecretAccessKey: cfg.SecretKey}, nil
		}),
	}
	if cfg.HTTP != nil {
		o.HTTPClient = cfg.HTTP
	}
	return &Store{cfg: cfg, s3: awss3.New(o), streams: map[name.SessionID]*pending{}}, nil
}

func call() (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.Background(), callTimeout)
}

// status is the HTTP status of an error of the service; 0 if it gave no answer.
func status(err error) int {
	var r interface{ HTTPStatusCode() int }
	if errors.As(err, &r) {
		return r.HTTPStatusCode()
	}
	return 0
}

func pieceKey(id name.SessionID, offset int64) string {
	return fmt.Sprintf("s/%s/%016d", id.File(), offset)
}

// keepOf is what is asked for a session's objects.
func (s *Store) keepOf(id name.SessionID) (k Keep, err error) {
	if s.cfg.Keep != nil {
		if k, err = s.cfg.Keep(id); err != nil {
			return k, fmt.Errorf("how long %s is to be kept: %w", id, err)
		}
	}
	k.For = max(k.For, s.cfg.Retention)
	return k, nil
}

// put writes an object that must not exist, retained. exists says that one is there already, under which nothing was written.
func (s *Store) put(key string, b []byte, keep Keep) (o object, exists bool, err error) {
	sum := sha256.Sum256(b)
	check := base64.StdEncoding.EncodeToString(sum[:])
	until := s.cfg.Now().Add(keep.For).UTC()
	hold := types.ObjectLockLegalHoldStatus("") // not said: not everybody may
	if keep.Hold {
		hold = types.ObjectLockLegalHoldStatusOn
	}
	for try := 0; ; try++ {
		ctx, cancel := call()
		out, err := s.s3.PutObject(ctx, &awss3.PutObjectInput{
			Bucket: &s.cfg.Bucket, Key: &key, Body: bytes.NewReader(b), ContentLength: aws.Int64(int64(len(b))), IfNoneMatch: aws.String("*"),
			ChecksumAlgorithm: types.ChecksumAlgorithmSha256, ChecksumSHA256: &check,
			ObjectLockMode: types.ObjectLockModeCompliance, ObjectLockRetainUntilDate: &until, ObjectLockLegalHoldStatus: hold,
		})
		cancel()
		switch {
		case err == nil && aws.ToString(out.VersionId) == "":
			return o, false, fmt.Errorf("%w: it gave no version id: versioning is off", ErrLock)
		case err == nil:
			return object{Key: key, Version: *out.VersionId, SHA256: sum, Size: int64(len(b))}, false, nil
		case status(err) == http.StatusPreconditionFailed:
			return o, true, nil
		case status(err) == http.StatusConflict && try < conflicts:
			time.Sleep(time.Duration(try+1) * 20 * time.Millisecond)
		default:
			return o, false, fmt.Errorf("putting %s: %w", key, err)
		}
	}
}

// get reads one version whole, and holds it against its hash unless that is zero.
func (s *Store) get(key, version string, sum transcript.Hash, limit int64) ([]byte, error) {
	ctx, cancel := call()
	defer cancel()
	out, err := s.s3.GetObject(ctx, &awss3.GetObjectInput{Bucket: &s.cfg.Bucket, Key: &key, VersionId: &version})
	if status(err) == http.StatusNotFound {
		return nil, fmt.Errorf("%w: %s version %s is gone", ErrDamaged, key, version)
	}
	if err != nil {
		return nil, fmt.Errorf("getting %s: %w", key, err)
	}
	defer out.Body.Close()
	b, err := io.ReadAll(io.LimitReader(out.Body, limit+1))
	if err != nil {
		return nil, fmt.Errorf("getting %s: %w", key, err)
	}
	if int64(len(b)) > limit || sum != (transcript.Hash{}) && transcript.SHA256(b) != sum {
		return nil, fmt.Errorf("%w: %s version %s has another hash", ErrDamaged, key, version)
	}
	return b, nil
}

// versions lists the first version of each key under a prefix: the first is what was put with If-None-Match, whatever was put over it since.
func (s *Store) versions(prefix string) (map[string]string, error) {
	type seen struct {
		version string
		at      time.Time
	}
	first := map[string]seen{}
	in := &awss3.ListObjectVersionsInput{Bucket: &s.cfg.Bucket, Prefix: &prefix}
	for {
		ctx, cancel := call()
		out, err := s.s3.ListObjectVersions(ctx, in)
		cancel()
		if err != nil {
			return nil, fmt.Errorf("listing %s: %w", prefix, err)
		}
		for _, v := range out.Versions {
			k, at := aws.ToString(v.Key), aws.ToTime(v.LastModified)
			// Versions come newest first: of two of one second the later in the list is the older.
			if f, ok := first[k]; !ok || !at.After(f.at) {
				first[k] = seen{aws.ToString(v.VersionId), at}
			}
		}
		if !aws.ToBool(out.IsTruncated) {
			break
		}
		in.KeyMarker, in.VersionIdMarker = out.NextKeyMarker, out.NextVersionIdMarker
	}
	keys := map[string]string{}
	for k, f := range first {
		keys[k] = f.version
	}
	return keys, nil
}

// begun gives a stream that isn't whole yet, locked, as the bucket has it.
func (s *Store) begun(id name.SessionID) (*pending, func(), error) {
	if p, err := name.ParseSessionID(string(id)); err != nil || p != id {
		return nil, nil, fmt.Errorf("store: %w", errors.Join(err, name.ErrInvalid))
	}
	s.mu.Lock()
	st := s.streams[id]
	if st == nil {
		st = &pending{}
		s.streams[id] = st
	}
	s.mu.Unlock()
	st.mu.Lock()
	if st.known {
		return st, st.mu.Unlock, nil
	}
	objects, err := s.pieces(id)
	if err != nil {
		st.mu.Unlock()
		return nil, nil, err
	}
	st.objects, st.known = objects, true
	return st, st.mu.Unlock, nil
}

// pieces reads what the bucket has of a stream, from its beginning to the first gap.
func (s *Store) pieces(id name.SessionID) ([]object, error) {
	prefix := "s/" + id.File() + "/"
	first, err := s.versions(prefix)
	if err != nil {
		return nil, err
	}
	var out []object
	for at := int64(0); ; {
		key := pieceKey(id, at)
		v, ok := first[key]
		if !ok {
			return out, nil
		}
		b, err := s.get(key, v, transcript.Hash{}, maxPiece)
		if err != nil {
			return nil, err
		}
		if len(b) == 0 {
			return nil, fmt.Errorf("%w: %s is empty", ErrDamaged, key)
		}
		out = append(out, object{key, v, transcript.SHA256(b), at, int64(len(b))})
		at += int64(len(b))
	}
}

func (st *pending) size() int64 {
	if n := len(st.objects); n > 0 {
		return st.objects[n-1].Offset + st.objects[n-1].Size
	}
	return 0
}

// Put stores a piece of a stream at offset and returns the size stored. A piece may overlap what is there, if the bytes are the same.
func (s *Store) Put(id name.SessionID, offset int64, piece []byte) (size int64, err error) {
	st, unlock, err := s.begun(id)
	if err != nil {
		return 0, err
	}
	defer unlock()
	size = st.size()
	if offset < 0 || offset > size {
		return size, fmt.Errorf("storing %s at %d of %d: %w", id, offset, size, transcript.ErrGap)
	}
	if known := piece[:min(int64(len(piece)), size-offset)]; len(known) > 0 {
		r := &reader{s: s, objects: st.objects, at: offset}
		have := make([]byte, len(known))
		if _, err := io.ReadFull(r, have); err != nil {
			return size, fmt.Errorf("storing %s: %w", id, err)
		}
		if !bytes.Equal(have, known) {
			return size, fmt.Errorf("storing %s: %w", id, transcript.ErrConflict)
		}
		piece = piece[len(known):]
	}
	if len(piece) == 0 {
		return size, nil
	}
	if finished, err := s.whole(id); err != nil {
		return size, err
	} else if finished != nil {
		return size, fmt.Errorf("storing %s: %w", id, transcript.ErrFinished)
	}
	if st.keep == nil {
		k, err := s.keepOf(id)
		if err != nil {
			return size, err
		}
		st.keep = &k
	}
	key := pieceKey(id, size)
	o, exists, err := s.put(key, piece, *st.keep)
	if err != nil {
		return size, fmt.Errorf("storing %s: %w", id, err)
	}
	if exists { // a call of before whose answer was lost; or somebody else's
		first, err := s.versions(key)
		if err != nil {
			return size, err
		}
		b, err := s.get(key, first[key], transcript.Hash{}, maxPiece)
		if err != nil {
			return size, err
		}
		if n := min(len(b), len(piece)); len(b) == 0 || !bytes.Equal(b[:n], piece[:n]) {
			return size, fmt.Errorf("storing %s: %s: %w", id, key, transcript.ErrConflict)
		}
		o = object{Key: key, Version: first[key], SHA256: transcript.SHA256(b), Size: int64(len(b))}
	}
	o.Offset = size
	st.objects = append(st.objects, o)
	return st.size(), nil
}

// Forget drops what is kept in memory of a stream. Its caller says that the ledger has the manifest now: what is asked of it from now on is answered from there.
func (s *Store) Forget(id name.SessionID) {
	s.mu.Lock()
	delete(s.streams, id)
	s.mu.Unlock()
}

// whole gives the reference of a recording that is whole, nil if it isn't.
func (s *Store) whole(id name.SessionID) (*Ref, error) {
	if s.cfg.Resolve == nil {
		return nil, nil
	}
	return s.cfg.Resolve(id)
}

// Stat says what is stored of a stream.
func (s *Store) Stat(id name.SessionID) (transcript.Stored, error) {
	ref, err := s.whole(id)
	if err != nil {
		return transcript.Stored{}, err
	}
	if ref != nil {
		m, err := s.manifest(id, ref)
		if err != nil {
			return transcript.Stored{}, err
		}
		return transcript.Stored{Size: m.Size, Finished: true, Immutable: true}, nil
	}
	st, unlock, err := s.begun(id)
	if err != nil {
		return transcript.Stored{}, err
	}
	defer unlock()
	if len(st.objects) == 0 {
		return transcript.Stored{}, fmt.Errorf("%s: %w", id, transcript.ErrNotStored)
	}
	return transcript.Stored{Size: st.size()}, nil
}

// manifest reads a recording's manifest as the ledger names it.
func (s *Store) manifest(id name.SessionID, ref *Ref) (*manifest, error) {
	b, err := s.get(ref.Key, ref.Version, ref.SHA256, min(maxManifest, ref.Size))
	if err != nil {
		return nil, err
	}
	m, err := parseManifest(b)
	if err == nil && m.Session != id {
		err = fmt.Errorf("%w: the manifest is of %s", ErrDamaged, m.Session)
	}
	return m, err
}

// parseManifest reads one strictly: pieces without a gap, from the beginning to the size.
func parseManifest(b []byte) (*manifest, error) {
	bad := func(format string, a ...any) (*manifest, error) {
		return nil, fmt.Errorf("%w: manifest: %s", ErrDamaged, fmt.Sprintf(format, a...))
	}
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	var m manifest
	if err := d.Decode(&m); err != nil {
		return bad("%v", err)
	}
	if _, err := d.Token(); err != io.EOF {
		return bad("something follows the JSON")
	}
	if m.V != 1 {
		return bad("version %d", m.V)
	}
	if p, err := name.ParseSessionID(string(m.Session)); err != nil || p != m.Session {
		return bad("session %q", m.Session)
	}
	at := int64(0)
	for _, o := range m.Objects {
		if o.Offset != at || o.Size <= 0 || o.Size > maxPiece || o.Key != pieceKey(m.Session, at) || o.Version == "" {
			return bad("piece %q from %d, want %d", o.Key, o.Offset, at)
		}
		at += o.Size
	}
	if at != m.Size {
		return bad("%d bytes of %d", at, m.Size)
	}
	return &m, nil
}

// Finish says that the stream is whole with size bytes. It may be said again.
func (s *Store) Finish(id name.SessionID, size int64) (transcript.Stored, error) {
	_, err := s.FinishRef(id, size)
	return transcript.Stored{Size: size, Finished: err == nil, Immutable: true}, err
}

// FinishRef is Finish, and gives what the ledger is to hold of the recording: the manifest's reference.
func (s *Store) FinishRef(id name.SessionID, size int64) (*Ref, error) {
	if ref, err := s.whole(id); err != nil || ref != nil {
		if err == nil {
			var m *manifest
			if m, err = s.manifest(id, ref); err == nil && m.Size != size {
				err = fmt.Errorf("finishing %s: %d bytes, not %d: %w", id, m.Size, size, transcript.ErrConflict)
			}
		}
		return ref, err
	}
	st, unlock, err := s.begun(id)
	if err != nil {
		return nil, err
	}
	defer unlock()
	switch have := st.size(); {
	case have == 0:
		return nil, fmt.Errorf("finishing %s: %w", id, transcript.ErrNotStored)
	case have != size:
		return nil, fmt.Errorf("finishing %s: %d bytes are here, not %d: %w", id, have, size, transcript.ErrGap)
	}
	b, err := json.Marshal(manifest{1, id, size, st.objects})
	if err != nil {
		return nil, err
	}
	if len(b) > maxManifest {
		return nil, fmt.Errorf("finishing %s: %d pieces: a manifest of %d bytes, of which %d would be read", id, len(st.objects), len(b), maxManifest)
	}
	return s.once(id, "m/", b)
}

// once stores an object of a session that is written once, and gives its reference; the same bytes again are no error.
func (s *Store) once(id name.SessionID, prefix string, b []byte) (*Ref, error) {
	key := prefix + id.File()
	keep, err := s.keepOf(id)
	if err != nil {
		return nil, err
	}
	o, exists, err := s.put(key, b, keep)
	if err != nil {
		return nil, err
	}
	if exists {
		first, err := s.versions(key)
		if err != nil {
			return nil, err
		}
		if o, err = s.same(key, first[key], b); err != nil {
			return nil, err
		}
	}
	return &Ref{s.cfg.Bucket, key, o.Version, o.SHA256, o.Size}, nil
}

func (s *Store) same(key, version string, b []byte) (object, error) {
	have, err := s.get(key, version, transcript.Hash{}, int64(len(b)))
	if err == nil && !bytes.Equal(have, b) || errors.Is(err, ErrDamaged) {
		err = fmt.Errorf("storing %s: %w", key, transcript.ErrConflict)
	}
	return object{Key: key, Version: version, SHA256: transcript.SHA256(b), Size: int64(len(b))}, err
}

// Open reads a stream, whole or not. What it gives of an object has the hash that its manifest names.
func (s *Store) Open(id name.SessionID) (io.ReadCloser, error) {
	ref, err := s.whole(id)
	if err != nil {
		return nil, err
	}
	if ref != nil {
		m, err := s.manifest(id, ref)
		if err != nil {
			return nil, err
		}
		return &reader{s: s, objects: m.Objects}, nil
	}
	st, unlock, err := s.begun(id)
	if err != nil {
		return nil, err
	}
	defer unlock()
	if len(st.objects) == 0 {
		return nil, fmt.Errorf("%s: %w", id, transcript.ErrNotStored)
	}
	return &reader{s: s, objects: slices.Clone(st.objects)}, nil
}

// reader gives objects one after the other. It seeks: only what is read is fetched.
type reader struct {
	s       *Store
	objects []object
	at      int64
	b       []byte
}

func (r *reader) Read(p []byte) (int, error) {
	for len(r.b) == 0 {
		i, _ := slices.BinarySearchFunc(r.objects, r.at, func(o object, at int64) int { return cmp.Compare(o.Offset+o.Size-1, at) })
		if i == len(r.objects) {
			return 0, io.EOF
		}
		o := r.objects[i]
		b, err := r.s.get(o.Key, o.Version, o.SHA256, o.Size)
		if err != nil {
			return 0, err
		}
		if int64(len(b)) != o.Size {
			return 0, fmt.Errorf("%w: %s has %d bytes of %d", ErrDamaged, o.Key, len(b), o.Size)
		}
		r.b = b[r.at-o.Offset:]
	}
	n := copy(p, r.b)
	r.b, r.at = r.b[n:], r.at+int64(n)
	return n, nil
}

// Seek sets where the next Read begins.
func (r *reader) Seek(offset int64, whence int) (int64, error) {
	switch whence {
	case io.SeekCurrent:
		offset += r.at
	case io.SeekEnd:
		if n := len(r.objects); n > 0 {
			offset += r.objects[n-1].Offset + r.objects[n-1].Size
		}
	}
	if offset < 0 {
		return 0, fmt.Errorf("s3: seeking to %d", offset)
	}
	r.at, r.b = offset, nil
	return offset, nil
}

func (r *reader) Close() error { return nil }

// PutEnvelope stores a session's envelope, whole and for ever.
func (s *Store) PutEnvelope(id name.SessionID, env []byte) error {
	if len(env) == 0 || len(env) > transcript.MaxEnvelope {
		return fmt.Errorf("storing envelope of %s: %w: %d bytes", id, transcript.ErrEnvelope, len(env))
	}
	_, err := s.once(id, "e/", env)
	return err
}

// Envelope gives it back. Whoever opens it holds it against the hash in the recording's header.
func (s *Store) Envelope(id name.SessionID) ([]byte, error) {
	key := "e/" + id.File()
	first, err := s.versions(key)
	if err != nil {
		return nil, err
	}
	v, ok := first[key]
	if !ok {
		return nil, fmt.Errorf("envelope of %s: %w", id, transcript.ErrNotStored)
	}
	return s.get(key, v, transcript.Hash{}, transcript.MaxEnvelope)
}

// List gives the sessions of which anything of a stream is stored.
func (s *Store) List() ([]name.SessionID, error) {
	keys, err := s.versions("s/")
	if err != nil {
		return nil, err
	}
	seen := map[name.SessionID]bool{}
	var out []name.SessionID
	for k := range keys {
		f := strings.Split(k, "/")
		if len(f) != 3 {
			continue
		}
		if id, err := name.ParseSessionID(strings.Replace(f[1], ".", "/", 1)); err == nil && !seen[id] {
			seen[id] = true
			out = append(out, id)
		}
	}
	slices.Sort(out)
	return out, nil
}

// refused says that the service refused something, as against giving no answer. Its code isn't looked at: services differ in it.
func refused(err error) bool {
	var api smithy.APIError
	n := status(err)
	return errors.As(err, &api) && n >= 400 && n < 500
}
