package keys

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"

	"breakglass/ca/api"
	"breakglass/internal/sshsig"
)

// SSHKeygen signs with stock `ssh-keygen -Y sign` and the key file that the CA's answer carries (a handle and flags, no
// secret): a fresh laptop needs nothing else. It asks for PIN and touch on the terminal by itself.
type SSHKeygen struct {
	Dir  string // private; for the files while it runs
	Path string // of ssh-keygen; empty: PATH
}

// Sign is Signer's. Each key is tried in turn: ssh-keygen can't say which is plugged in.
func (s *SSHKeygen) Sign(ctx context.Context, statement []byte, namespace string, keys []api.KeyHandle) (*sshsig.Signature, error) {
	path := s.Path
	if path == "" {
		var err error
		if path, err = exec.LookPath("ssh-keygen"); err != nil {
			return nil, fmt.Errorf("%w: %w", ErrNotHere, err)
		}
	}
	var last error
	for _, k := range keys {
		if _, err := parse(k); err != nil {
			return nil, err
		}
		if k.KeyFile == "" {
			continue
		}
		sig, err := s.one(ctx, path, statement, namespace, k)
		if err == nil {
			return sig, nil
		}
		if ctx.Err() != nil {
			return nil, err
		}
		last = err
	}
	if last == nil {
		return nil, ErrNotHere
	}
	return nil, last
}

func (s *SSHKeygen) one(ctx context.Context, path string, statement []byte, namespace string, k api.KeyHandle) (*sshsig.Signature, error) {
	dir, err := os.MkdirTemp(s.Dir, "sign-")
	if err != nil {
		return nil, fmt.Errorf("signing with ssh-keygen: %w", err)
	}
	defer os.RemoveAll(dir)
	key, msg := filepath.Join(dir, "key"), filepath.Join(dir, "statement")
	err = errors.Join(os.WriteFile(key, []byte(k.KeyFile), 0o600), os.WriteFile(key+".pub", []byte(k.PublicKey+"\n"), 0o600),
		os.WriteFile(msg, statement, 0o600))
	if err != nil {
		return nil, fmt.Errorf("signing with ssh-keygen: %w", err)
	}
	cmd := exec.CommandContext(ctx, path, "-Y", "sign", "-f", key, "-n", namespace, msg)
	cmd.Stderr = os.Stderr // "Confirm user presence for key …", and the PIN's prompt
	if err := cmd.Run(); err != nil {
		return nil, fmt.Errorf("%w: ssh-keygen, key %s: %w", ErrRefused, k.Name, err)
	}
	armored, err := os.ReadFile(msg + ".sig")
	if err != nil {
		return nil, fmt.Errorf("signing with ssh-keygen: %w", err)
	}
	return sshsig.Parse(armored)
}
