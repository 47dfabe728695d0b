package ledger

// A session goes on for a while when its jump doesn't hear of the CA any more (the policy's grace). What happens then is seen by nobody at that
// moment, and no revocation reaches it: so the jump says so, and the CA hears it as soon as it is back.

// SessionBlind is a jump's fact: from here on the session runs without the CA.
type SessionBlind struct {
	Heard Time `json:"heard"` // by the jump's clock: the CA's last sign of life
}

// SessionSighted is a jump's fact: the CA is heard again, and the session goes on.
type SessionSighted struct {
	Seconds int `json:"seconds"` // how long it was blind
}

func (*SessionBlind) EntryType() Type   { return "session.blind" }
func (*SessionSighted) EntryType() Type { return "session.sighted" }
