package ca

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"breakglass/ca/custody"
	"breakglass/ca/state"
	"breakglass/internal/durable"
	"breakglass/internal/name"
	"breakglass/internal/policyfiles"
	"breakglass/internal/policytext"
	"breakglass/internal/statement"
	"breakglass/ledger"
	"breakglass/policy"
)

// What can't be mended is succeeded: a new ledger of a new origin, one epoch later, whose first entry names the last head of the lost one and is signed by
// two of its founders (all, where there are fewer). Hosts, clients and jumps trust the standby keys since they were set up, so that nobody has to touch
// a host: what was standby is active, and new standby keys are made.
//
// It goes on with the lost ledger's policy, its jumps, and the enrolments and recipients that counted; not with codes of the other channel, whose seeds
// only the lost ledger's key opens, not with what was suspended, and not with grants: people ask again.
//
//	breakglass-ca succeed init   on the new machine, from a copy of the lost ledger and the standby keys; nothing is signed yet
//	breakglass-ca serve          shows it to the founders and takes their signatures
//	breakglass succeed           each founder, on their own machine; with the last signature the CA goes on
//
// The lost ledger stays in the directory "old": its proofs lead from what clients and jumps hold to the succession.

const (
	successionFile = "succession.json"
	oldDir         = "old"
)

// ErrUnsigned says that a succession waits for its founders.
var ErrUnsigned = errors.New("the succession is not signed yet")

// SucceedConfig says what follows what.
type SucceedConfig struct {
	Dir string // must be empty
	// Ledger is a copy of the lost ca.db and Checkpoint the signed head of it: a backup's, or a jump's.
	Ledger     string
	Checkpoint string
	LedgerKey  string // by pins from elsewhere; "" takes the copy's word for whose it is
	// Standby is the directory with the standby keys, Passphrase what opens them.
	Standby    string
	Passphrase []byte

	Listen, Proxies, Advertise []string // Advertise: nothing is where the lost one was
	Geo                        FileGeo
	Attestation                FileAttestation
	Seal                       Sealing
	Now                        func() time.Time
}

// successionOnDisk is succession.json.
type successionOnDisk struct {
	Facts ledger.SiteSucceeded `json:"facts"`
}

// Succeed makes the directory.
func Succeed(ctx context.Context, cfg SucceedConfig) (*ledger.SiteSucceeded, error) {
	f, err := succeed(ctx, cfg)
	if err != nil {
		return nil, fmt.Errorf("succession: %w", err)
	}
	return f, nil
}

func succeed(ctx context.Context, cfg SucceedConfig) (f *ledger.SiteSucceeded, err error) {
	unlock, err := takeDir(cfg.Dir)
	if err != nil {
		return nil, err
	}
	defer unlock()
	old, site, err := cfg.lost(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, old.Close()) }()
	if err := cfg.Seal.check(site.Profile == string(policy.Production)); err != nil {
		return nil, err
	}
	var r [4]byte
	rand.Read(r[:])
	next := ledger.Site{Name: site.Name, Profile: site.Profile, Origin: fmt.Sprintf("breakglass/%s/%s/%s", site.Name, site.Profile, hex.EncodeToString(r[:])), Epoch: site.Epoch + 1,
		Addresses: cfg.Advertise, Jumps: site.Jumps, Witnesses: site.Witnesses, Retired: site.Retired}
	if len(next.Addresses) == 0 {
		next.Addresses = site.Addresses
	}
	places, err := cfg.keys(&next, site)
	if err != nil {
		return nil, err
	}
	f = &ledger.SiteSucceeded{Old: ledger.OldLedger{Origin: site.Origin, Epoch: site.Epoch, LedgerKey: site.LedgerKey, Checkpoint: cfg.Checkpoint}, Signed: []ledger.SuccessionSigned{}}
	text := ""
	if err := old.View(ctx, func(tx *state.Tx) error {
		at, err := tx.Site()
		if err != nil {
			return err
		}
		if err := f.Policy.UnmarshalText([]byte(at.Policy)); err != nil {
			return err
		}
		if text, err = tx.PolicyText(f.Policy); err != nil {
			return err
		}
		if next.Jumps, err = standingJumps(tx); err != nil {
			return err
		}
		if f.Founders, _, _, _, err = foundersOf(tx); err != nil {
			return err
		}
		list, err := carriedOver(tx)
		if err == nil {
			f.Carried, err = ledger.CarriedHash(list)
		}
		return err
	}); err != nil {
		return nil, err
	}
	f.Site = next
	if err := cfg.write(text, places); err != nil {
		return nil, err
	}
	if err := writeSuccession(cfg.Dir, f); err != nil {
		return nil, err
	}
	return f, durable.Remove(filepath.Join(cfg.Dir, restoringFile))
}

// lost checks the copy of the lost ledger and keeps it.
func (cfg *SucceedConfig) lost(ctx context.Context) (*state.State, ledger.Site, error) {
	var site ledger.Site
	s, err := state.OpenStored(cfg.Ledger)
	if err != nil {
		return nil, site, err
	}
	defer s.Close()
	key := cfg.LedgerKey
	if key == "" {
		for raw, err := range s.Entries(s.Size) {
			if err != nil {
				return nil, site, err
			}
			e, err := ledger.Decode(raw)
			if err != nil {
				return nil, site, err
			}
			if at := siteOf(e); at != nil {
				key = at.LedgerKey
			}
			break
		}
	}
	r, err := ledger.Verify(s.Entries(s.Size), cfg.Checkpoint, key)
	if err != nil {
		return nil, site, err
	}
	if broken(r) {
		return nil, site, fmt.Errorf("%w: %w", ErrBackup, r.Err())
	}
	site = *r.Site
	dir := filepath.Join(cfg.Dir, oldDir)
	if err := durable.MkdirAll(dir, 0o700); err != nil {
		return nil, site, err
	}
	if err := state.Import(ctx, dir, site.Origin, s.Entries(s.Size), r.Checkpoint, restoreBatch); err != nil {
		return nil, site, err
	}
	old, err := state.OpenLost(dir, site.Origin)
	return old, site, err
}

// keys makes what was standby active, makes new standby keys and the ledger's, and names in the site what the lost one trusted beside them as retired.
func (cfg *SucceedConfig) keys(next *ledger.Site, old ledger.Site) (map[string]custody.Place, error) {
	secrets, err := cfg.standby()
	if err != nil {
		return nil, err
	}
	defer func() {
		for _, s := range secrets {
			custody.Wipe(s)
		}
	}()
	places := map[string]custody.Place{}
	fresh, err := makeKeys(cfg.Dir, "standby-keys", "", cfg.Seal)
	if err != nil {
		return nil, err
	}
	if err := durable.MkdirAll(filepath.Join(cfg.Dir, "keys"), 0o700); err != nil {
		return nil, err
	}
	for _, n := range append(slices.Clone(sshKeys), KeyTLS) {
		had := *keyList(&old, n)
		i := slices.IndexFunc(had, func(k string) bool { return secrets[k] != nil })
		if i < 1 {
			return nil, fmt.Errorf("no standby %s of this site is in %s: hosts, jumps and clients would trust no other", n, cfg.Standby)
		}
		if places[n], err = cfg.Seal.keep(cfg.Dir, filepath.Join("keys", n), false, secrets[had[i]]); err != nil {
			return nil, err
		}
		*keyList(next, n) = []string{had[i], fresh.public[n]}
		for j, k := range had {
			if j != i {
				next.Retired = append(slices.Clone(next.Retired), ledger.RetiredKey{Kind: n, Key: k})
			}
		}
	}
	skey, vkey, err := ledger.GenerateKey(next.Origin)
	if err != nil {
		return nil, err
	}
	next.LedgerKey = vkey
	places[KeyLedger], err = cfg.Seal.keep(cfg.Dir, filepath.Join("keys", KeyLedger), false, []byte(skey+"\n"))
	return places, err
}

// standby opens every key in the directory, by its public half.
func (cfg *SucceedConfig) standby() (map[string][]byte, error) {
	es, err := os.ReadDir(cfg.Standby)
	if err != nil {
		return nil, fmt.Errorf("reading the standby keys: %w", err)
	}
	keeper := &custody.Keeper{Dir: cfg.Standby, Passphrase: func() ([]byte, error) { return slices.Clone(cfg.Passphrase), nil }}
	defer keeper.Forget()
	out := map[string][]byte{}
	for _, e := range es {
		if !e.Type().IsRegular() {
			continue
		}
		place := custody.Place{Kind: custody.File, At: e.Name()}
		if filepath.Ext(e.Name()) == ".age" {
			place.Kind = custody.Sealed
		}
		secret, err := keeper.Secret(place)
		if err != nil {
			return nil, fmt.Errorf("opening %s: %w", e.Name(), err)
		}
		if t, err := parseTLS(place, secret); err == nil {
			out[t.spki] = secret
		} else if k, err := custody.Parse(place, secret); err == nil {
			out[authorized(k.Public())] = secret
		} else {
			custody.Wipe(secret)
			return nil, fmt.Errorf("%s is no key of a CA", e.Name())
		}
	}
	return out, nil
}

// write puts configuration and policy in their places.
func (cfg *SucceedConfig) write(text string, places map[string]custody.Place) error {
	f := File{Proxies: cfg.Proxies, Geo: cfg.Geo, Attestation: cfg.Attestation}
	if f.Listen = cfg.Listen; len(cfg.Listen) == 1 {
		f.Listen = cfg.Listen[0]
	}
	if err := f.checkListens(); err != nil {
		return err
	}
	for _, n := range allKeys {
		*f.Keys.list(n) = []string{places[n].String()}
	}
	if policytext.IsSet(text) {
		f.Policy = "policy"
		if err := policyfiles.Write(filepath.Join(cfg.Dir, f.Policy), text); err != nil {
			return err
		}
	} else if err := durable.WriteFile(filepath.Join(cfg.Dir, "policy.toml"), []byte(text), 0o600); err != nil {
		return err
	}
	return f.write(filepath.Join(cfg.Dir, configFile))
}

// standingJumps are the jumps that weren't revoked.
func standingJumps(tx *state.Tx) ([]ledger.SiteJump, error) {
	site, err := tx.Site()
	if err != nil {
		return nil, err
	}
	out := []ledger.SiteJump{}
	for _, j := range site.Site.Jumps {
		if v, err := tx.JumpKeyRevoked(j.Key); err != nil {
			return nil, err
		} else if !v {
			out = append(out, j)
		}
	}
	return out, nil
}

// carriedOver are the enrolments and recipients that counted in the lost ledger at its last entry, in its order: the same whenever it is asked.
func carriedOver(tx *state.Tx) ([]ledger.Carried, error) {
	out := []ledger.Carried{}
	b, err := tx.Entry(tx.Size() - 1)
	if err != nil {
		return nil, err
	}
	last, err := ledger.Decode(b)
	if err != nil {
		return nil, err
	}
	all, err := tx.AllKeys()
	if err != nil {
		return nil, err
	}
	has := map[name.Person]bool{}
	for _, k := range all {
		if _, err := tx.Revoked(ledger.RevokedPerson, string(k.Person)); err == nil {
			continue
		} else if !errors.Is(err, state.ErrNotFound) {
			return nil, err
		}
		if k.Suspended || k.Revoked || !k.Vouched || k.CountsFrom.IsZero() || k.CountsFrom.After(last.Time.Time) {
			continue
		}
		has[k.Person] = true
		out = append(out, ledger.Carried{Person: k.Person, Key: k.Fingerprint, Facts: &ledger.KeyCarried{From: k.Index, Name: k.Name, PublicKey: k.PublicKey, CredentialID: k.Credential,
			Counter: k.Counter, Issued: k.Issued.Unix(), Enrolment: k.Enrolment, Signed: k.Signed, Model: k.Model, Since: ledger.At(k.Since), Proved: ledger.At(k.Proved)}})
	}
	recipients, err := tx.Recipients()
	if err != nil {
		return nil, err
	}
	for _, r := range recipients {
		if has[r.Person] {
			out = append(out, ledger.Carried{Person: r.Person, Facts: &ledger.RecipientCarried{From: r.Index, Age: r.Age, Sealed: r.Sealed}})
		}
	}
	age, at, err := tx.Recovery()
	if err == nil && age != "" {
		out = append(out, ledger.Carried{Facts: &ledger.RecipientCarried{From: at, Age: age, Recovery: true}})
	}
	if err != nil {
		return nil, err
	}
	return out, nil
}

func writeSuccession(dir string, f *ledger.SiteSucceeded) error {
	b, err := json.MarshalIndent(successionOnDisk{*f}, "", "  ")
	if err != nil {
		return err
	}
	return durable.WriteFile(filepath.Join(dir, successionFile), append(b, '\n'), 0o600)
}

// readSuccession gives nil where there is none, or it stands.
func readSuccession(dir string) (*ledger.SiteSucceeded, error) {
	b, err := os.ReadFile(filepath.Join(dir, successionFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	} else if err != nil {
		return nil, err
	}
	d := &successionOnDisk{}
	if err := json.Unmarshal(b, d); err != nil {
		return nil, fmt.Errorf("reading %s: %w", successionFile, err)
	}
	return &d.Facts, nil
}

// statementOf is what a founder signs.
func statementOf(f *ledger.SiteSucceeded, head statement.Checkpoint, person name.Person, now time.Time) (*statement.Succession, error) {
	site, err := ledger.SiteHash(f.Site)
	if err != nil {
		return nil, err
	}
	st := &statement.Succession{Succeeds: f.Old.Origin, LedgerKey: f.Site.LedgerKey, Site: site, Policy: f.Policy, Carried: f.Carried, Founders: personTexts(f.Founders), Profile: f.Site.Profile}
	var id [8]byte
	rand.Read(id[:])
	issued := now.UTC().Truncate(time.Second)
	statement.SetHead(st, statement.Head{Origin: f.Site.Origin, Epoch: f.Site.Epoch, Checkpoint: head, ID: hex.EncodeToString(id[:]), Nonce: statement.NewNonce(),
		Issued: issued, Expires: issued.Add(statement.Validity), Person: person})
	return st, nil
}
