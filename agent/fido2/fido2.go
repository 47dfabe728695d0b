// Package fido2 asks hardware keys for credentials and signatures through libfido2 (by go-libfido2).
//
// It guarantees its callers what the binding does not: an answer is given out only if it is for the
// application that was asked (rpIdHash), by the key that was asked (the signature verifies), and of
// the form that ssh can express (authenticator data of exactly 37 bytes in an assertion). Errors are
// *wire.Error with a code for each thing that a person can do about it. Touch, verification and
// counter are returned as the key stated them; judging them is the CA's.
//
// Only cmd/breakglass-fido2 links this package: a call may hang in a key that doesn't answer (libfido2
// has no timeout in the binding), the binding leaks each C string including the PIN, and its Cancel
// races with its open. All that has to die with a process. With cgo off or the tag nolibfido2 every
// function returns wire.NoBackend.
package fido2

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha256"
	"crypto/x509"
	"encoding/asn1"
	"encoding/binary"
	"fmt"
	"math/big"

	"github.com/fxamacker/cbor/v2"
	"golang.org/x/crypto/ssh"

	"breakglass/agent/fido2/wire"
)

// KeyType is the only ssh key type that is enrolled (OpenSSH PROTOCOL.u2f).
const KeyType = "sk-ecdsa-sha2-nistp256@openssh.com"

// Authenticator data (WebAuthn section 6.1).
const (
	assertionLen = 37 // rpIdHash (32), flags, counter (4): all that an ssh signature has room for
	flagUP       = 0x01
	flagUV       = 0x04
	flagAT       = 0x40
	flagED       = 0x80
	coseEC2      = 2
	coseP256     = 1
	coseES256    = -7
)

// CredentialRequest asks for a new credential.
type CredentialRequest struct {
	Application   string
	ChallengeHash []byte // clientDataHash: 32 bytes
	User          string
	PIN           []byte // empty: none, the key may verify by itself
	UV            bool   // the user must be verified
	HMACSecret    bool   // it must be able to derive secrets (CTAP 2.1 section 12.5)
}

// AssertionRequest asks for a signature by one credential.
type AssertionRequest struct {
	Application string
	Key         wire.Key
	DataHash    []byte // clientDataHash: 32 bytes
	PIN         []byte
	UV          bool
}

// Assertion is a checked signature.
type Assertion struct {
	R, S    *big.Int
	Flags   byte
	Counter uint32
}

// Signature is the assertion as ssh has it.
func (a *Assertion) Signature() *ssh.Signature {
	return &ssh.Signature{
		Format: KeyType,
		Blob:   ssh.Marshal(struct{ R, S *big.Int }{a.R, a.S}),
		Rest:   binary.BigEndian.AppendUint32([]byte{a.Flags}, a.Counter),
	}
}

// publicKey is the ssh wire format of an sk-ecdsa key.
type publicKey struct {
	Type        string
	Curve       string
	Point       []byte
	Application string
}

func badAnswer(format string, a ...any) error {
	return &wire.Error{Code: wire.BadAnswer, Detail: fmt.Sprintf(format, a...)}
}

// parsePublicKey reads a key and holds it against the application, which it carries too.
func parsePublicKey(b []byte, application string) (*ecdsa.PublicKey, error) {
	bad := func(format string, a ...any) (*ecdsa.PublicKey, error) {
		return nil, &wire.Error{Code: wire.BadRequest, Detail: fmt.Sprintf(format, a...)}
	}
	var k publicKey
	if err := ssh.Unmarshal(b, &k); err != nil {
		return bad("reading public key: %v", err)
	}
	if k.Type != KeyType || k.Curve != "nistp256" {
		return bad("public key is %q on %q, not %s", k.Type, k.Curve, KeyType)
	}
	if k.Application != application {
		return bad("public key is for application %q, not %q", k.Application, application)
	}
	pub, err := ecdsa.ParseUncompressedPublicKey(elliptic.P256(), k.Point)
	if err != nil {
		return bad("reading public key: %v", err)
	}
	return pub, nil
}

// unwrapAuthData takes off the CBOR byte string that libfido2 hands authenticator data out in.
func unwrapAuthData(b []byte) ([]byte, error) {
	var raw []byte
	rest, err := cbor.UnmarshalFirst(b, &raw)
	if err != nil || len(rest) != 0 || len(b) == 0 || b[0]>>5 != 2 {
		return nil, badAnswer("authenticator data is not one CBOR byte string")
	}
	return raw, nil
}

// checkAssertion is what fido_assert_verify would do, and the binding has not.
func checkAssertion(q *AssertionRequest, credentialID, authDataCBOR, sig []byte) (*Assertion, error) {
	pub, err := parsePublicKey(q.Key.PublicKey, q.Application)
	if err != nil {
		return nil, err
	}
	if len(credentialID) != 0 && !bytes.Equal(credentialID, q.Key.CredentialID) { // empty: CTAP lets a key omit it
		return nil, badAnswer("signed with another credential")
	}
	ad, err := unwrapAuthData(authDataCBOR)
	if err != nil {
		return nil, err
	}
	if len(ad) != assertionLen || ad[32]&(flagAT|flagED) != 0 {
		return nil, badAnswer("authenticator data of %d bytes, flags %02x: ssh has no room for more than %d", len(ad), ad[min(32, len(ad)):min(33, len(ad))], assertionLen)
	}
	if want := sha256.Sum256([]byte(q.Application)); !bytes.Equal(ad[:32], want[:]) {
		return nil, badAnswer("signed for another application")
	}
	if !verifyES256(pub, ad, q.DataHash, sig) {
		return nil, badAnswer("the signature does not verify")
	}
	a := &Assertion{Flags: ad[32], Counter: binary.BigEndian.Uint32(ad[33:])}
	var rs struct{ R, S *big.Int }
	if rest, err := asn1.Unmarshal(sig, &rs); err != nil || len(rest) != 0 {
		return nil, badAnswer("the signature is not DER")
	}
	a.R, a.S = rs.R, rs.S
	return a, nil
}

func verifyES256(pub *ecdsa.PublicKey, authData, hash, sig []byte) bool {
	sum := sha256.Sum256(append(bytes.Clone(authData), hash...))
	return ecdsa.VerifyASN1(pub, sum[:], sig)
}

type coseKey struct {
	Kty int    `cbor:"1,keyasint"`
	Alg int    `cbor:"3,keyasint"`
	Crv int    `cbor:"-1,keyasint"`
	X   []byte `cbor:"-2,keyasint"`
	Y   []byte `cbor:"-3,keyasint"`
}

// newCredential is what the key answered, as the binding hands it over.
type newCredential struct {
	id, pubKey, authDataCBOR, cert, sig []byte
	format                              string
}

// checkCredential holds the parts of a new credential against each other and against what was asked,
// so that a broken key is found at the desk and not at 3 a.m. Who made the key is not asked here.
func checkCredential(q *CredentialRequest, n newCredential) (*wire.Credential, error) {
	ad, err := unwrapAuthData(n.authDataCBOR)
	if err != nil {
		return nil, err
	}
	const head = assertionLen + 16 + 2 // …, AAGUID, length of the credential id
	if len(ad) < head || ad[32]&flagAT == 0 {
		return nil, badAnswer("authenticator data has no credential")
	}
	if want := sha256.Sum256([]byte(q.Application)); !bytes.Equal(ad[:32], want[:]) {
		return nil, badAnswer("made for another application")
	}
	idLen := int(binary.BigEndian.Uint16(ad[head-2:]))
	if len(ad) < head+idLen || idLen == 0 || !bytes.Equal(ad[head:head+idLen], n.id) {
		return nil, badAnswer("the credential id differs from the one in the authenticator data")
	}
	var cose coseKey
	ext, err := cbor.UnmarshalFirst(ad[head+idLen:], &cose)
	if err != nil {
		return nil, badAnswer("reading the credential's public key: %v", err)
	}
	if q.HMACSecret {
		if err := madeForSecrets(ad[32], ext); err != nil {
			return nil, err
		}
	}
	if cose.Kty != coseEC2 || cose.Alg != coseES256 || cose.Crv != coseP256 || !bytes.Equal(append(bytes.Clone(cose.X), cose.Y...), n.pubKey) {
		return nil, badAnswer("the public key differs from the one in the authenticator data, or is not ES256")
	}
	point := append([]byte{4}, n.pubKey...)
	pub, err := ecdsa.ParseUncompressedPublicKey(elliptic.P256(), point)
	if err != nil {
		return nil, badAnswer("the public key is not on the curve")
	}
	if n.format == "packed" {
		signer := pub
		if len(n.cert) > 0 {
			c, err := x509.ParseCertificate(n.cert)
			if err != nil {
				return nil, badAnswer("reading the attestation certificate: %v", err)
			}
			// Another kind of attestation key is left to the CA.
			if signer, _ = c.PublicKey.(*ecdsa.PublicKey); signer != nil && signer.Curve != elliptic.P256() {
				signer = nil
			}
		}
		if signer != nil && !verifyES256(signer, ad, q.ChallengeHash, n.sig) {
			return nil, badAnswer("the attestation signature does not verify")
		}
	}
	return &wire.Credential{
		CredentialID: n.id,
		PublicKey:    ssh.Marshal(publicKey{KeyType, "nistp256", point, q.Application}),
		AuthData:     ad, Format: n.format, Certificate: n.cert, Signature: n.sig,
	}, nil
}
