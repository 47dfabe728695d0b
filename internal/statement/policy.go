package statement

import (
	"time"

	"breakglass/internal/name"
)

// KindPolicy is an owner's signature under the policy that is to follow the one in force.
const KindPolicy Kind = "policy"

// Policy is one owner's yes to exactly one change: from the text with one SHA-256 to the text with another. Each owner signs one of their own; it
// counts for no other change, and not once another policy came into force.
type Policy struct {
	Origin     string      `st:"origin"`
	Epoch      int         `st:"epoch"`
	Checkpoint Checkpoint  `st:"checkpoint"`
	ID         string      `st:"change"`
	Nonce      Nonce       `st:"nonce"`
	Issued     time.Time   `st:"issued"`
	Expires    time.Time   `st:"expires"`
	Person     name.Person `st:"person"`
	Policy     Hash        `st:"policy"`   // SHA-256 of the whole text that is to come into force
	Previous   Hash        `st:"previous"` // of the one that it follows
	Changes    Hash        `st:"changes"`  // of the diff between them (internal/policytext.Diff), as the owner was shown it
	Sources    []string    `st:"source"`
}

func (*Policy) Kind() Kind { return KindPolicy }
