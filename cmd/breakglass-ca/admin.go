package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"

	"breakglass/ca"
	"breakglass/ca/api"
	"breakglass/ca/state"
	"breakglass/internal/name"
)

// Administration speaks over a Unix socket in the CA's directory, which is its owner's alone (0700): whoever can open it could also
// open the database. Who holds the state's lock serves it: the service, or, while that is down, the command itself.

const (
	adminSocket = "admin.sock"
	// adminTimeout bounds a command's wait for the service: a rotation opens and seals four files, at a second each where nothing else runs, and whoever
	// gave up on it would not read what to order.
	adminTimeout = 2 * time.Minute
	// headerTimeout is how long a caller may take to say what it wants.
	headerTimeout = 30 * time.Second
	// maxSocketPath is sun_path without its closing NUL, a little rounded down (unix(7): 108; macOS: 104).
	maxSocketPath = 100
)

type inviteAsk struct {
	For  string `json:"for"`
	Name string `json:"name"`
}

type inviteAnswer struct {
	Token string `json:"token"`
}

// adminHandler is what only the directory's owner may ask; all else is the public interface.
func adminHandler(c *ca.CA) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /admin/invite", func(w http.ResponseWriter, r *http.Request) {
		var q inviteAsk
		if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, api.MaxBody)).Decode(&q); err != nil {
			adminProblem(w, &api.Problem{Status: http.StatusBadRequest, Code: api.CodeBadRequest, Detail: err.Error()})
			return
		}
		t, err := c.Invite(r.Context(), q.For, q.Name)
		adminAnswer(w, inviteAnswer{t.String()}, err)
	})
	mux.HandleFunc("POST /admin/clock", func(w http.ResponseWriter, r *http.Request) {
		adminAnswer(w, struct{}{}, c.AcceptClock(r.Context()))
	})
	mux.HandleFunc("GET /admin/status", func(w http.ResponseWriter, r *http.Request) {
		s, err := c.Status(r.Context())
		adminAnswer(w, s, err)
	})
	mux.HandleFunc("GET /admin/recipients", func(w http.ResponseWriter, r *http.Request) {
		l, err := c.Recipients(r.Context())
		adminAnswer(w, l, err)
	})
	mux.HandleFunc("GET /admin/policy", func(w http.ResponseWriter, r *http.Request) {
		s, err := c.PolicyState(r.Context(), true)
		adminAnswer(w, s, err)
	})
	mux.HandleFunc("GET /admin/keys", func(w http.ResponseWriter, r *http.Request) {
		k, err := c.Keys(r.Context())
		adminAnswer(w, k, err)
	})
	mux.HandleFunc("GET /admin/standing", func(w http.ResponseWriter, r *http.Request) {
		person, err := name.ParsePerson(r.URL.Query().Get("person"))
		if err != nil {
			adminProblem(w, &api.Problem{Status: http.StatusBadRequest, Code: api.CodeBadRequest, Detail: err.Error()})
			return
		}
		s, err := c.Standing(r.Context(), person)
		adminAnswer(w, s, err)
	})
	mux.HandleFunc("GET /admin/keys-that-count", func(w http.ResponseWriter, r *http.Request) {
		n, err := c.KeysThatCount(r.Context())
		adminAnswer(w, n, err)
	})
	mux.HandleFunc("POST /admin/rotate", func(w http.ResponseWriter, r *http.Request) {
		q := new(ca.RotateAsk)
		if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, api.MaxBody)).Decode(q); err != nil {
			adminProblem(w, &api.Problem{Status: http.StatusBadRequest, Code: api.CodeBadRequest, Detail: "the rotation can't be read"}) // the error could quote a passphrase
			return
		}
		k, err := c.Rotate(r.Context(), q)
		adminAnswer(w, k, err)
	})
	mux.HandleFunc("POST /admin/retire", func(w http.ResponseWriter, r *http.Request) {
		var q retireAsk
		if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, api.MaxBody)).Decode(&q); err != nil {
			adminProblem(w, &api.Problem{Status: http.StatusBadRequest, Code: api.CodeBadRequest, Detail: err.Error()})
			return
		}
		k, err := c.Retire(r.Context(), q.Fingerprint)
		adminAnswer(w, k, err)
	})
	mux.HandleFunc("POST /admin/witnesses", func(w http.ResponseWriter, r *http.Request) {
		var q ca.WitnessesAsk
		if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, api.MaxBody)).Decode(&q); err != nil {
			adminProblem(w, &api.Problem{Status: http.StatusBadRequest, Code: api.CodeBadRequest, Detail: err.Error()})
			return
		}
		done, err := c.ChangeWitnesses(r.Context(), &q)
		adminAnswer(w, done, err)
	})
	mux.HandleFunc("GET /admin/head", func(w http.ResponseWriter, r *http.Request) {
		size, err := strconv.ParseInt(r.URL.Query().Get("size"), 10, 64)
		var signed string
		if err == nil {
			signed, err = c.HeadAt(r.Context(), size)
		}
		if err != nil {
			adminAnswer(w, nil, err)
			return
		}
		io.WriteString(w, signed)
	})
	mux.HandleFunc("POST /admin/resume", func(w http.ResponseWriter, r *http.Request) {
		var q ca.ResumeAsk
		if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, api.MaxBody)).Decode(&q); err != nil {
			adminProblem(w, &api.Problem{Status: http.StatusBadRequest, Code: api.CodeBadRequest, Detail: err.Error()})
			return
		}
		adminAnswer(w, struct{}{}, c.Resume(r.Context(), &q))
	})
	mux.Handle("/", c.Handler())
	return mux
}

func adminAnswer(w http.ResponseWriter, v any, err error) {
	if err != nil {
		p := new(api.Problem)
		if !errors.As(err, &p) { // root asks: the error is told as it is
			p = &api.Problem{Status: http.StatusInternalServerError, Code: api.CodeInternal, Detail: err.Error()}
		}
		adminProblem(w, p)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	json.NewEncoder(w).Encode(v)
}

func adminProblem(w http.ResponseWriter, p *api.Problem) {
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(p.Status)
	json.NewEncoder(w).Encode(p)
}

// socketPath gives a path to the socket that fits into sun_path, and what has to stay open while it is used.
func socketPath(dir string) (string, io.Closer, error) {
	path := filepath.Join(dir, adminSocket)
	if len(path) <= maxSocketPath || runtime.GOOS != "linux" {
		return path, io.NopCloser(nil), nil
	}
	d, err := os.Open(dir)
	if err != nil {
		return "", nil, err
	}
	return fmt.Sprintf("/proc/self/fd/%d/%s", d.Fd(), adminSocket), d, nil
}

// serveAdmin serves until stop is called. The caller holds the state's lock, so a socket that is there is a dead one's.
func serveAdmin(dir string, c *ca.CA) (stop func(), err error) {
	path, open, err := socketPath(dir)
	if err != nil {
		return nil, err
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		open.Close()
		return nil, err
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		open.Close()
		return nil, fmt.Errorf("opening the administration's socket: %w", err)
	}
	if err := os.Chmod(path, 0o600); err != nil {
		l.Close()
		open.Close()
		return nil, err
	}
	s := &http.Server{Handler: adminHandler(c), ReadHeaderTimeout: headerTimeout, ErrorLog: slog.NewLogLogger(slog.Default().Handler(), slog.LevelWarn)}
	go s.Serve(l)
	return func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		s.Shutdown(ctx)
		open.Close()
	}, nil
}

// admin asks whoever holds the CA.
type admin struct {
	http *http.Client
	own  bool // no service runs: this process holds the CA, for as long as the command lasts
}

// withService runs fn against the service; errNotRunning if none runs.
func (a *app) withService(ctx context.Context, fn func(*admin) error) error {
	path, open, err := socketPath(a.dir)
	if err != nil {
		return errNotRunning
	}
	defer open.Close()
	conn, err := net.Dial("unix", path)
	if err != nil {
		return errNotRunning
	}
	conn.Close()
	return a.withAdmin(ctx, fn)
}

// withAdmin runs fn against the service or, where none runs, against the state opened by this process for as long.
func (a *app) withAdmin(ctx context.Context, fn func(*admin) error) error {
	path, open, err := socketPath(a.dir)
	if err != nil {
		return a.explainDir(err)
	}
	defer open.Close()
	ad := &admin{}
	conn, err := net.Dial("unix", path)
	if err == nil {
		conn.Close()
	} else if !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, syscall.ECONNREFUSED) {
		return a.explainDir(err)
	} else {
		c, err := ca.Open(a.config(-1))
		if err != nil {
			return a.explainDir(err)
		}
		defer c.Close()
		stop, err := serveAdmin(a.dir, c)
		if err != nil {
			return err
		}
		defer stop()
		ad.own = true
	}
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", path)
	}
	t := &http.Transport{DialContext: dial}
	defer t.CloseIdleConnections()
	ad.http = &http.Client{Transport: t, Timeout: adminTimeout}
	return fn(ad)
}

// explainDir adds what to do about a directory that can't be used.
func (a *app) explainDir(err error) error {
	switch {
	case errors.Is(err, ca.ErrUnsigned):
		return withHint(err, "breakglass-ca serve --dir "+a.dir, "then each founder, on their own machine: breakglass succeed")
	case errors.Is(err, ca.ErrRestoring):
		return withHint(err, "breakglass-ca restore BACKUP --dir "+a.dir+"     begins it anew")
	case errors.Is(err, state.ErrNewer):
		return withHint(err, "start the version that wrote it, or a later one: nothing was changed")
	case errors.Is(err, fs.ErrNotExist):
		return withHint(fmt.Errorf("no CA in %s: %w", a.dir, err), "breakglass-ca init --dir "+a.dir+" --policy FILE --listen IP:PORT", "or say with --dir where it is")
	case errors.Is(err, fs.ErrPermission):
		return withHint(fmt.Errorf("%s belongs to somebody else: %w", a.dir, err), "run it as the user that the service runs as, or as root")
	case errors.Is(err, state.ErrInUse):
		return withHint(err, "the service or another command has it: wait, or look with `fuser "+filepath.Join(a.dir, "lock")+"`")
	}
	return err
}

// call makes one call; out may be a *[]byte for the bytes as they come.
func (ad *admin) call(ctx context.Context, method, path string, in, out any) error {
	var body []byte
	var err error
	if in != nil {
		if body, err = json.Marshal(in); err != nil {
			return err
		}
	}
	req, err := http.NewRequestWithContext(ctx, method, "http://admin"+path, bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := ad.http.Do(req)
	if err != nil {
		return fmt.Errorf("asking the CA's service: %w", err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return fmt.Errorf("asking the CA's service: %w", err)
	}
	if resp.StatusCode >= 300 {
		p := new(api.Problem)
		if !strings.HasPrefix(resp.Header.Get("Content-Type"), "application/problem+json") || json.Unmarshal(text, p) != nil {
			return fmt.Errorf("asking the CA's service: %s", resp.Status)
		}
		return p
	}
	if b, ok := out.(*[]byte); ok {
		*b = text
		return nil
	}
	return json.Unmarshal(text, out)
}
