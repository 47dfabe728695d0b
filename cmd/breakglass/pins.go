package main

import (
	"cmp"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/crypto/ssh"

	"breakglass/ca/api"
	"breakglass/ledger"
)

func newPinsCmd(a *app) *cobra.Command {
	var offline, line, tlog bool
	c := &cobra.Command{
		Use: "pins", Short: "Show what this machine trusts: the CA's keys, addresses and the newest head of its ledger", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := a.client()
			if err != nil {
				return err
			}
			if !offline {
				if err := a.follow(cmd.Context(), c); err != nil {
					a.term.Say("breakglass: warning: following the site: %s", clean(err.Error()))
				}
			}
			p, err := a.home.Pins()
			if err != nil {
				return err
			}
			if line {
				l, err := api.Line(p.Site)
				if err != nil {
					return err
				}
				_, err = fmt.Fprintln(a.stdout, l)
				return err
			}
			if tlog {
				w, err := ledger.ParseWitnesses(p.Site)
				if err != nil {
					return err
				}
				text, err := w.TLogPolicy(p.Site.LedgerKey)
				if err != nil {
					return err
				}
				_, err = io.WriteString(a.stdout, text)
				return err
			}
			if a.json {
				return a.printJSON(p)
			}
			a.printSite(p.Site)
			seen := a.seen().Checkpoint
			fmt.Fprintf(a.stdout, "checkpoint  %d entries, root %s\n", seen.Size, seen.Root)
			return nil
		},
	}
	c.Flags().BoolVar(&offline, "offline", false, "don't ask the CA for what changed")
	c.Flags().BoolVar(&line, "line", false, "print what another machine needs to fetch and prove them: one line, no secret")
	c.Flags().BoolVar(&tlog, "tlog-policy", false, "print the ledger's key, its witnesses and their quorum as a C2SP tlog-policy, for stock tools")
	c.MarkFlagsMutuallyExclusive("line", "tlog-policy")
	c.AddCommand(newPinsImportCmd(a))
	return c
}

func (a *app) printSite(s ledger.Site) {
	w := a.stdout
	fmt.Fprintf(w, "site        %s (%s), epoch %d\n", s.Name, s.Profile, s.Epoch)
	fmt.Fprintf(w, "origin      %s\n", s.Origin)
	fmt.Fprintf(w, "ledger key  %s\n", s.LedgerKey)
	for _, k := range []struct {
		what string
		keys []string
	}{{"client CA", s.ClientCA}, {"session CA", s.SessionCA}, {"host CA", s.HostCA}} {
		for i, text := range k.keys {
			fmt.Fprintf(w, "%-11s %s%s\n", k.what, printable(text), standby(i))
		}
	}
	for i, t := range s.TLS {
		fmt.Fprintf(w, "TLS key     SHA-256 %s%s\n", t, standby(i))
	}
	fmt.Fprintf(w, "CA          %s\n", strings.Join(s.Addresses, ", "))
	for _, j := range s.Jumps {
		fmt.Fprintf(w, "jump        %s at %s, host key %s\n", j.Name, strings.Join(j.Addresses, ", "), printable(j.HostKey))
	}
	ws, err := ledger.ParseWitnesses(s)
	if err != nil {
		fmt.Fprintf(w, "witnesses   %s\n", clean(err.Error()))
		return
	}
	for _, o := range ws.List {
		by := cmp.Or(o.URL, "whoever brings its cosignature")
		if o.Jump != "" {
			by = "jump " + string(o.Jump)
		}
		fmt.Fprintf(w, "witness     %s by %s\n", clean(o.Name), clean(by))
	}
	if ws.Quorum > 0 {
		fmt.Fprintf(w, "quorum      %d of %d have to cosign\n", ws.Quorum, len(ws.List))
	}
}

func standby(i int) string {
	if i > 0 {
		return " (standby)"
	}
	return ""
}

func printable(text string) string {
	k, _, _, _, err := ssh.ParseAuthorizedKey([]byte(text))
	if err != nil {
		return clean(text)
	}
	return k.Type() + " " + ssh.FingerprintSHA256(k)
}
