package ledger_test

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"slices"
	"strings"
	"testing"

	"breakglass/internal/attest"
	"breakglass/internal/attest/attesttest"
	"breakglass/internal/name"
	"breakglass/internal/softkey"
	"breakglass/internal/statement"
	"breakglass/ledger"
	"breakglass/ledger/ledgertest"
)

// TestEveryKeyOfAProductionSiteIsHardware is a CA whose holder writes what they like into the ledger: no software key passes for hardware.
func TestEveryKeyOfAProductionSiteIsHardware(t *testing.T) {
	v, other := attesttest.New(t), attesttest.New(t)
	soft := softkey.Config{PIN: "1234", Attestation: softkey.AttestBasic}
	aaguid, _ := attesttest.OIDs()
	bought := v.Batch(func(l *x509.Certificate) {
		a := attest.SoftwareAAGUID()
		l.ExtraExtensions = []pkix.Extension{v.OctetString(aaguid, a[:])}
	})
	good := func(l *ledgertest.Log) {
		l.EnrolAttested("alice", v, v.Key("1234"), ledgertest.Challenge(1))
		l.EnrolAttested("bob", v, v.Key("1234"), ledgertest.Challenge(2))
	}
	with := func(cfg softkey.Config, of *attesttest.Vendor) func(*ledgertest.Log) {
		return func(l *ledgertest.Log) { l.EnrolAttested("alice", of, cfg, ledgertest.Challenge(1)) }
	}
	edit := func(f func(*ledger.KeyEnrolled)) func(*ledgertest.Log) {
		return func(l *ledgertest.Log) {
			good(l)
			old := l.Entries
			l.Entries, l.Tree = nil, &ledger.Memory{}
			for _, raw := range old {
				e, err := ledger.Decode(raw)
				if err != nil {
					t.Fatal(err)
				}
				if k, ok := e.Facts.(*ledger.KeyEnrolled); ok && e.Subject.Person == "bob" {
					f(k)
					if raw, err = ledger.Encode(e); err != nil {
						t.Fatal(err)
					}
				}
				l.AppendRaw(raw)
			}
		}
	}
	is := func(f func(*ledger.Attestation)) func(*ledgertest.Log) {
		return edit(func(k *ledger.KeyEnrolled) { f(k.Attestation) })
	}
	for _, c := range []struct {
		what string
		do   func(*ledgertest.Log)
		code ledger.Code
		text string
	}{
		{"two people, two keys of the listed model", good, "", ""},
		{"a software key that says so", func(l *ledgertest.Log) { l.Enrol("alice") }, ledger.FaultSignature, "software key"},
		{"a software key that is said to be hardware", with(soft, v), ledger.FaultAttestation, "attestation_model"},
		{"a software key with a batch certificate that somebody bought", with(softkey.Config{PIN: "1234", Attestation: softkey.AttestBasic, Batch: bought}, v), ledger.FaultAttestation, "attestation_model"},
		{"a software key that says it is the model", with(softkey.Config{PIN: "1234", AAGUID: v.AAGUID, Attestation: softkey.AttestBasic}, v), ledger.FaultAttestation, "attestation_chain"},
		{"a key that signed for itself", with(softkey.Config{PIN: "1234", AAGUID: v.AAGUID}, v), ledger.FaultAttestation, "attestation_self"},
		{"a maker that the policy doesn't list", with(other.Key("1234"), other), ledger.FaultAttestation, "attestation_model"},
		{"a challenge twice", func(l *ledgertest.Log) {
			for _, p := range []name.Person{"alice", "bob"} {
				l.EnrolAttested(p, v, v.Key("1234"), ledgertest.Challenge(1))
			}
		}, ledger.FaultReplay, "challenge"},
		{"a short challenge", func(l *ledgertest.Log) { l.EnrolAttested("alice", v, v.Key("1234"), []byte("challenge")) }, ledger.FaultAttestation, "attestation_challenge"},
		{"no attestation", edit(func(k *ledger.KeyEnrolled) { k.Attestation = nil }), ledger.FaultAttestation, "nothing proves"},
		{"an attestation that nobody judged", is(func(a *ledger.Attestation) { a.Policy = statement.Hash{} }), ledger.FaultAttestation, "nothing proves"},
		{"another policy", is(func(a *ledger.Attestation) { a.Policy[0] ^= 1 }), ledger.FaultPolicy, "in force"},
		{"another challenge", is(func(a *ledger.Attestation) { a.Challenge[0] ^= 1 }), ledger.FaultAttestation, "attestation_signature"},
		{"another format", is(func(a *ledger.Attestation) { a.Format = "none" }), ledger.FaultAttestation, "attestation_none"},
		{"another bit of the authenticator data", is(func(a *ledger.Attestation) { a.AuthData[36] ^= 1 }), ledger.FaultAttestation, "attestation_signature"},
		{"another certificate", is(func(a *ledger.Attestation) { a.Cert = v.Batch(nil).Cert }), ledger.FaultAttestation, "attestation_signature"},
		{"no certificate", is(func(a *ledger.Attestation) { a.Cert = nil }), ledger.FaultAttestation, "attestation_self"},
		{"another signature", is(func(a *ledger.Attestation) { a.Signature[len(a.Signature)-1] ^= 1 }), ledger.FaultAttestation, "attestation_signature"},
		{"no chain", is(func(a *ledger.Attestation) { a.Chain = nil }), ledger.FaultAttestation, "nothing proves"},
		{"a chain without the batch CA", is(func(a *ledger.Attestation) { a.Chain = a.Chain[1:] }), ledger.FaultAttestation, "attestation_chain"},
		{"a chain to another root", is(func(a *ledger.Attestation) { a.Chain = append(a.Chain, other.Root.Raw) }), ledger.FaultAttestation, "attestation_chain"},
		{"a chain of garbage", is(func(a *ledger.Attestation) { a.Chain = [][]byte{[]byte("x")} }), ledger.FaultAttestation, "the root"},
		{"another root's hash", is(func(a *ledger.Attestation) { a.Root[0] ^= 1 }), ledger.FaultAttestation, "the entry says"},
		{"another model's name", is(func(a *ledger.Attestation) { a.Model = "Golden Key" }), ledger.FaultAttestation, "the entry says"},
		{"another firmware", is(func(a *ledger.Attestation) { a.Firmware = "9.9.9" }), ledger.FaultAttestation, "the entry says"},
		{"another credential", edit(func(k *ledger.KeyEnrolled) { k.CredentialID[0] ^= 1 }), ledger.FaultAttestation, "attestation_key"},
		{"another application", edit(func(k *ledger.KeyEnrolled) { k.Application = "ssh:other" }), ledger.FaultAttestation, "attestation_application"},
		{"a policy that no longer lists the model", func(l *ledgertest.Log) {
			next := strings.Split(ledgertest.Policy, "\n")
			text := strings.Join(append(next, "# next"), "\n")
			e, err := ledger.Decode(l.Entries[1])
			if err != nil {
				t.Fatal(err)
			}
			l.Append(&ledger.Entry{Actor: ledger.ActorRoot, Facts: &ledger.PolicyAdopted{SHA256: sha256.Sum256([]byte(text)), Text: text, How: "init", Previous: e.Facts.(*ledger.PolicyAdopted).SHA256}})
			good(l)
		}, ledger.FaultPolicy, "in force"},
	} {
		l := ledgertest.Production(t, v)
		c.do(l)
		r, err := ledger.Verify(ledgertest.All(l.Entries), l.Checkpoint(), l.VKey)
		if err != nil {
			t.Fatal(err)
		}
		found := slices.ContainsFunc(r.Findings, func(f ledger.Finding) bool { return f.Code == c.code && strings.Contains(f.Detail, c.text) })
		if c.code == "" && len(r.Findings) > 0 || c.code != "" && !found {
			t.Errorf("%s: %v", c.what, r.Findings)
		}
	}
}

// TestAPartOfALogIsHeldAgainstItself: a bundle may come without the policy by which a key was enrolled.
func TestAPartOfALogIsHeldAgainstItself(t *testing.T) {
	v := attesttest.New(t)
	l := ledgertest.Production(t, v)
	l.EnrolAttested("alice", v, v.Key("1234"), ledgertest.Challenge(1))
	l.EnrolAttested("bob", v, softkey.Config{PIN: "1234", AAGUID: v.AAGUID, Attestation: softkey.AttestBasic}, ledgertest.Challenge(2))
	a := ledger.NewAudit(ledger.AuditConfig{LedgerKey: l.VKey, Part: true})
	for i, raw := range l.Entries {
		if !bytes.Contains(raw, []byte(`"policy.adopted"`)) {
			a.Add(int64(i), raw)
		}
	}
	fs, _ := a.Findings()
	if len(fs) != 1 || fs[0].Code != ledger.FaultAttestation || !strings.Contains(fs[0].Detail, "attestation_chain") || fs[0].Index != int64(len(l.Entries)-1) {
		t.Errorf("%v", fs)
	}
}
