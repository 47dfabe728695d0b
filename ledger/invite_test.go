package ledger

import "testing"

// After the founding of a production site, root's word alone is no invite; before it, and in the demo, it is.
func TestInvitesWithoutAnOrder(t *testing.T) {
	for _, c := range []struct {
		what    string
		profile string
		founded bool
		fault   bool
	}{
		{"production, not founded", "production", false, false},
		{"production, founded", "production", true, true},
		{"demo", "demo", true, false},
	} {
		a := NewAudit(AuditConfig{LedgerKey: "x"})
		a.site, a.founded = &Site{Profile: c.profile}, c.founded
		a.e = &Entry{Actor: ActorRoot, Facts: &InviteCreated{For: "person", Name: "carol"}}
		a.inviteCreated(a.e.Facts.(*InviteCreated))
		if fs, _ := a.Findings(); (len(fs) > 0) != c.fault {
			t.Errorf("%s: %v", c.what, fs)
		}
	}
}
