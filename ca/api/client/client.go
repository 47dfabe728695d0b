// Package client speaks to the CA for agent, jump and cmd.
//
// It guarantees to its caller: the server proved a pinned key (SHA-256 of its SubjectPublicKeyInfo; its name and dates count for
// nothing, DESIGN.md section 4 "First trust"), answers are decoded strictly and within limits, every error is either a *api.Problem
// (the CA answered) or wraps ErrUnreachable (which address, and how it failed), and what an answer claims to be in the ledger was proved
// against a checkpoint that the pinned ledger key signed and that does not go back behind one seen before.
package client

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/crypto/ssh"

	"breakglass/ca/api"
	"breakglass/internal/sshsig"
	"breakglass/internal/statement"
	"breakglass/ledger"
)

const (
	// dialTimeout bounds tcp and TLS to one address; the next address is begun after dialStagger.
	dialTimeout = 5 * time.Second
	dialStagger = 250 * time.Millisecond
	// callTimeout bounds a whole call that has no shorter context: longer than the CA's slowest answer.
	callTimeout = 60 * time.Second
	// headerTimeout bounds the wait for an answer's first byte, also of a stream, whose body has no limit of time.
	headerTimeout = 30 * time.Second
	// maxHeader bounds an answer's headers.
	maxHeader = 64 << 10
	// maxAnswer bounds a JSON answer: evidence of a long session is the largest.
	maxAnswer = 64 << 20
)

var (
	// ErrUnreachable says that no address of the CA answered as the CA.
	ErrUnreachable = errors.New("the CA can't be reached")
	// ErrPin says that a server showed a key that is not pinned. It is never ErrUnreachable's cause alone: somebody answers in the CA's place.
	ErrPin = errors.New("the server's key is not the pinned one")
	// ErrOlder says that the CA is of a version that doesn't know what it was asked.
	ErrOlder = errors.New("the CA is older than this program")
	// ErrAnswer says that the CA's answer can't be read.
	ErrAnswer = errors.New("the CA's answer can't be read")
)

// Config makes a Client.
type Config struct {
	Pins   api.Pins
	Signer ssh.Signer       // signs calls; nil makes only unsigned ones
	Memory Memory           // of checkpoints; nil: the pins' own, in memory
	Now    func() time.Time // nil is time.Now
	// Elsewhere, if not nil, is called with each answer of a CA that keeps another ledger than the pinned one (ErrSucceeded). It must not block.
	Elsewhere func()
}

// Client is safe for concurrent use.
type Client struct {
	pins   api.Pins
	signer ssh.Signer
	now    func() time.Time
	http   *http.Client
	dialer *dialer
	ledger *follower
	other  func()
}

// New makes a client; it connects at its first call.
func New(cfg Config) (*Client, error) {
	if err := cfg.Pins.Validate(); err != nil {
		return nil, err
	}
	c := &Client{pins: cfg.Pins, signer: cfg.Signer, now: cfg.Now, other: cfg.Elsewhere}
	if c.now == nil {
		c.now = time.Now
	}
	var err error
	if c.ledger, err = newFollower(cfg.Pins, cfg.Memory); err != nil {
		return nil, err
	}
	d := &dialer{}
	c.dialer = d
	d.follow(cfg.Pins.Site)
	c.http = &http.Client{
		Transport: &http.Transport{
			DialTLSContext: d.dial, ForceAttemptHTTP2: false, MaxIdleConnsPerHost: 8, IdleConnTimeout: 90 * time.Second,
			DisableCompression: true, ResponseHeaderTimeout: headerTimeout, MaxResponseHeaderBytes: maxHeader,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	return c, nil
}

// WithSigner is the same client signing its calls with s.
func (c *Client) WithSigner(s ssh.Signer) *Client {
	d := *c
	d.signer = s
	return &d
}

// Follow takes the TLS keys and addresses of a site that is proven to be of the pinned ledger, for connections from now on. Those that are
// open were judged when they began.
func (c *Client) Follow(s ledger.Site) {
	if s.Origin != c.pins.Site.Origin || s.LedgerKey != c.pins.Site.LedgerKey || len(s.TLS) == 0 || len(s.Addresses) == 0 {
		return
	}
	c.dialer.follow(s)
}

// Pins are what the client was made with.
func (c *Client) Pins() api.Pins { return c.pins }

// Close gives idle connections back.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// pinned accepts exactly the servers whose key's hash is listed. InsecureSkipVerify turns off the judgement of names, dates and
// chains, which mean nothing here; VerifyConnection is called on every handshake, resumed ones too, and puts the pin in its place.
func pinned(spki []string) *tls.Config {
	return &tls.Config{
		MinVersion:         tls.VersionTLS13,
		InsecureSkipVerify: true,
		VerifyConnection: func(s tls.ConnectionState) error {
			if len(s.PeerCertificates) == 0 {
				return ErrPin
			}
			h := sha256.Sum256(s.PeerCertificates[0].RawSubjectPublicKeyInfo)
			if !slices.Contains(spki, hex.EncodeToString(h[:])) {
				return ErrPin
			}
			return nil
		},
	}
}

// dialer tries the CA's addresses, each a little after the one before, and remembers which answered.
type dialer struct {
	mu        sync.Mutex
	addresses []string
	tls       *tls.Config
	good      string
	api       int // the version that the CA spoke last; 0: not heard yet
}

func (d *dialer) speaks(version int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.api = version
}

// version is the CA's, as far as it has said.
func (d *dialer) version() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.api == 0 {
		return api.Version
	}
	return d.api
}

func (d *dialer) follow(s ledger.Site) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.addresses, d.tls = s.Addresses, pinned(s.TLS)
}

func (d *dialer) pins() *tls.Config {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.tls
}

func (d *dialer) order() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	out := slices.Clone(d.addresses)
	slices.SortStableFunc(out, func(a, b string) int {
		return boolInt(b == d.good) - boolInt(a == d.good)
	})
	return out
}

func boolInt(b bool) int {
	if b {
		return 1
	}
	return 0
}

// dial begins with the address that answered last. The next one is begun when that fails, or when it has not answered after
// dialStagger; the first that proves the pinned key is taken.
func (d *dialer) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	type result struct {
		conn net.Conn
		addr string
		err  error
	}
	waiting := d.order()
	results := make(chan result, len(waiting))
	running := 0
	begin := func() {
		a := waiting[0]
		waiting = waiting[1:]
		running++
		go func() {
			t, cancel := context.WithTimeout(ctx, dialTimeout)
			defer cancel()
			conn, err := (&tls.Dialer{Config: d.pins()}).DialContext(t, "tcp", a)
			if err != nil {
				results <- result{nil, a, fmt.Errorf("%s: %w", a, err)}
				return
			}
			results <- result{conn, a, nil}
		}()
	}
	var errs []error
	stagger := time.NewTimer(dialStagger)
	defer stagger.Stop()
	begin()
	for running > 0 {
		select {
		case <-stagger.C:
			if len(waiting) > 0 {
				begin()
				stagger.Reset(dialStagger)
			}
		case r := <-results:
			running--
			if r.err == nil {
				d.remember(r.addr)
				go func() { // the slower ones, if they still come
					for range running {
						if r := <-results; r.conn != nil {
							r.conn.Close()
						}
					}
				}()
				return r.conn, nil
			}
			errs = append(errs, r.err)
			if len(waiting) > 0 && ctx.Err() == nil {
				begin()
				stagger.Reset(dialStagger)
			}
		}
	}
	return nil, errors.Join(errs...)
}

func (d *dialer) remember(addr string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.good = addr
}

// call makes one call. in is marshalled unless it is nil or []byte; out is decoded unless it is nil or *[]byte.
func (c *Client) call(ctx context.Context, method, path string, in, out any) error {
	if _, ok := ctx.Deadline(); !ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, callTimeout)
		defer cancel()
	}
	resp, err := c.send(ctx, method, path, in)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	if err != nil {
		return fmt.Errorf("%w: reading the answer: %w", ErrUnreachable, err)
	}
	if len(body) > maxAnswer {
		return fmt.Errorf("%w: over %d bytes", ErrAnswer, maxAnswer)
	}
	switch o := out.(type) {
	case nil:
		return nil
	case *[]byte:
		*o = body
		return nil
	}
	d := json.NewDecoder(bytes.NewReader(body))
	d.DisallowUnknownFields()
	if err := d.Decode(out); err != nil {
		return fmt.Errorf("%w: %s %s: %w", ErrAnswer, method, path, err)
	}
	if _, err := d.Token(); err != io.EOF {
		return fmt.Errorf("%w: %s %s: something follows the JSON", ErrAnswer, method, path)
	}
	return nil
}

// send makes the request and turns a problem into an error; the caller closes the body. What a CA refuses that is older than what it was asked is
// ErrOlder: leaving that out would ask for something else.
func (c *Client) send(ctx context.Context, method, path string, in any) (*http.Response, error) {
	resp, err := c.sendOnce(ctx, method, path, in)
	p := new(api.Problem)
	if _, raw := in.([]byte); raw || in == nil || !errors.As(err, &p) || p.Status != http.StatusBadRequest {
		return resp, err
	}
	if v := c.dialer.version(); v < api.Version && !reflect.DeepEqual(api.Trim(in, v), in) {
		return nil, fmt.Errorf("%w: it speaks version %d of the interface, this asks for what came later: %w", ErrOlder, v, err)
	}
	return resp, err
}

func (c *Client) sendOnce(ctx context.Context, method, path string, in any) (*http.Response, error) {
	var body []byte
	typ := "application/json"
	switch x := in.(type) {
	case nil:
	case []byte:
		body, typ = x, "application/octet-stream"
	default:
		var err error
		if body, err = json.Marshal(in); err != nil {
			return nil, err
		}
	}
	// The host name is a label: the dialer goes to the pinned addresses.
	req, err := http.NewRequestWithContext(ctx, method, "https://breakglass-ca"+path, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	if len(body) > 0 {
		req.Header.Set("Content-Type", typ)
	}
	req.Header.Set(api.HeaderVersion, strconv.Itoa(api.Version))
	if c.signer != nil {
		if err := c.sign(req, body); err != nil {
			return nil, err
		}
	}
	resp, err := c.http.Do(req)
	if err != nil {
		if errors.Is(err, ErrPin) {
			return nil, fmt.Errorf("%w: %w", ErrUnreachable, ErrPin)
		}
		return nil, fmt.Errorf("%w: %w", ErrUnreachable, unwrapURL(err))
	}
	theirs, err := api.ParseVersion(resp.Header.Get(api.HeaderVersion))
	if err != nil {
		resp.Body.Close()
		return nil, fmt.Errorf("%w: %w", ErrAnswer, err)
	}
	c.dialer.speaks(theirs)
	if !strings.HasPrefix(path, api.PathSuccession) { // what proves it is asked of the other one
		if err := c.elsewhere(resp.Header); err != nil {
			resp.Body.Close()
			return nil, err
		}
	}
	if resp.StatusCode < 300 {
		return resp, nil
	}
	defer resp.Body.Close()
	text, _ := io.ReadAll(io.LimitReader(resp.Body, api.MaxBody))
	p := &api.Problem{}
	if !strings.HasPrefix(resp.Header.Get("Content-Type"), "application/problem+json") || json.Unmarshal(text, p) != nil || p.Code == "" {
		return nil, fmt.Errorf("%w: %s %s: status %s", ErrAnswer, method, path, resp.Status)
	}
	return nil, p
}

// unwrapURL takes off "Post "https://breakglass-ca/…":", which names nothing real.
func unwrapURL(err error) error {
	if u := errors.Unwrap(err); u != nil {
		return u
	}
	return err
}

// sign puts a call statement and its signature into the headers.
func (c *Client) sign(req *http.Request, body []byte) error {
	text, err := statement.Marshal(&statement.Call{
		Origin: c.pins.Site.Origin, Method: req.Method, Path: req.URL.RequestURI(), Body: sha256.Sum256(body),
		Issued: c.now().UTC().Truncate(time.Second), Nonce: statement.NewNonce(),
	})
	if err != nil {
		return err
	}
	sig, err := sshsig.Sign(c.signer, statement.KindCall.Namespace(), text)
	if err != nil {
		return fmt.Errorf("signing the call: %w", err)
	}
	req.Header.Set(api.HeaderCall, base64.StdEncoding.EncodeToString(text))
	req.Header.Set(api.HeaderSignature, base64.StdEncoding.EncodeToString(sig.Armor()))
	return nil
}
