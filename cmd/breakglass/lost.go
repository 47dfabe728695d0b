package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"breakglass/agent/home"
	"breakglass/agent/reader"
	"breakglass/agent/terminal"
	"breakglass/ca/api"
	"breakglass/internal/statement"
)

func newLostCmd(a *app) *cobra.Command {
	var reason string
	var yes bool
	c := &cobra.Command{
		Use: "lost KEY", Short: "Report a key of yours as lost, with another one: it is revoked at once, and what it opened ends",
		Long: `KEY is the key's name, as ` + "`breakglass keys`" + ` lists it, or its SHA256:… fingerprint. Another key of yours signs for it.
If you have none left: an operator revokes it, and invites you anew.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := statement.CheckText(reason); err != nil {
				return usagef("reason: %w", err)
			}
			return a.lost(cmd.Context(), args[0], reason, yes)
		},
	}
	c.Flags().StringVar(&reason, "reason", "", "what happened (recorded)")
	c.Flags().BoolVar(&yes, "yes", false, "don't ask once more")
	c.Flags().BoolVar(&a.show, "show", false, "print the statement before it is signed")
	return c
}

func (a *app) lost(ctx context.Context, which, reason string, yes bool) error {
	person, own, err := a.ownKeys()
	if err != nil {
		return err
	}
	fp := which
	if i := slices.IndexFunc(own, func(k ownKey) bool { return string(k.name) == which }); i >= 0 {
		fp = own[i].fingerprint
	} else if !strings.HasPrefix(which, "SHA256:") {
		// Perhaps enrolled on another machine: the CA knows its name.
		c, err := a.pass(ctx)
		if err != nil {
			return err
		}
		list, err := c.Keys(ctx)
		if err != nil {
			return err
		}
		k, ok := keyNamed(list, which)
		if !ok {
			return withStatus(exitUsage, fmt.Errorf("you have no key %q", which), "breakglass keys")
		}
		fp = k.Fingerprint
	}
	if !yes {
		answer, err := a.term.Ask(ctx, fmt.Sprintf("Revoke %s for good, and end what it opened? Type yes: ", which))
		if errors.Is(err, terminal.ErrNobody) {
			return withStatus(exitUsage, errors.New("no terminal to ask on"), "breakglass lost --yes "+which)
		}
		if err != nil {
			return err
		}
		if answer != "yes" {
			return withStatus(exitFailed, errors.New("nothing was reported"))
		}
	}
	c, err := a.client()
	if err != nil {
		return err
	}
	ag, fido, err := a.agent(c)
	if err != nil {
		return err
	}
	defer fido.Forget()
	st, err := ag.Lose(ctx, api.LossAsk{Person: string(person), Key: fp, Reason: reason})
	if err != nil {
		return err
	}
	// No signer shall look for it any more.
	if who, err := a.home.LoadPerson(); err == nil {
		who.Keys = slices.DeleteFunc(who.Keys, func(k home.Key) bool { return sameLine(k.PublicKey, fp) })
		if err := a.home.SavePerson(who); err != nil {
			a.term.Say("breakglass: warning: %v", err)
		}
	}
	if a.json {
		return a.printJSON(st)
	}
	a.term.Say("%s is revoked. It had opened %d grants and %d sessions that were alive: they end now.", st.Key, len(st.Stopped.Grants), len(st.Stopped.Sessions))
	if st.Counting < st.Required {
		a.term.Say("You have %d of %d keys: what you ask takes an approval more until you have enrolled another one.", st.Counting, st.Required)
		a.term.Say("Next: ask an operator for an invite, then: breakglass enroll TOKEN")
	}
	// Revoked it signs nothing; but whoever has it, its PIN and a copy of the file reads what was sealed to that identity.
	if f, err := a.readerFile(); err == nil && slices.ContainsFunc(f.Wraps, func(w reader.Wrap) bool { return w.Name == st.Key }) {
		a.term.Say("%s opens your reading identity. Next, with another key that does: breakglass reviewer rotate", st.Key)
	}
	return nil
}
