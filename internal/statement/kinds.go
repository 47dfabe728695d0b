package statement

import (
	"time"

	"breakglass/internal/name"
)

// Validity is how long after its issue a statement for a person may come back signed: long enough for a PIN and a
// touch, short enough that a forgotten one is worth nothing.
const Validity = 60 * time.Second

// The kinds of statement, each with its struct below. Those for a person begin alike: origin (names the ledger, so the
// installation and its profile), epoch (rises when a lost CA is succeeded), checkpoint (pins the history that the signer
// saw), the act's id, and nonce, issued, expires (used once, in time). A person's statements (Request … Pass) are made by the CA, checked field by field by
// the client against what the person asked for, and signed as they stand by a hardware key. The others are made and signed by a machine key.
const (
	KindRequest   Kind = "request"
	KindEnrolment Kind = "enrolment"
	KindFounding  Kind = "founding"
	KindRecipient Kind = "recipient"
	KindPass      Kind = "pass"
	KindApproval  Kind = "approval"
	KindTOTP      Kind = "totp"
	KindCall      Kind = "call"
	KindSession   Kind = "session"
	KindFact      Kind = "fact"
)

// Kinds of request.
const (
	RequestNew      = "new"
	RequestOverride = "override"
	RequestExtend   = "extend"
)

// Request asks for login@host. What isn't in it can't widen the decision.
type Request struct {
	Origin     string         `st:"origin"`
	Epoch      int            `st:"epoch"`
	Checkpoint Checkpoint     `st:"checkpoint"`
	ID         name.RequestID `st:"request"`
	Request    string         `st:"kind"` // RequestNew, RequestOverride, RequestExtend
	Of         name.RequestID `st:"of"`   // the request that an override or extend acts on
	Nonce      Nonce          `st:"nonce"`
	Issued     time.Time      `st:"issued"`
	Expires    time.Time      `st:"expires"`
	Person     name.Person    `st:"person"`
	Login      name.Login     `st:"login"`
	Host       name.Host      `st:"host"`
	Minutes    int            `st:"minutes"`
	Reason     string         `st:"reason"`
	Ticket     string         `st:"ticket"`
	Failure    string         `st:"failure"`
	Severity   string         `st:"severity"`
	Forwards   []string       `st:"forwards"`
	Drill      string         `st:"drill"`
	Policy     Hash           `st:"policy"`
	ClientKey  string         `st:"client-key"` // SHA256:… fingerprint
	Sources    []string       `st:"source"`     // addresses at which the CA saw the person: of the ask itself first, then those of its tokens (POST /v1/seen)
}

func (*Request) Kind() Kind { return KindRequest }

// Enrolment proves possession of a new key by its first signature.
type Enrolment struct {
	Origin      string      `st:"origin"`
	Epoch       int         `st:"epoch"`
	Checkpoint  Checkpoint  `st:"checkpoint"`
	ID          string      `st:"enrolment"`
	Nonce       Nonce       `st:"nonce"`
	Issued      time.Time   `st:"issued"`
	Expires     time.Time   `st:"expires"`
	Person      name.Person `st:"person"`
	Key         name.Key    `st:"key"`
	PublicKey   string      `st:"public-key"`  // authorized_keys form, no comment
	Credential  Hash        `st:"credential"`  // SHA-256 of the credential id
	Attestation Hash        `st:"attestation"` // SHA-256 of the attestation's authenticator data; empty if none was given
	Invite      Hash        `st:"invite"`      // SHA-256 of the invite's secret
}

func (*Enrolment) Kind() Kind { return KindEnrolment }

// Founding adopts the first keys and the first policy; each owner signs the same one.
type Founding struct {
	Origin     string      `st:"origin"`
	Epoch      int         `st:"epoch"`
	Checkpoint Checkpoint  `st:"checkpoint"`
	ID         string      `st:"founding"`
	Nonce      Nonce       `st:"nonce"`
	Issued     time.Time   `st:"issued"`
	Expires    time.Time   `st:"expires"`
	Person     name.Person `st:"person"`
	Policy     Hash        `st:"policy"`
	Owners     []string    `st:"owners"`
	Keys       []string    `st:"keys"` // SHA256:… fingerprints of all keys adopted
	Profile    string      `st:"profile"`
}

func (*Founding) Kind() Kind { return KindFounding }

// Recipient names an age public key as its owner's: transcripts are sealed to it while the policy lists the owner as a reader.
type Recipient struct {
	Origin     string      `st:"origin"`
	Epoch      int         `st:"epoch"`
	Checkpoint Checkpoint  `st:"checkpoint"`
	ID         string      `st:"recipient"`
	Nonce      Nonce       `st:"nonce"`
	Issued     time.Time   `st:"issued"`
	Expires    time.Time   `st:"expires"`
	Person     name.Person `st:"person"`
	Age        string      `st:"age"`    // age1…, age1pq1…, age1tag1…
	Sealed     string      `st:"sealed"` // how the identity is kept: "passphrase" or "hardware"
}

func (*Recipient) Kind() Kind { return KindRecipient }

// Pass lets the holder of an in-memory key read for a while.
type Pass struct {
	Origin     string      `st:"origin"`
	Epoch      int         `st:"epoch"`
	Checkpoint Checkpoint  `st:"checkpoint"`
	ID         string      `st:"pass"`
	Nonce      Nonce       `st:"nonce"`
	Issued     time.Time   `st:"issued"`
	Expires    time.Time   `st:"expires"`
	Person     name.Person `st:"person"`
	Holder     string      `st:"holder"` // authorized_keys form of the in-memory key; never a grant's
	Until      time.Time   `st:"until"`
	Sources    []string    `st:"source"`
}

func (*Pass) Kind() Kind { return KindPass }

// What an approval may be about.
const (
	AboutRequest   = "request"   // a grant, or its extension: Of is the request
	AboutEnrolment = "enrolment" // a key: Of is the enrolment's id
	AboutUnlock    = "unlock"    // a suspended key: Of is its fingerprint
)

// Verdicts of an approval.
const (
	Approve = "approve"
	Deny    = "deny"
)

// ApprovalCounts is how long an approval counts: a yes is to what is the case now.
const ApprovalCounts = 10 * time.Minute

// Approval is a person's yes or no to exactly what somebody else signed.
type Approval struct {
	Origin     string      `st:"origin"`
	Epoch      int         `st:"epoch"`
	Checkpoint Checkpoint  `st:"checkpoint"`
	ID         string      `st:"approval"`
	Nonce      Nonce       `st:"nonce"`
	Issued     time.Time   `st:"issued"`
	Expires    time.Time   `st:"expires"`
	Person     name.Person `st:"person"`
	About      string      `st:"about"` // AboutRequest …
	Of         string      `st:"of"`
	Hash       Hash        `st:"hash"`    // SignedHash of what is approved; of an unlock, the SHA-256 of the key.suspended entry
	Verdict    string      `st:"verdict"` // Approve or Deny
	Comment    string      `st:"comment"`
	Until      time.Time   `st:"until"` // counts until then: Issued and ApprovalCounts
	Sources    []string    `st:"source"`
}

func (*Approval) Kind() Kind { return KindApproval }

// Call is one HTTP request of a key holder (a client key, a pass's key, a jump's key).
type Call struct {
	Origin string    `st:"origin"`
	Method string    `st:"method"`
	Path   string    `st:"path"` // with its query
	Body   Hash      `st:"body"` // SHA-256 of the body, also of an empty one
	Issued time.Time `st:"issued"`
	Nonce  Nonce     `st:"nonce"`
}

func (*Call) Kind() Kind { return KindCall }

// Session is a jump's question whether a connection may become a session.
type Session struct {
	Origin      string     `st:"origin"`
	Jump        name.Jump  `st:"jump"`
	Issued      time.Time  `st:"issued"`
	Nonce       Nonce      `st:"nonce"`
	Certificate string     `st:"certificate"` // the client certificate, authorized_keys form
	Login       name.Login `st:"login"`       // the ssh user name
	Host        name.Host  `st:"host"`        // what the preamble named; empty without one
	Peer        string     `st:"peer"`        // address that the jump saw
	SSHSession  string     `st:"ssh-session"` // RFC 4253 session identifier, hex
	Key         string     `st:"key"`         // the jump key made for this session, authorized_keys form
	Journal     Checkpoint `st:"journal"`     // number and SHA-256 of the jump's last fact
	Door        string     `st:"door"`        // which way in: "preamble", "direct", "jump", "user"
}

func (*Session) Kind() Kind { return KindSession }

// Fact is something that a machine decided or saw. Its numbers rise from 1 without a gap.
type Fact struct {
	Origin   string         `st:"origin"`
	Machine  string         `st:"machine"` // a jump's name
	Number   int64          `st:"number"`
	Previous Hash           `st:"previous"` // SHA-256 of fact Number-1's statement; empty for the first
	Time     time.Time      `st:"time"`
	Type     string         `st:"type"` // a ledger entry's type
	Session  name.SessionID `st:"session"`
	Body     string         `st:"body"` // the type's facts as one line of ASCII JSON
}

func (*Fact) Kind() Kind { return KindFact }

// New gives an empty statement of the kind, or nil for a kind that is not known.
func New(k Kind) Statement {
	switch k {
	case KindRequest:
		return new(Request)
	case KindEnrolment:
		return new(Enrolment)
	case KindFounding:
		return new(Founding)
	case KindSuccession:
		return new(Succession)
	case KindRecipient:
		return new(Recipient)
	case KindReadingRotation:
		return new(ReadingRotation)
	case KindPass:
		return new(Pass)
	case KindApproval:
		return new(Approval)
	case KindTOTP:
		return new(TOTP)
	case KindOrder:
		return new(Order)
	case KindRenewal:
		return new(Renewal)
	case KindLoss:
		return new(Loss)
	case KindPolicy:
		return new(Policy)
	case KindCall:
		return new(Call)
	case KindSession:
		return new(Session)
	case KindFact:
		return new(Fact)
	}
	return nil
}
