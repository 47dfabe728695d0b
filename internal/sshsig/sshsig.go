// Package sshsig reads, checks and makes SSH signatures over data (OpenSSH PROTOCOL.sshsig), the only signature
// format of the system. x/crypto verifies a security key's signature and its touch, but hands out neither the
// flags nor the counter; a CA has to judge both, so this package does.
//
// Everything is sha512, whose use the format allows beside sha256, so that a signature has one spelling.
package sshsig

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"math/big"
	"slices"

	"golang.org/x/crypto/ssh"
)

const (
	magic   = "SSHSIG"
	version = 1
	hashAlg = "sha512"
	begin   = "-----BEGIN SSH SIGNATURE-----"
	end     = "-----END SSH SIGNATURE-----"

	// MaxSize bounds a signature in bytes, armored or not: an sk-ecdsa one has about 300.
	MaxSize = 8 << 10
)

// KeyAlgoSK is the one algorithm that a person's hardware key signs with.
const KeyAlgoSK = ssh.KeyAlgoSKECDSA256

// Flags of a security key's signature (CTAP authenticator data).
const (
	FlagUserPresent    = 0x01
	FlagUserVerified   = 0x04
	FlagBackupEligible = 0x08
	FlagBackedUp       = 0x10
	FlagAttested       = 0x40
	FlagExtensions     = 0x80
)

var (
	// ErrMalformed says that the bytes are no signature of this format.
	ErrMalformed = errors.New("malformed SSH signature")
	// ErrNamespace says that the signature was made for something else.
	ErrNamespace = errors.New("signature is for another namespace")
	// ErrKey says that the signature names another key than the one wanted.
	ErrKey = errors.New("signature is by another key")
	// ErrSignature says that the signature does not fit the bytes.
	ErrSignature = errors.New("signature does not verify")
)

// Signature is a parsed SSHSIG.
type Signature struct {
	PublicKey ssh.PublicKey
	Namespace string
	Inner     ssh.Signature
}

// wire is the blob after its magic (PROTOCOL.sshsig section 2).
type wire struct {
	Version   uint32
	PublicKey string
	Namespace string
	Reserved  string
	Hash      string
	Signature string
}

// signed is what the key signs after the magic (section 3).
type signed struct {
	Namespace string
	Reserved  string
	Hash      string
	Digest    string
}

// SignedData gives the bytes that a key signs for message under namespace.
func SignedData(namespace string, message []byte) []byte {
	d := sha512.Sum512(message)
	return append([]byte(magic), ssh.Marshal(signed{namespace, "", hashAlg, string(d[:])})...)
}

// Sign makes a signature with an ordinary key: a machine's, a client key or a pass's.
func Sign(s ssh.Signer, namespace string, message []byte) (*Signature, error) {
	sig, err := s.Sign(rand.Reader, SignedData(namespace, message))
	if err != nil {
		return nil, fmt.Errorf("signing: %w", err)
	}
	return &Signature{PublicKey: s.PublicKey(), Namespace: namespace, Inner: *sig}, nil
}

// Marshal writes the binary form.
func (s *Signature) Marshal() []byte {
	return append([]byte(magic), ssh.Marshal(wire{version, string(s.PublicKey.Marshal()), s.Namespace, "", hashAlg, string(ssh.Marshal(s.Inner))})...)
}

// Armor writes the PEM-like form that ssh-keygen reads and writes.
func (s *Signature) Armor() []byte {
	var b bytes.Buffer
	b.WriteString(begin + "\n")
	text := base64.StdEncoding.EncodeToString(s.Marshal())
	for len(text) > 70 {
		b.WriteString(text[:70] + "\n")
		text = text[70:]
	}
	b.WriteString(text + "\n" + end + "\n")
	return b.Bytes()
}

// Parse reads a signature, armored or binary. It judges the form only.
func Parse(data []byte) (*Signature, error) {
	if len(data) > MaxSize {
		return nil, fmt.Errorf("%w: %d bytes, limit %d", ErrMalformed, len(data), MaxSize)
	}
	if t := bytes.TrimSpace(data); bytes.HasPrefix(t, []byte(begin)) {
		body, ok := bytes.CutSuffix(t[len(begin):], []byte(end))
		if !ok {
			return nil, fmt.Errorf("%w: no end line", ErrMalformed)
		}
		raw, err := base64.StdEncoding.DecodeString(string(bytes.Join(bytes.Fields(body), nil)))
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrMalformed, err)
		}
		data = raw
	}
	rest, ok := bytes.CutPrefix(data, []byte(magic))
	if !ok {
		return nil, fmt.Errorf("%w: no %s", ErrMalformed, magic)
	}
	var w wire
	if err := ssh.Unmarshal(rest, &w); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	switch {
	case w.Version != version:
		return nil, fmt.Errorf("%w: version %d", ErrMalformed, w.Version)
	case w.Reserved != "":
		return nil, fmt.Errorf("%w: reserved field in use", ErrMalformed)
	case w.Hash != hashAlg:
		return nil, fmt.Errorf("%w: hash %q, want %s", ErrMalformed, w.Hash, hashAlg)
	case w.Namespace == "":
		return nil, fmt.Errorf("%w: no namespace", ErrMalformed)
	}
	pub, err := ssh.ParsePublicKey([]byte(w.PublicKey))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	// A certificate here would let its CA's name stand for the key's (CVE-2025-49825).
	if _, ok := pub.(*ssh.Certificate); ok {
		return nil, fmt.Errorf("%w: a certificate instead of a key", ErrMalformed)
	}
	s := &Signature{PublicKey: pub, Namespace: w.Namespace}
	if err := ssh.Unmarshal([]byte(w.Signature), &s.Inner); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	return s, nil
}

// Verify checks that key signed message under namespace. Of a security key it does not judge the flags and the counter, not
// even the touch: Touch gives them to the caller, who must. (x/crypto reports a missing touch as a bad signature, and
// the CA records the one and not the other.)
func (s *Signature) Verify(key ssh.PublicKey, namespace string, message []byte) error {
	if s.Namespace != namespace {
		return fmt.Errorf("%w: %q, want %q", ErrNamespace, s.Namespace, namespace)
	}
	if !bytes.Equal(s.PublicKey.Marshal(), key.Marshal()) {
		return ErrKey
	}
	if err := verifyInner(key, SignedData(namespace, message), &s.Inner); err != nil {
		return fmt.Errorf("%w: %w", ErrSignature, err)
	}
	return nil
}

// verifyInner checks an sk-ecdsa signature as PROTOCOL.u2f lays it out, and leaves every other kind to x/crypto.
func verifyInner(key ssh.PublicKey, data []byte, sig *ssh.Signature) error {
	if key.Type() != KeyAlgoSK {
		return key.Verify(data, sig)
	}
	app, err := Application(key)
	if err != nil {
		return err
	}
	if sig.Format != KeyAlgoSK || len(sig.Rest) != 5 {
		return errors.New("not an sk-ecdsa signature")
	}
	ck, ok := key.(ssh.CryptoPublicKey)
	if !ok {
		return errors.New("key without a point")
	}
	pub, ok := ck.CryptoPublicKey().(*ecdsa.PublicKey)
	if !ok {
		return errors.New("key is not ECDSA")
	}
	var rs struct{ R, S *big.Int }
	if err := ssh.Unmarshal(sig.Blob, &rs); err != nil {
		return err
	}
	appHash, dataHash := sha256.Sum256([]byte(app)), sha256.Sum256(data)
	digest := sha256.Sum256(slices.Concat(appHash[:], sig.Rest, dataHash[:]))
	if !ecdsa.Verify(pub, digest[:], rs.R, rs.S) {
		return errors.New("wrong signature")
	}
	return nil
}

// Touch is what a security key says beside its signature.
type Touch struct {
	Flags   byte
	Counter uint32
}

// UserPresent says that the key was touched (CTAP UP).
func (t Touch) UserPresent() bool { return t.Flags&FlagUserPresent != 0 }

// UserVerified says that the key checked a PIN or a finger (CTAP UV).
func (t Touch) UserVerified() bool { return t.Flags&FlagUserVerified != 0 }

// Touch reads the flags and the counter. Anything but an sk-ecdsa signature with exactly those five bytes is ErrMalformed:
// longer authenticator data (attested credential, extensions) can't be told apart from a confusion of formats.
func (s *Signature) Touch() (Touch, error) {
	if s.PublicKey.Type() != KeyAlgoSK || s.Inner.Format != KeyAlgoSK {
		return Touch{}, fmt.Errorf("%w: %s, want %s", ErrMalformed, s.PublicKey.Type(), KeyAlgoSK)
	}
	if len(s.Inner.Rest) != 5 {
		return Touch{}, fmt.Errorf("%w: %d bytes of flags and counter, want 5", ErrMalformed, len(s.Inner.Rest))
	}
	t := Touch{s.Inner.Rest[0], binary.BigEndian.Uint32(s.Inner.Rest[1:])}
	if t.Flags&(FlagAttested|FlagExtensions) != 0 {
		return Touch{}, fmt.Errorf("%w: flags %#x claim data that is not there", ErrMalformed, t.Flags)
	}
	return t, nil
}

// Application reads the application (the FIDO RP id) out of a security key's public key; x/crypto keeps it to itself.
func Application(key ssh.PublicKey) (string, error) {
	var w struct {
		Type, Curve, Point, Application string
	}
	if err := ssh.Unmarshal(key.Marshal(), &w); err != nil || w.Type != KeyAlgoSK {
		return "", fmt.Errorf("%w: %s is not %s", ErrMalformed, key.Type(), KeyAlgoSK)
	}
	return w.Application, nil
}
