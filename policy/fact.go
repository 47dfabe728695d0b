package policy

import (
	"errors"
	"fmt"
	"net/netip"
	"time"

	"breakglass/internal/name"
)

// ErrFact is what the errors of this file's UnmarshalText functions wrap.
var ErrFact = errors.New("invalid fact")

// Tri is a fact that may be unknown. Its zero value is, and unknown is always the bad case.
type Tri uint8

const (
	Unknown Tri = iota
	Yes
	No
)

var triText = [...]string{Unknown: "unknown", Yes: "yes", No: "no"}

func (t Tri) String() string {
	if int(t) < len(triText) {
		return triText[t]
	}
	return triText[Unknown]
}

// TriOf is the Tri of something that is known.
func TriOf(b bool) Tri {
	if b {
		return Yes
	}
	return No
}

func (t Tri) MarshalText() ([]byte, error) { return []byte(t.String()), nil }

func (t *Tri) UnmarshalText(b []byte) error {
	for i, s := range triText {
		if s == string(b) {
			*t = Tri(i)
			return nil
		}
	}
	return fmt.Errorf("%w %q: want yes, no or unknown", ErrFact, b)
}

// KeyState is where the enrolment of the key that signed stands.
type KeyState uint8

const (
	KeyUnknown   KeyState = iota // not enrolled for this person, or it could not be found out
	KeyLive                      // enrolled, vouched for, in date
	KeyPending                   // enrolled, but not vouched for or still cooling off
	KeySuspended                 // its counter went back
	KeyLapsed                    // not renewed in time
	KeyRevoked
	KeyInGrace // lapsed a short while ago: it counts, with an approval more
)

var keyText = [...]string{KeyUnknown: "unknown", KeyLive: "live", KeyPending: "pending", KeySuspended: "suspended", KeyLapsed: "lapsed", KeyRevoked: "revoked", KeyInGrace: "in grace"}

func (k KeyState) String() string {
	if int(k) < len(keyText) {
		return keyText[k]
	}
	return keyText[KeyUnknown]
}

func (k KeyState) MarshalText() ([]byte, error) { return []byte(k.String()), nil }

func (k *KeyState) UnmarshalText(b []byte) error {
	for i, s := range keyText {
		if s == string(b) {
			*k = KeyState(i)
			return nil
		}
	}
	return fmt.Errorf("%w: key state %q", ErrFact, b)
}

// Kind is what a request wants. KindNew, KindOverride and KindExtend are the statement's; KindSession is the opening
// of a session under a grant.
type Kind string

const (
	KindNew      Kind = "new"
	KindOverride Kind = "override"
	KindExtend   Kind = "extend"
	KindSession  Kind = "session"
)

// Request is what somebody asks for: the fields of the signed statement that a decision may depend on.
type Request struct {
	Kind     Kind        `json:"kind"`
	Person   name.Person `json:"person"`
	Host     name.Host   `json:"host"`
	Login    name.Login  `json:"login"`
	Minutes  int         `json:"minutes"` // 0: as many as the rule gives
	Reason   string      `json:"reason"`
	Ticket   string      `json:"ticket,omitempty"`
	Failure  string      `json:"failure,omitempty"`  // declared: what is down, one of the policy's [failures]
	Severity string      `json:"severity,omitempty"` // declared: one of the policy's severities
	Forwards []Forward   `json:"forwards,omitempty"`
	Drill    bool        `json:"drill,omitempty"`
}

// Facts is what the CA found out about a request. Every zero value is unknown.
type Facts struct {
	Now      time.Time     `json:"now"`
	Sources  []Source      `json:"sources"` // every address that the certificate would list; each must pass
	Touch    Tri           `json:"touch"`   // UP of the signature
	UV       Tri           `json:"uv"`
	Key      KeyState      `json:"key"`
	Approved []name.Person `json:"approved,omitempty"` // whose valid, unexpired approvals the CA holds
	Refused  []name.Person `json:"refused,omitempty"`  // who signed a no
	TOTP     Tri           `json:"totp,omitempty"`     // a code of the other channel was given, right and new
	Added    []Added       `json:"added,omitempty"`    // each adds an approval
	Waited   time.Duration `json:"waited,omitempty"`   // how long the request has been open; an override asks for it
	// Waits says that the request waits for somebody's word. It is then not decided without any, whatever has changed since: a lockout that is
	// over, or a second key, takes away the circumstance that it waited for, and time alone does not let anybody in.
	Waits bool `json:"waits,omitempty"`
	// Overridden says that the grant under which a session opens was an override.
	Overridden bool `json:"overridden,omitempty"`
	// OnCall says of each of the policy's on-call lists whether the person is on call now. A list that isn't here is unknown.
	OnCall []OnCall `json:"oncall,omitempty"`
	// Live are grants that are alive now.
	Live Live `json:"live,omitzero"`
}

// OnCall is what an on-call list says of the person at Facts.Now.
type OnCall struct {
	List    name.Roster `json:"list"`
	On      Tri         `json:"on"`
	Written time.Time   `json:"written,omitzero"` // when the file was last written; zero is unknown
	Doubt   string      `json:"doubt,omitempty"`  // of an unknown one: why
}

// Live are the grants that are alive now, but for the one that the request is about (of an override or an extension).
type Live struct {
	Known  bool              `json:"known"` // false: it could not be found out
	Person []LiveGrant       `json:"person,omitempty"`
	Rules  map[name.Rule]int `json:"rules,omitempty"` // how many of anybody's stand on each rule
}

// LiveGrant is a grant of the person that is alive.
type LiveGrant struct {
	ID      name.RequestID `json:"id"`
	Rule    name.Rule      `json:"rule"`
	Sources []Source       `json:"sources"` // as its decision found them
}

// Added is a circumstance that never denies, but wants one approval more.
type Added string

const (
	AddedGrace     Added = "enrolment_in_grace" // the key's enrolment lapsed, a short while ago
	AddedKeysShort Added = "keys_short"         // the person has fewer keys that count than the policy requires
	AddedLocked    Added = "locked_out"         // too many refused acts of that person
	AddedReview    Added = "review_overdue"     // the person owes an answer to a review
	AddedUnalerted Added = "unalerted"          // a use of theirs that no alert channel took
	AddedPlace     Added = "place_unknown"      // the geo databases can't tell what [always] or the rule asks, and the policy asks a person instead
	AddedCountry   Added = "another_country"    // a grant of theirs is alive that came from another country
)

// AllAdded lists every one.
func AllAdded() []Added {
	return []Added{AddedGrace, AddedKeysShort, AddedLocked, AddedReview, AddedUnalerted, AddedPlace, AddedCountry}
}

// Source is one address that a person comes from, and what the geo databases say about it.
type Source struct {
	Addr         netip.Addr `json:"addr"`
	Country      string     `json:"country,omitempty"` // ISO 3166-1 alpha-2; "" is unknown
	CountryBuilt time.Time  `json:"country_built,omitzero"`
	// Subdivisions are the ISO 3166-2 codes of what the address is in, widest first ("GB-ENG", "GB-LND"); of the same database as Country.
	Subdivisions   []string  `json:"subdivisions,omitempty"`
	ASN            uint32    `json:"asn,omitempty"` // the autonomous system that announces the address; 0 is unknown
	ASNBuilt       time.Time `json:"asn_built,omitzero"`
	Anonymous      Tri       `json:"anonymous"`
	AnonymousBuilt time.Time `json:"anonymous_built,omitzero"`
}
