package ledger

// A recording is in the store before its session is over, piece by piece. What is there is fixed from time to time: with a head in the ledger no
// byte below it can be another later, whoever holds the store, and whoever holds the jump.

// SessionHead is a jump's fact: the store holds the running session's stream up to here. Each is behind the one before; what ends the session is behind the last.
type SessionHead struct {
	Head Head `json:"head"`
}

func (*SessionHead) EntryType() Type { return "session.head" }
