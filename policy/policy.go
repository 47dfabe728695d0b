package policy

import (
	"net/netip"
	"regexp"
	"slices"
	"sort"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"

	"breakglass/internal/name"
)

// Profile is what a site is for. It never changes: a policy of the other profile is refused by the CA.
type Profile string

const (
	Demo       Profile = "demo"
	Production Profile = "production"
)

// What holds where the file says nothing.
const (
	DefaultReasonMin     = 20
	DefaultGeoMaxAgeDays = 45
	DefaultMaxMinutes    = 60
	DefaultGrace         = 30 * time.Minute
	DefaultClockSlack    = 5 * time.Minute
	DefaultIdle          = 15 * time.Minute
	DefaultWait          = 30 * time.Minute
	DefaultOverride      = 10 * time.Minute
	DefaultRenewDays     = 90
	DefaultGraceDays     = 14
	DefaultCoolingOff    = 24 * time.Hour
)

// Bounds on what a file may say. Each keeps a slip of the finger from becoming an open door or a full disk.
const (
	MaxFileBytes     = 8 << 20        // a policy of 20,000 hosts is below 6 MB
	maxReasonMin     = 400            // a reason must stay typeable at 3 a.m.
	maxGeoAgeDays    = 400            // beyond a year a database is no evidence
	MaxGrantMinutes  = 24 * 60        // "minutes", not days: section 1, invariant 3 of the design
	maxApprovals     = 10             // more can't be found in an emergency
	maxDuration      = 24 * time.Hour // of grace, idle and wait
	maxClockSlack    = 12 * time.Hour // a hardware clock in local time; what is further off is to be set
	maxRetainDays    = 100 * 366      // it can't be undone, and nobody means a thousand years
	maxForwards      = 64             // of a rule and of a request: each is a line of the signed statement
	maxTicketPattern = 200
	maxRules         = 2000 // each is held against those before it when a policy is checked, and a person has to read them
)

// Policy is one loaded file. It is never changed after Load; any number of goroutines may use it.
type Policy struct {
	Profile Profile
	Site    Site
	Always  Always
	// Enrolment is what is asked of keys: how many, which, and how long they count.
	Enrolment Enrolment
	Rules     []Rule
	SHA256    string // of Source, hex
	Source    []byte // the exact bytes

	// Windows are spans of time, Rosters on-call lists, Failures what may be declared to be down.
	Windows  map[name.Window]*Window
	Rosters  map[name.Roster]*Roster
	Failures map[name.Failure]*Failure

	people    map[name.Person]*Person
	rulesOf   map[name.Person][]*Rule // those that name each, in the order of the file
	networks  map[name.Network][]netip.Prefix
	hosts     map[name.Host]*HostInfo
	patterns  []hostEntry // most fixed text first
	jumps     []Jump
	vias      map[name.Via]*Via
	tests     []test
	hostLines map[string]int // entries of [hosts] as written
	main      string         // of a set, the name of its first file
	opened    map[name.Group]HostGroup
	netLines  map[name.Network]int
}

// Site names the people who run the system. Groups are resolved; the lists are sorted.
type Site struct {
	Name      string
	Owners    []name.Person
	Signers   int // how many owners have to sign the next policy
	Operators []name.Person
	Readers   []name.Person
}

// Always is what is demanded of everybody, with its defaults filled in.
type Always struct {
	UV        bool
	ReasonMin int
	Place
	Trusted []name.Network
	// AskUnknown: what the geo databases can't tell wants an approval more (AddedPlace); false: it is refused.
	AskUnknown    bool
	SecondCountry SecondCountry
	Severities    []string // that a request may declare; empty: none is known
	NeedFailure   bool     // a request has to declare what is down
	MaxGrants     int      // of one person at once; 0: any number
	GeoMaxAge     time.Duration
	MaxMinutes    int
	Grace         time.Duration // how long sessions go on without the CA's heartbeat
	Idle          time.Duration
	Budget        int64 // bytes that a session may carry
	ShowWatchers  bool  // the person is told who watches their session
	RetainDays    int   // for which nobody can delete a recording, in a store that can promise that; 0: as the store's own setting says
	// Approvers give the approvals that something adds (Added) to a rule that asks for none itself; sorted.
	Approvers []name.Person
	// Override is how long a request has to wait before an added approval may be replaced by an override.
	Override time.Duration
	Line     int

	trusted []netip.Prefix
}

// SecondCountry is what becomes of a request while a grant of the same person is alive that came from another country.
type SecondCountry uint8

const (
	SecondAsk   SecondCountry = iota // one approval more (AddedCountry)
	SecondAllow                      // nothing
	SecondDeny
)

// Person is an entry of [people].
type Person struct {
	Name    name.Person
	Groups  []name.Group
	Contact string
	Line    int
}

// Jump is an entry of [jumps].
type Jump struct {
	Name    name.Jump
	Address []string       // "ip:port" or "name:port", where people reach it
	Source  []netip.Prefix // as hosts see it; empty: not said, and no address is a literal IP
	Line    int
}

// HostInfo is all that the policy says about one host, its patterns' settings filled in. It has at least one
// address and one key or CA.
type HostInfo struct {
	Name     name.Host
	Address  []string // "ip:port" or "name:port", in order of preference
	Via      name.Via // through which it is reached; empty: by the jump itself
	HostKeys []ssh.PublicKey
	HostCA   []ssh.PublicKey
	Groups   []name.Group
	// ClockSlack is how far its clock may be from the CA's, either way: its session certificates reach so far. DefaultClockSlack is the least.
	ClockSlack time.Duration
	Entry      string // the entry of [hosts] that it comes from: its own name, or a pattern
	File       string // of the set, in which the entry stands; of a policy of one file empty
	Line       int
}

// Rule is one [[rule]], with its defaults filled in.
type Rule struct {
	Name      name.Rule
	Why       string
	Who       []string // as written: people and @groups
	Hosts     []string // as written: hosts, patterns and @groups
	Logins    []name.Login
	Minutes   int
	Approvals int
	Approvers []string // as written
	Wait      time.Duration
	Override  time.Duration // 0: its approvals can't be replaced
	Veto      bool          // one approver's no ends the request
	TOTP      bool          // a code of the other channel too
	Place
	When       []name.Window // one of them is now
	NotWhen    []name.Window // none of them is now
	OnCall     []name.Roster // the person is on call in one of them
	Severities []string
	Failures   []name.Failure
	MaxGrants  int // on this rule at once, anybody's; 0: any number
	ReasonMin  int
	Ticket     string
	Forwards   []Forward
	Idle       time.Duration
	Budget     int64    // bytes that a session may carry
	WatchedBy  []string // as written: while none of them watches a session, its input is held
	RetainDays int      // at least [always]'s
	LegalHold  bool     // nobody can delete the recordings before whoever owns the store releases them, however old they are
	Drill      bool     // answers drills only
	Line       int

	who, approvers map[name.Person]bool
	observers      map[name.Person]bool // those of WatchedBy who can read what they watch
	hosts          hostSet
	ticket         *regexp.Regexp
	when, notWhen  []*Window
	rosters        []*Roster
}

// Person finds an entry of [people].
func (p *Policy) Person(n name.Person) (Person, bool) {
	q, ok := p.people[n]
	if !ok {
		return Person{}, false
	}
	return *q, true
}

// People gives every person's name, sorted.
func (p *Policy) People() []name.Person {
	out := make([]name.Person, 0, len(p.people))
	for n := range p.people {
		out = append(out, n)
	}
	slices.Sort(out)
	return out
}

// IsOwner tells whether n may sign policies and successions.
func (p *Policy) IsOwner(n name.Person) bool { return contains(p.Site.Owners, n) }

// IsOperator tells whether n may invite, join, revoke and import.
func (p *Policy) IsOperator(n name.Person) bool { return contains(p.Site.Operators, n) }

// IsReader tells whether recordings are sealed to n.
func (p *Policy) IsReader(n name.Person) bool { return contains(p.Site.Readers, n) }

// Readers are the people to whom recordings are sealed, sorted.
func (p *Policy) Readers() []name.Person { return slices.Clone(p.Site.Readers) }

// Rule finds a rule by its name.
func (p *Policy) Rule(n name.Rule) (Rule, bool) {
	for i := range p.Rules {
		if p.Rules[i].Name == n {
			return p.Rules[i], true
		}
	}
	return Rule{}, false
}

// Jumps gives every jump, sorted by name.
func (p *Policy) Jumps() []Jump { return slices.Clone(p.jumps) }

// Jump finds an entry of [jumps].
func (p *Policy) Jump(n name.Jump) (Jump, bool) {
	for _, j := range p.jumps {
		if j.Name == n {
			return j, true
		}
	}
	return Jump{}, false
}

// Network gives the prefixes of an entry of [networks].
func (p *Policy) Network(n name.Network) ([]netip.Prefix, bool) {
	prefixes, ok := p.networks[n]
	return slices.Clone(prefixes), ok
}

// normalise makes an address comparable: an IPv4-mapped one is the IPv4 address that it is (else ::ffff:203.0.113.9
// walks around a rule for 203.0.113.0/24), and a zone, which names an interface of somebody's machine, goes.
func normalise(a netip.Addr) netip.Addr { return a.Unmap().WithZone("") }

func within(prefixes []netip.Prefix, a netip.Addr) bool {
	for _, p := range prefixes {
		if p.Contains(a) {
			return true
		}
	}
	return false
}

// contains searches a sorted list.
func contains[T ~string](sorted []T, x T) bool {
	_, ok := slices.BinarySearch(sorted, x)
	return ok
}

// words joins names for a person to read: "a, b".
func words[T ~string](list []T) string {
	out := make([]string, len(list))
	for i, x := range list {
		out[i] = string(x)
	}
	return strings.Join(out, ", ")
}

func sortedKeys[K ~string, V any](m map[K]V) []string {
	out := make([]string, 0, len(m))
	for k := range m {
		out = append(out, string(k))
	}
	sort.Strings(out)
	return out
}
