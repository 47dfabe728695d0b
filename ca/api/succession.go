package api

import (
	"breakglass/internal/name"
	"breakglass/internal/statement"
	"breakglass/ledger"
)

// A ledger that is lost is followed by another. The CA that holds it says so in each answer's HeaderOrigin; who pinned another asks for the proof.
//
//	GET  /v1/succession?origin=O&from=N → Succession (public): from the head of N entries of the lost ledger O that the asker holds
//	POST /v1/succession                 SuccessionAsk → Challenge, until as many founders signed as it takes
//	POST /v1/succession/{id}/signature  Signed → Succession
const (
	PathSuccession = "/v1/succession"
	HeaderOrigin   = "Breakglass-Origin"
)

// CodeNotSucceeded (503) says that the CA waits for its founders' signatures and serves nothing else.
const CodeNotSucceeded = "not_succeeded"

// Succession is all that proves a succession to whoever pinned the lost ledger: founding and enrolments are entries of it, under the head that Facts
// names; Proof leads there from the asker's own.
type Succession struct {
	Facts    ledger.SiteSucceeded `json:"facts"`
	Founding ProvenEntry          `json:"founding"`
	Keys     []ProvenEntry        `json:"keys"`    // the enrolment of each signer's key
	Vouched  []ProvenEntry        `json:"vouched"` // and, of those that the founding doesn't name, the entry by which it counts
	Proof    []statement.Hash     `json:"proof"`
	// Entry is the new ledger's first, under its head. Absent: it takes more signatures.
	Entry *ProvenEntry `json:"entry,omitempty"`
	// Offer is what is to be signed, until it stands.
	Offer *SuccessionOffer `json:"offer,omitempty"`
}

// SuccessionOffer is what founders read.
type SuccessionOffer struct {
	Owners  []name.Person `json:"owners"` // who may sign
	Needed  int           `json:"needed"`
	Policy  string        `json:"policy"` // its text
	Carried []CarriedOver `json:"carried"`
	Missing []string      `json:"missing"` // what doesn't go on, in words
}

// CarriedOver is one enrolment or recipient that goes on, with its entry in the lost ledger.
type CarriedOver struct {
	Person    name.Person              `json:"person"`
	Key       *ledger.KeyCarried       `json:"key,omitempty"`
	Recipient *ledger.RecipientCarried `json:"recipient,omitempty"`
	Entry     ProvenEntry              `json:"entry"`
}

// SuccessionAsk asks for the statement to sign.
type SuccessionAsk struct {
	Person string `json:"person"`
}
