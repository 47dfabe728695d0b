package attest

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"encoding/binary"

	"github.com/fxamacker/cbor/v2"
)

// Authenticator data, flags (WebAuthn section 6.1).
const (
	flagUP        = 0x01 // user present
	flagUV        = 0x04 // user verified
	flagBE        = 0x08 // backup eligible
	flagBS        = 0x10 // backed up
	flagAT        = 0x40 // attested credential data included
	flagED        = 0x80 // extension data included
	flagsReserved = 0x02 | 0x20
)

// headSize is rpIdHash (32), flags, counter (4), AAGUID (16), length of the credential id (2).
const headSize = 32 + 1 + 4 + 16 + 2

// maxCOSE bounds the credential's public key: ES256 takes 77 bytes.
const maxCOSE = 128

// COSE numbers (RFC 9053).
const (
	coseEC2   = 2
	coseP256  = 1
	coseES256 = -7
)

// AuthData is the authenticator data of a new credential (WebAuthn section 6.1).
type AuthData struct {
	RPIDHash     [32]byte
	Flags        byte
	Counter      uint32
	AAGUID       [16]byte
	CredentialID []byte
	Point        []byte // 0x04 ‖ X ‖ Y, on P-256
}

type coseKey struct {
	Kty int    `cbor:"1,keyasint"`
	Alg int    `cbor:"3,keyasint"`
	Crv int    `cbor:"-1,keyasint"`
	X   []byte `cbor:"-2,keyasint"`
	Y   []byte `cbor:"-3,keyasint"`
}

// extensions are those that a client of ours or ssh-keygen asks for; anything else was asked for by somebody else.
type extensions struct {
	CredProtect int `cbor:"credProtect"`
}

// Unwrap takes authenticator data out of the CBOR byte string in which libfido2 and ssh-keygen hand it out; raw data it gives back. A
// byte string counts only in its shortest form, and only if nothing follows it. (Raw data of our application begins with 0x47, which begins
// no byte string: there is one way to read either.)
func Unwrap(b []byte) ([]byte, error) {
	if len(b) > MaxPart {
		return nil, refuse(Format, "authenticator data of %d bytes, want at most %d", len(b), MaxPart)
	}
	const oneByte, twoBytes, last = 0x58, 0x59, 0x5f // major type 2 with its length behind; the least is 55 bytes
	switch {
	case len(b) == 0 || b[0] < oneByte || b[0] > last:
		return b, nil
	case b[0] == oneByte && len(b) > 2 && b[1] >= 24 && len(b) == 2+int(b[1]):
		return b[2:], nil
	case b[0] == twoBytes && len(b) > 3 && b[1] > 0 && len(b) == 3+int(binary.BigEndian.Uint16(b[1:])):
		return b[3:], nil
	}
	return nil, refuse(Format, "authenticator data that is not one CBOR byte string")
}

// ParseAuthData reads authenticator data that has a credential in it, in the one spelling that CTAP2 allows.
func ParseAuthData(b []byte) (*AuthData, error) {
	if len(b) > MaxPart {
		return nil, refuse(Format, "authenticator data of %d bytes, want at most %d", len(b), MaxPart)
	}
	if len(b) < 37 {
		return nil, refuse(Format, "authenticator data of %d bytes is cut off", len(b))
	}
	d := &AuthData{RPIDHash: [32]byte(b[:32]), Flags: b[32], Counter: binary.BigEndian.Uint32(b[33:])}
	if d.Flags&flagAT == 0 {
		return nil, refuse(Flags, "the authenticator data has no credential")
	}
	if len(b) < headSize {
		return nil, refuse(Format, "authenticator data of %d bytes is cut off", len(b))
	}
	d.AAGUID = [16]byte(b[37:])
	n := int(binary.BigEndian.Uint16(b[headSize-2:]))
	rest := b[headSize:]
	if n == 0 || n > MaxCredential || n > len(rest) {
		return nil, refuse(Format, "a credential id of %d bytes", n)
	}
	d.CredentialID, rest = rest[:n], rest[n:]
	var k coseKey
	rest, err := canonical(rest, &k, maxCOSE)
	if err != nil {
		return nil, refuse(Format, "the credential's public key: %v", err)
	}
	if k.Kty != coseEC2 || k.Alg != coseES256 || k.Crv != coseP256 || len(k.X) != 32 || len(k.Y) != 32 {
		return nil, refuse(Key, "the credential's public key is not ES256 on P-256")
	}
	d.Point = append(append([]byte{4}, k.X...), k.Y...)
	if _, err := ecdsa.ParseUncompressedPublicKey(elliptic.P256(), d.Point); err != nil {
		return nil, refuse(Key, "the credential's public key is not on the curve")
	}
	if d.Flags&flagED != 0 {
		var x extensions
		if rest, err = canonical(rest, &x, maxCOSE); err != nil {
			return nil, refuse(Format, "extensions: %v", err)
		}
		if x.CredProtect < 1 || x.CredProtect > 3 { // CTAP 2.1 section 12.1
			return nil, refuse(Format, "extension credProtect %d", x.CredProtect)
		}
	}
	if len(rest) != 0 {
		return nil, refuse(Format, "%d bytes follow the authenticator data", len(rest))
	}
	return d, nil
}

// canonical reads one CBOR item from the beginning of b into v and gives what follows. What was read must be exactly what CTAP2 canonical
// CBOR makes of v (CTAP 2.1 section 8): every field once, none beside, each in its shortest form, in order.
func canonical(b []byte, v any, limit int) ([]byte, error) {
	m, err := cbor.DecOptions{
		DupMapKey: cbor.DupMapKeyEnforcedAPF, IndefLength: cbor.IndefLengthForbidden, TagsMd: cbor.TagsForbidden,
		ExtraReturnErrors: cbor.ExtraDecErrorUnknownField, MaxNestedLevels: 4, MaxMapPairs: 16, MaxArrayElements: 16,
	}.DecMode()
	if err != nil {
		return nil, err
	}
	rest, err := m.UnmarshalFirst(b[:min(len(b), limit)], v)
	if err != nil {
		return nil, err
	}
	n := min(len(b), limit) - len(rest)
	e, err := cbor.CTAP2EncOptions().EncMode()
	if err != nil {
		return nil, err
	}
	if again, err := e.Marshal(v); err != nil || !bytes.Equal(again, b[:n]) {
		return nil, errNotCanonical
	}
	return b[n:], nil
}
