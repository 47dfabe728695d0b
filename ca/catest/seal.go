package catest

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"breakglass/ca"
	"breakglass/ca/custody"
)

// StandbyPassphrase opens the standby keys of a production CA.
const StandbyPassphrase = "standby passphrase of tests"

// scryptFactor is the least that scrypt takes: a test guards nothing.
const scryptFactor = 1

// credentials is what systemd's $CREDENTIALS_DIRECTORY would be: beside the CA's directory, which backups copy.
func (c *CA) credentials() string { return filepath.Join(filepath.Dir(c.Dir), "credentials") }

// seal keeps a production CA's keys as a service under systemd has them; the demo's are plain files.
func (c *CA) seal() ca.Sealing {
	if !strings.Contains(c.cfg.Policy, `profile = "production"`) {
		return ca.Sealing{}
	}
	Must(c.T, os.MkdirAll(c.credentials(), 0o700))
	return ca.Sealing{Kind: custody.Credential, Standby: []byte(StandbyPassphrase), WorkFactor: scryptFactor,
		Encrypt: func(name string, secret []byte) error {
			return os.WriteFile(filepath.Join(c.credentials(), name), secret, 0o400)
		}}
}

// Unseal opens a standby key of a production CA.
func Unseal(t testing.TB, sealed []byte) []byte {
	t.Helper()
	path := filepath.Join(t.TempDir(), "standby.age")
	Must(t, os.WriteFile(path, sealed, 0o600))
	k := &custody.Keeper{Passphrase: func() ([]byte, error) { return []byte(StandbyPassphrase), nil }}
	b, err := k.Secret(custody.Place{Kind: custody.Sealed, At: path})
	Must(t, err)
	return b
}
