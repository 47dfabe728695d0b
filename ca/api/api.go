// Package api is what goes over the wire between the CA and its clients: plain JSON over HTTPS, so that curl is a client.
//
// Bodies are at most MaxBody bytes (transcript pieces: MaxPiece) and are decoded strictly. Errors are application/problem+json
// (RFC 9457) with a stable code. TLS is judged by the server's pinned public key alone.
//
// A call by a key holder (a request's client key, a pass's key, a jump's key) carries a call statement and its SSHSIG in
// the headers HeaderCall and HeaderSignature, both base64. The statement's path is the request URI, its body the SHA-256 of the
// body as sent.
//
//	POST /v1/requests                 Ask            → Challenge
//	POST /v1/requests/{id}/signature  Signed         → Granted, or with status 202 Waiting
//	GET  /v1/requests                 (pass) → RequestList: those that wait for approvals
//	GET  /v1/requests/{id}            (client key or pass) → RequestState   ?wait=SECONDS&since=VERSION holds the line until something of it changes
//	POST /v1/approvals                ApprovalAsk    → Challenge
//	POST /v1/approvals/{id}/signature Signed         → ApprovalState
//	POST /v1/enrolments               EnrolAsk       → EnrolChallenge
//	POST /v1/enrolments/{id}/key      EnrolKey       → Challenge
//	POST /v1/enrolments/{id}/signature Signed        → Enrolled
//	GET  /v1/enrolments               (pass) → EnrolmentList: keys that wait for being vouched for (POST /v1/approvals about them)
//	GET  /v1/keys                     (pass) → KeyList: the holder's own, and where each stands
//	GET  /v1/unlocks                  (pass) → Unlocks: suspended keys and locked codes, each with the entry that an approval signs
//	GET  /v1/founding                 (pass of an owner, before the founding) → FoundingState
//	POST /v1/founding                 FoundingAsk    → Challenge
//	POST /v1/founding/{id}/signature  Signed         → FoundingState
//	GET  /v1/policy                   (pass) → PolicyState: the policy in force, and what owners are to sign as the next (policy.go)
//	POST /v1/policy/proposal          (pass of an owner) the text → PolicyState
//	POST /v1/policy/withdrawal        (pass of an owner) PolicyWithdraw → PolicyState
//	POST /v1/policy                   PolicyAsk      → Challenge
//	POST /v1/policy/{id}/signature    Signed         → PolicyState
//	POST /v1/renewals                 RenewalAsk     → Challenge
//	POST /v1/renewals/{id}/signature  Signed         → RenewalState
//	POST /v1/losses                   LossAsk        → Challenge
//	POST /v1/losses/{id}/signature    Signed         → LossState
//	POST /v1/passes                   PassAsk        → Challenge
//	POST /v1/passes/{id}/signature    Signed         → PassState
//	POST /v1/recipients               RecipientAsk   → Challenge
//	POST /v1/recipients/{id}/signature Signed        → RecipientState
//	POST /v1/recipients/rotation      RotationAsk    → Challenge, and …/rotation/{id}/signature Signed → RecipientState
//	POST /v1/orders                   OrderAsk       → Challenge: an operator's order (orders.go)
//	POST /v1/orders/{id}/signature    SignedOrder    → OrderDone
//	POST /v1/requests/{id}/kill       (pass) StopAsk → Stopped
//	POST /v1/requests/{id}/end        (client key, or its person's pass) StopAsk → Stopped
//	GET  /v1/krl                      the OpenSSH revocation list for hosts (public)
//	GET  /v1/jumps/orders?after=INDEX&wait=SECONDS (jump) → JumpOrders
//	GET  /v1/site                     → SiteAnswer (public)
//	GET  /v1/sessions                 (pass) → []SessionState   ?request=ID narrows; a client key reads its own request's
//	POST /v1/jumps                    JoinAsk        → JoinAnswer
//	POST /v1/sessions                 SessionAsk (signed by the jump) → SessionAnswer
//	POST /v1/facts                    FactsAsk  (jump) → FactsAnswer
//	POST /v1/hostcerts                HostCertsAsk (jump) → HostCertsAnswer
//	GET  /v1/transcripts/{session}/size  (jump) → Size     session in its file form, k7f-2mq.1
//	PUT  /v1/transcripts/{session}?offset=N  (jump) one piece → Size
//	PUT  /v1/transcripts/{session}/envelope  (jump)
//	POST /v1/transcripts/{session}/finish (jump) FinishAsk
//	GET  /v1/transcripts/{session}    (pass) the sealed stream; ?unfinished=yes: as far as it is there, if it isn't whole
//	POST /v1/transcripts/{session}/envelope  (pass) ReadAsk → the envelope, after an entry
//	GET  /v1/evidence/{id}            (pass) → Evidence: all that a bundle of the request holds but streams and envelopes
//	GET  /v1/checkpoint               the signed note (public)
//	GET  /v1/proof/consistency?from=N&to=M → ConsistencyProof (public)
//	GET  /v1/entries/{n}              (pass) → ProvenEntry
//	POST /v1/jumps/tail               Tail (jump) → TailState: what a jump keeps of a ledger that lost its end (tail.go)
//	POST /v1/checkpoint               SeenHead → TailState (public): a head that the CA signed, by whoever sees it show another history
package api

import (
	"fmt"
	"time"

	"breakglass/internal/name"
	"breakglass/internal/statement"
	"breakglass/ledger"
)

const (
	// MaxBody bounds a JSON body, so that a stranger's can't fill memory.
	MaxBody = 64 << 10
	// MaxPiece bounds one piece of a transcript.
	MaxPiece = 1 << 20
	// HeaderCall and HeaderSignature carry a call statement and its SSHSIG, both base64 (standard, padded).
	HeaderCall      = "Breakglass-Call"
	HeaderSignature = "Breakglass-Signature"
	// CallSkew is how far a call's time may be from the CA's.
	CallSkew = 2 * time.Minute
	// Application is the FIDO application (RP id) of every enrolled key.
	Application = "ssh:breakglass"
)

// Problem is an error answer. Next says what to type; Reasons stands in a denial by the policy.
type Problem struct {
	Status  int             `json:"status"`
	Title   string          `json:"title"`
	Code    string          `json:"code"`
	Detail  string          `json:"detail"`
	Next    []string        `json:"next,omitempty"`
	Reasons []ledger.Reason `json:"reasons,omitempty"`
	Rule    name.Rule       `json:"rule,omitempty"`
	Request name.RequestID  `json:"request,omitempty"`
}

func (p *Problem) Error() string { return fmt.Sprintf("%s: %s", p.Code, p.Detail) }

// About names the request that the problem is about.
func (p *Problem) About(id name.RequestID) *Problem {
	p.Request = id
	return p
}

// Codes of problems that are no policy reason (those are policy's own codes, listed in Reasons, under CodeDenied).
const (
	CodeDenied      = "denied"              // 403: by the policy, after a valid signature; Reasons says why
	CodeApproval    = "approval_needed"     // 403: the rule asks for approvals
	CodeRefused     = "refused"             // 403: one text for unknown person, unknown key, wrong key, bad signature
	CodeSeen        = "seen_refused"        // 400: a token of POST /v1/seen that is not good
	CodePlace       = "place_refused"       // 403: the pre-check; names no host, rule or person
	CodeNoTouch     = "no_touch"            // 403
	CodeNoPIN       = "no_pin"              // 403
	CodeLate        = "late"                // 409: counter not above the last accepted
	CodeSuspended   = "key_suspended"       // 403
	CodeExpired     = "statement_expired"   // 410: unknown, used or expired statement
	CodeBadRequest  = "bad_request"         // 400
	CodeTooMany     = "too_many"            // 429
	CodeNotFound    = "not_found"           // 404
	CodePass        = "pass_needed"         // 401
	CodeSession     = "session_refused"     // 403
	CodeGrantEnded  = "grant_ended"         // 410
	CodeInvite      = "invite_refused"      // 403: unknown, used or expired token
	CodeAttestation = "attestation_refused" // 403: the key doesn't prove a make that the policy lists; Reasons says why
	CodeNotFounded  = "not_founded"         // 403: before the founding entry
	CodeNoRecipient = "no_recipient"        // 403: nobody could read the transcript
	CodeConflict    = "conflict"            // 409
	CodeReading     = "reading_back"        // 503: a recording's end was told, and the store still reads it back; ask again
	CodeInternal    = "internal"            // 500
	CodeFull        = "ledger_full"         // 507
	CodeCustody     = "custody_unavailable" // 503: the CA's signing key can't be used just now; nothing was issued
)

// CodeUnknown (503) says that the ledger could not be written, and that whether what was asked stands is not known yet.
const CodeUnknown = "outcome_unknown"

// KeyHandle is a key to ask: KeyFile is the OpenSSH private key file of the security key (handle and flags, no secret), with
// which `ssh-keygen -Y sign` signs on a fresh laptop.
type KeyHandle struct {
	Name         name.Key `json:"name"`
	PublicKey    string   `json:"public_key"`
	CredentialID []byte   `json:"credential_id"`
	Application  string   `json:"application"`
	KeyFile      string   `json:"key_file"`
}

// Challenge is a statement to sign with one of the keys within statement.Validity.
type Challenge struct {
	ID        string      `json:"id"`
	Statement string      `json:"statement"`
	Namespace string      `json:"namespace"`
	Keys      []KeyHandle `json:"keys"`
}

// Signed answers a challenge: the armored SSHSIG.
type Signed struct {
	SSHSIG string `json:"sshsig"`
	TOTP   string `json:"totp,omitempty"` // of a request, where a rule asks for it, and of a recovery: the code of the other channel
}

// Ask opens a request. Minutes 0 asks for what the rule gives.
type Ask struct {
	Kind      string         `json:"kind,omitempty"` // "" is new
	Of        name.RequestID `json:"of,omitempty"`
	Person    string         `json:"person"`
	Login     string         `json:"login"`
	Host      string         `json:"host"`
	Minutes   int            `json:"minutes,omitempty"`
	Reason    string         `json:"reason"`
	Ticket    string         `json:"ticket,omitempty"`
	Failure   string         `json:"failure,omitempty"`
	Severity  string         `json:"severity,omitempty"`
	Forwards  []string       `json:"forwards,omitempty"`
	Drill     string         `json:"drill,omitempty"`
	ClientKey string         `json:"client_key"` // authorized_keys form, ed25519
	// Seen are tokens of POST /v1/seen, at most MaxSeen: the addresses that the certificate has to be good from beside the one that asks.
	Seen []string `json:"seen,omitempty"`
}

// Granted is an allowed request.
type Granted struct {
	ID          name.RequestID    `json:"id"`
	Person      name.Person       `json:"person"`
	Login       name.Login        `json:"login"`
	Host        name.Host         `json:"host"`
	Certificate string            `json:"certificate"`
	Rule        name.Rule         `json:"rule"`
	Why         string            `json:"why"`
	Minutes     int               `json:"minutes"`
	Until       time.Time         `json:"until"`
	Forwards    []string          `json:"forwards,omitempty"`
	Jumps       []ledger.SiteJump `json:"jumps"`
	HostCA      []string          `json:"host_ca"`
	Checkpoint  string            `json:"checkpoint"`           // signed note that covers the grant's entries
	Approved    []name.Person     `json:"approved,omitempty"`   // who let them in
	Overridden  int               `json:"overridden,omitempty"` // how many missing approvals an override replaced
	// Enrolment is when the first of the person's keys has to have been renewed: what to warn of ahead.
	Enrolment time.Time `json:"enrolment_until,omitzero"`
}

// RequestState is what a request has become.
type RequestState struct {
	ID         name.RequestID       `json:"id"`
	State      string               `json:"state"` // "open", "expired", "denied", "allowed", "ended", "revoked"
	Of         name.RequestID       `json:"of,omitempty"`
	Person     name.Person          `json:"person"`
	Login      name.Login           `json:"login"`
	Host       name.Host            `json:"host"`
	Reason     string               `json:"reason"`
	Statement  string               `json:"statement"` // as it was signed
	Signed     statement.Hash       `json:"signed"`    // names it with its signature: what an approval is given to
	Opened     time.Time            `json:"opened"`
	From       []ledger.UsedAddress `json:"from,omitempty"` // where it was asked from, as known then
	Waiting    *Waiting             `json:"waiting,omitempty"`
	Said       []Said               `json:"said,omitempty"`
	MayApprove bool                 `json:"may_approve,omitempty"` // the reader, by the policy of now
	Granted    *Granted             `json:"granted,omitempty"`
	Problem    *Problem             `json:"problem,omitempty"`
	Sessions   []SessionState       `json:"sessions"`
	Version    int64                `json:"version"` // rises with each change
	Now        time.Time            `json:"now"`     // the CA's clock
}

// SessionState is one session as the ledger knows it.
type SessionState struct {
	ID      name.SessionID `json:"id"`
	Person  name.Person    `json:"person"`
	Login   name.Login     `json:"login"`
	Host    name.Host      `json:"host"`
	Jump    name.Jump      `json:"jump"`
	Reason  string         `json:"reason"`
	Peer    string         `json:"peer"`
	Opened  time.Time      `json:"opened"`
	Until   time.Time      `json:"until"`
	Ended   time.Time      `json:"ended,omitzero"`
	State   string         `json:"state"` // "open", "ended", "crashed"
	Stored  bool           `json:"stored"`
	Bytes   int64          `json:"bytes"`
	Seconds int            `json:"seconds"`
	// Overridden says that its grant went on without approvals that were missing.
	Overridden bool `json:"overridden,omitempty"`
	// Watchers are those who watch it now.
	Watchers []Watcher `json:"watchers,omitempty" api:"2"`
}

// EnrolAsk spends nothing yet: it shows the invite's secret and gets a challenge.
type EnrolAsk struct {
	Invite string `json:"invite"` // the token's secret, base64url
	Key    string `json:"key"`    // the key's name
}

// EnrolChallenge is the client data whose SHA-256 the authenticator signs in its attestation.
type EnrolChallenge struct {
	ID        string      `json:"id"`
	Person    name.Person `json:"person"`
	Challenge []byte      `json:"challenge"`
	Profile   string      `json:"profile"`
	UserID    []byte      `json:"user_id"`
}

// EnrolKey shows the new credential.
type EnrolKey struct {
	PublicKey    string `json:"public_key"`
	CredentialID []byte `json:"credential_id"`
	Format       string `json:"format,omitempty"`
	AuthData     []byte `json:"auth_data,omitempty"`
	Cert         []byte `json:"cert,omitempty"`
	Signature    []byte `json:"signature,omitempty"`
	// Challenge is the client data that was attested, if the asker knows it: another than the one given out is then told from a signature
	// that doesn't verify. Chain are certificates (DER) between Cert and a root, if the key gave any.
	Challenge []byte   `json:"challenge,omitempty"`
	Chain     [][]byte `json:"chain,omitempty"`
}

// Enrolled is a key that counts.
type Enrolled struct {
	Person      name.Person `json:"person"`
	Key         name.Key    `json:"key"`
	Fingerprint string      `json:"fingerprint"`
	Pending     bool        `json:"pending,omitempty"`  // it counts once it is vouched for
	Recovery    bool        `json:"recovery,omitempty"` // all keys that the person had are gone
	Needed      int         `json:"needed,omitempty"`   // people who have to vouch, unless another key of the person's does
}

// PassAsk asks to read for 15 minutes with Holder, a fresh in-memory key.
type PassAsk struct {
	Person string `json:"person"`
	Holder string `json:"holder"`
}

// PassState is a granted pass.
type PassState struct {
	Pass  string    `json:"pass"`
	Until time.Time `json:"until"`
}

// RecipientAsk offers an age public key.
type RecipientAsk struct {
	Person string `json:"person"`
	Age    string `json:"age"`
	Sealed string `json:"sealed"`
}

// RotationAsk puts a new age public key in the place of one of the person's.
type RotationAsk struct {
	Person string `json:"person"`
	Old    string `json:"old"`
	Age    string `json:"age"`
	Sealed string `json:"sealed"`
}

// RecipientState is a recorded recipient.
type RecipientState struct {
	Person name.Person `json:"person"`
	Age    string      `json:"age"`
	Reader bool        `json:"reader"` // the policy counts this person
}

// SiteAnswer is the newest site entry with its proof.
type SiteAnswer struct {
	Site  ledger.Site `json:"site"`
	Entry ProvenEntry `json:"entry"`
}

// ProvenEntry is an entry's exact bytes with a C2SP tlog-proof against a signed checkpoint.
type ProvenEntry struct {
	Index      int64            `json:"index"`
	Entry      string           `json:"entry"`
	Proof      []statement.Hash `json:"proof"`                // RFC 6962 inclusion proof to Checkpoint's size
	Checkpoint string           `json:"checkpoint,omitempty"` // signed note; left out where the answer carries one for all
}

// ConsistencyProof shows that the tree of size From is a prefix of that of size To.
type ConsistencyProof struct {
	From  int64            `json:"from"`
	To    int64            `json:"to"`
	Proof []statement.Hash `json:"proof"`
}

// Evidence is every entry about one request, with inclusion proofs to one checkpoint: also the site's, policy's and key's entries that they stand on.
type Evidence struct {
	Request    name.RequestID `json:"request"`
	Checkpoint string         `json:"checkpoint"`
	Entries    []ProvenEntry  `json:"entries"`
}

// JoinAsk spends a jump's token.
type JoinAsk struct {
	Invite    string   `json:"invite"`
	Key       string   `json:"key"` // signs facts and calls, authorized_keys form, ed25519
	HostKey   string   `json:"host_key"`
	Addresses []string `json:"addresses"` // where people reach it, IP:PORT
	Source    []string `json:"source"`    // IPs that hosts see
}

// JoinAnswer repeats the site, which the token already pinned.
type JoinAnswer struct {
	Jump name.Jump   `json:"jump"`
	Site ledger.Site `json:"site"`
}

// SignedStatement is a machine's statement with its SSHSIG (armored).
type SignedStatement struct {
	Statement string `json:"statement"`
	SSHSIG    string `json:"sshsig"`
}

// SessionAsk is a statement of kind session.
type SessionAsk = SignedStatement

// SessionAnswer is the session.opened entry, which says all that the session may do.
type SessionAnswer struct {
	Session name.SessionID       `json:"session"`
	Person  name.Person          `json:"person"`
	Login   name.Login           `json:"login"`
	Host    name.Host            `json:"host"`
	Entry   ProvenEntry          `json:"entry"` // with Checkpoint
	Opened  ledger.SessionOpened `json:"opened"`
	Now     time.Time            `json:"now"` // the CA's clock
}

// FactsAsk delivers facts in order, without a gap.
type FactsAsk struct {
	Facts []SignedStatement `json:"facts"`
}

// FactsAnswer says up to which number the CA has appended.
type FactsAnswer struct {
	Number int64          `json:"number"`
	Hash   statement.Hash `json:"hash"`
}

// HostCertsAsk wants host certificates: for all names written out in the policy (Host empty), or for one that a pattern
// covers, while a live grant names it.
type HostCertsAsk struct {
	Host string `json:"host,omitempty"`
}

// HostCertsAnswer holds certificates in authorized_keys form over the jump's host key, with the hosts' addresses ahead for the early dial.
type HostCertsAnswer struct {
	Certificates []string               `json:"certificates"`
	Hints        map[name.Host][]string `json:"hints"` // addresses
}

// Size is how much of a transcript the store holds.
type Size struct {
	Size     int64 `json:"size"`
	Finished bool  `json:"finished"`
}

// FinishAsk closes a transcript: its head must be what a fact said. The hash of the stream may be left out, for the head's chain already fixes every byte:
// a jump has sent the stream away while it ran. The store reads all of it back and hashes that.
type FinishAsk struct {
	Head   ledger.Head    `json:"head"`
	SHA256 statement.Hash `json:"sha256,omitzero"`
}

// ReadAsk opens an envelope.
type ReadAsk struct {
	Why string `json:"why"`
}
