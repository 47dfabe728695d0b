package ledger

import (
	"reflect"
	"slices"

	"breakglass/internal/statement"
)

// witnessesChanged demands an operator's order for a site whose witnesses are others than before: local root's word is enough only until people's keys can be asked.
// Else whoever has the log's key could take away those who would notice.
func (a *Audit) witnessesChanged(old, s *Site) {
	switch {
	case slices.Equal(old.Witnesses, s.Witnesses), a.cfg.Part && a.e.Statement == "": // a part has sites in between left out
		return
	case a.e.Statement == "":
		if a.founded && s.Profile != "demo" {
			a.fault(FaultSignature, "witnesses changed after the founding, and no operator signed for it")
		}
		return
	}
	a.order(statement.OrderChangeWitnesses, statement.WitnessesFingerprint(s.Witnesses))
	rest := *s
	rest.Witnesses = old.Witnesses
	if !a.cfg.Part && !reflect.DeepEqual(*old, rest) {
		a.fault(FaultStatement, "witnesses were ordered to be changed, and the site changed otherwise too")
	}
}
