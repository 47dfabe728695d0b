package main

import (
	"errors"
	"log/slog"
	"os"
	"runtime/debug"

	"github.com/spf13/cobra"

	"breakglass/ca"
	"breakglass/internal/notify"
)

// gcPercent lets the service's heap, some MiB, grow to five times what lives before it is collected: at the runtime's default a busy CA collects
// dozens of times a second. GOGC in the environment wins.
const gcPercent = 400

func newServeCmd(a *app) *cobra.Command {
	fd := -1
	c := a.withDir(&cobra.Command{
		Use: "serve", Short: "Run the service", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			if os.Getenv("GOGC") == "" {
				debug.SetGCPercent(gcPercent)
			}
			log := slog.New(slog.NewTextHandler(a.stderr, nil))
			cfg := a.config(fd)
			cfg.Logger = log
			manager, err := notify.Find()
			if err != nil {
				log.Warn("the service manager is not told", "error", err)
			}
			listens := make(chan struct{})
			cfg.Ready = func() { close(listens) }
			ready := cfg.Ready
			cfg.Ready = func() { log.Info("serves the founders of a succession") }
			if err := ca.AwaitSuccession(cmd.Context(), cfg); err != nil {
				if cmd.Context().Err() != nil {
					return nil
				}
				return a.explainDir(err)
			}
			cfg.Ready = ready
			c, err := ca.Open(cfg)
			if err != nil {
				return a.explainDir(err)
			}
			defer func() { err = errors.Join(err, c.Close()) }()
			stop, err := serveAdmin(a.dir, c)
			if err != nil {
				return err
			}
			defer stop()
			defer reloadOnHangup(cmd.Context(), c, log)()
			defer tellManager(cmd.Context(), manager, c, listens, log)()
			if err := c.Serve(cmd.Context()); err != nil && cmd.Context().Err() == nil {
				return err
			}
			return nil // ended by a signal, as asked
		},
	})
	c.Flags().IntVar(&fd, "passphrase-fd", -1, "read the passphrase of sealed keys from this descriptor")
	return c
}
