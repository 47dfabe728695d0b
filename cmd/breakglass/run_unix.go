//go:build unix

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"syscall"
	"time"

	"breakglass/agent/background"
)

// runSSH runs the stock ssh on our terminal, stdin and stdout, and ends as it ended: the same status, or the same signal.
func (a *app) runSSH(ctx context.Context, program string, args []string, g *background.Grant) error {
	// The thread that starts ssh has to live as long (see dieWithUs).
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	cmd := exec.Command(program, args...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = a.stdin, a.stdout, a.stderr
	cmd.SysProcAttr = dieWithUs()
	// What is sent to us alone is meant for ssh. What the terminal sends reaches both; ssh takes a second one as it took the first.
	sigs := make(chan os.Signal, 8)
	signal.Notify(sigs, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT, syscall.SIGUSR1, syscall.SIGUSR2)
	defer signal.Stop(sigs)
	if err := cmd.Start(); err != nil {
		return withStatus(exitSSH, fmt.Errorf("starting ssh: %w", err))
	}
	done := make(chan struct{})
	go func() {
		for {
			select {
			case s := <-sigs:
				_ = cmd.Process.Signal(s)
			case <-done:
				return
			}
		}
	}()
	err := cmd.Wait()
	close(done)
	a.epilogue(context.WithoutCancel(ctx), g)
	var exit *exec.ExitError
	switch {
	case err == nil:
		return nil
	case !errors.As(err, &exit):
		return withStatus(exitSSH, fmt.Errorf("running ssh: %w", err))
	}
	ws, _ := exit.Sys().(syscall.WaitStatus)
	if ws.Signaled() {
		signal.Reset(ws.Signal())
		_ = syscall.Kill(os.Getpid(), ws.Signal())
		time.Sleep(time.Second) // until it arrives
		a.status = 128 + int(ws.Signal())
		return nil
	}
	a.status = ws.ExitStatus()
	return nil
}
