package ledger

import "breakglass/internal/name"

// RecipientRotated puts a person's new recipient in the place of one of theirs. The statement is theirs.
type RecipientRotated struct {
	Old    string `json:"old"`
	Age    string `json:"age"`
	Sealed string `json:"sealed"`
}

// RecipientsRemoved ends that anything new is sealed to a person. The statement is an operator's order.
type RecipientsRemoved struct {
	Person name.Person `json:"person"`
	Ages   []string    `json:"ages"` // all that they had
	Why    string      `json:"why"`
}

// RecoverySet names the public half of the recovery key, whose other half is on paper off the CA: from here on every transcript is sealed to it, too, and
// to the one before no more. The statement is an operator's order.
type RecoverySet struct {
	Age string `json:"age"`
	Old string `json:"old,omitempty"`
	Why string `json:"why"`
}

// RecipientsChanged is to whom transcripts are sealed from here on. Each session.opened names the last one before it. It stands wherever that set is another
// than before: somebody came, went, or rotated; the policy calls others readers; a reader's enrolment lapsed or was renewed.
type RecipientsChanged struct {
	Sealed  []SealedTo `json:"sealed"`
	LeftOut []LeftOut  `json:"left_out,omitempty"` // readers with a recipient who are not among them
}

// SealedTo is one recipient. Age is its fingerprint (statement.RecipientFingerprint).
type SealedTo struct {
	Age    string      `json:"age"`
	Person name.Person `json:"person,omitempty"` // none: the recovery key
	Lapsed bool        `json:"lapsed,omitempty"` // their enrolment lapsed, and nobody whose enrolment stands would remain
}

// Why a reader is left out.
const (
	LeftOutLapsed  = "lapsed"   // no key of theirs counts any more
	LeftOutRevoked = "revoked"  // no key of theirs is left
	LeftOutMany    = "too_many" // there are more than an entry has room for; those who came first count
	LeftOutMixed   = "mixed"    // their recipient is classical and the others are post-quantum, or the other way round
)

// LeftOut is a recipient of a reader to whom nothing is sealed for now.
type LeftOut struct {
	Age    string      `json:"age"`
	Person name.Person `json:"person"`
	Why    string      `json:"why"`
}

func (*RecipientRotated) EntryType() Type  { return "recipient.rotated" }
func (*RecipientsRemoved) EntryType() Type { return "recipients.removed" }
func (*RecoverySet) EntryType() Type       { return "recovery.set" }
func (*RecipientsChanged) EntryType() Type { return "recipients.changed" }
