package api

import (
	"time"

	"breakglass/internal/name"
	"breakglass/internal/statement"
)

// MaxPolicy bounds a policy's text, proposed or read.
const MaxPolicy = 8 << 20

// Codes of what those who change the policy read.
const (
	CodeNoProposal    = "no_proposal"    // 404: nothing is proposed
	CodeOtherPolicy   = "other_policy"   // 409: what was signed is not the proposal, or does not follow the policy in force
	CodePolicyRefused = "policy_refused" // 422: it can't be the next one; Detail holds every fault
)

// PolicyState is the policy in force and what is to follow it: GET /v1/policy.
type PolicyState struct {
	Policy  statement.Hash `json:"policy"` // in force
	Text    string         `json:"text,omitempty"`
	Owners  []name.Person  `json:"owners"`
	Signers int            `json:"signers"` // how many of them have to sign
	// Proposal is nil where nothing is proposed. Of an answer to a signature, Adopted says that it is in force now.
	Proposal *PolicyProposal `json:"proposal,omitempty"`
	Adopted  bool            `json:"adopted,omitempty"`
}

// PolicyProposal is what owners have to read before they sign. Who reads it makes the diff from the two texts.
type PolicyProposal struct {
	Policy  statement.Hash `json:"policy"`
	Changes statement.Hash `json:"changes"` // SHA-256 of the diff between the texts
	Text    string         `json:"text,omitempty"`
	From    string         `json:"from"` // a person, or the file beside the service
	Since   time.Time      `json:"since"`
	Signed  []name.Person  `json:"signed"` // exactly this, with keys that count now
	Stale   []name.Person  `json:"stale"`  // owners who signed something else, or with a key that no longer counts
}

// PolicyAsk asks for the statement of an owner's signature under what they have read: POST /v1/policy.
type PolicyAsk struct {
	Person   string         `json:"person"`
	Policy   statement.Hash `json:"policy"`
	Previous statement.Hash `json:"previous"`
	Changes  statement.Hash `json:"changes"`
}

// PolicyWithdraw takes back what is proposed: POST /v1/policy/withdrawal, with an owner's pass. It only takes away, and no signature is lost to anybody.
type PolicyWithdraw struct {
	Policy statement.Hash `json:"policy"`
}
