package main

import (
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"breakglass/ca"
	"breakglass/ca/api"
	"breakglass/ledger"
)

func newSucceedCmd(a *app) *cobra.Command {
	return group("succeed", "Make the CA that follows one which is lost for good", newSucceedInitCmd(a))
}

func newSucceedInitCmd(a *app) *cobra.Command {
	var from, head, trust string
	var fd int
	var seal sealFlags
	cfg := ca.SucceedConfig{Now: time.Now}
	c := a.withDir(&cobra.Command{
		Use: "init --from BACKUP --standby DIR --listen IP:PORT", Short: "Prepare it from the standby keys and a copy of the lost ledger; its founders sign it then", Args: cobra.NoArgs,
		Long: `Make the CA that follows one which is lost: a new ledger, one epoch later, with the standby keys, which hosts, jumps and clients trust since they
were set up. Policy, jumps, enrolments and recipients go on; grants and codes of the other channel don't.

--from is a backup, the newest that there is; or, with --checkpoint, a copy of ca.db under its signed head. Whoever has seen more of the lost ledger than
that copy has won't follow: take the copy from whoever has most.

Then: breakglass-ca serve, and each founder, on their own machine: breakglass succeed. With the second signature it opens.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if from == "" || cfg.Standby == "" || len(cfg.Listen) == 0 {
				return usagef("say --from BACKUP, --standby DIR and --listen IP:PORT")
			}
			var err error
			if cfg.Dir, err = filepath.Abs(a.dir); err != nil {
				return err
			}
			if head != "" {
				text, err := readLimited(head, cmd.InOrStdin(), ledger.MaxCheckpoint)
				if err != nil {
					return err
				}
				cfg.Ledger, cfg.Checkpoint = from, string(text)
			} else {
				m, err := ca.ReadManifest(from)
				if err != nil {
					return a.explainRestore(err)
				}
				cfg.Ledger, cfg.Checkpoint = filepath.Join(from, "ca.db"), m.Checkpoint
			}
			if trust != "" {
				text, err := readLimited(trust, cmd.InOrStdin(), api.MaxPins)
				if err != nil {
					return err
				}
				pins, err := api.ParsePins(text)
				if err != nil {
					return withHint(fmt.Errorf("reading %s: %w", trust, err), "breakglass pins --json >PINS     on a machine that is enrolled")
				}
				cfg.LedgerKey = pins.Site.LedgerKey
			}
			sealed, err := filepath.Glob(filepath.Join(cfg.Standby, "*.age"))
			if err != nil {
				return err
			}
			if len(sealed) > 0 {
				if cfg.Passphrase, err = a.passphrase(fd, "passphrase of the standby keys", false); err != nil {
					return err
				}
			}
			like := ca.InitConfig{Dir: cfg.Dir}
			if err := seal.sealing(cmd, a, &like); err != nil {
				return err
			}
			cfg.Seal = like.Seal
			f, err := ca.Succeed(cmd.Context(), cfg)
			if err != nil {
				return a.explainRestore(err)
			}
			if a.json {
				return a.printJSON(f)
			}
			dir := ""
			if a.dir != defaultDir {
				dir = " --dir " + a.dir
			}
			a.say("prepared in %s, not signed yet", cfg.Dir)
			a.say("  follows   %s, epoch %d", f.Old.Origin, f.Old.Epoch)
			a.say("  origin    %s, epoch %d", f.Site.Origin, f.Site.Epoch)
			a.say("  founders  %v: %d of them sign", f.Founders, min(ledger.SuccessionSigners, len(f.Founders)))
			for _, addr := range f.Site.Addresses {
				a.say("  address   %s", addr)
			}
			a.say("next:")
			a.say("  move %s off this machine", filepath.Join(cfg.Dir, "standby-keys"))
			a.say("  breakglass-ca serve%s", dir)
			a.say("  breakglass succeed     each founder, on their own machine")
			if host, err := os.Hostname(); err == nil {
				a.say("  the addresses above must lead to %s: clients know no others", clean(host))
			}
			return nil
		},
	})
	seal.add(c)
	f := c.Flags()
	f.StringVar(&from, "from", "", "a `BACKUP`, or a copy of ca.db")
	f.StringVar(&head, "checkpoint", "", "the signed head of that copy: `FILE`")
	f.StringVar(&trust, "trust", "", "pins from elsewhere: the copy must be of their ledger")
	f.StringVar(&cfg.Standby, "standby", "", "the `DIR` with the standby keys")
	f.IntVar(&fd, "old-passphrase-fd", -1, "read the passphrase of the standby keys from this descriptor")
	f.StringArrayVar(&cfg.Listen, "listen", nil, "IP:PORT to listen on (again for more: one a family)")
	f.StringArrayVar(&cfg.Proxies, "proxy", nil, "a proxy in front that sends PROXY v2 headers (again for more)")
	f.StringArrayVar(&cfg.Advertise, "advertise", nil, "IP:PORT where clients reach it; else where the lost one was (again for more)")
	f.StringVar(&cfg.Geo.Country, "geo", "", "a MaxMind Country or City database")
	f.StringVar(&cfg.Geo.ASN, "geo-asn", "", "a MaxMind ASN database")
	f.StringVar(&cfg.Geo.Anonymous, "geo-anonymous", "", "a MaxMind Anonymous-IP database")
	f.StringArrayVar(&cfg.Attestation.Roots, "attestation-root", nil, "PEM `FILE` of a root of a maker of hardware keys (again for more)")
	f.StringArrayVar(&cfg.Attestation.Intermediates, "attestation-intermediate", nil, "PEM `FILE` of certificates between keys and roots (again for more)")
	return c
}
