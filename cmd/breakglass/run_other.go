//go:build !unix

package main

import (
	"context"
	"errors"
	"fmt"
	"os/exec"

	"breakglass/agent/background"
)

// runSSH runs the stock ssh and ends with its status.
func (a *app) runSSH(ctx context.Context, program string, args []string, g *background.Grant) error {
	cmd := exec.Command(program, args...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = a.stdin, a.stdout, a.stderr
	err := cmd.Run()
	a.epilogue(context.WithoutCancel(ctx), g)
	var exit *exec.ExitError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &exit):
		a.status = exit.ExitCode()
		return nil
	}
	return withStatus(exitSSH, fmt.Errorf("running ssh: %w", err))
}
