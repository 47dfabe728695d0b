package ledger

import (
	"bytes"
	"fmt"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"

	"breakglass/internal/name"
	"breakglass/internal/sshsig"
	"breakglass/internal/statement"
)

const (
	// MaxFindings bounds a report: after the first hundred faults a log is broken, and a reader's memory needn't be.
	MaxFindings = 100
	// lateness is how long after a statement's expiry its entry may be dated: the answer came in time and waited for the
	// commit; and how much a grant's end may lie behind its entry's time and minutes.
	lateness = 5 * time.Second
)

// Code says what kind of fault a finding is.
type Code string

const (
	FaultKey         Code = "key"         // a key that did not count, or that counts on nobody's word
	FaultCheckpoint  Code = "checkpoint"  // not signed by the ledger's key, or of another size
	FaultRoot        Code = "root"        // the entries are not those that the checkpoint signs
	FaultMalformed   Code = "malformed"   // an entry that Decode refuses
	FaultOrder       Code = "order"       // an entry where it can't stand
	FaultSite        Code = "site"        // a site that is not the log's own
	FaultPolicy      Code = "policy"      // a policy that was not adopted, or with another hash
	FaultStatement   Code = "statement"   // what was signed is not what the entry says
	FaultSignature   Code = "signature"   // a signature that does not verify, or by a key that does not count
	FaultTouch       Code = "touch"       // no touch, or another touch than the entry says
	FaultReplay      Code = "replay"      // a statement used twice
	FaultHistory     Code = "history"     // a signer saw another history
	FaultGrant       Code = "grant"       // something done without, after or beyond its grant
	FaultCertificate Code = "certificate" // a certificate that fails lint, or is not the grant's
	FaultSession     Code = "session"     // something of a session that was not opened, or is over
	FaultFact        Code = "fact"        // a machine's fact that is not what the entry says
	FaultGap         Code = "fact_gap"    // facts of a machine are missing
	FaultTranscript  Code = "transcript"  // stored is not what the jump sealed
	FaultTOTP        Code = "totp"        // a code that could not count, or a lock that is not what the entries say
	FaultPass        Code = "pass"        // read without a pass
	FaultRevoked     Code = "revoked"     // done by, under or with something that was revoked before
	FaultAttestation Code = "attestation" // a key whose make is not proved, or not one that the policy listed
)

// Finding is one fault, at an entry; Index -1 is the log as a whole.
type Finding struct {
	Index  int64  `json:"index"`
	Type   Type   `json:"type,omitempty"`
	Code   Code   `json:"code"`
	Detail string `json:"detail"`
}

func (f Finding) String() string {
	if f.Index < 0 {
		return fmt.Sprintf("log: %s: %s", f.Code, f.Detail)
	}
	return fmt.Sprintf("entry %d (%s): %s: %s", f.Index, f.Type, f.Code, f.Detail)
}

// AuditConfig says what entries are held against.
type AuditConfig struct {
	// LedgerKey is the verifier key that was pinned; a site that names another is a fault.
	LedgerKey string
	// Pinned, if not nil, is the site by the pins: a CA key must stand in it too, whatever the log's own site says.
	Pinned *Site
	// Part says that the entries are those of one grant with what they stand on: indexes rise with holes, numbers of facts too,
	// and nothing is a fault for being absent that belongs to others.
	Part bool
	// History judges the checkpoint that a signer saw, named by the entry at index; nil leaves it unjudged.
	History func(seen statement.Checkpoint, index int64) error
}

// PersonKey is an enrolled hardware key.
type PersonKey struct {
	Person      name.Person
	Name        name.Key
	Fingerprint string
	Index       int64
	Software    bool
	Model       string // as the policy calls what it proved to be; "" in a demo

	pub        ssh.PublicKey
	suspended  bool
	revoked    bool
	suspension statement.Hash // of the key.suspended entry
	seen       uint32         // the counter that it saw
	counter    uint32

	enrolled // where it stands
}

// Grant is a request and what came of it, as its entries say.
type Grant struct {
	Request      statement.Request
	RequestIndex int64
	Key          *PersonKey
	Touch        sshsig.Touch
	Denied       *RequestDenied
	Allowed      *GrantAllowed
	AllowedIndex int64
	Policy       string // text of the policy in force at the decision
	Certificates []Issued
	Sessions     []*Session

	Signed     statement.Hash // names the signed request: what approvals are given to
	Waits      *Waits         // nil: decided at once
	Approvals  []Approval     // in order; of a person the newest counts
	Overridden *Overridden
	Until      time.Time      // of a grant: its end, as far as it has been extended
	Extended   *GrantExtended // of an extension: the decision
	Extensions []*Grant       // of a grant: those that were allowed
}

// Issued is a client certificate under a grant.
type Issued struct {
	Index       int64
	Certificate *ssh.Certificate
}

// Session is one session's entries.
type Session struct {
	ID          name.SessionID
	Subject     Subject
	Opened      *SessionOpened
	OpenedTime  time.Time
	OpenedIndex int64
	EntryHash   statement.Hash // of the session.opened entry: a transcript's header binds to it
	Ended       *SessionEnded
	Crashed     *SessionCrashed
	Heads       []Head // session.head, in order: each behind the one before, as far as no fault says otherwise
	OverIndex   int64  // of ended or crashed
	OverTime    time.Time
	Stored      *TranscriptStored
	StoredIndex int64
	Reads       []int64 // indexes of transcript.read and session.watched
}

// Head is what the jump's last fact says of the transcript; nil while the session runs.
func (s *Session) Head() (*Head, statement.Hash) {
	switch {
	case s.Ended != nil:
		return &s.Ended.Head, s.Ended.Envelope
	case s.Crashed != nil:
		return &s.Crashed.Head, s.Crashed.Envelope
	}
	return nil, statement.Hash{}
}

// machine is a joined jump and how far its facts have come.
type machine struct {
	key      ssh.PublicKey
	number   int64
	previous statement.Hash
	revoked  bool
}

type pass struct {
	person name.Person
	until  time.Time
	holder string // authorized_keys form
}

// Audit holds entries, one after the other, against all that came before: each human statement against a key enrolled
// earlier, each machine's fact against its joined key, each certificate against its grant and the site's CA keys.
type Audit struct {
	cfg  AuditConfig
	last int64

	site        *Site
	founded     bool
	succeeded   *SiteSucceeded // the first entry, of a ledger that follows a lost one
	carried     []Carried      // what it carried over
	carriedOver bool
	policy      statement.Hash
	policies    map[statement.Hash]string
	pieces      map[statement.Hash]string // of policies' texts
	imported    map[statement.Hash]*PolicyImported
	openings    *opening // of the policy openingsOf: to read a long one takes a second, and imports follow each other
	openingsOf  statement.Hash
	read        *terms // of the policy in force, once they were asked for
	keys        map[string]*PersonKey
	invites     map[statement.Hash]*InviteCreated
	jumps       map[name.Jump]*machine
	recipients  map[string]name.Person
	recovery    string // the recovery key's recipient, "" before the first
	set         *RecipientsChanged
	setAt       int64 // its index
	passes      map[string]pass
	grants      map[name.RequestID]*Grant
	sessions    map[name.SessionID]*Session
	serials     map[uint64]int64
	spent       map[statement.Nonce]int64
	revocations map[revocation]int64
	challenges  map[statement.Hash]int64 // of attestations
	watchings   map[string]*watching

	totp     map[name.Person]*totpSeen
	given    []given                     // approvals of what is no request, while they count
	refusals map[name.Person][]time.Time // signed acts that were refused, of late
	lockouts map[name.Person]time.Time   // until when

	foundings    map[name.Person]*FoundingSigned
	policySigned map[name.Person]policySignature // against the policy in force

	findings []Finding
	more     int

	// the entry at hand
	index   int64
	raw     []byte
	checked *checked
	e       *Entry
}

// NewAudit begins with nothing known.
func NewAudit(cfg AuditConfig) *Audit {
	return &Audit{
		cfg:         cfg,
		last:        -1,
		policies:    map[statement.Hash]string{},
		keys:        map[string]*PersonKey{},
		invites:     map[statement.Hash]*InviteCreated{},
		jumps:       map[name.Jump]*machine{},
		recipients:  map[string]name.Person{},
		passes:      map[string]pass{},
		grants:      map[name.RequestID]*Grant{},
		sessions:    map[name.SessionID]*Session{},
		serials:     map[uint64]int64{},
		spent:       map[statement.Nonce]int64{},
		revocations: map[revocation]int64{},
	}
}

// Findings are all faults so far; more says how many were left out.
func (a *Audit) Findings() (fs []Finding, more int) { return a.findings, a.more }

// Site is the newest site, nil before the first.
func (a *Audit) Site() *Site { return a.site }

// Grant is the request with that id, or nil.
func (a *Audit) Grant(id name.RequestID) *Grant { return a.grants[id] }

// Counts says how much of what the entries hold.
func (a *Audit) Counts() (keys, grants, sessions int) {
	for _, g := range a.grants {
		if g.Allowed != nil {
			grants++
		}
	}
	return len(a.keys), grants, len(a.sessions)
}

// fault records a finding at the entry at hand.
func (a *Audit) fault(c Code, format string, args ...any) {
	if len(a.findings) >= MaxFindings {
		a.more++
		return
	}
	f := Finding{Index: a.index, Code: c, Detail: fmt.Sprintf(format, args...)}
	if a.e != nil {
		f.Type = a.e.Type()
	}
	a.findings = append(a.findings, f)
}

// Add judges the entry at index. Indexes rise; without Part they have no holes.
func (a *Audit) Add(index int64, raw []byte) {
	a.add(index, raw, check(raw))
}

func (a *Audit) add(index int64, raw []byte, c *checked) {
	a.index, a.raw, a.e, a.checked = index, raw, nil, c
	if index <= a.last || !a.cfg.Part && index != a.last+1 {
		a.fault(FaultOrder, "follows entry %d", a.last)
	}
	a.last = index
	e := c.e
	a.e = e
	if c.err != nil {
		a.fault(FaultMalformed, "%v", c.err)
		return
	}
	_, first := e.Facts.(*SiteCreated)
	if _, succeeds := e.Facts.(*SiteSucceeded); succeeds {
		first = true
	}
	if first != (a.site == nil) {
		if first {
			a.fault(FaultOrder, "a second beginning")
		} else {
			a.fault(FaultOrder, "stands before site.created")
		}
		return
	}
	switch e.Facts.(type) {
	case *SiteSucceeded, *PolicyText, *PolicyAdopted, *KeyCarried, *RecipientCarried:
	default:
		a.allCarried()
	}
	switch f := e.Facts.(type) {
	case *SiteCreated:
		a.setSite(&f.Site)
	case *SiteChanged:
		a.setSite(&f.Site)
	case *PolicyAdopted:
		a.policyAdopted(f)
	case *PolicyText:
		a.policyText(f)
	case *PolicySigned:
		a.policySignedBy(f)
	case *PolicyRefused:
		a.policyRefused(f)
	case *PolicyImported:
		a.policyImported(f)
	case *Founding:
		a.founding(f)
	case *InviteCreated:
		a.inviteCreated(f)
	case *Revoked:
		a.revoked(f)
	case *KeyEnrolled:
		a.keyEnrolled(f)
	case *KeyVouched:
		a.keyVouched(f)
	case *FoundingSigned:
		a.foundingSigned(f)
	case *KeyProved:
		a.keyProved(f)
	case *EnrolmentRenewed:
		a.enrolmentRenewed(f)
	case *KeySuspended:
		a.keySuspended(f)
	case *RecipientAdded:
		a.recipientAdded(f)
	case *RecipientRotated:
		a.recipientRotated(f)
	case *RecipientsRemoved:
		a.recipientsRemoved(f)
	case *RecoverySet:
		a.recoverySet(f)
	case *RecipientsChanged:
		a.recipientsChanged(f)
	case *PassGranted:
		a.passGranted(f)
	case *RequestOpened:
		a.requestOpened(f)
	case *RequestDenied:
		a.requestDenied(f)
	case *ActDenied:
		a.actDenied(f)
	case *ApprovalGiven:
		a.approvalGiven(f)
	case *RequestOverridden:
		a.requestOverridden(f)
	case *GrantAllowed:
		a.grantAllowed(f)
	case *GrantExtended:
		a.grantExtended(f)
	case *JumpJoined:
		a.jumpJoined(f)
	case *JumpGap:
		a.jumpGap(f)
	case *CertificateIssued:
		a.certificateIssued(f)
	case *SessionOpened:
		a.sessionOpened(f)
	case *SessionRefused:
		a.sessionRefused()
	case *SessionEnded, *SessionCrashed, *SessionHead, *SessionBlind, *SessionSighted, *HostKeyMismatch:
		a.sessionFact()
	case *TranscriptStored:
		a.transcriptStored(f)
	case *TranscriptRead:
		a.transcriptRead(f)
	case *SessionWatched:
		a.sessionWatched(f)
	case *SessionUnwatched:
		a.sessionUnwatched(f)
	case *TOTPEnrolled:
		a.totpEnrolled(f)
	case *TOTPRemoved:
		a.totpRemoved(f)
	case *TOTPUsed:
		a.totpUsed(f)
	case *TOTPRefused:
		a.totpRefused(f)
	case *TOTPLocked:
		a.totpLocked(f)
	case *TOTPUnlocked:
		a.totpUnlocked(f)
	case *KeyUnlocked:
		a.keyUnlocked(f)
	case *PersonLocked:
		a.personLocked(f)
	case *PersonUnlocked:
		a.personUnlocked(f)
	case *ClockAccepted:
		a.clockAccepted()
	case *StrangersSummed:
		if e.Statement != "" {
			a.fact()
		}
	case *CAStarted:
		a.caStarted(f)
	case *CAStopped:
	case *SiteSucceeded:
		a.siteSucceeded(f)
	case *KeyCarried:
		a.keyCarried(f)
	case *RecipientCarried:
		a.recipientCarried(f)
	case *CARestored:
		a.restored(f)
	default:
		a.fault(FaultMalformed, "no check is known for %s", e.Type()) // a type added to All but not here
	}
}

func (a *Audit) setSite(s *Site) {
	if s.LedgerKey != a.cfg.LedgerKey {
		a.fault(FaultSite, "names ledger key %q, checked under %q", s.LedgerKey, a.cfg.LedgerKey)
	}
	if n, _, _ := strings.Cut(s.LedgerKey, "+"); n != s.Origin {
		a.fault(FaultSite, "origin %q, ledger key of %q", s.Origin, n)
	}
	if p := a.cfg.Pinned; p != nil && (p.Origin != s.Origin || p.Epoch != s.Epoch) {
		a.fault(FaultSite, "origin %q epoch %d, pinned are %q epoch %d", s.Origin, s.Epoch, p.Origin, p.Epoch)
	}
	if old := a.site; old != nil && (old.Origin != s.Origin || old.Epoch != s.Epoch || old.Profile != s.Profile) {
		a.fault(FaultSite, "changes origin, epoch or profile")
	}
	if a.site != nil {
		a.keysChanged(a.site, s)
		a.witnessesChanged(a.site, s)
	}
	a.site = s
	for _, j := range s.Jumps {
		m, joined := a.jumps[j.Name]
		key, err := parseKey(j.Key)
		switch {
		case err != nil:
			a.fault(FaultSite, "key of jump %s: %v", j.Name, err)
		case !joined && a.cfg.Part: // its joining belongs to others
			a.jumps[j.Name] = &machine{key: key}
		case !joined:
			a.fault(FaultSite, "names jump %s, which did not join", j.Name)
		case !sameKey(m.key, key):
			a.fault(FaultSite, "names another key of jump %s than it joined with", j.Name)
		}
	}
}

// caKey demands that a certificate's signer is one of ours, and of the pins.
func (a *Audit) cas(kind string) []ssh.PublicKey {
	var out []ssh.PublicKey
	for _, s := range a.keysOf(kind) {
		k, err := parseKey(s)
		if err != nil {
			a.fault(FaultSite, "CA key: %v", err)
			continue
		}
		if !a.pinned(kind, k) {
			continue
		}
		out = append(out, k)
	}
	return out
}

// parseKey reads a plain public key in authorized_keys form.
func parseKey(s string) (ssh.PublicKey, error) {
	k, _, opts, rest, err := ssh.ParseAuthorizedKey([]byte(s))
	if err != nil {
		return nil, err
	}
	if len(opts) != 0 || len(bytes.TrimSpace(rest)) != 0 {
		return nil, fmt.Errorf("options or a second line beside the key")
	}
	if _, ok := k.(*ssh.Certificate); ok {
		return nil, fmt.Errorf("a certificate instead of a key")
	}
	return k, nil
}

func sameKey(a, b ssh.PublicKey) bool { return bytes.Equal(a.Marshal(), b.Marshal()) }
