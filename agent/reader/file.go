package reader

import (
	"bytes"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"filippo.io/age"
	"golang.org/x/crypto/chacha20poly1305"

	"breakglass/agent/fido2/wire"
	"breakglass/internal/name"
)

const (
	label = "breakglass reader v1\n"
	// MaxFile bounds a file: 16 keys and a few dozen identities fit many times.
	MaxFile = 64 << 10
	// MaxKeys bounds the keys of one file: each costs a question to each device.
	MaxKeys = 16
	// maxField bounds a credential id (CTAP 2.1 allows 1023 bytes) and a public key.
	maxField = 1 << 10

	keyLen = chacha20poly1305.KeySize
	boxLen = keyLen + chacha20poly1305.Overhead
)

var (
	// ErrFormat says that it is no file of this version.
	ErrFormat = errors.New("not a reader's identity of this version")
	// ErrChanged says that the file was changed, or that the secret is another key's.
	ErrChanged = errors.New("the sealed identity does not open: it was changed, or this is not the key that it was sealed under")
)

var b64 = base64.RawStdEncoding.Strict()

// Wrap is one hardware key's way into the file.
type Wrap struct {
	Name name.Key // what its owner calls the key
	Key  wire.Key // the credential that derives
	Salt []byte   // what it derives from
	box  []byte
}

// File is a sealed identity, not opened.
type File struct {
	Recipient string // of the identity in use
	Created   time.Time
	Wraps     []Wrap

	sealed, mac []byte
}

// Secret is what a hardware key derived for a wrap.
type Secret = [wire.SecretLen]byte

// NewSalt draws what a key shall derive from.
func NewSalt() []byte {
	s := make([]byte, wire.SecretLen)
	rand.Read(s)
	return s
}

// Opened is a file with its key: it gives the identities, and lets more hardware keys in.
type Opened struct {
	File
	// Identities is an age identity file; Wipe clears it.
	Identities []byte

	fileKey []byte
}

// Wipe clears what is secret, as far as the language lets it.
func (o *Opened) Wipe() {
	clear(o.Identities)
	clear(o.fileKey)
}

// New seals identities, an age identity file with the one in use first. Add lets a hardware key in; without one nothing could open it.
func New(identities []byte, created time.Time) (*Opened, error) {
	recipient, err := firstRecipient(identities)
	if err != nil {
		return nil, err
	}
	o := &Opened{File: File{Recipient: recipient, Created: created.UTC().Truncate(time.Second)}, Identities: bytes.Clone(identities), fileKey: make([]byte, keyLen)}
	rand.Read(o.fileKey)
	o.sealed, err = seal(derive(o.fileKey, nil, "identities\n"+recipient+"\n"), identities)
	return o, err
}

// Add lets a key in that derived secret from salt. A key of the same name takes the place of the one before.
func (o *Opened) Add(key name.Key, k wire.Key, salt []byte, secret *Secret) error {
	w := Wrap{Name: key, Key: k, Salt: bytes.Clone(salt)}
	w.box = make([]byte, boxLen)
	if err := w.check(); err != nil {
		return err
	}
	var err error
	kek := o.kek(w, secret)
	defer clear(kek)
	if w.box, err = seal(kek, o.fileKey); err != nil {
		return err
	}
	wraps := slices.DeleteFunc(slices.Clone(o.Wraps), func(x Wrap) bool { return x.Name == key || bytes.Equal(x.Key.CredentialID, k.CredentialID) })
	if len(wraps) == MaxKeys {
		return fmt.Errorf("%d keys already: at most that many", MaxKeys)
	}
	o.Wraps = append(wraps, w)
	o.mac = o.authenticate(o.fileKey)
	return nil
}

// Open opens a file with the secret of its i-th wrap.
func (f *File) Open(i int, secret *Secret) (*Opened, error) {
	kek := f.kek(f.Wraps[i], secret)
	defer clear(kek)
	fileKey, err := unseal(kek, f.Wraps[i].box)
	if err != nil {
		return nil, err
	}
	if !hmac.Equal(f.mac, f.authenticate(fileKey)) {
		clear(fileKey)
		return nil, ErrChanged
	}
	ids, err := unseal(derive(fileKey, nil, "identities\n"+f.Recipient+"\n"), f.sealed)
	if err != nil {
		clear(fileKey)
		return nil, err
	}
	o := &Opened{File: *f, Identities: ids, fileKey: fileKey}
	if got, err := firstRecipient(ids); err != nil || got != f.Recipient {
		o.Wipe()
		return nil, errors.Join(ErrChanged, err)
	}
	return o, nil
}

func (f *File) kek(w Wrap, secret *Secret) []byte {
	return derive(secret[:], w.Salt, "key\n"+f.Recipient+"\n"+b64.EncodeToString(w.Key.CredentialID)+"\n"+b64.EncodeToString(w.Key.PublicKey)+"\n")
}

func (f *File) authenticate(fileKey []byte) []byte {
	k := derive(fileKey, nil, "mac\n")
	defer clear(k)
	m := hmac.New(sha256.New, k)
	m.Write(f.head())
	return m.Sum(nil)
}

func derive(secret, salt []byte, info string) []byte {
	k, err := hkdf.Key(sha256.New, secret, salt, label+info, keyLen)
	if err != nil {
		panic(err) // 32 bytes are never too many
	}
	return k
}

// seal and unseal have a key for one message alone: the nonce is zero.
func seal(key, plain []byte) ([]byte, error) {
	a, err := chacha20poly1305.New(key)
	if err != nil {
		return nil, fmt.Errorf("sealing the identity: %w", err)
	}
	return a.Seal(nil, make([]byte, chacha20poly1305.NonceSize), plain, nil), nil
}

func unseal(key, sealed []byte) ([]byte, error) {
	a, err := chacha20poly1305.New(key)
	if err != nil {
		return nil, fmt.Errorf("opening the identity: %w", err)
	}
	plain, err := a.Open(nil, make([]byte, chacha20poly1305.NonceSize), sealed, nil)
	if err != nil {
		return nil, ErrChanged
	}
	return plain, nil
}

// firstRecipient is the public half of the identity in use.
func firstRecipient(identities []byte) (string, error) {
	ids, err := age.ParseIdentities(bytes.NewReader(identities))
	if err != nil {
		return "", fmt.Errorf("reading identities: %w", err)
	}
	return RecipientOf(ids[0])
}

// RecipientOf is an identity's public half.
func RecipientOf(id age.Identity) (string, error) {
	switch id := id.(type) {
	case *age.HybridIdentity:
		return id.Recipient().String(), nil
	case *age.X25519Identity:
		return id.Recipient().String(), nil
	}
	return "", fmt.Errorf("an identity of a kind that nothing is sealed to: %T", id)
}

// head is all that the mac is over.
func (f *File) head() []byte {
	var b bytes.Buffer
	b.WriteString(label)
	fmt.Fprintf(&b, "recipient: %s\ncreated: %s\n", f.Recipient, f.Created.Format(time.RFC3339))
	for _, w := range f.Wraps {
		fmt.Fprintf(&b, "key: %s %s %s %s %s\n", w.Name, b64.EncodeToString(w.Key.CredentialID), b64.EncodeToString(w.Key.PublicKey), b64.EncodeToString(w.Salt), b64.EncodeToString(w.box))
	}
	fmt.Fprintf(&b, "identities: %s\nmac: ", b64.EncodeToString(f.sealed))
	return b.Bytes()
}

// Marshal is the file as it is written.
func (f *File) Marshal() []byte { return append(f.head(), b64.EncodeToString(f.mac)+"\n"...) }

// Parse reads a file. It opens nothing.
func Parse(b []byte) (*File, error) {
	bad := func(format string, a ...any) (*File, error) {
		return nil, fmt.Errorf("%w: "+format, append([]any{ErrFormat}, a...)...)
	}
	if len(b) > MaxFile {
		return bad("%d bytes, at most %d", len(b), MaxFile)
	}
	text, ok := strings.CutPrefix(string(b), label)
	if !ok {
		return bad("it does not begin with %q", strings.TrimSpace(label))
	}
	f := &File{}
	lines := strings.Split(text, "\n")
	next := func(field string) (string, bool) {
		if len(lines) == 0 {
			return "", false
		}
		v, ok := strings.CutPrefix(lines[0], field+": ")
		if ok {
			lines = lines[1:]
		}
		return v, ok
	}
	if f.Recipient, ok = next("recipient"); !ok {
		return bad("no recipient")
	}
	created, ok := next("created")
	if !ok {
		return bad("no time")
	}
	var err error
	if f.Created, err = time.Parse(time.RFC3339, created); err != nil {
		return bad("created: %v", err)
	}
	for {
		line, ok := next("key")
		if !ok {
			break
		}
		if len(f.Wraps) == MaxKeys {
			return bad("more than %d keys", MaxKeys)
		}
		w, err := parseWrap(line)
		if err != nil {
			return bad("key %d: %v", len(f.Wraps)+1, err)
		}
		f.Wraps = append(f.Wraps, w)
	}
	if len(f.Wraps) == 0 {
		return bad("no key")
	}
	v, _ := next("identities")
	if f.sealed, err = b64.DecodeString(v); err != nil || len(f.sealed) == 0 {
		return bad("identities: no base64")
	}
	v, _ = next("mac")
	if f.mac, err = b64.DecodeString(v); err != nil || len(f.mac) != sha256.Size {
		return bad("mac: want %d bytes", sha256.Size)
	}
	// One spelling for each file: what parses is what would be written.
	if !bytes.Equal(f.Marshal(), b) {
		return bad("it is not as this program writes it")
	}
	return f, nil
}

func parseWrap(line string) (w Wrap, err error) {
	fields := strings.Split(line, " ")
	if len(fields) != 5 {
		return w, fmt.Errorf("%d fields, want 5", len(fields))
	}
	if w.Name, err = name.ParseKey(fields[0]); err != nil {
		return w, err
	}
	for i, to := range []*[]byte{&w.Key.CredentialID, &w.Key.PublicKey, &w.Salt, &w.box} {
		if *to, err = b64.DecodeString(fields[i+1]); err != nil {
			return w, fmt.Errorf("field %d: no base64", i+2)
		}
	}
	return w, w.check()
}

func (w *Wrap) check() error {
	if n := len(w.Key.CredentialID); n == 0 || n > maxField {
		return fmt.Errorf("a credential id of %d bytes", n)
	}
	if n := len(w.Key.PublicKey); n == 0 || n > maxField {
		return fmt.Errorf("a public key of %d bytes", n)
	}
	if len(w.Salt) != wire.SecretLen || len(w.box) != boxLen {
		return fmt.Errorf("a salt of %d bytes and a box of %d, want %d and %d", len(w.Salt), len(w.box), wire.SecretLen, boxLen)
	}
	return nil
}
