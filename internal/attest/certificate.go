package attest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"time"
)

// oidAAGUID is id-fido-gen-ce-aaguid (WebAuthn section 8.2.1): an OCTET STRING of 16 bytes in the extension's value.
func oidAAGUID() asn1.ObjectIdentifier {
	return asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 45724, 1, 1, 4}
}

// oidYubicoFirmware is Yubico's firmware version: an OCTET STRING of three bytes, major, minor, patch (docs.yubico.com, "FIDO Product OID
// Arc", 1.3.6.1.4.1.41482.13.1). The version under …41482.3.3 is that of PIV attestations and means nothing here.
func oidYubicoFirmware() asn1.ObjectIdentifier {
	return asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 41482, 13, 1}
}

// unit is the organizational unit of every batch certificate (section 8.2.1).
const unit = "Authenticator Attestation"

// leaf is a batch certificate of the right form.
type leaf struct {
	cert     *x509.Certificate
	key      *ecdsa.PublicKey
	aaguid   [16]byte
	firmware string
}

// parseLeaf reads a batch certificate and holds it against section 8.2.1.
func parseLeaf(der []byte) (*leaf, error) {
	c, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, refuse(Certificate, "%v", err)
	}
	key, _ := c.PublicKey.(*ecdsa.PublicKey)
	s := c.Subject
	switch {
	case c.Version != 3:
		return nil, refuse(Certificate, "version %d, want 3", c.Version)
	case !c.BasicConstraintsValid || c.IsCA:
		return nil, refuse(Certificate, "it may sign certificates: a key's own may not")
	case !slices.Equal(s.OrganizationalUnit, []string{unit}):
		return nil, refuse(Certificate, "organizational unit %.64q, want %q", s.OrganizationalUnit, unit)
	case len(s.Country) != 1 || len(s.Country[0]) != 2 || len(s.Organization) == 0 || s.Organization[0] == "" || s.CommonName == "":
		return nil, refuse(Certificate, "the subject lacks country, organization or common name")
	case key == nil || key.Curve != elliptic.P256():
		return nil, refuse(Certificate, "its key is not ES256: another algorithm is not taken")
	}
	l := &leaf{cert: c, key: key}
	found := false
	for _, x := range c.Extensions { // ParseCertificate refuses one twice
		switch {
		case x.Id.Equal(oidAAGUID()):
			b, err := octets(x, len(l.aaguid))
			if err != nil {
				return nil, refuse(AAGUID, "%v", err)
			}
			if x.Critical {
				return nil, refuse(AAGUID, "the certificate's model is marked critical")
			}
			l.aaguid, found = [16]byte(b), true
		case x.Id.Equal(oidYubicoFirmware()):
			b, err := octets(x, 3)
			if err != nil {
				return nil, refuse(Firmware, "%v", err)
			}
			l.firmware = fmt.Sprintf("%d.%d.%d", b[0], b[1], b[2])
		}
	}
	if !found {
		return nil, refuse(AAGUID, "the certificate doesn't say for which model it vouches")
	}
	return l, nil
}

// octets reads an extension that is an OCTET STRING of n bytes and nothing else.
func octets(x pkix.Extension, n int) ([]byte, error) {
	var b []byte
	rest, err := asn1.Unmarshal(x.Value, &b)
	if err != nil || len(rest) != 0 || len(b) != n {
		return nil, fmt.Errorf("extension %v is not %d bytes", x.Id, n)
	}
	return b, nil
}

func (l *leaf) sameModel(aaguid [16]byte) error {
	if l.aaguid != aaguid {
		return refuse(AAGUID, "the key says model %s, its certificate %s", FormatAAGUID(aaguid), FormatAAGUID(l.aaguid))
	}
	return nil
}

// chain finds a way from the leaf to a root that the model lists and gives the certificates above the leaf. Names and key usages are not
// judged: batch certificates have neither host names nor, mostly, extended key usages.
func (l *leaf) chain(more [][]byte, trust Trust, m Model, now time.Time) (chain [][]byte, root [32]byte, err error) {
	roots, between := x509.NewCertPool(), x509.NewCertPool()
	n := 0
	for _, r := range trust.Roots {
		if slices.Contains(m.Roots, sha256.Sum256(r.Raw)) {
			roots.AddCert(r)
			n++
		}
	}
	if n == 0 {
		return nil, root, refuse(Chain, "none of the %d roots at hand is one that the policy lists for %s", len(trust.Roots), m.Name)
	}
	for _, c := range trust.Intermediates {
		between.AddCert(c)
	}
	for _, der := range more {
		c, err := x509.ParseCertificate(der)
		if err != nil {
			return nil, root, refuse(Chain, "a certificate beside the key's own: %v", err)
		}
		between.AddCert(c)
	}
	found, err := l.cert.Verify(x509.VerifyOptions{Roots: roots, Intermediates: between, CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}})
	if err != nil {
		return nil, root, refuse(Chain, "the certificate leads to no root that the policy lists for %s: %v", m.Name, err)
	}
	way := slices.MinFunc(found, func(a, b []*x509.Certificate) int { return len(a) - len(b) })
	if len(way) < 2 || len(way) > MaxChain+1 {
		return nil, root, refuse(Chain, "%d certificates from the key to the root", len(way))
	}
	for _, c := range way[1:] {
		chain = append(chain, c.Raw)
	}
	return chain, sha256.Sum256(way[len(way)-1].Raw), nil
}

// maxCertificates bounds a file of roots.
const maxCertificates = 100

// ParseCertificates reads PEM certificates. Anything else in the file is a fault: a root that was not read is one that is missed on the day.
func ParseCertificates(b []byte) ([]*x509.Certificate, error) {
	var out []*x509.Certificate
	for len(b) > 0 {
		block, rest := pem.Decode(b)
		if block == nil {
			if len(out) == 0 || slices.ContainsFunc(rest, func(c byte) bool { return c > ' ' }) {
				return nil, errors.New("want PEM certificates and nothing else")
			}
			return out, nil
		}
		if block.Type != "CERTIFICATE" || len(out) >= maxCertificates {
			return nil, fmt.Errorf("a %.32q: want at most %d certificates and nothing else", block.Type, maxCertificates)
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("certificate %d: %w", len(out)+1, err)
		}
		if !c.IsCA || !c.BasicConstraintsValid {
			return nil, fmt.Errorf("certificate %d (%s): it may not sign others", len(out)+1, c.Subject)
		}
		out = append(out, c)
		b = rest
	}
	if len(out) == 0 {
		return nil, errors.New("want PEM certificates and nothing else")
	}
	return out, nil
}
