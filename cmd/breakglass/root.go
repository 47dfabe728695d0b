package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"breakglass/cmd/help"
)

// Groups of the help, as a person looks for them.
const (
	groupIn    = "in"
	groupYes   = "approve"
	groupLook  = "look"
	groupKeys  = "keys"
	groupWrong = "wrong"
)

func newRoot(a *app) *cobra.Command {
	root := &cobra.Command{
		Use:   "breakglass",
		Short: "Emergency shell access: a touch opens one host for minutes, and everything is recorded.",
		Args:  unknownCommand,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.PersistentFlags().BoolVar(&a.json, "json", false, "print what is listed or shown as JSON")
	root.SuggestionsMinimumDistance = 2
	root.CompletionOptions.HiddenDefaultCmd = true
	root.SetFlagErrorFunc(func(c *cobra.Command, err error) error { return withStatus(exitUsage, err, c.CommandPath()+" --help") })
	root.AddGroup(
		&cobra.Group{ID: groupIn, Title: "Get in:"},
		&cobra.Group{ID: groupYes, Title: "Approve:"},
		&cobra.Group{ID: groupLook, Title: "Look:"},
		&cobra.Group{ID: groupKeys, Title: "My keys:"},
		&cobra.Group{ID: groupWrong, Title: "When something is wrong:"},
	)
	add := func(group string, cmds ...*cobra.Command) {
		for _, c := range cmds {
			c.GroupID = group
			root.AddCommand(c)
		}
	}
	add(groupIn, newSSHCmd(a), newRequestCmd(a), newGrantsCmd(a), newExtendCmd(a), newEndCmd(a), newConfigCmd(a), newEnsureCmd(a))
	add(groupYes, newRequestsCmd(a), newApproveCmd(a), newDenyCmd(a))
	add(groupLook, newSessionsCmd(a), newWatchCmd(a), newKillCmd(a), newReplayCmd(a), newSearchCmd(a), newFilesCmd(a), newExportCmd(a), newBundleCmd(a), newVerifyCmd(a),
		newPolicyCmd(a))
	add(groupKeys, newEnrollCmd(a), newKeysCmd(a), newVouchCmd(a), newFoundCmd(a), newSucceedCmd(a), newRenewCmd(a), newLostCmd(a), newTOTPCmd(a), newReviewerCmd(a), newRecoveryCmd(a), newPinsCmd(a))
	add(groupWrong, newStatusCmd(a), newRunbookCmd(a))
	root.AddCommand(newAgentCmd(a), newConnectCmd(), newExitHelpCmd())
	refuseUnknown(root)
	help.Fit(root)
	return root
}

// unknownCommand says what was perhaps meant.
func unknownCommand(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	err := fmt.Errorf("unknown command %q", args[0])
	if s := cmd.SuggestionsFor(args[0]); len(s) > 0 {
		return withStatus(exitUsage, err, "breakglass "+s[0])
	}
	return err
}

// usageError is a wrong command line.
type usageError struct{ err error }

func (u *usageError) Error() string { return u.err.Error() }
func (u *usageError) Unwrap() error { return u.err }

func usage(err error) error { return &usageError{err} }

func usagef(format string, a ...any) error { return usage(fmt.Errorf(format, a...)) }

// refuseUnknown turns cobra's complaints about arguments into usage errors.
func refuseUnknown(c *cobra.Command) {
	if args := c.Args; args != nil {
		c.Args = func(cmd *cobra.Command, a []string) error {
			if err := args(cmd, a); err != nil {
				if cmd == cmd.Root() { // unknownCommand says what was meant
					return usage(err)
				}
				return withStatus(exitUsage, err, cmd.UseLine(), cmd.CommandPath()+" --help")
			}
			return nil
		}
	}
	for _, sub := range c.Commands() {
		refuseUnknown(sub)
	}
}
