package recovery

import (
	"errors"
	"fmt"
	"strings"
)

// age spells secret keys in bech32 (BIP 173, without its limit of 90 characters) and has no function that gives or takes the bytes alone. This is as much of it
// as that takes; age itself reads what is written here, and checks it.

const bech32Letters = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"

// errBech32 is never seen: age has read the text before.
var errBech32 = errors.New("reading the recovery key: not bech32")

func polymod(values []byte) uint32 {
	chk := uint32(1)
	for _, v := range values {
		top := chk >> 25
		chk = chk&0x1ffffff<<5 ^ uint32(v)
		for i, g := range [...]uint32{0x3b6a57b2, 0x26508e6d, 0x1ea119fa, 0x3d4233dd, 0x2a1462b3} {
			if top>>i&1 == 1 {
				chk ^= g
			}
		}
	}
	return chk
}

// bech32 writes data under an upper-case human-readable part.
func bech32(hrp string, data []byte) string {
	var five []byte
	acc, bits := uint32(0), 0
	for _, b := range data {
		acc = acc<<8 | uint32(b)
		for bits += 8; bits >= 5; {
			bits -= 5
			five = append(five, byte(acc>>bits&31))
		}
	}
	if bits > 0 {
		five = append(five, byte(acc<<(5-bits)&31))
	}
	low := strings.ToLower(hrp)
	var v []byte
	for i := range low {
		v = append(v, low[i]>>5)
	}
	v = append(v, 0)
	for i := range low {
		v = append(v, low[i]&31)
	}
	chk := polymod(append(append(v, five...), 0, 0, 0, 0, 0, 0)) ^ 1
	var out strings.Builder
	out.WriteString(hrp + "1")
	for _, b := range five {
		out.WriteByte(bech32Letters[b])
	}
	for i := range 6 {
		out.WriteByte(bech32Letters[chk>>(5*(5-i))&31])
	}
	return strings.ToUpper(out.String())
}

// secretOf gives the bytes of a secret key that age has read.
func secretOf(text string) ([]byte, error) {
	at := strings.LastIndexByte(text, '1')
	if at < 0 || len(text)-at-1 < 6 {
		return nil, errBech32
	}
	var out []byte
	acc, bits := uint32(0), 0
	for _, c := range strings.ToLower(text[at+1 : len(text)-6]) {
		i := strings.IndexRune(bech32Letters, c)
		if i < 0 {
			return nil, errBech32
		}
		acc = acc<<5 | uint32(i)
		if bits += 5; bits >= 8 {
			bits -= 8
			out = append(out, byte(acc>>bits))
		}
	}
	if len(out) != keyLen {
		return nil, fmt.Errorf("%w of %d bytes", errBech32, keyLen)
	}
	return out, nil
}
