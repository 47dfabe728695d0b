package main

import (
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"breakglass/cmd/person"
	"breakglass/internal/durable"
	"breakglass/internal/krl"
)

func newKRLCmd(a *app) *cobra.Command {
	var out string
	c := a.withDir(&cobra.Command{
		Use: "krl -o FILE", Short: "Write the revocation list that hosts' sshd reads", Args: cobra.NoArgs,
		Long: `Writes what is revoked as an OpenSSH revocation list, for RevokedKeys in sshd_config. A list that sshd can't read locks everybody out of the host: so
it is written beside FILE, read again by ssh-keygen, synced, and only then renamed into place. Hosts pull it by themselves with contrib/hosts.
Where the CA doesn't live on this machine, it is asked by the pins of your home.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if out == "" {
				return usagef("say -o FILE")
			}
			b, err := a.fetchKRL(cmd)
			if err != nil {
				return err
			}
			l, err := krl.Parse(b)
			if err != nil {
				return err
			}
			if err := writeKRL(cmd, out, b); err != nil {
				return err
			}
			a.say("%s: %s", out, summary(l))
			return nil
		},
	})
	c.Flags().StringVarP(&out, "output", "o", "", "the file to replace")
	c.AddCommand(newKRLCheckCmd(a))
	return c
}

func (a *app) fetchKRL(cmd *cobra.Command) (b []byte, err error) {
	if a.here(cmd) {
		return b, a.withAdmin(cmd.Context(), func(ad *admin) error {
			return ad.call(cmd.Context(), http.MethodGet, "/v1/krl", nil, &b)
		})
	}
	me, err := person.Find(cmd.Context(), a.stderr, os.Getenv)
	if err != nil {
		return nil, err
	}
	c, err := me.Client()
	if err != nil {
		return nil, err
	}
	return c.KRL(cmd.Context())
}

// writeKRL replaces path by a list that stock OpenSSH has read.
func writeKRL(cmd *cobra.Command, path string, b []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), ".krl-*")
	if err != nil {
		return fmt.Errorf("writing the revocation list: %w", err)
	}
	defer os.Remove(f.Name())
	_, err = f.Write(b)
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return fmt.Errorf("writing the revocation list: %w", err)
	}
	if out, err := exec.CommandContext(cmd.Context(), "ssh-keygen", "-Q", "-l", "-f", f.Name()).CombinedOutput(); err != nil {
		return withHint(fmt.Errorf("ssh-keygen does not read the new list, so %s stays as it is: %w: %s", path, err, clean(string(out))), "ssh-keygen has to be installed here")
	}
	return durable.WriteFile(path, b, 0o644)
}

func newKRLCheckCmd(a *app) *cobra.Command {
	return &cobra.Command{
		Use: "check FILE", Short: "Say what a revocation list holds, or that sshd would not read it", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			b, err := readLimited(args[0], cmd.InOrStdin(), krl.MaxSize)
			if err != nil {
				return err
			}
			l, err := krl.Parse(b)
			if err != nil {
				return withHint(err, "a host with this file in RevokedKeys lets nobody in: put the last good one back, or an empty file")
			}
			if a.json {
				return a.printJSON(map[string]any{"version": l.Version, "generated": l.Generated, "of": l.Comment, "serials": serials(l), "key_ids": keyIDs(l),
					"keys": len(l.Keys) + len(l.SHA256)})
			}
			fmt.Fprintf(a.stdout, "%s\n", summary(l))
			return nil
		},
	}
}

func summary(l *krl.List) string {
	return fmt.Sprintf("version %d of %s, made %s: %s, %s, %s", l.Version, clean(l.Comment), l.Generated.Local().Format(time.DateTime),
		count(int(serials(l)), "serial"), count(keyIDs(l), "key id"), count(len(l.Keys)+len(l.SHA256), "key"))
}

// serials and keyIDs are those of the CA that has the most: a list names them again under each CA of a site.
func serials(l *krl.List) (most uint64) {
	for _, ca := range l.CAs {
		n := uint64(0)
		for _, r := range ca.Serials {
			n += r.Hi - r.Lo + 1
		}
		most = max(most, n)
	}
	return most
}

func keyIDs(l *krl.List) (most int) {
	for _, ca := range l.CAs {
		most = max(most, len(ca.KeyIDs))
	}
	return most
}
