package api

import (
	"time"

	"breakglass/internal/name"
	"breakglass/internal/statement"
)

// Codes of what operators and those who stop something read.
const (
	CodeNotOperator    = "not_operator"    // 403: the policy names others
	CodeOperatorNeeded = "operator_needed" // 403: after the founding it takes an operator's touch
	CodeRevoked        = "revoked"         // 403: what was shown has been revoked
	CodeKeyState       = "key_state"       // 403: the key's enrolment does not count for this
	CodeUnknownTarget  = "unknown_target"  // 404: there is no such thing to order about
	CodeOver           = "over"            // 409: it was revoked, or has ended, before
	CodeImportRefused  = "import_refused"  // 422: what an import would add is not one operator's to add; Detail has a line a host
)

// OrderAsk asks for the statement of an operator's order. Acts are statement.OrderInvitePerson …
type OrderAsk struct {
	Person string         `json:"person"`
	Act    string         `json:"act"`
	Target string         `json:"target"`
	Reason string         `json:"reason,omitempty"`
	Detail statement.Hash `json:"detail,omitzero"` // of an invite: SHA-256 of its secret, which stays with the operator
}

// OrderDone is an order that was carried out.
type OrderDone struct {
	Act    string `json:"act"`
	Target string `json:"target"`
	// Invite: until when the token is good, and a checkpoint to pin that covers the entry.
	Expires    time.Time `json:"expires,omitzero"`
	Checkpoint string    `json:"checkpoint,omitempty"`
	// Revocation: what it stopped and what it leaves behind.
	Stopped *Stopped `json:"stopped,omitempty"`
	Left    *Left    `json:"left,omitempty"`
	// Import: the hosts that are new.
	Imported []name.Host `json:"imported,omitempty"`
	// Removal of a person's recipients: those, and how many readers are left.
	Removed []string `json:"removed,omitempty" api:"2"`
	Readers int      `json:"readers,omitempty" api:"2"`
}

// SignedOrder is a signed order and what goes beside it: of an import the hosts' text, whose SHA-256 the order names.
type SignedOrder struct {
	SSHSIG string `json:"sshsig"`
	Hosts  []byte `json:"hosts,omitempty"` // base64: it has lines
	// Recovery is the age recipient that an order sets, whose fingerprint the order names.
	Recovery string `json:"recovery,omitempty" api:"2"`
	// Witnesses is the list that an order gives the site, whose fingerprint the order names.
	Witnesses []string `json:"witnesses,omitempty" api:"2"`
}

// Stopped is what a revocation put an end to.
type Stopped struct {
	Grants   []name.RequestID `json:"grants"`   // that were alive or waited
	Sessions []name.SessionID `json:"sessions"` // that ran; their jumps end them
}

// Left is what a person who leaves leaves behind.
type Left struct {
	Unreviewed []name.RequestID `json:"unreviewed"` // grants of theirs, of the last 30 days, that nobody has reviewed
	Recipients []string         `json:"recipients"` // age public keys to which nothing is sealed any more
	Rules      []string         `json:"rules"`      // what the policy would lack without them, in words
}

// StopAsk stops a grant or a session: POST /v1/requests/{id}/kill (pass), …/end (its client key, or its person's pass). Session, if not empty,
// stops that one alone.
type StopAsk struct {
	Why     string         `json:"why"`
	Session name.SessionID `json:"session,omitempty"`
}

// JumpOrders are the entries that concern jumps behind an index, in order, each with its proof to Checkpoint. None is a heartbeat.
type JumpOrders struct {
	Entries    []ProvenEntry `json:"entries"`
	Checkpoint string        `json:"checkpoint"`
	Index      int64         `json:"index"` // of the last entry that was looked at; ask for what is after it
	Now        time.Time     `json:"now"`
}

// MaxListen is the longest that GET /v1/jumps/orders?after=INDEX&wait=SECONDS holds the line.
const MaxListen = 25 * time.Second
