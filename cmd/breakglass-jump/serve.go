package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"breakglass/ca/api"
	"breakglass/ca/api/client"
	"breakglass/internal/listen"
	"breakglass/internal/name"
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
			return serve(cmd.Context(), directory(dir), log)
		},
	}
	cmd.Flags().StringVar(&dir, "dir", defaultDir, "the jump's directory")
	cmd.Flags().BoolVar(&verbose, "verbose", false, "log what strangers do, too")
	return cmd
}

func serve(ctx context.Context, d directory, log *slog.Logger) error {
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
	ca, err := client.New(client.Config{Pins: pins, Signer: key, Memory: memory{d.path("checkpoint")}, Now: time.Now})
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
		Journal: jour, Recovered: found, Sources: sources, Logger: log})
	if err != nil {
		return errors.Join(err, jour.Close())
	}
	ls, err := listen.All(c.Listen)
	if err != nil {
		return errors.Join(fmt.Errorf("serving: %w", err), jour.Close())
	}
	log.Info("serving", "jump", c.Name, "listen", c.Listen, "origin", pins.Site.Origin)
	work, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	wg.Go(func() { writeStatus(work, d, j, jour, log) })
	err = j.Serve(work, listeners(ls).one())
	cancel()
	wg.Wait()
	if errors.Is(err, facts.ErrForgot) {
		err = withHint(err, "the journal in "+d.path("journal")+" was lost or put back: set the directory aside and join under a new name, so that the gap shows",
			"on the CA: breakglass-ca invite --jump NAME")
	}
	return errors.Join(err, jour.Close())
}

// writeStatus keeps status.json for `breakglass-jump status`.
func writeStatus(ctx context.Context, d directory, j *jump.Jump, jour *journal.Journal, log *slog.Logger) {
	var last status
	for {
		left, all := jour.Room()
		s := status{State: j.State(), JournalLeft: left, JournalSize: all, PID: os.Getpid()}
		if s != last {
			b, err := json.Marshal(s)
			if err == nil {
				err = writeFile(d.path("status.json"), b)
			}
			if err != nil {
				log.Warn("status not written", "error", err)
			}
			last = s
		}
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

// listeners are several addresses as one.
type listeners []net.Listener

func (ls listeners) Close() error {
	var errs []error
	for _, l := range ls {
		errs = append(errs, l.Close())
	}
	return errors.Join(errs...)
}

func (ls listeners) one() net.Listener {
	if len(ls) == 1 {
		return ls[0]
	}
	m := &merged{listeners: ls, conns: make(chan accepted), closed: make(chan struct{})}
	for _, l := range ls {
		go m.accept(l)
	}
	return m
}

type accepted struct {
	conn net.Conn
	err  error
}

// merged hands out what any of its listeners accepts.
type merged struct {
	listeners
	conns  chan accepted
	closed chan struct{}
	once   sync.Once
}

func (m *merged) accept(l net.Listener) {
	for {
		c, err := l.Accept()
		select {
		case m.conns <- accepted{c, err}:
		case <-m.closed:
			if c != nil {
				c.Close()
			}
			return
		}
	}
}

func (m *merged) Accept() (net.Conn, error) {
	select {
	case a := <-m.conns:
		return a.conn, a.err
	case <-m.closed:
		return nil, net.ErrClosed
	}
}

func (m *merged) Addr() net.Addr { return m.listeners[0].Addr() }

func (m *merged) Close() (err error) {
	m.once.Do(func() {
		close(m.closed)
		err = m.listeners.Close()
	})
	return err
}
