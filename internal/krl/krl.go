// Package krl writes and reads OpenSSH key revocation lists (PROTOCOL.krl), the files that sshd's RevokedKeys names.
//
// It guarantees to hosts: what Marshal writes is what stock sshd and `ssh-keygen -Q` read, for a list that sshd can't read locks everybody out.
// It guarantees to whoever checks: Parse takes the sections that it knows, whole, and refuses every other; what it gives back says exactly what
// the bytes do.
//
//	uint64  magic "SSHKRL\n\0"     uint32 format version 1
//	uint64  krl_version            uint64 generated_date (seconds)
//	uint64  flags (0)              string reserved (empty)
//	string  comment
//	then sections: byte type, string data
//	  1  certificates of one CA: string ca_key, string reserved, then byte type, string data:
//	       0x20 serials: uint64 …                      0x21 range: uint64 min, uint64 max
//	       0x22 bitmap: uint64 offset, mpint bits      0x23 key ids: string …
//	  2  keys: string blob …
//	  5  SHA-256 fingerprints of keys: string hash …
package krl

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"time"

	"golang.org/x/crypto/ssh"
)

const (
	// Magic begins every list. Copies with "SSHKRL\0\0" are about; sshd refuses them, and with them everybody.
	Magic  = "SSHKRL\n\x00"
	format = 1

	// MaxSize bounds a list that is read: a hundred thousand serials are 800 KB.
	MaxSize = 8 << 20
	// maxBits bounds one bitmap, so that a few bytes can't stand for more serials than memory holds; OpenSSH reads mpints of at most 16,384 bits.
	maxBits = 16 << 10

	sectionCertificates = 1
	sectionKeys         = 2
	sectionSHA256       = 5

	serialList   = 0x20
	serialRange  = 0x21
	serialBitmap = 0x22
	keyIDs       = 0x23
)

// ErrMalformed is wrapped by every error of Parse.
var ErrMalformed = errors.New("malformed revocation list")

// Range is the serials from Lo to Hi, both included.
type Range struct{ Lo, Hi uint64 }

// CA holds what is revoked of one CA's certificates.
type CA struct {
	Key     ssh.PublicKey
	Serials []Range // sorted, apart
	KeyIDs  []string
}

// List is a revocation list.
type List struct {
	Version   uint64 // rises
	Generated time.Time
	Comment   string
	CAs       []CA
	Keys      []ssh.PublicKey // revoked as themselves, and as the CA of whatever they signed
	SHA256    [][32]byte      // fingerprints of such keys
}

// Single is one serial.
func Single(n uint64) Range { return Range{n, n} }

// Ranges sorts serials and joins those that touch.
func Ranges(list []Range) []Range {
	list = slices.Clone(list)
	slices.SortFunc(list, func(a, b Range) int { return cmp.Or(cmp.Compare(a.Lo, b.Lo), cmp.Compare(a.Hi, b.Hi)) })
	var out []Range
	for _, r := range list {
		if n := len(out); n > 0 && (r.Lo <= out[n-1].Hi || r.Lo == out[n-1].Hi+1) {
			out[n-1].Hi = max(out[n-1].Hi, r.Hi)
			continue
		}
		out = append(out, r)
	}
	return out
}

// Marshal writes the list.
func (l *List) Marshal() ([]byte, error) {
	var b writer
	b.WriteString(Magic)
	b.uint32(format)
	b.uint64(l.Version)
	b.uint64(uint64(l.Generated.Unix()))
	b.uint64(0)
	b.bytes(nil)
	b.bytes([]byte(l.Comment))
	for _, ca := range l.CAs {
		if len(ca.Serials)+len(ca.KeyIDs) == 0 { // an empty section says nothing
			continue
		}
		s, err := ca.section()
		if err != nil {
			return nil, err
		}
		b.section(sectionCertificates, s)
	}
	if len(l.Keys) > 0 {
		var k writer
		for _, key := range l.Keys {
			if _, ok := key.(*ssh.Certificate); ok {
				return nil, errors.New("writing a revocation list: a certificate among the keys")
			}
			k.bytes(key.Marshal())
		}
		b.section(sectionKeys, k.Bytes())
	}
	if len(l.SHA256) > 0 {
		var k writer
		for _, h := range slices.SortedFunc(slices.Values(l.SHA256), func(a, b [32]byte) int { return bytes.Compare(a[:], b[:]) }) {
			k.bytes(h[:])
		}
		b.section(sectionSHA256, k.Bytes())
	}
	return b.Bytes(), nil
}

// section is what is revoked of one CA. Runs of serials are ranges, dense ones bitmaps, and all others a list.
func (ca *CA) section() ([]byte, error) {
	if ca.Key == nil {
		return nil, errors.New("writing a revocation list: certificates of no CA")
	}
	var b writer
	b.bytes(ca.Key.Marshal())
	b.bytes(nil)
	rest := Ranges(ca.Serials)
	if len(rest) > 0 && rest[0].Lo == 0 { // OpenSSH refuses serial 0: every certificate that has no serial would have it
		return nil, errors.New("writing a revocation list: serial 0")
	}
	var list writer
	for len(rest) > 0 {
		if n := dense(rest); n > 1 {
			b.section(serialBitmap, bitmap(rest[:n]))
			rest = rest[n:]
			continue
		}
		switch r := rest[0]; {
		case r.Hi-r.Lo < 3: // up to three serials take no more room than a range
			for s := r.Lo; ; s++ {
				list.uint64(s)
				if s == r.Hi {
					break
				}
			}
		default:
			var x writer
			x.uint64(r.Lo)
			x.uint64(r.Hi)
			b.section(serialRange, x.Bytes())
		}
		rest = rest[1:]
	}
	if list.Len() > 0 {
		b.section(serialList, list.Bytes())
	}
	if len(ca.KeyIDs) > 0 {
		var x writer
		for _, id := range slices.Compact(slices.Sorted(slices.Values(ca.KeyIDs))) {
			if id == "" {
				return nil, errors.New("writing a revocation list: an empty key id")
			}
			x.bytes([]byte(id))
		}
		b.section(keyIDs, x.Bytes())
	}
	return b.Bytes(), nil
}

// dense says how many of the first ranges are smaller as one bitmap than one by one; 0 or 1: none.
func dense(r []Range) int {
	const overhead = 5 + 8 + 4 // of a bitmap section
	cost, best := 0, 0
	for i, x := range r {
		if x.Hi-r[0].Lo >= maxBits {
			break
		}
		if n := x.Hi - x.Lo + 1; n <= 3 {
			cost += 8 * int(n)
		} else {
			cost += 5 + 16
		}
		if int(x.Hi-r[0].Lo)/8+1+1+overhead < cost {
			best = i + 1
		}
	}
	return best
}

func bitmap(r []Range) []byte {
	bits := new(big.Int)
	for _, x := range r {
		for s := x.Lo; ; s++ { // Hi may be the last serial of all
			bits.SetBit(bits, int(s-r[0].Lo), 1)
			if s == x.Hi {
				break
			}
		}
	}
	var b writer
	b.uint64(r[0].Lo)
	b.mpint(bits)
	return b.Bytes()
}

// Revokes says whether the list revokes a key or a certificate, as sshd judges it: the key itself, its CA, its serial, its key id.
func (l *List) Revokes(k ssh.PublicKey) bool {
	c, ok := k.(*ssh.Certificate)
	if !ok {
		return l.revokesKey(k)
	}
	if l.revokesKey(c.Key) || l.revokesKey(c.SignatureKey) {
		return true
	}
	for _, ca := range l.CAs {
		if !bytes.Equal(ca.Key.Marshal(), c.SignatureKey.Marshal()) {
			continue
		}
		if slices.Contains(ca.KeyIDs, c.KeyId) {
			return true
		}
		// A certificate without a serial can only be revoked by its key id or key.
		if c.Serial != 0 && slices.ContainsFunc(ca.Serials, func(r Range) bool { return r.Lo <= c.Serial && c.Serial <= r.Hi }) {
			return true
		}
	}
	return false
}

func (l *List) revokesKey(k ssh.PublicKey) bool {
	blob := k.Marshal()
	return slices.ContainsFunc(l.Keys, func(x ssh.PublicKey) bool { return bytes.Equal(x.Marshal(), blob) }) || slices.Contains(l.SHA256, sum(blob))
}

// writer writes RFC 4251 types.
type writer struct{ bytes.Buffer }

func (b *writer) uint32(n uint32) { b.Write(binary.BigEndian.AppendUint32(nil, n)) }
func (b *writer) uint64(n uint64) { b.Write(binary.BigEndian.AppendUint64(nil, n)) }
func (b *writer) bytes(s []byte) {
	b.uint32(uint32(len(s)))
	b.Write(s)
}

func (b *writer) section(typ byte, data []byte) {
	b.WriteByte(typ)
	b.bytes(data)
}

func (b *writer) mpint(n *big.Int) {
	raw := n.Bytes()
	if len(raw) > 0 && raw[0]&0x80 != 0 { // RFC 4251: else it would be negative
		raw = append([]byte{0}, raw...)
	}
	b.bytes(raw)
}

func malformed(format string, a ...any) error {
	return fmt.Errorf("%w: "+format, append([]any{ErrMalformed}, a...)...)
}
