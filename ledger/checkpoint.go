package ledger

import (
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strings"

	"filippo.io/torchwood"
	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"breakglass/internal/statement"
)

// MaxCheckpoint bounds a signed note in bytes: its text is under 300, each witness adds a line of about 150.
const MaxCheckpoint = 16 << 10

// ErrCheckpoint is wrapped by the error for a note that is no checkpoint of the ledger whose key was given.
var ErrCheckpoint = errors.New("checkpoint refused")

// Checkpoint is a ledger's head: C2SP tlog-checkpoint without extension lines.
type Checkpoint struct {
	Origin string
	Size   int64
	Root   statement.Hash
}

// Pin is the checkpoint as a statement names it.
func (c Checkpoint) Pin() statement.Checkpoint {
	return statement.Checkpoint{Size: c.Size, Root: c.Root}
}

// GenerateKey makes a ledger's key under its origin: skey is secret (note's own form, "PRIVATE+KEY+…"), vkey public. An
// origin has no space and no plus sign.
func GenerateKey(origin string) (skey, vkey string, err error) {
	if skey, vkey, err = note.GenerateKey(rand.Reader, origin); err != nil {
		return "", "", fmt.Errorf("making ledger key: %w", err)
	}
	if _, err := note.NewVerifier(vkey); err != nil { // GenerateKey doesn't judge the name
		return "", "", fmt.Errorf("making ledger key: origin %q: %w", origin, err)
	}
	return skey, vkey, nil
}

// NewSigner reads a stored secret key.
func NewSigner(skey string) (note.Signer, error) {
	s, err := note.NewSigner(strings.TrimSpace(skey))
	if err != nil {
		return nil, errors.New("reading ledger key: not a note signer key") // note's own error may quote the secret
	}
	return s, nil
}

// Sign writes c as a signed note. The signer's name is the origin, as tlog-checkpoint demands.
func (c Checkpoint) Sign(s note.Signer) (string, error) {
	if s.Name() != c.Origin {
		return "", fmt.Errorf("signing checkpoint: key of %q, origin %q", s.Name(), c.Origin)
	}
	text := torchwood.Checkpoint{Origin: c.Origin, Tree: tlog.Tree{N: c.Size, Hash: tlog.Hash(c.Root)}}.String()
	b, err := note.Sign(&note.Note{Text: text}, s)
	if err != nil {
		return "", fmt.Errorf("signing checkpoint: %w", err)
	}
	return string(b), nil
}

// OpenCheckpoint checks that signed is a checkpoint of the ledger whose public key is vkey: signed by it, under the origin that the
// key names. Signatures of others (witnesses) may stand beside and are not judged here.
func OpenCheckpoint(signed, vkey string) (Checkpoint, error) {
	v, err := note.NewVerifier(vkey)
	if err != nil {
		return Checkpoint{}, fmt.Errorf("ledger key: %w", err)
	}
	if len(signed) > MaxCheckpoint {
		return Checkpoint{}, fmt.Errorf("%w: %d bytes, limit %d", ErrCheckpoint, len(signed), MaxCheckpoint)
	}
	n, err := note.Open([]byte(signed), note.VerifierList(v))
	if err != nil {
		return Checkpoint{}, fmt.Errorf("%w: %w", ErrCheckpoint, err)
	}
	c, err := torchwood.ParseCheckpoint(n.Text)
	if err != nil {
		return Checkpoint{}, fmt.Errorf("%w: %w", ErrCheckpoint, err)
	}
	// One spelling: ParseCheckpoint takes base64 with stray low bits. An extension line is something that we never signed.
	if c.Extension != "" || c.String() != n.Text || !oneSpelling(n) {
		return Checkpoint{}, fmt.Errorf("%w: not in the form that this ledger writes", ErrCheckpoint)
	}
	if c.Origin != v.Name() {
		return Checkpoint{}, fmt.Errorf("%w: origin %q, key of %q", ErrCheckpoint, c.Origin, v.Name())
	}
	return Checkpoint{c.Origin, c.N, statement.Hash(c.Hash)}, nil
}

// oneSpelling says that no signature of the note, known or not, is base64 with stray low bits: note takes those, and two texts would be one.
func oneSpelling(n *note.Note) bool {
	return !slices.ContainsFunc(slices.Concat(n.Sigs, n.UnverifiedSigs), func(s note.Signature) bool {
		b, err := base64.StdEncoding.DecodeString(s.Base64)
		return err != nil || base64.StdEncoding.EncodeToString(b) != s.Base64
	})
}
