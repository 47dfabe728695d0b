package ledger

import (
	"encoding/json"

	"breakglass/internal/name"
	"breakglass/internal/statement"
)

// All lists one value of every facts type. It is read only.
var All = []Facts{
	&SiteCreated{}, &SiteChanged{}, &PolicyAdopted{}, &Founding{}, &CAStarted{}, &CAStopped{},
	&InviteCreated{}, &KeyEnrolled{}, &KeySuspended{}, &RecipientAdded{}, &RecipientRotated{}, &RecipientsRemoved{}, &RecoverySet{}, &RecipientsChanged{}, &PassGranted{}, &JumpJoined{}, &JumpGap{},
	&KeyVouched{}, &FoundingSigned{}, &KeyProved{}, &EnrolmentRenewed{},
	&RequestOpened{}, &RequestDenied{}, &ActDenied{}, &ApprovalGiven{}, &RequestOverridden{}, &GrantAllowed{}, &GrantExtended{}, &CertificateIssued{},
	&SessionOpened{}, &SessionRefused{}, &SessionEnded{}, &SessionCrashed{}, &SessionBlind{}, &SessionSighted{}, &SessionHead{}, &HostKeyMismatch{},
	&TranscriptStored{}, &TranscriptRead{}, &SessionWatched{}, &SessionUnwatched{}, &StrangersSummed{},
	&TOTPEnrolled{}, &TOTPRemoved{}, &TOTPUsed{}, &TOTPRefused{}, &TOTPLocked{}, &TOTPUnlocked{},
	&Revoked{},
	&KeyUnlocked{}, &PersonLocked{}, &PersonUnlocked{}, &ClockAccepted{},
	&PolicyText{}, &PolicySigned{}, &PolicyRefused{}, &PolicyImported{},
	&CARestored{}, &SiteSucceeded{}, &KeyCarried{}, &RecipientCarried{},
}

// Site is what a client, a jump and a host have to know of the installation; all keys are public halves. The first of
// each list is active, the others are standby: trusted from day one.
type Site struct {
	Name      string     `json:"name"`
	Profile   string     `json:"profile"`
	Origin    string     `json:"origin"`
	Epoch     int        `json:"epoch"`
	LedgerKey string     `json:"ledger_key"` // note verifier key
	ClientCA  []string   `json:"client_ca"`  // authorized_keys form
	SessionCA []string   `json:"session_ca"`
	HostCA    []string   `json:"host_ca"`
	TLS       []string   `json:"tls"`       // SHA-256 of the SubjectPublicKeyInfo, hex
	Addresses []string   `json:"addresses"` // of the CA, IP:PORT
	Jumps     []SiteJump `json:"jumps"`
	Witnesses []string   `json:"witnesses,omitempty"` // C2SP tlog-policy lines beside the log's own
	// Retired are the CA keys that were trusted once, so that what they signed then can be checked for ever.
	Retired []RetiredKey `json:"retired,omitempty"`
}

// RetiredKey is a CA key that left the site.
type RetiredKey struct {
	Kind   string `json:"kind"`   // client_ca, session_ca, host_ca or tls
	Key    string `json:"key"`    // as the site's list had it
	Before int64  `json:"before"` // the entry that dropped it: certificates count only in entries before
}

// SiteJump is a jump that has joined.
type SiteJump struct {
	Name      name.Jump `json:"name"`
	Addresses []string  `json:"addresses"` // IP:PORT where people reach it
	Source    []string  `json:"source"`    // IPs that hosts see
	Key       string    `json:"key"`       // signs its facts
	HostKey   string    `json:"host_key"`
}

// SiteCreated is the first entry of every log.
type SiteCreated struct {
	Site Site `json:"site"`
}

// SiteChanged replaces the site.
type SiteChanged struct {
	Site Site   `json:"site"`
	Why  string `json:"why"`
}

// Founding adopts keys and policy; from then on what widens or forgives takes a touch.
type Founding struct {
	Policy statement.Hash `json:"policy"`
	Owners []name.Person  `json:"owners"`
	Keys   []string       `json:"keys"`
	How    string         `json:"how"` // "owners" (each has a founding.signed), or "demo" (init founded by itself)
}

// CAStarted and CAStopped bound the time in which the CA could answer.
type CAStarted struct {
	Version string      `json:"version"`
	Keys    []LoadedKey `json:"keys,omitempty"`
}
type CAStopped struct {
	Why string `json:"why"`
}

// LoadedKey is a private key that the CA holds since then, or, in an agent, may use.
type LoadedKey struct {
	Name        string `json:"name"`        // client_ca, session_ca, host_ca, ledger or tls
	Fingerprint string `json:"fingerprint"` // SHA256:…; of tls the hash in the site, of ledger name and hash of its verifier key
	Custody     string `json:"custody"`     // sealed, credential, agent or file
}

// InviteCreated records a one-time token by its hash.
type InviteCreated struct {
	Invite  statement.Hash `json:"invite"` // SHA-256 of the secret
	For     string         `json:"for"`    // "person" or "jump"
	Name    string         `json:"name"`
	Expires Time           `json:"expires"`
}

// Attestation is what the key said of itself at enrolment, as it came (WebAuthn "packed" or "none").
type Attestation struct {
	Format    string `json:"format"`
	Challenge []byte `json:"challenge"` // the client data whose SHA-256 was signed
	AuthData  []byte `json:"auth_data"`
	Cert      []byte `json:"cert,omitempty"`
	Signature []byte `json:"signature,omitempty"`
	// The rest stands where it was judged: with it, it can be judged again by whoever has the policy.
	Chain    [][]byte       `json:"chain,omitempty"`    // DER, from the issuer of Cert up to the root
	Model    string         `json:"model,omitempty"`    // as the policy calls it
	Firmware string         `json:"firmware,omitempty"` // as Cert says, if it does
	Root     statement.Hash `json:"root,omitzero"`      // SHA-256 of the root's DER
	Policy   statement.Hash `json:"policy,omitzero"`    // that lists model and root
}

// KeyEnrolled adds a hardware key; the statement is its own first signature.
type KeyEnrolled struct {
	Name         name.Key       `json:"name"`
	PublicKey    string         `json:"public_key"` // authorized_keys form
	CredentialID []byte         `json:"credential_id"`
	Application  string         `json:"application"`
	Counter      uint32         `json:"counter"`
	Flags        byte           `json:"flags"`
	Invite       statement.Hash `json:"invite"`
	Attestation  *Attestation   `json:"attestation,omitempty"`
	Software     bool           `json:"software,omitempty"` // demo profile: no attestation was judged
	Recovery     bool           `json:"recovery,omitempty"` // every key that this person had is gone: lost, lapsed or suspended
	TOTP         string         `json:"totp,omitempty"`     // "yes": a code of the other channel came with it
}

// KeySuspended stops a key whose counter went back.
type KeySuspended struct {
	Why      string `json:"why"`
	Accepted uint32 `json:"accepted"` // the last counter accepted
	Seen     uint32 `json:"seen"`
}

// RecipientAdded names an age public key to which transcripts are sealed.
type RecipientAdded struct {
	Age    string `json:"age"`
	Sealed string `json:"sealed"`
}

// PassGranted lets a key read until then.
type PassGranted struct {
	Pass    string   `json:"pass"`
	Holder  string   `json:"holder"` // authorized_keys form
	Until   Time     `json:"until"`
	Sources []string `json:"sources"`
	Touch   Touch    `json:"touch"`
}

// Touch is what the hardware key proved.
type Touch struct {
	Key     string `json:"key"` // SHA256:… fingerprint
	Flags   byte   `json:"flags"`
	Counter uint32 `json:"counter"`
}

// JumpJoined adds a jump.
type JumpJoined struct {
	Jump   SiteJump       `json:"jump"`
	Invite statement.Hash `json:"invite"`
}

// JumpGap says that facts of a jump are missing.
type JumpGap struct {
	Have int64 `json:"have"`
	Got  int64 `json:"got"`
}

// Reason is one typed reason of a refusal, as the person and the auditor read it.
type Reason struct {
	Code   string `json:"code"`
	Detail string `json:"detail"`
}

// Used is every looked-up fact that a decision stood on, so that it can be replayed.
type Used struct {
	Policy    statement.Hash `json:"policy"`
	Addresses []UsedAddress  `json:"addresses"`
	Key       string         `json:"key"` // "live", "suspended" …
	Touch     Touch          `json:"touch"`
	Approved  []name.Person  `json:"approved,omitempty"` // whose approvals counted
	Refused   []name.Person  `json:"refused,omitempty"`  // who had signed a no
	Added     []string       `json:"added,omitempty"`    // circumstances that each wanted an approval more
	TOTP      string         `json:"totp,omitempty"`     // "yes": a code of the other channel counted
	Waited    int            `json:"waited,omitempty"`   // seconds that the request had been open
	// Asked is what the policy was asked, policy.Inquiry's JSON: every fact that the decision stood on. A refusal that was not the policy's has none.
	Asked json.RawMessage `json:"asked,omitempty"`
}

// UsedAddress is what was known of a source address at that moment; "" is unknown.
type UsedAddress struct {
	Address   string   `json:"address"`
	Country   string   `json:"country"`
	Anonymous string   `json:"anonymous"` // "yes", "no" or "unknown"
	Networks  []string `json:"networks,omitempty"`
	Database  string   `json:"database,omitempty"` // the geo database's build time
	// Subdivision is ISO 3166-2, the widest first where there are several ("GB-ENG GB-LND"); ASN is the autonomous system; 0 is unknown.
	Subdivision string `json:"subdivision,omitempty"`
	ASN         uint32 `json:"asn,omitempty"`
}

// RequestOpened records a validly signed ask; the statement says what was asked.
type RequestOpened struct {
	Touch Touch  `json:"touch"`
	Waits *Waits `json:"waits,omitempty"` // nil: decided in the same transaction
}

// RequestDenied records a signed ask that was refused, with every reason.
type RequestDenied struct {
	Rule    name.Rule `json:"rule,omitempty"`
	Reasons []Reason  `json:"reasons"`
	Used    Used      `json:"used"`
}

// ActDenied records a validly signed act other than a request (a pass, a recipient) that was refused, with every reason; the
// statement says what was asked.
type ActDenied struct {
	Touch   Touch    `json:"touch"`
	Reasons []Reason `json:"reasons"`
}

// GrantAllowed is the decision that opened a grant.
type GrantAllowed struct {
	Rule        name.Rule `json:"rule"`
	Why         string    `json:"why"`
	Minutes     int       `json:"minutes"`
	Until       Time      `json:"until"`
	Forwards    []string  `json:"forwards,omitempty"`
	IdleSeconds int       `json:"idle_seconds"`
	Used        Used      `json:"used"`
	Approvals   int       `json:"approvals,omitempty"`  // how many were wanted in all; Used.Approved gave them
	Overridden  int       `json:"overridden,omitempty"` // how many of them an override replaced
}

// CertificateIssued is appended before the certificate leaves the process.
type CertificateIssued struct {
	Kind        string `json:"kind"` // "client", "session", "via" or "host"
	Serial      uint64 `json:"serial,string"`
	KeyID       string `json:"key_id"`
	CA          string `json:"ca"` // SHA256:… fingerprint of the signing key
	Until       Time   `json:"until"`
	Certificate string `json:"certificate"` // authorized_keys form
}

// SessionOpened says all that a session may do. The statement is the jump's signed question.
type SessionOpened struct {
	Door        string         `json:"door"`
	Peer        string         `json:"peer"`
	SSHSession  string         `json:"ssh_session"`
	Serial      uint64         `json:"serial,string"` // of the client certificate
	Key         string         `json:"key"`           // the jump key, authorized_keys form
	Certificate string         `json:"certificate"`   // the session certificate
	Via         *SessionVia    `json:"via,omitempty"` // through which the host is reached; nil: by the jump itself
	Addresses   []string       `json:"addresses"`     // of the host, IP:PORT; behind a via NAME:PORT too, where the policy has a name
	HostKeys    []string       `json:"host_keys,omitempty"`
	HostCAs     []string       `json:"host_cas,omitempty"`
	Until       Time           `json:"until"`
	IdleSeconds int            `json:"idle_seconds"`
	Grace       int            `json:"grace_seconds,omitempty"` // how long it may run without the CA's sign of life
	Budget      int64          `json:"budget,omitempty"`        // bytes that it may carry, both ways together; each extension brings as much again
	Forwards    []string       `json:"forwards,omitempty"`
	Recipients  []string       `json:"recipients"`    // age recipients
	Readers     []name.Person  `json:"readers"`       // whose they are; the recovery key's is nobody's
	Set         int64          `json:"set,omitempty"` // the recipients.changed entry that names them
	Policy      statement.Hash `json:"policy"`
	Rule        name.Rule      `json:"rule"`
	Used        Used           `json:"used"`
	// Opener is the fingerprint of the hardware key that the request was signed with, where the grant was extended or overridden with another.
	Opener string `json:"opener,omitempty"`
	// WatchedBy are people and groups, as the policy writes them, of whom one has to watch: while nobody does, the person's input goes no further than the jump.
	WatchedBy []string `json:"watched_by,omitempty"`
	// Quiet says that the person isn't told who watches.
	Quiet bool `json:"quiet,omitempty"`
	// ClockSlack is how far the host's clock may be off, in seconds, where the policy gives it more than [sshcert.SessionSlack].
	ClockSlack int `json:"clock_slack_seconds,omitempty"`
	// RetainDays is for how many days at least nobody can delete the recording, and LegalHold that nobody can before it is released, as the policy says.
	RetainDays int  `json:"retain_days,omitempty"`
	LegalHold  bool `json:"legal_hold,omitempty"`
}

// Keys are the hardware keys that the session stands on: when one is revoked, it ends.
func (f *SessionOpened) Keys() []string {
	if f.Opener == "" {
		return []string{f.Used.Touch.Key}
	}
	return []string{f.Used.Touch.Key, f.Opener}
}

// SessionRefused is the CA's no to a jump's question under a valid grant.
type SessionRefused struct {
	Peer    string   `json:"peer"`
	Reasons []Reason `json:"reasons"`
	Used    Used     `json:"used"`
}

// Head is where a transcript's chain stood.
type Head struct {
	Frames int64          `json:"frames"`
	Chain  statement.Hash `json:"chain"`
	Bytes  int64          `json:"bytes"` // of the stream
}

// SessionEnded is a jump's fact: the transcript is sealed with an end frame.
type SessionEnded struct {
	Reason   string         `json:"reason"`
	Exit     string         `json:"exit,omitempty"` // of the last command: "0", "signal TERM" …
	Seconds  int            `json:"seconds"`
	BytesIn  int64          `json:"bytes_in"`
	BytesOut int64          `json:"bytes_out"`
	Head     Head           `json:"head"`
	Envelope statement.Hash `json:"envelope"`
}

// SessionCrashed is a jump's fact at its next start: the recorder died, the transcript has no end frame.
type SessionCrashed struct {
	Head     Head           `json:"head"`
	Envelope statement.Hash `json:"envelope"`
}

// HostKeyMismatch is a jump's fact: the host showed a key that the answer did not name. The session was stopped.
type HostKeyMismatch struct {
	Via     name.Via `json:"via,omitempty"` // it was the session's via that showed the key
	Address string   `json:"address"`
	Seen    string   `json:"seen"` // SHA256:… fingerprint
	Wanted  []string `json:"wanted"`
}

// TranscriptStored says that the store holds the whole stream.
type TranscriptStored struct {
	Head     Head           `json:"head"`
	SHA256   statement.Hash `json:"sha256"` // of the stream
	Envelope statement.Hash `json:"envelope"`
	// Manifest is the object of a bucket that names the stream's pieces with their versions and hashes; nil where the store is files.
	Manifest *StoredObject `json:"manifest,omitempty"`
}

// StoredObject is one version of an object in a bucket.
type StoredObject struct {
	Bucket  string         `json:"bucket"`
	Key     string         `json:"key"`
	Version string         `json:"version"`
	SHA256  statement.Hash `json:"sha256"`
	Size    int64          `json:"size"`
}

// TranscriptRead is appended before the envelope is handed out.
type TranscriptRead struct {
	Pass string `json:"pass"`
	Why  string `json:"why"`
}

// StrangersSummed is one minute of what nobody signed for: strangers write nothing else.
type StrangersSummed struct {
	From   Time            `json:"from"`
	To     Time            `json:"to"`
	Counts []StrangerCount `json:"counts"`
}

// StrangerCount is how often a reason occurred from a network (/24 or /48).
type StrangerCount struct {
	Reason  string `json:"reason"`
	Network string `json:"network"`
	Where   string `json:"where"` // "ca" or a jump's name
	Count   int64  `json:"count"`
}

func (*SiteCreated) EntryType() Type       { return "site.created" }
func (*SiteChanged) EntryType() Type       { return "site.changed" }
func (*Founding) EntryType() Type          { return "founding" }
func (*CAStarted) EntryType() Type         { return "ca.started" }
func (*CAStopped) EntryType() Type         { return "ca.stopped" }
func (*InviteCreated) EntryType() Type     { return "invite.created" }
func (*KeyEnrolled) EntryType() Type       { return "key.enrolled" }
func (*KeySuspended) EntryType() Type      { return "key.suspended" }
func (*RecipientAdded) EntryType() Type    { return "recipient.added" }
func (*PassGranted) EntryType() Type       { return "pass.granted" }
func (*JumpJoined) EntryType() Type        { return "jump.joined" }
func (*JumpGap) EntryType() Type           { return "jump.gap" }
func (*RequestOpened) EntryType() Type     { return "request.opened" }
func (*RequestDenied) EntryType() Type     { return "request.denied" }
func (*ActDenied) EntryType() Type         { return "act.denied" }
func (*ApprovalGiven) EntryType() Type     { return "approval.given" }
func (*RequestOverridden) EntryType() Type { return "request.overridden" }
func (*GrantAllowed) EntryType() Type      { return "grant.allowed" }
func (*GrantExtended) EntryType() Type     { return "grant.extended" }
func (*CertificateIssued) EntryType() Type { return "certificate.issued" }
func (*SessionOpened) EntryType() Type     { return "session.opened" }
func (*SessionRefused) EntryType() Type    { return "session.refused" }
func (*SessionEnded) EntryType() Type      { return "session.ended" }
func (*SessionCrashed) EntryType() Type    { return "session.crashed" }
func (*HostKeyMismatch) EntryType() Type   { return "host.key_mismatch" }
func (*TranscriptStored) EntryType() Type  { return "transcript.stored" }
func (*TranscriptRead) EntryType() Type    { return "transcript.read" }
func (*StrangersSummed) EntryType() Type   { return "strangers.summed" }
