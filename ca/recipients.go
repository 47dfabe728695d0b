package ca

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"breakglass/ca/api"
	"breakglass/ca/state"
	"breakglass/internal/name"
	"breakglass/internal/statement"
	"breakglass/ledger"
	"breakglass/policy"
	"breakglass/transcript"
)

// This file says to whom transcripts are sealed. People name their own recipients, each with their key; operators set the recovery key and take people
// out; the policy says who is a reader. What follows of all that at a moment is the set, and wherever it is another than before, that is an entry.

// recipientsEvery is how often it is looked whether the set changed by time alone: an enrolment lapsed. A session that opens looks for itself.
const recipientsEvery = time.Minute

// maxReading is to how many recipients of readers a transcript is sealed: a post-quantum one has 1,959 bytes, session.opened names all of them, and an entry has
// 65,535 (ledger.MaxEntry). One more would be a session that can't be recorded, and so none that opens.
const maxReading = 16

// recipientSet is to whom a transcript is sealed at a moment.
type recipientSet struct {
	ages    []string // the readers', in the order in which they came, then the recovery key's
	readers []name.Person
	facts   ledger.RecipientsChanged
}

// isHybrid tells the two kinds of recipient apart, which age never mixes.
func isHybrid(age string) bool { return strings.HasPrefix(age, "age1pq1") }

// recipientSet follows from the tables and the time. Only readers of the policy count, and of them those who could still open anything: whose keys are
// all revoked, or lapsed longer than the grace, is left out. But never so that nobody is left: a lapsed reader can renew, and an emergency is worse.
// All are of one kind: the recovery key's, where there is one, else post-quantum if any is.
func (c *CA) recipientSet(tx *state.Tx, p *policy.Policy, now time.Time) (s recipientSet, err error) {
	all, err := tx.Recipients()
	if err != nil {
		return s, err
	}
	recovery, _, err := tx.Recovery()
	if err != nil {
		return s, err
	}
	all = slices.DeleteFunc(all, func(r state.Recipient) bool { return !p.IsReader(r.Person) })
	hybrid := isHybrid(recovery)
	if recovery == "" {
		hybrid = slices.ContainsFunc(all, func(r state.Recipient) bool { return isHybrid(r.Age) })
	}
	why := map[name.Person]string{}
	stands := false // somebody whose enrolment does, and whose recipient is of the kind
	for _, r := range all {
		w, known := why[r.Person]
		if !known {
			keys, err := tx.Keys(r.Person)
			if err != nil {
				return s, err
			}
			w = c.mayStillRead(keys, now)
			why[r.Person] = w
		}
		stands = stands || w == "" && isHybrid(r.Age) == hybrid
	}
	for _, r := range all {
		fp, w := statement.RecipientFingerprint(r.Age), why[r.Person]
		lapsed := w == ledger.LeftOutLapsed && !stands
		if isHybrid(r.Age) != hybrid {
			w = ledger.LeftOutMixed
		} else if lapsed {
			w = ""
		}
		if w == "" && len(s.ages) == maxReading {
			w = ledger.LeftOutMany
		}
		if w != "" {
			s.facts.LeftOut = append(s.facts.LeftOut, ledger.LeftOut{Age: fp, Person: r.Person, Why: w})
			continue
		}
		s.ages = append(s.ages, r.Age)
		s.facts.Sealed = append(s.facts.Sealed, ledger.SealedTo{Age: fp, Person: r.Person, Lapsed: lapsed})
		if !slices.Contains(s.readers, r.Person) {
			s.readers = append(s.readers, r.Person)
		}
	}
	if recovery != "" {
		s.ages = append(s.ages, recovery)
		s.facts.Sealed = append(s.facts.Sealed, ledger.SealedTo{Age: statement.RecipientFingerprint(recovery)})
	}
	return s, nil
}

// mayStillRead says "" of somebody who has a key with which they could ask for a pass, now or once it is vouched for, unlocked or renewed in time.
func (c *CA) mayStillRead(keys []state.Key, now time.Time) string {
	w := ledger.LeftOutRevoked
	for _, k := range keys {
		switch c.keyState(k, now) {
		case policy.KeyRevoked:
		case policy.KeyLapsed:
			w = ledger.LeftOutLapsed
		default:
			return ""
		}
	}
	return w
}

// recordSet appends the set if it is another than the ledger says, and gives the index of the entry that names it; 0 where none does, since nobody
// has ever named a recipient.
func (c *CA) recordSet(tx *state.Tx) (recipientSet, int64, error) {
	s, err := c.recipientSet(tx, c.policy.Load(), c.now())
	if err != nil {
		return s, 0, err
	}
	last, idx, err := tx.RecipientSet()
	if err != nil {
		return s, 0, err
	}
	if last == nil {
		last = &ledger.RecipientsChanged{}
	}
	if sameSet(last, &s.facts) {
		return s, idx, nil
	}
	f := s.facts
	idx, _, err = tx.Append(c.entry(ledger.ActorCA, ledger.Subject{}, &f))
	return s, idx, err
}

func sameSet(a, b *ledger.RecipientsChanged) bool {
	return slices.Equal(a.Sealed, b.Sealed) && slices.Equal(a.LeftOut, b.LeftOut)
}

// thenRecordSet is what follows an entry after which the set may be another.
func (c *CA) thenRecordSet(tx *state.Tx) error {
	_, _, err := c.recordSet(tx)
	return err
}

// changesSet says whether an act may change the set; what time and policies change is found by watchRecipients and by the next session.
func changesSet(f ledger.Facts) bool {
	switch f := f.(type) {
	case *ledger.RecipientAdded, *ledger.RecipientRotated, *ledger.RecipientsRemoved, *ledger.RecoverySet:
		return true
	case *ledger.Revoked:
		return f.What == ledger.RevokedKey || f.What == ledger.RevokedPerson
	}
	return false
}

// watchRecipients records what time alone changed, until ctx ends.
func (c *CA) watchRecipients(ctx context.Context) {
	t := time.NewTicker(recipientsEvery)
	defer t.Stop()
	for {
		select {
		case <-t.C:
		case <-ctx.Done():
			return
		}
		if err := c.noteRecipients(ctx); err != nil && ctx.Err() == nil {
			c.log.Error("to whom recordings are sealed was not looked at", "error", err)
		}
	}
}

// noteRecipients looks without keeping the writer, and records where there is something to.
func (c *CA) noteRecipients(ctx context.Context) error {
	same := true
	if err := c.state.View(ctx, func(tx *state.Tx) error {
		s, err := c.recipientSet(tx, c.policy.Load(), c.now())
		if err != nil {
			return err
		}
		last, _, err := tx.RecipientSet()
		if last == nil {
			last = &ledger.RecipientsChanged{}
		}
		same = sameSet(last, &s.facts)
		return err
	}); err != nil || same {
		return err
	}
	return c.state.Do(ctx, c.thenRecordSet)
}

// fits refuses a recipient that could not stand beside those that there are: age takes no mix, and a refused envelope would be a session that can't
// open. without is one that it replaces.
func (c *CA) fits(tx *state.Tx, age, without string) error {
	s, err := c.recipientSet(tx, c.policy.Load(), c.now())
	if err != nil {
		return err
	}
	ages := []string{age}
	for _, a := range s.ages {
		if a != without {
			ages = append(ages, a)
		}
	}
	next := "breakglass reviewer init makes a post-quantum one"
	if len(ages) > 1 && !isHybrid(ages[1]) {
		next = "one kind for all: the others rotate first, or an operator takes them out (breakglass-ca recipients remove PERSON)"
	}
	parsed, err := transcript.ParseRecipients(ages)
	if err == nil {
		_, err = transcript.Envelope(parsed, transcript.NewKey())
	}
	if err != nil {
		return &api.Problem{Status: 409, Code: api.CodeConflict, Detail: "that recipient can't stand beside those that are there: " + err.Error(), Next: []string{next}}
	}
	return nil
}

// room refuses a recipient more where there is none for it.
func (c *CA) room(tx *state.Tx) error {
	s, err := c.recipientSet(tx, c.policy.Load(), c.now())
	if err != nil {
		return err
	}
	n := 0
	for _, x := range s.facts.Sealed {
		if x.Person != "" {
			n++
		}
	}
	if n < maxReading {
		return nil
	}
	return &api.Problem{Status: 409, Code: api.CodeConflict, Detail: fmt.Sprintf("recordings are sealed to %d recipients already, the most there is room for", n),
		Next: []string{"an operator takes out who needs not read: breakglass-ca recipients remove PERSON --reason WHY"}}
}

// unclaimed refuses a recipient that is another's. Nobody proves the secret half: who names a reader's identity as their own would take that reader's
// recordings away.
func unclaimed(tx *state.Tx, age string, by name.Person) error {
	all, err := tx.Recipients()
	if err != nil {
		return err
	}
	recovery, _, err := tx.Recovery()
	if err != nil {
		return err
	}
	for _, r := range all {
		if r.Age == age && r.Person != by {
			return &api.Problem{Status: 409, Code: api.CodeConflict, Detail: "that recipient is another person's", Next: []string{"breakglass reviewer init makes one of your own"}}
		}
	}
	if age == recovery {
		return &api.Problem{Status: 409, Code: api.CodeConflict, Detail: "that recipient is the recovery key's", Next: []string{"breakglass reviewer init makes one of your own"}}
	}
	return nil
}

// Spelling of how an identity is kept, in statements.
const (
	sealedPassphrase = "passphrase"
	sealedHardware   = "hardware"
)

// checkRecipient is what can be judged of an ask before its signature.
func checkRecipient(age, sealed string) error {
	if _, err := transcript.ParseRecipients([]string{age}); err != nil {
		return badRequest("age: %v", err)
	}
	if sealed != sealedPassphrase && sealed != sealedHardware {
		return badRequest("sealed: %q", sealed)
	}
	return nil
}

// recipient makes the statement of an age public key.
func (c *CA) recipient(ctx context.Context, q *api.RecipientAsk, from netip.Addr) (*api.Challenge, error) {
	if err := checkRecipient(q.Age, q.Sealed); err != nil {
		return nil, err
	}
	return c.begin(ctx, q.Person, from, &statement.Recipient{Age: q.Age, Sealed: q.Sealed}, nil)
}

func (c *CA) signRecipient(ctx context.Context, id, armored string, from netip.Addr) (*api.RecipientState, error) {
	out := &api.RecipientState{}
	err := c.finish(ctx, id, armored, from, statement.KindRecipient, func(tx *state.Tx, a *act) (outcome, error) {
		st := a.ch.st.(*statement.Recipient)
		if err := c.room(tx); err != nil {
			return outcome{}, err
		}
		if err := c.fits(tx, st.Age, ""); err != nil {
			return outcome{}, err
		}
		if err := unclaimed(tx, st.Age, st.Person); err != nil {
			return outcome{}, err
		}
		out.Person, out.Age, out.Reader = st.Person, st.Age, c.policy.Load().IsReader(st.Person)
		return outcome{facts: &ledger.RecipientAdded{Age: st.Age, Sealed: st.Sealed}}, nil
	})
	return out, err
}

// rotation makes the statement by which a person puts a new recipient in the place of one of theirs.
func (c *CA) rotateRecipient(ctx context.Context, q *api.RotationAsk, from netip.Addr) (*api.Challenge, error) {
	if err := checkRecipient(q.Age, q.Sealed); err != nil {
		return nil, err
	}
	if _, err := transcript.ParseRecipients([]string{q.Old}); err != nil || q.Old == q.Age {
		return nil, badRequest("old: want the recipient that is replaced")
	}
	return c.begin(ctx, q.Person, from, &statement.ReadingRotation{Old: q.Old, Age: q.Age, Sealed: q.Sealed}, nil)
}

func (c *CA) signRotateRecipient(ctx context.Context, id, armored string, from netip.Addr) (*api.RecipientState, error) {
	out := &api.RecipientState{}
	err := c.finish(ctx, id, armored, from, statement.KindReadingRotation, func(tx *state.Tx, a *act) (outcome, error) {
		st := a.ch.st.(*statement.ReadingRotation)
		all, err := tx.Recipients()
		if err != nil {
			return outcome{}, err
		}
		if !slices.ContainsFunc(all, func(r state.Recipient) bool { return r.Age == st.Old && r.Person == st.Person }) {
			return outcome{}, &api.Problem{Status: 409, Code: api.CodeConflict, Detail: fmt.Sprintf("nothing is sealed to that recipient as %s's: it was removed, or never recorded", st.Person),
				Next: []string{"breakglass reviewer init   makes and records one; move the file of the old one away first"}}
		}
		if err := c.fits(tx, st.Age, st.Old); err != nil {
			return outcome{}, err
		}
		if err := unclaimed(tx, st.Age, st.Person); err != nil {
			return outcome{}, err
		}
		out.Person, out.Age, out.Reader = st.Person, st.Age, c.policy.Load().IsReader(st.Person)
		return outcome{facts: &ledger.RecipientRotated{Old: st.Old, Age: st.Age, Sealed: st.Sealed}}, nil
	})
	return out, err
}

// orderRemoveRecipients takes a person out: their identity may be in other hands. What is sealed to it already stays so.
func (c *CA) orderRemoveRecipients(tx *state.Tx, o *order) (outcome, error) {
	person := name.Person(o.Target)
	all, err := tx.Recipients()
	if err != nil {
		return outcome{}, err
	}
	f := &ledger.RecipientsRemoved{Person: person, Why: o.Reason}
	for _, r := range all {
		if r.Person == person {
			f.Ages = append(f.Ages, r.Age)
		}
	}
	if len(f.Ages) == 0 {
		return outcome{}, &api.Problem{Status: 404, Code: api.CodeUnknownTarget, Detail: fmt.Sprintf("nothing is sealed to %s", person), Next: []string{"breakglass-ca recipients, on the CA's machine, lists them"}}
	}
	o.done.Removed = f.Ages
	return outcome{facts: f, then: func(tx *state.Tx) error {
		s, err := c.recipientSet(tx, c.policy.Load(), c.now())
		o.done.Readers = len(s.readers)
		return err
	}}, nil
}

// orderRecovery sets the recovery key's public half, whose text came beside the signature.
func (c *CA) orderRecovery(tx *state.Tx, o *order) (outcome, error) {
	age := o.recovery
	if statement.RecipientFingerprint(age) != o.Target {
		return outcome{}, &api.Problem{Status: 409, Code: api.CodeConflict, Detail: "the recipient beside the signature is not the one that was signed for"}
	}
	if _, err := transcript.ParseRecipients([]string{age}); err != nil {
		return outcome{}, badRequest("recovery: %v", err)
	}
	old, _, err := tx.Recovery()
	if err != nil {
		return outcome{}, err
	}
	if old == age {
		return outcome{}, &api.Problem{Status: 409, Code: api.CodeConflict, Detail: "that is the recovery key already"}
	}
	if err := c.fits(tx, age, old); err != nil {
		return outcome{}, err
	}
	all, err := tx.Recipients()
	if err != nil {
		return outcome{}, err
	}
	for _, r := range all {
		if r.Age == age {
			return outcome{}, &api.Problem{Status: 409, Code: api.CodeConflict, Detail: fmt.Sprintf("that recipient is %s's own: a recovery key is nobody's, and on paper", r.Person), Next: []string{"breakglass recovery init"}}
		}
	}
	return outcome{facts: &ledger.RecoverySet{Age: age, Old: old, Why: o.Reason}}, nil
}

// RecipientList is to whom recordings are sealed, and what is wrong with that.
type RecipientList struct {
	Recipients []ListedRecipient `json:"recipients"`
	Recovery   string            `json:"recovery,omitempty"` // its fingerprint
	Kind       string            `json:"kind,omitempty"`     // "post-quantum" or "classical"
	Set        int64             `json:"set,omitempty"`      // the entry that names it
	Findings   []RecipientFault  `json:"findings"`
}

// ListedRecipient is one that somebody named, whether it counts or not.
type ListedRecipient struct {
	Person      name.Person `json:"person"`
	Fingerprint string      `json:"fingerprint"`
	Age         string      `json:"age"`
	Sealed      string      `json:"sealed"`
	Counts      bool        `json:"counts"`
	Why         string      `json:"why,omitempty"` // it doesn't: a word of ledger.LeftOut, or "no_reader"
	Entry       int64       `json:"entry"`
}

// RecipientFault is what is wrong with the set. Fatal: nothing new could be read, or no session opens.
type RecipientFault struct {
	Code  string `json:"code"`
	Text  string `json:"text"`
	Hint  string `json:"hint"`
	Fatal bool   `json:"fatal"`
}

// Recipients lists and judges the set of now.
func (c *CA) Recipients(ctx context.Context) (*RecipientList, error) {
	out := &RecipientList{Recipients: []ListedRecipient{}, Findings: []RecipientFault{}}
	err := c.state.View(ctx, func(tx *state.Tx) error {
		p := c.policy.Load()
		s, err := c.recipientSet(tx, p, c.now())
		if err != nil {
			return err
		}
		if _, out.Set, err = tx.RecipientSet(); err != nil {
			return err
		}
		all, err := tx.Recipients()
		if err != nil {
			return err
		}
		recovery, _, err := tx.Recovery()
		if err != nil {
			return err
		}
		if recovery != "" {
			out.Recovery = statement.RecipientFingerprint(recovery)
		}
		if len(s.ages) > 0 {
			out.Kind = map[bool]string{true: "post-quantum", false: "classical"}[isHybrid(s.ages[0])]
		}
		for _, r := range all {
			l := ListedRecipient{Person: r.Person, Fingerprint: statement.RecipientFingerprint(r.Age), Age: r.Age, Sealed: r.Sealed, Counts: slices.Contains(s.ages, r.Age), Entry: r.Index}
			if !p.IsReader(r.Person) {
				l.Why = "no_reader"
			}
			for _, x := range s.facts.LeftOut {
				if x.Age == l.Fingerprint {
					l.Why = x.Why
				}
			}
			out.Recipients = append(out.Recipients, l)
		}
		out.Findings = judgeSet(p, all, s, recovery != "")
		return nil
	})
	return out, err
}

// judgeSet says what would keep recordings from being read, worst first.
func judgeSet(p *policy.Policy, all []state.Recipient, s recipientSet, recovery bool) []RecipientFault {
	out := []RecipientFault{}
	add := func(fatal bool, code, hint, format string, a ...any) {
		out = append(out, RecipientFault{code, fmt.Sprintf(format, a...), hint, fatal})
	}
	var lapsed []string
	for _, x := range s.facts.Sealed {
		if x.Lapsed && !slices.Contains(lapsed, string(x.Person)) {
			lapsed = append(lapsed, string(x.Person))
		}
	}
	switch {
	case len(s.readers) == 0:
		add(true, "no_reader", "breakglass reviewer init   by somebody whom the policy lists as a reader", "nobody could read a recording: no session opens")
	case len(lapsed) == len(s.readers):
		add(true, "all_lapsed", "breakglass renew   by one of them, and whoever vouches", "the enrolment of every reader lapsed (%s): recordings are made, and nobody can ask for them", strings.Join(lapsed, ", "))
	case len(s.readers) == 1:
		add(false, "one_reader", "breakglass reviewer init   by a second reader", "%s alone can read recordings", s.readers[0])
	}
	if !recovery {
		add(false, "no_recovery", "breakglass recovery init   on an offline machine", "there is no recovery key: what all readers lose is lost")
	}
	for _, x := range s.facts.LeftOut {
		switch x.Why {
		case ledger.LeftOutMixed:
			add(true, "mixed", "breakglass reviewer rotate   by them, or breakglass-ca recipients remove "+string(x.Person), "%s's recipient is of another kind than the others: nothing is sealed to it", x.Person)
		case ledger.LeftOutMany:
			add(true, "too_many", "breakglass-ca recipients remove "+string(x.Person), "there are more than %d recipients: nothing is sealed to one of %s", maxReading, x.Person)
		case ledger.LeftOutLapsed:
			add(false, "lapsed", "breakglass renew   by them", "the enrolment of %s lapsed: nothing is sealed to them", x.Person)
		case ledger.LeftOutRevoked:
			add(false, "revoked", "breakglass-ca recipients remove "+string(x.Person), "no key of %s is left: nothing is sealed to them", x.Person)
		}
	}
	var missing []string
	for _, person := range p.People() {
		if p.IsReader(person) && !slices.ContainsFunc(all, func(r state.Recipient) bool { return r.Person == person }) {
			missing = append(missing, string(person))
		}
	}
	if len(missing) > 0 && len(s.readers) > 0 {
		add(false, "no_identity", "breakglass reviewer init   by them", "readers of the policy without an identity: %s", strings.Join(missing, ", "))
	}
	return out
}

// isRecovery is the target of an order that sets a recovery key.
func isRecovery(s string) error {
	if err := isFingerprint(s); err != nil {
		return errors.New("target: want the recipient's SHA256:… fingerprint")
	}
	return nil
}
