package attest_test

import (
	"bytes"
	"encoding/pem"
	"errors"
	"testing"

	"golang.org/x/crypto/ssh"

	"breakglass/internal/attest"
	"breakglass/internal/attest/attesttest"
)

func pemLeaf(der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

type sshFile struct {
	Magic                     string
	Cert, Signature, AuthData []byte
	Reserved                  uint32
	Reserved2                 string
}

func TestSSHKeygensFile(t *testing.T) {
	e := newEnrolment(t, attesttest.New(t))
	good := sshFile{"ssh-sk-attest-v01", e.a.Cert, e.a.Signature, wrap(e.a.AuthData), 0, ""}
	for _, c := range []struct {
		what string
		want attest.Code
		bend func(*sshFile) []byte
	}{
		{"as ssh-keygen writes it", "", func(f *sshFile) []byte { return ssh.Marshal(f) }},
		{"the version before, which has no authenticator data", attest.Format, func(f *sshFile) []byte { f.Magic = "ssh-sk-attest-v00"; return ssh.Marshal(f) }},
		{"a byte after it", attest.Format, func(f *sshFile) []byte { return append(ssh.Marshal(f), 0) }},
		{"cut off", attest.Format, func(f *sshFile) []byte { return ssh.Marshal(f)[:100] }},
		{"a reserved number", attest.Format, func(f *sshFile) []byte { f.Reserved = 1; return ssh.Marshal(f) }},
		{"a reserved text", attest.Format, func(f *sshFile) []byte { f.Reserved2 = "x"; return ssh.Marshal(f) }},
		{"no signature", attest.Missing, func(f *sshFile) []byte { f.Signature = nil; return ssh.Marshal(f) }},
		{"no authenticator data", attest.Missing, func(f *sshFile) []byte { f.AuthData = nil; return ssh.Marshal(f) }},
		{"a certificate of 9 KiB", attest.Format, func(f *sshFile) []byte { f.Cert = make([]byte, 9<<10); return ssh.Marshal(f) }},
		{"30 KiB", attest.Format, func(*sshFile) []byte { return make([]byte, 30<<10) }},
		{"a private key", attest.Format, func(*sshFile) []byte { return []byte("-----BEGIN OPENSSH PRIVATE KEY-----\n") }},
		{"nothing", attest.Format, func(*sshFile) []byte { return nil }},
	} {
		f := good
		a, err := attest.ParseSSH(c.bend(&f))
		var refusal *attest.Error
		switch {
		case c.want == "" && err != nil:
			t.Errorf("%s: %v", c.what, err)
		case c.want == "":
			a.Challenge = e.a.Challenge
			if _, err := attest.Verify(a, e.want, e.trust, e.models, e.now); err != nil {
				t.Errorf("%s: %v", c.what, err)
			}
		case !errors.As(err, &refusal) || refusal.Code != c.want:
			t.Errorf("%s: %v, want %s", c.what, err, c.want)
		}
	}
}

// FuzzAuthData demands that what is read has one spelling: no two inputs may mean the same credential.
func FuzzAuthData(f *testing.F) {
	e := newEnrolment(f, attesttest.New(f))
	ad := e.a.AuthData
	ext := append(bytes.Clone(ad), "\xa1\x6bcredProtect\x02"...)
	ext[32] |= 0x80
	for _, seed := range [][]byte{ad, wrap(ad), ext, ad[:54], ad[:37], nil, append(bytes.Clone(ad), 0)} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		raw, err := attest.Unwrap(b)
		if err != nil {
			return
		}
		d, err := attest.ParseAuthData(raw)
		if err != nil {
			return
		}
		if len(d.Point) != 65 || len(d.CredentialID) == 0 || len(d.CredentialID) > attest.MaxCredential {
			t.Fatalf("read %+v", d)
		}
		// head ‖ id ‖ the key in its one spelling ‖ at most credProtect
		key := append([]byte("\xa5\x01\x02\x03\x26\x20\x01\x21\x58\x20"), d.Point[1:33]...)
		key = append(append(key, "\x22\x58\x20"...), d.Point[33:]...)
		if rest, ok := bytes.CutPrefix(raw[55+len(d.CredentialID):], key); !ok || len(rest) != 0 && len(rest) != len("\xa1\x6bcredProtect\x02") {
			t.Fatalf("another spelling: %x", raw)
		}
	})
}

// FuzzVerify gives every part of an attestation to whoever holds a batch key. A mutation that still passes must be the attestation itself.
func FuzzVerify(f *testing.F) {
	e := newEnrolment(f, attesttest.New(f))
	f.Add("packed", e.a.AuthData, e.a.Cert, e.a.Signature, []byte(nil))
	f.Add("packed", wrap(e.a.AuthData), e.a.Cert, e.a.Signature, e.Intermediate.Raw)
	f.Add("none", e.a.AuthData, []byte(nil), []byte(nil), []byte(nil))
	f.Fuzz(func(t *testing.T, format string, authData, cert, sig, more []byte) {
		a := attest.Attestation{Format: format, Challenge: e.want.Challenge, AuthData: authData, Cert: cert, Signature: sig}
		if len(more) > 0 {
			a.Chain = [][]byte{more}
		}
		_, err := attest.Verify(&a, e.want, e.trust, e.models, e.now)
		var refusal *attest.Error
		switch {
		case err == nil:
			if raw, _ := attest.Unwrap(authData); !bytes.Equal(raw, e.a.AuthData) || !bytes.Equal(cert, e.a.Cert) {
				t.Fatalf("took another attestation: %x %x", authData, cert)
			}
		case !errors.As(err, &refusal) || refusal.Detail == "":
			t.Fatalf("refused without a reason: %v", err)
		}
	})
}

func FuzzSSHFile(f *testing.F) {
	e := newEnrolment(f, attesttest.New(f))
	f.Add(ssh.Marshal(sshFile{"ssh-sk-attest-v01", e.a.Cert, e.a.Signature, wrap(e.a.AuthData), 0, ""}))
	f.Add(ssh.Marshal(sshFile{"ssh-sk-attest-v01", nil, e.a.Signature, e.a.AuthData, 0, ""}))
	f.Add([]byte("\x00\x00\x00\x11ssh-sk-attest-v01"))
	f.Fuzz(func(t *testing.T, b []byte) {
		a, err := attest.ParseSSH(b)
		if err == nil && (a.Format != attest.Packed || len(a.AuthData) == 0 || len(a.Signature) == 0 || len(a.AuthData) > attest.MaxPart) {
			t.Fatalf("read %+v", a)
		}
	})
}

func FuzzCertificates(f *testing.F) {
	v := attesttest.New(f)
	f.Add(append(v.RootPEM(), v.IntermediatePEM()...))
	f.Add([]byte("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		got, err := attest.ParseCertificates(b)
		for _, c := range got {
			if !c.IsCA {
				t.Fatal("took a certificate that vouches for no other")
			}
		}
		if err == nil && len(got) == 0 {
			t.Fatal("took an empty file")
		}
	})
}
