package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"breakglass/agent/connect"
	"breakglass/agent/home"
	"breakglass/internal/name"
)

const connectCommand = "connect"

type addresses []string

func (a *addresses) String() string     { return fmt.Sprint(*a) }
func (a *addresses) Set(s string) error { *a = append(*a, s); return nil }

// runConnect is ssh's ProxyCommand. It opens the connection, hands it over and is gone.
func runConnect(args []string, stdin, stdout, stderr *os.File) int {
	fs := flag.NewFlagSet(connectCommand, flag.ContinueOnError)
	fs.SetOutput(io.Discard)
	var jumps addresses
	var refuse bool
	fs.Var(&jumps, "jump", "")
	fs.BoolVar(&refuse, "refuse", false, "")
	if err := fs.Parse(args); err != nil || fs.NArg() != 1 {
		printError(stderr, usagef("connect is for ssh's ProxyCommand: breakglass connect [--jump IP:PORT] HOST"))
		return exitUsage
	}
	host, err := name.ParseHost(fs.Arg(0))
	if err != nil {
		printError(stderr, usage(err))
		return exitUsage
	}
	if refuse {
		printError(stderr, withStatus(exitSSH, fmt.Errorf("%s is reached through breakglass only, and no grant is alive", host),
			fmt.Sprintf("breakglass request LOGIN@%s", host)))
		return exitSSH
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := openConnection(ctx, jumps, host, stdin, stdout); err != nil {
		printError(stderr, err)
		return exitSSH
	}
	return exitOK
}

func openConnection(ctx context.Context, jumps []string, host name.Host, stdin, stdout *os.File) error {
	if len(jumps) == 0 {
		h, err := home.Find(os.Getenv)
		if err != nil {
			return err
		}
		p, err := h.Pins()
		if err != nil {
			return err
		}
		me, err := h.LoadPerson()
		if err != nil {
			return err
		}
		jumps = connect.Order(me.Person, p.Site.Jumps)
	}
	c, err := connect.Dial(ctx, jumps, host)
	if err != nil {
		return withHint(err, "breakglass status says which jumps answer")
	}
	return connect.Hand(c, stdin, stdout)
}

// newConnectCmd only stands in the command tree for the help; main takes the word before it.
func newConnectCmd() *cobra.Command {
	return &cobra.Command{
		Use: connectCommand + " HOST", Hidden: true, Short: "ssh's ProxyCommand",
		RunE: func(*cobra.Command, []string) error { return errors.New("connect is the first word or none") },
	}
}
