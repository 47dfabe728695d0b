package evidence

import (
	"testing"

	"breakglass/internal/name"
	"breakglass/internal/statement"
	"breakglass/ledger"
)

// TestABundleShowsWhoAdoptedItsPolicy: a grant under a policy that came later is worth what its owners' signatures are, and they travel with it.
func TestABundleShowsWhoAdoptedItsPolicy(t *testing.T) {
	w, carol := emergency(t) // adopted by alice, in pieces
	r := w.wait()
	w.Approve(w.Bob, r, statement.Approve, nil)
	w.Approve(carol, r, statement.Approve, nil)
	w.Allow(r, []name.Person{"bob", "carol"}, 0)
	adopted := 0
	for what, drop := range map[string]func(*ledger.Entry) bool{
		"":                      func(*ledger.Entry) bool { return false },
		"the owner's signature": func(e *ledger.Entry) bool { return e.Type() == "policy.signed" },
		"the policy's pieces":   func(e *ledger.Entry) bool { return e.Type() == "policy.text" },
		"the policy before": func(e *ledger.Entry) bool {
			f, ok := e.Facts.(*ledger.PolicyAdopted)
			return ok && f.How == ledger.AdoptedAtInit
		},
		"the policy of the grant": func(e *ledger.Entry) bool {
			f, ok := e.Facts.(*ledger.PolicyAdopted)
			return ok && f.How == ledger.AdoptedByOwners
		},
		"both policies":         func(e *ledger.Entry) bool { return e.Type() == "policy.adopted" },
		"the founding":          func(e *ledger.Entry) bool { return e.Type() == "founding" },
		"the key of who signed": func(e *ledger.Entry) bool { return e.Type() == "key.enrolled" && e.Subject.Person == "alice" },
		"all but the last adoption": func(e *ledger.Entry) bool {
			f, ok := e.Facts.(*ledger.PolicyAdopted)
			return ok && f.How == ledger.AdoptedAtInit || e.Type() == "policy.signed" || e.Type() == "founding"
		},
	} {
		v := w.verify(w.write(t, nil, func(e *Evidence, _ *[]Recording) {
			var left []Entry
			for _, p := range e.Entries {
				x, err := ledger.Decode([]byte(p.Entry))
				if err == nil && drop(x) {
					continue
				}
				if f, ok := x.Facts.(*ledger.PolicyAdopted); ok && f.How == ledger.AdoptedByOwners && len(f.Pieces) > 0 {
					adopted++
				}
				left = append(left, p)
			}
			e.Entries = left
		}))
		if want := what != ""; (v.Result == Failed) != want || what == "" && v.Result != Verified {
			t.Errorf("without %q:\n%s", what, text(t, v))
		}
	}
	if adopted == 0 {
		t.Error("no policy in pieces was adopted by its owners")
	}
}
