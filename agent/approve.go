package agent

import (
	"context"
	"errors"
	"fmt"

	"breakglass/ca/api"
	"breakglass/internal/name"
	"breakglass/internal/statement"
	"breakglass/ledger"
)

// ErrEvidence says that what the CA shows of somebody's request does not hold: nothing was signed.
var ErrEvidence = errors.New("what the CA shows of the request does not hold: nothing was signed")

// Shown is somebody's request as this machine has proved it: its entries are in the ledger whose key is pinned, and the enrolled hardware key of the person
// whom it names signed exactly these words. What an approver reads comes from here, and the hash that they sign names it.
type Shown struct {
	Request   statement.Request
	Key       name.Key // that signed, of the requester
	Software  bool     // a key of the demo
	UV        bool     // PIN or biometric
	Hash      statement.Hash
	Waits     ledger.Waits
	Approvals []ledger.Approval // that are there; of a person the newest counts
	Of        *ledger.Grant     // of an extension: the grant
}

// CheckEvidence proves a request that waits for approvals.
func CheckEvidence(e *api.Evidence, id name.RequestID, site ledger.Site) (*Shown, error) {
	bad := func(format string, a ...any) error {
		return fmt.Errorf("%w: %w", ErrEvidence, fmt.Errorf(format, a...))
	}
	head, err := ledger.OpenCheckpoint(e.Checkpoint, site.LedgerKey)
	if err != nil {
		return nil, bad("%w", err)
	}
	audit := ledger.NewAudit(ledger.AuditConfig{LedgerKey: site.LedgerKey, Pinned: &site, Part: true})
	for _, p := range e.Entries {
		if err := ledger.CheckInclusion([]byte(p.Entry), p.Index, p.Proof, head); err != nil {
			return nil, bad("entry %d: %w", p.Index, err)
		}
		audit.Add(p.Index, []byte(p.Entry))
	}
	if f, _ := audit.Findings(); len(f) > 0 {
		return nil, bad("%s", f[0])
	}
	g := audit.Grant(id)
	switch {
	case g == nil:
		return nil, bad("it holds no signed request %s", id)
	case g.Waits == nil || g.Allowed != nil || g.Denied != nil || g.Extended != nil:
		return nil, bad("request %s does not wait for approvals", id)
	}
	return &Shown{Request: g.Request, Key: g.Key.Name, Software: g.Key.Software, UV: g.Touch.UserVerified(), Hash: g.Signed, Waits: *g.Waits,
		Approvals: g.Approvals, Of: audit.Grant(g.Request.Of)}, nil
}

// Verdict has the person's key sign a yes or no to what q names.
func (a *Agent) Verdict(ctx context.Context, q api.ApprovalAsk) (*api.ApprovalState, error) {
	s, err := a.sign(ctx, func() (*api.Challenge, error) {
		return a.cfg.CA.Approve(ctx, q)
	}, func(ch *api.Challenge) (statement.Statement, error) {
		return CheckApproval(ch, q, a.cfg.Seen())
	})
	if err != nil {
		return nil, err
	}
	return a.cfg.CA.SignApproval(ctx, s.id, api.Signed{SSHSIG: s.armor})
}

// CheckApproval holds an approval's statement against what was asked for.
func CheckApproval(ch *api.Challenge, q api.ApprovalAsk, seen Seen) (*statement.Approval, error) {
	var s statement.Approval
	if err := open(ch, &s, seen); err != nil {
		return nil, err
	}
	if err := compare([]field{
		{"person", string(s.Person), q.Person},
		{"about", s.About, q.About},
		{"of", s.Of, q.Of},
		{"hash", s.Hash, q.Hash},
		{"verdict", s.Verdict, q.Verdict},
		{"comment", s.Comment, q.Comment},
		{"until", s.Until.Sub(s.Issued), statement.CountsFor(q.About)},
	}); err != nil {
		return nil, err
	}
	_, err := sources(s.Sources)
	return &s, err
}
