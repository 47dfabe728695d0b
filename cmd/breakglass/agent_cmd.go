package main

import (
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"breakglass/agent/background"
)

// newAgentCmd is the background process; nobody types it.
func newAgentCmd(a *app) *cobra.Command {
	var stop bool
	c := &cobra.Command{
		Use: background.Command, Hidden: true, Args: cobra.NoArgs,
		Short: "Hold the keys of live grants (started by itself)",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if stop {
				return a.keysClient().Stop(cmd.Context())
			}
			// A lost terminal doesn't end the grants that were asked for in it.
			signal.Ignore(syscall.SIGHUP)
			return background.Run(cmd.Context(), background.Config{Home: a.home, Log: slog.New(slog.NewTextHandler(os.Stderr, nil))})
		},
	}
	c.Flags().BoolVar(&stop, "stop", false, "end it with all grants that it holds")
	return c
}
