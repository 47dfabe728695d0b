package agent

import (
	"bytes"
	"errors"
	"testing"

	"golang.org/x/crypto/ssh"

	"breakglass/ca/api"
	"breakglass/internal/attest"
	"breakglass/internal/softkey"
)

func TestFilesOfSSHKeygen(t *testing.T) {
	key, err := softkey.NewAuthenticator(softkey.Config{Attestation: softkey.AttestBasic})
	if err != nil {
		t.Fatal(err)
	}
	challenge := bytes.Repeat([]byte{1}, attest.ChallengeSize)
	made := func(application string) *softkey.Enrollment {
		e, err := key.Enroll(application, challenge, true)
		if err != nil {
			t.Fatal(err)
		}
		return e
	}
	file := func(e *softkey.Enrollment) []byte {
		return ssh.Marshal(struct {
			Magic          string
			Cert, Sig, Raw []byte
			Reserved       uint32
			Reserved2      string
		}{"ssh-sk-attest-v01", e.Cert, e.Signature, append([]byte{0x58, byte(len(e.AuthData))}, e.AuthData...), 0, ""})
	}
	good, other, web := made(api.Application), made(api.Application), made("ssh:other")
	line := func(e *softkey.Enrollment) []byte { return []byte(authorized(e.PublicKey) + " alice@laptop\n") }
	c, err := FromSSHKeygen(line(good), file(good), challenge)
	if err != nil {
		t.Fatal(err)
	}
	if c.Format != attest.Packed || !bytes.Equal(c.CredentialID, good.CredentialID) || !bytes.Equal(c.AuthData, good.AuthData) || !bytes.Equal(c.Cert, good.Cert) ||
		c.PublicKey != authorized(good.PublicKey) || !bytes.Equal(c.Challenge, challenge) {
		t.Errorf("read %+v", c)
	}
	for what, f := range map[string][2][]byte{
		"another key's attestation":   {line(good), file(other)},
		"another application":         {line(web), file(web)},
		"no public key":               {nil, file(good)},
		"an ed25519 key":              {[]byte("ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ5AobeHMSqrBgw1ztgTrX9OZTRDv0fzJPBNrmXHRTPm"), file(good)},
		"no attestation":              {line(good), nil},
		"an attestation cut off":      {line(good), file(good)[:90]},
		"a public key as attestation": {line(good), line(good)},
	} {
		if _, err := FromSSHKeygen(f[0], f[1], challenge); !errors.Is(err, ErrFiles) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

func TestACommandAsAShellTakesIt(t *testing.T) {
	got := Shell("ssh-keygen", SSHKeygenArgs("id", "it's here/challenge", "attestation", "")...)
	want := `ssh-keygen -t ecdsa-sk -N '' -f id -O application=ssh:breakglass -O 'challenge=it'\''s here/challenge' -O write-attestation=attestation`
	if got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}
