package background

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"

	"breakglass/agent/home"
	"breakglass/ca/api"
	"breakglass/internal/name"
	"breakglass/internal/sshcert"
)

// Config of a background process.
type Config struct {
	Home home.Home
	Log  *slog.Logger
	// IdleGrace is how long it stays with nothing to hold; 0 is ten seconds.
	IdleGrace time.Duration
}

// held is a key with what it is for.
type held struct {
	key     *memoryKey
	end     time.Time // monotonic
	timer   *time.Timer
	granted *api.Granted
	agent   *grantAgent
	socket  string
	ln      net.Listener
	pass    *Pass
	waiting *Waiting // a request that needs approvals: for this key, or, of a grant's key, its extension
}

type server struct {
	cfg  Config
	log  *slog.Logger
	stop context.CancelFunc

	mu     sync.Mutex
	keys   map[string]*held // by fingerprint
	active int              // control connections
	idle   *time.Timer
}

// Run is the background process. It returns when the last key has ended, when ctx does, or at once with nil if there is one
// already.
func Run(ctx context.Context, cfg Config) error {
	if err := cfg.Home.MakeRun(); err != nil {
		return err
	}
	release, ok, err := lock(filepath.Join(cfg.Home.Run, "lock"))
	if err != nil {
		return fmt.Errorf("locking the run directory: %w", err)
	}
	if !ok {
		return nil
	}
	defer release()
	if err := harden(); err != nil {
		cfg.Log.Warn("keys may end up in a core dump", "error", err)
	}
	if cfg.IdleGrace == 0 {
		cfg.IdleGrace = idleGrace
	}
	sweep(cfg.Home.Run)
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	s := &server{cfg: cfg, log: cfg.Log, stop: stop, keys: map[string]*held{}}
	ln, err := listen(cfg.Home.Socket(controlName))
	if err != nil {
		return err
	}
	s.mu.Lock()
	s.idle = time.AfterFunc(cfg.IdleGrace, s.maybeStop)
	s.mu.Unlock()
	jumps, err := listen(JumpSocket(cfg.Home))
	if err != nil { // a path too long: then stock `ssh -J` finds no certificate, and all else goes on
		cfg.Log.Warn("no ssh-agent for jumps", "error", err)
	} else {
		defer jumps.Close() // removes the path, before anybody hears that this process has ended
		go s.accept(jumps, s.serveAgent(&jumpAgent{server: s}))
	}
	context.AfterFunc(ctx, func() { ln.Close() })
	s.accept(ln, s.control)
	s.mu.Lock()
	defer s.mu.Unlock()
	for fp := range s.keys {
		s.dropLocked(fp)
	}
	return nil
}

// sweep removes the sockets that a killed process left behind; the lock says that it is gone.
func sweep(run string) {
	old, _ := filepath.Glob(filepath.Join(run, "*.sock"))
	for _, p := range old {
		os.Remove(p)
	}
}

func listen(path string) (net.Listener, error) {
	if len(path) > maxSocket {
		return nil, fmt.Errorf("opening %s: a socket's path has at most %d bytes", path, maxSocket)
	}
	ln, err := net.Listen("unix", path)
	if err != nil {
		return nil, fmt.Errorf("opening a socket: %w", err)
	}
	if err := os.Chmod(path, 0o600); err != nil {
		ln.Close()
		return nil, fmt.Errorf("opening a socket: %w", err)
	}
	return ln, nil
}

// accept serves connections of the same user until the listener closes.
func (s *server) accept(ln net.Listener, serve func(net.Conn)) {
	for {
		c, err := ln.Accept()
		if err != nil {
			return
		}
		if err := checkPeer(c); err != nil {
			s.log.Warn("connection refused", "error", err)
			c.Close()
			continue
		}
		go func() {
			defer c.Close()
			serve(c)
		}()
	}
}

// maybeStop ends the process if nothing is held and nobody is connected.
func (s *server) maybeStop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.keys) == 0 && s.active == 0 {
		s.stop()
	}
}

func (s *server) touchLocked() { s.idle.Reset(s.cfg.IdleGrace) }

func (s *server) control(c net.Conn) {
	s.mu.Lock()
	s.active++
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		s.active--
		s.touchLocked()
		s.mu.Unlock()
	}()
	sc := bufio.NewScanner(c)
	sc.Buffer(nil, maxLine)
	for sc.Scan() {
		a := s.answer(sc.Bytes())
		b, err := json.Marshal(a)
		if err != nil {
			b, _ = json.Marshal(Answer{Error: err.Error()})
		}
		if _, err := c.Write(append(b, '\n')); err != nil {
			return
		}
	}
}

func (s *server) answer(line []byte) *Answer {
	var q request
	d := json.NewDecoder(bytes.NewReader(line))
	d.DisallowUnknownFields()
	err := d.Decode(&q)
	if err == nil && q.Version != version {
		err = fmt.Errorf("control protocol %d, want %d: another build of breakglass", q.Version, version)
	}
	var a *Answer
	if err == nil {
		a, err = s.do(&q)
	}
	if err != nil {
		a = &Answer{Error: err.Error()}
		switch {
		case errors.Is(err, ErrNoKey):
			a.Code = "no_key"
		case errors.Is(err, ErrForbidden):
			a.Code = "forbidden"
		}
	}
	return a
}

func (s *server) do(q *request) (*Answer, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch q.Op {
	case opNewKey:
		return s.newKeyLocked()
	case opInstall:
		return s.installLocked(q)
	case opInstallPass:
		return s.installPassLocked(q)
	case opHold:
		return s.holdRequestLocked(q)
	case opSign:
		h, ok := s.keys[q.Key]
		if !ok {
			return nil, ErrNoKey
		}
		sig, err := h.key.signCall(q.Data)
		if err != nil {
			return nil, err
		}
		return &Answer{Signature: ssh.Marshal(sig)}, nil
	case opList:
		return s.listLocked(), nil
	case opEnd:
		for fp, h := range s.keys {
			switch {
			case h.granted != nil && h.granted.ID == q.Request, h.granted == nil && h.waiting != nil && h.waiting.ID == q.Request:
				s.dropLocked(fp)
				return &Answer{}, nil
			case h.waiting != nil && h.waiting.ID == q.Request: // an extension: the grant stays
				h.waiting = nil
				return &Answer{}, nil
			}
		}
		return nil, ErrNoKey
	case opDrop:
		s.dropLocked(q.Key)
		return &Answer{}, nil
	case opStop:
		s.stop()
		return &Answer{}, nil
	}
	return nil, fmt.Errorf("unknown operation %q", q.Op)
}

func (s *server) newKeyLocked() (*Answer, error) {
	if len(s.keys) >= maxKeys {
		return nil, fmt.Errorf("%d keys are held already", maxKeys)
	}
	k, err := newMemoryKey()
	if err != nil {
		return nil, err
	}
	s.holdLocked(&held{key: k}, keyLifetime)
	return &Answer{PublicKey: string(bytes.TrimSpace(ssh.MarshalAuthorizedKey(k.public)))}, nil
}

// holdLocked keeps h for d from now.
func (s *server) holdLocked(h *held, d time.Duration) {
	fp := fingerprint(h.key.public)
	if h.timer != nil {
		h.timer.Stop()
	}
	h.end = time.Now().Add(d)
	h.timer = time.AfterFunc(d, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.keys[fp] == h {
			s.dropLocked(fp)
		}
	})
	s.keys[fp] = h
}

// dropLocked wipes a key, closes its socket, and ends the process some time after the last.
func (s *server) dropLocked(fp string) {
	h, ok := s.keys[fp]
	if !ok {
		return
	}
	delete(s.keys, fp)
	h.timer.Stop()
	h.closeSocket()
	h.key.wipe()
	s.touchLocked()
}

func (h *held) closeSocket() {
	if h.ln != nil {
		h.ln.Close() // removes the path
		h.ln, h.socket = nil, ""
	}
}

// pendingLocked finds a key that has no use yet.
func (s *server) pendingLocked(fp string, seconds int) (*held, time.Duration, error) {
	h, ok := s.keys[fp]
	if !ok {
		return nil, 0, ErrNoKey
	}
	if h.granted != nil || h.pass != nil {
		return nil, 0, fmt.Errorf("%w: it has its use already", ErrForbidden)
	}
	d := time.Duration(seconds) * time.Second
	if d <= 0 || d > sshcert.MaxClientLifetime {
		return nil, 0, fmt.Errorf("a lifetime of %v", d)
	}
	return h, d, nil
}

// installLocked gives a key its certificate, after checking that it is one and this key's.
func (s *server) installLocked(q *request) (*Answer, error) {
	if q.Granted == nil {
		return nil, errors.New("nothing granted")
	}
	h, d, err := s.pendingLocked(q.Key, q.Seconds)
	if old := s.keys[q.Key]; old != nil && old.granted != nil && old.granted.ID == q.Granted.ID {
		h, d, err = old, time.Duration(q.Seconds)*time.Second, nil // an extension: the same grant, a later end
		if d <= 0 || d > sshcert.MaxClientLifetime {
			return nil, fmt.Errorf("a lifetime of %v", d)
		}
	}
	if err != nil {
		return nil, err
	}
	cert, err := sshcert.Parse([]byte(q.Granted.Certificate))
	if err != nil {
		return nil, err
	}
	if err := sshcert.Check(cert, sshcert.Client); err != nil {
		return nil, err
	}
	if !bytes.Equal(cert.Key.Marshal(), h.key.public.Marshal()) {
		return nil, fmt.Errorf("%w: the certificate is another key's", ErrForbidden)
	}
	g, err := sshcert.ParseGrant(cert.CriticalOptions[sshcert.OptionGrant])
	if err != nil {
		return nil, err
	}
	if want := (sshcert.Grant{Request: q.Granted.ID, Login: q.Granted.Login, Host: q.Granted.Host}); g != want {
		return nil, fmt.Errorf("%w: the certificate is for %s", ErrForbidden, g)
	}
	if h.granted != nil {
		if cert.ValidBefore <= h.agent.certificate().ValidBefore {
			return nil, fmt.Errorf("%w: it holds a certificate that lasts as long", ErrForbidden)
		}
		h.granted, h.waiting = q.Granted, nil
		h.agent.extend(cert)
		s.holdLocked(h, d)
		return &Answer{Socket: h.socket}, nil
	}
	// The newest grant of a login@host has the socket; the older key stays for reads of its own request.
	for _, old := range s.keys {
		if old.granted != nil && old.granted.Login == g.Login && old.granted.Host == g.Host {
			old.closeSocket()
		}
	}
	path := SocketPath(s.cfg.Home, g.Login, g.Host, g.Request)
	ln, err := listen(path)
	if err != nil {
		return nil, err
	}
	a := &grantAgent{key: h.key, cert: cert, login: g.Login, host: g.Host, comment: fmt.Sprintf("%s %s@%s", g.Request, g.Login, g.Host)}
	h.granted, h.agent, h.ln, h.socket, h.waiting = q.Granted, a, ln, path, nil
	s.holdLocked(h, d)
	go s.accept(ln, s.serveAgent(a))
	return &Answer{Socket: path}, nil
}

func (s *server) serveAgent(a agent.Agent) func(net.Conn) {
	return func(c net.Conn) {
		if err := agent.ServeAgent(a, c); !errors.Is(err, io.EOF) {
			s.log.Debug("ssh-agent connection", "error", err)
		}
	}
}

// installPassLocked says what a key reads with; an older pass ends.
func (s *server) installPassLocked(q *request) (*Answer, error) {
	h, d, err := s.pendingLocked(q.Key, q.Seconds)
	if err != nil {
		return nil, err
	}
	for fp, old := range s.keys {
		if old.pass != nil {
			s.dropLocked(fp)
		}
	}
	h.pass = &Pass{Person: q.Person, Key: q.Key, Until: q.Until,
		PublicKey: string(bytes.TrimSpace(ssh.MarshalAuthorizedKey(h.key.public)))}
	s.holdLocked(h, d)
	return &Answer{}, nil
}

func (s *server) listLocked() *Answer {
	a := &Answer{}
	for fp, h := range s.keys {
		left := int(time.Until(h.end).Seconds())
		if h.waiting != nil {
			w := *h.waiting
			w.Left = int(time.Until(w.end).Seconds())
			if w.Left > 0 {
				a.Waiting = append(a.Waiting, w)
			}
		}
		switch {
		case h.granted != nil:
			a.Grants = append(a.Grants, Grant{Granted: *h.granted, Key: fp, Socket: h.socket, Left: left})
		case h.pass != nil:
			p := *h.pass
			p.Left = left
			a.Pass = &p
		}
	}
	return a
}

// SocketPath is where the ssh-agent of a grant stands: by login and host, so that an ssh_config can name it. A path too long
// for a socket falls back to the request's id, which `breakglass ssh` finds and plain ssh doesn't.
func SocketPath(h home.Home, l name.Login, host name.Host, r name.RequestID) string {
	if p := h.Socket(string(l) + "@" + string(host)); len(p) <= maxSocket {
		return p
	}
	return h.Socket(string(r))
}
