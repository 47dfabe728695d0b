package ca_test

import (
	"errors"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"

	"breakglass/ca/api"
	"breakglass/ca/catest"
	"breakglass/internal/name"
	"breakglass/internal/statement"
	"breakglass/ledger"
)

// waits is a request of p's that waits for approvals, with its client key.
func (a *arena) waits(p *keyed, host string) *catest.Grant {
	a.t.Helper()
	g, err := a.request(p, func(q *api.Ask) { q.Host = host })
	if w := new(api.Waiting); !errors.As(err, &w) {
		a.t.Fatalf("root@%s does not wait: %v", host, err)
	}
	return g
}

// signedHash names what was signed as the request.
func (a *arena) signedHash(id name.RequestID) statement.Hash {
	a.t.Helper()
	for _, e := range a.Entries() {
		if e.Type() == "request.opened" && e.Subject.Request == id {
			return statement.SignedHash(e.Statement, e.SSHSIG)
		}
	}
	return statement.Hash{1}
}

// verdictAsk is an honest approver's ask about a request.
func (a *arena) verdictAsk(p *keyed, id name.RequestID, verdict string) api.ApprovalAsk {
	a.t.Helper()
	return api.ApprovalAsk{Person: string(p.name), About: statement.AboutRequest, Of: string(id), Hash: a.signedHash(id), Verdict: verdict}
}

// verdict signs it.
func (a *arena) verdict(p *keyed, id name.RequestID, verdict string) error {
	a.t.Helper()
	ch := a.ask(approvals, a.verdictAsk(p, id, verdict))
	return a.answer(approvals, ch.ID, p.sign(ch))
}

// again is an override or extension of g as p asks for it.
func (a *arena) again(p *keyed, kind string, g *catest.Grant, change func(*api.Ask)) error {
	a.t.Helper()
	ch := a.askAgain(p, kind, g, change)
	return a.answer(requests, ch.ID, p.sign(ch))
}

func (a *arena) askAgain(p *keyed, kind string, g *catest.Grant, change func(*api.Ask)) *api.Challenge {
	a.t.Helper()
	q := p.want(g.Key.PublicKey())
	q.Kind, q.Of = kind, g.ID
	if change != nil {
		change(&q)
	}
	return a.ask(requests, q)
}

func onDB(q *api.Ask)    { q.Host = "db01" }
func onVault(q *api.Ask) { q.Host = "vault01" }

// approvalAttacks are on what other people's yes and no does, and on the requester's second touch.
func approvalAttacks() []attack {
	byBob := func(reason string) []due { return []due{{"act.denied", "bob", reason}} }
	rows := []attack{
		{what: "an approval of one's own request", do: func(a *arena) error {
			b := a.person("bob")
			g := a.waits(b, "vault01") // who is an approver of that rule
			a.begin()
			return a.verdict(b, g.ID, statement.Approve)
		}, code: api.CodeOwnRequest, due: byBob(api.CodeOwnRequest)},
		{what: "an approval by who is no approver", do: func(a *arena) error {
			m, g := a.person("mallory"), a.waits(a.alice, "db01")
			a.begin()
			return a.verdict(m, g.ID, statement.Approve)
		}, code: api.CodeNotApprover, due: []due{{"act.denied", "mallory", api.CodeNotApprover}}},
		{what: "one person's approval given twice where two are asked for", do: func(a *arena) error {
			b, g := a.person("bob"), a.waits(a.alice, "vault01")
			catest.Must(a.t, a.verdict(b, g.ID, statement.Approve))
			a.begin()
			return a.verdict(b, g.ID, statement.Approve)
		}, code: api.CodeApproved, due: byBob(api.CodeApproved)},
		{what: "an approver's second key counted as a second person", do: func(a *arena) error {
			b, g := a.person("bob"), a.waits(a.alice, "vault01")
			second := a.stranger("bob")
			catest.Must(a.t, a.enrol(second, a.Token("bob").Secret, "second"))
			catest.Must(a.t, a.verdict(b, g.ID, statement.Approve))
			a.begin()
			return a.verdict(second, g.ID, statement.Approve)
		}, code: api.CodeApproved, due: byBob(api.CodeApproved)},
		{what: "an approval of another request's statement", do: func(a *arena) error {
			b, m := a.person("bob"), a.person("mallory")
			hers, his := a.waits(a.alice, "db01"), a.waits(m, "db01")
			q := a.verdictAsk(b, his.ID, statement.Approve)
			q.Hash = a.signedHash(hers.ID)
			a.begin()
			ch := a.ask(approvals, q)
			return a.answer(approvals, ch.ID, b.sign(ch))
		}, code: api.CodeOtherRequest, due: byBob(api.CodeOtherRequest)},
		{what: "an approval of alice's request answered for mallory's", do: func(a *arena) error {
			b, m := a.person("bob"), a.person("mallory")
			hers, his := a.waits(a.alice, "db01"), a.waits(m, "db01")
			signed, sent := a.ask(approvals, a.verdictAsk(b, hers.ID, statement.Approve)), a.ask(approvals, a.verdictAsk(b, his.ID, statement.Approve))
			a.begin()
			return a.answer(approvals, sent.ID, b.sign(signed))
		}, code: api.CodeRefused, sum: "bad_signature"},
		{what: "a no sent as a yes", do: func(a *arena) error {
			b, g := a.person("bob"), a.waits(a.alice, "db01")
			no, yes := a.ask(approvals, a.verdictAsk(b, g.ID, statement.Deny)), a.ask(approvals, a.verdictAsk(b, g.ID, statement.Approve))
			a.begin()
			return a.answer(approvals, yes.ID, b.sign(no))
		}, code: api.CodeRefused, sum: "bad_signature"},
		{what: "carol's signature on bob's approval", do: func(a *arena) error {
			b, c, g := a.person("bob"), a.person("carol"), a.waits(a.alice, "db01")
			ch := a.ask(approvals, a.verdictAsk(b, g.ID, statement.Approve))
			a.begin()
			return a.answer(approvals, ch.ID, c.sign(ch))
		}, code: api.CodeRefused, sum: "wrong_key"},
		{what: "the requester's signature on bob's approval", do: func(a *arena) error {
			b, g := a.person("bob"), a.waits(a.alice, "db01")
			ch := a.ask(approvals, a.verdictAsk(b, g.ID, statement.Approve))
			a.begin()
			return a.answer(approvals, ch.ID, a.alice.sign(ch))
		}, code: api.CodeRefused, sum: "wrong_key"},
		{what: "an approval without a touch", do: func(a *arena) error {
			b, g := a.person("bob"), a.waits(a.alice, "db01")
			ch := a.ask(approvals, a.verdictAsk(b, g.ID, statement.Approve))
			a.begin()
			return a.answer(approvals, ch.ID, b.bent(ch, func(x *catest.Bent) { x.Flags = 0 }))
		}, code: api.CodeNoTouch, due: byBob(api.CodeNoTouch)},
		{what: "an approval without a PIN", do: func(a *arena) error {
			b, g := a.person("bob"), a.waits(a.alice, "db01")
			ch := a.ask(approvals, a.verdictAsk(b, g.ID, statement.Approve))
			a.begin()
			return a.answer(approvals, ch.ID, b.bent(ch, func(x *catest.Bent) { x.Flags = 1 }))
		}, code: api.CodeNoPIN, due: byBob(api.CodeNoPIN)},
		{what: "an approval's answer sent twice", do: func(a *arena) error {
			b, g := a.person("bob"), a.waits(a.alice, "vault01")
			ch := a.ask(approvals, a.verdictAsk(b, g.ID, statement.Approve))
			sig := b.sign(ch)
			catest.Must(a.t, a.answer(approvals, ch.ID, sig))
			a.begin()
			return a.answer(approvals, ch.ID, sig)
		}, code: api.CodeExpired, sum: "unknown_statement"},
		{what: "an approval's answer posted as a request's", do: func(a *arena) error {
			b, g := a.person("bob"), a.waits(a.alice, "db01")
			ch := a.ask(approvals, a.verdictAsk(b, g.ID, statement.Approve))
			a.begin()
			return a.answer(requests, ch.ID, b.sign(ch))
		}, code: api.CodeExpired, sum: "unknown_statement"},
		{what: "an approval answered after its minute", do: func(a *arena) error {
			b, g := a.person("bob"), a.waits(a.alice, "db01")
			ch := a.ask(approvals, a.verdictAsk(b, g.ID, statement.Approve))
			a.clock.forward(minute)
			a.begin()
			return a.answer(approvals, ch.ID, b.sign(ch))
		}, code: api.CodeExpired, sum: "unknown_statement"},
		{what: "an approval of a request that nobody made yet", do: func(a *arena) error {
			b := a.person("bob")
			a.begin()
			return a.verdict(b, "aaa-bbb", statement.Approve)
		}, code: api.CodeNotFound, due: byBob(api.CodeNotFound)},
		{what: "an approval of a request that was vetoed", do: func(a *arena) error {
			b, g := a.person("bob"), a.waits(a.alice, "vault01")
			catest.Must(a.t, a.verdict(a.person("carol"), g.ID, statement.Deny))
			a.begin()
			return a.verdict(b, g.ID, statement.Approve)
		}, code: api.CodeDecided, due: byBob(api.CodeDecided)},
		{what: "an approval of a request that was allowed", do: func(a *arena) error {
			b, g := a.person("bob"), a.waits(a.alice, "db01")
			catest.Must(a.t, a.verdict(a.person("carol"), g.ID, statement.Approve))
			a.begin()
			return a.verdict(b, g.ID, statement.Approve)
		}, code: api.CodeDecided, due: byBob(api.CodeDecided)},
		{what: "an approval of a request that was denied", do: func(a *arena) error {
			b := a.person("bob")
			ch := a.askFor(a.alice, func(q *api.Ask) { q.Login = "postgres" })
			problem(a.t, a.answer(requests, ch.ID, a.alice.sign(ch)))
			a.begin()
			return a.verdict(b, name.RequestID(ch.ID), statement.Approve)
		}, code: api.CodeDecided, due: byBob(api.CodeDecided)},
		{what: "an approval of a request that has waited too long", do: func(a *arena) error {
			b, g := a.person("bob"), a.waits(a.alice, "db01")
			a.clock.forward(31 * time.Minute)
			a.begin()
			return a.verdict(b, g.ID, statement.Approve)
		}, code: api.CodeRequestExpired, due: byBob(api.CodeRequestExpired)},
		{what: "an approval by a key whose enrolment has lapsed", change: replace("[jumps.jump-a]", "[enrolment]\nrenew_days = 1\ngrace_days = 1\n\n[jumps.jump-a]"), do: func(a *arena) error {
			b := a.person("bob")
			a.clock.forward(60 * time.Hour)
			fresh := a.stranger("alice")
			catest.Must(a.t, a.enrol(fresh, a.Token("alice").Secret, "fresh"))
			a.alice = fresh
			g := a.waits(a.alice, "db01")
			a.begin()
			return a.verdict(b, g.ID, statement.Approve)
		}, code: "key_lapsed", due: byBob("key_lapsed")},
		{what: "a verdict that is neither yes nor no", do: func(a *arena) error {
			b, g := a.person("bob"), a.waits(a.alice, "db01")
			q := a.verdictAsk(b, g.ID, "maybe")
			a.begin()
			return a.Wire().Post(approvals, q, new(api.Challenge))
		}, code: api.CodeBadRequest},
		{what: "an approval about something that can't be approved", do: func(a *arena) error {
			b, g := a.person("bob"), a.waits(a.alice, "db01")
			q := a.verdictAsk(b, g.ID, statement.Approve)
			q.About = "policy"
			a.begin()
			return a.Wire().Post(approvals, q, new(api.Challenge))
		}, code: api.CodeBadRequest},
		{what: "a session under a request that still waits", do: func(a *arena) error {
			j := a.jump("jump-a")
			a.reader()
			g, live := a.waits(a.alice, "db01"), a.grant(a.alice)
			q := j.Question(live)
			q.Host = "db01"
			q.Certificate = a.withoutRecord(grantOf(g.ID, "db01")) // there is none: this one is forged with the CA's own key
			a.begin()
			_, err := a.open(j, q)
			return err
		}, code: api.CodeSession, due: refusedSession("alice", "certificate_unrecorded")},

		{what: "an override before its time", do: func(a *arena) error {
			g := a.waits(a.alice, "db01")
			a.clock.forward(9 * time.Minute)
			a.begin()
			return a.again(a.alice, statement.RequestOverride, g, onDB)
		}, code: api.CodeDenied, due: denied("alice", "override_too_early")},
		{what: "an override of alice's request by mallory", do: func(a *arena) error {
			m, g := a.person("mallory"), a.waits(a.alice, "db01")
			a.clock.forward(11 * time.Minute)
			a.begin()
			return a.again(m, statement.RequestOverride, g, onDB)
		}, code: api.CodeNotFound, due: []due{{"request.denied", "mallory", api.CodeNotFound}}},
		{what: "an override that asks for another host", do: func(a *arena) error {
			g := a.waits(a.alice, "db01")
			a.clock.forward(11 * time.Minute)
			a.begin()
			return a.again(a.alice, statement.RequestOverride, g, onVault)
		}, code: api.CodeOtherRequest, due: denied("alice", api.CodeOtherRequest)},
		{what: "an override that asks for another client key", do: func(a *arena) error {
			g := a.waits(a.alice, "db01")
			a.clock.forward(11 * time.Minute)
			a.begin()
			return a.again(a.alice, statement.RequestOverride, g, func(q *api.Ask) {
				q.Host, q.ClientKey = "db01", catest.Line(catest.NewKey(a.t).PublicKey())
			})
		}, code: api.CodeOtherRequest, due: denied("alice", api.CodeOtherRequest)},
		{what: "an override that gives another reason than approvers read", do: func(a *arena) error {
			g := a.waits(a.alice, "db01")
			a.clock.forward(11 * time.Minute)
			a.begin()
			return a.again(a.alice, statement.RequestOverride, g, func(q *api.Ask) { q.Host, q.Reason = "db01", "something else altogether, this time" })
		}, code: api.CodeOtherRequest, due: denied("alice", api.CodeOtherRequest)},
		{what: "an override after a veto", do: func(a *arena) error {
			g := a.waits(a.alice, "vault01")
			catest.Must(a.t, a.verdict(a.person("bob"), g.ID, statement.Deny))
			a.clock.forward(11 * time.Minute)
			a.begin()
			return a.again(a.alice, statement.RequestOverride, g, onVault)
		}, code: api.CodeDecided, due: denied("alice", api.CodeDecided)},
		{what: "an override of a request that has waited too long", do: func(a *arena) error {
			g := a.waits(a.alice, "db01")
			a.clock.forward(31 * time.Minute)
			a.begin()
			return a.again(a.alice, statement.RequestOverride, g, onDB)
		}, code: api.CodeRequestExpired, due: denied("alice", api.CodeRequestExpired)},
		{what: "an override without a touch", do: func(a *arena) error {
			g := a.waits(a.alice, "db01")
			a.clock.forward(11 * time.Minute)
			ch := a.askAgain(a.alice, statement.RequestOverride, g, onDB)
			a.begin()
			return a.answer(requests, ch.ID, a.alice.bent(ch, func(x *catest.Bent) { x.Flags = 0 }))
		}, code: api.CodeNoTouch, due: denied("alice", api.CodeNoTouch)},
		{what: "an override with the counter of the request that it overrides", do: func(a *arena) error {
			g := a.waits(a.alice, "db01")
			a.clock.forward(11 * time.Minute)
			ch := a.askAgain(a.alice, statement.RequestOverride, g, onDB)
			a.begin()
			return a.answer(requests, ch.ID, a.alice.bent(ch, func(x *catest.Bent) { x.Counter-- }))
		}, code: api.CodeLate, due: []due{{"request.denied", "alice", api.CodeLate}, {"key.suspended", "alice", "counter_went_back"}}, shut: "her key is suspended"},
		{what: "an override where the rule has none", change: func(p string) string {
			return strings.Replace(p, "approvers = [\"@leads\"]\noverride = \"after 10m\"", `approvers = ["@leads"]`, 1)
		}, do: func(a *arena) error {
			g := a.waits(a.alice, "db01")
			a.clock.forward(20 * time.Minute)
			a.begin()
			return a.again(a.alice, statement.RequestOverride, g, onDB)
		}, code: api.CodeDenied, due: denied("alice", "kind_not_allowed")},

		{what: "an extension of alice's grant by mallory", do: func(a *arena) error {
			m, g := a.person("mallory"), a.grant(a.alice)
			a.clock.forward(10 * time.Minute)
			a.begin()
			return a.again(m, statement.RequestExtend, g, nil)
		}, code: api.CodeNotFound, due: []due{{"request.denied", "mallory", api.CodeNotFound}}},
		{what: "an extension after the grant's end", do: func(a *arena) error {
			g := a.grant(a.alice)
			a.clock.forward(31 * time.Minute)
			a.begin()
			return a.again(a.alice, statement.RequestExtend, g, nil)
		}, code: api.CodeGrantEnded, due: denied("alice", api.CodeGrantEnded)},
		{what: "an extension to another client key", do: func(a *arena) error {
			g := a.grant(a.alice)
			a.clock.forward(10 * time.Minute)
			a.begin()
			return a.again(a.alice, statement.RequestExtend, g, func(q *api.Ask) { q.ClientKey = catest.Line(catest.NewKey(a.t).PublicKey()) })
		}, code: api.CodeOtherRequest, due: denied("alice", api.CodeOtherRequest)},
		{what: "an extension to another host", do: func(a *arena) error {
			g := a.grant(a.alice)
			a.clock.forward(10 * time.Minute)
			a.begin()
			return a.again(a.alice, statement.RequestExtend, g, func(q *api.Ask) { q.Host = "web02" })
		}, code: api.CodeOtherRequest, due: denied("alice", api.CodeOtherRequest)},
		{what: "an extension with forwards that the grant has not", do: func(a *arena) error {
			g := a.grant(a.alice)
			a.clock.forward(10 * time.Minute)
			a.begin()
			return a.again(a.alice, statement.RequestExtend, g, func(q *api.Ask) { q.Forwards = []string{"local db01:5432"} })
		}, code: api.CodeOtherRequest, due: denied("alice", api.CodeOtherRequest)},
		{what: "an extension of a request that waits", do: func(a *arena) error {
			g := a.waits(a.alice, "db01")
			a.begin()
			return a.again(a.alice, statement.RequestExtend, g, onDB)
		}, code: api.CodeGrantEnded, due: denied("alice", api.CodeGrantEnded)},
		{what: "an extension without a touch", do: func(a *arena) error {
			g := a.grant(a.alice)
			a.clock.forward(10 * time.Minute)
			ch := a.askAgain(a.alice, statement.RequestExtend, g, nil)
			a.begin()
			return a.answer(requests, ch.ID, a.alice.bent(ch, func(x *catest.Bent) { x.Flags = 0 }))
		}, code: api.CodeNoTouch, due: denied("alice", api.CodeNoTouch)},
		{what: "an extension that would end the grant earlier", do: func(a *arena) error {
			g := a.grant(a.alice)
			a.begin()
			return a.again(a.alice, statement.RequestExtend, g, func(q *api.Ask) { q.Minutes = 1 })
		}, code: api.CodeNotLonger, due: denied("alice", api.CodeNotLonger)},
		{what: "an extension of an id that is none", do: func(a *arena) error {
			a.begin()
			q := a.alice.want(catest.NewKey(a.t).PublicKey())
			q.Kind, q.Of = statement.RequestExtend, "../../x"
			return a.Wire().Post(requests, q, new(api.Challenge))
		}, code: api.CodeBadRequest},
		{what: "a new request that names another one", do: func(a *arena) error {
			g := a.grant(a.alice)
			a.begin()
			q := a.alice.want(g.Key.PublicKey())
			q.Of = g.ID
			return a.Wire().Post(requests, q, new(api.Challenge))
		}, code: api.CodeBadRequest},
	}
	for _, l := range [][2]string{{"origin", "breakglass/demo/other"}, {"epoch", "2"}, {"approval", "0123456789abcdef"}, {"person", "carol"}, {"about", "enrolment"}, {"of", "aaa-bbb"},
		{"hash", strings.Repeat("0", 64)}, {"verdict", "approve"}, {"comment", "fine by me"}, {"until", "2036-01-01T00:00:00Z"}, {"source", "198.51.100.9"}} {
		rows = append(rows, attack{series: "an approval changed before it was signed", what: "a no whose line " + l[0] + " was changed before it was signed", do: func(a *arena) error {
			b, g := a.person("bob"), a.waits(a.alice, "db01")
			ch := a.ask(approvals, a.verdictAsk(b, g.ID, statement.Deny))
			a.begin()
			err := a.answer(approvals, ch.ID, b.Sign(changeLine(a, ch.Statement, l[0], l[1]), ch.Namespace))
			a.clock.forward(31 * time.Minute) // else too many would wait
			return err
		}, code: api.CodeRefused, sum: "bad_signature"})
	}
	return rows
}

// fingerprint is how orders name a key.
func (p *keyed) fingerprint() string { return ssh.FingerprintSHA256(p.Public()) }

// orderAsk is an order of p's.
func orderAsk(p *keyed, act, target string) api.OrderAsk {
	return api.OrderAsk{Person: string(p.name), Act: act, Target: target, Reason: "because of an attack"}
}

const orders = "/v1/orders"

// order has p order something.
func (a *arena) order(p *keyed, act, target string) error {
	a.t.Helper()
	ch := a.ask(orders, orderAsk(p, act, target))
	return a.answer(orders, ch.ID, p.sign(ch))
}

// orderAttacks are on orders, and on what was revoked and goes on all the same.
func orderAttacks() []attack {
	byOlga := func(reason string) []due { return []due{{"act.denied", "olga", reason}} }
	// stopped has olga revoke something and then attacks.
	stopped := func(act string, target func(*arena, *catest.Grant) string, then func(*arena, *catest.Grant) error) func(*arena) error {
		return func(a *arena) error {
			olga := a.person("olga")
			a.jump("jump-a")
			a.reader()
			g := a.grant(a.alice)
			catest.Must(a.t, a.order(olga, act, target(a, g)))
			a.begin()
			return then(a, g)
		}
	}
	grant := func(_ *arena, g *catest.Grant) string { return string(g.ID) }
	key := func(a *arena, _ *catest.Grant) string { return a.alice.fingerprint() }
	jump := func(*arena, *catest.Grant) string { return "jump-a" }
	session := func(a *arena, g *catest.Grant) error {
		j := a.jump("jump-a")
		_, err := a.open(j, j.Question(g))
		return err
	}
	rows := []attack{
		{what: "an order by an owner who is no operator", do: func(a *arena) error {
			a.begin()
			return a.order(a.alice, statement.OrderRevokePerson, "mallory")
		}, code: api.CodeNotOperator, due: actDenied(api.CodeNotOperator)},
		{what: "an order of olga's signed by mallory", do: func(a *arena) error {
			o, m := a.person("olga"), a.person("mallory")
			ch := a.ask(orders, orderAsk(o, statement.OrderRevokePerson, "alice"))
			a.begin()
			return a.answer(orders, ch.ID, m.sign(ch))
		}, code: api.CodeRefused, sum: "wrong_key"},
		{what: "an order without a touch", do: func(a *arena) error {
			o := a.person("olga")
			ch := a.ask(orders, orderAsk(o, statement.OrderRevokePerson, "alice"))
			a.begin()
			return a.answer(orders, ch.ID, o.bent(ch, func(x *catest.Bent) { x.Flags = 0 }))
		}, code: api.CodeNoTouch, due: byOlga(api.CodeNoTouch)},
		{what: "an order's answer sent twice", do: func(a *arena) error {
			o := a.person("olga")
			ch := a.ask(orders, orderAsk(o, statement.OrderRevokePerson, "mallory"))
			a.person("mallory")
			sig := o.sign(ch)
			catest.Must(a.t, a.answer(orders, ch.ID, sig))
			a.begin()
			return a.answer(orders, ch.ID, sig)
		}, code: api.CodeExpired, sum: "unknown_statement"},
		{what: "an order about mallory answered for one about alice", do: func(a *arena) error {
			o := a.person("olga")
			signed, sent := a.ask(orders, orderAsk(o, statement.OrderRevokePerson, "mallory")), a.ask(orders, orderAsk(o, statement.OrderRevokePerson, "alice"))
			a.begin()
			return a.answer(orders, sent.ID, o.sign(signed))
		}, code: api.CodeRefused, sum: "bad_signature"},
		{what: "an order that nobody knows", do: func(a *arena) error {
			o := a.person("olga")
			a.begin()
			return a.Wire().Post(orders, orderAsk(o, "grant-everything", "olga"), new(api.Challenge))
		}, code: api.CodeBadRequest},
		{what: "an order about nobody", do: func(a *arena) error {
			o := a.person("olga")
			a.begin()
			return a.order(o, statement.OrderRevokePerson, "nobody")
		}, code: api.CodeUnknownTarget, due: byOlga(api.CodeUnknownTarget)},
		{what: "an order to revoke what is revoked", do: func(a *arena) error {
			o, m := a.person("olga"), a.person("mallory")
			catest.Must(a.t, a.order(o, statement.OrderRevokeKey, m.fingerprint()))
			a.begin()
			return a.order(o, statement.OrderRevokeKey, m.fingerprint())
		}, code: api.CodeOver, due: byOlga(api.CodeOver)},
		{what: "an invite for who is no person of the policy", do: func(a *arena) error {
			o := a.person("olga")
			q := orderAsk(o, statement.OrderInvitePerson, "eve")
			q.Detail = statement.Hash{7}
			ch := a.ask(orders, q)
			a.begin()
			return a.answer(orders, ch.ID, o.sign(ch))
		}, code: api.CodeNotFound, due: byOlga(api.CodeNotFound)},
		{what: "an invite over the hash of one that was used", do: func(a *arena) error {
			o := a.person("olga")
			q := orderAsk(o, statement.OrderInvitePerson, "newcomer")
			for _, e := range a.Entries() {
				if f, ok := e.Facts.(*ledger.InviteCreated); ok {
					q.Detail = f.Invite
				}
			}
			ch := a.ask(orders, q)
			a.begin()
			return a.answer(orders, ch.ID, o.sign(ch))
		}, code: api.CodeConflict, due: byOlga(api.CodeConflict)},
		{what: "a rotation to a key that nobody prepared", do: func(a *arena) error {
			o := a.person("olga")
			q := orderAsk(o, statement.OrderRotateKey, "session_ca:"+ssh.FingerprintSHA256(catest.NewKey(a.t).PublicKey()))
			q.Reason = ""
			ch := a.ask(orders, q)
			a.begin()
			return a.answer(orders, ch.ID, o.sign(ch))
		}, code: api.CodeConflict, due: byOlga(api.CodeConflict)},

		{what: "a session under a revoked grant", do: stopped(statement.OrderRevokeGrant, grant, session),
			code: api.CodeSession, due: refusedSession("alice", api.CodeRevoked)},
		{what: "a session under a revoked certificate", do: stopped(statement.OrderRevokeCertificate, func(a *arena, g *catest.Grant) string { return serialOf(a, g) }, session),
			code: api.CodeSession, due: refusedSession("alice", api.CodeRevoked)},
		{what: "a session under the grant of a revoked key", do: stopped(statement.OrderRevokeKey, key, session),
			code: api.CodeSession, due: refusedSession("alice", api.CodeRevoked), shut: "her key is revoked"},
		{what: "a session under the grant of a revoked person", do: stopped(statement.OrderRevokePerson, func(*arena, *catest.Grant) string { return "alice" }, session),
			code: api.CodeSession, due: refusedSession("alice", api.CodeRevoked), shut: "she is revoked"},
		{what: "a session at a revoked jump", do: stopped(statement.OrderRevokeJump, jump, session),
			code: api.CodeRefused, sum: "unknown_jump"},
		{what: "host certificates for a revoked jump", do: stopped(statement.OrderRevokeJump, jump, func(a *arena, _ *catest.Grant) error {
			return a.Wire().By(a.jump("jump-a").Key).Post("/v1/hostcerts", api.HostCertsAsk{}, nil)
		}), code: api.CodePass},
		{what: "an extension of a revoked grant", do: stopped(statement.OrderRevokeGrant, grant, func(a *arena, g *catest.Grant) error {
			a.clock.forward(5 * time.Minute)
			return a.again(a.alice, statement.RequestExtend, g, nil)
		}), code: api.CodeRevoked, due: denied("alice", api.CodeRevoked)},
		{what: "a request with a revoked key", do: stopped(statement.OrderRevokeKey, key, func(a *arena, _ *catest.Grant) error {
			_, err := a.request(a.alice, nil)
			return err
		}), code: api.CodeRefused, sum: "unknown_key unknown_person", shut: "her key is revoked"},
		{what: "a request that a revoked person had asked for before", do: func(a *arena) error {
			o := a.person("olga")
			ch := a.askFor(a.alice, nil)
			catest.Must(a.t, a.order(o, statement.OrderRevokePerson, "alice"))
			a.begin()
			return a.answer(requests, ch.ID, a.alice.sign(ch))
		}, code: api.CodeRevoked, due: denied("alice", api.CodeRevoked), shut: "she is revoked"},
		{what: "a pass of a key that was revoked since", do: func(a *arena) error {
			o, k := a.person("olga"), a.pass(a.alice)
			catest.Must(a.t, a.order(o, statement.OrderRevokeKey, a.alice.fingerprint()))
			a.begin()
			return a.Wire().By(k).Get("/v1/sessions", new(any))
		}, code: api.CodePass, shut: "her key is revoked"},
		{what: "an approval of a request that was revoked", do: func(a *arena) error {
			o, b, g := a.person("olga"), a.person("bob"), a.waits(a.alice, "db01")
			catest.Must(a.t, a.order(o, statement.OrderRevokeGrant, string(g.ID)))
			a.begin()
			return a.verdict(b, g.ID, statement.Approve)
		}, code: api.CodeDecided, due: []due{{"act.denied", "bob", api.CodeDecided}}},
		{what: "an override of a request that was revoked", do: func(a *arena) error {
			o, g := a.person("olga"), a.waits(a.alice, "db01")
			catest.Must(a.t, a.order(o, statement.OrderRevokeGrant, string(g.ID)))
			a.clock.forward(11 * time.Minute)
			a.begin()
			return a.again(a.alice, statement.RequestOverride, g, onDB)
		}, code: api.CodeDecided, due: denied("alice", api.CodeDecided)},
		{what: "the last approval, by a key that was revoked between ask and answer", do: func(a *arena) error {
			o, b, g := a.person("olga"), a.person("bob"), a.waits(a.alice, "db01")
			ch := a.ask(approvals, a.verdictAsk(b, g.ID, statement.Approve))
			catest.Must(a.t, a.order(o, statement.OrderRevokeKey, b.fingerprint()))
			a.begin()
			return a.answer(approvals, ch.ID, b.sign(ch))
		}, code: api.CodeRevoked, due: []due{{"act.denied", "bob", api.CodeRevoked}}},
	}
	for _, l := range [][2]string{{"origin", "breakglass/demo/other"}, {"epoch", "2"}, {"order", "0123456789abcdef"}, {"person", "mallory"}, {"act", "revoke-jump"}, {"target", "alice"},
		{"reason", "another reason"}, {"detail", strings.Repeat("1", 64)}, {"source", "198.51.100.9"}} {
		rows = append(rows, attack{series: "an order changed before it was signed", what: "an order whose line " + l[0] + " was changed before it was signed", do: func(a *arena) error {
			o := a.person("olga")
			ch := a.ask(orders, orderAsk(o, statement.OrderRevokePerson, "mallory"))
			a.begin()
			return a.answer(orders, ch.ID, o.Sign(changeLine(a, ch.Statement, l[0], l[1]), ch.Namespace))
		}, code: api.CodeRefused, sum: "bad_signature"})
	}
	return rows
}
