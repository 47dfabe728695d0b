package ledger

import (
	"time"

	"breakglass/internal/name"
	"breakglass/internal/statement"
)

// How a key came to be vouched for.
const (
	VouchedByOwnKey = "own_key" // by the person with another key of theirs
	VouchedByOthers = "others"
)

const (
	// Vouchers is how many other people stand for a key, where no other key of its person does.
	Vouchers = 2
	// RecoveryVouchers is how many where all keys of a person are lost, and no code of another channel came with the new one.
	RecoveryVouchers = 3
)

// KeyVouched lets a key count, from then on. It stands on approval.given entries about the key's enrolment.
type KeyVouched struct {
	How        string        `json:"how"`
	By         []name.Person `json:"by"`
	Needed     int           `json:"needed"`             // people, as the rules were at that moment
	Recovery   bool          `json:"recovery,omitempty"` // no other key of the person's counted
	Scarce     bool          `json:"scarce,omitempty"`   // too few others' keys counted: some of By had been renewed too late themselves
	Cooling    int           `json:"cooling"`            // seconds between this and CountsFrom, by the policy
	CountsFrom Time          `json:"counts_from"`
}

// FoundingSigned is one owner's signature under the first keys and the first policy.
type FoundingSigned struct {
	Policy statement.Hash `json:"policy"`
	Owners []name.Person  `json:"owners"`
	Keys   []string       `json:"keys"` // SHA256:… fingerprints of all keys adopted
	Touch  Touch          `json:"touch"`
}

// KeyProved says that the key, the entry's subject, is still there: it was touched for that.
type KeyProved struct {
	Touch Touch `json:"touch"`
}

// EnrolmentRenewed begins the time of a person's keys anew: each of them has shown that it is there.
type EnrolmentRenewed struct {
	Keys  []string `json:"keys"` // all that the person has, but those that never counted or are revoked
	Until Time     `json:"until"`
	// Lapsed are those that were renewed after their grace: until they are vouched for once more, they don't count.
	Lapsed []string `json:"lapsed,omitempty"`
}

// ProofCounts is how long a key that has proved that it is there counts as proved: keys are kept apart, and a renewal takes all of them.
const ProofCounts = 7 * 24 * time.Hour

// RevokedByLoss says that a key is revoked on the word of its person, who lost it and signed with another key of theirs.
const RevokedByLoss = "loss"

func (*KeyVouched) EntryType() Type       { return "key.vouched" }
func (*FoundingSigned) EntryType() Type   { return "founding.signed" }
func (*KeyProved) EntryType() Type        { return "key.proved" }
func (*EnrolmentRenewed) EntryType() Type { return "enrolment.renewed" }
