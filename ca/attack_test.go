package ca_test

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"filippo.io/age"
	"github.com/google/go-cmp/cmp"
	"golang.org/x/crypto/ssh"

	"breakglass/ca"
	"breakglass/ca/api"
	"breakglass/ca/catest"
	"breakglass/internal/name"
	"breakglass/internal/statement"
	"breakglass/ledger"
)

// An attack is one sentence, what is done, and all that may come of it. The frame (try) holds every row against the same demands: the
// refusal has its own code; the ledger has grown by the entries that are due and by no other, so nothing was granted, issued, opened or revoked; the tables are
// what the ledger says; the whole ledger passes the audit; what strangers did is summed, and not more; and the honest person still gets in.
type attack struct {
	what   string
	change func(string) string // of arenaPolicy
	do     func(*arena) error  // gets ready, calls begin, and attacks; gives the CA's refusal
	code   string              // of the problem
	due    []due               // entries, in order
	sum    string              // reason under which the strangers' sum counts it; "": it counts nothing
	shut   string              // why the victim is rightly kept out afterwards; "": they are not
	series string              // rows of one series are alike, and share an arena
	town   bool                // at a production site
}

// due is an entry that an attack leaves.
type due struct {
	typ    ledger.Type
	person name.Person // whom it is about
	reason string      // typed, within it
}

// harmless are the entries that grant nothing: an attack may leave these and no others.
var harmless = []ledger.Type{"request.denied", "act.denied", "session.refused", "key.suspended", "person.locked", "jump.gap", "totp.refused", "totp.locked"}

// arenaPolicy has a rule of every sort. alice is the one whose place is wanted, mallory an insider with a key and a rule of her own.
const arenaPolicy = `profile = "demo"

[site]
name = "test"
owners = ["alice", "olga"]
operators = ["olga"]
readers = ["rita"]

[people.alice]
groups = ["oncall"]
[people.mallory]
groups = ["oncall"]
[people.bob]
groups = ["leads"]
[people.carol]
groups = ["leads"]
[people.rita]
[people.olga]
[people.newcomer]

[networks]
here = ["127.0.0.0/8"]
blocked = ["203.0.113.0/24"]

[always]
anonymous = "allow"
countries = ["DE"]
trusted = ["here"]
deny_networks = ["blocked"]

[jumps.jump-a]
address = ["127.0.0.1:2222"]
source = ["127.0.0.1/32"]
[jumps.jump-b]
address = ["127.0.0.1:2223"]
source = ["127.0.0.1/32"]

[hosts.web01]
address = ["127.0.0.1:2200"]
host_keys = ["` + catest.HostKey + `"]
[hosts.web02]
address = ["127.0.0.1:2202"]
host_keys = ["` + catest.HostKey + `"]
[hosts.db01]
address = ["127.0.0.1:2201"]
host_keys = ["` + catest.HostKey + `"]
[hosts.vault01]
address = ["127.0.0.1:2203"]
host_keys = ["` + catest.HostKey + `"]
[hosts."lb*"]
address = ["{host}.test:22"]
host_keys = ["` + catest.HostKey + `"]

[[rule]]
name = "web"
why = "On-call may enter web servers."
who = ["@oncall"]
hosts = ["web01", "web02", "lb*"]
logins = ["root", "deploy"]
minutes = 30
forwards = ["local db01:5432"]

[[rule]]
name = "db"
why = "A database takes one more."
who = ["@oncall"]
hosts = ["db01"]
logins = ["root"]
minutes = 10
approvals = 1
approvers = ["@leads"]
override = "after 10m"

[[rule]]
name = "vault"
why = "The vault takes two, and one no is enough."
who = ["@oncall", "@leads"]
hosts = ["vault01"]
logins = ["root"]
minutes = 10
approvals = 2
approvers = ["@leads", "olga"]
veto = true
override = "after 10m"
`

// arena is the CA that is attacked, and the people around it.
type arena struct {
	*catest.CA
	t     *testing.T
	clock *clock
	alice *keyed
	town  *town // around a production site; then alice is its
	mark  int   // entries before the attack
	began bool
	// before is how many entries there were when the arena was made.
	before int

	people map[name.Person]*keyed
	jumps  map[name.Jump]*catest.Jump
}

// keyed is a person with a key whose secret the test holds.
type keyed struct {
	*catest.OpenKey
	a          *arena
	name       name.Person
	credential []byte
}

func newArena(t *testing.T, change func(string) string) *arena {
	t.Helper()
	text := arenaPolicy
	if change != nil {
		text = change(text)
	}
	a := &arena{t: t, clock: &clock{}, people: map[name.Person]*keyed{}, jumps: map[name.Jump]*catest.Jump{}}
	a.CA = catest.New(t, catest.Config{Policy: text, Now: a.clock.now,
		Limits: ca.FileLimits{Network: 1e6, NetworkBurst: 1e6, All: 1e6, AllBurst: 1e6}})
	a.alice = a.person("alice")
	a.before = len(a.Raw())
	return a
}

// person enrols somebody at the first call.
func (a *arena) person(who name.Person) *keyed {
	a.t.Helper()
	if p := a.people[who]; p != nil {
		return p
	}
	p := a.stranger(who)
	catest.Must(a.t, a.enrol(p, a.Token(string(who)).Secret, "main"))
	a.people[who] = p
	return p
}

// stranger has a key that is not enrolled.
func (a *arena) stranger(who name.Person) *keyed {
	a.t.Helper()
	k := catest.NewOpenKey(a.t)
	return &keyed{OpenKey: k, a: a, name: who, credential: k.Public().Marshal()}
}

// enrol goes the whole way with a token's secret.
func (a *arena) enrol(p *keyed, secret, keyName string) error {
	ch, err := a.enrolKey(p, secret, keyName)
	if err != nil {
		return err
	}
	return a.Wire().Post("/v1/enrolments/"+ch.ID+"/signature", api.Signed{SSHSIG: p.sign(ch)}, new(api.Enrolled))
}

// enrolKey goes up to the statement that the new key has to sign.
func (a *arena) enrolKey(p *keyed, secret, keyName string) (*api.Challenge, error) {
	e := new(api.EnrolChallenge)
	if err := a.Wire().Post("/v1/enrolments", api.EnrolAsk{Invite: secret, Key: keyName}, e); err != nil {
		return nil, err
	}
	ch := new(api.Challenge)
	return ch, a.Wire().Post("/v1/enrolments/"+e.ID+"/key", api.EnrolKey{PublicKey: catest.Line(p.Public()), CredentialID: p.credential}, ch)
}

// jump lets a jump join at the first call.
func (a *arena) jump(n name.Jump) *catest.Jump {
	a.t.Helper()
	if a.jumps[n] == nil {
		a.jumps[n] = a.Join(string(n))
	}
	return a.jumps[n]
}

// reader records a recipient of rita's, without which no session opens.
func (a *arena) reader() {
	a.t.Helper()
	id, err := age.GenerateX25519Identity()
	catest.Must(a.t, err)
	catest.Must(a.t, a.recipient(a.person("rita"), id.Recipient().String()))
}

// begin says that from here on it is the attack.
func (a *arena) begin() {
	a.t.Helper()
	a.mark, a.began = len(a.Raw()), true
}

// The steps of honest people, each with its parts within reach.

// sign is an honest touch.
func (p *keyed) sign(ch *api.Challenge) string { return p.Sign(ch.Statement, ch.Namespace) }

// bent is a touch with the next counter, bent.
func (p *keyed) bent(ch *api.Challenge, change func(*catest.Bent)) string {
	p.Counter++
	return p.Bent(ch.Statement, ch.Namespace, change)
}

// want is an ask of root@web01 for a client key.
func (p *keyed) want(key ssh.PublicKey) api.Ask {
	return api.Ask{Person: string(p.name), Login: "root", Host: "web01", Reason: catest.Reason, ClientKey: catest.Line(key)}
}

// ask opens any act; it has to succeed.
func (a *arena) ask(path string, in any) *api.Challenge {
	a.t.Helper()
	ch := new(api.Challenge)
	catest.Must(a.t, a.Wire().Post(path, in, ch))
	return ch
}

// answer sends a signature.
func (a *arena) answer(path, id, armored string) error {
	return a.Wire().Post(path+"/"+id+"/signature", api.Signed{SSHSIG: armored}, new(any))
}

// Paths of acts.
const (
	requests   = "/v1/requests"
	passes     = "/v1/passes"
	recipients = "/v1/recipients"
	rotations  = "/v1/recipients/rotation"
	enrolments = "/v1/enrolments"
	approvals  = "/v1/approvals"
)

// askFor opens a request of p's.
func (a *arena) askFor(p *keyed, change func(*api.Ask)) *api.Challenge {
	a.t.Helper()
	q := p.want(catest.NewKey(a.t).PublicKey())
	if change != nil {
		change(&q)
	}
	return a.ask(requests, q)
}

// request asks and signs, and gives the grant with its client key.
func (a *arena) request(p *keyed, change func(*api.Ask)) (*catest.Grant, error) {
	a.t.Helper()
	g := &catest.Grant{Key: catest.NewKey(a.t)}
	q := p.want(g.Key.PublicKey())
	if change != nil {
		change(&q)
	}
	ch := new(api.Challenge)
	if err := a.Wire().Post(requests, q, ch); err != nil {
		return nil, err
	}
	g.Granted = new(api.Granted)
	if err := a.Wire().Post(requests+"/"+ch.ID+"/signature", api.Signed{SSHSIG: p.sign(ch)}, g.Granted); err != nil {
		if w := new(api.Waiting); errors.As(err, &w) { // its id is what approvers need
			g.Granted = &api.Granted{ID: w.ID}
			return g, w
		}
		return nil, err
	}
	return g, nil
}

// grant is a live grant of p's for root@web01.
func (a *arena) grant(p *keyed) *catest.Grant {
	a.t.Helper()
	g, err := a.request(p, nil)
	catest.Must(a.t, err)
	return g
}

// pass gives the key of a live pass.
func (a *arena) pass(p *keyed) ssh.Signer {
	a.t.Helper()
	k := catest.NewKey(a.t)
	ch := a.ask(passes, api.PassAsk{Person: string(p.name), Holder: catest.Line(k.PublicKey())})
	catest.Must(a.t, a.answer(passes, ch.ID, p.sign(ch)))
	return k
}

func (a *arena) recipient(p *keyed, key string) error {
	ch := new(api.Challenge)
	if err := a.Wire().Post(recipients, api.RecipientAsk{Person: string(p.name), Age: key, Sealed: "passphrase"}, ch); err != nil {
		return err
	}
	return a.answer(recipients, ch.ID, p.sign(ch))
}

// try runs attacks in an arena: one row in its own, or a series of like ones, after each other, in one.
func try(t *testing.T, rows []attack) {
	var a *arena
	if rows[0].town {
		a = inTown(newTown(t))
	} else {
		a = newArena(t, rows[0].change)
	}
	for _, row := range rows {
		if len(rows) == 1 {
			a.row(row)
			continue
		}
		t.Run(row.what, func(t *testing.T) {
			outer := a.t
			a.t = t
			defer func() { a.t = outer }()
			a.row(row)
		})
	}
	first := rows[0]
	a.projected()
	if first.shut == "" {
		if err := a.honestly(); err != nil {
			t.Errorf("after it alice is kept out: %v", err)
		}
	}
	a.Audit()
	a.summed(rows)
	if first.shut != "" { // and a restart does not let her in
		a.Start()
		if err := a.honestly(); err == nil {
			t.Errorf("after it alice gets in, though %s", first.shut)
		}
		a.Audit()
	}
}

// row attacks, and judges what came of it at once.
func (a *arena) row(row attack) {
	a.t.Helper()
	a.began = false
	err := row.do(a)
	if !a.began {
		a.t.Fatal("the row does not say where the attack begins")
	}
	a.refused(row, err)
	a.left(row)
}

// refused: with its own code, and a person who signed reads what to do.
func (a *arena) refused(row attack, err error) {
	a.t.Helper()
	if err == nil {
		a.t.Fatal("it succeeded")
	}
	p := new(api.Problem)
	if !errors.As(err, &p) {
		a.t.Fatalf("no problem, but %v", err)
	}
	if p.Code != row.code {
		a.t.Errorf("code %s (%s), want %s", p.Code, p.Detail, row.code)
	}
	if p.Detail == "" || p.Status < 400 || p.Status > 499 {
		a.t.Errorf("status %d, %q", p.Status, p.Detail)
	}
}

// left: the entries that are due, and no others.
func (a *arena) left(row attack) {
	a.t.Helper()
	entries := a.Entries()[a.mark:]
	var got []due
	for _, e := range entries {
		got = append(got, due{e.Type(), e.Subject.Person, reasonOf(e)})
		if !slices.Contains(harmless, e.Type()) {
			a.t.Errorf("it left %s about %+v", e.Type(), e.Subject)
		}
	}
	if d := cmp.Diff(row.due, got, cmp.AllowUnexported(due{})); d != "" {
		a.t.Errorf("entries left, other than due:\n%s", d)
	}
}

// reasonOf is the first typed reason in an entry.
func reasonOf(e *ledger.Entry) string {
	first := func(r []ledger.Reason) string {
		if len(r) == 0 {
			return "none"
		}
		return r[0].Code
	}
	switch f := e.Facts.(type) {
	case *ledger.RequestDenied:
		return first(f.Reasons)
	case *ledger.ActDenied:
		return first(f.Reasons)
	case *ledger.SessionRefused:
		return first(f.Reasons)
	case *ledger.KeySuspended:
		return f.Why
	case *ledger.TOTPRefused:
		return f.Code
	}
	return ""
}

// projected: a rebuild gives the tables that are there.
func (a *arena) projected() {
	a.t.Helper()
	live := a.Tables()
	catest.Must(a.t, a.Rebuild())
	if d := cmp.Diff(live, a.Tables()); d != "" {
		a.t.Errorf("a rebuild gives other tables:\n%s", d)
	}
}

// summed: what nobody validly signed for is in the minute's sum, once.
func (a *arena) summed(rows []attack) {
	a.t.Helper()
	a.Stop()
	var got []string
	for _, e := range a.Entries()[a.before:] {
		if f, ok := e.Facts.(*ledger.StrangersSummed); ok {
			for _, c := range f.Counts {
				got = append(got, c.Reason)
			}
		}
	}
	var want []string
	for _, row := range rows {
		want = append(want, strings.Fields(row.sum)...)
	}
	slices.Sort(got)
	slices.Sort(want)
	if d := cmp.Diff(slices.Compact(want), slices.Compact(got)); d != "" {
		a.t.Errorf("the strangers' sum tells otherwise:\n%s", d)
	}
}

// attackRows is the whole table; each file has its subject's.
func attackRows() []attack {
	return slices.Concat(requestAttacks(), signatureAttacks(), readingAttacks(), enrolmentAttacks(), sessionAttacks(),
		approvalAttacks(), orderAttacks(), totpAttacks(), townAttacks())
}

// minAttacks is how many rows the table has at least: that none is lost.
const minAttacks = 60

func TestAttacks(t *testing.T) {
	rows := attackRows()
	if len(rows) < minAttacks {
		t.Errorf("%d attacks, want at least %d", len(rows), minAttacks)
	}
	seen := map[string]bool{}
	series := map[string][]attack{}
	for _, row := range rows {
		if seen[row.what] {
			t.Errorf("two rows say %q", row.what)
		}
		seen[row.what] = true
		if row.series != "" {
			series[row.series] = append(series[row.series], row)
			continue
		}
		t.Run(row.what, func(t *testing.T) { t.Parallel(); try(t, []attack{row}) })
	}
	for name, rows := range series {
		t.Run(name, func(t *testing.T) { t.Parallel(); try(t, rows) })
	}
	t.Logf("%d attacks", len(rows))
}

// minute is what a statement is good for.
const minute = statement.Validity + 2*time.Second
