package catest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"encoding/binary"
	"math/big"
	"slices"
	"testing"

	"golang.org/x/crypto/ssh"

	"breakglass/ca/api"
	"breakglass/internal/sshsig"
)

// OpenKey is a security key whose secret the test holds: it signs anything, for any application, with any flags and counter, as no real
// one does. Who can't get in with it can't get in by bending what a real one says.
type OpenKey struct {
	T       testing.TB
	Secret  *ecdsa.PrivateKey
	Counter uint32 // the last one that Sign gave
}

// Touched are the flags of an honest signature.
const Touched = sshsig.FlagUserPresent | sshsig.FlagUserVerified

// NewOpenKey makes one.
func NewOpenKey(t testing.TB) *OpenKey {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	Must(t, err)
	return &OpenKey{T: t, Secret: k}
}

// For is the public key as a credential of an application has it.
func (k *OpenKey) For(application string) ssh.PublicKey {
	k.T.Helper()
	point, err := k.Secret.PublicKey.ECDH()
	Must(k.T, err)
	pub, err := ssh.ParsePublicKey(ssh.Marshal(struct{ T, C, P, A string }{sshsig.KeyAlgoSK, "nistp256", string(point.Bytes()), application}))
	Must(k.T, err)
	return pub
}

// Public is the key as the CA enrols it.
func (k *OpenKey) Public() ssh.PublicKey { return k.For(api.Application) }

// Sign signs as an honest touch would.
func (k *OpenKey) Sign(text, namespace string) string {
	k.Counter++
	return k.Bent(text, namespace, nil)
}

// Bent is a signature to be bent: what is signed, and what the blob around it says.
type Bent struct {
	Application     string // of the key and in the signed bytes
	Flags           byte
	Counter         uint32
	Tail            []byte // behind flags and counter, signed
	Namespace, Hash string // in the signed bytes and in the blob
	BlobNamespace   string // in the blob only, if set
	Reserved        string
	Version         uint32
	Key             []byte              // the blob's public key, if set
	Wrap            func([]byte) []byte // of the inner signature, if set
	Malleable       bool                // s' = n - s, which verifies too
}

// Bent signs with counter k.Counter and touch and PIN, unless change says otherwise.
func (k *OpenKey) Bent(text, namespace string, change func(*Bent)) string {
	k.T.Helper()
	b := &Bent{Application: api.Application, Flags: Touched, Counter: k.Counter, Namespace: namespace, Hash: "sha512", Version: 1}
	if change != nil {
		change(b)
	}
	var digest []byte
	switch b.Hash {
	case "sha256":
		d := sha256.Sum256([]byte(text))
		digest = d[:]
	default:
		d := sha512.Sum512([]byte(text))
		digest = d[:]
	}
	signed := append([]byte("SSHSIG"), ssh.Marshal(struct{ N, R, H, D string }{b.Namespace, b.Reserved, b.Hash, string(digest)})...)
	rest := binary.BigEndian.AppendUint32([]byte{b.Flags}, b.Counter)
	rest = append(rest, b.Tail...)
	app, data := sha256.Sum256([]byte(b.Application)), sha256.Sum256(signed)
	sum := sha256.Sum256(slices.Concat(app[:], rest, data[:]))
	r, s, err := ecdsa.Sign(rand.Reader, k.Secret, sum[:])
	Must(k.T, err)
	if b.Malleable {
		s = new(big.Int).Sub(k.Secret.Params().N, s)
	}
	inner := ssh.Marshal(ssh.Signature{Format: sshsig.KeyAlgoSK, Blob: ssh.Marshal(struct{ R, S *big.Int }{r, s}), Rest: rest})
	if b.Wrap != nil {
		inner = b.Wrap(inner)
	}
	key := b.Key
	if key == nil {
		key = k.For(b.Application).Marshal()
	}
	if b.BlobNamespace == "" {
		b.BlobNamespace = b.Namespace
	}
	return Armor(key, inner, b.Version, b.BlobNamespace, b.Reserved, b.Hash)
}

// Armor writes an SSHSIG of any parts, fitting or not.
func Armor(key, inner []byte, version uint32, namespace, reserved, hash string) string {
	blob := append([]byte("SSHSIG"), ssh.Marshal(struct {
		V             uint32
		K, N, R, H, S string
	}{version, string(key), namespace, reserved, hash, string(inner)})...)
	return "-----BEGIN SSH SIGNATURE-----\n" + base64.StdEncoding.EncodeToString(blob) + "\n-----END SSH SIGNATURE-----\n"
}
