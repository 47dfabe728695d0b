package main

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/pelletier/go-toml/v2"
	"golang.org/x/crypto/ssh"

	"breakglass/ca/api"
	"breakglass/internal/durable"
	"breakglass/internal/name"
	"breakglass/internal/proxyproto"
)

// directory is the jump's --dir: config.toml, pins, checkpoint, keys/ (0600), journal/, status.json.
type directory string

func (d directory) path(parts ...string) string {
	return filepath.Join(append([]string{string(d)}, parts...)...)
}

// config is config.toml.
type config struct {
	Name      string   `toml:"name" comment:"as it joined; the policy names it too"`
	Listen    []string `toml:"listen" comment:"IP:PORT"`
	Advertise []string `toml:"advertise" comment:"IP:PORT where people reach it; known to the CA since the join"`
	Source    []string `toml:"source" comment:"IPs that hosts see; session certificates are good from there alone"`
	Proxies   []string `toml:"proxies,omitempty" comment:"proxies in front of this jump (IP or network) that send a PROXY v2 header; nobody else's is believed"`
	Journal   struct {
		Segments   int `toml:"segments" comment:"recordings wait here until they are stored, running sessions' too; it only grows"`
		SegmentMiB int `toml:"segment_mib"`
	} `toml:"journal" comment:"lies in journal/ under this directory: give it a filesystem, better a device, of its own"`
	Drain struct {
		Seconds int `toml:"seconds" comment:"what runs may go on for so long after SIGTERM, while nobody new is let in; 0: it is cut at once. A second SIGTERM doesn't wait"`
	} `toml:"drain"`
	Metrics struct {
		Listen         string `toml:"listen" comment:"IP:PORT on loopback for Prometheus (GET /metrics); empty: nowhere. They name no person and no host"`
		BeyondLoopback bool   `toml:"beyond_loopback,omitempty"`
	} `toml:"metrics"`
}

const (
	// defaultDrain lets people finish a thought; whoever has more to do is told when it ends, and that another jump takes them.
	defaultDrain = 10 * time.Minute
	// maxDrain: a jump that is going down for longer than a day isn't.
	maxDrain = 24 * time.Hour
)

// Journal sizes: 256 MiB holds what running sessions and an absent store may leave.
const (
	defaultSegments   = 16
	defaultSegmentMiB = 16
	maxSegments       = 1 << 16
	maxSegmentMiB     = 1 << 12
)

func (d directory) writeConfig(c *config) error {
	text, err := toml.Marshal(c)
	if err != nil {
		return fmt.Errorf("writing config: %w", err)
	}
	return durable.WriteNew(d.path("config.toml"), text, 0o600)
}

// readConfig reads it strictly and judges every value.
func (d directory) readConfig() (*config, error) {
	path := d.path("config.toml")
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, withHint(fmt.Errorf("reading config: %s is not there", path),
			"on the CA: breakglass-ca invite --jump NAME", "here: breakglass-jump join TOKEN --dir "+string(d))
	}
	if err != nil {
		return nil, fmt.Errorf("reading config: %w", err)
	}
	defer f.Close()
	c := config{}
	c.Drain.Seconds = int(defaultDrain / time.Second) // a file of before says nothing
	if err := toml.NewDecoder(f).DisallowUnknownFields().Decode(&c); err != nil {
		var unknown *toml.StrictMissingError
		var where *toml.DecodeError
		switch {
		case errors.As(err, &unknown):
			err = fmt.Errorf("%s: unknown key\n%s", path, unknown.String())
		case errors.As(err, &where):
			err = fmt.Errorf("%s: %w\n%s", path, err, where.String())
		}
		return nil, fmt.Errorf("reading config: %w", err)
	}
	return &c, c.check(path)
}

// check shows all faults at once.
func (c *config) check(path string) error {
	var errs []error
	bad := func(format string, a ...any) {
		errs = append(errs, fmt.Errorf("reading config: %s: "+format, append([]any{path}, a...)...))
	}
	if _, err := name.ParseJump(c.Name); err != nil {
		bad("name: %w", err)
	}
	for _, l := range []struct {
		key  string
		list []string
	}{{"listen", c.Listen}, {"advertise", c.Advertise}} {
		if len(l.list) == 0 {
			bad("%s is empty", l.key)
		}
		for _, a := range l.list {
			if _, err := netip.ParseAddrPort(a); err != nil {
				bad("%s: %q is not IP:PORT", l.key, a)
			}
		}
	}
	if len(c.Source) == 0 {
		bad("source is empty")
	}
	if _, err := c.sources(); err != nil {
		bad("source: %w", err)
	}
	if _, err := proxyproto.ParseList(c.Proxies); err != nil {
		bad("%w", err)
	}
	if c.Journal.Segments < 3 || c.Journal.Segments > maxSegments || c.Journal.SegmentMiB < 1 || c.Journal.SegmentMiB > maxSegmentMiB {
		bad("journal: %d segments of %d MiB", c.Journal.Segments, c.Journal.SegmentMiB)
	}
	if c.Drain.Seconds < 0 || c.Drain.Seconds > int(maxDrain/time.Second) {
		bad("drain: %d seconds, want 0 to %d", c.Drain.Seconds, int(maxDrain/time.Second))
	}
	if m := c.Metrics; m.Listen != "" {
		if a, err := netip.ParseAddrPort(m.Listen); err != nil {
			bad("metrics: listen %q is not IP:PORT", m.Listen)
		} else if !a.Addr().IsLoopback() && !m.BeyondLoopback {
			bad("metrics: listen %q is no loopback address: write beyond_loopback = true if whoever reaches it may read them", m.Listen)
		}
	}
	return errors.Join(errs...)
}

func (c *config) sources() ([]netip.Addr, error) {
	var out []netip.Addr
	for _, s := range c.Source {
		a, err := netip.ParseAddr(s)
		if err != nil {
			return nil, err
		}
		out = append(out, a.Unmap())
	}
	return out, nil
}

func (d directory) readPins() (api.Pins, error) {
	b, err := os.ReadFile(d.path("pins"))
	if err != nil {
		return api.Pins{}, fmt.Errorf("reading pins: %w", err)
	}
	p, err := api.ParsePins(b)
	if err != nil {
		return api.Pins{}, fmt.Errorf("reading pins: %w", err)
	}
	return p, nil
}

func (d directory) writePins(p api.Pins) error {
	b, err := p.Marshal()
	if err != nil {
		return fmt.Errorf("writing pins: %w", err)
	}
	return durable.WriteFile(d.path("pins"), b, 0o644)
}

// Keys of a jump: one signs facts and calls, one answers as its SSH host key.
const (
	keyFacts = "jump"
	keyHost  = "host"
)

// makeKey makes a key, or reads the one that an interrupted join left: a token is spent only once, its keys stay the same.
func (d directory) makeKey(file string) (ssh.Signer, error) {
	s, err := d.readKey(file)
	if !errors.Is(err, fs.ErrNotExist) {
		return s, err
	}
	_, priv, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("making key %s: %w", file, err)
	}
	block, err := ssh.MarshalPrivateKey(priv, "breakglass-jump "+file)
	if err != nil {
		return nil, fmt.Errorf("making key %s: %w", file, err)
	}
	if err := durable.WriteNew(d.path("keys", file), pem.EncodeToMemory(block), 0o600); err != nil {
		return nil, err
	}
	return d.readKey(file)
}

func (d directory) readKey(file string) (ssh.Signer, error) {
	path := d.path("keys", file)
	st, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("reading key: %w", err)
	}
	if st.Mode().Perm()&0o077 != 0 {
		return nil, withHint(fmt.Errorf("reading key: %s is open to others (%v)", path, st.Mode().Perm()), "chmod 600 "+path)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("reading key: %w", err)
	}
	s, err := ssh.ParsePrivateKey(b)
	if err != nil {
		return nil, fmt.Errorf("reading key: %s: %w", path, err)
	}
	if s.PublicKey().Type() != ssh.KeyAlgoED25519 {
		return nil, fmt.Errorf("reading key: %s is %s, want ed25519", path, s.PublicKey().Type())
	}
	return s, nil
}

// memory keeps the newest checkpoint of the CA that was seen, so that an older history is noticed after a restart too.
type memory struct{ path string }

func (m memory) Last() (string, error) {
	b, err := os.ReadFile(m.path)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	return string(b), err
}

func (m memory) Save(note string) error { return durable.WriteFile(m.path, []byte(note), 0o644) }

func publicLine(k ssh.PublicKey) string {
	return strings.TrimSpace(string(ssh.MarshalAuthorizedKey(k)))
}
