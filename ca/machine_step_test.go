package ca_test

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"

	"breakglass/ca"
	"breakglass/ca/api"
	"breakglass/ca/catest"
	"breakglass/internal/name"
	"breakglass/internal/sshsig"
	"breakglass/internal/statement"
	"breakglass/ledger"
)

// An operation is one sort of step.
type operation struct {
	name   string
	weight int
	do     func(w *world, a [6]int)
}

func operations() []operation {
	return []operation{
		{"time passes", 10, (*world).tick},
		{"the clock goes back", 1, (*world).clockBack},
		{"local root says that the clock is right", 2, (*world).clockIsRight},
		{"the CA is restarted", 2, (*world).restart},
		{"the tables are rebuilt", 2, func(w *world, _ [6]int) { w.rebuild() }},
		{"somebody asks", 6, func(w *world, a [6]int) { w.askNew(a) }},
		{"somebody asks and signs", 16, func(w *world, a [6]int) { w.honest(w.askNew(a)) }},
		{"somebody goes on without approvals, or extends", 12, func(w *world, a [6]int) { w.either(w.askAgain(a), a) }},
		{"somebody says yes or no", 18, func(w *world, a [6]int) { w.either(w.askVerdict(a), a) }},
		{"somebody asks for a pass", 5, func(w *world, a [6]int) { w.either(w.askPass(a), a) }},
		{"somebody gives an order", 3, func(w *world, a [6]int) { w.either(w.askOrder(a), a) }},
		{"somebody reports a key as lost", 1, func(w *world, a [6]int) { w.either(w.askLoss(a), a) }},
		{"somebody lifts a suspension", 4, func(w *world, a [6]int) { w.either(w.askUnlock(a), a) }},
		{"a signature is sent, good or bad", 30, (*world).sign},
		{"local root invites", 3, (*world).invite},
		{"a key is enrolled", 4, (*world).enrol},
		{"a jump asks for a session", 22, (*world).session},
		{"a jump tells of an end", 6, (*world).ends},
		{"a jump asks for host certificates", 1, (*world).hosts},
		{"somebody reads", 6, (*world).reads},
		{"somebody kills a grant", 2, (*world).kills},
		{"a key of the CA is rotated", 1, (*world).rotates},
	}
}

// pick takes one of a list, the later ones more often; the zero value of an empty one.
func pick[T any](list []T, n int) (v T) {
	if len(list) == 0 {
		return v
	}
	if n%4 != 0 && len(list) > 6 {
		list = list[len(list)-6:]
	}
	return list[n/4%len(list)]
}

// one takes one of the requests: mostly one that waits or is alive, for the rest of them only refuse.
func (w *world) one(n int, good func(*machineRequest) bool) *machineRequest {
	var some []*machineRequest
	for _, r := range w.reqs {
		if good(r) {
			some = append(some, r)
		}
	}
	if n%5 == 0 || len(some) == 0 {
		some = w.reqs
	}
	return pick(some, n/5)
}

func (w *world) running(r *machineRequest) bool { return r.waits(w.now()) || r.alive(w.now()) }

func (w *world) cast() []name.Person {
	return []name.Person{"alice", "mallory", "bob", "carol", "rita", "olga"}
}

func (w *world) tick(a [6]int) {
	steps := []time.Duration{time.Second, 5 * time.Second, 20 * time.Second, 61 * time.Second, 3 * time.Minute, 6 * time.Minute, 11 * time.Minute, 16 * time.Minute, 31 * time.Minute, time.Second, 3 * time.Second, 40 * time.Second}
	w.clock.Add(int64(steps[a[0]%len(steps)]))
}

func (w *world) clockBack(a [6]int) {
	w.clock.Add(-int64(time.Duration(1+a[0]%20) * time.Minute))
	for _, p := range w.pend {
		p.fuzzy = true
	}
}

func (w *world) clockIsRight([6]int) { catest.Must(w.tb, w.acceptClock()) }

func (w *world) restart([6]int) {
	w.c.Stop()
	w.c.Start()
	for _, p := range w.pend {
		p.used = true
	}
}

// begin opens an act.
func (w *world) begin(p *pending, in any) *pending {
	p.ch = new(api.Challenge)
	p.decoy = true
	for _, k := range w.keysOf(p.person) {
		if !k.suspended && !k.revoked {
			p.decoy = false
		}
	}
	if err := w.c.Wire().Post(p.path, in, p.ch); err != nil {
		w.tb.Fatalf("an ask was refused: %v", err)
	}
	st := statement.New(p.kind)
	catest.Must(w.tb, statement.Parse([]byte(p.ch.Statement), st))
	h, _ := statement.HeadOf(st)
	p.issued = h.Issued
	if len(w.fresh()) > 0 {
		w.tb.Fatalf("an unsigned ask left an entry")
	}
	w.pend = append(w.pend, p)
	return p
}

func (w *world) askNew(a [6]int) *pending {
	// People who may ask ask more often.
	people := append(w.cast(), oncall...)
	people = append(people, oncall...)
	r := &machineRequest{kind: statement.RequestNew, person: people[a[0]%len(people)], host: []name.Host{"web01", "web02", "db01", "vault01"}[a[1]%4],
		minutes: []int{0, 5, 30}[a[2]%3], client: catest.NewKey(w.tb)}
	p := w.begin(&pending{kind: statement.KindRequest, path: requests, person: r.person, request: r}, api.Ask{Person: string(r.person), Login: "root", Host: string(r.host), Minutes: r.minutes,
		Reason: catest.Reason, ClientKey: catest.Line(r.client.PublicKey())})
	r.id = name.RequestID(p.ch.ID)
	return p
}

// askAgain is an override or an extension.
func (w *world) askAgain(a [6]int) *pending {
	of := w.one(a[0], w.running)
	if of == nil {
		return nil
	}
	kind := statement.RequestOverride
	if of.state == "allowed" || a[1]%8 == 0 {
		kind = statement.RequestExtend
	}
	root := of
	if of.of != nil {
		root = of.of
	}
	r := &machineRequest{kind: kind, of: of, person: of.person, host: of.host, minutes: of.minutes, client: root.client}
	p := &pending{kind: statement.KindRequest, path: requests, request: r, of: of, same: true}
	switch a[2] % 12 {
	case 0:
		r.person, p.same = w.cast()[a[3]%6], false
		p.same = r.person == of.person
	case 1:
		r.client, p.same = catest.NewKey(w.tb), false
	case 2:
		r.host = []name.Host{"web01", "web02", "db01", "vault01"}[a[3]%4]
		p.same = r.host == of.host
	}
	p.person = r.person
	w.begin(p, api.Ask{Kind: kind, Of: of.id, Person: string(r.person), Login: "root", Host: string(r.host), Minutes: r.minutes, Reason: catest.Reason, ClientKey: catest.Line(r.client.PublicKey())})
	r.id = name.RequestID(p.ch.ID)
	return p
}

func (w *world) askVerdict(a [6]int) *pending {
	of := w.one(a[0], func(r *machineRequest) bool { return r.waits(w.now()) })
	if of == nil {
		return nil
	}
	people := slices.Concat(w.cast(), leads, leads, []name.Person{"olga"})
	p := &pending{kind: statement.KindApproval, path: approvals, person: people[a[1]%len(people)], of: of, verdict: statement.Approve, hash: a[3]%12 != 0}
	if a[2]%5 == 0 {
		p.verdict = statement.Deny
	}
	h := of.signed
	if !p.hash {
		h[0] ^= 1
	}
	return w.begin(p, api.ApprovalAsk{Person: string(p.person), About: statement.AboutRequest, Of: string(of.id), Hash: h, Verdict: p.verdict})
}

func (w *world) askPass(a [6]int) *pending {
	p := &pending{kind: statement.KindPass, path: passes, person: w.cast()[a[0]%6], holder: catest.NewKey(w.tb)}
	if h := pick(w.passes, a[1]); h != nil && a[2]%6 == 0 {
		p.holder = h.holder
	}
	return w.begin(p, api.PassAsk{Person: string(p.person), Holder: catest.Line(p.holder.PublicKey())})
}

func (w *world) askOrder(a [6]int) *pending {
	people := []name.Person{"olga", "rita", "olga", "rita", "alice", "mallory"}
	p := &pending{kind: statement.KindOrder, path: orders, person: people[a[0]%len(people)]}
	o := &p.order
	switch a[1] % 24 {
	case 0:
		o.act, o.target = statement.OrderRevokePerson, string(w.cast()[a[2]%6])
	case 1:
		o.act, o.target = statement.OrderRevokeJump, string(w.jumps[a[2]%len(w.jumps)].Name)
	case 2, 3, 4:
		o.act, o.target = statement.OrderRevokeKey, ssh.FingerprintSHA256(pick(w.keys, a[2]).Public())
	default:
		r := pick(w.reqs, a[2])
		if r == nil {
			return nil
		}
		o.act, o.target = statement.OrderRevokeGrant, string(r.id)
	}
	return w.begin(p, api.OrderAsk{Person: string(p.person), Act: o.act, Target: o.target, Reason: "the machine says so"})
}

func (w *world) askLoss(a [6]int) *pending {
	k := pick(w.keys, a[0])
	p := &pending{kind: statement.KindLoss, path: "/v1/losses", person: k.person, key: k}
	if a[1]%4 == 0 {
		p.person = w.cast()[a[2]%6]
	}
	return w.begin(p, api.LossAsk{Person: string(p.person), Key: ssh.FingerprintSHA256(k.Public()), Reason: "left in a train"})
}

func (w *world) askUnlock(a [6]int) *pending {
	var held []*machineKey
	for _, k := range w.keys {
		if k.suspended {
			held = append(held, k)
		}
	}
	k := pick(held, a[0])
	if k == nil {
		return nil
	}
	var h statement.Hash
	for i, e := range w.entries {
		if e.Type() == "key.suspended" && e.Subject.Key == ssh.FingerprintSHA256(k.Public()) {
			h = ledger.EntryHash(w.c.Raw()[i])
		}
	}
	people := append(w.cast(), k.person)
	p := &pending{kind: statement.KindApproval, path: approvals, person: people[a[1]%len(people)], key: k, verdict: statement.Approve}
	return w.begin(p, api.ApprovalAsk{Person: string(p.person), About: statement.AboutUnlock, Of: ssh.FingerprintSHA256(k.Public()), Hash: h, Verdict: p.verdict})
}

// An answer is how a statement is signed.
type answering struct {
	key     *machineKey
	flags   byte
	counter uint32
	other   bool // another text is signed
}

// usual is a key of the person's that counts, touched, with the next counter.
func (w *world) usual(p *pending, n int) answering {
	keys := w.keysOf(p.person)
	if len(keys) == 0 {
		keys = w.keys
	}
	k := keys[n%len(keys)]
	for i := range keys { // the first that counts, from there
		if c := keys[(n+i)%len(keys)]; c.counts(w.now()) {
			k = c
			break
		}
	}
	return answering{key: k, flags: catest.Touched, counter: k.counter + 1}
}

func (w *world) honest(p *pending) {
	if p != nil {
		w.finish(p, w.usual(p, 0))
	}
}

// either signs at once, mostly as people do, or leaves the statement for later.
func (w *world) either(p *pending, a [6]int) {
	if p != nil && a[5]%5 != 0 {
		w.finish(p, w.usual(p, a[4]))
	}
}

// sign answers a statement that somebody left, or one that was used, as people do or not at all as they do.
func (w *world) sign(a [6]int) {
	var fresh []*pending
	for _, p := range w.pend {
		if !p.used && !w.now().After(p.issued.Add(time.Minute)) {
			fresh = append(fresh, p)
		}
	}
	p := pick(w.pend, a[0])
	if len(fresh) > 0 && a[4]%4 != 0 {
		p = pick(fresh, a[0])
	} else if len(fresh) == 0 && a[4]%4 != 0 { // a new one, to be signed badly
		p = w.askNew(a)
	}
	if p != nil {
		w.finish(p, w.bent(p, a))
	}
}

// bent is an answer of which, often, one thing is not as it should be.
func (w *world) bent(p *pending, a [6]int) answering {
	x := w.usual(p, a[1])
	switch a[2] % 10 {
	case 0:
		x.key = pick(w.keys, a[3])
		x.counter = x.key.counter + 1
	case 1, 2:
		x.flags = []byte{0, sshsig.FlagUserPresent, sshsig.FlagUserVerified}[a[3]%3]
	case 3:
		x.counter = x.key.counter
	case 4:
		x.counter = x.key.counter - min(x.key.counter, 1)
	case 5:
		x.counter += 1000
	case 6:
		x.other = true
	}
	return x
}

// finish sends the signature, and holds what comes back against the model.
func (w *world) finish(p *pending, x answering) {
	text := p.ch.Statement
	if x.other {
		text = strings.Replace(text, "nonce: ", "nonce: A", 1)
	}
	armored := x.key.Bent(text, p.ch.Namespace, func(b *catest.Bent) { b.Flags, b.Counter = x.flags, x.counter })
	want := w.wants(p, x)
	if want.may && x.counter <= x.key.counter { // the counter comes last
		if want.must {
			want = refusedWith(api.CodeLate)
		} else {
			want = mustNot
		}
	}
	what := string(p.kind)
	var out struct {
		api.Granted
		State string `json:"state"`
	}
	err := w.c.Wire().Post(p.path+"/"+p.ch.ID+"/signature", api.Signed{SSHSIG: armored}, &out)
	counter, issued, now := x.key.counter, x.key.issued, w.now()
	ok := w.judged(what, want, err)
	waits := errors.As(err, new(*api.Waiting))
	if ok && want.must && p.request != nil && waits != want.waits {
		w.tb.Fatalf("it waits: %v, want %v", waits, want.waits)
	}
	suspended := false
	for _, e := range w.fresh() {
		suspended = suspended || e.Type() == "key.suspended"
		if !ok && e.Type() == "request.overridden" {
			p.of.state = "denied"
		}
	}
	if pr := new(api.Problem); suspended && (!errors.As(err, &pr) || pr.Code != api.CodeLate || x.counter > counter || !p.issued.After(issued)) {
		w.tb.Fatalf("suspended for counter %d after %d, statements of %v and %v: %v", x.counter, counter, p.issued, issued, err)
	} else if !suspended && errors.As(err, &pr) && pr.Code == api.CodeLate && p.issued.After(issued) {
		w.tb.Fatalf("a clone is not suspended: counter %d after %d", x.counter, counter)
	}
	if !p.fuzzy || ok {
		p.used = true
	}
	if ok {
		w.did(p, x, now, waits, &out.Granted, out.State)
	}
}

// wants is what the model says of an answer, but for the counter.
func (w *world) wants(p *pending, x answering) expectation {
	now := w.now()
	switch {
	case p.used:
		return refusedWith(api.CodeExpired)
	case now.After(p.issued.Add(60 * time.Second)), now.Before(p.issued):
		return refusedWith(api.CodeExpired)
	case !now.Before(p.issued.Add(59 * time.Second)):
		p.fuzzy = true // the CA's clock has parts of a second, and this one's has none
	}
	if p.decoy || !x.key.enrolled || x.key.person != p.person || x.other {
		if p.fuzzy {
			return mustNot
		}
		return refusedWith(api.CodeRefused)
	}
	want := w.act(p, x)
	if p.fuzzy && want.may { // it may be forgotten
		want.must, want.types = false, nil
	}
	if p.fuzzy {
		want.codes = nil
	}
	return want
}

func (w *world) act(p *pending, x answering) expectation {
	switch k := x.key; {
	case k.revoked:
		return refusedWith(api.CodeRevoked)
	case k.suspended:
		return refusedWith(api.CodeSuspended)
	case x.flags&sshsig.FlagUserPresent == 0:
		return refusedWith(api.CodeNoTouch)
	case x.flags&sshsig.FlagUserVerified == 0:
		return refusedWith(api.CodeNoPIN)
	case !k.counts(w.now()):
		return mustNot
	}
	if p.request != nil {
		if w.clockWrong() {
			return refusedWith(api.CodeClockBack)
		}
		switch p.request.kind {
		case statement.RequestNew:
			return w.wantsNew(p)
		case statement.RequestOverride:
			return w.wantsOverride(p)
		}
		return w.wantsExtension(p)
	}
	if w.clockWrong() {
		return perhaps
	}
	switch p.kind {
	case statement.KindApproval:
		if p.key != nil {
			return w.wantsUnlock(p, x)
		}
		return w.wantsVerdict(p)
	case statement.KindPass:
		for _, o := range w.passes {
			if o.holder == p.holder {
				return refusedWith(api.CodeConflict)
			}
		}
		return allowed("pass.granted")
	case statement.KindOrder:
		return w.wantsOrder(p)
	case statement.KindLoss:
		if p.key.person != p.person || !p.key.enrolled || p.key == x.key || p.key.revoked {
			return mustNot
		}
		return expectation{may: true, must: true}
	}
	return mustNot
}

func (w *world) crowded(p name.Person) bool {
	n := 0
	for _, r := range w.reqs {
		if r.person == p && r.waits(w.now()) {
			n++
		}
	}
	return n >= 8
}

func (w *world) wantsNew(p *pending) expectation {
	r := p.request
	rule := ruleOf(r.host)
	if !slices.Contains(rule.who, r.person) {
		return refusedWith(api.CodeDenied)
	}
	r.withMore = w.added(r.person)
	if rule.need == 0 && !r.withMore {
		return allowed("request.opened", "grant.allowed", "certificate.issued")
	}
	if w.crowded(r.person) {
		return mustNot
	}
	x := allowed("request.opened")
	x.waits = true
	return x
}

func (w *world) wantsOverride(p *pending) expectation {
	of, now := p.of, w.now()
	if !p.same || of.person != p.person || !of.waits(now) || now.Sub(of.opened) < 10*time.Minute {
		return mustNot
	}
	if of.withMore || w.added(of.person) || of.kind == statement.RequestExtend {
		return perhaps
	}
	return allowed("request.overridden", "grant.allowed", "certificate.issued")
}

// longer says whether an extension given now ends later.
func (w *world) longer(r *machineRequest) bool {
	return r.of.alive(w.now()) && w.end(r).After(r.of.until)
}

func (w *world) end(r *machineRequest) time.Time {
	m := ruleOf(r.host).minutes
	if r.minutes > 0 {
		m = min(m, r.minutes)
	}
	return w.now().Add(time.Duration(m) * time.Minute).Truncate(time.Second)
}

func (w *world) wantsExtension(p *pending) expectation {
	of, r := p.of, p.request
	if !p.same || of.person != p.person || of.kind == statement.RequestExtend || !w.longer(r) {
		return mustNot
	}
	r.withMore = w.added(r.person)
	if ruleOf(r.host).need == 0 && !r.withMore {
		return allowed("request.opened", "grant.extended", "certificate.issued")
	}
	if w.crowded(r.person) {
		return mustNot
	}
	x := allowed("request.opened")
	x.waits = true
	return x
}

func (w *world) wantsVerdict(p *pending) expectation {
	r, now := p.of, w.now()
	rule := ruleOf(r.host)
	if r.person == p.person || !r.waits(now) || !p.hash {
		return mustNot
	}
	var last *said // what they said before that is withdrawn
	for i := range r.said {
		if r.said[i].person == p.person {
			last = &r.said[i]
		}
	}
	if last != nil && last.verdict == p.verdict && (last.verdict == statement.Deny || now.Before(last.at.Add(10*time.Minute))) {
		return refusedWith(api.CodeApproved)
	}
	if r.withMore || w.added(r.person) { // a circumstance's approvers count too: how many of whom is the policy's
		if !slices.Contains(append(slices.Clone(leads), "olga"), p.person) {
			return mustNot
		}
		return perhaps
	}
	if !slices.Contains(rule.approvers, p.person) {
		return refusedWith(api.CodeNotApprover)
	}
	return expectation{may: true, must: true}
}

func (w *world) wantsUnlock(p *pending, x answering) expectation {
	if !p.key.suspended || p.key.revoked || x.key == p.key {
		return mustNot
	}
	if p.person != p.key.person && !slices.Contains(append(slices.Clone(leads), "olga"), p.person) {
		return mustNot
	}
	return perhaps
}

func (w *world) wantsOrder(p *pending) expectation {
	if p.person != "olga" && p.person != "rita" {
		return refusedWith(api.CodeNotOperator)
	}
	yes := expectation{may: true, must: true}
	switch o := p.order; o.act {
	case statement.OrderRevokeGrant:
		r := w.requestOf(o.target)
		if r.revoked || !r.waits(w.now()) && !r.alive(w.now()) {
			return mustNot
		}
		if r.kind != statement.RequestNew {
			return perhaps
		}
	case statement.OrderRevokeKey:
		for _, k := range w.keys {
			if ssh.FingerprintSHA256(k.Public()) == o.target {
				if !k.enrolled {
					return mustNot
				}
				if k.revoked { // or with its person, and not yet by itself
					return perhaps
				}
			}
		}
	case statement.OrderRevokeJump:
		for _, j := range w.jumps {
			if string(j.Name) == o.target && j.revoked {
				return refusedWith(api.CodeOver)
			}
		}
	case statement.OrderRevokePerson:
		if !slices.ContainsFunc(w.keysOf(name.Person(o.target)), func(k *machineKey) bool { return !k.revoked }) {
			return perhaps
		}
	}
	return yes
}

func (w *world) requestOf(id string) *machineRequest {
	for _, r := range w.reqs {
		if string(r.id) == id {
			return r
		}
	}
	w.tb.Fatalf("no request %s", id)
	return nil
}

// did changes the model as a success says.
func (w *world) did(p *pending, x answering, now time.Time, waits bool, g *api.Granted, state string) {
	switch p.kind {
	case statement.KindRequest:
		r := p.request
		r.key, r.opened = x.key, now
		switch {
		case r.kind == statement.RequestOverride:
			w.opens(p.of, now).last = x.key
			return
		case waits:
			r.state = "waits"
		default:
			r.state = "waits"
			w.opens(r, now)
		}
		for _, e := range w.fresh() {
			if e.Type() == "request.opened" {
				r.signed = statement.SignedHash(e.Statement, e.SSHSIG)
			}
		}
		w.reqs = append(w.reqs, r)
	case statement.KindApproval:
		if p.key != nil {
			return
		}
		r := p.of
		r.said = append(r.said, said{p.person, p.verdict, now, x.key})
		yes, no := r.verdicts(now)
		rule := ruleOf(r.host)
		want := "open"
		switch {
		case p.verdict == statement.Deny && rule.veto && len(no) > 0:
			want = "denied"
		case p.verdict == statement.Approve && !r.key.counts(w.now()), rule.veto && len(no) > 0:
			want = "denied"
		case p.verdict == statement.Approve && len(yes) >= rule.need:
			want = "allowed"
			if r.kind == statement.RequestExtend && !w.longer(r) {
				want = "denied"
			}
		}
		if !r.withMore && !w.added(r.person) && !w.clockWrong() && state != want {
			w.tb.Fatalf("%s said %s to %s: it is %s, want %s (yes %v, no %v of %d)", p.person, p.verdict, r.id, state, want, yes, no, rule.need)
		}
		switch state {
		case "allowed":
			if len(yes) < max(1, rule.need) || rule.veto && len(no) > 0 || !r.key.counts(w.now()) {
				w.tb.Fatalf("%s was opened by %v, against %v", r.id, yes, no)
			}
			w.opens(r, now)
		case "denied":
			r.state = "denied"
		}
	case statement.KindPass:
		w.passes = append(w.passes, &machinePass{p.holder, x.key, p.issued.Add(15 * time.Minute)})
	case statement.KindOrder:
		w.revokes(p.order.act, p.order.target)
	case statement.KindLoss:
		w.revokes(statement.OrderRevokeKey, ssh.FingerprintSHA256(p.key.Public()))
	}
}

// opens: r is allowed, or what it extends lasts longer.
// opens gives the grant that r opened or extended.
func (w *world) opens(r *machineRequest, now time.Time) *machineRequest {
	target := r
	if r.kind == statement.RequestExtend {
		target = r.of
		target.last = r.key
		r.state = "extended"
	} else {
		r.state = "allowed"
	}
	target.until, target.from = w.end(r), now
	for _, e := range w.fresh() {
		if f, ok := e.Facts.(*ledger.CertificateIssued); ok && f.Kind == "client" {
			target.certs = append(target.certs, f.Certificate)
			if !f.Until.Equal(target.until) {
				w.tb.Fatalf("%s ends at %v, its certificate at %v", target.id, target.until, f.Until)
			}
		}
	}
	return target
}

func (w *world) revokes(act, target string) {
	stops := func(r *machineRequest) {
		if r.waits(w.now()) {
			r.state = "denied"
		}
	}
	switch act {
	case statement.OrderRevokeGrant:
		r := w.requestOf(target)
		r.revoked = true
		stops(r)
	case statement.OrderRevokeJump:
		for _, j := range w.jumps {
			j.revoked = j.revoked || string(j.Name) == target
		}
	default:
		for _, k := range w.keys {
			if ssh.FingerprintSHA256(k.Public()) == target || act == statement.OrderRevokePerson && string(k.person) == target {
				k.revoked = k.revoked || k.enrolled
				for _, r := range w.reqs {
					if r.key == k || act == statement.OrderRevokePerson && r.person == k.person {
						stops(r)
					}
				}
			}
		}
	}
}

func (w *world) invite(a [6]int) {
	p := w.cast()[a[0]%6]
	t, err := w.c.Invite(context.Background(), api.ForPerson, string(p))
	catest.Must(w.tb, err)
	w.tokens = append(w.tokens, machineToken{secret: t.Secret, person: p, until: t.Expires})
}

func (w *world) enrol(a [6]int) {
	if len(w.tokens) == 0 {
		return
	}
	t := &w.tokens[a[0]%len(w.tokens)]
	k := &machineKey{OpenKey: catest.NewOpenKey(w.tb), person: t.person, called: fmt.Sprintf("k%d", len(w.keys))}
	if a[1]%8 == 0 { // a key that is somebody's already
		k = pick(w.keys, a[2])
	}
	x := allowed("key.enrolled")
	if t.used || w.now().After(t.until) || k.enrolled {
		x = mustNot
	} else if w.clockWrong() {
		x = perhaps
	}
	ar := &arena{CA: w.c}
	ch, err := ar.enrolKey(&keyed{OpenKey: k.OpenKey, credential: k.Public().Marshal()}, t.secret, fmt.Sprintf("k%d-%d", len(w.keys), a[3]))
	if err == nil {
		err = w.c.Wire().Post(enrolments+"/"+ch.ID+"/signature", api.Signed{SSHSIG: k.Bent(ch.Statement, ch.Namespace, func(b *catest.Bent) { b.Counter = k.counter + 1 })}, new(any))
	}
	if w.judged("enrol", x, err) {
		t.used, k.enrolled, k.counter, k.issued, k.from = true, true, k.counter+1, w.now(), w.now()
		w.keys = append(w.keys, k)
	}
}

func (w *world) session(a [6]int) {
	r, j := w.one(a[0], func(r *machineRequest) bool { return r.alive(w.now()) }), w.jumps[a[1]%len(w.jumps)]
	if r == nil || len(r.certs) == 0 {
		return
	}
	cert := r.certs[len(r.certs)-1]
	x := allowed("session.opened", "certificate.issued")
	if w.added(r.person) || w.counting("rita") == 0 || w.now().Before(r.from) {
		x = perhaps
	}
	if a[2]%6 == 0 {
		if first := r.certs[0]; first != cert { // of before an extension: good until its own end
			cert, x = first, perhaps
		}
	}
	if !r.alive(w.now()) || !r.stands(w.now()) || j.revoked || w.clockWrong() {
		x = mustNot
	}
	q := &statement.Session{Origin: w.c.Pins.Site.Origin, Jump: j.Name, Issued: w.now(), Nonce: statement.NewNonce(), Certificate: cert, Login: "root", Host: r.host,
		Peer: "127.0.0.1", SSHSession: "0badc0de", Key: catest.Line(catest.NewKey(w.tb).PublicKey()), Door: "preamble"}
	switch a[3] % 12 {
	case 0:
		q.Peer, x = "127.0.0.9", mustNot
	case 1:
		q.Host = []name.Host{"web01", "web02", "db01", "vault01"}[a[4]%4]
		if q.Host != r.host {
			x = mustNot
		}
	case 2:
		q.Login, x = "toor", mustNot
	}
	out := new(api.SessionAnswer)
	s := j.SignStatement(q)
	err := w.c.Wire().Post("/v1/sessions", s, out)
	if w.judged("session", x, err) {
		w.open_ = append(w.open_, &machineSession{id: out.Session, req: r, jump: j})
		if out.Opened.Until.After(r.until) {
			w.tb.Fatalf("the session may last until %v, its grant until %v", out.Opened.Until, r.until)
		}
		w.look()
		w.judged("session", refusedWith(api.CodeExpired), w.c.Wire().Post("/v1/sessions", s, nil)) // the same question again
	}
}

func (w *world) ends(a [6]int) {
	s, j := pick(w.open_, a[0]), w.jumps[a[1]%len(w.jumps)]
	if s == nil {
		return
	}
	if a[2]%4 != 0 {
		j = s.jump
	}
	x := allowed("session.ended")
	if s.ended || j != s.jump {
		x = mustNot
	}
	if j.revoked {
		x = mustNot
	}
	number, previous := j.Number, j.Previous
	b := `{"reason":"closed","seconds":1,"bytes_in":0,"bytes_out":0,"head":{"frames":1,"chain":"` + strings.Repeat("0", 64) + `","bytes":1},"envelope":"` + strings.Repeat("0", 64) + `"}`
	f := j.SignStatement(&statement.Fact{Origin: w.c.Pins.Site.Origin, Machine: string(j.Name), Number: number + 1, Previous: previous, Time: w.now(), Type: "session.ended", Session: s.id, Body: b})
	if w.judged("end", x, w.c.Wire().By(j.Key).Post("/v1/facts", api.FactsAsk{Facts: []api.SignedStatement{f}}, new(any))) {
		s.ended = true
		j.Number, j.Previous = number+1, sha256.Sum256([]byte(f.Statement))
	}
}

func (w *world) hosts(a [6]int) {
	j := w.jumps[a[0]%len(w.jumps)]
	x := perhaps
	if j.revoked {
		x = mustNot
	}
	w.judged("hosts", x, w.c.Wire().By(j.Key).Post("/v1/hostcerts", api.HostCertsAsk{}, new(any)))
}

// good says whether a pass reads.
func (w *world) good(p *machinePass) bool { return p.key.counts(w.now()) && w.now().Before(p.until) }

func (w *world) reads(a [6]int) {
	if r := pick(w.reqs, a[0]); r != nil && a[1]%3 == 0 {
		other := pick(w.reqs, a[2])
		x := allowed()
		root := other
		if other.of != nil {
			root = other.of
		}
		mine := r
		if r.of != nil {
			mine = r.of
		}
		if mine.client != root.client {
			x = refusedWith(api.CodePass)
		}
		w.judged("read", x, w.c.Wire().By(r.client).Get(requests+"/"+string(other.id), new(any)))
		return
	}
	p := pick(w.passes, a[0])
	if p == nil {
		return
	}
	x := allowed()
	if !w.good(p) {
		x = refusedWith(api.CodePass)
	}
	w.judged("read", x, w.c.Wire().By(p.holder).Get([]string{"/v1/sessions", "/v1/entries/0", "/v1/requests"}[a[1]%3], new(any)))
}

func (w *world) kills(a [6]int) {
	p, r := pick(w.passes, a[0]), pick(w.reqs, a[1])
	if p == nil || r == nil {
		return
	}
	x := expectation{may: true, must: true}
	switch {
	case !w.good(p):
		x = refusedWith(api.CodePass)
	case r.revoked || !r.waits(w.now()) && !r.alive(w.now()):
		x = mustNot
	case w.clockWrong() || r.kind != statement.RequestNew:
		x = perhaps
	}
	if w.judged("kill", x, w.c.Wire().By(p.holder).Post(requests+"/"+string(r.id)+"/kill", api.StopAsk{Why: "the machine kills"}, new(any))) {
		w.revokes(statement.OrderRevokeGrant, string(r.id))
	}
}

// rotates: certificates of before stay good, and those of after are by the new key. Each key once: then its new standby lies elsewhere.
func (w *world) rotates(a [6]int) {
	k := []string{ca.KeyClientCA, ca.KeySessionCA, ca.KeyHostCA}[a[0]%3]
	if slices.ContainsFunc(w.entries, func(e *ledger.Entry) bool {
		f, ok := e.Facts.(*ledger.SiteChanged)
		return ok && strings.Contains(f.Why, k)
	}) {
		return
	}
	if _, err := w.c.Rotate(context.Background(), &ca.RotateAsk{Key: k, Standby: standby(w.c, k)}); err != nil && !errors.As(err, new(*api.Problem)) {
		w.tb.Fatalf("rotating %s: %v", k, err)
	}
}
