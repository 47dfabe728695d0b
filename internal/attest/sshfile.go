package attest

import (
	"golang.org/x/crypto/ssh"
)

// sshMagic begins what `ssh-keygen -O write-attestation=FILE` writes (OpenSSH PROTOCOL.u2f, "Attestation information").
const sshMagic = "ssh-sk-attest-v01"

// maxSSHFile bounds such a file in bytes.
const maxSSHFile = 3*MaxPart + 64

// ParseSSH reads a file that stock `ssh-keygen -O challenge=FILE -O write-attestation=FILE` wrote. It says neither its format nor its
// challenge: the format is taken for packed, which its signature then has to bear out; the challenge is the caller's to know.
func ParseSSH(b []byte) (*Attestation, error) {
	if len(b) > maxSSHFile {
		return nil, refuse(Format, "an attestation file of %d bytes, want at most %d", len(b), maxSSHFile)
	}
	var f struct {
		Magic     string
		Cert      []byte
		Signature []byte
		AuthData  []byte
		Reserved  uint32
		Reserved2 string
	}
	if err := ssh.Unmarshal(b, &f); err != nil || f.Magic != sshMagic {
		return nil, refuse(Format, "not an attestation file of ssh-keygen (%s)", sshMagic)
	}
	if f.Reserved != 0 || f.Reserved2 != "" {
		return nil, refuse(Format, "an attestation file with something in its reserved fields")
	}
	if len(f.Signature) == 0 || len(f.AuthData) == 0 {
		return nil, refuse(Missing, "the attestation file holds no attestation")
	}
	raw, err := Unwrap(f.AuthData)
	if err != nil {
		return nil, err
	}
	a := &Attestation{Format: Packed, AuthData: raw, Signature: f.Signature}
	if len(f.Cert) > 0 {
		a.Cert = f.Cert
	}
	return a, a.form()
}
