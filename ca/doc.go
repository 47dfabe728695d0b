// Package ca is the certificate authority: requests → challenge → decision → certificate, enrolment, passes, sessions, the ledger.
//
// What it guarantees, and to whom:
//   - to everybody: a certificate exists only after an enrolled hardware key signed the exact statement of what was asked, and the
//     decision and the certificate are ledger entries, durable before the answer leaves (all goes through state.Do).
//   - to the operator: who has not signed with an enrolled key writes nothing but one summing entry a minute, holds no memory
//     beyond fixed bounds, and learns neither who is enrolled nor what the policy says.
//   - to the auditor: every decision's entry carries the policy's hash and each fact that it stood on.
package ca

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"breakglass/ca/api"
	"breakglass/ca/state"
	"breakglass/internal/attest"
	"breakglass/internal/name"
	"breakglass/internal/statement"
	"breakglass/ledger"
	"breakglass/policy"
	"breakglass/policy/geo"
)

// Version is what ca.started entries say.
const Version = "0.1"

// Config opens a CA.
type Config struct {
	Dir    string
	Now    func() time.Time // nil is time.Now
	Logger *slog.Logger     // nil is slog.Default
	// Ready, if not nil, is called once the CA listens.
	Ready func()
	// Credentials is $CREDENTIALS_DIRECTORY, or "". Passphrase is asked for sealed keys where no credential holds it; nil can't be asked.
	Credentials string
	Passphrase  func() ([]byte, error)
	// Commit stands in place of each commit of the ledger and calls it, or doesn't; nil just commits. Tests alone set it.
	Commit func(commit func() error) error
	// WorkFactor of scrypt for keys that are sealed anew; 0 is custody.WorkFactor.
	WorkFactor int
	// Resolve looks up the hosts that the policy knows by name only; nil asks the system's resolver. Nothing else needs it.
	Resolve func(ctx context.Context, host string) ([]netip.Addr, error)
}

// CA is a running certificate authority. Close it.
type CA struct {
	cfg         Config
	file        File
	keys        *keys
	state       *state.State
	geo         *geo.DB
	store       store
	storeProved bool // that nothing in it can be changed
	policy      atomic.Pointer[policy.Policy]
	proposal    atomic.Pointer[proposal] // what is to follow it; nil is nothing
	rosters     atomic.Pointer[roster]
	challenges  *challenges
	enrolling   *challenges // apart: they live longer, and nobody without an invite can push one out
	limits      *limits
	strangers   *strangers
	calls       *nonces
	changes     *changes
	listening   *listening
	cosigning   *listening // jumps that wait for a head to cosign
	witness     *witnessing
	revocations krlCache
	seen        *seen
	onCall      *onCallLists
	metrics     *metrics
	decoySeed   [32]byte
	tokens      *tokens // that say from where somebody is seen
	clocks      clocks
	callLimits  *callLimits
	readBacks   readBacks
	watching    *watching
	trust       attest.Trust
	log         *slog.Logger

	// frozen is why nothing is appended; thawing guards its changes.
	frozen  atomic.Pointer[Frozen]
	thawing sync.Mutex
	tails   tails
	follows *lost // the ledger that this one follows; nil: none

	// proposing guards the proposal's file: one at a time.
	proposing sync.Mutex
	// checking is held while an uploaded policy is judged.
	checking sync.Mutex
	// rotation guards the configuration: one rotation at a time.
	rotation sync.Mutex
	prepared atomic.Pointer[prepared]
}

// Open opens the CA that Init made in cfg.Dir.
func Open(cfg Config) (*CA, error) {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.Default()
	}
	if cfg.Resolve == nil {
		cfg.Resolve = func(ctx context.Context, host string) ([]netip.Addr, error) {
			return net.DefaultResolver.LookupNetIP(ctx, "ip", host)
		}
	}
	c := &CA{cfg: cfg, log: cfg.Logger}
	err := notRestoring(cfg.Dir)
	if err != nil {
		return nil, err
	}
	if f, err := readSuccession(cfg.Dir); err != nil || f != nil {
		return nil, errors.Join(err, ErrUnsigned)
	}
	if c.file, err = readFile(filepath.Join(cfg.Dir, "config.toml")); err != nil {
		return nil, err
	}
	if c.keys, err = loadKeys(cfg, c.file.Keys); err != nil {
		return nil, err
	}
	c.geo = geo.New(geo.Config(c.file.Geo))
	if c.file.Geo != (FileGeo{}) {
		if err := c.geo.Reload(); err != nil { // without it, unknown is the bad case: the CA still serves trusted networks
			c.log.Error("geo database can't be read: what it would answer is unknown, outside of trusted networks", "error", err)
		}
	}
	if c.store, err = openStore(cfg.Dir, c.file.Store, c.manifestOf, c.keepOf); err != nil {
		return nil, fmt.Errorf("opening the transcript store: %w", err)
	}
	if c.state, err = state.Open(state.Config{Dir: cfg.Dir, Origin: c.keys.ledger.Name(), Signer: c.keys.ledger, Now: cfg.Now, Commit: cfg.Commit}); err != nil {
		return nil, err
	}
	if c.trust, err = c.file.Attestation.load(cfg.Dir); err != nil { // those who are enrolled must get in all the same
		c.log.Error("the makers' certificates can't be read: no key can be enrolled in production", "error", err)
	}
	// Decoys must be the same after a restart, or a restart would tell them from real keys.
	c.decoySeed = c.keys.decoySeed()
	c.tokens = &tokens{origin: c.keys.ledger.Name(), now: c.now}
	rand.Read(c.tokens.key[:])
	c.enrolling = newChallenges(cfg.Now)
	c.challenges, c.limits, c.calls = newChallenges(cfg.Now), newLimits(c.file.Limits, cfg.Now), newNonces(cfg.Now)
	c.callLimits = newCallLimits(c.file.Limits, cfg.Now)
	c.strangers = newStrangers(c)
	c.changes, c.seen, c.listening, c.cosigning = newChanges(), newSeen(), newListening(), newListening()
	c.watching = newWatching()
	if err := c.loadWitnessed(); err != nil {
		c.state.Close()
		return nil, err
	}
	c.onCall = newOnCallLists(cfg.Dir)
	c.metrics = newMetrics(c)
	if err := c.loadPolicy(); err != nil {
		c.state.Close()
		return nil, err
	}
	if err := errors.Join(c.findFrozen(), c.findLost()); err != nil {
		c.state.Close()
		return nil, err
	}
	c.loadProposal()
	return c, nil
}

// loadPolicy reads the policy in force from the ledger: the file beside it is only what is to come.
func (c *CA) loadPolicy() error {
	return c.state.View(context.Background(), func(tx *state.Tx) error {
		site, err := tx.Site()
		if errors.Is(err, state.ErrNotFound) {
			return nil // Init is at work
		} else if err != nil {
			return err
		}
		if err := c.keys.choose(site.Site); err != nil {
			return err
		}
		p, err := readPolicy(tx, site)
		if err != nil {
			return err
		}
		c.policy.Store(p)
		return nil
	})
}

// Close flushes the strangers' sum and closes the state.
func (c *CA) Close() error {
	c.strangers.flush()
	return errors.Join(c.state.Close(), c.follows.close())
}

// Rebuild makes every table anew from the ledger.
func (c *CA) Rebuild() error { return c.state.Rebuild() }

func (c *CA) now() time.Time { return c.cfg.Now().UTC() }

// entry begins an entry of now.
func (c *CA) entry(actor ledger.Actor, s ledger.Subject, f ledger.Facts) *ledger.Entry {
	return &ledger.Entry{Time: ledger.At(c.now()), Actor: actor, Subject: s, Facts: f}
}

// site is the site as of now.
func (c *CA) site(ctx context.Context) (s state.Site, err error) {
	err = c.state.View(ctx, func(tx *state.Tx) error { s, err = tx.Site(); return err })
	return s, err
}

// newSecret draws a token's secret and gives the hash under which the ledger knows it.
func newSecret() (secret [32]byte, hash statement.Hash) {
	rand.Read(secret[:])
	return secret, sha256.Sum256(secret[:])
}

// inviteLifetime is how long a token is good: long enough to be carried to somebody.
const inviteLifetime = 24 * time.Hour

// Invite makes a one-time token for a person (api.ForPerson) or a jump (api.ForJump). It is local root's until the founding; in the
// demo profile, which has no operators' keys to ask before the first enrolment, also after.
func (c *CA) Invite(ctx context.Context, kind, who string) (api.Token, error) {
	var t api.Token
	site, err := c.site(ctx)
	if err != nil {
		return t, err
	}
	if site.Founded && site.Site.Profile != string(policy.Demo) {
		return t, &api.Problem{Status: 403, Code: api.CodeOperatorNeeded, Detail: "after the founding an invite takes an operator's touch, on the machine where their key is",
			Next: []string{"an operator, there: breakglass-ca invite " + inviteArgs(kind, who)}}
	}
	p := c.policy.Load()
	switch kind {
	case api.ForPerson:
		if _, ok := p.Person(name.Person(who)); !ok {
			return t, &api.Problem{Status: 404, Code: api.CodeNotFound, Detail: fmt.Sprintf("%q is no person of the policy", who), Next: []string{"add [people." + who + "] to the policy"}}
		}
	case api.ForJump:
		if _, ok := p.Jump(name.Jump(who)); !ok {
			return t, &api.Problem{Status: 404, Code: api.CodeNotFound, Detail: fmt.Sprintf("%q is no jump of the policy", who), Next: []string{"add [jumps." + who + "] to the policy"}}
		}
	default:
		return t, fmt.Errorf("invite for %q", kind)
	}
	secret, hash := newSecret()
	expires := c.now().Add(inviteLifetime).Truncate(time.Second)
	s := ledger.Subject{}
	if kind == api.ForPerson {
		s.Person = name.Person(who)
	} else {
		s.Jump = name.Jump(who)
	}
	if err := c.state.Do(ctx, func(tx *state.Tx) error {
		_, _, err := tx.Append(c.entry(ledger.ActorRoot, s, &ledger.InviteCreated{Invite: hash, For: kind, Name: who, Expires: ledger.At(expires)}))
		return err
	}); err != nil {
		return t, err
	}
	_, note := c.state.Head()
	nonce := statement.Nonce(secret)
	text, _ := nonce.MarshalText()
	return api.Token{Pins: api.Pins{Site: site.Site, Checkpoint: note}, For: kind, Name: who, Secret: string(text), Expires: expires}, nil
}

// Status is what an operator sees first.
type Status struct {
	Name, Profile, Origin string
	Founded               bool
	Policy                string
	Addresses             []string
	Entries               int64
	Checkpoint            string
	Keys, Recipients      int
	Jumps                 []JumpStatus
	OpenSessions          int
	Geo                   []GeoStatus
	// Founding is what is missing until the site is founded; nil once it is.
	Founding *api.FoundingState
	Rootless []string // models of the policy for which no root certificate is at hand
	OnCall   []OnCallStatus
	Frozen   *FrozenStatus // nil: all is well
	Witness  Witnessing
	Unread   []RecipientFault // what would keep recordings from being read
}

// Status reads the status.
func (c *CA) Status(ctx context.Context) (*Status, error) {
	st := &Status{}
	err := c.state.View(ctx, func(tx *state.Tx) error {
		site, err := tx.Site()
		if err != nil {
			return err
		}
		st.Name, st.Profile, st.Origin, st.Founded = site.Site.Name, site.Site.Profile, site.Site.Origin, site.Founded
		st.Policy, st.Addresses, st.Entries = site.Policy, site.Site.Addresses, tx.Size()
		for _, p := range c.policy.Load().People() {
			k, err := tx.Keys(p)
			if err != nil {
				return err
			}
			st.Keys += len(k)
		}
		r, err := tx.Recipients()
		if err != nil {
			return err
		}
		st.Recipients = len(r)
		if len(r) > 0 { // without any, the status says so by itself
			s, err := c.recipientSet(tx, c.policy.Load(), c.now())
			if err != nil {
				return err
			}
			age, _, err := tx.Recovery()
			if err != nil {
				return err
			}
			st.Unread = judgeSet(c.policy.Load(), r, s, age != "")
		}
		if st.Jumps, err = c.jumpStatus(tx); err != nil {
			return err
		}
		if st.Frozen, err = c.frozenStatus(tx); err != nil {
			return err
		}
		if st.Witness, err = c.witnessStatus(site.Site, c.now()); err != nil {
			return err
		}
		open, err := tx.OpenSessions()
		st.OpenSessions = len(open)
		return err
	})
	if err == nil {
		st.Founding, err = c.FoundingState(ctx)
	}
	_, st.Checkpoint = c.state.Head()
	st.Geo = c.geoStatus(c.policy.Load())
	st.Rootless = c.missingRoots(c.policy.Load())
	st.OnCall = c.onCall.status(c.policy.Load(), c.now())
	return st, err
}

// addr is the address of a connection's other side, unmapped.
func addr(hostport string) netip.Addr {
	ap, err := netip.ParseAddrPort(hostport)
	if err != nil {
		return netip.Addr{}
	}
	return ap.Addr().Unmap().WithZone("")
}

// Checkpoint is the newest signed head.
func (c *CA) Checkpoint() string {
	_, note := c.state.Head()
	return note
}
