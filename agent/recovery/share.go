package recovery

import (
	"crypto/rand"
	"crypto/subtle"
)

// mul multiplies in GF(2^8), FIPS 197 section 4.2. It takes the same time for all values.
func mul(a, b byte) byte {
	var out byte
	for range 8 {
		out ^= a & -(b & 1)
		a = a<<1 ^ 0x1b&-(a>>7)
		b >>= 1
	}
	return out
}

// inverse is a^254: the inverse of all but 0.
func inverse(a byte) byte {
	out := byte(1)
	for range 254 {
		out = mul(out, a)
	}
	return out
}

// split gives n shares of secret, of which any two give it back.
func split(secret *[keyLen]byte, n int) [][keyLen]byte {
	var r [keyLen]byte
	rand.Read(r[:])
	defer clear(r[:])
	return splitWith(secret, &r, n)
}

func splitWith(secret, r *[keyLen]byte, n int) [][keyLen]byte {
	out := make([][keyLen]byte, n)
	for i := range out {
		for j := range secret {
			out[i][j] = secret[j] ^ mul(r[j], byte(i+1))
		}
	}
	return out
}

// combine gives the secret from two shares; x1 and x2 differ.
func combine(x1 byte, y1 *[keyLen]byte, x2 byte, y2 *[keyLen]byte) (s [keyLen]byte) {
	d := inverse(x1 ^ x2)
	for j := range s {
		s[j] = mul(mul(y1[j], x2)^mul(y2[j], x1), d)
	}
	return s
}

func equal(a, b []byte) bool { return subtle.ConstantTimeCompare(a, b) == 1 }
