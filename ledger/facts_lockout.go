package ledger

import (
	"breakglass/internal/name"
	"breakglass/internal/statement"
)

// KeyUnlocked lifts a suspension: the person's other key did, or approvers did. From then on a counter above Seen counts.
type KeyUnlocked struct {
	How      string         `json:"how"`      // "other_key" or "approvers"
	Approved []name.Person  `json:"approved"` // whose approval.given entries it stands on
	Lifts    statement.Hash `json:"lifts"`    // of the key.suspended entry
	Seen     uint32         `json:"seen"`     // the counter that the suspension saw: the floor from now on
}

// PersonLocked says that too many signed acts of a person were refused. It denies nothing: what they ask wants an approval more.
type PersonLocked struct {
	Refused int  `json:"refused"` // within LockoutWindow
	Until   Time `json:"until"`
}

// PersonUnlocked ends that before its time: approvers let the person in while it lasted.
type PersonUnlocked struct {
	Approved []name.Person `json:"approved"`
}

// ClockAccepted says that somebody looked at the CA's clock and found it right, though the newest entry is dated later, or the jumps'
// clocks differ.
type ClockAccepted struct {
	Newest Time  `json:"newest"` // of the entry that is dated last
	Jumps  int64 `json:"jumps"`  // seconds from here to the median of the jumps' clocks; 0 if too few are known
}

func (*KeyUnlocked) EntryType() Type    { return "key.unlocked" }
func (*PersonLocked) EntryType() Type   { return "person.locked" }
func (*PersonUnlocked) EntryType() Type { return "person.unlocked" }
func (*ClockAccepted) EntryType() Type  { return "clock.accepted" }
