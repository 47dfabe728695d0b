package ledger

import (
	"crypto/sha256"
	"slices"
	"strings"

	"github.com/pelletier/go-toml/v2"

	"breakglass/internal/name"
	"breakglass/internal/policytext"
	"breakglass/internal/statement"
)

// This file holds what policy is in force against who signed for it: the first came with the site, and each later one on the signatures of as many
// owners as the policy before it names and wants. What the new policy says of owners counts for the one after it.

// Signers is how many owners have to sign the next policy, where a policy doesn't say: two, or the one that there is; in a demo one.
const Signers = 2

// policySignature is an owner's, for as long as the policy that they signed against is in force.
type policySignature struct {
	f   *PolicySigned
	key *PersonKey
}

func (a *Audit) policyText(f *PolicyText) {
	if got := statement.Hash(sha256.Sum256([]byte(f.Text))); got != f.SHA256 {
		a.fault(FaultPolicy, "the piece has SHA-256 %s, the entry says %s", got, f.SHA256)
		return
	}
	if _, there := a.pieces[f.SHA256]; there {
		a.fault(FaultPolicy, "piece %s is there already", f.SHA256)
	}
	if a.pieces == nil {
		a.pieces = map[statement.Hash]string{}
	}
	a.pieces[f.SHA256] = f.Text
}

// adoptedText is the text that the entry adopts; false if it is not whole, or not the one that the entry names.
func (a *Audit) adoptedText(f *PolicyAdopted) (string, bool) {
	text := f.Text
	if len(f.Pieces) > 0 {
		if text != "" {
			a.fault(FaultPolicy, "holds a text and names pieces too")
			return "", false
		}
		var b strings.Builder
		for _, h := range f.Pieces {
			piece, ok := a.pieces[h]
			if !ok {
				a.fault(FaultPolicy, "piece %s of the policy is missing", h)
				return "", false
			}
			b.WriteString(piece)
		}
		text = b.String()
	}
	if got := statement.Hash(sha256.Sum256([]byte(text))); got != f.SHA256 {
		a.fault(FaultPolicy, "text has SHA-256 %s, the entry says %s", got, f.SHA256)
		return "", false
	}
	return text, true
}

func (a *Audit) policyAdopted(f *PolicyAdopted) {
	text, ok := a.adoptedText(f)
	if f.Previous != a.policy {
		a.fault(FaultPolicy, "follows policy %s, in force is %s", f.Previous, a.policy)
	}
	switch f.How {
	case AdoptedAtInit:
		if a.policy != (statement.Hash{}) {
			a.fault(FaultKey, "adopts a policy without its owners' signatures, and it is not the first")
		}
	case AdoptedBySuccession:
		if a.policy != (statement.Hash{}) || a.succeeded == nil || a.succeeded.Policy != f.SHA256 {
			a.fault(FaultKey, "adopts a policy that no founder signed for this succession")
		}
	case AdoptedByOwners:
		if ok && policytext.Shortened(f.Diff) {
			a.shortened(f, text)
		}
		a.byOwners(f)
	default:
		a.fault(FaultPolicy, "adopted by %q", f.How)
	}
	if ok {
		a.inForce(f.SHA256, text)
	} else {
		a.inForce(f.SHA256, "")
	}
}

// inForce notes the policy from here on. Signatures under another that was to follow the one before count no more.
func (a *Audit) inForce(sum statement.Hash, text string) {
	a.follows(sum, text)
	a.read, a.openings = nil, nil
	if t := a.terms(); text != "" && (t.Profile != a.site.Profile || t.Site.Name != a.site.Name) {
		a.fault(FaultPolicy, "of site %q, profile %q: this is %q, %q, and neither ever changes", t.Site.Name, t.Profile, a.site.Name, a.site.Profile)
	}
}

// follows is inForce of a policy with the same main file, and so the same terms.
func (a *Audit) follows(sum statement.Hash, text string) {
	a.policy, a.policySigned = sum, nil
	a.policies[sum] = text
}

// shortened holds a diff of which the entry has the beginning against the texts: what it shows would else be anybody's word. Of a whole one the owners'
// signatures name the hash.
func (a *Audit) shortened(f *PolicyAdopted, text string) {
	before := a.importedText(a.policy)
	if before == "" { // a part of the log
		return
	}
	diff := policytext.Diff(before, text)
	if policytext.Shorten(diff) != f.Diff {
		a.fault(FaultStatement, "the entry's diff is not how the texts differ")
	}
	changes := statement.Hash(sha256.Sum256([]byte(diff)))
	for p, s := range a.policySigned {
		if s.f.SHA256 == f.SHA256 && s.f.Previous == f.Previous && s.f.Changes != changes {
			a.fault(FaultStatement, "%s was shown another diff", p)
		}
	}
}

// byOwners demands the signatures of enough owners whom the policy in force names, with keys that count now.
func (a *Audit) byOwners(f *PolicyAdopted) {
	if !a.founded {
		a.fault(FaultOrder, "changed before the site was founded")
	}
	t := a.terms()
	owners := t.named(t.Site.Owners)
	var signed []name.Person
	for p, s := range a.policySigned { // owners all
		switch {
		case s.f.SHA256 != f.SHA256 || s.f.Previous != f.Previous:
		case !a.counting(s.key):
			a.fault(FaultKey, "signed with %s of %s, which no longer counts", s.key.Name, p)
		case !policytext.Shortened(f.Diff) && s.f.Changes != sha256.Sum256([]byte(f.Diff)):
			a.fault(FaultStatement, "%s was shown another diff", p)
		default:
			signed = append(signed, p)
		}
	}
	slices.Sort(signed)
	if want := t.signers(a.site.Profile, len(owners)); len(signed) < want {
		a.fault(FaultKey, "signed by %s: the policy before it wants %d of its owners", people(signed), want)
	}
}

// policySignedBy holds an owner's signature against what the entry says. Which of them an adoption stands on is judged there.
func (a *Audit) policySignedBy(f *PolicySigned) {
	var st statement.Policy
	key, t := a.human(&st, nil, true)
	if key == nil {
		return
	}
	a.sameTouch(key, t, f.Touch)
	if st.Policy != f.SHA256 || st.Previous != f.Previous || st.Changes != f.Changes {
		a.fault(FaultStatement, "another change was signed")
		return
	}
	if f.Previous != a.policy {
		a.fault(FaultPolicy, "signed against policy %s, in force is %s", f.Previous, a.policy)
		return
	}
	if terms := a.terms(); !slices.Contains(terms.named(terms.Site.Owners), key.Person) {
		a.fault(FaultKey, "signed by %s, who is no owner in the policy in force", key.Person)
		return
	}
	if a.policySigned == nil {
		a.policySigned = map[name.Person]policySignature{}
	}
	a.policySigned[key.Person] = policySignature{f, key}
}

func (a *Audit) policyRefused(f *PolicyRefused) {
	if f.Error == "" {
		a.fault(FaultPolicy, "refused without a reason")
	}
}

// knownPolicy demands that a decision stood on the policy in force.
func (a *Audit) knownPolicy(h statement.Hash) {
	if h != a.policy {
		a.fault(FaultPolicy, "decided by policy %s, in force is %s", h, a.policy)
	}
}

// terms is what the audit reads out of the policy in force itself: who the owners and operators are, and the time of cooling off if it is
// written. Without that, whoever holds the ledger's key could found a site alone, as owners of their own naming, and give orders as anybody.
type terms struct {
	Profile string `toml:"profile"`
	Site    struct {
		Name      string   `toml:"name"`
		Owners    []string `toml:"owners"`
		Signers   int      `toml:"signers"`
		Operators []string `toml:"operators"`
	} `toml:"site"`
	People map[name.Person]struct {
		Groups []string `toml:"groups"`
	} `toml:"people"`
	Enrolment struct {
		CoolingOff string `toml:"cooling_off"`
	} `toml:"enrolment"`
}

// terms reads those of the policy in force, once.
func (a *Audit) terms() terms {
	if a.read == nil {
		t := readTerms(a.policies[a.policy])
		a.read = &t
	}
	return *a.read
}

// readTerms reads a policy's main file. What is no policy gives no owners, and so no founding and no successor.
func readTerms(text string) (t terms) {
	files, err := policytext.Split(text)
	if err == nil {
		err = toml.Unmarshal([]byte(files[0].Text), &t)
	}
	if err != nil {
		return terms{} // not what was read up to the fault
	}
	return t
}

// signers is how many owners the next policy takes. More than there are would be never.
func (t terms) signers(profile string, owners int) int {
	switch {
	case t.Site.Signers > 0:
		return t.Site.Signers
	case profile == "demo" || owners < Signers:
		return 1
	}
	return Signers
}
