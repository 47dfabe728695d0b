// Command breakglass is what a person runs: it gets them in, shows what was recorded, and checks it. It is pure Go and links neither
// libfido2 nor a database, so that it runs wherever it is carried.
package main

import (
	"context"
	"errors"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"breakglass/agent/home"
	"breakglass/ca/api/client"
)

func main() {
	// ssh waits for this one: no command tree, no configuration but the jumps' addresses.
	if len(os.Args) > 1 && os.Args[1] == connectCommand {
		os.Exit(runConnect(os.Args[2:], os.Stdin, os.Stdout, os.Stderr))
	}
	os.Exit(run(os.Args[1:], os.Stdin, os.Stdout, os.Stderr, os.Getenv))
}

// run is the program without the process.
func run(args []string, stdin, stdout, stderr *os.File, getenv func(string) string) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	a := &app{stdin: stdin, stdout: stdout, stderr: stderr, getenv: getenv, ctx: ctx}
	h, err := home.Find(getenv)
	if err != nil {
		return a.fail(err)
	}
	a.home = h
	a.term = a.newTerminal(false)
	cmd, err := a.execute(ctx, args)
	if errors.Is(err, client.ErrSucceeded) { // nothing was decided: what follows the pinned ledger is taken over, and asked once more
		if err = a.takeOver(ctx); err == nil {
			a.status = 0
			cmd, err = a.execute(ctx, args)
		}
	}
	a.self().Forget()
	if errors.Is(err, client.ErrRollback) {
		a.tellRollback(ctx)
	}
	if err != nil {
		if ctx.Err() != nil && !errors.Is(err, errInterrupted) { // who says so may know what goes on
			err = errInterrupted
		}
		status := a.fail(err)
		// ssh's own word for all that came before the shell; the typed code stands on stderr.
		if cmd != nil && cmd.Name() == "ssh" {
			status = exitSSH
		}
		return status
	}
	return a.status
}

func (a *app) execute(ctx context.Context, args []string) (*cobra.Command, error) {
	root := newRoot(a)
	root.SetArgs(args)
	root.SetIn(a.stdin)
	root.SetOut(a.stdout)
	root.SetErr(a.stderr)
	root.SilenceErrors, root.SilenceUsage = true, true
	return root.ExecuteContextC(ctx)
}
