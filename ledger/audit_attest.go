package ledger

import (
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"time"

	"breakglass/internal/attest"
	"breakglass/internal/statement"
)

// attested holds a key against what it proved of its make, with the code by which the CA judged it, at the time of the entry and by the policy
// that was in force: so that "nobody enrolled a software key" is for everybody to check. What it can't show is that the challenge was random;
// that it was never seen before, it does.
func (a *Audit) attested(f *KeyEnrolled, k *PersonKey) {
	if f.Software {
		if a.site.Profile != "demo" {
			a.fault(FaultSignature, "a software key outside of the demo")
		}
		return
	}
	t := f.Attestation
	if t == nil || t.Policy == (statement.Hash{}) || len(t.Chain) == 0 {
		a.fault(FaultAttestation, "nothing proves that this is a hardware key")
		return
	}
	models, ok := a.models(t)
	if !ok {
		return
	}
	root, err := x509.ParseCertificate(t.Chain[len(t.Chain)-1])
	if err != nil {
		a.fault(FaultAttestation, "the root: %v", err)
		return
	}
	v, err := attest.Verify(
		&attest.Attestation{Format: t.Format, Challenge: t.Challenge, AuthData: t.AuthData, Cert: t.Cert, Chain: t.Chain, Signature: t.Signature},
		attest.Subject{Challenge: t.Challenge, Application: f.Application, PublicKey: k.pub, CredentialID: f.CredentialID},
		attest.Trust{Roots: []*x509.Certificate{root}}, models, a.e.Time.Time)
	if e := new(attest.Error); errors.As(err, &e) {
		a.fault(FaultAttestation, "%s: %s", e.Code, e.Detail)
		return
	} else if err != nil {
		a.fault(FaultAttestation, "%v", err)
		return
	}
	if t.Root != statement.Hash(v.Root) || t.Model != v.Model.Name || t.Firmware != v.Firmware {
		a.fault(FaultAttestation, "the entry says %s, firmware %q, root %s; proved are %s, %q, %x", t.Model, t.Firmware, t.Root, v.Model.Name, v.Firmware, v.Root)
		return
	}
	k.Model = v.Model.Name
	challenge := sha256.Sum256(t.Challenge)
	if a.challenges == nil {
		a.challenges = map[statement.Hash]int64{}
	}
	if i, ok := a.challenges[challenge]; ok {
		a.fault(FaultReplay, "the attestation's challenge is that of entry %d", i)
	}
	a.challenges[challenge] = a.index
}

// Make is what the attestation of a key proves by itself: the model as the CA called it, of the root that vouches for it, with its firmware.
// Whether a policy lists that model and root is another question.
func (f *KeyEnrolled) Make(at time.Time) (string, error) {
	t := f.Attestation
	if t == nil || len(t.Chain) == 0 {
		return "", errors.New("nothing proves that this is a hardware key")
	}
	pub, err := parseKey(f.PublicKey)
	if err != nil {
		return "", err
	}
	root, err := x509.ParseCertificate(t.Chain[len(t.Chain)-1])
	if err != nil {
		return "", err
	}
	raw, err := attest.Unwrap(t.AuthData)
	if err != nil {
		return "", err
	}
	d, err := attest.ParseAuthData(raw)
	if err != nil {
		return "", err
	}
	v, err := attest.Verify(
		&attest.Attestation{Format: t.Format, Challenge: t.Challenge, AuthData: t.AuthData, Cert: t.Cert, Chain: t.Chain, Signature: t.Signature},
		attest.Subject{Challenge: t.Challenge, Application: f.Application, PublicKey: pub, CredentialID: f.CredentialID},
		attest.Trust{Roots: []*x509.Certificate{root}}, []attest.Model{{Name: t.Model, AAGUID: d.AAGUID, Roots: [][32]byte{sha256.Sum256(root.Raw)}}}, at)
	if err != nil {
		return "", err
	}
	if v.Firmware == "" {
		return v.Model.Name, nil
	}
	return v.Model.Name + ", firmware " + v.Firmware, nil
}

// models are those of the policy by which the attestation was judged: the one in force. In a part of a log, whose bearer may leave policies
// out, it is what the entry itself says that is held against the attestation, and not that any policy listed it.
func (a *Audit) models(t *Attestation) ([]attest.Model, bool) {
	a.knownPart(t.Policy)
	text, ok := a.policies[t.Policy]
	switch {
	case ok:
		models, err := attest.Models(text)
		if err != nil {
			a.fault(FaultAttestation, "%v", err)
		}
		return models, err == nil
	case !a.cfg.Part:
		return nil, false
	}
	raw, err := attest.Unwrap(t.AuthData)
	if err == nil {
		var d *attest.AuthData
		if d, err = attest.ParseAuthData(raw); err == nil {
			return []attest.Model{{Name: t.Model, AAGUID: d.AAGUID, Roots: [][32]byte{t.Root}}}, true
		}
	}
	a.fault(FaultAttestation, "%v", err)
	return nil, false
}

// knownPart demands the policy in force, as knownPolicy does, but lets a part of a log come without it.
func (a *Audit) knownPart(h statement.Hash) {
	if _, ok := a.policies[h]; ok || !a.cfg.Part {
		a.knownPolicy(h)
	}
}
