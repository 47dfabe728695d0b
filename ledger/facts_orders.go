package ledger

// What a revocation may be about, and what its target is.
const (
	RevokedCertificate = "certificate" // a serial, decimal
	RevokedGrant       = "grant"       // a request id
	RevokedSession     = "session"     // a session id; its grant goes on
	RevokedKey         = "key"         // a SHA256:… fingerprint
	RevokedPerson      = "person"      // all that is theirs up to this entry: keys, passes, grants, invites, recipients
	RevokedJump        = "jump"        // a jump's name
)

// On whose word something is revoked.
const (
	RevokedByOrder = "order" // the statement is an operator's order
	RevokedByKill  = "kill"  // the statement is a call of a pass's holder: stopping is always allowed
	RevokedByEnd   = "end"   // the statement is a call of the grant's own client key, or of its person's pass
)

// Revoked stops something at once. Nothing by or under it is done after this entry; the jumps end what runs.
type Revoked struct {
	What   string `json:"what"`
	Target string `json:"target"`
	Why    string `json:"why"`
	How    string `json:"how"`
	Pass   string `json:"pass,omitempty"`  // whose holder signed the call
	Asked  string `json:"asked,omitempty"` // the call's body, whose SHA-256 was signed
	// Until is when all that it stops would have ended by itself; nil is never.
	Until *Time `json:"until,omitempty"`
}

func (*Revoked) EntryType() Type { return "revoked" }
