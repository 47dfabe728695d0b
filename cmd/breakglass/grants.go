package main

import (
	"fmt"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"breakglass/agent/background"
)

func newGrantsCmd(a *app) *cobra.Command {
	return &cobra.Command{
		Use: "grants", Short: "List my grants that are alive on this machine", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			gs, _, err := a.keysClient().Grants(cmd.Context())
			if err != nil {
				return err
			}
			if a.json {
				if gs == nil {
					gs = []background.Grant{}
				}
				return a.printJSON(gs)
			}
			if len(gs) == 0 {
				a.term.Say("No grant is alive. breakglass request LOGIN@HOST asks for one.")
				return nil
			}
			w := tabwriter.NewWriter(a.stdout, 0, 8, 2, ' ', 0)
			fmt.Fprintln(w, "ID\twhat\tuntil\tleft\trule")
			for _, g := range gs {
				left := time.Duration(g.Left) * time.Second
				fmt.Fprintf(w, "%s\t%s@%s\t%s\t%s\t%s\n", g.ID, g.Login, g.Host, time.Now().Add(left).Format("15:04"), left, g.Rule)
			}
			return w.Flush()
		},
	}
}

// findGrant takes a whole id, a prefix of one with or without the dash, or login@host.
func findGrant(gs []background.Grant, s string) (*background.Grant, error) {
	var found []background.Grant
	plain := func(s string) string { return strings.ReplaceAll(strings.ToLower(s), "-", "") }
	for _, g := range gs {
		if string(g.Login)+"@"+string(g.Host) == s || s != "" && strings.HasPrefix(plain(string(g.ID)), plain(s)) {
			found = append(found, g)
		}
	}
	switch len(found) {
	case 0:
		return nil, withHint(fmt.Errorf("no grant %q is alive on this machine", s), "breakglass grants")
	case 1:
		return &found[0], nil
	}
	return nil, withHint(usagef("%q fits %d grants", s, len(found)), "breakglass grants")
}

func newEndCmd(a *app) *cobra.Command {
	return &cobra.Command{
		Use: "end ID", Short: "Give up a grant on this machine: its key is wiped", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			gs, _, err := a.keysClient().Grants(cmd.Context())
			if err != nil {
				return err
			}
			g, err := findGrant(gs, args[0])
			if err != nil {
				return err
			}
			if err := a.keysClient().End(cmd.Context(), g.ID); err != nil {
				return err
			}
			a.term.Say("%s is given up: no new session can be opened with it. Sessions that run go on until %s.", g.ID,
				time.Now().Add(time.Duration(g.Left)*time.Second).Format("15:04"))
			return nil
		},
	}
}
