package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"breakglass/ca/api"
	"breakglass/ledger"
)

func newRevokeCmd(a *app) *cobra.Command {
	return group("revoke", "Stop a certificate, grant, key, person or jump at once; it takes your touch",
		a.revokeOf(ledger.RevokedCertificate, "SERIAL", "A certificate by its serial; also one that the ledger doesn't know"),
		a.revokeOf(ledger.RevokedGrant, "ID", "A grant, or a request that waits: `breakglass sessions` lists ids"),
		a.revokeOf(ledger.RevokedKey, "SHA256:…", "A hardware key and all that it opened"),
		a.revokeOf(ledger.RevokedPerson, "NAME", "All that a person has: keys, passes, grants, invites, recipients; and what they leave behind"),
		a.revokeOf(ledger.RevokedJump, "NAME", "A jump: its calls are refused, its sessions are over"))
}

func (a *app) revokeOf(what, target, short string) *cobra.Command {
	var reason string
	c := &cobra.Command{
		Use: what + " " + target + " --reason WHY", Short: short, Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if reason == "" {
				return usagef("say --reason WHY: it is read by whoever is cut off, and in the ledger for ever")
			}
			done, err := a.order(cmd.Context(), "revoke-"+what, args[0], reason)
			if err != nil {
				return err
			}
			if a.json {
				return a.printJSON(done)
			}
			a.printRevoked(what, done)
			return nil
		},
	}
	c.Flags().StringVar(&reason, "reason", "", "why, in a line")
	c.Flags().BoolVar(&a.show, "show", false, "print the statement before it is signed")
	return c
}

func (a *app) printRevoked(what string, done *api.OrderDone) {
	a.say("%s %s is revoked", what, done.Target)
	if s := done.Stopped; s != nil {
		for _, id := range s.Grants {
			a.say("  stopped     grant %s", id)
		}
		for _, id := range s.Sessions {
			a.say("  ends now    session %s", id)
		}
	}
	a.say("  hosts       refuse its certificates with the next revocation list (breakglass-ca krl; a minute with contrib/hosts)")
	if l := done.Left; l != nil {
		for _, r := range l.Rules {
			a.say("  policy      %s", clean(r))
		}
		for _, id := range l.Unreviewed {
			a.say("  unreviewed  %s", id)
		}
		for _, r := range l.Recipients {
			a.say("  no more     recordings are sealed to %s", shortened(r))
		}
		a.say("next: take %s out of [people], groups and rules, and have the owners sign the policy", done.Target)
	}
}

// shortened is the beginning of something long, enough to tell it by.
func shortened(s string) string {
	const enough = 24
	if len(s) <= enough {
		return s
	}
	return fmt.Sprintf("%s… (%d characters)", strings.ToValidUTF8(s[:enough], ""), len(s))
}
