package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// systemdCreds puts secrets away as systemd-creds(1) does, into dir: encrypted by this host's key, and its TPM's where there is one. The
// secret goes through a pipe.
func systemdCreds(ctx context.Context, dir string) func(string, []byte) error {
	return func(name string, secret []byte) error {
		program, err := exec.LookPath("systemd-creds")
		if err != nil {
			return withHint(errors.New("systemd-creds is not on this machine"), "it comes with systemd 250 and newer", "or keep the keys under a passphrase: --seal passphrase")
		}
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return err
		}
		var errs bytes.Buffer
		cmd := exec.CommandContext(ctx, program, "encrypt", "--name="+name, "-", filepath.Join(dir, name))
		cmd.Stdin, cmd.Stderr = bytes.NewReader(secret), &errs
		if err := cmd.Run(); err != nil {
			return withHint(fmt.Errorf("systemd-creds encrypt %s: %w: %s", name, err, strings.TrimSpace(errs.String())), "run init as root: the host's key is root's")
		}
		return nil
	}
}
