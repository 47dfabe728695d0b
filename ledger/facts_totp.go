package ledger

import (
	"breakglass/internal/name"
	"breakglass/internal/statement"
)

// TOTPEnrolled adds the seed of a person's codes, in place of an earlier one. The seed is sealed to the CA's state key; the statement names
// the SHA-256 of the sealed bytes. A code made from it was shown: Step is that code's, and counts as used.
type TOTPEnrolled struct {
	Device name.Key `json:"device"`
	Sealed []byte   `json:"sealed"`
	Step   int64    `json:"step"` // RFC 6238 T: seconds since 1970 by 30
	Touch  Touch    `json:"touch"`
}

// TOTPRemoved takes a person's codes away: the person did, with a code, or approvers did, for somebody whose device is gone.
type TOTPRemoved struct {
	Device   name.Key       `json:"device"`
	How      string         `json:"how"`                // "person" or "approvers"
	Approved []name.Person  `json:"approved,omitempty"` // by whom
	Lifts    statement.Hash `json:"lifts"`              // of the totp.enrolled entry
}

// TOTPUsed says that a code was right and new. It is appended before what the code was for is decided: whatever comes of that, neither the
// code nor an older one counts again.
type TOTPUsed struct {
	Device name.Key `json:"device"`
	Step   int64    `json:"step"`
}

// TOTPRefused says that a code came with a valid signature and did not count.
type TOTPRefused struct {
	Code  string `json:"code"`  // "totp_wrong", "totp_used", "totp_locked" …
	Wrong int    `json:"wrong"` // wrong codes since the last right one, this one too
}

// TOTPLocked stops a person's codes for a while: too many were wrong.
type TOTPLocked struct {
	Wrong int  `json:"wrong"`
	Until Time `json:"until"`
}

// TOTPUnlocked ends that before its time, by approvals.
type TOTPUnlocked struct {
	Approved []name.Person  `json:"approved"`
	Lifts    statement.Hash `json:"lifts"` // of the totp.locked entry
}

func (*TOTPEnrolled) EntryType() Type { return "totp.enrolled" }
func (*TOTPRemoved) EntryType() Type  { return "totp.removed" }
func (*TOTPUsed) EntryType() Type     { return "totp.used" }
func (*TOTPRefused) EntryType() Type  { return "totp.refused" }
func (*TOTPLocked) EntryType() Type   { return "totp.locked" }
func (*TOTPUnlocked) EntryType() Type { return "totp.unlocked" }
