package api

import (
	"fmt"
	"time"

	"breakglass/internal/name"
	"breakglass/internal/statement"
	"breakglass/ledger"
)

// Codes of what people read about approvals, overrides and extensions.
const (
	CodeOwnRequest     = "own_request"      // 403: nobody approves themselves
	CodeNotApprover    = "not_approver"     // 403: the policy names others
	CodeApproved       = "already_approved" // 409: one person's approval counts once
	CodeDecided        = "request_decided"  // 409: it was allowed, denied or has ended
	CodeRequestExpired = "request_expired"  // 410: nobody decided it in its time
	CodeOtherRequest   = "other_request"    // 409: what was signed is not the request that it names
	CodeNotLonger      = "not_longer"       // 409: an extension that would not end later
	CodeManyWaiting    = "many_waiting"     // 409: too many requests of one person wait already
)

// MaxWait is the longest that GET /v1/requests/{id}?wait=SECONDS holds the line.
const MaxWait = 25 * time.Second

// Asked is somebody who may approve.
type Asked struct {
	Person name.Person `json:"person"`
	Seen   bool        `json:"seen"` // their client has shown them the request; the CA knows since its start only
}

// Waiting is the answer to a signed request that needs approvals (status 202). As an error it says that nothing is granted yet.
type Waiting struct {
	ID         name.RequestID `json:"id"`
	Of         name.RequestID `json:"of,omitempty"` // the grant that it would extend
	Rule       name.Rule      `json:"rule"`
	Why        string         `json:"why"`
	Approvers  []Asked        `json:"approvers"`
	Needed     int            `json:"needed"`
	Given      int            `json:"given"` // approvals that count now
	Expires    time.Time      `json:"expires"`
	OverrideAt time.Time      `json:"override_at,omitzero"` // from then on the requester may go on without them
	Now        time.Time      `json:"now"`                  // the CA's clock: what is left is counted from it
}

func (w *Waiting) Error() string {
	return fmt.Sprintf("request %s waits for approvals: %d of %d are there", w.ID, w.Given, w.Needed)
}

// Said is what a person last said to a request.
type Said struct {
	Person  name.Person `json:"person"`
	Verdict string      `json:"verdict"` // "approve" or "deny"
	Comment string      `json:"comment,omitempty"`
	At      time.Time   `json:"at"`
	Until   time.Time   `json:"until"`           // an approval counts no longer
	Grace   bool        `json:"grace,omitempty"` // given with a key whose enrolment had lapsed
}

// RequestList holds the requests that wait for approvals.
type RequestList struct {
	Requests []RequestState `json:"requests"`
}

// ApprovalAsk opens a verdict about what somebody else signed.
type ApprovalAsk struct {
	Person  string         `json:"person"`
	About   string         `json:"about"` // statement.AboutRequest …
	Of      string         `json:"of"`
	Hash    statement.Hash `json:"hash"`
	Verdict string         `json:"verdict"` // statement.Approve or Deny
	Comment string         `json:"comment,omitempty"`
}

// ApprovalState is what a recorded verdict has led to.
type ApprovalState struct {
	About   string    `json:"about"`
	Of      string    `json:"of"`
	Verdict string    `json:"verdict"`
	State   string    `json:"state"`            // of a request: "open", "allowed", "denied"; of a key: "pending", "vouched"
	Needed  int       `json:"needed,omitempty"` // approvals
	Given   int       `json:"given,omitempty"`
	Until   time.Time `json:"until,omitzero"` // of the grant, if this let them in
	// CountsFrom is when a key that this let count does: after it has cooled off.
	CountsFrom time.Time `json:"counts_from,omitzero"`
	// Reasons say why the CA denied it at last, on the facts of that moment.
	Reasons []ledger.Reason `json:"reasons,omitempty"`
}
