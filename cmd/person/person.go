// Package person is one's own side at the terminal, for every program that asks a hardware key: the files in one's home, the ways to reach a key, the
// background process, and the CA as it is pinned. breakglass is made of it; breakglass-ca uses it for operators' orders, which take a touch from
// where the operator's key is.
package person

import (
	"context"
	"errors"
	"fmt"
	"os"
	"reflect"
	"sync"
	"time"

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

// ErrSigner says that BREAKGLASS_SIGNER names no way to a key.
var ErrSigner = errors.New("BREAKGLASS_SIGNER: want fido2, ssh-agent or ssh-keygen")

// ErrOtherSite says that the ledger whose key is pinned names another origin: succession is a matter for people.
var ErrOtherSite = errors.New("the CA now calls itself another installation")

// Person is safe for concurrent use.
type Person struct {
	Home     home.Home
	Terminal *terminal.Terminal
	Getenv   func(string) string
	// Show is called with each statement before a key is asked; nil is nobody.
	Show func(statement string)

	mu      sync.Mutex
	pins    api.Pins
	reading *keys.FIDO2
}

// Find is the person whose home the environment names. The terminal speaks as program on stderr.
func Find(ctx context.Context, stderr *os.File, getenv func(string) string) (*Person, error) {
	h, err := home.Find(getenv)
	if err != nil {
		return nil, err
	}
	return &Person{Home: h, Getenv: getenv, Terminal: terminal.New(terminal.Config{Stderr: stderr, Getenv: getenv, Interrupt: ctx})}, nil
}

// Keys is the background process, started where it is needed.
func (p *Person) Keys() *background.Client {
	return &background.Client{Home: p.Home, Start: background.Start}
}

// Client speaks to the pinned CA.
func (p *Person) Client() (*client.Client, error) {
	pins, err := p.Home.Pins()
	if err != nil {
		return nil, err
	}
	return p.ClientOf(pins, home.Memory{Home: p.Home})
}

// ClientOf speaks to the CA of pins, and remembers its checkpoints in m.
func (p *Person) ClientOf(pins api.Pins, m client.Memory) (*client.Client, error) {
	c, err := client.New(client.Config{Pins: pins, Memory: m})
	if err != nil {
		return nil, err
	}
	p.mu.Lock()
	p.pins = pins
	p.mu.Unlock()
	return c, nil
}

// Seen is what this machine knows of the CA: the site, and the newest checkpoint of all.
func (p *Person) Seen() agent.Seen {
	p.mu.Lock()
	pins := p.pins
	p.mu.Unlock()
	s := agent.Seen{Site: pins.Site}
	if c, err := ledger.OpenCheckpoint(pins.Checkpoint, pins.Site.LedgerKey); err == nil {
		s.Checkpoint = c.Pin()
	}
	if text, err := (home.Memory{Home: p.Home}).Last(); err == nil && text != "" {
		if c, err := ledger.OpenCheckpoint(text, pins.Site.LedgerKey); err == nil && c.Size > s.Checkpoint.Size {
			s.Checkpoint = c.Pin()
		}
	}
	return s
}

// Follow takes over what the ledger says of the site now: a jump more, a standby key made active. changed, if not nil, runs once that is saved.
func (p *Person) Follow(ctx context.Context, c *client.Client, changed func(ledger.Site) error) error {
	s, err := c.Site(ctx)
	if err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	old := p.pins.Site
	if reflect.DeepEqual(s.Site, old) {
		return nil
	}
	if s.Site.Origin != old.Origin || s.Site.LedgerKey != old.LedgerKey || s.Site.Epoch != old.Epoch || s.Site.Profile != old.Profile {
		return fmt.Errorf("%w: %s", ErrOtherSite, s.Site.Origin)
	}
	next := api.Pins{Site: s.Site, Checkpoint: s.Entry.Checkpoint}
	if err := next.Validate(); err != nil {
		return err
	}
	p.pins = next
	if err := p.Home.SavePins(next); err != nil {
		return err
	}
	if changed == nil {
		return nil
	}
	return changed(next.Site)
}

// Reading asks a key for the secret of a reading identity. The PIN that it is told serves the signature of the same command, too: Signer takes it over.
func (p *Person) Reading() *keys.FIDO2 {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.reading == nil {
		p.reading = &keys.FIDO2{Path: p.Getenv("BREAKGLASS_FIDO2"), Prompt: p.Terminal}
	}
	return p.reading
}

// Forget wipes the PIN that Reading was told and no signature took over.
func (p *Person) Forget() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.reading != nil {
		p.reading.Forget()
	}
}

// Signer is whatever this machine offers to reach a hardware key.
func (p *Person) Signer() (keys.Backends, *keys.FIDO2, error) {
	if err := p.Home.MakeRun(); err != nil { // ssh-keygen's files
		return nil, nil, err
	}
	fido := &keys.FIDO2{Path: p.Getenv("BREAKGLASS_FIDO2"), Prompt: p.Terminal}
	p.mu.Lock()
	if p.reading != nil {
		fido.TakePIN(p.reading)
	}
	p.mu.Unlock()
	all := map[string]keys.Signer{
		"fido2":      fido,
		"ssh-agent":  &keys.SSHAgent{Socket: p.Getenv("SSH_AUTH_SOCK"), Prompt: p.Terminal},
		"ssh-keygen": &keys.SSHKeygen{Dir: p.Home.Run},
	}
	if only := p.Getenv("BREAKGLASS_SIGNER"); only != "" {
		s, ok := all[only]
		if !ok {
			return nil, nil, fmt.Errorf("%w, not %q", ErrSigner, only)
		}
		return keys.Backends{s}, fido, nil
	}
	b := keys.Backends{fido, all["ssh-agent"]}
	// Where our helper stands, ssh-keygen finds no device that it doesn't, and would only say so in its own words.
	if _, err := helper.Find(); p.Getenv("BREAKGLASS_FIDO2") == "" && err != nil || p.Getenv("SSH_SK_PROVIDER") != "" {
		b = append(b, all["ssh-keygen"])
	}
	return b, fido, nil
}

// Agent asks the CA on behalf of the person at the terminal; the caller has the second result forget its PIN.
func (p *Person) Agent(c *client.Client) (*agent.Agent, *keys.FIDO2, error) {
	s, fido, err := p.Signer()
	if err != nil {
		return nil, nil, err
	}
	return agent.New(agent.Config{CA: c, Signer: s, Keys: p.Keys(), Seen: p.Seen, Show: p.Show,
		State: func(ctx context.Context, s ssh.Signer, id name.RequestID) (*api.RequestState, error) {
			return c.WithSigner(s).Request(ctx, id)
		},
		Await: func(ctx context.Context, s ssh.Signer, id name.RequestID, wait time.Duration, since int64) (*api.RequestState, error) {
			return c.WithSigner(s).AwaitRequest(ctx, id, wait, since)
		},
		Name: p.keyName,
		Warn: func(t string) { p.Terminal.Say("breakglass: warning: %s", t) }}), fido, nil
}

// Pass gives a client whose calls may read for some minutes; it asks for a touch unless one was given a little while ago.
func (p *Person) Pass(ctx context.Context) (*client.Client, error) {
	who, err := p.Home.LoadPerson()
	if err != nil {
		return nil, err
	}
	c, err := p.Client()
	if err != nil {
		return nil, err
	}
	ag, fido, err := p.Agent(c)
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

// keyName is what the person called a key when they enrolled it here.
func (p *Person) keyName(publicKey string) name.Key {
	who, err := p.Home.LoadPerson()
	if err != nil {
		return ""
	}
	for _, k := range who.Keys {
		if k.PublicKey == publicKey {
			return k.Name
		}
	}
	return ""
}
