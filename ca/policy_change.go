package ca

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"breakglass/ca/api"
	"breakglass/ca/state"
	"breakglass/internal/durable"
	"breakglass/internal/name"
	"breakglass/internal/policytext"
	"breakglass/internal/statement"
	"breakglass/ledger"
	"breakglass/policy"
)

// This file is where what is to be the next policy waits for its owners. It decides nothing: whoever writes the file beside the service, or carries an
// owner's pass, proposes; the policy in force says who has to sign (policy_sign.go). There is one proposal, a newer one takes its place, and whoever
// signed for another has signed for nothing. It is kept on the disk, so that owners of two time zones needn't hope for no restart.

const (
	proposalFile = "proposal.json"
	// maxPolicyFault bounds, in bytes, what is told of a policy that is refused: an answer's limit, and more than anybody reads.
	maxPolicyFault = 32 << 10
	// maxRefused is how much of that an entry holds.
	maxRefused = 4 << 10
)

// proposal is what is to follow the policy in force. It never changes.
type proposal struct {
	policy *policy.Policy
	sum    statement.Hash
	from   string
	since  time.Time

	mu       sync.Mutex
	previous statement.Hash // that diff is against
	diff     string
}

// proposalOnDisk is it as proposalFile has it.
type proposalOnDisk struct {
	From  string    `json:"from"`
	Since time.Time `json:"since"`
	Text  string    `json:"text"`
}

// changes is the diff against the policy in force and its hash. It takes a moment where the texts are long: the first who asks pays.
func (q *proposal) changes(inForce *policy.Policy) (string, statement.Hash) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if sum := policySum(inForce); q.previous != sum {
		q.previous, q.diff = sum, policytext.Diff(string(inForce.Source), string(q.policy.Source))
	}
	return q.diff, sha256.Sum256([]byte(q.diff))
}

func policySum(p *policy.Policy) statement.Hash { return sha256.Sum256(p.Source) }

// readPolicy reads the policy in force out of the ledger. It was loaded and tested when it came into force.
func readPolicy(tx *state.Tx, site state.Site) (*policy.Policy, error) {
	var sum statement.Hash
	if err := sum.UnmarshalText([]byte(site.Policy)); err != nil {
		return nil, fmt.Errorf("reading the policy in force: %w", err)
	}
	text, err := tx.PolicyText(sum)
	if err != nil {
		return nil, fmt.Errorf("reading the policy in force: %w", err)
	}
	return policy.Load("policy of the ledger", []byte(text))
}

// loadProposal reads what waited when the service stopped. What can't be read any more is logged: it can be proposed again.
func (c *CA) loadProposal() {
	b, err := os.ReadFile(filepath.Join(c.cfg.Dir, proposalFile))
	if errors.Is(err, fs.ErrNotExist) || c.policy.Load() == nil {
		return
	}
	var d proposalOnDisk
	if err == nil {
		err = json.Unmarshal(b, &d)
	}
	var q *proposal
	if err == nil {
		q, err = c.checkProposal("the proposal", d.Text)
	}
	if err != nil {
		c.log.Error("the proposed policy can't be read any more: propose it again", "error", err)
		return
	}
	q.from, q.since = d.From, d.Since
	c.proposal.Store(q)
	if q.sum == policySum(c.policy.Load()) { // the process ended behind the commit that put it in force
		if err := c.dropProposal(q.sum); err != nil {
			c.log.Warn("the proposal's file stays", "error", err)
		}
	}
}

// checkProposal judges a text as the next policy: it loads, its own tests hold, it is of this site and profile for ever, check finds no error in it. All
// that is wrong is in the error.
func (c *CA) checkProposal(file, text string) (*proposal, error) {
	p, err := policy.Load(file, []byte(text))
	if err != nil {
		return nil, err
	}
	var faults []string
	now := c.policy.Load()
	if p.Profile != now.Profile {
		faults = append(faults, fmt.Sprintf("%s: the profile is %q: this site is %q, and that never changes", file, p.Profile, now.Profile))
	}
	if p.Site.Name != now.Site.Name {
		faults = append(faults, fmt.Sprintf("%s: the site is called %q: this one is %q, and that never changes", file, p.Site.Name, now.Site.Name))
	}
	for _, f := range policy.Check(p) {
		if f.Severity == policy.SeverityError {
			faults = append(faults, fmt.Sprintf("%s: %s", policy.At(file, f.File, f.Line), f.Message))
			if f.Next != "" {
				faults = append(faults, "    "+f.Next)
			}
		}
	}
	site, err := c.site(context.Background())
	if err != nil {
		return nil, err
	}
	for _, h := range p.HostCAs() { // the CA that answers for the jump must never be the one that vouches for a target
		if slices.Contains(site.Site.HostCA, authorized(h.Key)) {
			faults = append(faults, fmt.Sprintf("%s: the host CA of %s is this CA's own", policy.At(file, h.File, h.Line), h.Entry))
		}
	}
	if n := len(policytext.Cut(text)); n > policytext.MaxPieces {
		faults = append(faults, fmt.Sprintf("%s: it takes %d entries of the ledger, at most %d fit", file, n, policytext.MaxPieces))
	}
	if len(faults) > 0 {
		return nil, errors.New(strings.Join(faults, "\n"))
	}
	return &proposal{policy: p, sum: policySum(p)}, nil
}

// propose puts a text that was checked in the place of what waited.
func (c *CA) propose(q *proposal, text string) error {
	c.proposing.Lock()
	defer c.proposing.Unlock()
	b, err := json.Marshal(proposalOnDisk{q.from, q.since, text})
	if err != nil {
		return err
	}
	if err := durable.WriteFile(filepath.Join(c.cfg.Dir, proposalFile), b, 0o600); err != nil {
		return err
	}
	c.proposal.Store(q)
	return nil
}

// dropProposal forgets what waited, if it is that.
func (c *CA) dropProposal(sum statement.Hash) error {
	c.proposing.Lock()
	defer c.proposing.Unlock()
	if q := c.proposal.Load(); q == nil || q.sum != sum {
		return nil
	}
	c.proposal.Store(nil)
	if err := durable.Remove(filepath.Join(c.cfg.Dir, proposalFile)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// owner demands a pass of an owner of the policy in force, of a site that is founded.
func (c *CA) owner(ctx context.Context, who *caller) error {
	if who == nil || who.person == "" {
		return passNeeded()
	}
	if p := c.policy.Load(); !p.IsOwner(who.person) {
		return notOwner(p, who.person)
	}
	site, err := c.site(ctx)
	if err == nil && !site.Founded {
		return notFounded()
	}
	return err
}

func notOwner(p *policy.Policy, who name.Person) *api.Problem {
	return &api.Problem{Status: 403, Code: api.CodeNotOwner, Detail: fmt.Sprintf("%s is no owner of the policy in force", who), Next: []string{"ask one of: " + people(p.Site.Owners)}}
}

// proposePolicy is an owner's upload. What is wrong with it is told whole.
func (c *CA) proposePolicy(ctx context.Context, text string, who *caller) (*api.PolicyState, error) {
	if err := c.owner(ctx, who); err != nil {
		return nil, err
	}
	if !c.checking.TryLock() { // a long one takes seconds: a carried-off pass is to keep no processor busy, let alone all
		return nil, &api.Problem{Status: 429, Code: api.CodeTooMany, Detail: "another proposed policy is being checked", Next: []string{"wait a few seconds and ask again"}}
	}
	defer c.checking.Unlock()
	q, err := c.checkProposal("policy.toml", text)
	if err != nil {
		return nil, &api.Problem{Status: 422, Code: api.CodePolicyRefused, Detail: cut(err.Error(), maxPolicyFault),
			Next: []string{"mend it, then: breakglass policy propose FILE", "breakglass-ca policy check FILE says the same beforehand"}}
	}
	if q.sum == policySum(c.policy.Load()) {
		return nil, &api.Problem{Status: 409, Code: api.CodeConflict, Detail: "that policy is in force already"}
	}
	q.from, q.since = string(who.person), c.now().Truncate(time.Second)
	if old := c.proposal.Load(); old == nil || old.sum != q.sum { // who signed it before has signed this
		if err := c.propose(q, text); err != nil {
			return nil, err
		}
	}
	c.log.Info("a policy is proposed", "by", who.person, "sha256", q.sum.String())
	return c.readPolicyState(ctx, who, false)
}

// withdrawPolicy takes an owner's word that nobody is to sign what waits.
func (c *CA) withdrawPolicy(ctx context.Context, sum statement.Hash, who *caller) (*api.PolicyState, error) {
	if err := c.owner(ctx, who); err != nil {
		return nil, err
	}
	if q := c.proposal.Load(); q == nil || q.sum != sum {
		return nil, noProposal()
	}
	if err := c.dropProposal(sum); err != nil {
		return nil, err
	}
	c.log.Info("a proposed policy is withdrawn", "by", who.person, "sha256", sum.String())
	return c.readPolicyState(ctx, who, false)
}

func noProposal() *api.Problem {
	return &api.Problem{Status: 404, Code: api.CodeNoProposal, Detail: "no such policy is proposed", Next: []string{"breakglass policy", "an owner: breakglass policy propose FILE"}}
}

// readPolicyState tells whoever holds a pass what is in force and what is to follow: the rules are no secret among those whom they are about.
func (c *CA) readPolicyState(ctx context.Context, who *caller, texts bool) (*api.PolicyState, error) {
	if who == nil || who.person == "" {
		return nil, passNeeded()
	}
	return c.PolicyState(ctx, texts)
}

// PolicyState is the same for local root.
func (c *CA) PolicyState(ctx context.Context, texts bool) (out *api.PolicyState, err error) {
	err = c.state.View(ctx, func(tx *state.Tx) error {
		out, err = c.policyState(tx, c.policy.Load(), c.proposal.Load(), texts)
		return err
	})
	return out, err
}

func (c *CA) policyState(tx *state.Tx, p *policy.Policy, q *proposal, texts bool) (*api.PolicyState, error) {
	out := &api.PolicyState{Policy: policySum(p), Owners: p.Site.Owners, Signers: p.Site.Signers}
	if texts {
		out.Text = string(p.Source)
	}
	if q == nil || q.sum == out.Policy {
		return out, nil
	}
	_, changes := q.changes(p)
	out.Proposal = &api.PolicyProposal{Policy: q.sum, Changes: changes, From: q.from, Since: q.since, Signed: []name.Person{}, Stale: []name.Person{}}
	if texts {
		out.Proposal.Text = string(q.policy.Source)
	}
	var err error
	out.Proposal.Signed, out.Proposal.Stale, err = c.policySigners(tx, p, q)
	return out, err
}

// policySigners are the owners of the policy in force who signed exactly the proposal, with keys that count now, and those who signed and don't count.
func (c *CA) policySigners(tx *state.Tx, p *policy.Policy, q *proposal) (signed, stale []name.Person, err error) {
	all, err := tx.PolicySignatures()
	if err != nil {
		return nil, nil, err
	}
	_, changes := q.changes(p)
	signed, stale = []name.Person{}, []name.Person{}
	for _, s := range all {
		k, err := tx.Key(s.Key)
		switch {
		case err != nil:
			return nil, nil, err
		case !p.IsOwner(s.Person):
		case s.SHA256 == q.sum.String() && s.Previous == p.SHA256 && s.Changes == changes.String() && c.counted(k, c.now()):
			signed = append(signed, s.Person)
		default:
			stale = append(stale, s.Person)
		}
	}
	return signed, stale, nil
}

// refusePolicy notes that the file beside the service can't be the next policy: in the log whole, and in the ledger once for each text of it.
func (c *CA) refusePolicy(ctx context.Context, file string, text []byte, fault error) error {
	c.log.Error("the policy file is refused: the policy in force goes on", "file", file, "error", fault)
	sum := statement.Hash(sha256.Sum256(text))
	return c.state.Do(ctx, func(tx *state.Tx) error {
		if known, err := tx.PolicyWasRefused(sum); err != nil || known {
			return err
		}
		_, _, err := tx.Append(c.entry(ledger.ActorCA, ledger.Subject{}, &ledger.PolicyRefused{SHA256: sum, Error: cut(fault.Error(), maxRefused)}))
		return err
	})
}

// cut bounds a text at a line's end, if it has one.
func cut(s string, limit int) string {
	if len(s) <= limit {
		return s
	}
	s = strings.ToValidUTF8(s[:limit], "")
	if i := strings.LastIndexByte(s, '\n'); i > 0 {
		s = s[:i]
	}
	return s + "\n… and more"
}

// mayBeLarge says what speaks against somebody's sending more than an ask's bytes: jumps send recordings, owners a policy.
func (c *CA) mayBeLarge(who *caller) error {
	switch p := c.policy.Load(); {
	case who == nil || who.jump == "" && who.person == "":
		return passNeeded()
	case who.jump == "" && !p.IsOwner(who.person):
		return notOwner(p, who.person)
	}
	return nil
}

func (c *CA) policyRoutes(ask func(string, func(*call) (any, error)), on func(string, int64, func(*call) (any, error))) {
	on("GET /v1/policy", 0, func(k *call) (any, error) {
		if err := c.large(k); err != nil {
			return nil, err
		}
		return c.readPolicyState(k.Context(), k.who, true)
	})
	on("POST /v1/policy/proposal", api.MaxPolicy, func(k *call) (any, error) { return c.proposePolicy(k.Context(), string(k.body), k.who) })
	on("POST /v1/policy/withdrawal", api.MaxBody, with(func(k *call, q *api.PolicyWithdraw) (any, error) {
		return c.withdrawPolicy(k.Context(), q.Policy, k.who)
	}))
	ask("POST /v1/policy", with(func(k *call, q *api.PolicyAsk) (any, error) { return c.askPolicy(k.Context(), q, k.from) }))
	ask("POST /v1/policy/{id}/signature", with(func(k *call, q *api.Signed) (any, error) {
		return c.signPolicy(k.Context(), k.PathValue("id"), q.SSHSIG, k.from)
	}))
}
