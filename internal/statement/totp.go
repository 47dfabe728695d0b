package statement

import (
	"time"

	"breakglass/internal/name"
)

// Acts on the code of a person's other channel.
const (
	TOTPEnrol  = "enrol"
	TOTPRemove = "remove"
)

// TOTP adds or takes away the seed from which a device of the person's makes codes (RFC 6238). The seed itself is in no statement.
type TOTP struct {
	Origin     string      `st:"origin"`
	Epoch      int         `st:"epoch"`
	Checkpoint Checkpoint  `st:"checkpoint"`
	ID         string      `st:"totp"`
	Nonce      Nonce       `st:"nonce"`
	Issued     time.Time   `st:"issued"`
	Expires    time.Time   `st:"expires"`
	Person     name.Person `st:"person"`
	Act        string      `st:"act"`    // TOTPEnrol or TOTPRemove
	Device     name.Key    `st:"device"` // what the person calls the device that makes the codes
	Seed       Hash        `st:"seed"`   // SHA-256 of the sealed seed; empty in a removal
}

func (*TOTP) Kind() Kind { return KindTOTP }
