package main

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"breakglass/ca"
	"breakglass/ca/custody"
	"breakglass/internal/durable"
)

func newKeysCmd(a *app) *cobra.Command {
	c := a.withDir(&cobra.Command{
		Use: "keys", Short: "Show the CA's keys: active, trusted, retired, and where the active ones are", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var keys []ca.SiteKey
			if err := a.withAdmin(cmd.Context(), func(ad *admin) error {
				return ad.call(cmd.Context(), http.MethodGet, "/admin/keys", nil, &keys)
			}); err != nil {
				return err
			}
			if a.json {
				return a.printJSON(map[string]any{"keys": keys})
			}
			for _, k := range keys {
				fmt.Fprintf(a.stdout, "%-10s  %-7s  %-10s  %s\n", k.Key, k.State, k.Custody, clean(k.Fingerprint))
			}
			return nil
		},
	})
	seal := newKeysSealCmd(a)
	c.AddCommand(seal)
	return c
}

// newKeysSealCmd turns a plain key file into a sealed one; the configuration is the operator's to change.
func newKeysSealCmd(a *app) *cobra.Command {
	var out string
	fd := -1
	c := &cobra.Command{
		Use: "seal FILE", Short: "Seal a plain key file under a passphrase (an age file)", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if out == "" {
				out = args[0] + ".age"
			}
			abs, err := filepath.Abs(args[0])
			if err != nil {
				return err
			}
			secret, err := (&custody.Keeper{}).Secret(custody.Place{Kind: custody.File, At: abs})
			if err != nil {
				return err
			}
			defer custody.Wipe(secret)
			pass, err := a.passphrase(fd, "passphrase to seal it under", true)
			if err != nil {
				return err
			}
			defer custody.Wipe(pass)
			b, err := custody.Seal(secret, pass, 0)
			if err != nil {
				return err
			}
			if err := durable.WriteNew(out, b, 0o600); err != nil {
				return err
			}
			a.say("sealed to %s; next:", out)
			a.say("  name it in config.toml [keys]: [\"sealed:%s\"]", out)
			a.say("  shred -u %s      once the service has started with the sealed one", args[0])
			return nil
		},
	}
	c.Flags().StringVar(&out, "out", "", "write it there (FILE.age if not given)")
	c.Flags().IntVar(&fd, "passphrase-fd", -1, "read the passphrase from this descriptor")
	return c
}

// sealFlags are init's.
type sealFlags struct {
	seal, agent                  string
	places                       [3]string
	fd, standbyFD                int
	credentials, credentialsFrom string
}

func (f *sealFlags) add(c *cobra.Command) {
	fl := c.Flags()
	fl.StringVar(&f.seal, "seal", "", "how the keys are kept: passphrase, credential (systemd-creds), or none in the demo profile")
	fl.IntVar(&f.fd, "passphrase-fd", -1, "read the passphrase from this descriptor instead of the terminal")
	fl.IntVar(&f.standbyFD, "standby-passphrase-fd", -1, "the passphrase of the standby keys, if it is another")
	fl.StringVar(&f.credentials, "credentials", "/etc/credstore.encrypted", "where --seal credential puts them")
	fl.StringVar(&f.agent, "agent", "", "socket of an ssh-agent that holds SSH keys, of a token too")
	for i, n := range []string{"client-ca", "session-ca", "host-ca"} {
		fl.StringVar(&f.places[i], n, "", "agent:SHA256:FINGERPRINT of an existing key in it")
	}
}

// sealing asks for what is needed.
func (f *sealFlags) sealing(cmd *cobra.Command, a *app, cfg *ca.InitConfig) error {
	s := ca.Sealing{Agent: f.agent, Existing: map[string]custody.Place{}}
	for i, n := range []string{ca.KeyClientCA, ca.KeySessionCA, ca.KeyHostCA} {
		if f.places[i] == "" {
			continue
		}
		p, err := custody.ParsePlace(f.places[i])
		if err != nil {
			return usage(err)
		}
		s.Existing[n] = p
	}
	var err error
	switch f.seal {
	case "", "none":
		s.Kind = custody.File
	case "passphrase":
		s.Kind = custody.Sealed
		if s.Passphrase, err = a.passphrase(f.fd, "passphrase for the CA's keys", true); err != nil {
			return err
		}
		s.Standby = s.Passphrase
	case "credential":
		s.Kind = custody.Credential
		s.Encrypt = systemdCreds(cmd.Context(), f.credentials)
		if f.standbyFD < 0 && f.fd < 0 {
			if s.Standby, err = a.passphrase(-1, "passphrase for the standby keys", true); err != nil {
				return err
			}
		} else if f.standbyFD < 0 {
			if s.Standby, err = a.passphrase(f.fd, "", false); err != nil {
				return err
			}
		}
	default:
		return usagef("--seal %q: want passphrase, credential or none", f.seal)
	}
	if f.standbyFD >= 0 {
		if s.Standby, err = a.passphrase(f.standbyFD, "", false); err != nil {
			return err
		}
	}
	cfg.Seal = s
	if s.Kind == custody.Credential {
		dir, err := os.MkdirTemp("/dev/shm", "breakglass-ca-") // memory: what init opens once more never lies on a disk
		if err != nil {
			return err
		}
		f.credentialsFrom, cfg.Credentials = dir, dir
		put := s.Encrypt
		cfg.Seal.Encrypt = func(name string, secret []byte) error {
			if err := os.WriteFile(filepath.Join(dir, name), secret, 0o400); err != nil {
				return err
			}
			return put(name, secret)
		}
	}
	return nil
}

// clean removes what init needed for a moment.
func (f *sealFlags) clean() error {
	if f.credentialsFrom == "" {
		return nil
	}
	return os.RemoveAll(f.credentialsFrom)
}
