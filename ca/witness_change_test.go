package ca_test

import (
	"context"
	"slices"
	"testing"

	"breakglass/ca"
	"breakglass/ca/api"
	"breakglass/ca/catest"
	"breakglass/internal/statement"
	"breakglass/ledger"
)

// orderWitnesses has p order the list; sent is what goes beside the signature.
func orderWitnesses(p *catest.Person, list, sent []string) error {
	ch, err := p.Client.Order(context.Background(), api.OrderAsk{Person: string(p.Name), Act: statement.OrderChangeWitnesses, Target: statement.WitnessesFingerprint(list), Reason: "one more"})
	if err != nil {
		return err
	}
	_, err = p.Client.SignOrder(context.Background(), ch.ID, api.SignedOrder{SSHSIG: p.Sign(ch), Witnesses: sent})
	return err
}

// Who witnesses is an operator's to say once the site is founded: local root prepares it, and changes nothing.
func TestWitnessesAreChangedByAnOperator(t *testing.T) {
	w := newTown(t)
	list, other := []string{"quorum 0"}, []string{ledger.JumpsLine, "quorum 0"}
	done, err := w.ChangeWitnesses(t.Context(), &ca.WitnessesAsk{Witnesses: list})
	catest.Must(t, err)
	if done.Order != statement.WitnessesFingerprint(list) {
		t.Errorf("%+v", done)
	}
	if _, err := w.ChangeWitnesses(t.Context(), &ca.WitnessesAsk{Witnesses: []string{"quorum 7"}}); codeOf(err) != api.CodeConflict && codeOf(err) != api.CodeBadRequest {
		t.Errorf("a quorum that can't be reached: %v", err)
	}
	if _, err := w.ChangeWitnesses(t.Context(), &ca.WitnessesAsk{Witnesses: []string{"witness x"}}); codeOf(err) != api.CodeBadRequest {
		t.Errorf("nonsense: %v", err)
	}
	has := func(want []string) {
		t.Helper()
		e, _ := lastOf[*ledger.SiteChanged](t, w.CA)
		if changed := slices.Equal(e.Site.Witnesses, want); !changed {
			t.Errorf("the site has %q, want %q", e.Site.Witnesses, want)
		}
	}
	w.wants("a person who is no operator", api.CodeNotOperator, orderWitnesses(w.desk["bob"], list, list))
	w.wants("another list beside", api.CodeConflict, orderWitnesses(w.desk["olga"], list, other))
	w.wants("nonsense", api.CodeBadRequest, orderWitnesses(w.desk["olga"], []string{"witness x"}, []string{"witness x"}))
	w.wants("the order", "", orderWitnesses(w.desk["olga"], list, list))
	has(list)
	w.wants("the same again", api.CodeConflict, orderWitnesses(w.desk["olga"], list, list))
	w.wants("back", "", orderWitnesses(w.desk["olga"], other, other))
	has(other)
	w.Audit()
}
