package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"filippo.io/age"
	"github.com/spf13/cobra"

	"breakglass/ca/api"
	"breakglass/internal/name"
	"breakglass/review/evidence"
)

func newVerifyCmd(a *app) *cobra.Command {
	var pins, why string
	var sealed, recovery bool
	c := &cobra.Command{
		Use:   "verify ID | verify FILE --trust PINS",
		Short: "Check a request and its recordings against ledger, keys and signatures",
		Long: `Verify holds a request against everything: the statement's signature against the enrolled key, decision, certificate and sessions against each
other, every byte of the recordings against the ledger, the ledger against its checkpoint and that against what is pinned.

With an ID it asks the CA (a pass is needed), and believes nothing of what it answers. With a FILE that "breakglass bundle" wrote it needs nothing
running: what it is checked against is the pins (--trust, or this machine's own), never the file.

A reviewer's identity on this machine opens the recordings too; that is an entry. --sealed leaves them sealed.

The first line is VERIFIED, VERIFIED sealed, VERIFIED-UNTIL (exit 21) or FAILED (exit 20).`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			v, err := a.verify(cmd.Context(), args[0], pins, why, sealed, recovery)
			if err != nil {
				return err
			}
			a.status = v.Result.ExitStatus()
			if a.json {
				return v.WriteJSON(a.stdout)
			}
			return v.WriteText(a.stdout)
		},
	}
	c.Flags().StringVar(&pins, "trust", "", "pins file to check a bundle against (this machine's own, if not given)")
	c.Flags().StringVar(&why, "why", "verify", "why it is read (recorded)")
	c.Flags().BoolVar(&sealed, "sealed", false, "do not open the recordings")
	c.Flags().BoolVar(&recovery, "recovery", false, "open a bundle's with the recovery sheets, typed in")
	return c
}

func (a *app) verify(ctx context.Context, arg, pins, why string, sealed, recovery bool) (*evidence.Verdict, error) {
	var ids []age.Identity
	var err error
	switch {
	case recovery:
		if ids, err = a.readingIdentities(ctx, arg, reading{pins: pins, recovery: true}); err != nil {
			return nil, err
		}
	case !sealed:
		if ids, err = a.identitiesIfAny(ctx); err != nil {
			return nil, err
		}
	}
	if isFile(arg, pins) {
		trust, err := a.trustFrom(pins)
		if err != nil {
			return nil, err
		}
		f, err := os.Open(arg)
		if err != nil {
			return nil, fmt.Errorf("opening bundle: %w", err)
		}
		defer f.Close()
		return evidence.Verify(f, trust, evidence.Options{Identities: ids}), nil
	}
	c, err := a.pass(ctx)
	if err != nil {
		return nil, err
	}
	what, err := choose(ctx, c, arg)
	if err != nil {
		return nil, err
	}
	trust, pinned, err := a.trust()
	if err != nil {
		return nil, err
	}
	want := evidence.Wanted{Request: what.request, Only: what.session, LedgerKey: trust.Site.LedgerKey, Pinned: pinned}
	if len(ids) > 0 {
		want.Envelopes, err = readEnvelopes(ctx, c, what, what.session, why)
		var p *api.Problem
		if errors.As(err, &p) && (p.Code == api.CodeDenied || p.Code == api.CodeRefused) { // no reader any more: verified sealed
			a.term.Say("breakglass: warning: %s", clean(err.Error()))
			want.Envelopes = nil
		} else if err != nil {
			return nil, err
		}
	}
	return evidence.VerifyFrom(ctx, caSource{c}, want, trust, evidence.Options{Identities: ids})
}

// isFile says whether a bundle's file is meant: it was given pins to be checked against, or is no id (those have no dot) and lies there.
func isFile(arg, pins string) bool {
	if pins != "" || strings.ContainsAny(arg, `.\`) || strings.HasPrefix(arg, "/") {
		return true
	}
	if _, err := name.ParseSessionID(arg); err == nil {
		return false
	}
	s, err := os.Stat(arg)
	return err == nil && s.Mode().IsRegular()
}

// trustFrom reads a pins file, or this machine's own pins where none is named.
func (a *app) trustFrom(pins string) (evidence.Trust, error) {
	if pins == "" {
		p, err := a.home.Pins()
		return evidence.Trust(p), err
	}
	b, err := os.ReadFile(pins)
	if err != nil {
		return evidence.Trust{}, fmt.Errorf("reading pins: %w", err)
	}
	p, err := api.ParsePins(b)
	if err != nil {
		return evidence.Trust{}, withHint(fmt.Errorf("reading %s: %w", pins, err), "breakglass pins --json >PINS     on a machine that is enrolled")
	}
	return evidence.Trust(p), nil
}
