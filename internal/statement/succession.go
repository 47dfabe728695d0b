package statement

import (
	"time"

	"breakglass/internal/name"
)

// KindSuccession is signed by founders alone.
const KindSuccession Kind = "succession"

// Succession lets a new ledger, with a new key, take the place of one that is lost. Checkpoint is the lost ledger's last head; Origin and Epoch are the
// new one's.
type Succession struct {
	Origin     string      `st:"origin"`
	Epoch      int         `st:"epoch"`
	Checkpoint Checkpoint  `st:"checkpoint"`
	ID         string      `st:"succession"`
	Nonce      Nonce       `st:"nonce"`
	Issued     time.Time   `st:"issued"`
	Expires    time.Time   `st:"expires"`
	Person     name.Person `st:"person"`
	Succeeds   string      `st:"succeeds"`   // the lost ledger's origin
	LedgerKey  string      `st:"ledger-key"` // the new ledger's verifier key
	Site       Hash        `st:"site"`       // SHA-256 of the new site's JSON, as the first entry has it
	Policy     Hash        `st:"policy"`     // that goes on
	Carried    Hash        `st:"carried"`    // SHA-256 over the enrolments and recipients that go on
	Founders   []string    `st:"founders"`   // of the lost ledger, and so of the new one
	Profile    string      `st:"profile"`
}

func (*Succession) Kind() Kind { return KindSuccession }
