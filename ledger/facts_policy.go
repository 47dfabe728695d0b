package ledger

import "breakglass/internal/statement"

// How a policy came into force.
const (
	AdoptedAtInit = "init" // unsigned: the first, or the founders' word stands for it
	// AdoptedBySuccession: the founders who signed the succession signed its hash.
	AdoptedBySuccession = "succession"
	AdoptedByOwners     = "owners" // as many owners of the policy before it signed as that one wants
)

// PolicyText is a piece of a policy's text (internal/policytext.Cut): a text that is longer than an entry stands in several. A piece is stored once.
type PolicyText struct {
	SHA256 statement.Hash `json:"sha256"`
	Text   string         `json:"text"`
}

// PolicyAdopted puts a policy in force. It holds the whole text, or names the pieces that make it up, each of an earlier entry: so that any decision
// can be replayed from the log alone.
type PolicyAdopted struct {
	SHA256   statement.Hash `json:"sha256"`
	Previous statement.Hash `json:"previous"`
	Text     string         `json:"text"`
	How      string         `json:"how"`
	// Pieces are the SHA-256s of the text's pieces, in order; then Text is empty.
	Pieces []statement.Hash `json:"pieces,omitempty"`
	// Diff is how the text differs from the one before, as the owners read it; of a long one the beginning, the rest follows from the texts.
	Diff string `json:"diff,omitempty"`
}

// PolicySigned is one owner's signature under a policy that is to follow the one in force.
type PolicySigned struct {
	SHA256   statement.Hash `json:"sha256"`
	Previous statement.Hash `json:"previous"`
	Changes  statement.Hash `json:"changes"` // SHA-256 of the whole diff that the owner was shown
	Touch    Touch          `json:"touch"`
}

// PolicyRefused says that the file beside the service was to become the next policy and can't: the last good one goes on.
type PolicyRefused struct {
	SHA256 statement.Hash `json:"sha256"` // of what was read; where nothing could be, of the error
	Error  string         `json:"error"`
}

func (*PolicyText) EntryType() Type    { return "policy.text" }
func (*PolicyAdopted) EntryType() Type { return "policy.adopted" }
func (*PolicySigned) EntryType() Type  { return "policy.signed" }
func (*PolicyRefused) EntryType() Type { return "policy.refused" }
