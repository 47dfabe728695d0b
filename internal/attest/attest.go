// Package attest judges what a hardware key says of its make when it makes a credential: the WebAuthn "packed" attestation (Web
// Authentication Level 3, section 8.2), as libfido2 and `ssh-keygen -O write-attestation` hand it out.
//
// It guarantees to the CA, and later to everybody who holds the ledger against itself, that an attestation which Verify takes
//   - is over the challenge that was given out, for our application, and for exactly that public key and credential id;
//   - was made with a touch, by a key whose credentials can't be copied to another device (neither backup eligible nor backed up);
//   - is signed by a batch certificate of the form that section 8.2.1 asks for, which names the same model (AAGUID) as the key does;
//   - leads, at the time passed, to a root that the policy lists for that model, and meets the model's firmware.
//
// The software key never passes, whatever vouches for it. Every refusal is an *Error with a code of its own.
//
// It is pure: no clock, no disk, no state. All bytes are foreign: each part has a bound, CBOR is taken in the one form that CTAP2
// allows (CTAP 2.1 section 8: shortest lengths, sorted keys, no key twice, nothing indefinite), and nothing may follow what was parsed.
package attest

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/sha256"
	"crypto/x509"
	"fmt"
	"time"

	"golang.org/x/crypto/ssh"

	"breakglass/internal/sshsig"
)

// Bounds on what may come from outside.
const (
	// MaxPart bounds each part of an attestation in bytes: a batch certificate has under 2 KiB, authenticator data under 1.5 KiB.
	MaxPart = 8 << 10
	// MaxChain bounds the certificates between leaf and root: vendors use one or two, and each costs a signature check.
	MaxChain = 4
	// MaxCredential bounds a credential id in bytes (WebAuthn section 6.5.1; CTAP 2.1 allows as much).
	MaxCredential = 1023
	// ChallengeSize is the client data of every enrolment: as many random bytes as no other challenge has.
	ChallengeSize = 32
)

// Packed is the one attestation format that counts (WebAuthn section 8.2).
const Packed = "packed"

// Code says why an attestation is refused.
type Code string

const (
	Missing     Code = "attestation_missing"     // nothing was attested, or a part is empty
	None        Code = "attestation_none"        // format "none": the key, or what stands before it, withheld it
	Self        Code = "attestation_self"        // signed by the credential itself: proves nothing of the maker
	Format      Code = "attestation_format"      // not packed, or not parsable as that
	Challenge   Code = "attestation_challenge"   // over another challenge than the one given out
	Application Code = "attestation_application" // made for another application
	Flags       Code = "attestation_flags"       // no touch, no credential, or bits that mean nothing
	Backup      Code = "attestation_backup"      // the credential can leave, or has left, its device
	Key         Code = "attestation_key"         // of another key or credential
	Certificate Code = "attestation_certificate" // the batch certificate is not of the form of section 8.2.1
	AAGUID      Code = "attestation_aaguid"      // the certificate names no model, or another than the key does
	ModelCode   Code = "attestation_model"       // a model that the policy doesn't list
	Firmware    Code = "attestation_firmware"    // below what the policy asks, or not said
	Chain       Code = "attestation_chain"       // leads to no root that the policy lists for the model
	Signature   Code = "attestation_signature"   // does not verify
)

// Error is a refusal.
type Error struct {
	Code   Code
	Detail string
}

func (e *Error) Error() string { return string(e.Code) + ": " + e.Detail }

func refuse(c Code, format string, a ...any) error {
	return &Error{c, fmt.Sprintf(format, a...)}
}

// Attestation is what came with a new credential.
type Attestation struct {
	Format    string
	Challenge []byte // the client data; its SHA-256 was signed
	AuthData  []byte // raw, or in a CBOR byte string as libfido2 hands it out
	Cert      []byte // DER of the batch certificate, the leaf
	// Chain are certificates (DER) that may lead from the leaf to a root, in any order. They only help to find the way: nothing in them
	// counts that no listed root vouches for.
	Chain     [][]byte
	Signature []byte // DER
}

// Subject is what has to be attested.
type Subject struct {
	Challenge    []byte
	Application  string
	PublicKey    ssh.PublicKey
	CredentialID []byte
}

// Trust are the certificates that may vouch. A root counts only for the models that list its hash.
type Trust struct {
	Roots, Intermediates []*x509.Certificate
}

// Verified is what an accepted attestation proves.
type Verified struct {
	Model    Model
	Firmware string   // of the batch certificate; "" if it says none
	Root     [32]byte // SHA-256 of the root's DER
	Chain    [][]byte // DER from the leaf's issuer up to the root: with the leaf, all that a later verifier needs
	Counter  uint32
	UV       bool
}

// Verify judges an attestation at time now. Models are the policy's.
func Verify(a *Attestation, want Subject, trust Trust, models []Model, now time.Time) (*Verified, error) {
	if err := a.form(); err != nil {
		return nil, err
	}
	if len(a.Challenge) != ChallengeSize || !bytes.Equal(a.Challenge, want.Challenge) {
		return nil, refuse(Challenge, "the attestation is over another challenge than the one given out")
	}
	raw, err := Unwrap(a.AuthData)
	if err != nil {
		return nil, err
	}
	ad, err := ParseAuthData(raw)
	if err != nil {
		return nil, err
	}
	if err := ad.judge(want); err != nil {
		return nil, err
	}
	// Before any certificate: whoever signs for the software key, it has its private keys in a file.
	if ad.AAGUID == SoftwareAAGUID() {
		return nil, refuse(ModelCode, "this is the software key, whose secrets lie in a file: it is for demo profiles only")
	}
	if len(a.Cert) == 0 {
		return nil, refuse(Self, "the key signed for itself, so it names no maker")
	}
	leaf, err := parseLeaf(a.Cert)
	if err != nil {
		return nil, err
	}
	if err := leaf.sameModel(ad.AAGUID); err != nil {
		return nil, err
	}
	m, err := find(models, ad.AAGUID)
	if err != nil {
		return nil, err
	}
	v := &Verified{Model: m, Firmware: leaf.firmware, Counter: ad.Counter, UV: ad.Flags&flagUV != 0}
	if v.Chain, v.Root, err = leaf.chain(a.Chain, trust, m, now); err != nil {
		return nil, err
	}
	if err := m.judgeFirmware(leaf.firmware); err != nil {
		return nil, err
	}
	if err := a.judgeSignature(leaf.key, raw, ad); err != nil {
		return nil, err
	}
	return v, nil
}

// form refuses what is no packed attestation at all, and what is too long to be one.
func (a *Attestation) form() error {
	switch {
	case a == nil || a.Format == "" && len(a.AuthData) == 0 && len(a.Signature) == 0:
		return refuse(Missing, "the key came without an attestation")
	case a.Format == "none":
		return refuse(None, "the key was asked to attest its make, and attested nothing")
	case a.Format == "fido-u2f":
		return refuse(Format, "a U2F key (fido-u2f): it names no model, and can't prove a PIN")
	case a.Format != Packed:
		return refuse(Format, "format %.32q, want %q", a.Format, Packed)
	case len(a.AuthData) == 0 || len(a.Signature) == 0:
		return refuse(Missing, "the attestation has no authenticator data, or no signature")
	case len(a.Chain) > MaxChain:
		return refuse(Format, "%d certificates beside the key's own, want at most %d", len(a.Chain), MaxChain)
	}
	for _, part := range append([][]byte{a.AuthData, a.Cert, a.Signature}, a.Chain...) {
		if len(part) > MaxPart {
			return refuse(Format, "a part of %d bytes, want at most %d", len(part), MaxPart)
		}
	}
	return nil
}

// judge holds the authenticator data against what was asked for.
func (d *AuthData) judge(want Subject) error {
	if d.RPIDHash != sha256.Sum256([]byte(want.Application)) {
		return refuse(Application, "made for another application than %s", want.Application)
	}
	switch {
	case d.Flags&flagUP == 0:
		return refuse(Flags, "the key was not touched")
	case d.Flags&(flagBE|flagBS) != 0:
		return refuse(Backup, "the credential can be copied to other devices (flags %#02x): want one that never leaves its key", d.Flags)
	case d.Flags&flagsReserved != 0:
		return refuse(Flags, "flags %#02x have bits that mean nothing", d.Flags)
	}
	key, err := ssh.ParsePublicKey(ssh.Marshal(struct {
		Type, Curve string
		Point       []byte
		Application string
	}{sshsig.KeyAlgoSK, "nistp256", d.Point, want.Application}))
	if err != nil {
		return refuse(Key, "the attested key: %v", err)
	}
	if want.PublicKey == nil || !bytes.Equal(key.Marshal(), want.PublicKey.Marshal()) {
		return refuse(Key, "another key was attested than the one to enrol")
	}
	if !bytes.Equal(d.CredentialID, want.CredentialID) {
		return refuse(Key, "another credential was attested than the one to enrol")
	}
	return nil
}

// judgeSignature checks the leaf's signature over authData ‖ clientDataHash (section 8.2).
func (a *Attestation) judgeSignature(key *ecdsa.PublicKey, raw []byte, d *AuthData) error {
	cdh := sha256.Sum256(a.Challenge)
	sum := sha256.Sum256(append(bytes.Clone(raw), cdh[:]...))
	if ecdsa.VerifyASN1(key, sum[:], a.Signature) {
		return nil
	}
	// A file of ssh-keygen doesn't say its format. U2F signs 0x00 ‖ rpIdHash ‖ clientDataHash ‖ id ‖ key (section 8.6).
	u2f := append([]byte{0}, d.RPIDHash[:]...)
	u2f = append(append(append(u2f, cdh[:]...), d.CredentialID...), d.Point...)
	if sum := sha256.Sum256(u2f); ecdsa.VerifyASN1(key, sum[:], a.Signature) {
		return refuse(Format, "a U2F key (fido-u2f): it names no model, and can't prove a PIN")
	}
	return refuse(Signature, "the attestation's signature does not verify: altered, by another key, or over another challenge")
}
