package api

import "breakglass/internal/name"

// CodeNotLocked says that there is nothing to lift, or something else than was signed for (409).
const CodeNotLocked = "not_locked"

// What there may be to lift, by an approval about statement.AboutUnlock.
const (
	UnlockKey    = "key"    // a suspended key; Of is its fingerprint. Its person's other key lifts it alone
	UnlockCodes  = "codes"  // codes that are locked for a while; Of is totp:PERSON
	UnlockDevice = "device" // a device that makes codes and is gone: it is taken away; Of is totp:PERSON
)

// Unlock is something to lift. The hash that an approval signs is that of Entry.
type Unlock struct {
	Of        string        `json:"of"`
	What      string        `json:"what"`
	Person    name.Person   `json:"person"`
	Name      name.Key      `json:"name"` // of the key or device
	Own       bool          `json:"own"`  // the person's other key lifts it alone
	Approvers []name.Person `json:"approvers"`
	Entry     ProvenEntry   `json:"entry"` // to the checkpoint of the list
}

// Unlocks is the answer to GET /v1/unlocks (pass).
type Unlocks struct {
	Unlocks    []Unlock `json:"unlocks"`
	Checkpoint string   `json:"checkpoint"`
}
