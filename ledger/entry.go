// Package ledger is the append-only record of everything that happened: typed entries in an RFC 6962 Merkle tree
// (golang.org/x/mod/sumdb/tlog) under signed checkpoints (C2SP tlog-checkpoint).
//
// An entry is one line of JSON, at most MaxEntry bytes. The exact stored bytes are hashed, so nothing is ever
// canonicalised; Decode refuses unknown fields and unknown types. An entry that records a human act carries the statement
// and its SSHSIG, one that a machine reported carries the machine's signed fact, so each can be checked for ever without us.
// An entry never holds a secret.
package ledger

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"time"

	"breakglass/internal/name"
)

// MaxEntry bounds an entry in bytes: C2SP tlog-tiles give an entry's length in 16 bits.
const MaxEntry = 65535

// ErrEntry is wrapped by every error of Encode and Decode.
var ErrEntry = errors.New("malformed ledger entry")

// Type names what happened.
type Type string

// Actor says whose doing an entry is: "person:alice", "jump:jump-a", "ca", "root" (local root on the CA's machine) or "strangers".
type Actor string

const (
	ActorCA        Actor = "ca"
	ActorRoot      Actor = "root"
	ActorStrangers Actor = "strangers"
)

// PersonActor and JumpActor name an actor.
func PersonActor(p name.Person) Actor { return Actor("person:" + string(p)) }
func JumpActor(j name.Jump) Actor     { return Actor("jump:" + string(j)) }

// Subject holds the ids that an entry is about; what does not apply is left out.
type Subject struct {
	Request name.RequestID `json:"request,omitempty"`
	Session name.SessionID `json:"session,omitempty"`
	Person  name.Person    `json:"person,omitempty"`
	Host    name.Host      `json:"host,omitempty"`
	Login   name.Login     `json:"login,omitempty"`
	Jump    name.Jump      `json:"jump,omitempty"`
	Key     string         `json:"key,omitempty"` // SHA256:… fingerprint
}

// Entry is one fact. Facts holds the struct that belongs to Type (facts.go).
type Entry struct {
	Time      Time
	Actor     Actor
	Subject   Subject
	Facts     Facts
	Statement string // the exact signed bytes, where somebody signed
	SSHSIG    string // armored
}

// Type is the type of e's facts.
func (e *Entry) Type() Type { return e.Facts.EntryType() }

// Time is UTC to the microsecond: "2026-11-24T03:00:00.000000Z".
type Time struct{ time.Time }

const timeLayout = "2006-01-02T15:04:05.000000Z"

// At rounds t down to the ledger's resolution.
func At(t time.Time) Time { return Time{t.UTC().Truncate(time.Microsecond)} }

func (t Time) MarshalJSON() ([]byte, error) { // digits and plain letters alone
	return append(t.UTC().AppendFormat([]byte{'"'}, timeLayout), '"'), nil
}

func (t *Time) UnmarshalJSON(b []byte) error {
	var s string
	if err := json.Unmarshal(b, &s); err != nil {
		return err
	}
	p, err := time.Parse(timeLayout, s)
	t.Time = p
	return err
}

// Facts is one of the structs of facts.go.
type Facts interface{ EntryType() Type }

// wire is an entry as it is written: F is Facts where it is encoded, and the bytes of the facts where it is decoded.
type wire[F any] struct {
	V         int     `json:"v"`
	Time      Time    `json:"time"`
	Type      Type    `json:"type"`
	Actor     Actor   `json:"actor"`
	Subject   Subject `json:"subject"`
	Facts     F       `json:"facts"`
	Statement string  `json:"statement,omitempty"`
	SSHSIG    string  `json:"sshsig,omitempty"`
}

// Encode writes e as the line (without line feed) that is stored and hashed.
func Encode(e *Entry) ([]byte, error) {
	b, err := encodeJSON(wire[Facts]{1, e.Time, e.Type(), e.Actor, e.Subject, e.Facts, e.Statement, e.SSHSIG})
	if err != nil {
		return nil, fmt.Errorf("%w: %s: %w", ErrEntry, e.Type(), err)
	}
	if len(b) > MaxEntry {
		return nil, fmt.Errorf("%w: %s: %d bytes, limit %d", ErrEntry, e.Type(), len(b), MaxEntry)
	}
	return b, nil
}

// encodeJSON leaves <, > and & as they are: armored signatures and reasons stay readable.
func encodeJSON(v any) ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), nil
}

// Decode reads an entry strictly.
func Decode(data []byte) (*Entry, error) {
	if len(data) > MaxEntry {
		return nil, fmt.Errorf("%w: %d bytes, limit %d", ErrEntry, len(data), MaxEntry)
	}
	var w wire[json.RawMessage]
	if err := decodeJSON(data, &w); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrEntry, err)
	}
	if w.V != 1 {
		return nil, fmt.Errorf("%w: version %d", ErrEntry, w.V)
	}
	f := newFacts(w.Type)
	if f == nil {
		return nil, fmt.Errorf("%w: unknown type %q", ErrEntry, w.Type)
	}
	if err := decodeJSON(w.Facts, f); err != nil {
		return nil, fmt.Errorf("%w: %s: %w", ErrEntry, w.Type, err)
	}
	return &Entry{w.Time, w.Actor, w.Subject, f, w.Statement, w.SSHSIG}, nil
}

// DecodeFacts reads the facts of a type alone, as a machine signs them, as strictly as Decode.
func DecodeFacts(t Type, data []byte) (Facts, error) {
	f := newFacts(t)
	if f == nil {
		return nil, fmt.Errorf("%w: unknown type %q", ErrEntry, t)
	}
	if err := decodeJSON(data, f); err != nil {
		return nil, fmt.Errorf("%w: %s: %w", ErrEntry, t, err)
	}
	return f, nil
}

func decodeJSON(data []byte, v any) error {
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		return err
	}
	if d.More() || strings.ContainsAny(string(data), "\n\r") {
		return errors.New("more than one line of JSON")
	}
	return nil
}

// newFacts gives an empty facts struct of the type, or nil.
func newFacts(t Type) Facts {
	for _, f := range All {
		if f.EntryType() == t {
			return reflect.New(reflect.TypeOf(f).Elem()).Interface().(Facts)
		}
	}
	return nil
}
