package main

import (
	"fmt"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"breakglass/agent/background"
	"breakglass/internal/name"
)

func newGrantsCmd(a *app) *cobra.Command {
	return &cobra.Command{
		Use: "grants", Short: "List my grants that are alive on this machine, and requests that wait", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			gs, _, err := a.keysClient().Grants(cmd.Context())
			if err != nil {
				return err
			}
			ws, err := a.keysClient().Waiting(cmd.Context())
			if err != nil {
				return err
			}
			if a.json {
				return a.printGrants(gs, ws)
			}
			if len(gs)+len(ws) == 0 {
				a.term.Say("No grant is alive. breakglass request LOGIN@HOST asks for one.")
				return nil
			}
			w := tabwriter.NewWriter(a.stdout, 0, 8, 2, ' ', 0)
			fmt.Fprintln(w, "ID\twhat\tstate\tuntil\tleft\trule\tflags")
			line := func(id name.RequestID, what, state string, seconds int, rule name.Rule, flags string) {
				left := time.Duration(seconds) * time.Second
				fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", id, what, state, time.Now().Add(left).Format("15:04"), left, rule, flags)
			}
			for _, g := range gs {
				line(g.ID, string(g.Login)+"@"+string(g.Host), "alive", g.Left, g.Rule, strings.TrimPrefix(letIn(&g.Granted), ", "))
			}
			for _, x := range ws {
				what := string(x.Login) + "@" + string(x.Host)
				if x.Of != "" {
					what += ", longer (" + string(x.Of) + ")"
				}
				line(x.ID, what, "waiting", x.Left, x.Rule, "")
			}
			return w.Flush()
		},
	}
}

// printGrants writes both kinds into one list: "state" tells them apart.
func (a *app) printGrants(gs []background.Grant, ws []background.Waiting) error {
	type alive struct {
		State string `json:"state"`
		background.Grant
	}
	type waiting struct {
		State string `json:"state"`
		background.Waiting
	}
	out := []any{}
	for _, g := range gs {
		out = append(out, alive{"alive", g})
	}
	for _, w := range ws {
		out = append(out, waiting{"waiting", w})
	}
	return a.printJSON(out)
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
