package ledger

import "breakglass/internal/statement"

// PolicyImported adds new hosts to the policy in force, by the order of one operator: to groups that the owners opened. The text after is the text
// before with the hosts at its end (internal/policytext.Import), so that it follows from the log like any other.
type PolicyImported struct {
	SHA256   statement.Hash `json:"sha256"`   // of the text after
	Previous statement.Hash `json:"previous"` // of the text before
	Hosts    string         `json:"hosts"`    // a file of [hosts.NAME]; its SHA-256 is the order's detail
}

func (*PolicyImported) EntryType() Type { return "policy.imported" }
