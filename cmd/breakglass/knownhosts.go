package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"golang.org/x/crypto/ssh"

	"breakglass/agent/background"
	"breakglass/agent/sshconfig"
	"breakglass/internal/durable"
	"breakglass/internal/sshcert"
	"breakglass/ledger"
)

// knownHosts gives the path of the file that names the host CA, written anew where it differs from what is pinned.
func (a *app) knownHosts() (string, error) {
	p, err := a.home.Pins()
	if err != nil {
		return "", err
	}
	return a.home.Path("known_hosts"), a.refreshKnownHosts(p.Site)
}

func (a *app) refreshKnownHosts(site ledger.Site) error {
	path, want := a.home.Path("known_hosts"), sshconfig.KnownHosts(site.HostCA)
	have, err := os.ReadFile(path)
	if err == nil && string(have) == want {
		return nil
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("reading known_hosts: %w", err)
	}
	if err := durable.WriteFile(path, []byte(want), 0o600); err != nil {
		return fmt.Errorf("writing known_hosts: %w", err)
	}
	return nil
}

// grantKey is the client key that a grant's certificate is over.
func grantKey(g *background.Grant) (ssh.PublicKey, error) {
	cert, err := sshcert.Parse([]byte(g.Certificate))
	if err != nil {
		return nil, err
	}
	return cert.Key, nil
}
