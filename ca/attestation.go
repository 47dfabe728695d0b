package ca

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"breakglass/ca/api"
	"breakglass/ca/state"
	"breakglass/internal/attest"
	"breakglass/ledger"
	"breakglass/policy"
)

// This file is where a new key proves that it is hardware of a make that the owners chose. Package attest judges; here stand who has to be
// judged, by which models and roots, and what the person reads.

// maxPEM bounds a file of certificates in bytes.
const maxPEM = 1 << 20

// load reads the certificates that the configuration names.
func (f FileAttestation) load(dir string) (t attest.Trust, err error) {
	read := func(names []string) (out []*x509.Certificate, err error) {
		for _, n := range names {
			if !filepath.IsAbs(n) {
				n = filepath.Join(dir, n)
			}
			file, err := os.Open(n)
			if err != nil {
				return nil, fmt.Errorf("reading the makers' certificates: %w", err)
			}
			b, err := io.ReadAll(io.LimitReader(file, maxPEM))
			if err = errors.Join(err, file.Close()); err != nil {
				return nil, fmt.Errorf("reading the makers' certificates: %w", err)
			}
			certs, err := attest.ParseCertificates(b)
			if err != nil {
				return nil, fmt.Errorf("reading the makers' certificates: %s: %w", n, err)
			}
			out = append(out, certs...)
		}
		return out, nil
	}
	if t.Roots, err = read(f.Roots); err != nil {
		return attest.Trust{}, err
	}
	if t.Intermediates, err = read(f.Intermediates); err != nil {
		return attest.Trust{}, err
	}
	return t, nil
}

// attested judges what a new key says of its make. It gives nil where nothing is judged: in the demo profile, as long as its policy lists no
// model. What is refused is summed with the strangers': the asker holds an invite, and no key that counts.
func (c *CA) attested(p *policy.Policy, e *enrolment, from netip.Addr) (*attest.Verified, error) {
	if p.Profile == policy.Demo && len(p.Enrolment.Models) == 0 {
		return nil, nil
	}
	v, err := attest.Verify(e.attestation, attest.Subject{Challenge: e.challenge, Application: api.Application, PublicKey: e.public, CredentialID: e.credential},
		c.trust, models(p), c.now())
	if refusal := new(attest.Error); errors.As(err, &refusal) {
		c.strangers.add(string(refusal.Code), from)
		return nil, attestationProblem(refusal, p)
	}
	return v, err
}

// missingRoots are the models that can't be enrolled, since no certificate at hand is one of their roots.
func (c *CA) missingRoots(p *policy.Policy) (out []string) {
	for _, m := range p.Enrolment.Models {
		if !slices.ContainsFunc(c.trust.Roots, func(r *x509.Certificate) bool { return slices.Contains(m.Roots, sha256.Sum256(r.Raw)) }) {
			out = append(out, m.Name)
		}
	}
	return out
}

func models(p *policy.Policy) []attest.Model {
	var out []attest.Model
	for _, m := range p.Enrolment.Models {
		out = append(out, attest.Model{Name: m.Name, AAGUID: m.AAGUID, Firmware: m.Firmware, Roots: m.Roots})
	}
	return out
}

// attestationProblem says what is wrong with the key, and what to do.
func attestationProblem(e *attest.Error, p *policy.Policy) *api.Problem {
	out := &api.Problem{Status: 403, Code: api.CodeAttestation, Detail: "the key can't be enrolled: " + e.Detail,
		Reasons: []ledger.Reason{{Code: string(e.Code), Detail: e.Detail}}}
	var names []string
	for _, m := range p.Enrolment.Models {
		n := m.Name
		if m.Firmware != "" {
			n += " (firmware " + m.Firmware + ")"
		}
		names = append(names, n)
	}
	which := "keys that count here: " + strings.Join(names, ", ")
	if len(names) == 0 {
		which = "the policy lists no model: an owner adds one under [[enrolment.model]]"
	}
	switch e.Code {
	case attest.Missing, attest.None, attest.Self:
		out.Next = []string{"ssh-keygen: write-attestation and challenge have to be given, see breakglass enroll --help", which}
	case attest.Challenge, attest.Signature:
		out.Next = []string{"begin again with the same token: breakglass enroll TOKEN"}
	case attest.Application, attest.Key:
		out.Next = []string{"make a new credential for " + api.Application + ": breakglass enroll TOKEN"}
	case attest.Chain:
		out.Next = []string{"ask an operator: the maker's certificates are named in the CA's config.toml under [attestation]", which}
	default:
		out.Next = []string{which}
	}
	return out
}

// recorded is what the ledger keeps: all that a later verifier needs beside the policy.
func recorded(a *attest.Attestation, v *attest.Verified, p *policy.Policy) *ledger.Attestation {
	if a == nil {
		return nil
	}
	out := &ledger.Attestation{Format: a.Format, Challenge: a.Challenge, AuthData: a.AuthData, Cert: a.Cert, Signature: a.Signature}
	if v != nil {
		out.Chain, out.Model, out.Firmware, out.Root = v.Chain, v.Model.Name, v.Firmware, v.Root
		out.Policy = sha256.Sum256(p.Source)
	}
	return out
}

// another demands that a person's keys are different credentials: a second that is the first again would be lost with it.
func (c *CA) another(tx *state.Tx, e *enrolment) error {
	keys, err := tx.Keys(e.person)
	if err != nil {
		return err
	}
	for _, k := range keys {
		switch {
		case k.Name == e.key:
			return &api.Problem{Status: 409, Code: api.CodeConflict, Detail: "you have a key of that name", Next: []string{"breakglass enroll TOKEN --key-name another"}}
		case bytes.Equal(k.Credential, e.credential):
			return &api.Problem{Status: 409, Code: api.CodeConflict, Detail: "that credential is your key " + string(k.Name), Next: []string{"plug in the other key"}}
		}
	}
	return nil
}
