package softkey

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"fmt"
	"math/big"
	"time"
)

// attestation is the batch certificate of a key that attests "basic", and its root.
type attestation struct {
	Root    []byte `json:"root"`     // DER
	Cert    []byte `json:"cert"`     // DER
	CertKey []byte `json:"cert_key"` // SEC 1, 32 bytes
}

// Batch is a vendor's attestation of one model: certificate and key as they lie in each of its devices.
type Batch struct {
	Root []byte // DER; what AttestationRoot gives
	Cert []byte // DER
	Key  *ecdsa.PrivateKey
}

func (b *Batch) attestation() attestation {
	return attestation{Root: b.Root, Cert: b.Cert, CertKey: privateBytes(b.Key)}
}

// oidAAGUID is id-fido-gen-ce-aaguid (WebAuthn section 8.2.1): binds the certificate to the model.
func oidAAGUID() asn1.ObjectIdentifier {
	return asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 45724, 1, 1, 4}
}

// newAttestation makes a throw-away root and a leaf as WebAuthn section 8.2.1 wants it: version 3,
// not a CA, OU exactly "Authenticator Attestation". The root's key is forgotten at once.
func newAttestation(aaguid []byte) (attestation, error) {
	rootKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return attestation{}, err
	}
	leafKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return attestation{}, err
	}
	from, to := time.Now().Add(-time.Hour), time.Now().AddDate(20, 0, 0)
	rootT := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: from, NotAfter: to,
		Subject: pkix.Name{CommonName: "software key test root"},
		IsCA:    true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	root, err := x509.CreateCertificate(rand.Reader, rootT, rootT, &rootKey.PublicKey, rootKey)
	if err != nil {
		return attestation{}, fmt.Errorf("making attestation root: %w", err)
	}
	ext, err := asn1.Marshal(aaguid)
	if err != nil {
		return attestation{}, err
	}
	leafT := &x509.Certificate{
		SerialNumber: big.NewInt(2), NotBefore: from, NotAfter: to,
		Subject: pkix.Name{
			Country: []string{"CH"}, Organization: []string{"breakglass test"},
			OrganizationalUnit: []string{"Authenticator Attestation"}, CommonName: "software key",
		},
		BasicConstraintsValid: true,
		ExtraExtensions:       []pkix.Extension{{Id: oidAAGUID(), Value: ext}},
	}
	leaf, err := x509.CreateCertificate(rand.Reader, leafT, rootT, &leafKey.PublicKey, rootKey)
	if err != nil {
		return attestation{}, fmt.Errorf("making attestation certificate: %w", err)
	}
	return attestation{Root: root, Cert: leaf, CertKey: privateBytes(leafKey)}, nil
}
