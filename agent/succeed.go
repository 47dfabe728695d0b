package agent

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"

	"golang.org/x/crypto/ssh"

	"breakglass/ca/api"
	"breakglass/internal/name"
	"breakglass/internal/statement"
	"breakglass/ledger"
)

// ErrSuccession says that what a founder is to sign is not what is shown.
var ErrSuccession = errors.New("the succession is not what it shows")

// Successions take a founder's signature.
type Successions interface {
	AskSuccession(ctx context.Context, person string) (*api.Challenge, error)
	SignSuccession(ctx context.Context, id string, s api.Signed) (*api.Succession, error)
}

// Succeed has a founder's key sign that a new ledger follows the one that is pinned here. s is proved already (client.Succession).
func (a *Agent) Succeed(ctx context.Context, to Successions, person name.Person, s *api.Succession) (*api.Succession, error) {
	if err := CheckOffer(s); err != nil {
		return nil, err
	}
	did, err := a.sign(ctx, func() (*api.Challenge, error) {
		return to.AskSuccession(ctx, string(person))
	}, func(ch *api.Challenge) (statement.Statement, error) {
		return CheckSuccession(ch, person, s, a.cfg.Seen())
	})
	if err != nil {
		return nil, err
	}
	return to.SignSuccession(ctx, did.id, api.Signed{SSHSIG: did.armor})
}

// CheckOffer holds what is shown to a founder against the hashes that they sign: the policy's text, and each enrolment and recipient by its entry in the
// lost ledger.
func CheckOffer(s *api.Succession) error {
	bad := func(format string, a ...any) error {
		return fmt.Errorf("%w: "+format, append([]any{ErrSuccession}, a...)...)
	}
	o := s.Offer
	if o == nil {
		return bad("nothing waits for a signature")
	}
	if sha256.Sum256([]byte(o.Policy)) != s.Facts.Policy {
		return bad("another policy than the one to sign for")
	}
	head, err := ledger.OpenCheckpoint(s.Facts.Old.Checkpoint, s.Facts.Old.LedgerKey)
	if err != nil {
		return bad("%w", err)
	}
	var all []ledger.Carried
	for _, c := range o.Carried {
		if err := ledger.CheckInclusion([]byte(c.Entry.Entry), c.Entry.Index, c.Entry.Proof, head); err != nil {
			return bad("%w", err)
		}
		e, err := ledger.Decode([]byte(c.Entry.Entry))
		if err != nil {
			return bad("%w", err)
		}
		x := ledger.Carried{Person: c.Person}
		switch k, r := c.Key, c.Recipient; {
		case k != nil && r == nil:
			pub, _, _, _, err := ssh.ParseAuthorizedKey([]byte(k.PublicKey))
			if err != nil {
				return bad("%w", err)
			}
			x.Key, x.Facts = ssh.FingerprintSHA256(pub), k
			had := ""
			switch f := e.Facts.(type) {
			case *ledger.KeyEnrolled:
				had = f.PublicKey
			case *ledger.KeyCarried:
				had = f.PublicKey
			}
			if had != k.PublicKey || e.Subject.Person != c.Person || k.From != c.Entry.Index {
				return bad("entry %d does not enrol %s of %s", c.Entry.Index, x.Key, c.Person)
			}
		case r != nil && k == nil:
			x.Facts = r
			had := ""
			switch f := e.Facts.(type) {
			case *ledger.RecipientAdded:
				had = f.Age
			case *ledger.RecipientRotated:
				had = f.Age
			case *ledger.RecoverySet:
				if r.Recovery {
					had = f.Age
				}
			case *ledger.RecipientCarried:
				had = f.Age
			}
			if had != r.Age || !r.Recovery && e.Subject.Person != c.Person || r.From != c.Entry.Index {
				return bad("entry %d does not name that recipient of %s", c.Entry.Index, c.Person)
			}
		default:
			return bad("something that is neither an enrolment nor a recipient")
		}
		all = append(all, x)
	}
	if sum, err := ledger.CarriedHash(all); err != nil || sum != s.Facts.Carried {
		return bad("other enrolments than those to sign for")
	}
	return nil
}

// CheckSuccession holds a succession's statement against what the founder was shown.
func CheckSuccession(ch *api.Challenge, person name.Person, s *api.Succession, seen Seen) (*statement.Succession, error) {
	var st statement.Succession
	f := &s.Facts
	if err := open(ch, &st, Seen{Site: f.Site, Checkpoint: seen.Checkpoint}); err != nil {
		return nil, err
	}
	head, err := ledger.OpenCheckpoint(f.Old.Checkpoint, f.Old.LedgerKey)
	if err != nil {
		return nil, err
	}
	site, err := ledger.SiteHash(f.Site)
	if err != nil {
		return nil, err
	}
	if err := compare([]field{
		{"person", st.Person, person},
		{"checkpoint", st.Checkpoint, head.Pin()},
		{"succeeds", st.Succeeds, f.Old.Origin},
		{"ledger-key", st.LedgerKey, f.Site.LedgerKey},
		{"site", st.Site, site},
		{"policy", st.Policy, f.Policy},
		{"carried", st.Carried, f.Carried},
		{"profile", st.Profile, f.Site.Profile},
	}); err != nil {
		return nil, err
	}
	if !slices.EqualFunc(st.Founders, f.Founders, func(s string, p name.Person) bool { return s == string(p) }) {
		return nil, differs("founders", st.Founders, f.Founders)
	}
	return &st, nil
}
