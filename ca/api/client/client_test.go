package client_test

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/crypto/ssh"
	"golang.org/x/mod/sumdb/note"

	"breakglass/ca/api"
	"breakglass/ca/api/client"
	"breakglass/internal/sshsig"
	"breakglass/internal/statement"
	"breakglass/ledger"
)

const origin = "breakglass.test/ledger"

// fake is a CA that keeps a real ledger and answers as the test tells it.
type fake struct {
	*httptest.Server
	t      *testing.T
	mux    *http.ServeMux
	signer note.Signer
	vkey   string
	mu     sync.Mutex
	log    ledger.Memory
	texts  [][]byte
}

func certificate(t *testing.T) tls.Certificate {
	t.Helper()
	pub, priv, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	// Expired, and without any name: neither counts.
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Unix(0, 0), NotAfter: time.Unix(1, 0)}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, pub, priv)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: priv}
}

func newFake(t *testing.T) *fake {
	t.Helper()
	f := &fake{t: t, mux: http.NewServeMux()}
	skey, vkey, err := ledger.GenerateKey(origin)
	if err != nil {
		t.Fatal(err)
	}
	if f.signer, err = ledger.NewSigner(skey); err != nil {
		t.Fatal(err)
	}
	f.vkey = vkey
	f.mux.HandleFunc("GET /v1/proof/consistency", f.consistency)
	f.Server = httptest.NewUnstartedServer(f.mux)
	f.TLS = &tls.Config{Certificates: []tls.Certificate{certificate(t)}, MinVersion: tls.VersionTLS13}
	f.StartTLS()
	t.Cleanup(f.Close)
	f.add("first")
	return f
}

// add appends an entry that says text.
func (f *fake) add(text string) int64 {
	f.t.Helper()
	e, err := ledger.Encode(&ledger.Entry{Time: ledger.At(time.Unix(1000, 0)), Actor: ledger.ActorCA, Facts: &ledger.CAStarted{Version: text}})
	if err != nil {
		f.t.Fatal(err)
	}
	return f.addBytes(e)
}

func (f *fake) addBytes(e []byte) int64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.log.Append(e); err != nil {
		f.t.Fatal(err)
	}
	f.texts = append(f.texts, e)
	return f.log.Size() - 1
}

func (f *fake) head(size int64) string {
	f.t.Helper()
	f.mu.Lock()
	defer f.mu.Unlock()
	pin, err := f.log.Checkpoint(size)
	if err != nil {
		f.t.Fatal(err)
	}
	s, err := ledger.Checkpoint{Origin: origin, Size: pin.Size, Root: pin.Root}.Sign(f.signer)
	if err != nil {
		f.t.Fatal(err)
	}
	return s
}

func (f *fake) proven(index, size int64) api.ProvenEntry {
	f.t.Helper()
	proof, err := ledger.ProveInclusion(size, index, &f.log)
	if err != nil {
		f.t.Fatal(err)
	}
	return api.ProvenEntry{Index: index, Entry: string(f.texts[index]), Proof: proof, Checkpoint: f.head(size)}
}

func (f *fake) consistency(w http.ResponseWriter, r *http.Request) {
	var p api.ConsistencyProof
	if _, err := fmt.Sscanf(r.URL.RawQuery, "from=%d&to=%d", &p.From, &p.To); err != nil {
		f.t.Error(err)
	}
	f.mu.Lock()
	proof, err := ledger.ProveConsistency(p.From, p.To, &f.log)
	short := p.To > f.log.Size()
	f.mu.Unlock()
	if short || err != nil {
		problem(w, api.Problem{Status: 404, Code: api.CodeNotFound, Detail: "no such size"})
		return
	}
	p.Proof = proof
	json.NewEncoder(w).Encode(p)
}

func problem(w http.ResponseWriter, p api.Problem) {
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(p.Status)
	json.NewEncoder(w).Encode(p)
}

func (f *fake) answer(pattern string, v any) {
	f.mux.HandleFunc(pattern, func(w http.ResponseWriter, _ *http.Request) { json.NewEncoder(w).Encode(v) })
}

func pinOf(c tls.Certificate) string {
	leaf, err := x509.ParseCertificate(c.Certificate[0])
	if err != nil {
		panic(err)
	}
	h := sha256.Sum256(leaf.RawSubjectPublicKeyInfo)
	return hex.EncodeToString(h[:])
}

func sshKey(t *testing.T) ssh.Signer {
	t.Helper()
	_, priv, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	s, err := ssh.NewSignerFromKey(priv)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func authorized(k ssh.PublicKey) string {
	return strings.TrimSpace(string(ssh.MarshalAuthorizedKey(k)))
}

func (f *fake) pins() api.Pins {
	k := []string{authorized(sshKey(f.t).PublicKey())}
	return api.Pins{
		Site: ledger.Site{
			Name: "test", Profile: "demo", Origin: origin, Epoch: 1, LedgerKey: f.vkey, ClientCA: k, SessionCA: k, HostCA: k,
			// The standby's pin first: the server's has only to be among them.
			TLS: []string{strings.Repeat("00", 32), pinOf(f.TLS.Certificates[0])}, Addresses: []string{f.Listener.Addr().String()},
		},
		Checkpoint: f.head(1),
	}
}

func (f *fake) client(change ...func(*client.Config)) *client.Client {
	f.t.Helper()
	cfg := client.Config{Pins: f.pins()}
	for _, c := range change {
		c(&cfg)
	}
	c, err := client.New(cfg)
	if err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(c.Close)
	return c
}

func dead(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

func TestTheServerIsJudgedByItsKeyAlone(t *testing.T) {
	f := newFake(t)
	f.answer("POST /v1/requests", api.Challenge{ID: "x"})
	other := certificate(t)
	for _, c := range []struct {
		what string
		pins []string
		want error
	}{
		{"the pinned key, under an expired certificate without names", f.pins().Site.TLS, nil},
		{"another key", []string{pinOf(other)}, client.ErrPin},
	} {
		cl := f.client(func(cfg *client.Config) { cfg.Pins.Site.TLS = c.pins })
		got, err := cl.Ask(t.Context(), api.Ask{Person: "alice"})
		if !errors.Is(err, c.want) || err == nil && got.ID != "x" {
			t.Errorf("%s: %v", c.what, err)
		}
	}
}

func TestOlderTLSIsRefused(t *testing.T) {
	f := newFake(t)
	f.TLS.MinVersion, f.TLS.MaxVersion = tls.VersionTLS12, tls.VersionTLS12
	if _, err := f.client().Checkpoint(t.Context()); !errors.Is(err, client.ErrUnreachable) || !strings.Contains(err.Error(), "version") {
		t.Error(err)
	}
}

// silent accepts connections and never says a word.
func silent(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			t.Cleanup(func() { c.Close() })
		}
	}()
	return l.Addr().String()
}

func TestTheFirstGoodAddressIsTaken(t *testing.T) {
	f := newFake(t)
	f.answer("POST /v1/requests", api.Challenge{ID: "x"})
	imposter := newFake(t) // another key
	good := f.Listener.Addr().String()
	for what, addrs := range map[string][]string{
		"a dead one first":      {dead(t), good},
		"a silent one first":    {silent(t), good},
		"an imposter first":     {imposter.Listener.Addr().String(), good},
		"all sorts ahead of it": {dead(t), silent(t), imposter.Listener.Addr().String(), good},
	} {
		start := time.Now()
		c := f.client(func(cfg *client.Config) { cfg.Pins.Site.Addresses = addrs })
		if _, err := c.Ask(t.Context(), api.Ask{}); err != nil {
			t.Errorf("%s: %v", what, err)
		}
		if d := time.Since(start); d > 3*time.Second {
			t.Errorf("%s: took %v", what, d)
		}
	}
}

func TestUnreachableNamesEachAddress(t *testing.T) {
	f := newFake(t)
	a, b := dead(t), dead(t)
	c := f.client(func(cfg *client.Config) { cfg.Pins.Site.Addresses = []string{a, b} })
	_, err := c.Checkpoint(t.Context())
	if !errors.Is(err, client.ErrUnreachable) {
		t.Fatal(err)
	}
	for _, want := range []string{a, b, "refused"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q is missing in %v", want, err)
		}
	}
}

func TestAHangingServerIsGivenUp(t *testing.T) {
	f := newFake(t)
	stop := make(chan struct{})
	t.Cleanup(func() { close(stop) })
	f.mux.HandleFunc("POST /v1/requests", func(http.ResponseWriter, *http.Request) { <-stop })
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	_, err := f.client().Ask(ctx, api.Ask{})
	if !errors.Is(err, client.ErrUnreachable) || !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
}

func TestAProblemIsAnError(t *testing.T) {
	f := newFake(t)
	want := api.Problem{Status: 403, Title: "denied", Code: api.CodeDenied, Detail: "no", Next: []string{"breakglass request root@db01"},
		Reasons: []ledger.Reason{{Code: "country_unknown", Detail: "…"}}, Rule: "r", Request: "k7f-2mq"}
	f.mux.HandleFunc("POST /v1/requests", func(w http.ResponseWriter, _ *http.Request) { problem(w, want) })
	_, err := f.client().Ask(t.Context(), api.Ask{})
	var got *api.Problem
	if !errors.As(err, &got) || errors.Is(err, client.ErrUnreachable) {
		t.Fatal(err)
	}
	if d := cmp.Diff(&want, got); d != "" {
		t.Error(d)
	}
}

func TestAnswersThatCantBeRead(t *testing.T) {
	for what, h := range map[string]http.HandlerFunc{
		"an unknown field":     func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, `{"id":"x","root":true}`) },
		"no JSON":              func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, `<html>`) },
		"two values":           func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, `{"id":"x"}{}`) },
		"a proxy's error page": func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "bad gateway", http.StatusBadGateway) },
		"a problem of no code": func(w http.ResponseWriter, _ *http.Request) { problem(w, api.Problem{Status: 500}) },
		"a redirect": func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "https://elsewhere.example/", http.StatusTemporaryRedirect)
		},
		"more than the limit": func(w http.ResponseWriter, _ *http.Request) {
			for page := []byte(strings.Repeat(" ", 1<<20)); ; {
				if _, err := w.Write(page); err != nil {
					return
				}
			}
		},
	} {
		f := newFake(t)
		f.mux.HandleFunc("POST /v1/requests", h)
		if _, err := f.client().Ask(t.Context(), api.Ask{}); !errors.Is(err, client.ErrAnswer) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

func TestACallIsSignedOverMethodPathAndBody(t *testing.T) {
	f := newFake(t)
	key := sshKey(t)
	now := time.Date(2026, 11, 24, 3, 0, 0, 0, time.UTC)
	var calls []statement.Call
	f.mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		text, err1 := base64.StdEncoding.DecodeString(r.Header.Get(api.HeaderCall))
		armored, err2 := base64.StdEncoding.DecodeString(r.Header.Get(api.HeaderSignature))
		sig, err3 := sshsig.Parse(armored)
		var call statement.Call
		if err := errors.Join(err1, err2, err3, statement.Parse(text, &call)); err != nil {
			t.Error(err)
			return
		}
		if err := sig.Verify(key.PublicKey(), statement.KindCall.Namespace(), text); err != nil {
			t.Error(err)
		}
		if call.Body != statement.Hash(sha256.Sum256(body)) || call.Path != r.RequestURI || call.Method != r.Method || call.Origin != origin || !call.Issued.Equal(now) {
			t.Errorf("%s %s: %+v", r.Method, r.RequestURI, call)
		}
		calls = append(calls, call)
		io.WriteString(w, "[]")
	})
	plain := f.client(func(cfg *client.Config) { cfg.Now = func() time.Time { return now } })
	c := plain.WithSigner(key)
	if _, err := c.Sessions(t.Context(), "k7f-2mq"); err != nil {
		t.Error(err)
	}
	if err := c.PutEnvelope(t.Context(), "k7f-2mq/1", []byte("envelope")); err != nil {
		t.Error(err)
	}
	if len(calls) != 2 || calls[0].Nonce == calls[1].Nonce {
		t.Errorf("want two calls with nonces of their own: %+v", calls)
	}
	f.mux.HandleFunc("POST /v1/requests", func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get(api.HeaderCall) != "" {
			t.Error("a client without signer signed")
		}
		io.WriteString(w, "{}")
	})
	if _, err := plain.Ask(t.Context(), api.Ask{}); err != nil {
		t.Error(err)
	}
}

func TestATranscriptIsStreamed(t *testing.T) {
	f := newFake(t)
	f.mux.HandleFunc("GET /v1/transcripts/k7f-2mq.1", func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "sealed") })
	r, err := f.client().Transcript(t.Context(), "k7f-2mq/1")
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if b, err := io.ReadAll(r); err != nil || string(b) != "sealed" {
		t.Errorf("%q, %v", b, err)
	}
}

func writeJSON(t *testing.T, w http.ResponseWriter, v any) {
	t.Helper()
	if err := json.NewEncoder(w).Encode(v); err != nil {
		t.Error(err)
	}
}

// An older CA, which names no version, refuses what it doesn't know; the person hears which of the two is old. What it knows works.
func TestAnOlderCAIsNamed(t *testing.T) {
	f := newFake(t)
	f.mux.HandleFunc("POST /v1/orders/{id}/signature", func(w http.ResponseWriter, r *http.Request) {
		if v, err := api.ParseVersion(r.Header.Get(api.HeaderVersion)); err != nil || v != api.Version {
			t.Errorf("the client says version %d, %v", v, err)
		}
		body, _ := io.ReadAll(r.Body)
		if strings.Contains(string(body), "recovery") {
			w.Header().Set("Content-Type", "application/problem+json")
			w.WriteHeader(400)
			io.WriteString(w, `{"status":400,"code":"bad_request","detail":"json: unknown field \"recovery\""}`)
			return
		}
		io.WriteString(w, `{}`)
	})
	c := f.client()
	if _, err := c.SignOrder(context.Background(), "x", api.SignedOrder{SSHSIG: "y"}); err != nil {
		t.Error(err)
	}
	_, err := c.SignOrder(context.Background(), "x", api.SignedOrder{SSHSIG: "y", Recovery: "age1x"})
	if p := new(api.Problem); !errors.Is(err, client.ErrOlder) || !errors.As(err, &p) {
		t.Errorf("%v", err)
	}
}
