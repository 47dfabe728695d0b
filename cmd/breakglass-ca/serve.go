package main

import (
	"errors"
	"log/slog"

	"github.com/spf13/cobra"

	"breakglass/ca"
)

func newServeCmd(a *app) *cobra.Command {
	return a.withDir(&cobra.Command{
		Use: "serve", Short: "Run the service", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			log := slog.New(slog.NewTextHandler(a.stderr, nil))
			c, err := ca.Open(ca.Config{Dir: a.dir, Logger: log})
			if err != nil {
				return a.explainDir(err)
			}
			defer func() { err = errors.Join(err, c.Close()) }()
			stop, err := serveAdmin(a.dir, c)
			if err != nil {
				return err
			}
			defer stop()
			if err := c.Serve(cmd.Context()); err != nil && cmd.Context().Err() == nil {
				return err
			}
			return nil // ended by a signal, as asked
		},
	})
}
