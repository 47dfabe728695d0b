// Command breakglass-jump is the recording jump host: it joins an installation once, and then serves.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"breakglass/ca/api"
	"breakglass/ca/api/client"
	"breakglass/cmd/help"
	"breakglass/jump"
	"breakglass/jump/journal"
)

// Exit statuses, as `breakglass help exit` lists them.
const (
	exitFailed      = 1
	exitUsage       = 2
	exitRefused     = 10
	exitUnreachable = 13
	exitRecorder    = 14
)

const defaultDir = "/var/lib/breakglass-jump"

func main() {
	os.Exit(run(context.Background(), os.Args[1:], os.Stdout, os.Stderr))
}

// run is the program without the process.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	root := &cobra.Command{
		Use:           "breakglass-jump",
		Short:         "The recording jump host of breakglass",
		SilenceErrors: true, SilenceUsage: true,
		CompletionOptions: cobra.CompletionOptions{DisableDefaultCmd: true},
	}
	root.AddCommand(newJoinCmd(), newServeCmd(), newStatusCmd())
	help.Fit(root)
	root.SetArgs(args)
	root.SetOut(stdout)
	root.SetErr(stderr)
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return &usageError{err} })
	if err := root.ExecuteContext(ctx); err != nil {
		return fail(stderr, err)
	}
	return 0
}

type usageError struct{ error }

// hinted is an error with something to type.
type hinted struct {
	error
	hints []string
}

func (h *hinted) Unwrap() error { return h.error }

func withHint(err error, hints ...string) error { return &hinted{err, hints} }

// fail prints the one error line and its hints, and gives the exit status.
func fail(stderr io.Writer, err error) int {
	fmt.Fprintf(stderr, "breakglass-jump: error: %v\n", err)
	var h *hinted
	if errors.As(err, &h) {
		for _, line := range h.hints {
			fmt.Fprintf(stderr, "breakglass-jump: hint: %s\n", line)
		}
	}
	var p *api.Problem
	var u *usageError
	switch {
	case errors.As(err, &u):
		return exitUsage
	case errors.As(err, &p):
		for _, line := range p.Next {
			fmt.Fprintf(stderr, "breakglass-jump: hint: %s\n", line)
		}
		return exitRefused
	case errors.Is(err, client.ErrUnreachable):
		return exitUnreachable
	case errors.Is(err, jump.ErrJournal), errors.Is(err, journal.ErrFailed), errors.Is(err, journal.ErrDamaged):
		return exitRecorder
	}
	return exitFailed
}
