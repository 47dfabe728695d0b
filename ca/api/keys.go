package api

import (
	"time"

	"breakglass/internal/name"
	"breakglass/internal/statement"
)

// Codes of what people read about their keys. Where a key's enrolment stands has the policy's codes: key_pending, key_lapsed, key_revoked.
const (
	CodeOtherEnrolment = "other_enrolment"     // 409: what was vouched for is not the enrolment that it names
	CodeVouched        = "already_vouched"     // 409
	CodeFounded        = "already_founded"     // 409
	CodeNotOwner       = "not_owner"           // 403: the policy's [site] names other owners
	CodeOtherFounding  = "other_founding"      // 409: not the policy, owners or keys as they are now
	CodeFounding       = "founding_incomplete" // 409: somebody has too few keys
	CodeOtherKey       = "other_key"           // 409: signed with another key than the statement names, or with the one that is lost
)

// Enrolment is a key that waits for being vouched for. What it is stands in its entry, signed by itself, and nowhere else.
type Enrolment struct {
	ID         string         `json:"id"`
	Signed     statement.Hash `json:"signed"` // names the enrolment with its signature: what vouching is given to
	Entry      ProvenEntry    `json:"entry"`
	Recovery   bool           `json:"recovery,omitempty"` // all keys that the person had are gone
	Again      bool           `json:"again,omitempty"`    // it counted before, and was renewed too late
	Needed     int            `json:"needed"`             // other people, unless another key of the person's does it
	By         []name.Person  `json:"by"`                 // whose yes counts now
	Said       []Said         `json:"said,omitempty"`
	CountsFrom time.Time      `json:"counts_from,omitzero"` // it is vouched for, and cools off
}

// EnrolmentList holds them, proved to one checkpoint.
type EnrolmentList struct {
	Checkpoint string      `json:"checkpoint"`
	Enrolments []Enrolment `json:"enrolments"`
}

// KeyStanding is one of the reader's own keys.
type KeyStanding struct {
	Name        name.Key  `json:"name"`
	Fingerprint string    `json:"fingerprint"`
	Model       string    `json:"model,omitempty"`
	Counter     uint32    `json:"counter"`
	State       string    `json:"state"` // "live", "in grace", "pending", "lapsed", "suspended", "revoked"
	Proved      time.Time `json:"proved"`
	CountsFrom  time.Time `json:"counts_from,omitzero"`
	Until       time.Time `json:"until,omitzero"` // it has to have been renewed
	Grace       time.Time `json:"grace,omitzero"` // it doesn't count any more
	Recovery    bool      `json:"recovery,omitempty"`
}

// KeyList is where a person's keys stand.
type KeyList struct {
	Person   name.Person   `json:"person"`
	Required int           `json:"required"`
	Counting int           `json:"counting"`
	Until    time.Time     `json:"until,omitzero"` // the first of them has to have been renewed
	Now      time.Time     `json:"now"`            // the CA's clock
	Keys     []KeyStanding `json:"keys"`
}

// FoundingAsk offers an owner's signature under what they have seen.
type FoundingAsk struct {
	Person string         `json:"person"`
	Policy statement.Hash `json:"policy"`
	Owners []name.Person  `json:"owners"`
	Keys   []string       `json:"keys"` // SHA256:… fingerprints, in the ledger's order
}

// FoundingState is what there is to be founded, and who has signed for it: to the owners.
type FoundingState struct {
	Founded    bool           `json:"founded"`
	Profile    string         `json:"profile"`
	Policy     statement.Hash `json:"policy"`
	Text       string         `json:"text"` // of the policy
	Owners     []name.Person  `json:"owners"`
	Keys       []string       `json:"keys"`
	Signed     []name.Person  `json:"signed"`  // under exactly this
	Stale      []name.Person  `json:"stale"`   // under what it was before: they have to sign again
	Missing    []string       `json:"missing"` // what keeps it from being founded, in words
	Checkpoint string         `json:"checkpoint,omitempty"`
	Entries    []ProvenEntry  `json:"entries,omitempty"` // of the keys
}

// RenewalAsk has one key prove that it is there.
type RenewalAsk struct {
	Person string `json:"person"`
	Key    string `json:"key"` // SHA256:… fingerprint
}

// RenewalKey is one of the keys that have to prove it.
type RenewalKey struct {
	Name        name.Key  `json:"name"`
	Fingerprint string    `json:"fingerprint"`
	State       string    `json:"state"`
	Proved      time.Time `json:"proved"`
	Missing     bool      `json:"missing,omitempty"` // it has to prove it still
}

// RenewalState is how far a renewal has come.
type RenewalState struct {
	Keys    []RenewalKey `json:"keys"`
	Renewed bool         `json:"renewed"`
	Until   time.Time    `json:"until,omitzero"`
	// Vouch are the keys that were renewed too late: somebody has to vouch for them.
	Vouch []name.Key `json:"vouch,omitempty"`
}

// LossAsk reports a key as lost. Key is its fingerprint, or its name among the person's keys.
type LossAsk struct {
	Person string `json:"person"`
	Key    string `json:"key"` // SHA256:… fingerprint
	Reason string `json:"reason"`
}

// LossState is what the report has done.
type LossState struct {
	Key      name.Key `json:"key"`
	Stopped  *Stopped `json:"stopped"`
	Counting int      `json:"counting"` // keys that are left
	Required int      `json:"required"`
}
