package ca

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"breakglass/internal/name"
)

// A sealed seed is
//
//	version (1 byte, 1) | salt (32 bytes) | AES-256-GCM(seed (20 bytes) | made (8 bytes, seconds since 1970, big endian))
//
// Key and additional data: HKDF-SHA256 of the state key, the salt and the label; and origin, person and device, so that a seed moved to
// another person or another CA does not open. The key is the salt's own, so the nonce is zero: however many seeds strangers have made,
// no nonce comes twice under a key.
const (
	totpSealVersion = 1
	totpSeedSize    = 20 // RFC 4226 section 4, R6: 160 bits are recommended
	totpSalt        = 32
	totpSealedSize  = 1 + totpSalt + totpSeedSize + 8 + 16
)

var errUnsealed = errors.New("the sealed seed does not open")

// totpSealer is made of the state key; it holds nothing else.
type totpSealer struct {
	key    []byte
	origin string
}

func (s totpSealer) aead(salt []byte) (cipher.AEAD, error) {
	k, err := hkdf.Key(sha256.New, s.key, salt, "breakglass totp seed v1", 32)
	if err != nil {
		return nil, err
	}
	b, err := aes.NewCipher(k)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(b)
}

func (s totpSealer) additional(p name.Person, device name.Key) []byte {
	return fmt.Appendf(nil, "%s\x00%s\x00%s", s.origin, p, device)
}

func (s totpSealer) seal(seed []byte, p name.Person, device name.Key, made time.Time) ([]byte, error) {
	out := make([]byte, 1+totpSalt, totpSealedSize)
	out[0] = totpSealVersion
	rand.Read(out[1:])
	a, err := s.aead(out[1:])
	if err != nil {
		return nil, err
	}
	plain := binary.BigEndian.AppendUint64(append([]byte(nil), seed...), uint64(made.Unix()))
	defer clear(plain)
	return a.Seal(out, make([]byte, a.NonceSize()), plain, s.additional(p, device)), nil
}

func (s totpSealer) open(sealed []byte, p name.Person, device name.Key) (seed []byte, made time.Time, err error) {
	if len(sealed) != totpSealedSize || sealed[0] != totpSealVersion {
		return nil, made, errUnsealed
	}
	a, err := s.aead(sealed[1 : 1+totpSalt])
	if err != nil {
		return nil, made, err
	}
	plain, err := a.Open(nil, make([]byte, a.NonceSize()), sealed[1+totpSalt:], s.additional(p, device))
	if err != nil {
		return nil, made, errUnsealed
	}
	return plain[:totpSeedSize:totpSeedSize], time.Unix(int64(binary.BigEndian.Uint64(plain[totpSeedSize:])), 0), nil
}
