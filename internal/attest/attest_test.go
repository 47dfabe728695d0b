package attest_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/binary"
	"errors"
	"slices"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"breakglass/internal/attest"
	"breakglass/internal/attest/attesttest"
	"breakglass/internal/softkey"
)

const application = "ssh:breakglass"

// enrolment is a good attestation with all that it is judged by, to be bent.
type enrolment struct {
	*attesttest.Vendor
	batch  *softkey.Batch
	key    *softkey.Authenticator
	a      attest.Attestation
	want   attest.Subject
	trust  attest.Trust
	models []attest.Model
	now    time.Time
}

func newEnrolment(t testing.TB, v *attesttest.Vendor) *enrolment {
	t.Helper()
	e := &enrolment{Vendor: v, trust: v.Trust(), models: []attest.Model{v.Model()}, now: time.Now()}
	cfg := v.Key("")
	e.batch = cfg.Batch
	e.enrol(cfg)
	return e
}

// enrol makes the credential anew on a key of that configuration.
func (e *enrolment) enrol(cfg softkey.Config) {
	e.T.Helper()
	challenge := make([]byte, attest.ChallengeSize)
	rand.Read(challenge)
	var err error
	if e.key, err = softkey.NewAuthenticator(cfg); err != nil {
		e.T.Fatal(err)
	}
	c, err := e.key.Enroll(application, challenge, true)
	if err != nil {
		e.T.Fatal(err)
	}
	e.a = attest.Attestation{Format: c.Format, Challenge: challenge, AuthData: c.AuthData, Cert: c.Cert, Signature: c.Signature}
	e.want = attest.Subject{Challenge: challenge, Application: application, PublicKey: c.PublicKey, CredentialID: c.CredentialID}
}

// issue has the vendor sign another batch certificate for the same key, and the key sign with it.
func (e *enrolment) issue(change func(*x509.Certificate)) {
	e.T.Helper()
	leaf := e.Leaf()
	change(leaf)
	e.a.Cert = e.Issue(leaf, &e.batch.Key.PublicKey)
	e.resign()
}

// resign signs the authenticator data as it now is with the batch key: a forger who owns one real key can't do more.
func (e *enrolment) resign() {
	e.T.Helper()
	e.a.Signature = e.sign(e.batch.Key, append(bytes.Clone(e.a.AuthData), sum(e.a.Challenge)...))
}

func (e *enrolment) sign(key *ecdsa.PrivateKey, b []byte) []byte {
	e.T.Helper()
	sig, err := ecdsa.SignASN1(rand.Reader, key, sum(b))
	if err != nil {
		e.T.Fatal(err)
	}
	return sig
}

func sum(b []byte) []byte { h := sha256.Sum256(b); return h[:] }

// authData replaces a piece of the authenticator data and signs anew.
func (e *enrolment) authData(at, n int, with ...byte) {
	e.T.Helper()
	e.a.AuthData = slices.Concat(e.a.AuthData[:at], with, e.a.AuthData[at+n:])
	e.resign()
}

func (e *enrolment) flags(set, clear byte) { e.authData(32, 1, e.a.AuthData[32]&^clear|set) }

// cose is where the credential's public key begins.
func (e *enrolment) cose() int { return 55 + len(e.want.CredentialID) }

func (e *enrolment) extension(id asn1.ObjectIdentifier, change func([]pkix.Extension, int) []pkix.Extension) {
	e.T.Helper()
	e.issue(func(c *x509.Certificate) {
		i := slices.IndexFunc(c.ExtraExtensions, func(x pkix.Extension) bool { return x.Id.Equal(id) })
		c.ExtraExtensions = change(c.ExtraExtensions, i)
	})
}

func wrap(b []byte) []byte {
	if len(b) < 256 {
		return append([]byte{0x58, byte(len(b))}, b...)
	}
	return append(binary.BigEndian.AppendUint16([]byte{0x59}, uint16(len(b))), b...)
}

func TestWhatIsTakenAndWhatIsRefused(t *testing.T) {
	v, other := attesttest.New(t), attesttest.New(t)
	aaguid, firmware := attesttest.OIDs()
	const taken = attest.Code("")
	for _, c := range []struct {
		what string
		want attest.Code
		bend func(*enrolment)
	}{
		{"a listed model's key", taken, func(*enrolment) {}},
		{"the authenticator data in a byte string, as libfido2 has it", taken, func(e *enrolment) { e.a.AuthData = wrap(e.a.AuthData) }},
		{"the intermediate comes with the key, not from the configuration", taken, func(e *enrolment) {
			e.trust.Intermediates, e.a.Chain = nil, [][]byte{e.Intermediate.Raw}
		}},
		{"any firmware will do", taken, func(e *enrolment) {
			e.models[0].Firmware = ""
			e.extension(firmware, func(x []pkix.Extension, i int) []pkix.Extension { return slices.Delete(x, i, i+1) })
		}},
		{"just the firmware asked for", taken, func(e *enrolment) { e.models[0].Firmware = "5.7.1" }},
		{"two numbers of firmware asked for", taken, func(e *enrolment) { e.models[0].Firmware = "5.7" }},
		{"credProtect was asked for", taken, func(e *enrolment) {
			e.a.AuthData = append(e.a.AuthData, "\xa1\x6bcredProtect\x02"...)
			e.flags(0x80, 0)
		}},
		{"an extended key usage beside", taken, func(e *enrolment) {
			e.issue(func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth} })
		}},

		// nothing, or something else
		{"nothing was attested", attest.Missing, func(e *enrolment) { e.a = attest.Attestation{Challenge: e.a.Challenge} }},
		{"no signature", attest.Missing, func(e *enrolment) { e.a.Signature = nil }},
		{"no authenticator data", attest.Missing, func(e *enrolment) { e.a.AuthData = nil }},
		{"format none", attest.None, func(e *enrolment) { e.a.Format, e.a.Signature, e.a.Cert = "none", nil, nil }},
		{"format none, with a good signature beside", attest.None, func(e *enrolment) { e.a.Format = "none" }},
		{"format fido-u2f", attest.Format, func(e *enrolment) { e.a.Format = "fido-u2f" }},
		{"a U2F signature that says it is packed", attest.Format, func(e *enrolment) {
			point := e.want.PublicKey.(ssh.CryptoPublicKey).CryptoPublicKey().(*ecdsa.PublicKey)
			b, _ := point.Bytes()
			e.a.Signature = e.sign(e.batch.Key, slices.Concat([]byte{0}, e.a.AuthData[:32], sum(e.a.Challenge), e.want.CredentialID, b))
		}},
		{"format tpm", attest.Format, func(e *enrolment) { e.a.Format = "tpm" }},
		{"no format", attest.Format, func(e *enrolment) { e.a.Format = "" }},
		{"self attestation", attest.Self, func(e *enrolment) {
			e.enrol(softkey.Config{AAGUID: e.AAGUID, Attestation: softkey.AttestSelf})
		}},
		{"the certificate was taken off", attest.Self, func(e *enrolment) { e.a.Cert = nil }},

		// the challenge
		{"over another challenge than ours", attest.Challenge, func(e *enrolment) { e.a.Challenge = bytes.Repeat([]byte{7}, 32); e.resign() }},
		{"an earlier enrolment's attestation, replayed for a new challenge", attest.Challenge, func(e *enrolment) { e.want.Challenge = bytes.Repeat([]byte{7}, 32) }},
		{"a replayed attestation that lies about its challenge", attest.Signature, func(e *enrolment) {
			e.want.Challenge = bytes.Repeat([]byte{7}, 32)
			e.a.Challenge = e.want.Challenge
		}},
		{"a challenge that is short", attest.Challenge, func(e *enrolment) { e.a.Challenge = []byte{1}; e.want.Challenge = e.a.Challenge; e.resign() }},

		// application and flags
		{"made for a web site", attest.Application, func(e *enrolment) { e.authData(0, 32, sum([]byte("example.org"))...) }},
		{"made for another application of ssh", attest.Application, func(e *enrolment) { e.authData(0, 32, sum([]byte("ssh:"))...) }},
		{"no touch", attest.Flags, func(e *enrolment) { e.flags(0, 0x01) }},
		{"no credential in it", attest.Flags, func(e *enrolment) { e.flags(0, 0x40) }},
		{"reserved bit 1", attest.Flags, func(e *enrolment) { e.flags(0x02, 0) }},
		{"reserved bit 5", attest.Flags, func(e *enrolment) { e.flags(0x20, 0) }},
		{"backup eligible", attest.Backup, func(e *enrolment) { e.flags(0x08, 0) }},
		{"backed up and eligible: a passkey", attest.Backup, func(e *enrolment) { e.flags(0x18, 0) }},
		{"backed up, not eligible: nonsense", attest.Backup, func(e *enrolment) { e.flags(0x10, 0) }},
		{"a key that syncs, by its own firmware", attest.Backup, func(e *enrolment) {
			cfg := e.Vendor.Key("")
			cfg.Faults.BackedUp = true
			e.enrol(cfg)
		}},

		// key and credential
		{"another key is to be enrolled", attest.Key, func(e *enrolment) { e.want.PublicKey = newEnrolment(e.T, v).want.PublicKey }},
		{"another person's attestation, of the same batch", attest.Challenge, func(e *enrolment) { e.a = newEnrolment(e.T, v).a }},
		{"another credential is to be enrolled", attest.Key, func(e *enrolment) { e.want.CredentialID = bytes.Repeat([]byte{9}, 48) }},
		{"a credential id that is longer than the one attested", attest.Key, func(e *enrolment) { e.want.CredentialID = append(e.want.CredentialID, 0) }},
		{"the public key of another application", attest.Key, func(e *enrolment) {
			var k struct{ Type, Curve, Point, Application string }
			if err := ssh.Unmarshal(e.want.PublicKey.Marshal(), &k); err != nil {
				e.T.Fatal(err)
			}
			k.Application = "ssh:other"
			e.want.PublicKey, _ = ssh.ParsePublicKey(ssh.Marshal(k))
		}},
		{"an attested key that is off the curve", attest.Key, func(e *enrolment) { e.authData(e.cose()+12, 1, e.a.AuthData[e.cose()+12]^1) }},
		{"an attested key of algorithm ES384", attest.Key, func(e *enrolment) { e.authData(e.cose()+3, 2, 0x03, 0x38, 0x22) }},
		{"an attested key on another curve", attest.Key, func(e *enrolment) { e.authData(e.cose()+6, 1, 0x02) }},

		// spelling
		{"cut off in the head", attest.Format, func(e *enrolment) { e.authData(36, len(e.a.AuthData)-36) }},
		{"cut off before the credential", attest.Format, func(e *enrolment) { e.authData(50, len(e.a.AuthData)-50) }},
		{"cut off in the credential id", attest.Format, func(e *enrolment) { e.authData(60, len(e.a.AuthData)-60) }},
		{"cut off in the public key", attest.Format, func(e *enrolment) { e.authData(len(e.a.AuthData)-1, 1) }},
		{"an empty credential id", attest.Format, func(e *enrolment) { e.authData(53, 2+len(e.want.CredentialID), 0, 0) }},
		{"a credential id of 65535 bytes", attest.Format, func(e *enrolment) { e.authData(53, 2, 0xff, 0xff) }},
		{"a byte after the public key", attest.Format, func(e *enrolment) { e.authData(len(e.a.AuthData), 0, 0) }},
		{"extension data without its flag", attest.Format, func(e *enrolment) { e.authData(len(e.a.AuthData), 0, 0xa0) }},
		{"the flag without extension data", attest.Format, func(e *enrolment) { e.flags(0x80, 0) }},
		{"an extension that nobody asked for", attest.Format, func(e *enrolment) {
			e.a.AuthData = append(e.a.AuthData, "\xa1\x67unasked\xf5"...)
			e.flags(0x80, 0)
		}},
		{"credProtect 9", attest.Format, func(e *enrolment) {
			e.a.AuthData = append(e.a.AuthData, "\xa1\x6bcredProtect\x09"...)
			e.flags(0x80, 0)
		}},
		{"a byte after the extension data", attest.Format, func(e *enrolment) {
			e.a.AuthData = append(e.a.AuthData, "\xa1\x6bcredProtect\x02\x00"...)
			e.flags(0x80, 0)
		}},
		{"the key type twice in the public key", attest.Format, func(e *enrolment) { e.authData(e.cose(), 1, 0xa6, 0x01, 0x02) }},
		{"a field beside in the public key", attest.Format, func(e *enrolment) { e.authData(e.cose(), 1, 0xa6, 0x00, 0x00) }},
		{"the public key a map of indefinite length", attest.Format, func(e *enrolment) {
			e.a.AuthData = append(e.a.AuthData, 0xff)
			e.authData(e.cose(), 1, 0xbf)
		}},
		{"a number in the public key longer than it needs to be", attest.Format, func(e *enrolment) { e.authData(e.cose()+2, 1, 0x18, 0x02) }},
		{"the fields of the public key out of order", attest.Format, func(e *enrolment) {
			e.authData(e.cose()+1, 4, 0x03, 0x26, 0x01, 0x02)
		}},
		{"a tag before the public key", attest.Format, func(e *enrolment) { e.authData(e.cose(), 0, 0xc6) }},
		{"the public key is a string", attest.Format, func(e *enrolment) { e.authData(e.cose(), 1, 0x65) }},
		{"a byte string longer than it needs to be", attest.Format, func(e *enrolment) {
			e.a.AuthData = append(binary.BigEndian.AppendUint16([]byte{0x59}, uint16(len(e.a.AuthData))), e.a.AuthData...)
		}},
		{"a byte string of indefinite length", attest.Format, func(e *enrolment) { e.a.AuthData = append(append([]byte{0x5f}, wrap(e.a.AuthData)...), 0xff) }},
		{"a byte after the byte string", attest.Format, func(e *enrolment) { e.a.AuthData = append(wrap(e.a.AuthData), 0) }},
		{"wrapped twice", attest.Format, func(e *enrolment) { e.a.AuthData = wrap(wrap(e.a.AuthData)) }},
		{"authenticator data of 9 KiB", attest.Format, func(e *enrolment) { e.a.AuthData = make([]byte, 9<<10) }},
		{"a certificate of 9 KiB", attest.Format, func(e *enrolment) { e.a.Cert = make([]byte, 9<<10) }},
		{"a signature of 9 KiB", attest.Format, func(e *enrolment) { e.a.Signature = make([]byte, 9<<10) }},
		{"five certificates beside", attest.Format, func(e *enrolment) { e.a.Chain = slices.Repeat([][]byte{e.Intermediate.Raw}, 5) }},

		// the batch certificate
		{"the certificate is no certificate", attest.Certificate, func(e *enrolment) { e.a.Cert = []byte("leaf") }},
		{"a byte after the certificate", attest.Certificate, func(e *enrolment) { e.a.Cert = append(e.a.Cert, 0) }},
		{"the certificate is a CA's", attest.Certificate, func(e *enrolment) {
			e.issue(func(c *x509.Certificate) { c.IsCA = true })
		}},
		{"the certificate has no basic constraints", attest.Certificate, func(e *enrolment) {
			e.issue(func(c *x509.Certificate) { c.BasicConstraintsValid = false })
		}},
		{"another unit", attest.Certificate, func(e *enrolment) {
			e.issue(func(c *x509.Certificate) { c.Subject.OrganizationalUnit = []string{"authenticator attestation"} })
		}},
		{"a second unit", attest.Certificate, func(e *enrolment) {
			e.issue(func(c *x509.Certificate) {
				c.Subject.OrganizationalUnit = append(c.Subject.OrganizationalUnit, "Sales")
			})
		}},
		{"no country", attest.Certificate, func(e *enrolment) { e.issue(func(c *x509.Certificate) { c.Subject.Country = nil }) }},
		{"no organization", attest.Certificate, func(e *enrolment) { e.issue(func(c *x509.Certificate) { c.Subject.Organization = nil }) }},
		{"no common name", attest.Certificate, func(e *enrolment) { e.issue(func(c *x509.Certificate) { c.Subject.CommonName = "" }) }},
		{"the batch key is RSA", attest.Certificate, func(e *enrolment) {
			k, err := rsa.GenerateKey(rand.Reader, 2048)
			if err != nil {
				e.T.Fatal(err)
			}
			e.a.Cert = e.Issue(e.Leaf(), &k.PublicKey)
		}},
		{"the batch key is on P-384", attest.Certificate, func(e *enrolment) {
			k, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
			if err != nil {
				e.T.Fatal(err)
			}
			e.a.Cert = e.Issue(e.Leaf(), &k.PublicKey)
		}},
		{"no model in the certificate", attest.AAGUID, func(e *enrolment) {
			e.extension(aaguid, func(x []pkix.Extension, i int) []pkix.Extension { return slices.Delete(x, i, i+1) })
		}},
		{"the model in the certificate is critical", attest.AAGUID, func(e *enrolment) {
			e.extension(aaguid, func(x []pkix.Extension, i int) []pkix.Extension { x[i].Critical = true; return x })
		}},
		{"the model in the certificate is not wrapped", attest.AAGUID, func(e *enrolment) {
			e.extension(aaguid, func(x []pkix.Extension, i int) []pkix.Extension { x[i].Value = e.AAGUID[:]; return x })
		}},
		{"a byte after the model in the certificate", attest.AAGUID, func(e *enrolment) {
			e.extension(aaguid, func(x []pkix.Extension, i int) []pkix.Extension { x[i].Value = append(x[i].Value, 0); return x })
		}},
		{"the certificate is another model's", attest.AAGUID, func(e *enrolment) {
			e.extension(aaguid, func(x []pkix.Extension, i int) []pkix.Extension {
				x[i] = e.OctetString(aaguid, other.AAGUID[:])
				return x
			})
		}},
		{"the key says another model than its certificate", attest.AAGUID, func(e *enrolment) { e.authData(37, 16, other.AAGUID[:]...) }},

		// model, firmware, root
		{"no model is listed", attest.ModelCode, func(e *enrolment) { e.models = nil }},
		{"another model is listed", attest.ModelCode, func(e *enrolment) { e.models = []attest.Model{other.Model()} }},
		{"a key that doesn't tell its model, and a policy that lists zeros", attest.ModelCode, func(e *enrolment) {
			e.models[0].AAGUID = [16]byte{}
			e.extension(aaguid, func(x []pkix.Extension, i int) []pkix.Extension {
				x[i] = e.OctetString(aaguid, make([]byte, 16))
				return x
			})
			e.authData(37, 16, make([]byte, 16)...)
		}},
		{"the software key", attest.ModelCode, func(e *enrolment) { e.enrol(softkey.Config{Attestation: softkey.AttestBasic}) }},
		{"the software key, and a policy that lists model and root", attest.ModelCode, func(e *enrolment) {
			e.enrol(softkey.Config{Attestation: softkey.AttestBasic})
			e.listSoftware()
		}},
		{"the software key, vouched for by the listed vendor, and listed", attest.ModelCode, func(e *enrolment) {
			soft := attest.SoftwareAAGUID()
			e.enrol(softkey.Config{Attestation: softkey.AttestBasic, Batch: e.Vendor.Batch(func(c *x509.Certificate) {
				c.ExtraExtensions = []pkix.Extension{e.OctetString(aaguid, soft[:])}
			})})
			e.models[0].AAGUID, e.models[0].Firmware = soft, ""
		}},
		{"older firmware", attest.Firmware, func(e *enrolment) { e.models[0].Firmware = "5.7.2" }},
		{"firmware 5.10 asked for, 5.7 there", attest.Firmware, func(e *enrolment) { e.models[0].Firmware = "5.10.0" }},
		{"firmware not said", attest.Firmware, func(e *enrolment) {
			e.extension(firmware, func(x []pkix.Extension, i int) []pkix.Extension { return slices.Delete(x, i, i+1) })
		}},
		{"firmware in two bytes", attest.Firmware, func(e *enrolment) {
			e.extension(firmware, func(x []pkix.Extension, i int) []pkix.Extension {
				x[i] = e.OctetString(firmware, []byte{5, 7})
				return x
			})
		}},
		{"the policy's firmware is no version", attest.Firmware, func(e *enrolment) { e.models[0].Firmware = "new" }},
		{"no root at hand", attest.Chain, func(e *enrolment) { e.trust.Roots = nil }},
		{"no intermediate at hand", attest.Chain, func(e *enrolment) { e.trust.Intermediates = nil }},
		{"the model lists another root", attest.Chain, func(e *enrolment) {
			e.models[0].Roots = other.Model().Roots
			e.trust.Roots = append(e.trust.Roots, other.Root)
		}},
		{"the model lists no root", attest.Chain, func(e *enrolment) { e.models[0].Roots = nil }},
		{"another vendor says it made the model", attest.Chain, func(e *enrolment) {
			forged := *other
			forged.AAGUID = e.AAGUID
			e.enrol(forged.Key(""))
			e.trust.Roots, e.trust.Intermediates = append(e.trust.Roots, other.Root), append(e.trust.Intermediates, other.Intermediate)
		}},
		{"a root that comes with the key", attest.Chain, func(e *enrolment) {
			forged := *other
			forged.AAGUID = e.AAGUID
			e.enrol(forged.Key(""))
			e.a.Chain = [][]byte{other.Intermediate.Raw, other.Root.Raw}
		}},
		{"garbage beside the certificate", attest.Chain, func(e *enrolment) { e.a.Chain = [][]byte{[]byte("garbage")} }},
		{"an unknown critical extension", attest.Chain, func(e *enrolment) {
			e.extension(aaguid, func(x []pkix.Extension, _ int) []pkix.Extension {
				return append(x, pkix.Extension{Id: asn1.ObjectIdentifier{1, 2, 3}, Critical: true, Value: []byte{5, 0}})
			})
		}},
		{"the certificate has expired", attest.Chain, func(e *enrolment) { e.now = e.now.AddDate(21, 0, 0) }},
		{"the certificate is not valid yet", attest.Chain, func(e *enrolment) { e.now = e.now.Add(-2 * time.Hour) }},
		{"a leaf that expired yesterday, by the time passed", attest.Chain, func(e *enrolment) {
			e.issue(func(c *x509.Certificate) { c.NotBefore = e.now.AddDate(0, 0, -2); c.NotAfter = e.now.AddDate(0, 0, -1) })
		}},
		{"a leaf that another leaf signed", attest.Chain, func(e *enrolment) {
			parent, err := x509.ParseCertificate(e.batch.Cert)
			if err != nil {
				e.T.Fatal(err)
			}
			k := e.NewKey()
			der, err := x509.CreateCertificate(rand.Reader, e.Leaf(), parent, &k.PublicKey, e.batch.Key)
			if err != nil {
				e.T.Fatal(err)
			}
			e.a.Cert, e.a.Chain = der, [][]byte{e.batch.Cert}
		}},
		{"one bit of the certificate", attest.Chain, func(e *enrolment) { e.a.Cert[len(e.a.Cert)-1] ^= 1 }},

		// the signature
		{"one bit of the signature", attest.Signature, func(e *enrolment) { e.a.Signature[len(e.a.Signature)-1] ^= 1 }},
		{"the signature's counterpart of another enrolment", attest.Signature, func(e *enrolment) { e.a.Signature = newEnrolment(e.T, v).a.Signature }},
		{"another batch's certificate", attest.Signature, func(e *enrolment) { e.a.Cert = v.Batch(nil).Cert }},
		{"the signature by the credential, with a certificate beside", attest.Signature, func(e *enrolment) {
			e.enrol(softkey.Config{AAGUID: e.AAGUID, Attestation: softkey.AttestSelf})
			e.a.Cert = e.batch.Cert
		}},
		{"the counter was altered", attest.Signature, func(e *enrolment) { e.a.AuthData[36] ^= 1 }},
		{"the PIN's flag was set", attest.Signature, func(e *enrolment) { e.a.AuthData[32] ^= 0x04 }},
		{"a byte after the signature", attest.Signature, func(e *enrolment) { e.a.Signature = append(e.a.Signature, 0) }},
	} {
		t.Run(c.what, func(t *testing.T) {
			vt := *v
			vt.T = t
			e := newEnrolment(t, &vt)
			c.bend(e)
			got, err := attest.Verify(&e.a, e.want, e.trust, e.models, e.now)
			if c.want == taken {
				if err != nil {
					t.Fatalf("refused: %v", err)
				}
				if got.Root != sha256.Sum256(v.Root.Raw) || len(got.Chain) != 2 || !bytes.Equal(got.Chain[1], v.Root.Raw) || !got.UV || got.Model.Name != v.Name {
					t.Errorf("proved %+v", got)
				}
				return
			}
			var refusal *attest.Error
			if !errors.As(err, &refusal) {
				t.Fatalf("got %v, want it refused as %s", err, c.want)
			}
			if refusal.Code != c.want {
				t.Errorf("refused as %v, want %s", err, c.want)
			}
			if got != nil {
				t.Errorf("refused, and proved %+v", got)
			}
		})
	}
}

func (e *enrolment) listSoftware() {
	e.T.Helper()
	root, err := e.key.AttestationRoot()
	if err != nil {
		e.T.Fatal(err)
	}
	c, err := x509.ParseCertificate(root)
	if err != nil {
		e.T.Fatal(err)
	}
	e.trust.Roots = append(e.trust.Roots, c)
	e.models = append(e.models, attest.Model{Name: "soft", AAGUID: attest.SoftwareAAGUID(), Roots: [][32]byte{sha256.Sum256(root)}})
}

// TestWhatWasProvedVerifiesAgain is the auditor's way: nothing at hand but what the first verification gave.
func TestWhatWasProvedVerifiesAgain(t *testing.T) {
	e := newEnrolment(t, attesttest.New(t))
	first, err := attest.Verify(&e.a, e.want, e.trust, e.models, e.now)
	if err != nil {
		t.Fatal(err)
	}
	root, err := x509.ParseCertificate(first.Chain[len(first.Chain)-1])
	if err != nil {
		t.Fatal(err)
	}
	e.a.Chain = first.Chain
	if _, err := attest.Verify(&e.a, e.want, attest.Trust{Roots: []*x509.Certificate{root}}, e.models, e.now); err != nil {
		t.Error(err)
	}
}

func TestModelsAreReadFromThePolicy(t *testing.T) {
	v := attesttest.New(t)
	got, err := attest.Models("profile = \"production\"\n[site]\nname = \"x\"\n" + v.PolicyText())
	if err != nil || len(got) != 1 || got[0].AAGUID != v.AAGUID || got[0].Name != v.Name || got[0].Firmware != "5.7.0" || !slices.Equal(got[0].Roots, v.Model().Roots) {
		t.Errorf("read %+v, %v", got, err)
	}
	for _, bad := range []string{"[[enrolment.model]]\naaguid = \"zz\"\n", "[[enrolment.model]]\naaguid = \"" + attest.FormatAAGUID(v.AAGUID) + "\"\nroots = [\"00\"]\n", "[[["} {
		if _, err := attest.Models(bad); err == nil {
			t.Errorf("read %q", bad)
		}
	}
}

func TestFilesOfCertificates(t *testing.T) {
	v := attesttest.New(t)
	leaf := v.Batch(nil).Cert
	for _, c := range []struct {
		what string
		file []byte
		n    int // 0: refused
	}{
		{"a root and an intermediate", append(v.RootPEM(), v.IntermediatePEM()...), 2},
		{"white space around", []byte("\n" + string(v.RootPEM()) + "\n\n"), 1},
		{"nothing", nil, 0},
		{"text", []byte("see the vendor's site\n"), 0},
		{"text after a root", append(v.RootPEM(), "and more\n"...), 0},
		{"a key beside", append(v.RootPEM(), "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"...), 0},
		{"a certificate that is none", []byte("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"), 0},
		{"a batch certificate: it vouches for no other", pemLeaf(leaf), 0},
	} {
		got, err := attest.ParseCertificates(c.file)
		if (err == nil) != (c.n > 0) || len(got) != c.n {
			t.Errorf("%s: %d certificates, %v", c.what, len(got), err)
		}
	}
}

// BenchmarkVerify is what an enrolment costs the CA's writer.
func BenchmarkVerify(b *testing.B) {
	e := newEnrolment(b, attesttest.New(b))
	for b.Loop() {
		if _, err := attest.Verify(&e.a, e.want, e.trust, e.models, e.now); err != nil {
			b.Fatal(err)
		}
	}
}
