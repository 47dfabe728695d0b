package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"breakglass/internal/name"
)

// insideEnv is set for an ssh that we ask about its configuration: `ensure` in it says no at once, or asking would ask again.
const insideEnv = "BREAKGLASS_INSIDE"

// newEnsureCmd is for Match exec: it runs on every parse of ssh_config (also ssh -G, scp, git), so it is quick and silent where
// a grant lives, and never asks without a terminal.
func newEnsureCmd(a *app) *cobra.Command {
	var live bool
	var q asked
	c := &cobra.Command{
		Use:   "ensure LOGIN@HOST",
		Short: "For ssh_config: have a grant, or say no",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if a.getenv(insideEnv) != "" {
				a.status = exitFailed
				return nil
			}
			login, host, err := name.SplitTarget(args[0])
			if live && (err != nil || login == "") {
				// Any name that is typed comes by here; one that isn't ours is no error of the person's.
				a.status = exitFailed
				return nil
			}
			if err != nil {
				return usage(err)
			}
			if login == "" {
				return usagef("want LOGIN@HOST")
			}
			g, err := a.keysClient().Live(cmd.Context(), login, host, liveEnough)
			if live {
				if err != nil || g == nil {
					a.status = exitFailed
				}
				return nil
			}
			if err != nil || g != nil {
				return err
			}
			if !a.term.Interactive() {
				return withStatus(exitFailed, errors.New("no grant is alive for "+args[0]), fmt.Sprintf("breakglass request %s@%s", login, host))
			}
			_, err = a.request(cmd.Context(), login, host, q)
			return err
		},
	}
	c.Flags().BoolVar(&live, "live", false, "only say whether a grant is alive")
	q.flags(c.Flags())
	return c
}
