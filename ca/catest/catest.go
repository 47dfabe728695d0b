// Package catest is a whole CA on loopback for tests: its own keys, ledger, TLS and HTTP, and people with software keys who sign as real
// ones do. It guarantees to a test that nothing is faked on the CA's side; what a person or a jump sends can be bent at will.
// No shipped program links it.
package catest

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"log/slog"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"breakglass/ca"
	"breakglass/ca/api"
	"breakglass/ca/api/client"
	"breakglass/internal/attest/attesttest"
	"breakglass/internal/loopback"
)

// HostKey is the public key of the policy's hosts; nobody has its private half.
const HostKey = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ5AobeHMSqrBgw1ztgTrX9OZTRDv0fzJPBNrmXHRTPm"

// Policy is the default: alice may enter web01 and lb*, db01 asks for an approval, bob reads, carol has no rule.
const Policy = `profile = "demo"

[site]
name = "test"
owners = ["alice"]
operators = ["alice"]
readers = ["bob"]

[people.alice]
groups = ["oncall"]
[people.bob]
[people.carol]

[networks]
here = ["127.0.0.0/8"]

[always]
anonymous = "allow"
trusted = ["here"]

[jumps.jump-a]
address = ["127.0.0.1:2222"]
source = ["127.0.0.1/32"]

[hosts.web01]
address = ["127.0.0.1:2200"]
host_keys = ["` + HostKey + `"]
[hosts.db01]
address = ["127.0.0.1:2201"]
host_keys = ["` + HostKey + `"]
[hosts."lb*"]
address = ["{host}.test:22"]
host_keys = ["` + HostKey + `"]

[[rule]]
name = "oncall-web"
why = "On-call may enter web servers."
who = ["@oncall"]
hosts = ["web01", "lb*"]
logins = ["root"]
minutes = 30
forwards = ["local db01:5432"]

[[rule]]
name = "oncall-db"
why = "A database takes two."
who = ["@oncall"]
hosts = ["db01"]
logins = ["root"]
minutes = 10
approvals = 1
approvers = ["bob"]
`

// Config makes a CA; the zero value is a good one.
type Config struct {
	Policy  string // "" is Policy
	Geo     ca.FileGeo
	More    []string // addresses to listen on beside Address
	Proxies []string
	Limits  ca.FileLimits // raised by a test that asks more than one network may
	// Vendor makes everybody's keys, so that they count by a production policy that lists it (Vendor.PolicyText); nil: software keys.
	Vendor *attesttest.Vendor
	// Commit makes commits of the ledger fail, before or after they happen.
	Commit func(commit func() error) error
	Now    func() time.Time
	Logger *slog.Logger // nil is silence
	// Resolve answers for hosts that the policy knows by name only; nil knows none, whatever the machine's resolver says.
	Resolve func(ctx context.Context, host string) ([]netip.Addr, error)
}

// CA is a running CA.
type CA struct {
	*ca.CA
	T       testing.TB
	Dir     string
	Address string
	Pins    api.Pins

	cfg    Config
	makers ca.FileAttestation
	stop   context.CancelFunc
	done   chan error
}

// Reason is long enough for every policy.
const Reason = "sso is down, web01 serves 500, INC-4711"

// ready bounds the wait for the service's first answer.
const ready = 10 * time.Second

// New makes a CA and serves it until the test ends.
func New(t testing.TB, cfg Config) *CA {
	t.Helper()
	if cfg.Policy == "" {
		cfg.Policy = Policy
	}
	if cfg.Resolve == nil {
		cfg.Resolve = func(context.Context, string) ([]netip.Addr, error) {
			return nil, errors.New("no name server in a test")
		}
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	c := &CA{T: t, Dir: t.TempDir() + "/ca", cfg: cfg}
	var makers ca.FileAttestation
	if v := cfg.Vendor; v != nil {
		dir := t.TempDir()
		makers = ca.FileAttestation{Roots: []string{filepath.Join(dir, "root.pem")}, Intermediates: []string{filepath.Join(dir, "batch.pem")}}
		Must(t, os.WriteFile(makers.Roots[0], v.RootPEM(), 0o600))
		Must(t, os.WriteFile(makers.Intermediates[0], v.IntermediatePEM(), 0o600))
	}
	c.makers = makers
	// The address is pinned, so it has to be known before the service listens.
	free, err := loopback.Addresses(1)
	Must(t, err)
	c.Address = free[0]
	_, err = ca.Init(context.Background(), ca.InitConfig{Dir: c.Dir, PolicyName: "policy.toml", Policy: []byte(cfg.Policy), Listen: append([]string{c.Address}, cfg.More...), Proxies: cfg.Proxies, Geo: cfg.Geo, Limits: cfg.Limits, Attestation: makers,
		Seal: c.seal(), Credentials: c.credentials()})
	Must(t, err)
	c.Start()
	t.Cleanup(func() { c.Stop(); mutable(filepath.Join(c.Dir, "store")) })
	return c
}

// Start opens and serves the CA, again after Stop.
func (c *CA) Start() {
	c.T.Helper()
	var err error
	c.CA, err = ca.Open(ca.Config{Dir: c.Dir, Credentials: c.credentials(), WorkFactor: scryptFactor, Now: c.cfg.Now, Logger: c.cfg.Logger, Resolve: c.cfg.Resolve, Commit: c.cfg.Commit})
	Must(c.T, err)
	ctx, cancel := context.WithCancel(context.Background())
	c.stop, c.done = cancel, make(chan error, 1)
	go func() { c.done <- c.Serve(ctx) }()
	for end := time.Now().Add(ready); ; time.Sleep(2 * time.Millisecond) {
		// A whole handshake: a connection alone is taken before the service has recorded its start.
		if conn, err := tls.Dial("tcp", c.Address, &tls.Config{InsecureSkipVerify: true}); err == nil {
			conn.Close()
			break
		} else if time.Now().After(end) {
			c.T.Fatal(err)
		}
		select {
		case err := <-c.done:
			c.T.Fatalf("serving: %v", err)
		default:
		}
	}
	site, err := c.SiteAnswer(context.Background())
	Must(c.T, err)
	c.Pins = api.Pins{Site: site.Site, Checkpoint: site.Entry.Checkpoint}
}

// Stop ends the service as a signal would.
func (c *CA) Stop() {
	if c.stop == nil {
		return
	}
	c.stop()
	if err := <-c.done; err != nil && !errors.Is(err, http.ErrServerClosed) && !errors.Is(err, context.Canceled) {
		c.T.Errorf("serving: %v", err)
	}
	if err := c.Close(); err != nil {
		c.T.Errorf("closing: %v", err)
	}
	c.stop = nil
}

// Client speaks to the CA; signer may be nil.
func (c *CA) Client(signer ssh.Signer) *client.Client {
	c.T.Helper()
	return c.ClientAt(signer, c.cfg.Now)
}

// ClientAt is Client on a machine with a clock of its own.
func (c *CA) ClientAt(signer ssh.Signer, now func() time.Time) *client.Client {
	c.T.Helper()
	cl, err := client.New(client.Config{Pins: c.Pins, Signer: signer, Now: now})
	Must(c.T, err)
	c.T.Cleanup(cl.Close)
	return cl
}

// Token invites a person.
func (c *CA) Token(person string) api.Token {
	c.T.Helper()
	t, err := c.Invite(context.Background(), api.ForPerson, person)
	Must(c.T, err)
	return t
}

// JumpToken invites a jump.
func (c *CA) JumpToken(jump string) api.Token {
	c.T.Helper()
	t, err := c.Invite(context.Background(), api.ForJump, jump)
	Must(c.T, err)
	return t
}

// NewKey makes an ed25519 key in memory.
func NewKey(t testing.TB) ssh.Signer {
	t.Helper()
	_, priv, err := ed25519.GenerateKey(rand.Reader)
	Must(t, err)
	s, err := ssh.NewSignerFromKey(priv)
	Must(t, err)
	return s
}

// Line is a key or certificate in authorized_keys form.
func Line(k ssh.PublicKey) string { return strings.TrimSpace(string(ssh.MarshalAuthorizedKey(k))) }

// Must ends the test on an error.
func Must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func (c *CA) now() time.Time {
	if c.cfg.Now != nil {
		return c.cfg.Now().UTC().Truncate(time.Second)
	}
	return time.Now().UTC().Truncate(time.Second)
}

// Destroy takes all that a stopped CA has away: its machine burned.
func (c *CA) Destroy() {
	c.T.Helper()
	mutable(filepath.Join(c.Dir, "store"))
	Must(c.T, os.RemoveAll(c.Dir))
}

// Succeed makes the CA that follows a destroyed one, in the same place and at the same address, from a copy of its ledger and its standby keys; it waits for
// its founders. Signed then waits until it serves.
func (c *CA) Succeed(from, checkpoint, standby string) (signed func()) {
	c.T.Helper()
	cfg := ca.SucceedConfig{Dir: c.Dir, Ledger: from, Checkpoint: checkpoint, LedgerKey: c.Pins.Site.LedgerKey, Standby: standby, Passphrase: []byte(StandbyPassphrase),
		Listen: append([]string{c.Address}, c.cfg.More...), Geo: c.cfg.Geo, Attestation: c.makers, Seal: c.seal(), Now: time.Now}
	_, err := ca.Succeed(context.Background(), cfg)
	Must(c.T, err)
	done := make(chan error, 1)
	listens := make(chan struct{})
	go func() {
		done <- ca.AwaitSuccession(context.Background(), ca.Config{Dir: c.Dir, Credentials: c.credentials(), Logger: c.cfg.Logger, Ready: func() { close(listens) }})
	}()
	select {
	case <-listens:
	case err := <-done:
		c.T.Fatalf("it waits for nobody: %v", err)
	}
	return func() {
		c.T.Helper()
		Must(c.T, <-done)
		c.Start()
	}
}
