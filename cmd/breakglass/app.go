package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"sync"

	"breakglass/agent"
	"breakglass/agent/background"
	"breakglass/agent/home"
	"breakglass/agent/keys"
	"breakglass/agent/terminal"
	"breakglass/ca/api"
	"breakglass/ca/api/client"
	"breakglass/cmd/person"
)

// app is what the commands share: the person's files, terminal and keys, and the CA.
type app struct {
	ctx                   context.Context
	stdin, stdout, stderr *os.File
	getenv                func(string) string
	home                  home.Home
	term                  *terminal.Terminal
	json                  bool
	show                  bool
	status                int // of a command that ends without an error of its own

	once sync.Once
	me   person.Person
}

func (a *app) newTerminal(silent bool) *terminal.Terminal {
	return terminal.New(terminal.Config{Stderr: a.stderr, Getenv: a.getenv, Interrupt: a.ctx, Silent: silent})
}

// self is the person at this terminal.
func (a *app) self() *person.Person {
	a.once.Do(func() {
		a.me.Home, a.me.Getenv, a.me.Terminal = a.home, a.getenv, a.term
		if a.show {
			a.me.Show = func(st string) { fmt.Fprint(a.stderr, clean(st)) }
		}
	})
	return &a.me
}

// keysClient is the background process, started where it is needed.
func (a *app) keysClient() *background.Client { return a.self().Keys() }

// client speaks to the pinned CA.
func (a *app) client() (*client.Client, error) { return a.self().Client() }

func (a *app) clientOf(p api.Pins, m client.Memory) (*client.Client, error) {
	return a.self().ClientOf(p, m)
}

// seen is what this machine knows of the CA: the site, and the newest checkpoint of all.
func (a *app) seen() agent.Seen { return a.self().Seen() }

// follow takes over what the ledger says of the site now.
func (a *app) follow(ctx context.Context, c *client.Client) error {
	return a.self().Follow(ctx, c, a.refreshKnownHosts)
}

// agent asks the CA on behalf of the person at the terminal; the caller has the second result forget its PIN.
func (a *app) agent(c *client.Client) (*agent.Agent, *keys.FIDO2, error) {
	ag, fido, err := a.self().Agent(c)
	if errors.Is(err, person.ErrSigner) {
		err = usage(err)
	}
	return ag, fido, err
}

// pass gives a client whose calls may read for some minutes; it asks for a touch unless one was given a little while ago.
func (a *app) pass(ctx context.Context) (*client.Client, error) {
	c, err := a.self().Pass(ctx)
	if errors.Is(err, person.ErrSigner) {
		err = usage(err)
	}
	return c, err
}

// printJSON writes v for --json.
func (a *app) printJSON(v any) error {
	e := json.NewEncoder(a.stdout)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	return e.Encode(v)
}
