package api

import "breakglass/internal/statement"

const (
	// PathTail and PathSeenHead are what a CA whose ledger is frozen still takes.
	PathTail     = "/v1/jumps/tail"
	PathSeenHead = "/v1/checkpoint"
	// MaxTail bounds the entries of one piece and MaxTailBody the piece: it is held in memory, and is one transaction.
	MaxTail     = 500
	MaxTailBody = 4 << 20
)

// Codes of a ledger that lacks its end.
const (
	CodeBehind = "ledger_behind" // 503: it was longer; nothing is issued until its end is back
	CodeForked = "ledger_forked" // 503: it went on from an old copy; nothing is issued
	CodeTail   = "tail_refused"  // 400: what was offered doesn't continue the ledger, or is not signed by it; 409: it begins elsewhere
)

// Tail is a piece of the end of the ledger, from whoever keeps it. It is believed as far as it proves itself: Checkpoint is signed by the ledger's key;
// PrefixProof leads from the first From entries, whose root is Prefix, to it; Proof leads there from behind Entries. A Tail without entries says
// how far its sender's ledger goes, and nothing else.
type Tail struct {
	Checkpoint  string           `json:"checkpoint"` // signed note
	From        int64            `json:"from"`       // how many entries the CA has
	Prefix      statement.Hash   `json:"prefix"`
	PrefixProof []statement.Hash `json:"prefix_proof"`
	Entries     [][]byte         `json:"entries"` // exact bytes, at most MaxTail
	Proof       []statement.Hash `json:"proof"`
}

// TailState is what the CA has now.
type TailState struct {
	Entries    int64  `json:"entries"`
	Checkpoint string `json:"checkpoint"`
	Wanted     bool   `json:"wanted"` // it lacks its end, as far as it knows: offer what comes behind Entries
}

// SeenHead is a head that the CA's ledger signed.
type SeenHead struct {
	Checkpoint string `json:"checkpoint"`
}
