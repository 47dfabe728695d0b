package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"breakglass/agent"
	"breakglass/agent/home"
	"breakglass/ca/api"
	"breakglass/ca/api/client"
	"breakglass/cmd/person"
)

// After the founding, what widens something or stops it for others takes an operator's touch, and the key is where its owner sits: these commands
// then ask the CA as `breakglass` does, with the pins and keys of the operator's own home.

// here says whether the CA lives on this machine: --dir names it, or it lies where it does by default.
func (a *app) here(cmd *cobra.Command) bool {
	if cmd.Flags().Changed("dir") {
		return true
	}
	_, err := os.Stat(filepath.Join(a.dir, "config.toml"))
	return !errors.Is(err, fs.ErrNotExist)
}

// operator is the person at this terminal with a CA to order.
type operator struct {
	name   string
	me     *person.Person
	agent  *agent.Agent
	client *client.Client
	forget func()
}

// operator finds the operator's own home.
func (a *app) operator(ctx context.Context) (*operator, error) {
	me, err := person.Find(ctx, a.stderr, os.Getenv)
	if err != nil {
		return nil, err
	}
	if a.show {
		me.Show = func(st string) { fmt.Fprint(a.stderr, clean(st)) }
	}
	who, err := me.Home.LoadPerson()
	if errors.Is(err, home.ErrNotEnrolled) {
		return nil, withHint(errors.New("an order takes an operator's key, and nobody is enrolled on this machine"), "run it where your key is enrolled (breakglass keys lists it)",
			"on the CA's machine before the founding, and in the demo: the same with --dir DIR")
	} else if err != nil {
		return nil, err
	}
	c, err := me.Client()
	if err != nil {
		return nil, err
	}
	if err := me.Follow(ctx, c, nil); err != nil {
		return nil, err
	}
	ag, fido, err := me.Agent(c)
	if err != nil {
		return nil, err
	}
	return &operator{name: string(who.Person), me: me, agent: ag, client: c, forget: fido.Forget}, nil
}

// order has the operator's key sign an order and the CA carry it out.
func (a *app) order(ctx context.Context, act, target, reason string) (*api.OrderDone, error) {
	o, err := a.operator(ctx)
	if err != nil {
		return nil, err
	}
	defer o.forget()
	return o.agent.Order(ctx, o.client, api.OrderAsk{Person: o.name, Act: act, Target: target, Reason: reason})
}

// invite has the operator's key order an invite whose secret is drawn here.
func (a *app) invite(ctx context.Context, q inviteAsk) (api.Token, error) {
	o, err := a.operator(ctx)
	if err != nil {
		return api.Token{}, err
	}
	defer o.forget()
	pins, err := o.me.Home.Pins()
	if err != nil {
		return api.Token{}, err
	}
	return o.agent.Invite(ctx, o.client, o.name, q.For, q.Name, pins)
}
