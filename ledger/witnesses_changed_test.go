package ledger_test

import (
	"slices"
	"testing"

	"breakglass/internal/attest/attesttest"
	"breakglass/ledger"
)

// TestWitnessesAreChangedByOrderAlone: whoever has the log's key and the CA's machine takes nobody away who would notice.
func TestWitnessesAreChangedByOrderAlone(t *testing.T) {
	v := attesttest.New(t)
	list := []string{ledger.JumpsLine, "quorum 0"}
	for what, c := range map[string]struct {
		do   func(w *works)
		code ledger.Code // "" is none
	}{
		"an operator orders it":          {func(w *works) { w.Witnesses(w.alice, list, nil) }, ""},
		"and again another":              {func(w *works) { w.Witnesses(w.alice, list, nil); w.Witnesses(w.alice, ledger.DefaultWitnesses(), nil) }, ""},
		"local root, after the founding": {func(w *works) { w.Witnesses(nil, list, nil) }, ledger.FaultSignature},
		"somebody who is no operator":    {func(w *works) { w.Witnesses(w.bob, list, nil) }, ledger.FaultKey},
		"another list than was ordered": {func(w *works) {
			w.Witnesses(w.alice, list, func(e *ledger.Entry) { site(e).Witnesses = []string{"quorum 0"} })
		}, ledger.FaultStatement},
		"a key rides on it": {func(w *works) {
			w.Witnesses(w.alice, list, func(e *ledger.Entry) { site(e).TLS = append(slices.Clone(site(e).TLS), site(e).TLS[0]) })
		}, ledger.FaultStatement},
		"an address rides on it": {func(w *works) {
			w.Witnesses(w.alice, list, func(e *ledger.Entry) { site(e).Addresses = []string{"198.51.100.66:443"} })
		}, ledger.FaultStatement},
		"a join takes them away": {func(w *works) {
			w.Witnesses(nil, list, func(e *ledger.Entry) { e.Actor, e.Facts.(*ledger.SiteChanged).Why = ledger.ActorCA, "jump joined" })
		}, ledger.FaultSignature},
	} {
		t.Run(what, func(t *testing.T) {
			w := newWorks(t, v)
			if f := w.findings(t); len(f) > 0 {
				t.Fatalf("before: %v", f)
			}
			c.do(w)
			found := w.findings(t)
			if c.code == "" && len(found) > 0 || c.code != "" && !slices.ContainsFunc(found, func(f ledger.Finding) bool { return f.Code == c.code }) {
				t.Errorf("found %v, want %q", found, c.code)
			}
		})
	}
}
