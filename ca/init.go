package ca

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"

	"breakglass/ca/state"
	"breakglass/internal/durable"
	"breakglass/internal/policyfiles"
	"breakglass/internal/policytext"
	"breakglass/internal/proxyproto"
	"breakglass/internal/statement"
	"breakglass/ledger"
	"breakglass/policy"
)

// InitConfig says what to make.
type InitConfig struct {
	Dir        string
	PolicyName string // for error texts
	Policy     []byte
	Listen     []string // IP:PORT, one or more
	Proxies    []string // IP or network: in front of the CA, with PROXY v2
	Advertise  []string // IP:PORT where clients reach it; empty is Listen
	Geo        FileGeo
	// Attestation names the makers' certificates: without them a production site enrols nobody.
	Attestation FileAttestation
	Limits      FileLimits
	// Witnesses is the site's list of witnesses; ledger.DefaultWitnesses if it is empty.
	Witnesses []string
	// Seal says how the keys are kept; the zero value, plain files, is for the demo profile alone.
	Seal Sealing
	// Credentials is where Seal.Encrypt's credentials can be read again.
	Credentials string
}

// Init makes a CA: keys (active and standby), config, database, and the first entries: the site, the policy (unsigned: it is
// the first) and, in the demo profile, its own founding.
func Init(ctx context.Context, cfg InitConfig) (site ledger.Site, err error) {
	p, err := policy.Load(cfg.PolicyName, cfg.Policy)
	if err != nil {
		return site, err
	}
	if len(cfg.Advertise) == 0 {
		cfg.Advertise = cfg.Listen
	}
	for _, a := range slices.Concat(cfg.Listen, cfg.Advertise) {
		if _, err := netip.ParseAddrPort(a); err != nil {
			return site, fmt.Errorf("address %q: want IP:PORT, since names may not resolve on the day: %w", a, err)
		}
	}
	for _, a := range cfg.Advertise {
		if h, _, _ := net.SplitHostPort(a); netip.MustParseAddr(h).IsUnspecified() {
			return site, fmt.Errorf("address %q can't be reached from elsewhere: say with --advertise where clients reach the CA", a)
		}
	}
	if _, err := os.Stat(filepath.Join(cfg.Dir, "config.toml")); !errors.Is(err, fs.ErrNotExist) {
		return site, fmt.Errorf("%w: %s", errExists, cfg.Dir)
	}
	if err := durable.MkdirAll(cfg.Dir, 0o700); err != nil {
		return site, err
	}
	// A directory that was there before may be open to others: admin.sock lies in it.
	if err := os.Chmod(cfg.Dir, 0o700); err != nil {
		return site, err
	}
	if _, err := cfg.Attestation.load(cfg.Dir); err != nil {
		return site, err
	}
	if err := cfg.Seal.check(p.Profile == policy.Production); err != nil {
		return site, err
	}
	// The origin names installation and profile for ever; the random part keeps two installations of one name apart.
	var r [4]byte
	rand.Read(r[:])
	origin := fmt.Sprintf("breakglass/%s/%s/%s", p.Site.Name, p.Profile, hex.EncodeToString(r[:]))
	active, err := makeKeys(cfg.Dir, "keys", origin, cfg.Seal)
	if err != nil {
		return site, fmt.Errorf("making keys: %w", err)
	}
	standby, err := makeKeys(cfg.Dir, "standby-keys", "", cfg.Seal)
	if err != nil {
		return site, fmt.Errorf("making standby keys: %w", err)
	}
	pair := func(n string) []string { return []string{active.public[n], standby.public[n]} }
	site = ledger.Site{
		Name: p.Site.Name, Profile: string(p.Profile), Origin: origin, Epoch: 1, LedgerKey: active.ledgerKey,
		ClientCA: pair(KeyClientCA), SessionCA: pair(KeySessionCA), HostCA: pair(KeyHostCA), TLS: pair(KeyTLS),
		Addresses: cfg.Advertise, Jumps: []ledger.SiteJump{}, Witnesses: cfg.Witnesses,
	}
	if len(site.Witnesses) == 0 {
		site.Witnesses = ledger.DefaultWitnesses()
	}
	if _, err := ledger.ParseWitnesses(site); err != nil {
		return site, err
	}
	for _, h := range p.HostCAs() { // the CA that answers for the jump must never be the one that vouches for a target
		for _, own := range site.HostCA {
			if authorized(h.Key) == own {
				return site, fmt.Errorf("%s: the host CA of %s is this CA's own", policy.At(cfg.PolicyName, h.File, h.Line), h.Entry)
			}
		}
	}
	f := File{Proxies: cfg.Proxies, Geo: cfg.Geo, Attestation: cfg.Attestation, Limits: cfg.Limits}
	if f.Listen = cfg.Listen; len(cfg.Listen) == 1 {
		f.Listen = cfg.Listen[0]
	}
	if err := f.checkListens(); err != nil {
		return site, err
	}
	if _, err := proxyproto.ParseList(cfg.Proxies); err != nil {
		return site, err
	}
	for _, n := range allKeys {
		*f.Keys.list(n) = []string{active.places[n].String()}
	}
	f.Keys.Agent = cfg.Seal.Agent
	if policytext.IsSet(string(cfg.Policy)) { // a reload reads the files again
		f.Policy = "policy"
		if err := policyfiles.Write(filepath.Join(cfg.Dir, f.Policy), string(cfg.Policy)); err != nil {
			return site, err
		}
	} else if err := durable.WriteFile(filepath.Join(cfg.Dir, "policy.toml"), cfg.Policy, 0o600); err != nil {
		return site, err
	}
	if err := f.write(filepath.Join(cfg.Dir, "config.toml")); err != nil {
		return site, err
	}
	// What was put away is opened again before it counts.
	c, err := Open(Config{Dir: cfg.Dir, Credentials: cfg.Credentials, Passphrase: func() ([]byte, error) { return slices.Clone(cfg.Seal.Passphrase), nil }})
	if err != nil {
		return site, err
	}
	defer func() { err = errors.Join(err, c.Close()) }()
	var sum statement.Hash
	if err := sum.UnmarshalText([]byte(p.SHA256)); err != nil {
		return site, err
	}
	return site, c.state.Do(ctx, func(tx *state.Tx) error {
		if _, _, err := tx.Append(c.entry(ledger.ActorRoot, ledger.Subject{}, &ledger.SiteCreated{Site: site})); err != nil {
			return err
		}
		if err := c.appendPolicy(tx, ledger.ActorRoot, &ledger.PolicyAdopted{SHA256: sum, How: ledger.AdoptedAtInit}, string(cfg.Policy)); err != nil || p.Profile != policy.Demo {
			return err
		}
		_, _, err := tx.Append(c.entry(ledger.ActorRoot, ledger.Subject{}, &ledger.Founding{Policy: sum, Owners: p.Site.Owners, Keys: []string{}, How: "demo"}))
		return err
	})
}
