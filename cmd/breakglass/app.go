package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"reflect"
	"sync"

	"golang.org/x/crypto/ssh"

	"breakglass/agent"
	"breakglass/agent/background"
	"breakglass/agent/fido2/helper"
	"breakglass/agent/home"
	"breakglass/agent/keys"
	"breakglass/agent/terminal"
	"breakglass/ca/api"
	"breakglass/ca/api/client"
	"breakglass/internal/name"
	"breakglass/ledger"
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

	mu   sync.Mutex
	pins api.Pins
}

func (a *app) newTerminal(silent bool) *terminal.Terminal {
	return terminal.New(terminal.Config{Stderr: a.stderr, Getenv: a.getenv, Interrupt: a.ctx, Silent: silent})
}

// keysClient is the background process, started where it is needed.
func (a *app) keysClient() *background.Client {
	return &background.Client{Home: a.home, Start: background.Start}
}

// client speaks to the pinned CA.
func (a *app) client() (*client.Client, error) {
	p, err := a.home.Pins()
	if err != nil {
		return nil, err
	}
	return a.clientOf(p, home.Memory{Home: a.home})
}

func (a *app) clientOf(p api.Pins, m client.Memory) (*client.Client, error) {
	c, err := client.New(client.Config{Pins: p, Memory: m})
	if err != nil {
		return nil, err
	}
	a.mu.Lock()
	a.pins = p
	a.mu.Unlock()
	return c, nil
}

// seen is what this machine knows of the CA: the site, and the newest checkpoint of all.
func (a *app) seen() agent.Seen {
	a.mu.Lock()
	p := a.pins
	a.mu.Unlock()
	s := agent.Seen{Site: p.Site}
	if c, err := ledger.OpenCheckpoint(p.Checkpoint, p.Site.LedgerKey); err == nil {
		s.Checkpoint = c.Pin()
	}
	if text, err := (home.Memory{Home: a.home}).Last(); err == nil && text != "" {
		if c, err := ledger.OpenCheckpoint(text, p.Site.LedgerKey); err == nil && c.Size > s.Checkpoint.Size {
			s.Checkpoint = c.Pin()
		}
	}
	return s
}

// errOtherSite says that the ledger whose key is pinned names another origin: succession is a matter for people.
var errOtherSite = errors.New("the CA now calls itself another installation")

// follow takes over what the ledger says of the site now: a jump more, a standby key made active.
func (a *app) follow(ctx context.Context, c *client.Client) error {
	s, err := c.Site(ctx)
	if err != nil {
		return err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if reflect.DeepEqual(s.Site, a.pins.Site) {
		return nil
	}
	if s.Site.Origin != a.pins.Site.Origin || s.Site.LedgerKey != a.pins.Site.LedgerKey || s.Site.Epoch != a.pins.Site.Epoch || s.Site.Profile != a.pins.Site.Profile {
		return fmt.Errorf("%w: %s", errOtherSite, s.Site.Origin)
	}
	next := api.Pins{Site: s.Site, Checkpoint: s.Entry.Checkpoint}
	if err := next.Validate(); err != nil {
		return err
	}
	a.pins = next
	if err := a.home.SavePins(next); err != nil {
		return err
	}
	return a.refreshKnownHosts(next.Site)
}

// signer is whatever this machine offers to reach a hardware key.
func (a *app) signer() (keys.Backends, *keys.FIDO2, error) {
	if err := a.home.MakeRun(); err != nil { // ssh-keygen's files
		return nil, nil, err
	}
	fido := &keys.FIDO2{Path: a.getenv("BREAKGLASS_FIDO2"), Prompt: a.term}
	all := map[string]keys.Signer{
		"fido2":      fido,
		"ssh-agent":  &keys.SSHAgent{Socket: a.getenv("SSH_AUTH_SOCK"), Prompt: a.term},
		"ssh-keygen": &keys.SSHKeygen{Dir: a.home.Run},
	}
	if only := a.getenv("BREAKGLASS_SIGNER"); only != "" {
		s, ok := all[only]
		if !ok {
			return nil, nil, usagef("BREAKGLASS_SIGNER is %q: want fido2, ssh-agent or ssh-keygen", only)
		}
		return keys.Backends{s}, fido, nil
	}
	b := keys.Backends{fido, all["ssh-agent"]}
	// Where our helper stands, ssh-keygen finds no device that it doesn't, and would only say so in its own words.
	if _, err := helper.Find(); a.getenv("BREAKGLASS_FIDO2") == "" && err != nil || a.getenv("SSH_SK_PROVIDER") != "" {
		b = append(b, all["ssh-keygen"])
	}
	return b, fido, nil
}

// agent asks the CA on behalf of the person at the terminal; the caller has the second result forget its PIN.
func (a *app) agent(c *client.Client) (*agent.Agent, *keys.FIDO2, error) {
	s, fido, err := a.signer()
	if err != nil {
		return nil, nil, err
	}
	cfg := agent.Config{CA: c, Signer: s, Keys: a.keysClient(), Seen: a.seen,
		State: func(ctx context.Context, s ssh.Signer, id name.RequestID) (*api.RequestState, error) {
			return c.WithSigner(s).Request(ctx, id)
		},
		Warn: func(t string) { a.term.Say("breakglass: warning: %s", t) }}
	if a.show {
		cfg.Show = func(st string) { fmt.Fprint(a.stderr, clean(st)) }
	}
	return agent.New(cfg), fido, nil
}

// pass gives a client whose calls may read for some minutes; it asks for a touch unless one was given a little while ago.
func (a *app) pass(ctx context.Context) (*client.Client, error) {
	who, err := a.home.LoadPerson()
	if err != nil {
		return nil, err
	}
	c, err := a.client()
	if err != nil {
		return nil, err
	}
	ag, fido, err := a.agent(c)
	if err != nil {
		return nil, err
	}
	defer fido.Forget()
	s, err := ag.Pass(ctx, who.Person)
	if err != nil {
		return nil, err
	}
	return c.WithSigner(s), nil
}

// printJSON writes v for --json.
func (a *app) printJSON(v any) error {
	e := json.NewEncoder(a.stdout)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	return e.Encode(v)
}
