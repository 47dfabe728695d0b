package ca

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"time"

	"breakglass/ca/state"
	"breakglass/ledger"
)

const (
	// headerTimeout bounds what a stranger may hold a connection with before its request is there.
	headerTimeout = 10 * time.Second
	// bodyTimeout bounds a whole request: the longest is a piece of a transcript on a bad line.
	bodyTimeout = 60 * time.Second
	// writeTimeout bounds an answer: the longest is a transcript.
	writeTimeout = 30 * time.Minute
	idleTimeout  = 2 * time.Minute
	// maxHeader bounds headers in bytes: a signed call's have about 4 KiB.
	maxHeader = 16 << 10
	// drainTimeout is how long running requests may take after the stop.
	drainTimeout = 10 * time.Second
)

// Serve listens as the configuration says, records that the CA serves, and serves until ctx ends; then it drains and records that.
func (c *CA) Serve(ctx context.Context) error {
	if err := c.proveStore(ctx); err != nil {
		return fmt.Errorf("serving: %w", err)
	}
	l, err := c.listen()
	if err != nil {
		return fmt.Errorf("serving: %w", err)
	}
	if err := c.forgottenWatches(); err != nil {
		l.Close()
		return fmt.Errorf("ending the watchings of the run before: %w", err)
	}
	if err := c.recordStart(); err != nil {
		l.Close()
		return err
	}
	c.log.Info("serving", "listen", strings.Join(c.file.listens(), " "))
	if c.cfg.Ready != nil {
		c.cfg.Ready()
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var wg sync.WaitGroup
	wg.Go(func() { c.strangers.run(ctx) })
	wg.Go(func() { c.watchRecipients(ctx) })
	wg.Go(func() { c.metrics.serve(ctx, c.file.Metrics.Listen) })
	wg.Go(func() { c.watchGeo(ctx) })
	wg.Go(func() { c.sweepWatches(ctx) })
	wg.Go(func() { c.remindOfGeo(ctx) })
	wg.Go(func() { c.keepHead(ctx) })
	wg.Go(func() { c.watchWitnesses(ctx) })
	wg.Go(func() { c.proveStoreLater(ctx) })
	wg.Go(func() { c.askOutside(ctx) })
	s := &http.Server{
		Handler: c.Handler(), ReadHeaderTimeout: headerTimeout, ReadTimeout: bodyTimeout, WriteTimeout: writeTimeout, IdleTimeout: idleTimeout,
		MaxHeaderBytes: maxHeader, ErrorLog: slog.NewLogLogger(c.log.Handler(), slog.LevelDebug),
	}
	s.RegisterOnShutdown(c.listening.close)
	s.RegisterOnShutdown(c.cosigning.close)
	s.RegisterOnShutdown(c.changes.close) // those who hold the line would hold up the stop
	// A stranger's broken handshake is no line in the log: net/http would write one each.
	tl := tls.NewListener(l, &tls.Config{MinVersion: tls.VersionTLS13, GetCertificate: c.keys.certificate, NextProtos: []string{"http/1.1"}})
	failed := make(chan error, 1)
	go func() { failed <- s.Serve(tl) }()
	select {
	case err = <-failed:
	case <-c.state.Done(): // the disk failed under the ledger: whoever starts this anew reads what stands
		err = errors.Join(c.state.Err(), s.Close())
	case <-ctx.Done():
		drain, stop := context.WithTimeout(context.Background(), drainTimeout)
		err = s.Shutdown(drain)
		stop()
		if errors.Is(err, context.DeadlineExceeded) {
			err = s.Close()
		}
	}
	cancel()
	wg.Wait()
	c.strangers.flush()
	if c.frozen.Load() != nil {
		return err
	}
	err = errors.Join(err, c.record(&ledger.CAStopped{Why: "stopped"}))
	c.writeHead("")
	return err
}

// recordStart records that the CA serves; where the ledger is frozen, that is recorded when it goes on.
func (c *CA) recordStart() error {
	if c.frozen.Load() != nil {
		return nil
	}
	return c.record(&ledger.CAStarted{Version: Version, Keys: c.keys.loaded()})
}

func (c *CA) record(f ledger.Facts) error {
	return c.state.Do(context.Background(), func(tx *state.Tx) error {
		_, _, err := tx.Append(c.entry(ledger.ActorCA, ledger.Subject{}, f))
		return err
	})
}
