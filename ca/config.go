package ca

import (
	"bytes"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"

	"github.com/pelletier/go-toml/v2"

	"breakglass/ca/custody"
	"breakglass/internal/durable"
	"breakglass/internal/proxyproto"
)

// File is config.toml.
type File struct {
	// Listen is one IP:PORT or a list of them.
	Listen      any             `toml:"listen" comment:"IP:PORT that the service listens on, or a list of them: one a family, so that people's addresses of both are known"`
	Proxies     []string        `toml:"proxies,omitempty" comment:"proxies in front of the CA (IP or network) that send a PROXY v2 header; nobody else's is believed, and no line of HTTP"`
	Policy      string          `toml:"policy" comment:"the file, or directory of files, that is proposed as the next policy when the service is told to reload (SIGHUP): policy.toml.\nThe policy in force stands in the ledger; owners sign what follows it."`
	Geo         FileGeo         `toml:"geo" comment:"MaxMind databases; without them every address outside of a trusted network is unknown"`
	Attestation FileAttestation `toml:"attestation" comment:"certificates of the makers of hardware keys; relative paths are from this file"`
	Keys        FileKeys        `toml:"keys" comment:"where each private key is: sealed:PATH, credential:NAME, agent:SHA256:FINGERPRINT or, in the demo profile, file:PATH.\nTwo places of one key stand here during a rotation; the ledger says which is active."`
	Metrics     FileMetrics     `toml:"metrics" comment:"figures for a monitoring system"`
	Store       FileStore       `toml:"store" comment:"where recordings are kept: files in store/ under this directory, or a bucket with Object Lock"`
	Limits      FileLimits      `toml:"limits" comment:"what may be asked without a signature, asks a second and how many at once; 0 is the default"`
}

// FileMetrics says where figures for a monitoring system are read (Prometheus' text format, GET /metrics). They name no person and no host, but
// who reads them sees when somebody breaks glass: nobody beyond the machine does, unless it says so.
type FileMetrics struct {
	Listen         string `toml:"listen" comment:"IP:PORT on loopback; nothing is off"`
	BeyondLoopback bool   `toml:"beyond_loopback" comment:"true: listen may be another address, which whoever reaches it can read"`
}

func (m *FileMetrics) check() error {
	if m.Listen == "" {
		return nil
	}
	a, err := netip.ParseAddrPort(m.Listen)
	if err != nil {
		return fmt.Errorf("[metrics] listen = %q: want IP:PORT", m.Listen)
	}
	if !a.Addr().Unmap().IsLoopback() && !m.BeyondLoopback {
		return fmt.Errorf("[metrics] listen = %q is no loopback address: write beyond_loopback = true if whoever reaches it may read them", m.Listen)
	}
	return nil
}

// FileAttestation names the vendors' certificates by which hardware keys prove their make. None is shipped. A root counts only where the
// policy lists its hash, which one operator alone can't change.
type FileAttestation struct {
	Roots         []string `toml:"roots" comment:"PEM files"`
	Intermediates []string `toml:"intermediates" comment:"PEM files"`
}

// FileLimits are the limits of unsigned asks. Those of one network (/24, /48) keep it from taking what all have together; raise them
// where many people sit behind one address, or where a load is measured.
type FileLimits struct {
	Network      float64 `toml:"network" comment:"one network (/24, /48), asks a second: 10"`
	NetworkBurst int     `toml:"network_burst" comment:"at once: 200"`
	All          float64 `toml:"all" comment:"everybody together, asks a second: 200"`
	AllBurst     int     `toml:"all_burst" comment:"at once: 1000"`
}

// FileKeys names the places of the CA's keys (package custody). Nothing is "file:keys/NAME", which a production site refuses.
type FileKeys struct {
	ClientCA  []string `toml:"client_ca"`
	SessionCA []string `toml:"session_ca"`
	HostCA    []string `toml:"host_ca"`
	Ledger    []string `toml:"ledger" comment:"what seals the seeds of codes is derived from it"`
	TLS       []string `toml:"tls"`
	Agent     string   `toml:"agent" comment:"the socket of the ssh-agent that agent: means"`
}

func (f *FileKeys) list(key string) *[]string {
	switch key {
	case KeyClientCA:
		return &f.ClientCA
	case KeySessionCA:
		return &f.SessionCA
	case KeyHostCA:
		return &f.HostCA
	case KeyLedger:
		return &f.Ledger
	}
	return &f.TLS
}

// maxPlaces bounds the places of one key: the active one, and its successor while a rotation is under way.
const maxPlaces = 2

func (f *FileKeys) places(key string) ([]custody.Place, error) {
	list := *f.list(key)
	if len(list) == 0 {
		list = []string{custody.Place{Kind: custody.File, At: filepath.Join("keys", key)}.String()}
	}
	if len(list) > maxPlaces || key == KeyLedger && len(list) > 1 {
		return nil, fmt.Errorf("%w: [keys] %s names %d places", custody.ErrPlace, key, len(list))
	}
	var out []custody.Place
	for _, s := range list {
		p, err := custody.ParsePlace(s)
		if err == nil && p.Kind == custody.Agent && (key == KeyLedger || key == KeyTLS) {
			err = fmt.Errorf("%w: only the SSH keys can be in an agent", custody.ErrPlace)
		}
		if err != nil {
			return nil, fmt.Errorf("[keys] %s: %w", key, err)
		}
		out = append(out, p)
	}
	return out, nil
}

// FileGeo names databases.
type FileGeo struct {
	Country   string `toml:"country" comment:"GeoIP2 or GeoLite2 Country or City; City knows subdivisions"`
	ASN       string `toml:"asn" comment:"GeoLite2 ASN or GeoIP2 ISP"`
	Anonymous string `toml:"anonymous" comment:"GeoIP2 Anonymous-IP or GeoIP Anonymous Plus"`
}

// readFile reads config.toml strictly; unknown keys are shown with line and caret.
func readFile(path string) (f File, err error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return f, fmt.Errorf("reading the configuration: %w", err)
	}
	d := toml.NewDecoder(bytes.NewReader(b)).DisallowUnknownFields()
	if err := d.Decode(&f); err != nil {
		var strict *toml.StrictMissingError
		var syntax *toml.DecodeError
		switch {
		case errors.As(err, &strict):
			return f, fmt.Errorf("reading the configuration: %s:\n%s", path, strict.String())
		case errors.As(err, &syntax):
			return f, fmt.Errorf("reading the configuration: %s:\n%s", path, syntax.String())
		}
		return f, fmt.Errorf("reading the configuration: %s: %w", path, err)
	}
	if err := f.checkListens(); err != nil {
		return f, fmt.Errorf("reading the configuration: %s: %w", path, err)
	}
	if _, err := proxyproto.ParseList(f.Proxies); err != nil {
		return f, fmt.Errorf("reading the configuration: %s: %w", path, err)
	}
	if l := f.Limits; l.Network < 0 || l.NetworkBurst < 0 || l.All < 0 || l.AllBurst < 0 {
		return f, fmt.Errorf("reading the configuration: %s: [limits]: a limit below 0", path)
	}
	if f.Store.S3.used() {
		if err := f.Store.S3.check(); err != nil {
			return f, fmt.Errorf("reading the configuration: %s: %w", path, err)
		}
	}
	if err := f.Metrics.check(); err != nil {
		return f, fmt.Errorf("reading the configuration: %s: %w", path, err)
	}
	for _, n := range allKeys {
		if _, err := f.Keys.places(n); err != nil {
			return f, fmt.Errorf("reading the configuration: %s: %w", path, err)
		}
	}
	return f, nil
}

// maxListens bounds the addresses to listen on.
const maxListens = 16

// listens are the addresses to listen on; checkListens has judged them.
func (f File) listens() []string {
	switch l := f.Listen.(type) {
	case string:
		return []string{l}
	case []string:
		return l
	case []any:
		var out []string
		for _, x := range l {
			s, _ := x.(string)
			out = append(out, s)
		}
		return out
	}
	return nil
}

func (f File) checkListens() error {
	l := f.listens()
	if len(l) == 0 || len(l) > maxListens {
		return fmt.Errorf(`listen: want "IP:PORT", or a list of at most %d`, maxListens)
	}
	for i, s := range l {
		if _, err := netip.ParseAddrPort(s); err != nil {
			return fmt.Errorf("listen: %q is not IP:PORT", s)
		}
		if slices.Contains(l[:i], s) {
			return fmt.Errorf("listen: %q stands there twice", s)
		}
	}
	return nil
}

func (f File) write(path string) error {
	b, err := toml.Marshal(f)
	if err != nil {
		return err
	}
	return durable.WriteFile(path, b, 0o600)
}
