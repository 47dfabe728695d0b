package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"breakglass/ca/api"
	"breakglass/ca/api/client"
	"breakglass/internal/listen"
	"breakglass/internal/name"
	"breakglass/internal/notify"
	"breakglass/internal/proxyproto"
	"breakglass/jump"
	"breakglass/jump/facts"
	"breakglass/jump/journal"
	"breakglass/ledger"
)

func newServeCmd() *cobra.Command {
	var dir string
	var verbose bool
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Let people in, and record",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			level := slog.LevelInfo
			if verbose {
				level = slog.LevelDebug
			}
			log := slog.New(slog.NewJSONHandler(cmd.ErrOrStderr(), &slog.HandlerOptions{Level: level}))
			manager, err := notify.Find()
			if err != nil {
				log.Warn("the service manager is not told", "error", err)
			}
			ctx, hurry, stop := untilSignals(cmd.Context())
			defer stop()
			for {
				if err := directory(dir).setAside(log); err != nil {
					return err
				}
				if err := serve(ctx, directory(dir), manager, hurry, log); !errors.Is(err, errSucceeded) || ctx.Err() != nil {
					return err
				}
			}
		},
	}
	cmd.Flags().StringVar(&dir, "dir", defaultDir, "the jump's directory")
	cmd.Flags().BoolVar(&verbose, "verbose", false, "log what strangers do, too")
	return cmd
}

// untilSignals gives a context that SIGTERM or an interrupt ends, and a channel that is closed with the second of them.
func untilSignals(ctx context.Context) (_ context.Context, hurry <-chan struct{}, stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	got := make(chan os.Signal, 2)
	signal.Notify(got, os.Interrupt, syscall.SIGTERM)
	second, over := make(chan struct{}), make(chan struct{})
	go func() {
		for n := range 2 {
			select {
			case <-got:
			case <-over:
				return
			}
			if n == 0 {
				cancel()
			} else {
				close(second)
			}
		}
	}()
	return ctx, second, sync.OnceFunc(func() {
		signal.Stop(got)
		close(over)
		cancel()
	})
}

// serve runs the jump until ctx ends and its people have finished, or hurry says not to wait for them.
func serve(ctx context.Context, d directory, manager notify.Manager, hurry <-chan struct{}, log *slog.Logger) error {
	c, err := d.readConfig()
	if err != nil {
		return err
	}
	pins, err := d.readPins()
	if err != nil {
		return err
	}
	key, err := d.readKey(keyFacts)
	if err != nil {
		return err
	}
	host, err := d.readKey(keyHost)
	if err != nil {
		return err
	}
	elsewhere := make(chan struct{}, 1)
	ca, err := client.New(client.Config{Pins: pins, Signer: key, Memory: memory{d.path("checkpoint")}, Now: time.Now, Elsewhere: func() {
		select {
		case elsewhere <- struct{}{}:
		default:
		}
	}})
	if err != nil {
		return fmt.Errorf("serving: %w", err)
	}
	defer ca.Close()
	jour, found, err := journal.Open(journal.Config{Dir: d.path("journal"), SegmentSize: int64(c.Journal.SegmentMiB) << 20, Segments: c.Journal.Segments, Logger: log})
	if errors.Is(err, journal.ErrLocked) {
		return withHint(fmt.Errorf("serving: %w", err), "breakglass-jump status --dir "+string(d))
	}
	if err != nil {
		return fmt.Errorf("serving: %w", err)
	}
	sources, err := c.sources()
	if err != nil {
		return err
	}
	proxies, err := proxyproto.ParseList(c.Proxies)
	if err != nil {
		return err
	}
	j, err := jump.New(jump.Config{Name: name.Jump(c.Name), Site: pins.Site, Key: key, HostKey: host, CA: ca, Proxies: proxies,
		NewestSite: ca.Site, Followed: func(s ledger.Site, checkpoint string) {
			ca.Follow(s)
			if err := d.writePins(api.Pins{Site: s, Checkpoint: checkpoint}); err != nil {
				log.Error("the changed site is not kept: the next start asks for it again", "error", err)
			}
		},
		Journal: jour, Recovered: found, Sources: sources, Drain: time.Duration(c.Drain.Seconds) * time.Second, Logger: log})
	if err != nil {
		return errors.Join(err, jour.Close())
	}
	ls, inherited, err := listen.Open(c.Listen, listen.OS{})
	if errors.Is(err, listen.ErrInherited) {
		err = withHint(err, "each ListenStream= of the socket unit has to stand in `listen` of "+d.path("config.toml")+", and nothing else")
	}
	if err != nil {
		return errors.Join(fmt.Errorf("serving: %w", err), jour.Close())
	}
	log.Info("serving", "jump", c.Name, "listen", c.Listen, "inherited", inherited, "origin", pins.Site.Origin)
	work, cancel := context.WithCancel(context.WithoutCancel(ctx)) // what reports goes on while the jump drains
	var wg sync.WaitGroup
	w := newWitnessing(d, c, pins.Site, key, ca, log)
	wg.Go(func() { w.run(work) })
	wg.Go(func() { writeStatus(work, d, j, jour, w, log) })
	wg.Go(func() { serveMetrics(work, c.Metrics.Listen, j, log) })
	wg.Go(func() { tellManager(work, manager, j, log) })
	wg.Go(func() {
		select {
		case <-hurry:
			j.Hurry()
		case <-work.Done():
		}
	})
	serving, replaced := context.WithCancelCause(ctx)
	defer replaced(nil)
	wg.Go(func() {
		if err := awaitSuccession(work, d, ca, elsewhere, log); errors.Is(err, errSucceeded) {
			replaced(err) // who is in has the drain's time; then the jump serves under the new pins
		}
	})
	err = j.Serve(serving, listen.Merge(ls))
	if errors.Is(context.Cause(serving), errSucceeded) && ctx.Err() == nil {
		err = errors.Join(err, errSucceeded)
	}
	cancel()
	wg.Wait()
	if errors.Is(err, facts.ErrForgot) {
		err = withHint(err, "the journal in "+d.path("journal")+" was lost or put back: set the directory aside and join under a new name, so that the gap shows",
			"on the CA: breakglass-ca invite --jump NAME")
	}
	return errors.Join(err, jour.Close())
}
