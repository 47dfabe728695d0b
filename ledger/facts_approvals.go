package ledger

import (
	"breakglass/internal/name"
	"breakglass/internal/statement"
)

// Waits is what a request waits for that was not decided at once.
type Waits struct {
	ClientKey string        `json:"client_key"` // authorized_keys form: its certificate is made with the last approval
	Rule      name.Rule     `json:"rule"`
	Why       string        `json:"why"`
	Approvals int           `json:"approvals"`
	Approvers []name.Person `json:"approvers"`          // who was asked: never the requester
	Until     Time          `json:"until"`              // it waits no longer
	Override  *Time         `json:"override,omitempty"` // from when an override may replace what is missing; nil: never
	Used      Used          `json:"used"`
}

// ApprovalGiven is a person's signed yes or no to what somebody else signed; the newest of a person about a thing counts. About a request, the
// entry's subject is that request and, as its person, the approver.
type ApprovalGiven struct {
	About   string         `json:"about"` // statement.AboutRequest …
	Of      string         `json:"of"`
	Hash    statement.Hash `json:"hash"` // SignedHash of what is approved
	Verdict string         `json:"verdict"`
	Comment string         `json:"comment,omitempty"`
	Until   Time           `json:"until"` // it counts no longer
	Touch   Touch          `json:"touch"`
	Key     string         `json:"key"` // "live", or "in grace": the approver's enrolment had lapsed, a short while ago
}

// RequestOverridden is the requester's second touch, for going on without the approvals that are missing. The decision follows.
type RequestOverridden struct {
	Touch     Touch `json:"touch"`
	Approvals int   `json:"approvals"` // wanted in all
	Missing   int   `json:"missing"`   // not given
	Waited    int   `json:"waited"`    // seconds since the request
}

// GrantExtended moves a grant's end. The entry's subject is the grant; Request is the extension, a request of its own (request.opened).
type GrantExtended struct {
	Request    name.RequestID `json:"request"`
	Rule       name.Rule      `json:"rule"`
	Why        string         `json:"why"`
	Minutes    int            `json:"minutes"` // from now
	Until      Time           `json:"until"`
	Used       Used           `json:"used"`
	Approvals  int            `json:"approvals,omitempty"`
	Overridden int            `json:"overridden,omitempty"`
}
