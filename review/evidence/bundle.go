// Package evidence writes and verifies bundles: one file with all that proves a request and what came of it (FORMAT.md).
//
// To whoever holds a bundle and pins that came from elsewhere, Verify guarantees: if it says VERIFIED, the ledger whose key is pinned holds these entries; an
// enrolled hardware key signed for exactly this; the certificates allowed no more; and every byte of the recordings is what the jump sealed. A byte
// changed anywhere in the file is found. Nothing that it trusts comes from the bundle.
package evidence

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"

	"breakglass/internal/name"
	"breakglass/internal/statement"
	"breakglass/transcript"
)

// Limits of format v1: what a hostile bundle can make a verifier hold in memory.
const (
	MaxEvidence = 64 << 20 // every policy before the grant, of a site with 20,000 hosts 7 MB each time that all of it changes
	MaxEntries  = 10_000
)

const (
	memberEvidence   = "bundle.json"
	suffixEnvelope   = ".envelope"
	suffixTranscript = ".transcript"
)

// Evidence is bundle.json.
type Evidence struct {
	V          int            `json:"v"`
	Request    name.RequestID `json:"request"`
	Checkpoint string         `json:"checkpoint"`
	Entries    []Entry        `json:"entries"`
	Links      []Link         `json:"links"`
}

// Entry is a ledger entry with its inclusion proof.
type Entry struct {
	Index int64            `json:"index"`
	Entry string           `json:"entry"`
	Proof []statement.Hash `json:"proof"`
}

// Link shows that the checkpoint's history goes on from the tree of that size and root.
type Link struct {
	Size  int64            `json:"size"`
	Root  statement.Hash   `json:"root"`
	Proof []statement.Hash `json:"proof"`
}

// Recording is a session's stored stream, and its envelope if the maker was handed it.
type Recording struct {
	Session  name.SessionID
	Envelope []byte // nil: not handed out
	Size     int64
	Open     func() (io.ReadCloser, error) // the sealed stream, Size bytes
}

// encode gives the one spelling of bundle.json.
func (e *Evidence) encode() ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(e); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), nil
}

// parseEvidence accepts exactly what encode gives.
func parseEvidence(b []byte) (*Evidence, error) {
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	e := new(Evidence)
	if err := d.Decode(e); err != nil {
		return nil, fmt.Errorf("%w: %s: %w", ErrFormat, memberEvidence, err)
	}
	if e.V != 1 {
		return nil, fmt.Errorf("%w: version %d", ErrFormat, e.V)
	}
	if id, err := name.ParseRequestID(string(e.Request)); err != nil || id != e.Request {
		return nil, fmt.Errorf("%w: request %q", ErrFormat, e.Request)
	}
	if len(e.Entries) > MaxEntries || len(e.Links) > MaxEntries {
		return nil, fmt.Errorf("%w: %d entries, %d links, limit %d", ErrFormat, len(e.Entries), len(e.Links), MaxEntries)
	}
	for i := range e.Links {
		if i > 0 && e.Links[i].Size <= e.Links[i-1].Size {
			return nil, fmt.Errorf("%w: links out of order", ErrFormat)
		}
	}
	again, err := e.encode()
	if err != nil || !bytes.Equal(again, b) {
		return nil, fmt.Errorf("%w: %s: fields missing, repeated or spelt differently", ErrFormat, memberEvidence)
	}
	return e, nil
}

// Write writes a bundle. It does not judge what it writes: Verify does.
func Write(w io.Writer, e *Evidence, recordings []Recording) error {
	for i := range e.Entries {
		if e.Entries[i].Proof == nil {
			e.Entries[i].Proof = []statement.Hash{} // [] and null would be two spellings
		}
	}
	if e.Links == nil {
		e.Links = []Link{}
	}
	for i := range e.Links {
		if e.Links[i].Proof == nil {
			e.Links[i].Proof = []statement.Hash{}
		}
	}
	e.V = 1
	b, err := e.encode()
	if err != nil {
		return fmt.Errorf("writing bundle: %w", err)
	}
	if len(b) > MaxEvidence {
		return fmt.Errorf("writing bundle: %d bytes of entries and proofs, limit %d", len(b), MaxEvidence)
	}
	out := &writer{w}
	if err := out.member(memberEvidence, int64(len(b)), bytes.NewReader(b)); err != nil {
		return err
	}
	for _, r := range recordings {
		if r.Envelope != nil {
			if len(r.Envelope) > transcript.MaxEnvelope {
				return fmt.Errorf("writing bundle: envelope of %s has %d bytes", r.Session, len(r.Envelope))
			}
			if err := out.member(r.Session.File()+suffixEnvelope, int64(len(r.Envelope)), bytes.NewReader(r.Envelope)); err != nil {
				return err
			}
		}
		if err := writeStream(out, r); err != nil {
			return err
		}
	}
	if err := out.end(); err != nil {
		return fmt.Errorf("writing bundle: %w", err)
	}
	return nil
}

func writeStream(out *writer, r Recording) error {
	s, err := r.Open()
	if err != nil {
		return fmt.Errorf("reading recording %s: %w", r.Session, err)
	}
	defer s.Close()
	return out.member(r.Session.File()+suffixTranscript, r.Size, s)
}
