package main

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"breakglass/agent"
	"breakglass/ca/api/client"
	"breakglass/internal/name"
	"breakglass/internal/statement"
)

func newExtendCmd(a *app) *cobra.Command {
	var minutes int
	var reason, code string
	var noWait bool
	c := &cobra.Command{
		Use: "extend ID", Short: "Ask for a later end of a grant: a touch, and approvals where its rule wants them", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx := cmd.Context()
			if err := statement.CheckText(reason); err != nil {
				return usagef("reason: %w", err)
			}
			gs, _, err := a.keysClient().Grants(ctx)
			if err != nil {
				return err
			}
			g, err := findGrant(gs, args[0])
			if err != nil {
				return err
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
			resume := "breakglass extend " + string(g.ID) + " goes on with it"
			id, err := a.extending(ctx, g.ID)
			if err != nil {
				return err
			}
			var got *agent.Granted
			if id == "" {
				got, err = ag.Extend(ctx, g, minutes, reason, code)
				if w, ok := client.NotGranted(err); ok {
					id, err = w.ID, nil
					a.term.Say("%s waits: rule %q lets you go on with approvals (%d).", id, w.Rule, w.Needed)
				}
			}
			switch {
			case err != nil:
				return err
			case id != "" && noWait:
				return withStatus(exitApproval, fmt.Errorf("approval_needed: request %s waits for approvals", id), resume, "breakglass grants")
			case id != "":
				if got, err = a.await(ctx, ag, id, resume); err != nil {
					return err
				}
			}
			if a.json {
				return a.printJSON(got.Granted)
			}
			a.sayExtended(got)
			return nil
		},
	}
	c.Flags().IntVar(&minutes, "minutes", 0, "from now; 0 is what the rule gives")
	c.Flags().StringVar(&reason, "reason", "", "why (recorded); the grant's own where it is missing")
	c.Flags().StringVar(&code, "totp", "", "the code that your other device shows, where the rule wants one")
	c.Flags().BoolVar(&noWait, "no-wait", false, "do not wait for approvals")
	c.Flags().BoolVar(&a.show, "show", false, "print the statement before it is signed")
	return c
}

// extending finds the extension of a grant that waits on this machine; "" is none.
func (a *app) extending(ctx context.Context, grant name.RequestID) (name.RequestID, error) {
	list, err := a.keysClient().Waiting(ctx)
	if err != nil {
		return "", err
	}
	for _, w := range list {
		if w.Of == grant {
			return w.ID, nil
		}
	}
	return "", nil
}

func (a *app) sayExtended(g *agent.Granted) {
	a.term.Say("%s goes on until %s (%s@%s, rule %q%s).", g.ID, time.Now().Add(g.Left).Format("15:04"), g.Login, g.Host, g.Rule, overridden(g.Overridden))
}

// overridden is the flag that an override leaves wherever the grant is shown.
func overridden(n int) string {
	if n == 0 {
		return ""
	}
	return fmt.Sprintf(", OVERRIDDEN: %d approvals missing", n)
}
