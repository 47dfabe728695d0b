package main

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"breakglass/ca"
	"breakglass/internal/notify"
)

// tellManager tells the service manager when the CA listens, that it is alive as long as its ledger can be read, and that it ends. done waits until
// the last is said.
func tellManager(ctx context.Context, m notify.Manager, c *ca.CA, listens <-chan struct{}, log *slog.Logger) (done func()) {
	told := func(err error) {
		if err != nil {
			log.Warn("the service manager is not told", "error", err)
		}
	}
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	wg.Go(func() {
		select {
		case <-listens:
		case <-ctx.Done():
			return
		}
		told(m.Ready())
		defer func() { told(m.Stopping("ending")) }()
		if m.Watchdog() == 0 {
			<-ctx.Done()
			return
		}
		t := time.NewTicker(m.Watchdog() / 4) // sd_watchdog_enabled(3) asks for half of it at least
		defer t.Stop()
		for {
			select {
			case <-t.C:
			case <-ctx.Done():
				return
			}
			if _, err := c.Status(ctx); err == nil {
				told(m.Alive())
			} else if ctx.Err() == nil {
				log.Error("no sign of life to the service manager", "error", err)
			}
		}
	})
	return func() {
		cancel()
		wg.Wait()
	}
}
