package api

import (
	"time"

	"breakglass/internal/name"
)

// Codes of a person's other channel.
//
//	POST /v1/totp/seed               TOTPSeedAsk → TOTPSeed
//	POST /v1/totp                    TOTPAsk     → Challenge
//	POST /v1/totp/{id}/signature     TOTPSigned  → TOTPState

// TOTPSeedAsk makes a seed that nobody has yet.
type TOTPSeedAsk struct {
	Person string `json:"person"`
	Device string `json:"device"`
}

// TOTPSeed is shown once. Sealed is the same seed for the CA alone; it is good until Until.
type TOTPSeed struct {
	Secret string    `json:"secret"` // base32
	URI    string    `json:"uri"`    // otpauth://totp/…
	Sealed []byte    `json:"sealed"`
	Until  time.Time `json:"until"`
}

// TOTPAsk enrols a seed or removes a device.
type TOTPAsk struct {
	Person string `json:"person"`
	Act    string `json:"act"` // statement.TOTPEnrol or TOTPRemove
	Device string `json:"device"`
	Seed   string `json:"seed,omitempty"` // of an enrolment: SHA-256 of TOTPSeed.Sealed, hex
}

// TOTPSigned answers the challenge. TOTP is a code of the device that the statement names; Current, where a device is replaced, one of
// the device that makes codes until now.
type TOTPSigned struct {
	SSHSIG  string `json:"sshsig"`
	TOTP    string `json:"totp"`
	Current string `json:"current,omitempty"`
	Sealed  []byte `json:"sealed,omitempty"`
}

// TOTPState is what stands now.
type TOTPState struct {
	Person name.Person `json:"person"`
	Device name.Key    `json:"device"`
}
