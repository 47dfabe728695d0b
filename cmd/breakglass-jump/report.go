package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"time"

	"breakglass/internal/notify"
	"breakglass/jump"
	"breakglass/jump/journal"
)

// writeStatus keeps status.json for `breakglass-jump status`.
func writeStatus(ctx context.Context, d directory, j *jump.Jump, jour *journal.Journal, w *witnessing, log *slog.Logger) {
	var last []byte
	for {
		left, all := jour.Room()
		b, err := json.Marshal(status{State: j.State(), Running: j.Running(), JournalLeft: left, JournalSize: all, PID: os.Getpid(), Witness: w.status()})
		if err == nil && !bytes.Equal(b, last) {
			err = writeFile(d.path("status.json"), b)
		}
		if err != nil {
			log.Warn("status not written", "error", err)
		}
		last = b
		select {
		case <-time.After(statusEvery):
		case <-ctx.Done():
			os.Remove(d.path("status.json"))
			return
		}
	}
}

// writeFile replaces a file at once for readers; after a power cut nobody asks for it.
func writeFile(path string, b []byte) error {
	if err := os.WriteFile(path+".tmp", b, 0o644); err != nil {
		return err
	}
	return os.Rename(path+".tmp", path)
}

const (
	// tellEvery is how often the service manager is told how the jump stands.
	tellEvery = time.Second
	// readyPatience is how long being ready waits for the first host certificates, and readyEvery how often it is looked.
	readyPatience = 10 * time.Second
	readyEvery    = 20 * time.Millisecond
	// patience is asked for as long as the jump drains: several times tellEvery.
	patience = 30 * time.Second
)

// tellManager tells the service manager that the jump is ready, alive, and why it isn't gone yet. It asks the jump each time: one that hangs in a
// lock of its own gives no sign of life.
func tellManager(ctx context.Context, m notify.Manager, j *jump.Jump, log *slog.Logger) {
	said := map[string]bool{}
	told := func(err error) {
		if err != nil && !said[err.Error()] {
			said[err.Error()] = true
			log.Warn("the service manager is not told", "error", err)
		}
	}
	// Whoever ends another jump once this is ready relies on it: it has to serve by then. A CA that is away doesn't hold up the start.
	for end := time.Now().Add(readyPatience); j.State().Names == 0 && time.Now().Before(end) && ctx.Err() == nil; {
		time.Sleep(readyEvery)
	}
	told(m.Ready())
	t := time.NewTicker(tellEvery)
	defer t.Stop()
	var last string
	for {
		s := j.State()
		text := fmt.Sprintf("%d sessions, %d recordings not stored yet", s.Sessions, s.Unsent)
		drains := !s.Draining.IsZero()
		if drains {
			text = fmt.Sprintf("draining until %s: %s", s.Draining.Format("15:04:05 UTC"), text)
			told(m.Patience(patience))
		}
		switch {
		case text == last:
		case drains:
			told(m.Stopping(text))
		default:
			told(m.Status(text))
		}
		last = text
		if m.Watchdog() > 0 {
			told(m.Alive())
		}
		select {
		case <-t.C:
		case <-ctx.Done():
			told(m.Stopping("ending"))
			return
		}
	}
}
