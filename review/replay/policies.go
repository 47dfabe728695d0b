package replay

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"breakglass/internal/policytext"
	"breakglass/internal/statement"
	"breakglass/ledger"
	"breakglass/policy"
)

// ErrNoPolicy says that the entries that were given hold no policy of that hash.
var ErrNoPolicy = errors.New("no such policy in the ledger")

// Policies are the policies of a ledger, from its entries alone. Its zero value is ready for use.
type Policies struct {
	pieces   map[statement.Hash]string
	adopted  map[statement.Hash]*ledger.PolicyAdopted
	imported map[statement.Hash]*ledger.PolicyImported
	read     map[statement.Hash]*reading
	order    []statement.Hash // of read
	last     statement.Hash
}

// maxRead is how many policies are held read: each of 20,000 hosts is some 60 MB, and each import makes another one. Decisions come in the order in which
// the policies were in force.
const maxRead = 8

// reading is what became of a text that was read once.
type reading struct {
	p   *policy.Policy
	err error
}

// Add takes an entry's facts, in the ledger's order; all but those of policies it passes over. That the owners signed is the audit's business.
func (s *Policies) Add(f ledger.Facts) {
	switch f := f.(type) {
	case *ledger.PolicyText:
		if s.pieces == nil {
			s.pieces = map[statement.Hash]string{}
		}
		s.pieces[f.SHA256] = f.Text
	case *ledger.PolicyAdopted:
		if s.adopted == nil {
			s.adopted = map[statement.Hash]*ledger.PolicyAdopted{}
		}
		s.adopted[f.SHA256], s.last = f, f.SHA256
	case *ledger.PolicyImported:
		if s.imported == nil {
			s.imported = map[statement.Hash]*ledger.PolicyImported{}
		}
		s.imported[f.SHA256], s.last = f, f.SHA256
	}
}

// InForce is the policy that was adopted last.
func (s *Policies) InForce() (*policy.Policy, error) { return s.Policy(s.last) }

// Policy gives the policy with that SHA-256. Its own tests are not run: it was in force.
func (s *Policies) Policy(h statement.Hash) (*policy.Policy, error) {
	if r, ok := s.read[h]; ok {
		return r.p, r.err
	}
	text, err := s.text(h)
	if err != nil {
		return nil, err // it may come yet
	}
	r := &reading{}
	r.p, r.err = policy.Parse("the ledger's policy "+short(h), []byte(text))
	if r.err == nil && r.p.SHA256 != h.String() {
		r.p, r.err = nil, fmt.Errorf("the ledger's policy %s has SHA-256 %s", short(h), r.p.SHA256)
	}
	if s.read == nil {
		s.read = map[statement.Hash]*reading{}
	}
	if len(s.order) == maxRead {
		delete(s.read, s.order[0])
		s.order = s.order[1:]
	}
	s.read[h], s.order = r, append(s.order, h)
	return r.p, r.err
}

func (s *Policies) text(h statement.Hash) (string, error) {
	f, ok := s.adopted[h]
	if !ok {
		return s.afterImports(h)
	}
	if len(f.Pieces) == 0 {
		return f.Text, nil
	}
	var b strings.Builder
	for _, piece := range f.Pieces {
		t, ok := s.pieces[piece]
		if !ok {
			return "", fmt.Errorf("%w: piece %s of %s is missing", ErrNoPolicy, piece, h)
		}
		b.WriteString(t)
	}
	return b.String(), nil
}

func short(h statement.Hash) string { return h.String()[:12] }

// afterImports is the text that imports made of one that was adopted.
func (s *Policies) afterImports(h statement.Hash) (string, error) {
	var hosts []string // the last first
	for s.adopted[h] == nil {
		f, ok := s.imported[h]
		if !ok || len(hosts) == len(s.imported) { // none, or a circle
			return "", fmt.Errorf("%w: %s", ErrNoPolicy, h)
		}
		hosts, h = append(hosts, f.Hosts), f.Previous
	}
	text, err := s.text(h)
	if err != nil {
		return "", err
	}
	slices.Reverse(hosts)
	return policytext.Import(text, strings.Join(hosts, "")) // as one after the other, and not a long text anew for each
}
