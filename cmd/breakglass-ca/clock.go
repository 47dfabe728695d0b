package main

import (
	"net/http"

	"github.com/spf13/cobra"

	"breakglass/internal/statement"
)

func newClockCmd(a *app) *cobra.Command {
	var reason string
	accept := a.withDir(&cobra.Command{
		Use: "accept --reason WHY", Short: "Say that the CA's clock is right, after you have looked; it takes your touch", Args: cobra.NoArgs,
		Long: `The CA issues nothing while its clock is before its newest entry, or while the jumps agree on another time. Set the clock right, and it goes on by
itself. If the clock is right, and the entries were dated in a wrong future or the jumps are wrong, an operator says so here.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if reason == "" {
				return usagef("say --reason WHY: what you have compared the clock with")
			}
			var err error
			if a.here(cmd) { // the demo, where local root is enough
				err = a.withAdmin(cmd.Context(), func(ad *admin) error {
					return ad.call(cmd.Context(), http.MethodPost, "/admin/clock", nil, &struct{}{})
				})
			} else {
				_, err = a.order(cmd.Context(), statement.OrderClockAccept, statement.TargetClock, reason)
			}
			if err == nil {
				a.say("the CA's clock counts as it is; it issues again")
			}
			return err
		},
	})
	accept.Flags().StringVar(&reason, "reason", "", "why, in a line")
	accept.Flags().BoolVar(&a.show, "show", false, "print the statement before it is signed")
	return group("clock", "What to do when the CA does not trust its clock", accept)
}
