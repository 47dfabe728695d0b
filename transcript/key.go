package transcript

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"

	"filippo.io/age"
)

// Key is a transcript key K: one session's, never another's.
type Key [32]byte

// NewKey draws a key.
func NewKey() Key {
	var k Key
	rand.Read(k[:])
	return k
}

// String keeps a key out of logs.
func (Key) String() string { return "transcript key (secret)" }

// GoString keeps it out of %#v.
func (Key) GoString() string { return "transcript.Key{secret}" }

// Commitment is the header's kc.
func (k Key) Commitment() Hash {
	d := sha256.New()
	d.Write([]byte(label))
	d.Write([]byte("key"))
	d.Write(k[:])
	return Hash(d.Sum(nil))
}

// sealer seals and opens frames under K, bound to one header.
type sealer struct {
	aead   cipher.AEAD
	header Hash // chain[0]
}

func newSealer(k Key, header Hash) *sealer {
	b, err := aes.NewCipher(k[:])
	if err != nil {
		panic(err) // a 32-byte key is always good
	}
	g, err := cipher.NewGCM(b)
	if err != nil {
		panic(err) // a 16-byte block always is
	}
	return &sealer{g, header}
}

// overhead is what sealing adds.
const overhead = 16

// nonce and ad, as FORMAT.md "Sealing" has them. clear is the body before its sealed part; it begins with the number.
func (s *sealer) nonce(t FrameType, clear []byte) (nonce [12]byte) {
	nonce[0] = byte(t)
	copy(nonce[4:], clear[:8])
	return nonce
}

func (s *sealer) ad(t FrameType, clear []byte) []byte {
	ad := make([]byte, 0, 96)
	ad = append(ad, label...)
	ad = append(ad, s.header[:]...)
	ad = append(ad, byte(t))
	return append(ad, clear...)
}

// frame gives a whole sealed frame. The caller answers for the number being fresh.
func (s *sealer) frame(t FrameType, clear, plain []byte) ([]byte, error) {
	n := 1 + len(clear) + len(plain) + overhead
	if n > MaxFrame {
		return nil, fmt.Errorf("%w: %d bytes, at most %d", ErrFrame, n, MaxFrame)
	}
	f := make([]byte, 0, 4+n)
	f = binary.BigEndian.AppendUint32(f, uint32(n))
	f = append(f, byte(t))
	f = append(f, clear...)
	nonce := s.nonce(t, clear)
	return s.aead.Seal(f, nonce[:], plain, s.ad(t, clear)), nil
}

// frameHead is a frame's length and type.
const frameHead = 4 + 1

// sealFrame makes a whole sealed frame of f, which holds room for the head, the clear bytes, and then the plaintext. It is sealed where it lies, with room for
// the tag behind it if f has that. The caller answers for the number being fresh.
func (s *sealer) sealFrame(t FrameType, f []byte, clear int) ([]byte, error) {
	n := len(f) - 4 + overhead
	if n > MaxFrame {
		return nil, fmt.Errorf("%w: %d bytes, at most %d", ErrFrame, n, MaxFrame)
	}
	binary.BigEndian.PutUint32(f, uint32(n))
	f[4] = byte(t)
	c := f[frameHead : frameHead+clear]
	nonce := s.nonce(t, c)
	return s.aead.Seal(f[:frameHead+clear], nonce[:], f[frameHead+clear:], s.ad(t, c)), nil
}

// open gives the plaintext of a sealed body; clear bytes of it are not sealed.
func (s *sealer) open(t FrameType, body []byte, clear int) ([]byte, error) {
	return s.appendOpen(nil, t, body, clear)
}

// appendOpen is open behind what dst holds.
func (s *sealer) appendOpen(dst []byte, t FrameType, body []byte, clear int) ([]byte, error) {
	nonce := s.nonce(t, body[:clear])
	p, err := s.aead.Open(dst, nonce[:], body[clear:], s.ad(t, body[:clear]))
	if err != nil {
		return nil, ErrSeal
	}
	return p, nil
}

// Recipient prefixes: age's own spelling of public keys.
const (
	prefixHybrid = "age1pq1"
	prefixX25519 = "age1"
)

// ParseRecipients reads age recipients, one a string: all post-quantum hybrid (age1pq1…) or all X25519 (age1…). A mix is
// refused, as age itself does: one classical recipient would take the post-quantum strength from all.
func ParseRecipients(ss []string) ([]age.Recipient, error) {
	if len(ss) == 0 {
		return nil, fmt.Errorf("%w: no recipient: nobody could read the recording", ErrEnvelope)
	}
	var rs []age.Recipient
	var hybrid, classical int
	for _, s := range ss {
		switch {
		case strings.HasPrefix(s, prefixHybrid):
			r, err := age.ParseHybridRecipient(s)
			if err != nil {
				return nil, fmt.Errorf("%w: recipient: %w", ErrEnvelope, err)
			}
			hybrid++
			rs = append(rs, r)
		case strings.HasPrefix(s, prefixX25519):
			r, err := age.ParseX25519Recipient(s)
			if err != nil {
				return nil, fmt.Errorf("%w: recipient: %w", ErrEnvelope, err)
			}
			classical++
			rs = append(rs, r)
		default:
			// Not quoted: somebody may have given the secret half by mistake.
			return nil, fmt.Errorf("%w: a recipient begins with %q or %q", ErrEnvelope, prefixHybrid, prefixX25519)
		}
	}
	if hybrid > 0 && classical > 0 {
		return nil, fmt.Errorf("%w: %d post-quantum and %d classical recipients: use one kind", ErrEnvelope, hybrid, classical)
	}
	return rs, nil
}

// MaxEnvelope bounds an envelope: 5 hybrid recipients take 8 KiB.
const MaxEnvelope = 256 << 10

// Envelope seals a key to the recipients. The header names its hash.
func Envelope(recipients []age.Recipient, k Key) ([]byte, error) {
	if len(recipients) == 0 {
		return nil, fmt.Errorf("%w: no recipient", ErrEnvelope)
	}
	var buf bytes.Buffer
	w, err := age.Encrypt(&buf, recipients...)
	if err != nil {
		return nil, fmt.Errorf("sealing envelope: %w", err)
	}
	if _, err := w.Write(k[:]); err != nil {
		return nil, fmt.Errorf("sealing envelope: %w", err)
	}
	if err := w.Close(); err != nil {
		return nil, fmt.Errorf("sealing envelope: %w", err)
	}
	if buf.Len() > MaxEnvelope {
		return nil, fmt.Errorf("%w: %d bytes for %d recipients, at most %d", ErrEnvelope, buf.Len(), len(recipients), MaxEnvelope)
	}
	return buf.Bytes(), nil
}

// ErrNotRecipient: none of the identities is a recipient of the envelope.
var ErrNotRecipient = errors.New("no identity given opens this envelope")

// OpenEnvelope gives the key, after holding the envelope against the header: an envelope of another session is refused,
// and so is a key that the header doesn't commit to.
func OpenEnvelope(h Header, env []byte, identities ...age.Identity) (Key, error) {
	var k Key
	if len(env) > MaxEnvelope || SHA256(env) != h.Env {
		return k, fmt.Errorf("%w: not the one that the header names", ErrEnvelope)
	}
	if len(identities) == 0 {
		return k, ErrNotRecipient
	}
	r, err := age.Decrypt(bytes.NewReader(env), identities...)
	if err != nil {
		var no *age.NoIdentityMatchError
		if errors.As(err, &no) {
			return k, ErrNotRecipient
		}
		return k, fmt.Errorf("%w: %w", ErrEnvelope, err)
	}
	b, err := io.ReadAll(io.LimitReader(r, int64(len(k))+1))
	if err != nil {
		return k, fmt.Errorf("%w: %w", ErrEnvelope, err)
	}
	if len(b) != len(k) {
		return k, fmt.Errorf("%w: holds no 32-byte key", ErrEnvelope)
	}
	copy(k[:], b)
	if c := k.Commitment(); subtle.ConstantTimeCompare(c[:], h.KC[:]) != 1 {
		return Key{}, ErrKey
	}
	return k, nil
}
