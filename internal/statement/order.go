package statement

import (
	"time"

	"breakglass/internal/name"
)

// KindOrder is an operator's order: what widens or stops something for others, and is nobody's own business.
const KindOrder Kind = "order"

// Acts that an operator may order, with what each has as its target.
const (
	OrderInvitePerson      = "invite-person"      // a person; detail is the SHA-256 of the invite's secret
	OrderInviteJump        = "invite-jump"        // a jump; detail as above
	OrderRevokeCertificate = "revoke-certificate" // a serial, decimal
	OrderRevokeGrant       = "revoke-grant"       // a request id
	OrderRevokeKey         = "revoke-key"         // a SHA256:… fingerprint
	OrderRevokePerson      = "revoke-person"      // a person
	OrderRevokeJump        = "revoke-jump"        // a jump
	OrderRotateKey         = "rotate-key"         // a CA key that becomes active: session_ca:SHA256:…
	OrderRetireKey         = "retire-key"         // one that is trusted no more, spelled alike
)

// Order is what an operator orders. What is longer than a line is named by its hash.
type Order struct {
	Origin     string      `st:"origin"`
	Epoch      int         `st:"epoch"`
	Checkpoint Checkpoint  `st:"checkpoint"`
	ID         string      `st:"order"`
	Nonce      Nonce       `st:"nonce"`
	Issued     time.Time   `st:"issued"`
	Expires    time.Time   `st:"expires"`
	Person     name.Person `st:"person"`
	Act        string      `st:"act"`
	Target     string      `st:"target"`
	Reason     string      `st:"reason"`
	Detail     Hash        `st:"detail"` // of anything longer that is ordered; empty if there is none
	Sources    []string    `st:"source"`
}

func (*Order) Kind() Kind { return KindOrder }

// CheckLine says whether a person's text could stand in a statement: what a signed call says is held to the same.
func CheckLine(s string) error { return checkValue(s) }
