//go:build unix

package main

import (
	"context"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"breakglass/ca"
)

// reloadOnHangup has the service look again at each SIGHUP until stop. What goes wrong is logged: a reload never ends the service.
func reloadOnHangup(ctx context.Context, c *ca.CA, log *slog.Logger) (stop func()) {
	hup := make(chan os.Signal, 1)
	signal.Notify(hup, syscall.SIGHUP)
	done, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		for {
			select {
			case <-done:
				return
			case <-hup:
				r, err := c.Reload(ctx)
				if err != nil {
					log.Error("reloading", "error", err)
				} else {
					log.Info("reloaded", "policy", r.Policy)
				}
			}
		}
	}()
	return func() {
		signal.Stop(hup)
		close(done)
		<-ended
	}
}
