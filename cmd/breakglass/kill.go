package main

import (
	"github.com/spf13/cobra"

	"breakglass/ca/api"
	"breakglass/internal/name"
)

func newKillCmd(a *app) *cobra.Command {
	var reason string
	c := &cobra.Command{
		Use: "kill ID --reason WHY", Short: "Stop a grant or a session at once, whosever it is", Args: cobra.ExactArgs(1),
		Long: `Stops a grant with all its sessions (k7f-2mq), or one session (k7f-2mq/1; the grant goes on). Whoever may read may kill: it takes a pass, so a touch
unless you gave one a little while ago. Your name and reason are shown to whoever is cut off, and stay in the ledger.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if reason == "" {
				return usagef("say --reason WHY: it is shown to whoever is cut off")
			}
			q := api.StopAsk{Why: reason}
			id, err := name.ParseRequestID(args[0])
			if err != nil { // a session's own id: without the slash it is the grant's
				q.Session, err = name.ParseSessionID(args[0])
				id = q.Session.Request()
			}
			if err != nil {
				return withHint(usage(err), "breakglass sessions")
			}
			c, err := a.pass(cmd.Context())
			if err != nil {
				return err
			}
			stopped, err := c.Kill(cmd.Context(), id, q)
			if err != nil {
				return err
			}
			if a.json {
				return a.printJSON(stopped)
			}
			a.term.Say("%s is stopped.", clean(args[0]))
			a.sayStopped(stopped)
			return nil
		},
	}
	c.Flags().StringVar(&reason, "reason", "", "why, in a line")
	return c
}
