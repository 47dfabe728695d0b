package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"github.com/spf13/cobra"

	"breakglass/ca/api"
	"breakglass/ca/api/client"
	"breakglass/internal/durable"
)

func newJoinCmd() *cobra.Command {
	var dir string
	var listen, advertise, source []string
	cmd := &cobra.Command{
		Use:   "join TOKEN | join -",
		Short: "Make this machine a jump of an installation",
		Long: "Spends a token of `breakglass-ca invite --jump NAME`: makes the jump's keys, pins what the token pins, and has the CA\n" +
			"record the jump. From then on `breakglass-jump serve` needs nothing but its directory. With - the token is read from standard\n" +
			"input: a command's arguments are seen by everybody on the machine, and whoever is first with a token has it.",
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) != 1 {
				return &usageError{errors.New("want one TOKEN, from `breakglass-ca invite --jump NAME`")}
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			d := directory(dir)
			if _, err := os.Stat(d.path("config.toml")); err == nil {
				return withHint(fmt.Errorf("joining: %s is a jump already", dir), "breakglass-jump serve --dir "+dir, "or another --dir")
			} else if !errors.Is(err, fs.ErrNotExist) {
				return fmt.Errorf("joining: %w", err)
			}
			text, err := api.TokenArg(args[0], cmd.InOrStdin())
			if err != nil {
				return &usageError{err}
			}
			token, err := api.ParseToken(text)
			if err != nil {
				return withHint(fmt.Errorf("joining: %w", err), "it is one line, from `breakglass-ca invite --jump NAME`")
			}
			if token.For != api.ForJump {
				return withHint(fmt.Errorf("joining: that token is for %s %s", token.For, token.Name), "a person's: breakglass enroll TOKEN", "a jump's: breakglass-ca invite --jump NAME")
			}
			if len(advertise) == 0 {
				advertise = listen
			}
			c := &config{Name: token.Name, Listen: listen, Advertise: advertise, Source: source}
			c.Journal.Segments, c.Journal.SegmentMiB = defaultSegments, defaultSegmentMiB
			c.Drain.Seconds = int(defaultDrain / time.Second)
			if err := c.check("flags"); err != nil {
				return withHint(&usageError{err}, "breakglass-jump join TOKEN --listen IP:PORT --source IP [--advertise IP:PORT]")
			}
			if err := durable.MkdirAll(d.path("keys"), 0o700); err != nil {
				return err
			}
			key, err := d.makeKey(keyFacts)
			if err != nil {
				return err
			}
			host, err := d.makeKey(keyHost)
			if err != nil {
				return err
			}
			ca, err := client.New(client.Config{Pins: token.Pins, Signer: key, Now: time.Now})
			if err != nil {
				return fmt.Errorf("joining: %w", err)
			}
			defer ca.Close()
			a, err := ca.Join(cmd.Context(), &api.JoinAsk{Invite: token.Secret, Key: publicLine(key.PublicKey()), HostKey: publicLine(host.PublicKey()),
				Addresses: advertise, Source: source})
			if err != nil {
				return fmt.Errorf("joining: %w", err)
			}
			if string(a.Jump) != token.Name || a.Site.Origin != token.Pins.Site.Origin || a.Site.LedgerKey != token.Pins.Site.LedgerKey {
				return fmt.Errorf("joining: the CA answered for jump %s of %s, the token is for %s of %s", a.Jump, a.Site.Origin, token.Name, token.Pins.Site.Origin)
			}
			// What the token pins, not what the answer repeats: the answer is proved by nothing but TLS.
			if err := d.writePins(token.Pins); err != nil {
				return err
			}
			if err := d.writeConfig(c); err != nil {
				return err
			}
			fmt.Fprintf(cmd.ErrOrStderr(), "%s joined %s.\nNext: breakglass-jump serve --dir %s\n", a.Jump, a.Site.Origin, dir)
			return nil
		},
	}
	cmd.Flags().StringVar(&dir, "dir", defaultDir, "the jump's directory")
	cmd.Flags().StringSliceVar(&listen, "listen", nil, "IP:PORT to listen on")
	cmd.Flags().StringSliceVar(&advertise, "advertise", nil, "IP:PORT where people reach it (--listen if not given)")
	cmd.Flags().StringSliceVar(&source, "source", nil, "IP that hosts see")
	return cmd
}
