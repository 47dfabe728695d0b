package ledger_test

import (
	"testing"

	"breakglass/internal/name"
	"breakglass/internal/statement"
	"breakglass/ledger"
	"breakglass/ledger/ledgertest"
)

const (
	alicesAge = "age1alice"
	anew      = "age1anew"
	paper     = "age1paper"
)

// TestRecipientsThatHold: coming, rotating, going, a recovery key, and sessions that are sealed to each set in turn.
func TestRecipientsThatHold(t *testing.T) {
	s := tell(t)
	open := func(ages []string, readers ...name.Person) {
		s.Open(s.Grant(s.alice, nil), s.jump, ages, readers)
	}
	s.Set(nil, ledgertest.To(bobsAge, "bob"))
	open([]string{bobsAge}, "bob")
	s.Recipient(s.alice, alicesAge)
	s.Set(nil, ledgertest.To(bobsAge, "bob"), ledgertest.To(alicesAge, "alice"))
	open([]string{alicesAge, bobsAge}, "bob", "alice")
	s.SetRecovery(s.alice, "", paper, nil)
	s.Set(nil, ledgertest.To(bobsAge, "bob"), ledgertest.To(alicesAge, "alice"), ledgertest.To(paper, ""))
	open([]string{bobsAge, alicesAge, paper}, "bob", "alice")
	s.RotateRecipient(s.alice, alicesAge, anew, nil)
	s.Set(nil, ledgertest.To(bobsAge, "bob"), ledgertest.To(anew, "alice"), ledgertest.To(paper, ""))
	open([]string{bobsAge, anew, paper}, "bob", "alice")
	s.RemoveRecipients(s.alice, "bob", []string{bobsAge}, nil)
	s.Set(nil, ledgertest.To(anew, "alice"), ledgertest.To(paper, ""))
	open([]string{anew, paper}, "alice")
	s.SetRecovery(s.alice, paper, "age1other", nil)
	s.Set(nil, ledgertest.To(anew, "alice"), ledgertest.To("age1other", ""))
	open([]string{anew, "age1other"}, "alice")
	if r := s.report(t); r.Err() != nil {
		t.Fatal(r.Findings)
	}
}

// TestRecipientsMangled: each fault shows, under the entry that has it.
func TestRecipientsMangled(t *testing.T) {
	both := []ledger.SealedTo{ledgertest.To(bobsAge, "bob"), ledgertest.To(alicesAge, "alice"), ledgertest.To(paper, "")}
	sealed := func(s *story, ages []string, readers ...name.Person) {
		s.Open(s.Grant(s.alice, nil), s.jump, ages, readers)
	}
	for what, c := range map[string]struct {
		do   func(*story)
		code ledger.Code
	}{
		"a session sealed to one fewer than the set": {func(s *story) {
			sealed(s, []string{bobsAge, paper}, "bob", "alice")
		}, ledger.FaultSession},
		"without the recovery key": {func(s *story) {
			sealed(s, []string{bobsAge, alicesAge}, "bob", "alice")
		}, ledger.FaultSession},
		"to one more": {func(s *story) {
			s.Recipient(s.bob, anew)
			sealed(s, []string{bobsAge, alicesAge, paper, anew}, "bob", "alice")
		}, ledger.FaultSession},
		"to somebody whom no entry names": {func(s *story) {
			sealed(s, []string{bobsAge, alicesAge, paper, "age1mallory"}, "bob", "alice")
		}, ledger.FaultSession},
		"naming an earlier set": {func(s *story) {
			early := s.Set(nil, both...)
			s.RemoveRecipients(s.alice, "alice", []string{alicesAge}, nil)
			s.Set(nil, ledgertest.To(bobsAge, "bob"), ledgertest.To(paper, ""))
			s.NameSet(early)
			sealed(s, []string{bobsAge, paper}, "bob")
		}, ledger.FaultSession},
		"a set by a person":            {func(s *story) { s.Set(func(e *ledger.Entry) { e.Actor = "person:alice" }, both...) }, ledger.FaultStatement},
		"a set without the recovery":   {func(s *story) { s.Set(nil, both[:2]...) }, ledger.FaultSession},
		"a set with somebody twice":    {func(s *story) { s.Set(nil, append(both, both[0])...) }, ledger.FaultReplay},
		"a set with a stranger":        {func(s *story) { s.Set(nil, append(both, ledgertest.To("age1mallory", "alice"))...) }, ledger.FaultSession},
		"a set with another's":         {func(s *story) { s.Set(nil, both[0], ledgertest.To(alicesAge, "bob"), both[2]) }, ledger.FaultSession},
		"a set with a second recovery": {func(s *story) { s.Set(nil, append(both, ledgertest.To("age1other", ""))...) }, ledger.FaultSession},
		"a rotation of another's":      {func(s *story) { s.RotateRecipient(s.alice, bobsAge, anew, nil) }, ledger.FaultStatement},
		"a rotation of what is not":    {func(s *story) { s.RotateRecipient(s.alice, "age1nothing", anew, nil) }, ledger.FaultStatement},
		"a rotation to another's":      {func(s *story) { s.RotateRecipient(s.alice, alicesAge, bobsAge, nil) }, ledger.FaultReplay},
		"a rotation to the recovery":   {func(s *story) { s.RotateRecipient(s.alice, alicesAge, paper, nil) }, ledger.FaultReplay},
		"a rotation to another than was signed": {func(s *story) {
			s.RotateRecipient(s.alice, alicesAge, anew, func(e *ledger.Entry) { e.Facts.(*ledger.RecipientRotated).Age = "age1mallory" })
		}, ledger.FaultStatement},
		"a rotation that nobody signed": {func(s *story) {
			s.RotateRecipient(s.alice, alicesAge, anew, func(e *ledger.Entry) { e.Statement, e.SSHSIG = "", "" })
		}, ledger.FaultSignature},
		"a recipient of somebody else's named again": {func(s *story) { s.Recipient(s.bob, alicesAge) }, ledger.FaultReplay},
		"somebody else taken out than was ordered": {func(s *story) {
			s.RemoveRecipients(s.alice, "bob", []string{bobsAge}, func(e *ledger.Entry) { e.Facts.(*ledger.RecipientsRemoved).Person = "alice" })
		}, ledger.FaultStatement},
		"one of theirs left": {func(s *story) { s.RemoveRecipients(s.alice, "bob", nil, nil) }, ledger.FaultStatement},
		"by no operator":     {func(s *story) { s.RemoveRecipients(s.Enrol("carol"), "bob", []string{bobsAge}, nil) }, ledger.FaultKey},
		"for another reason": {func(s *story) {
			s.RemoveRecipients(s.alice, "bob", []string{bobsAge}, func(e *ledger.Entry) { e.Facts.(*ledger.RecipientsRemoved).Why = "x" })
		}, ledger.FaultStatement},
		"another recovery key": {func(s *story) {
			s.SetRecovery(s.alice, paper, anew, func(e *ledger.Entry) { e.Facts.(*ledger.RecoverySet).Age = "age1mallory" })
		}, ledger.FaultStatement},
		"in the place of none":          {func(s *story) { s.SetRecovery(s.alice, "", anew, nil) }, ledger.FaultStatement},
		"a reader's as recovery key":    {func(s *story) { s.SetRecovery(s.alice, paper, bobsAge, nil) }, ledger.FaultReplay},
		"a recovery key by no operator": {func(s *story) { s.SetRecovery(s.Enrol("carol"), paper, anew, nil) }, ledger.FaultKey},
		"a recovery key for another reason": {func(s *story) {
			s.SetRecovery(s.alice, paper, anew, func(e *ledger.Entry) { e.Facts.(*ledger.RecoverySet).Why = "x" })
		}, ledger.FaultStatement},
		"a recovery key that nobody signed": {func(s *story) {
			s.SetRecovery(s.alice, paper, anew, func(e *ledger.Entry) { e.Statement, e.SSHSIG = "", "" })
		}, ledger.FaultSignature},
	} {
		t.Run(what, func(t *testing.T) {
			s := tell(t)
			s.Recipient(s.alice, alicesAge)
			s.SetRecovery(s.alice, "", paper, nil)
			s.Set(nil, both...)
			before := int64(len(s.Entries))
			c.do(s)
			r := s.report(t)
			if !has(r, c.code) {
				t.Errorf("want %s: %v", c.code, r.Findings)
			}
			for _, f := range r.Findings {
				if f.Index < before {
					t.Errorf("an honest entry is blamed: %v", f)
				}
			}
		})
	}
}

// TestAFingerprintIsAKeys: it is spelled as ssh spells a key's, and so can be compared on the telephone.
func TestAFingerprintIsAKeys(t *testing.T) {
	if fp := statement.RecipientFingerprint("age1x"); len(fp) != len("SHA256:")+43 || fp == statement.RecipientFingerprint("age1y") {
		t.Error(fp)
	}
}
