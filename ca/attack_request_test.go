package ca_test

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"

	"breakglass/ca/api"
	"breakglass/ca/catest"
	"breakglass/internal/sshsig"
	"breakglass/internal/statement"
)

// denied is the entry of a request of who's that came to nothing.
func denied(who, reason string) []due { return []due{{"request.denied", "alice", reason}} }

// requestAttacks are on the exchange of a request: whose it is, which, when and from where.
func requestAttacks() []attack {
	rows := []attack{
		{what: "a request for alice signed by mallory's enrolled key", do: func(a *arena) error {
			m := a.person("mallory")
			a.begin()
			ch := a.askFor(a.alice, nil)
			return a.answer(requests, ch.ID, m.sign(ch))
		}, code: api.CodeRefused, sum: "wrong_key"},
		{what: "a request for alice signed by a key that nobody enrolled", do: func(a *arena) error {
			m := a.stranger("alice")
			a.begin()
			ch := a.askFor(a.alice, nil)
			return a.answer(requests, ch.ID, m.sign(ch))
		}, code: api.CodeRefused, sum: "wrong_key"},
		{what: "a request for a name that nobody has, signed by mallory", do: func(a *arena) error {
			m := a.person("mallory")
			a.begin()
			q := m.want(catest.NewKey(a.t).PublicKey())
			q.Person = "nobody"
			ch := a.ask(requests, q)
			return a.answer(requests, ch.ID, m.sign(ch))
		}, code: api.CodeRefused, sum: "unknown_key unknown_person"},
		{what: "an answer of alice's to mallory's request", do: func(a *arena) error {
			m := a.person("mallory")
			mine, hers := a.askFor(m, nil), a.askFor(a.alice, nil)
			sig := a.alice.sign(hers)
			a.begin()
			return a.answer(requests, mine.ID, sig)
		}, code: api.CodeRefused, sum: "wrong_key"},
		{what: "two answers of alice's sent to each other's request", do: func(a *arena) error {
			web, db := a.askFor(a.alice, nil), a.askFor(a.alice, func(q *api.Ask) { q.Host = "db01" })
			forWeb := a.alice.sign(web)
			a.alice.sign(db)
			a.begin()
			return a.answer(requests, db.ID, forWeb)
		}, code: api.CodeRefused, sum: "bad_signature"},
		{what: "two answers of alice's in the other order: the earlier one is late, and no clone", do: func(a *arena) error {
			one, two := a.askFor(a.alice, nil), a.askFor(a.alice, nil)
			first, second := a.alice.sign(one), a.alice.sign(two)
			catest.Must(a.t, a.answer(requests, two.ID, second))
			a.begin()
			return a.answer(requests, one.ID, first)
		}, code: api.CodeLate, due: denied("alice", api.CodeLate)},
		{what: "an answer sent twice", do: func(a *arena) error {
			ch := a.askFor(a.alice, nil)
			sig := a.alice.sign(ch)
			catest.Must(a.t, a.answer(requests, ch.ID, sig))
			a.begin()
			return a.answer(requests, ch.ID, sig)
		}, code: api.CodeExpired, sum: "unknown_statement"},
		{what: "a statement answered a second time with a fresh touch", do: func(a *arena) error {
			ch := a.askFor(a.alice, nil)
			catest.Must(a.t, a.answer(requests, ch.ID, a.alice.sign(ch)))
			a.begin()
			return a.answer(requests, ch.ID, a.alice.sign(ch))
		}, code: api.CodeExpired, sum: "unknown_statement"},
		{what: "a statement that a wrong answer has used up", do: func(a *arena) error {
			ch := a.askFor(a.alice, nil)
			a.begin()
			if err := a.answer(requests, ch.ID, "nonsense"); problem(a.t, err).Code != api.CodeRefused {
				return err
			}
			return a.answer(requests, ch.ID, a.alice.sign(ch))
		}, code: api.CodeExpired, sum: "malformed_signature unknown_statement"},
		{what: "an answer after the statement's minute", do: func(a *arena) error {
			ch := a.askFor(a.alice, nil)
			sig := a.alice.sign(ch)
			a.clock.forward(minute)
			a.begin()
			return a.answer(requests, ch.ID, sig)
		}, code: api.CodeExpired, sum: "unknown_statement"},
		{what: "an answer to a statement that a restart has forgotten", do: func(a *arena) error {
			ch := a.askFor(a.alice, nil)
			sig := a.alice.sign(ch)
			a.Stop()
			a.Start()
			a.begin()
			return a.answer(requests, ch.ID, sig)
		}, code: api.CodeExpired, sum: "unknown_statement"},
		{what: "an answer to an id that the CA never gave", do: func(a *arena) error {
			ch := a.askFor(a.alice, nil)
			sig := a.alice.sign(ch)
			a.begin()
			return a.answer(requests, "aaa-bbb", sig)
		}, code: api.CodeExpired, sum: "unknown_statement"},
		{what: "a request's answer posted as a pass's", do: func(a *arena) error {
			ch := a.askFor(a.alice, nil)
			a.begin()
			return a.answer(passes, ch.ID, a.alice.sign(ch))
		}, code: api.CodeExpired, sum: "unknown_statement"},
		{what: "a request's answer posted as an enrolment's", do: func(a *arena) error {
			ch := a.askFor(a.alice, nil)
			a.begin()
			return a.answer(enrolments, ch.ID, a.alice.sign(ch))
		}, code: api.CodeExpired, sum: "unknown_statement"},
		{what: "a request's answer posted as a recipient's", do: func(a *arena) error {
			ch := a.askFor(a.alice, nil)
			a.begin()
			return a.answer(recipients, ch.ID, a.alice.sign(ch))
		}, code: api.CodeExpired, sum: "unknown_statement"},
		{what: "a pass's answer posted as a request's", do: func(a *arena) error {
			ch := a.ask(passes, api.PassAsk{Person: "alice", Holder: catest.Line(catest.NewKey(a.t).PublicKey())})
			a.begin()
			return a.answer(requests, ch.ID, a.alice.sign(ch))
		}, code: api.CodeExpired, sum: "unknown_statement"},
		{what: "a recipient's answer posted as a request's", do: func(a *arena) error {
			ch := a.ask(recipients, api.RecipientAsk{Person: "alice", Age: ageKey(a), Sealed: "passphrase"})
			a.begin()
			return a.answer(requests, ch.ID, a.alice.sign(ch))
		}, code: api.CodeExpired, sum: "unknown_statement"},
		{what: "an enrolment's answer posted as a request's", do: func(a *arena) error {
			p := a.stranger("newcomer")
			ch, err := a.enrolKey(p, a.Token("newcomer").Secret, "main")
			catest.Must(a.t, err)
			a.begin()
			return a.answer(requests, ch.ID, p.sign(ch))
		}, code: api.CodeExpired, sum: "unknown_statement"},
		{what: "an ask from a network that is denied to everybody", do: func(a *arena) error {
			a.begin()
			return a.Wire().At("203.0.113.9:4000").Post(requests, a.alice.want(catest.NewKey(a.t).PublicKey()), new(api.Challenge))
		}, code: api.CodePlace, sum: "country_unknown network_denied"},
		{what: "an ask from a country that nobody knows", do: func(a *arena) error {
			a.begin()
			return a.Wire().At("198.51.100.9:4000").Post(requests, a.alice.want(catest.NewKey(a.t).PublicKey()), new(api.Challenge))
		}, code: api.CodePlace, sum: "country_unknown"},
		{what: "asked at home and answered from a denied network", do: func(a *arena) error {
			ch := a.askFor(a.alice, nil)
			a.begin()
			return a.Wire().At("203.0.113.9:4000").Post(requests+"/"+ch.ID+"/signature", api.Signed{SSHSIG: a.alice.sign(ch)}, new(api.Granted))
		}, code: api.CodeDenied, due: denied("alice", "network_denied")},
		{what: "a client key that is a hardware key", do: func(a *arena) error {
			a.begin()
			return a.Wire().Post(requests, a.alice.want(a.alice.Public()), new(api.Challenge))
		}, code: api.CodeBadRequest},
		{what: "a client key that is a certificate", do: func(a *arena) error {
			g := a.grant(a.alice)
			a.begin()
			q := a.alice.want(g.Key.PublicKey())
			q.ClientKey = g.Certificate
			return a.Wire().Post(requests, q, new(api.Challenge))
		}, code: api.CodeBadRequest},
		{what: "a client key that holds a pass", do: func(a *arena) error {
			k := a.pass(a.alice)
			a.begin()
			return a.Wire().Post(requests, a.alice.want(k.PublicKey()), new(api.Challenge))
		}, code: api.CodeBadRequest},
		{what: "a line break in the reason, to add a line to the statement", do: func(a *arena) error {
			a.begin()
			q := a.alice.want(catest.NewKey(a.t).PublicKey())
			q.Reason = catest.Reason + "\nhost: db01"
			return a.Wire().Post(requests, q, new(api.Challenge))
		}, code: api.CodeBadRequest},
		{what: "an override of bidirectional text in the reason", do: func(a *arena) error {
			a.begin()
			q := a.alice.want(catest.NewKey(a.t).PublicKey())
			q.Reason = catest.Reason + " \u202e10bew"
			return a.Wire().Post(requests, q, new(api.Challenge))
		}, code: api.CodeBadRequest},
		{what: "a field that the interface does not know", do: func(a *arena) error {
			a.begin()
			return a.Wire().Post(requests, map[string]any{"person": "alice", "login": "root", "host": "web01", "reason": catest.Reason,
				"client_key": catest.Line(catest.NewKey(a.t).PublicKey()), "approved": true}, new(api.Challenge))
		}, code: api.CodeBadRequest},
		{what: "a person's name with a comma", do: func(a *arena) error {
			a.begin()
			q := a.alice.want(catest.NewKey(a.t).PublicKey())
			q.Person = "alice,mallory"
			return a.Wire().Post(requests, q, new(api.Challenge))
		}, code: api.CodeBadRequest},
		{what: "a wildcard for a host", do: func(a *arena) error {
			a.begin()
			q := a.alice.want(catest.NewKey(a.t).PublicKey())
			q.Host = "*"
			return a.Wire().Post(requests, q, new(api.Challenge))
		}, code: api.CodeBadRequest},
		{what: "negative minutes", do: func(a *arena) error {
			a.begin()
			q := a.alice.want(catest.NewKey(a.t).PublicKey())
			q.Minutes = -5
			return a.Wire().Post(requests, q, new(api.Challenge))
		}, code: api.CodeBadRequest},
		{what: "a login that no rule has", do: func(a *arena) error {
			a.begin()
			ch := a.askFor(a.alice, func(q *api.Ask) { q.Login = "postgres" })
			return a.answer(requests, ch.ID, a.alice.sign(ch))
		}, code: api.CodeDenied, due: denied("alice", "login_not_allowed")},
		{what: "a forward that no rule has", do: func(a *arena) error {
			a.begin()
			ch := a.askFor(a.alice, func(q *api.Ask) { q.Forwards = []string{"remote *:22"} })
			return a.answer(requests, ch.ID, a.alice.sign(ch))
		}, code: api.CodeDenied, due: denied("alice", "forwards_not_allowed")},
		{what: "a person of the policy without a rule", do: func(a *arena) error {
			r := a.person("rita")
			a.begin()
			ch := a.askFor(r, nil)
			return a.answer(requests, ch.ID, r.sign(ch))
		}, code: api.CodeDenied, due: []due{{"request.denied", "rita", "no_rule"}}},
	}
	// What was signed is one thing, what the answer is sent for another that differs in one field.
	for _, f := range []struct {
		name   string
		change func(*api.Ask)
	}{
		{"login", func(q *api.Ask) { q.Login = "deploy" }},
		{"host", func(q *api.Ask) { q.Host = "web02" }},
		{"minutes", func(q *api.Ask) { q.Minutes = 30 }},
		{"reason", func(q *api.Ask) { q.Reason = "nothing to see here, move along" }},
		{"ticket", func(q *api.Ask) { q.Ticket = "INC-1" }},
		{"failure", func(q *api.Ask) { q.Failure = "sso" }},
		{"severity", func(q *api.Ask) { q.Severity = "high" }},
		{"forwards", func(q *api.Ask) { q.Forwards = []string{"local db01:5432"} }},
		{"client key", func(q *api.Ask) {}}, // each ask has its own
	} {
		rows = append(rows, attack{series: "an answer for another request", what: "an answer for a request that differs in its " + f.name, do: func(a *arena) error {
			signed, sent := a.askFor(a.alice, nil), a.askFor(a.alice, f.change)
			sig := a.alice.sign(signed)
			a.begin()
			return a.answer(requests, sent.ID, sig)
		}, code: api.CodeRefused, sum: "bad_signature"})
	}
	// The client signs a statement of its own with one line changed; the CA's own bytes are what counts.
	for _, line := range requestLines {
		rows = append(rows, attack{series: "a request changed before it was signed", what: "a statement whose line " + line[0] + " the client changed before it signed", do: func(a *arena) error {
			ch := a.askFor(a.alice, nil)
			a.begin()
			return a.answer(requests, ch.ID, a.alice.Sign(changeLine(a, ch.Statement, line[0], line[1]), ch.Namespace))
		}, code: api.CodeRefused, sum: "bad_signature"})
	}
	return rows
}

// requestLines are the lines of a request statement, each with another value that would be a good one.
var requestLines = [][2]string{
	{"origin", "breakglass/demo/other"}, {"epoch", "2"}, {"checkpoint", ""}, {"request", "aaa-bbb"}, {"kind", "extend"}, {"of", "aaa-bbb"},
	{"nonce", "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"}, {"issued", "2026-01-01T00:00:00Z"}, {"expires", "2036-01-01T00:00:00Z"}, {"person", "mallory"},
	{"login", "deploy"}, {"host", "db01"}, {"minutes", "60"}, {"reason", "another reason, as long as that one"}, {"ticket", "INC-1"}, {"failure", "sso"},
	{"severity", "high"}, {"forwards", "local db01:5432"}, {"drill", "d-1"}, {"policy", strings.Repeat("0", 64)}, {"client-key", "SHA256:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU"},
	{"source", "198.51.100.9"},
}

// changeLine gives the statement with one line's value changed. It has to be one that differs.
func changeLine(a *arena, text, field, value string) string {
	a.t.Helper()
	lines := strings.Split(text, "\n")
	for i, l := range lines {
		if k, v, _ := strings.Cut(l, ":"); k == field {
			if strings.TrimSpace(v) == value {
				a.t.Fatalf("line %s says %q already", field, value)
			}
			lines[i] = strings.TrimRight(field+": "+value, " ")
			return strings.Join(lines, "\n")
		}
	}
	a.t.Fatalf("the statement has no line %s:\n%s", field, text)
	return ""
}

// signatureAttacks bend the signature itself.
func signatureAttacks() []attack {
	// bent answers alice's request with her own key, bent.
	bent := func(change func(*arena, *catest.Bent)) func(*arena) error {
		return func(a *arena) error {
			ch := a.askFor(a.alice, nil)
			a.begin()
			return a.answer(requests, ch.ID, a.alice.bent(ch, func(b *catest.Bent) { change(a, b) }))
		}
	}
	rows := []attack{
		{what: "a signature with neither touch nor PIN", do: bent(func(_ *arena, b *catest.Bent) { b.Flags = 0 }),
			code: api.CodeNoTouch, due: denied("alice", api.CodeNoTouch)},
		{what: "a signature with a PIN and no touch", do: bent(func(_ *arena, b *catest.Bent) { b.Flags = sshsig.FlagUserVerified }),
			code: api.CodeNoTouch, due: denied("alice", api.CodeNoTouch)},
		{what: "a signature with a touch and no PIN", do: bent(func(_ *arena, b *catest.Bent) { b.Flags = sshsig.FlagUserPresent }),
			code: api.CodeNoPIN, due: denied("alice", api.CodeNoPIN)},
		{what: "flags that claim attested data that is not there", do: bent(func(_ *arena, b *catest.Bent) { b.Flags |= sshsig.FlagAttested }),
			code: api.CodeRefused, sum: "malformed_signature"},
		{what: "flags that claim extensions that are not there", do: bent(func(_ *arena, b *catest.Bent) { b.Flags |= sshsig.FlagExtensions }),
			code: api.CodeRefused, sum: "malformed_signature"},
		{what: "a byte behind flags and counter", do: bent(func(_ *arena, b *catest.Bent) { b.Tail = []byte{0} }),
			code: api.CodeRefused, sum: "bad_signature"},
		{what: "a credential of alice's for another application", do: bent(func(_ *arena, b *catest.Bent) { b.Application = "ssh:" }),
			code: api.CodeRefused, sum: "wrong_key"},
		{what: "a signature for another application under her enrolled key's name", do: bent(func(a *arena, b *catest.Bent) {
			b.Application, b.Key = "ssh:other", a.alice.Public().Marshal()
		}), code: api.CodeRefused, sum: "bad_signature"},
		{what: "the hash sha256 instead of sha512", do: bent(func(_ *arena, b *catest.Bent) { b.Hash = "sha256" }),
			code: api.CodeRefused, sum: "malformed_signature"},
		{what: "a reserved field in use", do: bent(func(_ *arena, b *catest.Bent) { b.Reserved = "x" }),
			code: api.CodeRefused, sum: "malformed_signature"},
		{what: "SSHSIG version 2", do: bent(func(_ *arena, b *catest.Bent) { b.Version = 2 }),
			code: api.CodeRefused, sum: "malformed_signature"},
		{what: "an empty namespace", do: bent(func(_ *arena, b *catest.Bent) { b.Namespace = "" }),
			code: api.CodeRefused, sum: "malformed_signature"},
		{what: "the namespace of git, in which people sign what others gave them", do: bent(func(_ *arena, b *catest.Bent) { b.Namespace = "git" }),
			code: api.CodeRefused, sum: "wrong_namespace"},
		{what: "a signature of another namespace under the right one's name", do: bent(func(_ *arena, b *catest.Bent) {
			b.Namespace, b.BlobNamespace = "file", "request@breakglass"
		}), code: api.CodeRefused, sum: "bad_signature"},
		{what: "a whole SSHSIG in the place of the signature", do: bent(func(a *arena, b *catest.Bent) {
			b.Wrap = func(inner []byte) []byte { return append([]byte("SSHSIG"), inner...) }
		}), code: api.CodeRefused, sum: "malformed_signature"},
		{what: "her client certificate in the place of the key", do: func(a *arena) error {
			g := a.grant(a.alice)
			cert, _, _, _, err := ssh.ParseAuthorizedKey([]byte(g.Certificate))
			catest.Must(a.t, err)
			ch := a.askFor(a.alice, nil)
			a.begin()
			return a.answer(requests, ch.ID, a.alice.bent(ch, func(b *catest.Bent) { b.Key = cert.Marshal() }))
		}, code: api.CodeRefused, sum: "malformed_signature"},
		{what: "a certificate over her own key, by a CA of mallory's, in the place of the key", do: func(a *arena) error {
			c := &ssh.Certificate{Key: a.alice.Public(), CertType: ssh.UserCert, KeyId: "alice", ValidPrincipals: []string{"client:alice"}, ValidBefore: ssh.CertTimeInfinity}
			catest.Must(a.t, c.SignCert(rand.Reader, catest.NewKey(a.t)))
			ch := a.askFor(a.alice, nil)
			a.begin()
			return a.answer(requests, ch.ID, a.alice.bent(ch, func(b *catest.Bent) { b.Key = c.Marshal() }))
		}, code: api.CodeRefused, sum: "malformed_signature"},
		{what: "her enrolled key's name over a signature of mallory's", do: func(a *arena) error {
			m := a.person("mallory")
			ch := a.askFor(a.alice, nil)
			a.begin()
			return a.answer(requests, ch.ID, m.bent(ch, func(b *catest.Bent) { b.Key = a.alice.Public().Marshal() }))
		}, code: api.CodeRefused, sum: "bad_signature"},
		{what: "an ed25519 security key", do: func(a *arena) error {
			pub, priv, err := ed25519.GenerateKey(rand.Reader)
			catest.Must(a.t, err)
			key := ssh.Marshal(struct{ T, K, A string }{"sk-ssh-ed25519@openssh.com", string(pub), api.Application})
			ch := a.askFor(a.alice, nil)
			a.begin()
			inner := ssh.Marshal(ssh.Signature{Format: "sk-ssh-ed25519@openssh.com", Blob: ed25519.Sign(priv, []byte(ch.Statement)), Rest: []byte{5, 0, 0, 0, 9}})
			return a.answer(requests, ch.ID, catest.Armor(key, inner, 1, ch.Namespace, "", "sha512"))
		}, code: api.CodeRefused, sum: "wrong_key"},
		{what: "a plain ECDSA signature with her key's secret, in which nothing tells of a touch", do: func(a *arena) error {
			signer, err := ssh.NewSignerFromKey(a.alice.Secret)
			catest.Must(a.t, err)
			ch := a.askFor(a.alice, nil)
			a.begin()
			sig, err := sshsig.Sign(signer, ch.Namespace, []byte(ch.Statement))
			catest.Must(a.t, err)
			return a.answer(requests, ch.ID, string(sig.Armor()))
		}, code: api.CodeRefused, sum: "wrong_key"},
		{what: "a plain ECDSA signature under her security key's name", do: func(a *arena) error {
			signer, err := ssh.NewSignerFromKey(a.alice.Secret)
			catest.Must(a.t, err)
			ch := a.askFor(a.alice, nil)
			a.begin()
			sig, err := sshsig.Sign(signer, ch.Namespace, []byte(ch.Statement))
			catest.Must(a.t, err)
			sig.PublicKey = a.alice.Public()
			return a.answer(requests, ch.ID, string(sig.Armor()))
		}, code: api.CodeRefused, sum: "bad_signature"},
		{what: "a key on another curve under her name", do: func(a *arena) error {
			k, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
			catest.Must(a.t, err)
			signer, err := ssh.NewSignerFromKey(k)
			catest.Must(a.t, err)
			ch := a.askFor(a.alice, nil)
			a.begin()
			sig, err := sshsig.Sign(signer, ch.Namespace, []byte(ch.Statement))
			catest.Must(a.t, err)
			return a.answer(requests, ch.ID, string(sig.Armor()))
		}, code: api.CodeRefused, sum: "wrong_key"},
		{what: "her grant's client key in the place of her hardware key", do: func(a *arena) error {
			g := a.grant(a.alice)
			ch := a.askFor(a.alice, nil)
			a.begin()
			sig, err := sshsig.Sign(g.Key, ch.Namespace, []byte(ch.Statement))
			catest.Must(a.t, err)
			return a.answer(requests, ch.ID, string(sig.Armor()))
		}, code: api.CodeRefused, sum: "wrong_key"},
		{what: "a signature of nothing", do: func(a *arena) error {
			ch := a.askFor(a.alice, nil)
			a.begin()
			return a.answer(requests, ch.ID, "")
		}, code: api.CodeRefused, sum: "malformed_signature"},
		{what: "the counter of the last answer, on a statement issued after it: a clone", do: func(a *arena) error {
			a.grant(a.alice)
			a.clock.forward(2 * time.Second)
			ch := a.askFor(a.alice, nil)
			a.begin()
			return a.answer(requests, ch.ID, a.alice.bent(ch, func(b *catest.Bent) { b.Counter-- }))
		}, code: api.CodeLate, due: []due{{"request.denied", "alice", api.CodeLate}, {"key.suspended", "alice", "counter_went_back"}}, shut: "her key is suspended"},
		{what: "counter 0, on a statement issued after the last answer: a clone", do: func(a *arena) error {
			a.grant(a.alice)
			a.clock.forward(2 * time.Second)
			ch := a.askFor(a.alice, nil)
			a.begin()
			return a.answer(requests, ch.ID, a.alice.bent(ch, func(b *catest.Bent) { b.Counter = 0 }))
		}, code: api.CodeLate, due: []due{{"request.denied", "alice", api.CodeLate}, {"key.suspended", "alice", "counter_went_back"}}, shut: "her key is suspended"},
		{what: "a suspended key with a rising counter", do: func(a *arena) error {
			a.grant(a.alice)
			a.clock.forward(2 * time.Second)
			held := a.askFor(a.alice, nil)
			ch := a.askFor(a.alice, nil)
			if err := a.answer(requests, ch.ID, a.alice.bent(ch, func(b *catest.Bent) { b.Counter = 1 })); problem(a.t, err).Code != api.CodeLate {
				return err
			}
			a.begin()
			return a.answer(requests, held.ID, a.alice.sign(held))
		}, code: api.CodeSuspended, due: denied("alice", api.CodeSuspended), shut: "her key is suspended"},
		{what: "a used answer's signature in its other form (n-s) for the statement that it used up", do: func(a *arena) error {
			ch := a.askFor(a.alice, nil)
			catest.Must(a.t, a.answer(requests, ch.ID, a.alice.sign(ch)))
			a.begin()
			return a.answer(requests, ch.ID, a.alice.Bent(ch.Statement, ch.Namespace, func(b *catest.Bent) { b.Malleable = true }))
		}, code: api.CodeExpired, sum: "unknown_statement"},
	}
	for _, k := range []statement.Kind{statement.KindEnrolment, statement.KindFounding, statement.KindRecipient, statement.KindReadingRotation, statement.KindPass, statement.KindApproval, statement.KindPolicy,
		statement.KindCall, statement.KindSession, statement.KindFact} {
		rows = append(rows, attack{series: "another kind's namespace", what: "a request signed in the namespace " + k.Namespace(), do: bent(func(_ *arena, b *catest.Bent) { b.Namespace = k.Namespace() }),
			code: api.CodeRefused, sum: "wrong_namespace"})
	}
	return rows
}
