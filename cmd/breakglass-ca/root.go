package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"breakglass/cmd/help"
)

// defaultDir is where the CA lives unless --dir says otherwise.
const defaultDir = "/var/lib/breakglass-ca"

// app is what the commands share.
type app struct {
	stdout, stderr *os.File
	json           bool
	show           bool
	dir            string
}

// say prints what a person must read.
func (a *app) say(format string, args ...any) { fmt.Fprintf(a.stderr, format+"\n", args...) }

// printJSON prints data as JSON.
func (a *app) printJSON(v any) error {
	e := json.NewEncoder(a.stdout)
	e.SetIndent("", "  ")
	return e.Encode(v)
}

func newRoot(a *app) *cobra.Command {
	root := &cobra.Command{
		Use:   "breakglass-ca",
		Short: "The breakglass certificate authority and its administration.",
		Args:  knownCommand,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.PersistentFlags().BoolVar(&a.json, "json", false, "print what is listed or shown as JSON")
	root.SuggestionsMinimumDistance = 2
	root.CompletionOptions.HiddenDefaultCmd = true
	root.SetFlagErrorFunc(func(c *cobra.Command, err error) error { return withHint(usage(err), c.CommandPath()+" --help") })
	root.AddGroup(
		&cobra.Group{ID: "service", Title: "Service:"},
		&cobra.Group{ID: "admin", Title: "Administration:"},
		&cobra.Group{ID: "lost", Title: "When it is lost:"},
		&cobra.Group{ID: "check", Title: "Look closely:"},
	)
	add := func(group string, cmds ...*cobra.Command) {
		for _, c := range cmds {
			c.GroupID = group
			root.AddCommand(c)
		}
	}
	add("service", newInitCmd(a), newServeCmd(a), newStatusCmd(a))
	add("admin", newInviteCmd(a), newRevokeCmd(a), newOrderCmd(a), newRecipientsCmd(a), newClockCmd(a), newKRLCmd(a), newHostCmd(a), newKeysCmd(a), newRotateCmd(a), newReconcileCmd(a),
		newLedgerCmd(a), newWitnessesCmd(a), newStoreCmd(a))
	add("lost", newBackupCmd(a), newRestoreCmd(a), newResumeCmd(a), newRebuildCmd(a), newSucceedCmd(a))
	add("check", newPolicyCmd(a))
	root.AddCommand(newExitHelpCmd())
	refuseUnknown(root)
	help.Fit(root)
	return root
}

// withDir gives a command the flag that says which CA.
func (a *app) withDir(c *cobra.Command) *cobra.Command {
	c.Flags().StringVar(&a.dir, "dir", defaultDir, "the CA's directory")
	return c
}

// group is a command that only holds others.
func group(use, short string, subs ...*cobra.Command) *cobra.Command {
	c := &cobra.Command{Use: use, Short: short, SuggestionsMinimumDistance: 2, Args: knownCommand, RunE: func(cmd *cobra.Command, _ []string) error {
		return usagef("say which: %s", cmd.CommandPath()+" "+names(cmd))
	}}
	c.AddCommand(subs...)
	return c
}

// knownCommand refuses a command that isn't there and names the ones that look like it.
func knownCommand(c *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	err := fmt.Errorf("unknown command %q for %q", args[0], c.CommandPath())
	if like := c.SuggestionsFor(args[0]); len(like) > 0 {
		return withHint(err, "did you mean: "+c.CommandPath()+" "+strings.Join(like, ", "))
	}
	return err
}

func names(c *cobra.Command) string {
	s := ""
	for i, sub := range c.Commands() {
		if i > 0 {
			s += "|"
		}
		s += sub.Name()
	}
	return s
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
				return usage(err)
			}
			return nil
		}
	}
	if run := c.RunE; run != nil {
		c.RunE = func(cmd *cobra.Command, a []string) error {
			err := run(cmd, a)
			var u *usageError
			var h *hinted
			if errors.As(err, &u) && !errors.As(err, &h) && cmd.HasParent() {
				return withHint(err, cmd.CommandPath()+" --help")
			}
			return err
		}
	}
	for _, sub := range c.Commands() {
		refuseUnknown(sub)
	}
}

// readLimited reads a file that a person names; "-" is stdin. A limit keeps a device or a wrong name from filling memory.
func readLimited(path string, stdin io.Reader, limit int64) ([]byte, error) {
	r := stdin
	if path != "-" {
		f, err := os.Open(path)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		r = f
	}
	b, err := io.ReadAll(io.LimitReader(r, limit+1))
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", path, err)
	}
	if int64(len(b)) > limit {
		return nil, fmt.Errorf("reading %s: more than %d bytes", path, limit)
	}
	return b, nil
}
