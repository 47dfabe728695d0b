package transcript

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"unicode/utf8"

	"breakglass/internal/name"
)

// Version is the format's version.
const Version = 1

// The only algorithms of v1.
const (
	AEAD = "aes256gcm"
	Comp = "zstd"
)

// Header is the first frame: what is recorded, and what it hangs on.
type Header struct {
	V       int            `json:"v"`
	Session name.SessionID `json:"session"`
	SID     SID            `json:"sid"`
	Jump    name.Jump      `json:"jump"`
	Origin  string         `json:"origin"`
	Person  name.Person    `json:"person"`
	Login   name.Login     `json:"login"`
	Host    name.Host      `json:"host"`
	Door    string         `json:"door"`  // hop, intercept, user
	T0      int64          `json:"t0_us"` // µs since 1970 UTC
	Bind    Hash           `json:"bind"`  // SHA-256 of the session.opened entry
	Prev    Checkpoint     `json:"prev"`
	AEAD    string         `json:"aead"`
	Comp    string         `json:"comp"`
	KC      Hash           `json:"kc"`  // key commitment
	Env     Hash           `json:"env"` // SHA-256 of the envelope
}

// Checkpoint is a ledger's size and root hash.
type Checkpoint struct {
	Size int64 `json:"size"`
	Hash Hash  `json:"hash"`
}

// The doors of a jump (DESIGN.md section 4).
const (
	DoorHop       = "hop"       // one hop, the host named in a preamble or by the certificate
	DoorIntercept = "intercept" // stock `ssh -J jump host`
	DoorUser      = "user"      // stock `ssh login@host@jump`
)

// maxOrigin bounds the origin; a ledger's is a host name and a path.
const maxOrigin = 256

// check holds the fields against the format.
func (h *Header) check() error {
	if h.V != Version {
		return fmt.Errorf("%w: version %d, this program reads %d", ErrHeader, h.V, Version)
	}
	if s, err := name.ParseSessionID(string(h.Session)); err != nil || s != h.Session {
		return fmt.Errorf("%w: session %q", ErrHeader, h.Session)
	}
	if _, err := name.ParseJump(string(h.Jump)); err != nil {
		return fmt.Errorf("%w: %w", ErrHeader, err)
	}
	if _, err := name.ParsePerson(string(h.Person)); err != nil {
		return fmt.Errorf("%w: %w", ErrHeader, err)
	}
	if _, err := name.ParseLogin(string(h.Login)); err != nil {
		return fmt.Errorf("%w: %w", ErrHeader, err)
	}
	if _, err := name.ParseHost(string(h.Host)); err != nil {
		return fmt.Errorf("%w: %w", ErrHeader, err)
	}
	if h.Origin == "" || len(h.Origin) > maxOrigin || !plain(h.Origin) {
		return fmt.Errorf("%w: origin %q", ErrHeader, h.Origin)
	}
	switch h.Door {
	case DoorHop, DoorIntercept, DoorUser:
	default:
		return fmt.Errorf("%w: door %q", ErrHeader, h.Door)
	}
	switch {
	case h.AEAD != AEAD:
		return fmt.Errorf("%w: aead %q", ErrHeader, h.AEAD)
	case h.Comp != Comp:
		return fmt.Errorf("%w: comp %q", ErrHeader, h.Comp)
	case h.T0 <= 0:
		return fmt.Errorf("%w: t0_us %d", ErrHeader, h.T0)
	case h.Prev.Size < 0:
		return fmt.Errorf("%w: prev size %d", ErrHeader, h.Prev.Size)
	case h.SID == SID{}, h.Bind == Hash{}, h.KC == Hash{}, h.Env == Hash{}:
		return fmt.Errorf("%w: sid, bind, kc or env is zero", ErrHeader)
	}
	return nil
}

// plain: printable ASCII without a space; an origin is shown to people as it is.
func plain(s string) bool {
	for i := range len(s) {
		if s[i] <= ' ' || s[i] > '~' {
			return false
		}
	}
	return true
}

// encode gives the header's JSON.
func (h *Header) encode() ([]byte, error) {
	if err := h.check(); err != nil {
		return nil, err
	}
	return json.Marshal(h)
}

// parseHeader reads a HEADER's body. It accepts exactly what encode gives: the one spelling leaves no room for repeated
// or differently spelt fields, which two parsers could read in two ways.
func parseHeader(b []byte) (Header, error) {
	var h Header
	if len(b) > MaxHeader || !utf8.Valid(b) {
		return h, fmt.Errorf("%w: too long or not UTF-8", ErrHeader)
	}
	if err := strict(b, &h); err != nil {
		return h, fmt.Errorf("%w: %w", ErrHeader, err)
	}
	again, err := h.encode()
	if err != nil {
		return h, err
	}
	if !bytes.Equal(again, b) {
		return h, fmt.Errorf("%w: fields missing, repeated or spelt differently", ErrHeader)
	}
	return h, nil
}

// strict decodes one JSON object without unknown fields and with nothing after it.
func strict(b []byte, v any) error {
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		return err
	}
	if _, err := d.Token(); err != io.EOF {
		return fmt.Errorf("text after the object")
	}
	return nil
}
