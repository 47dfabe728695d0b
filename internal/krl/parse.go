package krl

import (
	"crypto/sha256"
	"encoding/binary"
	"math"
	"time"

	"golang.org/x/crypto/ssh"
)

func sum(b []byte) [32]byte { return sha256.Sum256(b) }

// Parse reads a list.
func Parse(data []byte) (*List, error) {
	if len(data) > MaxSize {
		return nil, malformed("%d bytes, limit %d", len(data), MaxSize)
	}
	r := &reader{data}
	magic, ok := r.take(len(Magic))
	if !ok || string(magic) != Magic {
		return nil, malformed("it does not begin with %q", Magic)
	}
	v, ok := r.uint32()
	if !ok || v != format {
		return nil, malformed("format version %d", v)
	}
	l := &List{}
	var date, flags uint64
	for _, p := range []*uint64{&l.Version, &date, &flags} {
		if *p, ok = r.uint64(); !ok {
			return nil, malformed("it ends in its head")
		}
	}
	if date > math.MaxInt64/2 {
		return nil, malformed("generated at %d", date)
	}
	l.Generated = time.Unix(int64(date), 0).UTC()
	reserved, ok1 := r.bytes()
	comment, ok2 := r.bytes()
	if !ok1 || !ok2 || len(reserved) > 0 || flags != 0 {
		return nil, malformed("its head")
	}
	l.Comment = string(comment)
	for len(r.b) > 0 {
		typ, data, ok := r.section()
		if !ok {
			return nil, malformed("it ends in a section")
		}
		if err := l.read(typ, data); err != nil {
			return nil, err
		}
	}
	return l, nil
}

func (l *List) read(typ byte, data []byte) error {
	r := &reader{data}
	switch typ {
	case sectionCertificates:
		ca, err := readCA(r)
		if err != nil {
			return err
		}
		l.CAs = append(l.CAs, *ca)
	case sectionKeys:
		for len(r.b) > 0 {
			blob, ok := r.bytes()
			if !ok {
				return malformed("it ends in a key")
			}
			k, err := ssh.ParsePublicKey(blob)
			if err != nil {
				return malformed("a key: %v", err)
			}
			if _, ok := k.(*ssh.Certificate); ok {
				return malformed("a certificate among the keys")
			}
			l.Keys = append(l.Keys, k)
		}
	case sectionSHA256:
		for len(r.b) > 0 {
			h, ok := r.bytes()
			if !ok || len(h) != sha256.Size {
				return malformed("a fingerprint")
			}
			l.SHA256 = append(l.SHA256, [32]byte(h))
		}
	default:
		return malformed("section %d is none that this program knows", typ)
	}
	return nil
}

func readCA(r *reader) (*CA, error) {
	blob, ok1 := r.bytes()
	reserved, ok2 := r.bytes()
	if !ok1 || !ok2 || len(reserved) > 0 {
		return nil, malformed("the head of a CA's section")
	}
	key, err := ssh.ParsePublicKey(blob)
	if err != nil {
		return nil, malformed("a CA's key: %v", err)
	}
	ca := &CA{Key: key}
	for len(r.b) > 0 {
		typ, data, ok := r.section()
		if !ok {
			return nil, malformed("it ends in a CA's section")
		}
		if err := ca.read(typ, &reader{data}); err != nil {
			return nil, err
		}
	}
	ca.Serials = Ranges(ca.Serials)
	return ca, nil
}

func (ca *CA) read(typ byte, r *reader) error {
	switch typ {
	case serialList:
		for len(r.b) > 0 {
			n, ok := r.uint64()
			if !ok || n == 0 {
				return malformed("a serial")
			}
			ca.Serials = append(ca.Serials, Single(n))
		}
	case serialRange:
		lo, ok1 := r.uint64()
		hi, ok2 := r.uint64()
		if !ok1 || !ok2 || len(r.b) > 0 || lo == 0 || lo > hi {
			return malformed("a range of serials")
		}
		ca.Serials = append(ca.Serials, Range{lo, hi})
	case serialBitmap:
		lo, ok1 := r.uint64()
		bits, ok2 := r.bytes()
		if !ok1 || !ok2 || len(r.b) > 0 || len(bits) > maxBits/8+1 || len(bits) > 0 && bits[0]&0x80 != 0 {
			return malformed("a bitmap of serials")
		}
		for i := range bits {
			for bit := range 8 {
				if bits[len(bits)-1-i]&(1<<bit) == 0 {
					continue
				}
				n := uint64(i*8 + bit)
				if lo > math.MaxUint64-n || lo+n == 0 {
					return malformed("a bitmap of serials beyond the last or at 0")
				}
				ca.Serials = append(ca.Serials, Single(lo+n))
			}
		}
	case keyIDs:
		for len(r.b) > 0 {
			id, ok := r.bytes()
			if !ok || len(id) == 0 {
				return malformed("a key id")
			}
			ca.KeyIDs = append(ca.KeyIDs, string(id))
		}
	default:
		return malformed("certificate section %#x is none that this program knows", typ)
	}
	return nil
}

// reader reads RFC 4251 types.
type reader struct{ b []byte }

func (r *reader) take(n int) ([]byte, bool) {
	if n < 0 || n > len(r.b) {
		return nil, false
	}
	out := r.b[:n]
	r.b = r.b[n:]
	return out, true
}

func (r *reader) uint32() (uint32, bool) {
	b, ok := r.take(4)
	if !ok {
		return 0, false
	}
	return binary.BigEndian.Uint32(b), true
}

func (r *reader) uint64() (uint64, bool) {
	b, ok := r.take(8)
	if !ok {
		return 0, false
	}
	return binary.BigEndian.Uint64(b), true
}

func (r *reader) bytes() ([]byte, bool) {
	n, ok := r.uint32()
	if !ok || n > MaxSize {
		return nil, false
	}
	return r.take(int(n))
}

func (r *reader) section() (byte, []byte, bool) {
	typ, ok := r.take(1)
	if !ok {
		return 0, nil, false
	}
	data, ok := r.bytes()
	return typ[0], data, ok
}
