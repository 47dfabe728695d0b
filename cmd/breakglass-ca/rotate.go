package main

import (
	"context"
	"errors"
	"net/http"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"breakglass/ca"
	"breakglass/ca/custody"
	"breakglass/internal/statement"
	"breakglass/policy"
)

func newRotateCmd(a *app) *cobra.Command {
	var standby, retire string
	fd, keepFD := -1, -1
	c := a.withDir(&cobra.Command{
		Use: "rotate KEY --standby FILE | rotate --retire FINGERPRINT", Short: "Make a standby key the active one; retire an old one", Args: cobra.MaximumNArgs(1),
		Long: `Make a standby key the active one, or retire an old one. KEY is session_ca, client_ca, host_ca or tls.

Nothing has to be done on hosts, jumps or clients for the change: they trust the standby since they were set up. The old key stays trusted
until it is retired, and a new standby is made. FILE is the sealed file that was taken off this machine; a key in the CA's ssh-agent is
named as agent:SHA256:FINGERPRINT.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			switch {
			case retire != "" && (len(args) > 0 || standby != ""), retire == "" && (len(args) == 0 || standby == ""):
				return usagef("say KEY and --standby FILE, or --retire FINGERPRINT alone")
			case retire != "":
				return a.retire(cmd, retire)
			}
			q := ca.RotateAsk{Key: args[0], Standby: standby}
			if p, err := custody.ParsePlace(standby); err != nil {
				path, err := filepath.Abs(standby)
				if err != nil {
					return err
				}
				q.Standby = "file:" + path
				if strings.HasSuffix(path, ".age") {
					q.Standby = "sealed:" + path
				}
			} else if p.Kind == custody.Credential {
				return usagef("a standby is a file, or in the agent")
			}
			var err error
			if !strings.HasPrefix(q.Standby, "file:") { // the new standby's, where the one at hand is in an agent
				if q.Passphrase, err = a.passphrase(fd, "passphrase of the standby key", false); err != nil {
					return err
				}
				defer custody.Wipe(q.Passphrase)
			}
			if keepFD >= 0 {
				if q.Keep, err = a.passphrase(keepFD, "", false); err != nil {
					return err
				}
				defer custody.Wipe(q.Keep)
			}
			var r ca.Rotated
			if err := a.withAdmin(cmd.Context(), func(ad *admin) error {
				if err := ad.keeps(cmd.Context()); err != nil {
					return err
				}
				return ad.call(cmd.Context(), http.MethodPost, "/admin/rotate", q, &r)
			}); err != nil {
				return err
			}
			if a.json {
				return a.printJSON(r)
			}
			a.printRotated(&r)
			return nil
		},
	})
	f := c.Flags()
	f.StringVar(&standby, "standby", "", "the standby key: its sealed file, or its place in the agent")
	f.StringVar(&retire, "retire", "", "trust the key of this fingerprint no more")
	f.IntVar(&fd, "passphrase-fd", -1, "read the standby's passphrase from this descriptor")
	f.IntVar(&keepFD, "ca-passphrase-fd", -1, "the passphrase of the CA's own keys, if it is another")
	return c
}

// keeps refuses where what is prepared would be forgotten before anybody could order it: it waits in the memory of a service.
func (ad *admin) keeps(ctx context.Context) error {
	if !ad.own {
		return nil
	}
	var st ca.Status
	if err := ad.call(ctx, http.MethodGet, "/admin/status", nil, &st); err != nil {
		return err
	}
	if !st.Founded || st.Profile == string(policy.Demo) {
		return nil
	}
	return withHint(errors.New("an operator has to order a rotation, and the service that would take the order does not run"), "breakglass-ca serve", "then the same again")
}

func (a *app) printRotated(r *ca.Rotated) {
	if r.Order != "" {
		a.say("%s is ready to become the active %s", r.Active, r.Key)
		a.say("an operator has to order it within an hour, from their own machine:")
		a.say("  %s", orderLine(statement.OrderRotateKey, r.Order))
		a.say("until then nothing has changed")
	} else {
		a.say("%s is the active %s", r.Active, r.Key)
	}
	a.say("  old       %s: trusted until you retire it", r.Old)
	a.say("  active    %s", r.Place)
	a.say("  standby   %s", r.StandbyFile)
	if r.Asks {
		a.say("from its next start on the service wants the passphrase of that file: the credential %s has it for", ca.CredentialPassphrase)
		a.say("a service that nobody sits at (LoadCredentialEncrypted=)")
	}
	a.say("next:")
	a.say("  move %s off this machine", r.StandbyFile)
	if r.Key == ca.KeySessionCA {
		a.say("  breakglass-ca host setup HOST      for each host, at leisure: the new standby is trusted from then on")
	}
	a.say("  breakglass-ca rotate --retire %s", r.Old)
	a.say("      once every certificate of it has ended, and hosts have a new key list or KRL")
}

func (a *app) retire(cmd *cobra.Command, fingerprint string) error {
	var r ca.Retired
	if err := a.withAdmin(cmd.Context(), func(ad *admin) error {
		return ad.call(cmd.Context(), http.MethodPost, "/admin/retire", retireAsk{fingerprint}, &r)
	}); err != nil {
		return err
	}
	if a.json {
		return a.printJSON(r)
	}
	if r.Order != "" {
		a.say("an operator has to order it, from their own machine:")
		a.say("  %s", orderLine(statement.OrderRetireKey, r.Order))
		return nil
	}
	a.say("%s is no %s any more; the KRL names it", r.Fingerprint, r.Key)
	a.say("destroy its file, and run host setup for the hosts that still list it")
	return nil
}

type retireAsk struct {
	Fingerprint string `json:"fingerprint"`
}
