package s3

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/iotest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awss3 "github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"breakglass/internal/loopback"
	"breakglass/internal/name"
	"breakglass/transcript"
)

const id = name.SessionID("k7f-2mq/1")

// gateway is stock versitygw on directories of its own.
type gateway struct {
	t       *testing.T
	dir     string
	address string
	cmd     *exec.Cmd
}

func startGateway(t *testing.T) *gateway {
	t.Helper()
	p, err := filepath.Abs(filepath.Join("..", "..", "build", "tools", "versitygw"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(p); err != nil {
		if p, err = exec.LookPath("versitygw"); err != nil {
			if os.Getenv("CI") != "" {
				t.Fatal("versitygw is missing: make tools")
			}
			t.Skip("versitygw is missing: make tools")
		}
	}
	ports, err := loopback.Addresses(1)
	if err != nil {
		t.Fatal(err)
	}
	g := &gateway{t: t, dir: t.TempDir(), address: ports[0]}
	for _, d := range []string{"data", "ver"} {
		if err := os.Mkdir(filepath.Join(g.dir, d), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	g.run(p)
	return g
}

func (g *gateway) run(program string) {
	g.t.Helper()
	var log bytes.Buffer
	g.cmd = exec.Command(program, "--port", g.address, "--keep-alive", "--quiet", "posix", "--versioning-dir", filepath.Join(g.dir, "ver"), filepath.Join(g.dir, "data"))
	g.cmd.Env = append(os.Environ(), "ROOT_ACCESS_KEY=k", "ROOT_SECRET_KEY=s")
	g.cmd.Stdout, g.cmd.Stderr = &log, &log
	if err := g.cmd.Start(); err != nil {
		g.t.Fatal(err)
	}
	cmd := g.cmd
	g.t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	for end := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
		c, err := net.Dial("tcp", g.address)
		if err == nil {
			c.Close()
			return
		}
		if time.Now().After(end) {
			g.t.Fatalf("%v\n%s", err, log.String())
		}
	}
}

func (g *gateway) stop() { g.cmd.Process.Kill(); g.cmd.Wait() }

// bucket makes one and gives a store in it.
func (g *gateway) bucket(n string, locked bool) *Store {
	g.t.Helper()
	s, err := New(g.config(n))
	if err != nil {
		g.t.Fatal(err)
	}
	if _, err := s.s3.CreateBucket(context.Background(), &awss3.CreateBucketInput{Bucket: &n, ObjectLockEnabledForBucket: aws.Bool(locked)}); err != nil {
		g.t.Fatal(err)
	}
	return s
}

func (g *gateway) config(n string) Config {
	return Config{Endpoint: "http://" + g.address, Region: "us-east-1", Bucket: n, AccessKey: "k", SecretKey: "s", Retention: time.Hour}
}

func stream(n int) []byte {
	b := make([]byte, n)
	r := rand.New(rand.NewPCG(1, uint64(n)))
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}

// whole stores a recording and gives its reference.
func whole(t *testing.T, s *Store, b []byte, piece int) *Ref {
	t.Helper()
	for at := 0; at < len(b); at += piece {
		if n, err := s.Put(id, int64(at), b[at:min(len(b), at+piece)]); err != nil || n != int64(min(len(b), at+piece)) {
			t.Fatal(n, err)
		}
	}
	ref, err := s.FinishRef(id, int64(len(b)))
	if err != nil {
		t.Fatal(err)
	}
	return ref
}

func read(s *Store) ([]byte, error) {
	r, err := s.Open(id)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	return io.ReadAll(r)
}

func TestPutReadFinish(t *testing.T) {
	g := startGateway(t)
	s := g.bucket("bucket1", true)
	b := stream(3_000_000)
	if _, err := s.Stat(id); !errors.Is(err, transcript.ErrNotStored) {
		t.Error(err)
	}
	if _, err := s.Open(id); !errors.Is(err, transcript.ErrNotStored) {
		t.Error(err)
	}
	for _, c := range []struct {
		what     string
		from, to int
		want     int64
		err      error
	}{
		{"the first piece", 0, 1000, 1000, nil},
		{"the same again", 0, 1000, 1000, nil},
		{"a part of it again", 10, 500, 1000, nil},
		{"one that overlaps", 500, 2000, 2000, nil},
		{"one behind a gap", 3000, 3500, 2000, transcript.ErrGap},
		{"a large one", 2000, 1_050_000, 1_050_000, nil},
		{"the rest", 1_050_000, 2_000_000, 2_000_000, nil},
	} {
		if n, err := s.Put(id, int64(c.from), b[c.from:c.to]); n != c.want || !errors.Is(err, c.err) {
			t.Errorf("%s: %d, %v", c.what, n, err)
		}
	}
	if n, err := s.Put(id, 100, []byte("other")); !errors.Is(err, transcript.ErrConflict) || n != 2_000_000 {
		t.Errorf("other bytes: %d, %v", n, err)
	}
	// A store that starts anew goes on where this one was.
	again, err := New(g.config("bucket1"))
	if err != nil {
		t.Fatal(err)
	}
	if st, err := again.Stat(id); err != nil || st.Size != 2_000_000 || st.Finished {
		t.Errorf("%+v, %v", st, err)
	}
	if _, err := again.Put(id, 2_000_000, b[2_000_000:]); err != nil {
		t.Fatal(err)
	}
	if got, err := read(again); err != nil || !bytes.Equal(got, b) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
	if _, err := again.Finish(id, 17); !errors.Is(err, transcript.ErrGap) {
		t.Error(err)
	}
	ref, err := again.FinishRef(id, int64(len(b)))
	if err != nil {
		t.Fatal(err)
	}
	if twice, err := again.FinishRef(id, int64(len(b))); err != nil || *twice != *ref {
		t.Errorf("finished twice: %+v, %v", twice, err)
	}
	env := []byte("an envelope")
	if err := errors.Join(again.PutEnvelope(id, env), again.PutEnvelope(id, env)); err != nil {
		t.Error(err)
	}
	if err := again.PutEnvelope(id, []byte("another")); !errors.Is(err, transcript.ErrConflict) {
		t.Error(err)
	}
	if got, err := again.Envelope(id); err != nil || !bytes.Equal(got, env) {
		t.Errorf("%q, %v", got, err)
	}
	if ids, err := again.List(); err != nil || len(ids) != 1 || ids[0] != id {
		t.Errorf("%q, %v", ids, err)
	}

	again.Forget(id) // what is in the bucket is found again
	f, err := again.Open(id)
	if err != nil {
		t.Fatal(err)
	}
	if err := iotest.TestReader(f, b); err != nil { // seeks too
		t.Error(err)
	}

	// From then on what the ledger names is what counts.
	cfg := g.config("bucket1")
	cfg.Resolve = func(name.SessionID) (*Ref, error) { return ref, nil }
	led, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	if st, err := led.Stat(id); err != nil || !st.Finished || st.Size != int64(len(b)) {
		t.Errorf("%+v, %v", st, err)
	}
	if _, err := led.Put(id, int64(len(b)), []byte("more")); !errors.Is(err, transcript.ErrFinished) {
		t.Error(err)
	}
	// The bucket's credentials are stolen: objects are put over these, and deleted.
	ctx := t.Context()
	keys, err := led.versions("")
	if err != nil {
		t.Fatal(err)
	}
	for k := range keys {
		if _, err := led.s3.PutObject(ctx, &awss3.PutObjectInput{Bucket: &led.cfg.Bucket, Key: &k, Body: strings.NewReader("forged")}); err != nil {
			t.Fatal(err)
		}
		if _, err := led.s3.DeleteObject(ctx, &awss3.DeleteObjectInput{Bucket: &led.cfg.Bucket, Key: &k}); err != nil {
			t.Fatal(err)
		}
	}
	for what, s := range map[string]*Store{"by the ledger's reference": led, "by the list": func() *Store { n, _ := New(g.config("bucket1")); return n }()} {
		if got, err := read(s); err != nil || !bytes.Equal(got, b) {
			t.Errorf("%s: %d bytes, %v", what, len(got), err)
		}
		if got, err := s.Envelope(id); err != nil || !bytes.Equal(got, env) {
			t.Errorf("%s: %q, %v", what, got, err)
		}
	}
}

// What the policy asks for a session is what its objects are locked by, and what isn't is found.
func TestWhatIsKept(t *testing.T) {
	g := startGateway(t)
	g.bucket("bucket1", true)
	now := time.Now()
	want := Keep{For: 72 * time.Hour, Hold: true}
	cfg := g.config("bucket1")
	var broken error
	cfg.Keep = func(name.SessionID) (Keep, error) { return want, broken }
	s, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	broken = errors.New("the ledger can't be read")
	if _, err := s.Put(id, 0, []byte("x")); !errors.Is(err, broken) {
		t.Errorf("stored without knowing for how long: %v", err)
	}
	broken = nil
	ref := whole(t, s, stream(90_000), 40_000)
	if err := s.PutEnvelope(id, []byte("an envelope")); err != nil {
		t.Fatal(err)
	}
	cfg.Resolve = func(name.SessionID) (*Ref, error) { return ref, nil }
	if s, err = New(cfg); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		what string
		k    Keep
		err  error
	}{
		{"as asked", want, nil},
		{"less", Keep{For: time.Hour}, nil},
		{"longer than asked", Keep{For: 80 * time.Hour}, ErrLock},
	} {
		if err := s.CheckKept(id, now, c.k); !errors.Is(err, c.err) {
			t.Errorf("%s: %v", c.what, err)
		}
	}
	ctx, key := t.Context(), pieceKey(id, 40_000)
	if _, err := s.s3.DeleteObject(ctx, &awss3.DeleteObjectInput{Bucket: &cfg.Bucket, Key: &ref.Key, VersionId: &ref.Version, BypassGovernanceRetention: aws.Bool(true)}); !refused(err) {
		t.Errorf("deleted: %v", err)
	}
	first, err := s.versions(key)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.s3.PutObjectLegalHold(ctx, &awss3.PutObjectLegalHoldInput{Bucket: &cfg.Bucket, Key: &key, VersionId: aws.String(first[key]),
		LegalHold: &types.ObjectLockLegalHold{Status: types.ObjectLockLegalHoldStatusOff}}); err != nil {
		t.Fatal(err)
	}
	if err := s.CheckKept(id, now, want); !errors.Is(err, ErrLock) || !strings.Contains(err.Error(), key) {
		t.Errorf("released: %v", err)
	}
}

func TestManyWriters(t *testing.T) {
	g := startGateway(t)
	g.bucket("bucket1", true)
	var wins, conflicts atomic.Int32
	var wg sync.WaitGroup
	for i := range 16 {
		wg.Go(func() {
			s, err := New(g.config("bucket1"))
			if err != nil {
				t.Error(err)
				return
			}
			switch _, err := s.Put(id, 0, fmt.Appendf(nil, "piece of writer %2d", i)); {
			case err == nil:
				wins.Add(1)
			case errors.Is(err, transcript.ErrConflict):
				conflicts.Add(1)
			default:
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if wins.Load() != 1 || conflicts.Load() != 15 {
		t.Errorf("%d won, %d met a conflict", wins.Load(), conflicts.Load())
	}
}

// The answer to a PUT is lost, as when whoever wrote it was killed: the next writer finds it, whatever it sends.
func TestALostAnswer(t *testing.T) {
	g := startGateway(t)
	s := g.bucket("bucket1", true)
	b := stream(9000)
	if _, _, err := s.put(pieceKey(id, 0), b[:4000], Keep{For: time.Hour}); err != nil { // nobody took note
		t.Fatal(err)
	}
	for n, want := range map[int]int64{4000: 4000, 3000: 4000, 9000: 4000} {
		s, err := New(g.config("bucket1"))
		if err != nil {
			t.Fatal(err)
		}
		s.streams[id] = &pending{known: true} // as if it had looked before the other wrote
		if got, err := s.Put(id, 0, b[:n]); err != nil || got != want {
			t.Errorf("a piece of %d: %d, %v", n, got, err)
		}
		if _, err := s.Put(id, 4000, b[4000:]); err != nil {
			t.Error(err)
		}
		if got, err := read(s); err != nil || !bytes.Equal(got, b) {
			t.Errorf("a piece of %d: %d bytes, %v", n, len(got), err)
		}
	}
}

// The service is gone for a while: errors, and then it goes on.
func TestTheServiceGoesAway(t *testing.T) {
	g := startGateway(t)
	s := g.bucket("bucket1", true)
	b := stream(5000)
	if _, err := s.Put(id, 0, b[:2000]); err != nil {
		t.Fatal(err)
	}
	program := g.cmd.Path
	g.stop()
	if n, err := s.Put(id, 2000, b[2000:]); err == nil {
		t.Errorf("stored %d without a service", n)
	}
	g.run(program)
	if n, err := s.Put(id, 2000, b[2000:]); err != nil || n != 5000 {
		t.Errorf("%d, %v", n, err)
	}
	if got, err := read(s); err != nil || !bytes.Equal(got, b) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
}

// A service that lies is found out: other bytes, fewer, another object's.
func TestALyingService(t *testing.T) {
	g := startGateway(t)
	honest := g.bucket("bucket1", true)
	b := stream(200_000)
	ref := whole(t, honest, b, 50_000)
	to, _ := url.Parse("http://" + g.address)
	var lie atomic.Pointer[func(path string, body []byte) []byte]
	proxy := &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(to); r.Out.Host = r.In.Host }, ModifyResponse: func(r *http.Response) error {
		if f := lie.Load(); f != nil && r.Request.Method == "GET" && r.StatusCode == 200 {
			body, _ := io.ReadAll(r.Body)
			body = (*f)(r.Request.URL.Path, body)
			r.Body, r.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
			r.Header.Set("Content-Length", fmt.Sprint(len(body)))
			for k := range r.Header {
				if strings.HasPrefix(strings.ToLower(k), "x-amz-checksum") {
					r.Header.Del(k)
				}
			}
		}
		return nil
	}}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{Handler: proxy}
	go srv.Serve(l)
	defer srv.Close()
	cfg := g.config("bucket1")
	cfg.Endpoint = "http://" + l.Addr().String()
	cfg.Resolve = func(name.SessionID) (*Ref, error) { return ref, nil }
	s, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := read(s); err != nil || !bytes.Equal(got, b) {
		t.Fatalf("%d bytes, %v", len(got), err)
	}
	lies := map[string]func(string, []byte) []byte{
		"a bit of a piece": func(p string, b []byte) []byte {
			if strings.Contains(p, "0000000000100000") {
				b[77] ^= 4
			}
			return b
		},
		"a piece that is shorter": func(p string, b []byte) []byte {
			if strings.Contains(p, "0000000000150000") {
				return b[:49_999]
			}
			return b
		},
		"a piece that is another": func(p string, b []byte) []byte {
			if strings.Contains(p, "/s/") {
				return stream(50_000)
			}
			return b
		},
		"a bit of the manifest": func(p string, b []byte) []byte {
			if strings.Contains(p, "/m/") {
				b[40] ^= 1
			}
			return b
		},
		"a manifest of fewer pieces": func(p string, b []byte) []byte {
			if strings.Contains(p, "/m/") {
				return bytes.Replace(b, []byte(`"size":200000`), []byte(`"size":150000`), 1)
			}
			return b
		},
	}
	// Each bit of the manifest, and a bit of each place in the first piece that a reader could be careless about.
	manifest, err := honest.get(ref.Key, ref.Version, ref.SHA256, ref.Size)
	if err != nil {
		t.Fatal(err)
	}
	for at := range manifest {
		lies[fmt.Sprintf("the manifest's byte %d", at)] = func(p string, b []byte) []byte {
			if strings.Contains(p, "/m/") {
				b[at] ^= 1 << (at % 8)
			}
			return b
		}
	}
	for at := 0; at < 50_000; at += 977 {
		lies[fmt.Sprintf("the first piece's byte %d", at)] = func(p string, b []byte) []byte {
			if strings.Contains(p, "/s/") && strings.HasSuffix(p, "/0000000000000000") {
				b[at] ^= 1 << (at % 8)
			}
			return b
		}
	}
	for what, f := range lies {
		lie.Store(&f)
		got, err := read(s)
		if !errors.Is(err, ErrDamaged) || !bytes.HasPrefix(b, got) {
			t.Errorf("%s: %d bytes, %v", what, len(got), err)
		}
	}
}

func TestCheck(t *testing.T) {
	g := startGateway(t)
	tried, err := g.bucket("locked", true).Check(t.Context())
	if err != nil || len(tried) < 9 {
		t.Errorf("%q, %v", tried, err)
	}
	t.Logf("%s", strings.Join(tried, "\n"))
	for what, s := range map[string]*Store{
		"a bucket without a lock": g.bucket("plain", false),
		"one with versions and no lock": func() *Store {
			s := g.bucket("versions", false)
			if _, err := s.s3.PutBucketVersioning(t.Context(), &awss3.PutBucketVersioningInput{Bucket: &s.cfg.Bucket,
				VersioningConfiguration: &types.VersioningConfiguration{Status: types.BucketVersioningStatusEnabled}}); err != nil {
				t.Fatal(err)
			}
			return s
		}(),
	} {
		if tried, err := s.Check(t.Context()); !errors.Is(err, ErrLock) {
			t.Errorf("%s: %q, %v", what, tried, err)
		}
	}
	gone, _ := New(g.config("nowhere"))
	if _, err := gone.Check(t.Context()); err == nil || errors.Is(err, ErrLock) {
		t.Errorf("no bucket: %v", err)
	}
}

// A service that says that the lock is on and lets a delete through is refused.
func TestCheckFindsALockThatIsNone(t *testing.T) {
	g := startGateway(t)
	g.bucket("locked", true)
	to, _ := url.Parse("http://" + g.address)
	for what, through := range map[string]func(r *http.Request) bool{
		"deleting":   func(r *http.Request) bool { return r.Method == "DELETE" && r.URL.Query().Has("versionId") },
		"shortening": func(r *http.Request) bool { return r.Method == "PUT" && r.URL.Query().Has("retention") },
		"replacing": func(r *http.Request) bool {
			return r.Method == "PUT" && r.Header.Get("If-None-Match") != "" && r.ContentLength > 0 && r.ContentLength < 6
		},
	} {
		proxy := &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(to); r.Out.Host = r.In.Host }}
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if through(r) {
				w.WriteHeader(http.StatusNoContent) // "done"
				return
			}
			proxy.ServeHTTP(w, r)
		})}
		go srv.Serve(l)
		defer srv.Close()
		cfg := g.config("locked")
		cfg.Endpoint = "http://" + l.Addr().String()
		s, err := New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		if tried, err := s.Check(t.Context()); !errors.Is(err, ErrLock) {
			t.Errorf("%s goes through: %q, %v", what, tried, err)
		}
	}
}

func FuzzManifest(f *testing.F) {
	f.Add([]byte(`{"v":1,"session":"k7f-2mq/1","size":5,"objects":[{"key":"s/k7f-2mq.1/0000000000000000","version":"v","sha256":"` + strings.Repeat("00", 32) + `","offset":0,"size":5}]}`))
	f.Add([]byte(`{"v":1,"session":"k7f-2mq/1","size":0,"objects":[]}`))
	f.Add([]byte(`{"v":2}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := parseManifest(b)
		if err != nil {
			return
		}
		at := int64(0)
		for _, o := range m.Objects {
			if o.Offset != at || o.Size <= 0 {
				t.Fatalf("%+v", m)
			}
			at += o.Size
		}
		if at != m.Size {
			t.Fatalf("%+v", m)
		}
	})
}
