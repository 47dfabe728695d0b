package ledger

import (
	"slices"

	"breakglass/internal/name"
	"breakglass/internal/statement"
)

// This file holds to whom transcripts are sealed against who said so: each recipient is its owner's, by their hardware key; the recovery key is an
// operator's order; and a session is sealed to exactly the set that the ledger names before it.

func (a *Audit) recipientAdded(f *RecipientAdded) {
	var st statement.Recipient
	key, _ := a.human(&st, nil, true)
	if key == nil {
		return
	}
	if st.Age != f.Age || st.Sealed != f.Sealed {
		a.fault(FaultStatement, "another recipient was signed for")
		return
	}
	a.addRecipient(f.Age, key.Person)
}

// addRecipient: nobody proves the secret half, so whoever names another's recipient would take that person's recordings away.
func (a *Audit) addRecipient(age string, p name.Person) {
	if of, ok := a.recipients[age]; ok && of != p || age == a.recovery {
		a.fault(FaultReplay, "that recipient is another's already")
		return
	}
	a.recipients[age] = p
}

func (a *Audit) recipientRotated(f *RecipientRotated) {
	var st statement.ReadingRotation
	key, _ := a.human(&st, nil, true)
	if key == nil {
		return
	}
	if st.Age != f.Age || st.Sealed != f.Sealed || st.Old != f.Old || f.Old == f.Age {
		a.fault(FaultStatement, "another rotation was signed for")
		return
	}
	if of, ok := a.recipients[f.Old]; ok && of != key.Person || !ok && !a.cfg.Part {
		a.fault(FaultStatement, "replaces a recipient that is not %s's", key.Person)
		return
	}
	delete(a.recipients, f.Old)
	a.addRecipient(f.Age, key.Person)
}

func (a *Audit) recipientsRemoved(f *RecipientsRemoved) {
	p := f.Person
	if st := a.order(statement.OrderRemoveRecipients, string(p)); st == nil {
		return
	} else if st.Reason != f.Why {
		a.fault(FaultStatement, "the order gives another reason")
	}
	for age, of := range a.recipients {
		if of != p {
			continue
		}
		if !slices.Contains(f.Ages, age) {
			a.fault(FaultStatement, "leaves a recipient of %s", p)
		}
		delete(a.recipients, age)
	}
}

func (a *Audit) recoverySet(f *RecoverySet) {
	st := a.order(statement.OrderSetRecovery, statement.RecipientFingerprint(f.Age))
	if st == nil {
		return
	}
	if st.Reason != f.Why {
		a.fault(FaultStatement, "the order gives another reason")
	}
	if f.Old != a.recovery && !a.cfg.Part {
		a.fault(FaultStatement, "replaces another recovery key than the one in use")
	}
	if _, ok := a.recipients[f.Age]; ok {
		a.fault(FaultReplay, "that recipient is a reader's already")
	}
	a.recovery = f.Age
}

// recipientsChanged demands that each recipient of the set is known, and that the recovery key is one.
func (a *Audit) recipientsChanged(f *RecipientsChanged) {
	if a.e.Actor != ActorCA {
		a.fault(FaultStatement, "by %s: which set it is follows from the ledger, and nobody says so", a.e.Actor)
	}
	known := map[string]name.Person{}
	for age, p := range a.recipients {
		known[statement.RecipientFingerprint(age)] = p
	}
	recovery, readers := "", 0
	if a.recovery != "" {
		recovery = statement.RecipientFingerprint(a.recovery)
	}
	seen := map[string]bool{}
	for _, s := range f.Sealed {
		if seen[s.Age] {
			a.fault(FaultReplay, "names %s twice", s.Age)
		}
		seen[s.Age] = true
		if s.Person != "" {
			readers++
		}
		p, ok := known[s.Age]
		switch {
		case s.Person == "" && (s.Age == recovery || a.cfg.Part && recovery == ""):
		case s.Person != "" && (ok && p == s.Person || a.cfg.Part && !ok):
		default:
			a.fault(FaultSession, "names a recipient that is nobody's")
		}
	}
	if recovery != "" && !seen[recovery] && readers > 0 {
		a.fault(FaultSession, "leaves the recovery key out")
	}
	a.set, a.setAt = f, a.index
}

// sealedTo demands that the transcript can be read, and by those alone whom the answer names; and, where the ledger names the set, by exactly that.
func (a *Audit) sealedTo(f *SessionOpened) {
	if len(f.Recipients) == 0 {
		a.fault(FaultSession, "nobody could read its transcript")
	}
	for _, r := range f.Recipients {
		p, ok := a.recipients[r]
		if r == a.recovery || !ok && a.cfg.Part {
			continue
		}
		if !ok || !slices.Contains(f.Readers, p) {
			a.fault(FaultSession, "sealed to a recipient that is no reader's")
		}
	}
	// A part holds the sets of its sessions, too.
	switch {
	case a.set == nil && f.Set == 0: // before the first set, and in ledgers from before there were any
		return
	case a.set == nil:
		a.fault(FaultSession, "names entry %d, which is no set of recipients", f.Set)
		return
	case f.Set != a.setAt:
		a.fault(FaultSession, "names the set of entry %d, in force is that of %d", f.Set, a.setAt)
		return
	}
	var want, got []string
	for _, s := range a.set.Sealed {
		want = append(want, s.Age)
	}
	for _, r := range f.Recipients {
		got = append(got, statement.RecipientFingerprint(r))
	}
	slices.Sort(want)
	slices.Sort(got)
	if !slices.Equal(want, got) {
		a.fault(FaultSession, "sealed to others than the set of entry %d", a.setAt)
	}
}
