package ca_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"filippo.io/age"
	"github.com/google/go-cmp/cmp"
	"golang.org/x/crypto/ssh"

	"breakglass/ca"
	"breakglass/ca/api"
	"breakglass/ca/catest"
	"breakglass/internal/name"
	"breakglass/internal/sshsig"
	"breakglass/internal/statement"
	"breakglass/ledger"
)

// world is the model: what the cast has, and what the CA has to know by what it answered. It reads no table of the CA.
type world struct {
	tb       *trial
	c        *catest.CA
	strict   bool // two keys are asked for
	doing    string
	outcomes map[string]int

	clock    atomic.Int64 // the CA's, in nanoseconds
	newest   time.Time    // of all entries
	accepted time.Time    // the newest entry as of when somebody said that the clock is right

	keys   []*machineKey
	pend   []*pending
	reqs   []*machineRequest
	passes []*machinePass
	open_  []*machineSession
	tokens []machineToken
	jumps  []*machineJump

	audit   *ledger.Audit
	tree    *ledger.Memory
	entries []*ledger.Entry
	heads   []ledger.Checkpoint
}

type machineKey struct {
	*catest.OpenKey
	person             name.Person
	called             string
	counter            uint32    // the last that counted
	issued             time.Time // of the statement with it
	enrolled           bool
	from               time.Time // it counts: a clock that went back makes a key of later wait
	suspended, revoked bool
}

// pending is a statement that was handed out.
type pending struct {
	kind    statement.Kind
	path    string
	ch      *api.Challenge
	person  name.Person
	issued  time.Time
	used    bool
	decoy   bool // the person had no key to show
	fuzzy   bool // the clock went back since
	key     *machineKey
	request *machineRequest // of a request
	of      *machineRequest // of an approval, override or extension
	same    bool            // the override or extension asks for what its request asks for
	verdict string
	hash    bool // the approval's hash is that of the request
	holder  ssh.Signer
	order   machineOrder
}

type machineOrder struct{ act, target string }

type machineRequest struct {
	id       name.RequestID
	kind     string
	of       *machineRequest
	person   name.Person
	host     name.Host
	minutes  int
	client   ssh.Signer
	state    string // "", "waits", "allowed", "denied"
	opened   time.Time
	from     time.Time // of its newest certificate
	until    time.Time
	key      *machineKey // that was touched
	last     *machineKey // of its override or last extension
	signed   statement.Hash
	said     []said
	certs    []string
	revoked  bool
	withMore bool // it waits for a circumstance's approval, too
}

type said struct {
	person  name.Person
	verdict string
	at      time.Time
	key     *machineKey
}

type machinePass struct {
	holder ssh.Signer
	key    *machineKey
	until  time.Time
}

type machineSession struct {
	id    name.SessionID
	req   *machineRequest
	jump  *machineJump
	ended bool
}

type machineToken struct {
	secret string
	person name.Person
	until  time.Time
	used   bool
}

type machineJump struct {
	*catest.Jump
	revoked bool
}

// machinePolicy is arenaPolicy with approvers for what circumstances add, and, strict, two keys a person.
func machinePolicy(strict bool) string {
	p := replace("deny_networks = [\"blocked\"]", "deny_networks = [\"blocked\"]\napprovers = [\"@leads\", \"olga\"]\noverride = \"after 10m\"")(arenaPolicy)
	p = replace("operators = [\"olga\"]", "operators = [\"olga\", \"rita\"]")(p)
	if strict {
		p = replace("[jumps.jump-a]", "[enrolment]\nkeys_required = 2\n\n[jumps.jump-a]")(p)
	}
	return p
}

// What the policy says, once more, by hand.
var (
	oncall = []name.Person{"alice", "mallory"}
	leads  = []name.Person{"bob", "carol"}
)

type machineRule struct {
	who, approvers []name.Person
	minutes, need  int
	veto           bool
}

func ruleOf(h name.Host) machineRule {
	switch h {
	case "web01", "web02":
		return machineRule{who: oncall, minutes: 30}
	case "db01":
		return machineRule{who: oncall, approvers: leads, minutes: 10, need: 1}
	default:
		return machineRule{who: slices.Concat(oncall, leads), approvers: append(slices.Clone(leads), "olga"), minutes: 10, need: 2, veto: true}
	}
}

func (w *world) now() time.Time { return time.Unix(0, w.clock.Load()).UTC() }

func (w *world) open(tb *trial, strict bool) {
	w.tb, w.strict = tb, strict
	// Ahead of the machine's: what makes the CA is dated by that one.
	w.clock.Store(time.Now().Add(time.Hour).Truncate(time.Second).UnixNano())
	w.tree = &ledger.Memory{}
	w.c = catest.New(tb, catest.Config{Policy: machinePolicy(strict), Now: w.now, Limits: ca.FileLimits{Network: 1e6, NetworkBurst: 1e6, All: 1e6, AllBurst: 1e6}})
	w.audit = ledger.NewAudit(ledger.AuditConfig{LedgerKey: w.c.Pins.Site.LedgerKey, History: func(seen statement.Checkpoint, index int64) error {
		if seen.Size > index {
			return fmt.Errorf("of %d entries, at entry %d", seen.Size, index)
		}
		had, err := w.tree.Checkpoint(seen.Size)
		if err == nil && had != seen {
			err = fmt.Errorf("another root of %d entries", seen.Size)
		}
		return err
	}})
	for _, p := range []name.Person{"alice", "mallory", "bob", "carol", "rita", "olga"} {
		w.enrolNow(p, "one")
		if p == "alice" || p == "bob" || p == "olga" {
			w.enrolNow(p, "two")
		}
	}
	for _, j := range []string{"jump-a", "jump-b"} {
		w.jumps = append(w.jumps, &machineJump{Jump: w.c.Join(j)})
	}
	id, err := age.GenerateX25519Identity()
	catest.Must(tb, err)
	k := w.keysOf("rita")[0]
	ch := new(api.Challenge)
	catest.Must(tb, w.c.Wire().Post(recipients, api.RecipientAsk{Person: "rita", Age: id.Recipient().String(), Sealed: "passphrase"}, ch))
	catest.Must(tb, w.c.Wire().Post(recipients+"/"+ch.ID+"/signature", api.Signed{SSHSIG: k.Sign(ch.Statement, ch.Namespace)}, new(any)))
	w.look()
}

func (w *world) close() {
	if w.c != nil {
		t := w.tb
		defer func() {
			if p := recover(); p != nil {
				if _, ours := p.(failed); !ours {
					panic(p)
				}
				_ = t
			}
		}()
		w.c.Stop()
	}
}

// enrolNow enrols a key before the first step.
func (w *world) enrolNow(p name.Person, called string) {
	k := &machineKey{OpenKey: catest.NewOpenKey(w.tb), person: p, called: called}
	a := &arena{CA: w.c}
	ch, err := a.enrolKey(&keyed{OpenKey: k.OpenKey, name: p, credential: k.Public().Marshal()}, w.c.Token(string(p)).Secret, called)
	catest.Must(w.tb, err)
	catest.Must(w.tb, w.c.Wire().Post(enrolments+"/"+ch.ID+"/signature", api.Signed{SSHSIG: k.Sign(ch.Statement, ch.Namespace)}, new(any)))
	k.enrolled, k.counter, k.issued, k.from = true, k.Counter, w.now(), w.now()
	w.keys = append(w.keys, k)
}

func (w *world) keysOf(p name.Person) (out []*machineKey) {
	for _, k := range w.keys {
		if k.person == p && k.enrolled {
			out = append(out, k)
		}
	}
	return out
}

func (w *world) keyOf(fingerprint string) *machineKey {
	for _, k := range w.keys {
		if ssh.FingerprintSHA256(k.Public()) == fingerprint {
			return k
		}
	}
	w.tb.Fatalf("no key %s", fingerprint)
	return nil
}

// counting are those of a person's keys that count.
func (w *world) counting(p name.Person) (n int) {
	for _, k := range w.keysOf(p) {
		if k.counts(w.now()) {
			n++
		}
	}
	return n
}

func (k *machineKey) counts(now time.Time) bool {
	return k.enrolled && !k.suspended && !k.revoked && !now.Before(k.from)
}

// clockWrong: the CA's clock is before its newest entry, and nobody said that it is right.
func (w *world) clockWrong() bool {
	return w.now().Before(w.newest.Add(-2*time.Second)) && w.newest.After(w.accepted)
}

// added says whether circumstances want an approval more.
func (w *world) added(p name.Person) bool {
	return w.strict && w.counting(p) < 2 || w.locked(p)
}

// locked: ten refused signed acts in ten minutes lock for thirty. The entry says so; what it grants is nothing.
func (w *world) locked(p name.Person) bool {
	for _, e := range slices.Backward(w.entries) {
		switch f := e.Facts.(type) {
		case *ledger.PersonLocked:
			if e.Subject.Person == p {
				return w.now().Before(f.Until.Time)
			}
		case *ledger.PersonUnlocked:
			if e.Subject.Person == p {
				return false
			}
		}
	}
	return false
}

func (r *machineRequest) alive(now time.Time) bool {
	return r.state == "allowed" && !r.revoked && now.Before(r.until)
}

// stands says whether the keys behind a grant let a session open: none of them revoked, and the one that was touched last in order. A
// suspended key's grant is stood for again by the touch of another.
func (r *machineRequest) stands(now time.Time) bool {
	last := r.key
	if r.last != nil {
		last = r.last
	}
	return !r.key.revoked && last.counts(now)
}

func (r *machineRequest) waits(now time.Time) bool {
	return r.state == "waits" && now.Before(r.opened.Add(30*time.Minute))
}

// yes are the people whose approval of r counts now; no those who said no.
func (r *machineRequest) verdicts(now time.Time) (yes, no []name.Person) {
	last := map[name.Person]said{}
	for _, s := range r.said {
		last[s.person] = s
	}
	for p, s := range last {
		switch {
		case !s.key.counts(now):
		case s.verdict == statement.Deny:
			no = append(no, p)
		case now.Before(s.at.Add(10 * time.Minute)):
			yes = append(yes, p)
		}
	}
	return yes, no
}

// An expectation is what a step must lead to.
type expectation struct {
	may   bool     // it may succeed
	must  bool     // and it has to
	waits bool     // by waiting for approvals
	types []string // entries of a success, in order; nil leaves that to the invariants
	codes []string // of a refusal; nil is any
}

var mustNot = expectation{}

func refusedWith(codes ...string) expectation { return expectation{codes: codes} }
func allowed(types ...string) expectation {
	return expectation{may: true, must: true, types: types}
}

var perhaps = expectation{may: true}

// judged holds what came of a step against what had to. It gives true if it succeeded.
func (w *world) judged(what string, x expectation, err error) bool {
	var p *api.Problem
	var waits *api.Waiting
	ok := err == nil || errors.As(err, &waits)
	if ok {
		w.outcomes[what+": allowed"]++
	} else {
		w.outcomes[what+": refused"]++
		if !errors.As(err, &p) || p.Status >= 500 && p.Code != api.CodeClockBack {
			w.tb.Fatalf("%s: no answer, but %v", what, err)
		}
	}
	switch {
	case ok && !x.may:
		w.tb.Fatalf("%s succeeded, and must not", what)
	case !ok && x.must:
		w.tb.Fatalf("%s had to succeed: %v", what, err)
	case !ok && x.codes != nil && !slices.Contains(x.codes, p.Code):
		w.tb.Fatalf("%s: refused as %s (%s), want %v", what, p.Code, p.Detail, x.codes)
	}
	if !ok {
		fresh := w.fresh()
		for i, e := range fresh {
			if e.Type() == "request.overridden" && i+1 < len(fresh) && fresh[i+1].Type() == "request.denied" {
				continue // of an extension whose grant was revoked or is over: the touch is recorded, and opened nothing
			}
			if t := string(e.Type()); !slices.Contains(harmless, e.Type()) && t != "strangers.summed" {
				w.tb.Fatalf("%s was refused (%v) and left %s", what, err, t)
			}
		}
	} else if x.types != nil {
		var got []string
		for _, e := range w.fresh() {
			if t := string(e.Type()); t != "strangers.summed" && t != "person.unlocked" {
				got = append(got, t)
			}
		}
		if d := cmp.Diff(x.types, got); d != "" {
			w.tb.Fatalf("%s left other entries:\n%s", what, d)
		}
	}
	return ok
}

// fresh are the entries since the last look.
func (w *world) fresh() []*ledger.Entry {
	var out []*ledger.Entry
	for _, b := range w.c.Raw()[len(w.entries):] {
		e, err := ledger.Decode(b)
		catest.Must(w.tb, err)
		out = append(out, e)
	}
	return out
}

// look holds what must always be true (DESIGN.md section 1) against what was added since the last look.
func (w *world) look() {
	raw := w.c.Raw()[len(w.entries):]
	var batch []*ledger.Entry
	for _, b := range raw {
		e, err := ledger.Decode(b)
		catest.Must(w.tb, err)
		w.audit.Add(w.tree.Size(), b)
		catest.Must(w.tb, w.tree.Append(b))
		w.entries = append(w.entries, e)
		batch = append(batch, e)
		if e.Time.After(w.newest) {
			w.newest = e.Time.Time
		}
		switch f := e.Facts.(type) {
		case *ledger.ClockAccepted:
			w.accepted = f.Newest.Time
		case *ledger.KeySuspended:
			w.keyOf(e.Subject.Key).suspended = true
		case *ledger.KeyUnlocked: // what the suspension saw is the floor from now on
			k := w.keyOf(e.Subject.Key)
			k.suspended, k.counter = false, f.Seen // the key counts on from there: that is what was lifted
		}
	}
	if fs, _ := w.audit.Findings(); len(fs) > 0 {
		w.tb.Fatalf("the audit finds %v", fs[0])
	}
	for i, e := range batch {
		if f, ok := e.Facts.(*ledger.CertificateIssued); ok {
			w.certificate(batch[:i], e, f)
		}
		w.touched(e)
	}
	w.grown()
}

// certificate: no touch, no certificate; one person, one host, one login, minutes.
func (w *world) certificate(before []*ledger.Entry, e *ledger.Entry, f *ledger.CertificateIssued) {
	k, _, _, _, err := ssh.ParseAuthorizedKey([]byte(f.Certificate))
	catest.Must(w.tb, err)
	c := k.(*ssh.Certificate)
	end := time.Unix(int64(c.ValidBefore), 0)
	switch f.Kind {
	case "client":
		var st *statement.Request
		for _, o := range w.entries {
			if (o.Type() == "request.opened" || o.Type() == "request.overridden") && o.Subject.Request == e.Subject.Request {
				s := new(statement.Request)
				catest.Must(w.tb, statement.Parse([]byte(o.Statement), s))
				if o.Type() == "request.opened" && s.Request != statement.RequestNew {
					continue
				}
				w.proven(o, s.Person)
				if st == nil {
					st = s
				}
			}
		}
		if st == nil {
			w.tb.Fatalf("a certificate for %s, and nobody signed for it", e.Subject.Request)
		}
		rule := ruleOf(st.Host)
		if want := fmt.Sprintf("%s %s %s", st.ID, st.Login, st.Host); c.CriticalOptions["grant@breakglass"] != want || !slices.Equal(c.ValidPrincipals, []string{"client:" + string(st.Person)}) {
			w.tb.Fatalf("the certificate of %s@%s for %s is for %v, %v", st.Login, st.Host, st.Person, c.ValidPrincipals, c.CriticalOptions)
		}
		if ssh.FingerprintSHA256(c.Key) != st.ClientKey || c.CriticalOptions["source-address"] != "127.0.0.1/32" {
			w.tb.Fatalf("the certificate is over %s from %q, signed for was %s", ssh.FingerprintSHA256(c.Key), c.CriticalOptions["source-address"], st.ClientKey)
		}
		if end.After(w.now().Add(time.Duration(rule.minutes) * time.Minute)) {
			w.tb.Fatalf("the certificate ends at %v, the rule gives %d minutes", end, rule.minutes)
		}
		if !slices.Contains(rule.who, st.Person) || st.Login != "root" {
			w.tb.Fatalf("no rule lets %s in as %s@%s", st.Person, st.Login, st.Host)
		}
		if w.clockWrong() {
			w.tb.Fatalf("a certificate while the clock is wrong")
		}
	case "session":
		if len(before) == 0 || before[len(before)-1].Type() != "session.opened" {
			w.tb.Fatalf("a session certificate without its session's entry before it")
		}
		o := before[len(before)-1].Subject
		if !slices.Equal(c.ValidPrincipals, []string{"session:" + string(o.Login) + "@" + string(o.Host)}) || len(c.CriticalOptions["source-address"]) == 0 {
			w.tb.Fatalf("the session certificate of %s@%s is for %v", o.Login, o.Host, c.ValidPrincipals)
		}
		if end.After(w.now().Add(5*time.Minute + time.Second)) {
			w.tb.Fatalf("the session certificate ends at %v", end)
		}
	case "host":
		if !slices.ContainsFunc(w.jumps, func(j *machineJump) bool { return bytes.Equal(j.HostKey.PublicKey().Marshal(), c.Key.Marshal()) }) {
			w.tb.Fatalf("a host certificate over a key that is no jump's")
		}
	default:
		w.tb.Fatalf("a certificate of kind %q", f.Kind)
	}
}

// proven: the entry's signature is a key's of that person, with touch and PIN.
func (w *world) proven(e *ledger.Entry, p name.Person) *machineKey {
	sig, err := sshsig.Parse([]byte(e.SSHSIG))
	catest.Must(w.tb, err)
	for _, k := range w.keys {
		if bytes.Equal(k.Public().Marshal(), sig.PublicKey.Marshal()) {
			kind, err := statement.KindOf([]byte(e.Statement))
			catest.Must(w.tb, err)
			catest.Must(w.tb, sig.Verify(k.Public(), kind.Namespace(), []byte(e.Statement)))
			if flags := sig.Inner.Rest[0]; k.person != p || flags&catest.Touched != catest.Touched {
				w.tb.Fatalf("%s stands on a signature of %s with flags %#x", e.Type(), k.person, flags)
			}
			return k
		}
	}
	w.tb.Fatalf("%s is signed by a key that nobody has", e.Type())
	return nil
}

// touched follows the counters: each recorded signature that rises counts.
func (w *world) touched(e *ledger.Entry) {
	if e.SSHSIG == "" {
		return
	}
	sig, err := sshsig.Parse([]byte(e.SSHSIG))
	catest.Must(w.tb, err)
	for _, k := range w.keys {
		if !bytes.Equal(k.Public().Marshal(), sig.PublicKey.Marshal()) {
			continue
		}
		t, err := sig.Touch()
		catest.Must(w.tb, err)
		s, err := statement.KindOf([]byte(e.Statement))
		catest.Must(w.tb, err)
		st := statement.New(s)
		catest.Must(w.tb, statement.Parse([]byte(e.Statement), st))
		if h, _ := statement.HeadOf(st); t.Counter > k.counter {
			k.counter, k.issued = t.Counter, h.Issued
		}
	}
}

// grown: the head is over exactly the entries, and continues each head before it.
func (w *world) grown() {
	head, err := ledger.OpenCheckpoint(w.c.Checkpoint(), w.c.Pins.Site.LedgerKey)
	catest.Must(w.tb, err)
	own, err := w.tree.Checkpoint(w.tree.Size())
	catest.Must(w.tb, err)
	if head.Pin() != own {
		w.tb.Fatalf("the head is of %d entries, root %s; the entries are %d, root %s", head.Size, head.Root, own.Size, own.Root)
	}
	if n := len(w.heads); n > 0 && w.heads[n-1].Size == head.Size {
		return
	}
	w.heads = append(w.heads, head)
	if len(w.heads) > 1 {
		w.continues(w.heads[len(w.heads)-2], head)
	}
}

func (w *world) continues(old, head ledger.Checkpoint) {
	p := new(api.ConsistencyProof)
	catest.Must(w.tb, w.c.Wire().Get(fmt.Sprintf("/v1/proof/consistency?from=%d&to=%d", old.Size, head.Size), p))
	catest.Must(w.tb, ledger.CheckConsistency(old.Pin(), head.Pin(), p.Proof))
}

// last looks at the whole.
func (w *world) last() {
	w.rebuild()
	for _, h := range w.heads {
		if now := w.heads[len(w.heads)-1]; h.Size < now.Size {
			w.continues(h, now)
		}
	}
	issued := map[string]bool{}
	for _, e := range w.entries {
		if f, ok := e.Facts.(*ledger.CertificateIssued); ok {
			issued[f.Certificate] = true
		}
	}
	for _, r := range w.reqs {
		for _, c := range r.certs {
			if !issued[c] {
				w.tb.Fatalf("%s got a certificate that no entry holds", r.person)
			}
		}
	}
	w.c.Audit()
}

// rebuild: the tables are what the entries say.
func (w *world) rebuild() {
	live := w.c.Tables()
	catest.Must(w.tb, w.c.Rebuild())
	if d := cmp.Diff(live, w.c.Tables()); d != "" {
		w.tb.Fatalf("a rebuild gives other tables:\n%s", d)
	}
}

func (w *world) acceptClock() error { return w.c.AcceptClock(context.Background()) }
