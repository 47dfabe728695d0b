// Package attesttest is a vendor of hardware keys for tests: it makes a root, an intermediate and batch certificates when the test runs, and
// bends any field of them. The owners of a test's policy list its root; nothing else makes its keys count. No shipped program links it.
package attesttest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"math/big"
	"testing"
	"time"

	"breakglass/internal/attest"
	"breakglass/internal/softkey"
)

// Vendor makes keys of one model.
type Vendor struct {
	T            testing.TB
	AAGUID       [16]byte
	Name         string
	Root         *x509.Certificate
	Intermediate *x509.Certificate

	rootKey, key *ecdsa.PrivateKey
	serial       int64
}

// New makes a vendor whose model has a made-up AAGUID.
func New(t testing.TB) *Vendor {
	t.Helper()
	v := &Vendor{T: t, Name: "Test Key 1"}
	rand.Read(v.AAGUID[:])
	v.rootKey, v.key = v.NewKey(), v.NewKey()
	ca := func(cn string) *x509.Certificate {
		v.serial++
		return &x509.Certificate{SerialNumber: big.NewInt(v.serial), NotBefore: time.Now().Add(-48 * time.Hour), NotAfter: time.Now().AddDate(20, 0, 0),
			Subject: pkix.Name{CommonName: cn + " " + hex.EncodeToString(v.AAGUID[:4])}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	}
	root := ca("Test Vendor Root")
	v.Root = v.sign(root, root, &v.rootKey.PublicKey, v.rootKey)
	v.Intermediate = v.sign(ca("Test Vendor Batch CA"), v.Root, &v.key.PublicKey, v.rootKey)
	return v
}

// NewKey makes a key on P-256.
func (v *Vendor) NewKey() *ecdsa.PrivateKey {
	v.T.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		v.T.Fatal(err)
	}
	return k
}

func (v *Vendor) sign(c, parent *x509.Certificate, pub any, by *ecdsa.PrivateKey) *x509.Certificate {
	v.T.Helper()
	der, err := x509.CreateCertificate(rand.Reader, c, parent, pub, by)
	if err != nil {
		v.T.Fatal(err)
	}
	out, err := x509.ParseCertificate(der)
	if err != nil {
		v.T.Fatal(err)
	}
	return out
}

// OctetString is an extension of b.
func (v *Vendor) OctetString(id asn1.ObjectIdentifier, b []byte) pkix.Extension {
	v.T.Helper()
	value, err := asn1.Marshal(b)
	if err != nil {
		v.T.Fatal(err)
	}
	return pkix.Extension{Id: id, Value: value}
}

// OIDs of the extensions that a batch certificate has.
func OIDs() (aaguid, firmware asn1.ObjectIdentifier) {
	return asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 45724, 1, 1, 4}, asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 41482, 13, 1}
}

// Leaf is the template of a good batch certificate that says firmware 5.7.1.
func (v *Vendor) Leaf() *x509.Certificate {
	v.serial++
	aaguid, firmware := OIDs()
	return &x509.Certificate{
		SerialNumber: big.NewInt(v.serial), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().AddDate(20, 0, 0),
		Subject: pkix.Name{Country: []string{"SE"}, Organization: []string{"Test Vendor"}, OrganizationalUnit: []string{"Authenticator Attestation"},
			CommonName: "Test Vendor Batch 1"},
		BasicConstraintsValid: true,
		ExtraExtensions:       []pkix.Extension{v.OctetString(aaguid, v.AAGUID[:]), v.OctetString(firmware, []byte{5, 7, 1})},
	}
}

// Issue signs a batch certificate for key with the intermediate.
func (v *Vendor) Issue(leaf *x509.Certificate, key any) []byte {
	v.T.Helper()
	return v.sign(leaf, v.Intermediate, key, v.key).Raw
}

// Batch is the attestation of a production run, bent by change if that is not nil.
func (v *Vendor) Batch(change func(*x509.Certificate)) *softkey.Batch {
	v.T.Helper()
	leaf, key := v.Leaf(), v.NewKey()
	if change != nil {
		change(leaf)
	}
	return &softkey.Batch{Root: v.Root.Raw, Cert: v.Issue(leaf, &key.PublicKey), Key: key}
}

// Key configures a key of the vendor's; pin may be empty.
func (v *Vendor) Key(pin string) softkey.Config {
	v.T.Helper()
	return softkey.Config{PIN: pin, AAGUID: v.AAGUID, Attestation: softkey.AttestBasic, Batch: v.Batch(nil)}
}

// Trust is what a CA that has the vendor's files holds.
func (v *Vendor) Trust() attest.Trust {
	return attest.Trust{Roots: []*x509.Certificate{v.Root}, Intermediates: []*x509.Certificate{v.Intermediate}}
}

// Model is the policy's entry.
func (v *Vendor) Model() attest.Model {
	return attest.Model{Name: v.Name, AAGUID: v.AAGUID, Firmware: "5.7.0", Roots: [][32]byte{sha256.Sum256(v.Root.Raw)}}
}

// PolicyText is the [[enrolment.model]] table for a policy.
func (v *Vendor) PolicyText() string {
	m := v.Model()
	return fmt.Sprintf("[[enrolment.model]]\nname = %q\naaguid = %q\nfirmware = %q\nroots = [\"%x\"]\n", m.Name, attest.FormatAAGUID(m.AAGUID), m.Firmware, m.Roots[0])
}

// RootPEM and IntermediatePEM are the files that a CA's configuration names.
func (v *Vendor) RootPEM() []byte         { return pemOf(v.Root) }
func (v *Vendor) IntermediatePEM() []byte { return pemOf(v.Intermediate) }

func pemOf(c *x509.Certificate) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})
}
