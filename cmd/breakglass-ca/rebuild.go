package main

import (
	"errors"

	"github.com/spf13/cobra"

	"breakglass/ca"
	"breakglass/ca/state"
)

func newRebuildCmd(a *app) *cobra.Command {
	return a.withDir(&cobra.Command{
		Use: "rebuild", Short: "Make every table anew from the ledger (the service must be stopped)", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			c, err := ca.Open(a.config(-1))
			if errors.Is(err, state.ErrInUse) {
				return withHint(err, "stop the service first")
			}
			if err != nil {
				return a.explainDir(err)
			}
			defer func() { err = errors.Join(err, c.Close()) }()
			if err := c.Rebuild(); err != nil {
				return err
			}
			a.say("rebuilt from the ledger")
			return nil
		},
	})
}
