package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"breakglass/ca/api"
	"breakglass/policy"
)

// Exit statuses, the same numbers as breakglass has.
const (
	exitOK          = 0
	exitFailed      = 1
	exitUsage       = 2
	exitDenied      = 10
	exitUnreachable = 13
	exitVerify      = 20
	exitInterrupted = 130
)

const exitHelp = `Exit status

  0    done
  1    failed; also a policy with an error or a failed test
  2    wrong command line
  10   refused
  13   the CA doesn't run, where it has to
  20   verification failed
  130  interrupted
`

var (
	errInterrupted = errors.New("interrupted")
	// errNotRunning says that no service listens on the directory's admin.sock.
	errNotRunning = errors.New("the CA's service doesn't run")
	// errVerify is wrapped by what a verification found.
	errVerify = errors.New("FAILED")
)

// hinted is an error with something to type.
type hinted struct {
	err   error
	hints []string
}

func (h *hinted) Error() string { return h.err.Error() }
func (h *hinted) Unwrap() error { return h.err }

func withHint(err error, hints ...string) error { return &hinted{err, hints} }

// statusOf is the one switch from error to exit status.
func statusOf(err error) int {
	var u *usageError
	var p *api.Problem
	switch {
	case err == nil:
		return exitOK
	case errors.As(err, &u):
		return exitUsage
	case errors.Is(err, errInterrupted), errors.Is(err, context.Canceled):
		return exitInterrupted
	case errors.Is(err, errVerify):
		return exitVerify
	case errors.Is(err, errNotRunning):
		return exitUnreachable
	case errors.As(err, &p) && p.Status == 403:
		return exitDenied
	}
	return exitFailed
}

// printError prints an error as a person reads it: the error's line, what belongs to it, then what to type.
func printError(w io.Writer, err error) {
	text := err.Error()
	var load *policy.LoadError
	var tests *policy.TestError
	var p *api.Problem
	var hints []string
	switch {
	case errors.As(err, &load): // the faults with their carets keep their columns: below, not behind, the error's line
		fmt.Fprintf(w, "breakglass-ca: error: %s: %s\n%s\n", clean(load.File), count(len(load.Faults), "fault"), clean(text))
		hints = []string{"breakglass-ca policy check " + load.File + " once these are mended"}
	case errors.As(err, &tests):
		fmt.Fprintf(w, "breakglass-ca: error: %s: the policy fails %s of its own\n%s\n", clean(tests.File), count(len(tests.Failed), "test"), clean(text))
		hints = []string{"breakglass-ca policy test " + tests.File}
	case errors.As(err, &p):
		fmt.Fprintf(w, "breakglass-ca: error: %s\n", clean(p.Error()))
		hints = p.Next
	default:
		fmt.Fprintf(w, "breakglass-ca: error: %s\n", clean(strings.TrimSpace(text)))
	}
	var h *hinted
	if errors.As(err, &h) {
		hints = append(hints, h.hints...)
	}
	if statusOf(err) == exitUsage && len(hints) == 0 {
		hints = []string{"breakglass-ca help"}
	}
	for _, h := range hints {
		fmt.Fprintf(w, "breakglass-ca: hint: %s\n", clean(h))
	}
}

// clean keeps what came from a file or from elsewhere from driving the terminal.
func clean(s string) string {
	return strings.Map(func(r rune) rune {
		if r == '\n' || r == '\t' || r >= ' ' && r != 0x7f && !(r >= 0x80 && r < 0xa0) {
			return r
		}
		return '?'
	}, s)
}

func newExitHelpCmd() *cobra.Command {
	return &cobra.Command{
		Use: "exit", Short: "Exit statuses", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			_, err := fmt.Fprint(cmd.OutOrStdout(), exitHelp)
			return err
		},
	}
}
