package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"golang.org/x/crypto/ssh"

	"breakglass/ca/api"
	"breakglass/internal/attest"
	"breakglass/internal/name"
	"breakglass/internal/sshsig"
)

// ErrFiles says that the files of an enrolment are not those of one new key.
var ErrFiles = errors.New("these are not the files of one new security key")

// FromSSHKeygen makes a credential of what stock ssh-keygen wrote: the public key and, by `-O write-attestation`, the attestation over
// challenge. The credential id comes out of the attestation, so a key without one can't be enrolled this way.
func FromSSHKeygen(public, attestation, challenge []byte) (Credential, error) {
	pub, _, _, _, err := ssh.ParseAuthorizedKey(public)
	if err != nil {
		return Credential{}, fmt.Errorf("%w: the public key: %w", ErrFiles, err)
	}
	if app, err := sshsig.Application(pub); err != nil || app != api.Application {
		return Credential{}, fmt.Errorf("%w: the public key is not an ecdsa-sk key with -O application=%s", ErrFiles, api.Application)
	}
	a, err := attest.ParseSSH(attestation)
	if err != nil {
		return Credential{}, fmt.Errorf("%w: the attestation: %w", ErrFiles, err)
	}
	d, err := attest.ParseAuthData(a.AuthData)
	if err != nil {
		return Credential{}, fmt.Errorf("%w: the attestation: %w", ErrFiles, err)
	}
	var k struct{ Type, Curve, Point, Application string }
	if err := ssh.Unmarshal(pub.Marshal(), &k); err != nil || k.Point != string(d.Point) {
		return Credential{}, fmt.Errorf("%w: the attestation is of another key", ErrFiles)
	}
	return Credential{PublicKey: authorized(pub), CredentialID: d.CredentialID, Format: a.Format, AuthData: a.AuthData, Cert: a.Cert, Signature: a.Signature,
		Challenge: challenge}, nil
}

// SSHKeygenArgs are the arguments of stock ssh-keygen that make a new credential: key and key.pub, and the attestation over the challenge.
// device may be empty: ssh-keygen then takes the one that is plugged in.
func SSHKeygenArgs(key, challenge, attestation, device string) []string {
	args := []string{"-t", "ecdsa-sk", "-N", "", "-f", key, "-O", "application=" + api.Application, "-O", "challenge=" + challenge, "-O", "write-attestation=" + attestation}
	if device != "" {
		args = append(args, "-O", "device="+device)
	}
	return args
}

// SSHKeygenEnroller makes credentials with stock ssh-keygen, which asks for PIN and touch on the terminal by itself.
type SSHKeygenEnroller struct {
	Dir    string // private; for the files while it runs
	Device string
	// Say is told the command before it runs; nil is nobody.
	Say            func(command string)
	Stdin          io.Reader
	Stdout, Stderr io.Writer
}

// Enrol is Enroller's.
func (s *SSHKeygenEnroller) Enrol(ctx context.Context, _ name.Person, challenge []byte) (Credential, error) {
	dir, err := os.MkdirTemp(s.Dir, "enrol-")
	if err != nil {
		return Credential{}, fmt.Errorf("enrolling with ssh-keygen: %w", err)
	}
	defer os.RemoveAll(dir)
	file := func(n string) string { return filepath.Join(dir, n) }
	if err := os.WriteFile(file("challenge"), challenge, 0o600); err != nil {
		return Credential{}, fmt.Errorf("enrolling with ssh-keygen: %w", err)
	}
	args := SSHKeygenArgs(file("id"), file("challenge"), file("attestation"), s.Device)
	if s.Say != nil {
		s.Say(Shell("ssh-keygen", args...))
	}
	cmd := exec.CommandContext(ctx, "ssh-keygen", args...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = s.Stdin, s.Stdout, s.Stderr
	if err := cmd.Run(); err != nil {
		return Credential{}, fmt.Errorf("enrolling with ssh-keygen: %w", err)
	}
	pub, err := os.ReadFile(file("id.pub"))
	if err != nil {
		return Credential{}, fmt.Errorf("enrolling with ssh-keygen: %w", err)
	}
	att, err := os.ReadFile(file("attestation"))
	if err != nil {
		return Credential{}, fmt.Errorf("enrolling with ssh-keygen: %w", err)
	}
	return FromSSHKeygen(pub, att, challenge)
}

// Shell writes a command as a POSIX shell takes it.
func Shell(program string, args ...string) string {
	out := program
	for _, a := range args {
		if a == "" || strings.ContainsFunc(a, func(r rune) bool {
			return !strings.ContainsRune("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_@%+=:,./-", r)
		}) {
			a = "'" + strings.ReplaceAll(a, "'", `'\''`) + "'"
		}
		out += " " + a
	}
	return out
}
