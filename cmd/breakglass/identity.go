package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"time"

	"filippo.io/age"

	"breakglass/agent/fido2/wire"
	"breakglass/agent/keys"
	"breakglass/agent/reader"
	"breakglass/agent/terminal"
	"breakglass/internal/durable"
)

// This file opens the reviewer's identity: with a touch of a hardware key that it is sealed under, or with a passphrase where it was made so.

const (
	// passphraseMin keeps the sealed file from being guessed: the file may be copied, so length is all that protects it.
	passphraseMin = 12
	// identityFile is sealed by a passphrase, as age itself does it; readerFile under hardware keys (package agent/reader). A person has one of them.
	identityFile = "identity.age"
	readerFile   = "identity.reader"
	// maxIdentity bounds the sealed file.
	maxIdentity = 64 << 10
)

// Spelling of the statement's sealed line.
const (
	sealedHardware   = "hardware"
	sealedPassphrase = "passphrase"
)

// errNoIdentity says that this machine has none.
var errNoIdentity = errors.New("you have no identity for reading recordings on this machine")

// opened is an identity that was opened: age's own text of it, the one in use first.
type opened struct {
	text []byte
	box  *reader.Opened // nil where a passphrase opened it
	pass []byte         // nil where a key did
}

func (o *opened) wipe() {
	clear(o.text)
	clear(o.pass)
	if o.box != nil {
		o.box.Wipe()
	}
}

func (o *opened) identities() ([]age.Identity, error) {
	ids, err := age.ParseIdentities(bytes.NewReader(o.text))
	if err != nil {
		return nil, fmt.Errorf("opening the identity: %w", err)
	}
	return ids, nil
}

// identities opens the reviewer's identities, the one in use first and then those before it, for recordings that were sealed to them.
func (a *app) identities(ctx context.Context) ([]age.Identity, error) {
	o, err := a.openIdentity(ctx)
	if err != nil {
		return nil, err
	}
	defer o.wipe()
	return o.identities()
}

// readBounded reads what may not be larger than max.
func readBounded(path string, max int) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, int64(max)+1))
}

func (a *app) readerFile() (*reader.File, error) {
	b, err := readBounded(a.home.Path(readerFile), reader.MaxFile)
	if err != nil {
		return nil, fmt.Errorf("opening the identity: %w", err)
	}
	f, err := reader.Parse(b)
	if err != nil {
		return nil, withHint(fmt.Errorf("reading %s: %w", a.home.Path(readerFile), err), "put back a copy of the file, or make another: breakglass reviewer init")
	}
	return f, nil
}

func (a *app) openIdentity(ctx context.Context) (*opened, error) {
	f, err := a.readerFile()
	if err == nil {
		return a.openWithKey(ctx, f)
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	sealed, err := readBounded(a.home.Path(identityFile), maxIdentity)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, withHint(errNoIdentity, "breakglass reviewer init")
	}
	if err != nil {
		return nil, fmt.Errorf("opening the identity: %w", err)
	}
	pass, err := a.passphrase(ctx, false)
	if err != nil {
		return nil, err
	}
	text, err := unsealIdentity(sealed, pass)
	if err != nil {
		clear(pass)
		return nil, withHint(fmt.Errorf("opening the identity: %w", err), "is it the right passphrase?")
	}
	return &opened{text: text, pass: pass}, nil
}

// openWithKey takes a touch of whichever of the keys is plugged in.
func (a *app) openWithKey(ctx context.Context, f *reader.File) (*opened, error) {
	from := make([]keys.Deriver, len(f.Wraps))
	for i, w := range f.Wraps {
		from[i] = keys.Deriver{Name: w.Name, Key: w.Key, Salt: w.Salt}
	}
	i, secret, err := a.self().Reading().Derive(ctx, from)
	if errors.Is(err, wire.NoBackend.Err()) { // the ssh-agent that signs can't unseal
		return nil, withStatus(exitKey, fmt.Errorf("opening the identity: %w", err), "install breakglass-fido2 beside breakglass: a reading identity is opened by the key itself")
	}
	if errors.Is(err, keys.ErrNotHere) {
		return nil, withStatus(exitKey, fmt.Errorf("none of the keys that your reading identity is sealed under is plugged in: %w", err),
			"plug in "+keyNames(f), "breakglass reviewer show   lists them")
	}
	if err != nil {
		return nil, fmt.Errorf("opening the identity: %w", err)
	}
	defer clear(secret[:])
	box, err := f.Open(i, secret)
	if err != nil {
		return nil, withStatus(exitKey, fmt.Errorf("opening the identity with %s: %w", f.Wraps[i].Name, err), "put back a copy of "+a.home.Path(readerFile)+", or use another of your keys")
	}
	return &opened{text: bytes.Clone(box.Identities), box: box}, nil
}

// keyNames are the keys of a file as one says them.
func keyNames(f *reader.File) string {
	var names []string
	for _, w := range f.Wraps {
		names = append(names, string(w.Name))
	}
	return strings.Join(names, " or ")
}

// identitiesIfAny opens the reviewer's identity where there is one, and somebody who can open it. Else recordings are verified sealed.
func (a *app) identitiesIfAny(ctx context.Context) ([]age.Identity, error) {
	if _, err := os.Stat(a.home.Path(readerFile)); err == nil {
		ids, err := a.identities(ctx)
		if errors.Is(err, keys.ErrNotHere) || errors.Is(err, keys.ErrNoPIN) {
			a.term.Say("breakglass: warning: the recordings stay sealed: %v", clean(err.Error()))
			return nil, nil
		}
		return ids, err
	}
	if _, err := os.Stat(a.home.Path(identityFile)); errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if a.getenv("BREAKGLASS_PASSPHRASE_FILE") == "" && !a.term.Interactive() {
		return nil, nil
	}
	return a.identities(ctx)
}

// identityText is an identity as age-keygen writes it.
func identityText(id *age.HybridIdentity, now time.Time) []byte {
	return fmt.Appendf(nil, "# created: %s\n# public key: %s\n%s\n", now.UTC().Format(time.RFC3339), id.Recipient(), id)
}

// sealIdentity writes what `age-keygen | age -p` would.
func sealIdentity(text, pass []byte) ([]byte, error) {
	r, err := age.NewScryptRecipient(string(pass))
	if err != nil {
		return nil, fmt.Errorf("sealing the identity: %w", err)
	}
	var b bytes.Buffer
	w, err := age.Encrypt(&b, r)
	if err != nil {
		return nil, fmt.Errorf("sealing the identity: %w", err)
	}
	_, err = w.Write(text)
	if err = errors.Join(err, w.Close()); err != nil {
		return nil, fmt.Errorf("sealing the identity: %w", err)
	}
	return b.Bytes(), nil
}

func unsealIdentity(sealed, pass []byte) ([]byte, error) {
	s, err := age.NewScryptIdentity(string(pass))
	if err != nil {
		return nil, err
	}
	r, err := age.Decrypt(bytes.NewReader(sealed), s)
	if err != nil {
		return nil, err
	}
	return io.ReadAll(io.LimitReader(r, maxIdentity))
}

// saveNew writes a first identity: never over another.
func saveNew(path string, sealed []byte) error {
	if err := durable.WriteNew(path, sealed, 0o600); err != nil {
		return fmt.Errorf("writing the identity: %w", err)
	}
	return nil
}

// passphrase reads BREAKGLASS_PASSPHRASE_FILE's first line, or asks, twice for a new one.
func (a *app) passphrase(ctx context.Context, fresh bool) ([]byte, error) {
	if file := a.getenv("BREAKGLASS_PASSPHRASE_FILE"); file != "" {
		b, err := os.ReadFile(file)
		if err != nil {
			return nil, fmt.Errorf("reading the passphrase: %w", err)
		}
		line, _, _ := strings.Cut(string(b), "\n")
		clear(b)
		return longEnough([]byte(strings.TrimSuffix(line, "\r")), fresh)
	}
	hint := "run it on a terminal, or name a file in BREAKGLASS_PASSPHRASE_FILE"
	p, err := a.term.Secret(ctx, "Passphrase of your reviewer identity: ")
	if errors.Is(err, terminal.ErrNobody) {
		return nil, withStatus(exitUsage, errors.New("no passphrase, and no terminal to ask for one on"), hint)
	}
	if err != nil {
		return nil, err
	}
	if p, err = longEnough(p, fresh); err != nil || !fresh {
		return p, err
	}
	again, err := a.term.Secret(ctx, "The same again: ")
	if err != nil {
		return nil, err
	}
	defer clear(again)
	if !bytes.Equal(p, again) {
		return nil, usagef("the two differ")
	}
	return p, nil
}

func longEnough(p []byte, fresh bool) ([]byte, error) {
	if fresh && len([]rune(string(p))) < passphraseMin {
		return nil, usagef("the passphrase has fewer than %d characters", passphraseMin)
	}
	if len(p) == 0 {
		return nil, usagef("the passphrase is empty")
	}
	return p, nil
}
