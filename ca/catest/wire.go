package catest

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"

	"breakglass/ca/api"
	"breakglass/internal/sshsig"
	"breakglass/internal/statement"
)

// Wire calls the CA's handler as a client at some address would, past TLS and past every check that our own client makes.
type Wire struct {
	CA     *CA
	From   string     // IP:PORT that the CA sees
	Signer ssh.Signer // of calls; nil makes unsigned ones
	// Bend changes a signed call after its statement was made and before it is signed, and what goes out after that.
	Bend func(call *statement.Call, out *http.Request)
}

// Here is where honest people of catest.Policy are.
const Here = "127.0.0.1:4000"

// Wire calls from Here, unsigned.
func (c *CA) Wire() *Wire { return &Wire{CA: c, From: Here} }

// At is the same from another address.
func (w *Wire) At(from string) *Wire { v := *w; v.From = from; return &v }

// By is the same with signed calls.
func (w *Wire) By(s ssh.Signer) *Wire { v := *w; v.Signer = s; return &v }

// ErrAnswer says that the CA answered neither with success nor with a problem.
var ErrAnswer = errors.New("no answer")

// Post sends in as JSON, and decodes into out unless that is nil. A problem is the error.
func (w *Wire) Post(path string, in, out any) error { return w.Do("POST", path, in, out) }

// Get reads.
func (w *Wire) Get(path string, out any) error { return w.Do("GET", path, nil, out) }

// Do makes any call; in is JSON unless it is a []byte already, out a []byte's address or what JSON decodes into.
func (w *Wire) Do(method, path string, in, out any) error {
	var body []byte
	switch x := in.(type) {
	case nil:
	case []byte:
		body = x
	default:
		var err error
		if body, err = json.Marshal(in); err != nil {
			return err
		}
	}
	r := httptest.NewRequest(method, path, bytes.NewReader(body))
	r.RemoteAddr = w.From
	if w.Signer != nil {
		if err := w.sign(r, body); err != nil {
			return err
		}
	}
	rec := httptest.NewRecorder()
	w.CA.CA.Handler().ServeHTTP(rec, r)
	if rec.Code < 200 || rec.Code > 299 {
		if strings.Contains(rec.Body.String(), "-cert-v01@openssh.com") {
			w.CA.T.Errorf("%s %s: a certificate goes out with a refusal: %s", method, path, rec.Body)
		}
		p := new(api.Problem)
		if err := json.Unmarshal(rec.Body.Bytes(), p); err != nil || p.Code == "" {
			return fmt.Errorf("%w: status %d: %s", ErrAnswer, rec.Code, rec.Body)
		}
		return p
	}
	if rec.Code == http.StatusAccepted { // a signed request that waits: an error, as package client has it
		waits := new(api.Waiting)
		if err := json.Unmarshal(rec.Body.Bytes(), waits); err != nil {
			return err
		}
		return waits
	}
	switch x := out.(type) {
	case nil:
		return nil
	case *[]byte:
		*x = rec.Body.Bytes()
		return nil
	}
	return json.Unmarshal(rec.Body.Bytes(), out)
}

func (w *Wire) sign(r *http.Request, body []byte) error {
	call := &statement.Call{Origin: w.CA.Pins.Site.Origin, Method: r.Method, Path: r.URL.RequestURI(), Body: sha256.Sum256(body),
		Issued: w.CA.now().UTC().Truncate(time.Second), Nonce: statement.NewNonce()}
	if w.Bend != nil {
		w.Bend(call, r)
	}
	text, err := statement.Marshal(call)
	if err != nil {
		return err
	}
	sig, err := sshsig.Sign(w.Signer, statement.KindCall.Namespace(), text)
	if err != nil {
		return err
	}
	r.Header.Set(api.HeaderCall, base64.StdEncoding.EncodeToString(text))
	r.Header.Set(api.HeaderSignature, base64.StdEncoding.EncodeToString(sig.Armor()))
	return nil
}
