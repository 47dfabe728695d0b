package statement

import (
	"time"

	"breakglass/internal/name"
)

// Statements about a person's own keys.
const (
	KindRenewal Kind = "renewal"
	KindLoss    Kind = "loss"
)

// VouchCounts is how long a yes to somebody's key counts: two people who heard its fingerprint read aloud need not be awake in the same hour.
const VouchCounts = 24 * time.Hour

// CountsFor is how long an approval about something counts.
func CountsFor(about string) time.Duration {
	if about == AboutEnrolment {
		return VouchCounts
	}
	return ApprovalCounts
}

// Renewal proves that the key which signs it is still there and in its person's hands.
type Renewal struct {
	Origin     string      `st:"origin"`
	Epoch      int         `st:"epoch"`
	Checkpoint Checkpoint  `st:"checkpoint"`
	ID         string      `st:"renewal"`
	Nonce      Nonce       `st:"nonce"`
	Issued     time.Time   `st:"issued"`
	Expires    time.Time   `st:"expires"`
	Person     name.Person `st:"person"`
	Key        string      `st:"key"`  // SHA256:… fingerprint of the key that signs
	Keys       []string    `st:"keys"` // of all that have to
}

func (*Renewal) Kind() Kind { return KindRenewal }

// Loss says that a key is no longer in its person's hands. It is signed with another one of theirs.
type Loss struct {
	Origin     string      `st:"origin"`
	Epoch      int         `st:"epoch"`
	Checkpoint Checkpoint  `st:"checkpoint"`
	ID         string      `st:"loss"`
	Nonce      Nonce       `st:"nonce"`
	Issued     time.Time   `st:"issued"`
	Expires    time.Time   `st:"expires"`
	Person     name.Person `st:"person"`
	Key        string      `st:"key"` // SHA256:… fingerprint of the key that is lost
	Reason     string      `st:"reason"`
}

func (*Loss) Kind() Kind { return KindLoss }
