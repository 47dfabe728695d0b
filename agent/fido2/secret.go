package fido2

import (
	"bytes"
	"crypto/sha256"
	"fmt"

	"github.com/fxamacker/cbor/v2"

	"breakglass/agent/fido2/wire"
)

// This file is hmac-secret (CTAP 2.1 section 12.5): a secret that one credential alone gives, for a salt. A key has two of them for each salt, one
// for a verified user and one for whoever only touches; here it is always the first.

// SecretLen is the length of a salt and of a secret.
const SecretLen = wire.SecretLen

// extHMACSecret is the extension's identifier.
const extHMACSecret = "hmac-secret"

// DeriveRequest asks for the secret of a salt.
type DeriveRequest struct {
	Application string
	Key         wire.Key
	Salt        []byte // SecretLen bytes
	DataHash    []byte // clientDataHash: 32 fresh bytes
	PIN         []byte
}

func (q *DeriveRequest) check() error {
	if len(q.Salt) != SecretLen || len(q.DataHash) != sha256.Size { // libfido2 takes 64 bytes for two salts
		return &wire.Error{Code: wire.BadRequest, Detail: fmt.Sprintf("a salt of %d bytes and a hash of %d, want 32", len(q.Salt), len(q.DataHash))}
	}
	_, err := parsePublicKey(q.Key.PublicKey, q.Application)
	return err
}

// checkSecret takes a secret only from the credential that was asked, after a touch, with its user verified. The signature covers the extension's
// output as the key sent it (encrypted); libfido2 decrypted what is handed over as secret.
func checkSecret(q *DeriveRequest, credentialID, authDataCBOR, sig, secret []byte) (*[SecretLen]byte, error) {
	pub, err := parsePublicKey(q.Key.PublicKey, q.Application)
	if err != nil {
		return nil, err
	}
	if len(credentialID) != 0 && !bytes.Equal(credentialID, q.Key.CredentialID) {
		return nil, badAnswer("derived with another credential")
	}
	ad, err := unwrapAuthData(authDataCBOR)
	if err != nil {
		return nil, err
	}
	if len(ad) <= assertionLen || ad[32]&flagED == 0 || ad[32]&flagAT != 0 {
		return nil, badAnswer("the key derived nothing: was this credential made for it?")
	}
	if want := sha256.Sum256([]byte(q.Application)); !bytes.Equal(ad[:32], want[:]) {
		return nil, badAnswer("derived for another application")
	}
	if ad[32]&flagUP == 0 || ad[32]&flagUV == 0 { // it would be the secret of whoever finds the key
		return nil, badAnswer("derived without touch or verification, flags %02x", ad[32])
	}
	var ext map[string][]byte
	if err := cbor.Unmarshal(ad[assertionLen:], &ext); err != nil || len(ext) != 1 || len(ext[extHMACSecret]) == 0 {
		return nil, badAnswer("the key derived nothing: was this credential made for it?")
	}
	if !verifyES256(pub, ad, q.DataHash, sig) {
		return nil, badAnswer("the signature does not verify")
	}
	if len(secret) != SecretLen {
		return nil, badAnswer("a secret of %d bytes", len(secret))
	}
	return (*[SecretLen]byte)(bytes.Clone(secret)), nil
}

// madeForSecrets looks into a new credential's extensions: one that can't derive would seal an identity for ever.
func madeForSecrets(flags byte, ext []byte) error {
	var made map[string]any
	if flags&flagED != 0 {
		if err := cbor.Unmarshal(ext, &made); err != nil {
			return badAnswer("reading the credential's extensions: %v", err)
		}
	}
	if ok, _ := made[extHMACSecret].(bool); !ok {
		return &wire.Error{Code: wire.Unsupported, Detail: "the key made a credential without hmac-secret, which can't seal anything"}
	}
	return nil
}
