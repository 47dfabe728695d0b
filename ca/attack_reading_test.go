package ca_test

import (
	"bytes"
	"net/http"
	"time"

	"filippo.io/age"
	"golang.org/x/crypto/ssh"

	"breakglass/ca/api"
	"breakglass/ca/catest"
	"breakglass/internal/sshsig"
	"breakglass/internal/statement"
)

// ageKey is a new age public key.
func ageKey(a *arena) string {
	a.t.Helper()
	id, err := age.GenerateX25519Identity()
	catest.Must(a.t, err)
	return id.Recipient().String()
}

// passFor opens a pass of p's for a holder.
func (a *arena) passFor(p *keyed, holder ssh.PublicKey) *api.Challenge {
	a.t.Helper()
	return a.ask(passes, api.PassAsk{Person: string(p.name), Holder: catest.Line(holder)})
}

// actDenied is the entry of a validly signed act that came to nothing.
func actDenied(reason string) []due { return []due{{"act.denied", "alice", reason}} }

// readingAttacks are on passes, recipients and the calls that a pass signs.
func readingAttacks() []attack {
	rows := []attack{
		{what: "a pass for alice signed by mallory", do: func(a *arena) error {
			m := a.person("mallory")
			a.begin()
			ch := a.passFor(a.alice, catest.NewKey(a.t).PublicKey())
			return a.answer(passes, ch.ID, m.sign(ch))
		}, code: api.CodeRefused, sum: "wrong_key"},
		{what: "a pass without a touch", do: func(a *arena) error {
			a.begin()
			ch := a.passFor(a.alice, catest.NewKey(a.t).PublicKey())
			return a.answer(passes, ch.ID, a.alice.bent(ch, func(b *catest.Bent) { b.Flags = 0 }))
		}, code: api.CodeNoTouch, due: actDenied(api.CodeNoTouch)},
		{what: "a pass without a PIN", do: func(a *arena) error {
			a.begin()
			ch := a.passFor(a.alice, catest.NewKey(a.t).PublicKey())
			return a.answer(passes, ch.ID, a.alice.bent(ch, func(b *catest.Bent) { b.Flags = sshsig.FlagUserPresent }))
		}, code: api.CodeNoPIN, due: actDenied(api.CodeNoPIN)},
		{what: "a pass with a counter that was used for a request", do: func(a *arena) error {
			ch := a.passFor(a.alice, catest.NewKey(a.t).PublicKey())
			a.grant(a.alice)
			a.begin()
			return a.answer(passes, ch.ID, a.alice.Bent(ch.Statement, ch.Namespace, nil))
		}, code: api.CodeLate, due: actDenied(api.CodeLate)},
		{what: "a pass for another holder than the one signed for", do: func(a *arena) error {
			hers, other := a.passFor(a.alice, catest.NewKey(a.t).PublicKey()), a.passFor(a.alice, catest.NewKey(a.t).PublicKey())
			a.begin()
			return a.answer(passes, other.ID, a.alice.sign(hers))
		}, code: api.CodeRefused, sum: "bad_signature"},
		{what: "a pass for a holder who has one", do: func(a *arena) error {
			k := a.pass(a.alice)
			a.begin()
			ch := a.passFor(a.alice, k.PublicKey())
			return a.answer(passes, ch.ID, a.alice.sign(ch))
		}, code: api.CodeConflict, due: actDenied(api.CodeConflict)},
		{what: "a pass of mallory's for the holder of alice's", do: func(a *arena) error {
			k, m := a.pass(a.alice), a.person("mallory")
			a.begin()
			ch := a.passFor(m, k.PublicKey())
			return a.answer(passes, ch.ID, m.sign(ch))
		}, code: api.CodeConflict, due: []due{{"act.denied", "mallory", api.CodeConflict}}},
		{what: "a pass whose holder is a grant's client key", do: func(a *arena) error {
			g := a.grant(a.alice)
			a.begin()
			ch := a.passFor(a.alice, g.Key.PublicKey())
			return a.answer(passes, ch.ID, a.alice.sign(ch))
		}, code: api.CodeConflict, due: actDenied(api.CodeConflict)},
		{what: "a pass whose holder is a hardware key", do: func(a *arena) error {
			a.begin()
			return a.Wire().Post(passes, api.PassAsk{Person: "alice", Holder: catest.Line(a.alice.Public())}, new(api.Challenge))
		}, code: api.CodeBadRequest},
		{what: "a pass asked at home and signed from a denied network", do: func(a *arena) error {
			ch := a.passFor(a.alice, catest.NewKey(a.t).PublicKey())
			a.begin()
			return a.Wire().At("203.0.113.9:4000").Post(passes+"/"+ch.ID+"/signature", api.Signed{SSHSIG: a.alice.sign(ch)}, new(api.PassState))
		}, code: api.CodePlace, due: actDenied("network_denied"), sum: "country_unknown network_denied"},
		{what: "a pass's answer sent twice", do: func(a *arena) error {
			ch := a.passFor(a.alice, catest.NewKey(a.t).PublicKey())
			sig := a.alice.sign(ch)
			catest.Must(a.t, a.answer(passes, ch.ID, sig))
			a.begin()
			return a.answer(passes, ch.ID, sig)
		}, code: api.CodeExpired, sum: "unknown_statement"},

		{what: "reading without a pass", do: func(a *arena) error {
			g := a.grant(a.alice)
			a.begin()
			return a.Wire().Get(requests+"/"+string(g.ID), new(api.RequestState))
		}, code: api.CodePass},
		{what: "reading with a pass of sixteen minutes ago", do: func(a *arena) error {
			k := a.pass(a.alice)
			a.clock.forward(16 * time.Minute)
			a.begin()
			return a.Wire().By(k).Get("/v1/sessions", new(any))
		}, code: api.CodePass},
		{what: "reading with a pass carried off to a denied network", do: func(a *arena) error {
			k := a.pass(a.alice)
			a.begin()
			return a.Wire().At("203.0.113.9:4000").By(k).Get("/v1/sessions", new(any))
		}, code: api.CodePass, sum: "country_unknown network_denied"},
		{what: "reading another's request with a grant's client key", do: func(a *arena) error {
			g, m := a.grant(a.alice), a.grant(a.person("mallory"))
			a.begin()
			return a.Wire().By(m.Key).Get(requests+"/"+string(g.ID), new(any))
		}, code: api.CodePass},
		{what: "all sessions with a grant's client key", do: func(a *arena) error {
			g := a.grant(a.alice)
			a.begin()
			return a.Wire().By(g.Key).Get("/v1/sessions", new(any))
		}, code: api.CodePass},
		{what: "the ledger's entries with a grant's client key", do: func(a *arena) error {
			g := a.grant(a.alice)
			a.begin()
			return a.Wire().By(g.Key).Get("/v1/entries/1", new(any))
		}, code: api.CodePass},
		{what: "evidence with a grant's client key", do: func(a *arena) error {
			g := a.grant(a.alice)
			a.begin()
			return a.Wire().By(g.Key).Get("/v1/evidence/"+string(g.ID), new(any))
		}, code: api.CodePass},
		{what: "an envelope with a pass of who is no reader", do: func(a *arena) error {
			id := a.recorded()
			k := a.pass(a.person("mallory"))
			a.begin()
			return a.Wire().By(k).Post("/v1/transcripts/"+id.File()+"/envelope", api.ReadAsk{Why: "curious"}, new([]byte))
		}, code: api.CodeDenied},
		{what: "an envelope with a reader's pass and no why", do: func(a *arena) error {
			id := a.recorded()
			k := a.pass(a.person("rita"))
			a.begin()
			return a.Wire().By(k).Post("/v1/transcripts/"+id.File()+"/envelope", api.ReadAsk{Why: "line\nbreak"}, new([]byte))
		}, code: api.CodeBadRequest},
		{what: "a recording with the session's own client key", do: func(a *arena) error {
			id := a.recorded()
			g := a.grant(a.alice)
			a.begin()
			return a.Wire().By(g.Key).Get("/v1/transcripts/"+id.File(), new([]byte))
		}, code: api.CodePass},

		{what: "a recipient of rita's signed by alice", do: func(a *arena) error {
			a.person("rita")
			a.begin()
			ch := a.ask(recipients, api.RecipientAsk{Person: "rita", Age: ageKey(a), Sealed: "passphrase"})
			return a.answer(recipients, ch.ID, a.alice.sign(ch))
		}, code: api.CodeRefused, sum: "wrong_key"},
		{what: "a reader's age key named as alice's own", do: func(a *arena) error {
			theirs := ageKey(a)
			catest.Must(a.t, a.recipient(a.person("rita"), theirs))
			a.begin()
			return a.recipient(a.alice, theirs)
		}, code: api.CodeConflict, due: actDenied(api.CodeConflict)},
		{what: "a recipient without a touch", do: func(a *arena) error {
			a.begin()
			ch := a.ask(recipients, api.RecipientAsk{Person: "alice", Age: ageKey(a), Sealed: "passphrase"})
			return a.answer(recipients, ch.ID, a.alice.bent(ch, func(b *catest.Bent) { b.Flags = 0 }))
		}, code: api.CodeNoTouch, due: actDenied(api.CodeNoTouch)},
		{what: "a recipient for another age key than the one signed for", do: func(a *arena) error {
			one := a.ask(recipients, api.RecipientAsk{Person: "alice", Age: ageKey(a), Sealed: "passphrase"})
			two := a.ask(recipients, api.RecipientAsk{Person: "alice", Age: ageKey(a), Sealed: "passphrase"})
			a.begin()
			return a.answer(recipients, two.ID, a.alice.sign(one))
		}, code: api.CodeRefused, sum: "bad_signature"},
		{what: "a rotation of what is rita's by alice", do: func(a *arena) error {
			theirs := ageKey(a)
			catest.Must(a.t, a.recipient(a.person("rita"), theirs))
			a.begin()
			ch := a.ask(rotations, api.RotationAsk{Person: "alice", Old: theirs, Age: ageKey(a), Sealed: "hardware"})
			return a.answer(rotations, ch.ID, a.alice.sign(ch))
		}, code: api.CodeConflict, due: actDenied(api.CodeConflict)},
		{what: "a rotation of rita's signed by alice", do: func(a *arena) error {
			theirs := ageKey(a)
			catest.Must(a.t, a.recipient(a.person("rita"), theirs))
			a.begin()
			ch := a.ask(rotations, api.RotationAsk{Person: "rita", Old: theirs, Age: ageKey(a), Sealed: "hardware"})
			return a.answer(rotations, ch.ID, a.alice.sign(ch))
		}, code: api.CodeRefused, sum: "wrong_key"},
		{what: "a rotation without a touch", do: func(a *arena) error {
			mine := ageKey(a)
			catest.Must(a.t, a.recipient(a.alice, mine))
			a.begin()
			ch := a.ask(rotations, api.RotationAsk{Person: "alice", Old: mine, Age: ageKey(a), Sealed: "hardware"})
			return a.answer(rotations, ch.ID, a.alice.bent(ch, func(b *catest.Bent) { b.Flags = 0 }))
		}, code: api.CodeNoTouch, due: actDenied(api.CodeNoTouch)},
		{what: "the answer to a rotation where a recipient is asked for", do: func(a *arena) error {
			mine := ageKey(a)
			catest.Must(a.t, a.recipient(a.alice, mine))
			a.begin()
			ch := a.ask(rotations, api.RotationAsk{Person: "alice", Old: mine, Age: ageKey(a), Sealed: "hardware"})
			return a.answer(recipients, ch.ID, a.alice.sign(ch))
		}, code: api.CodeExpired, sum: "unknown_statement"},
		{what: "a rotation of nothing", do: func(a *arena) error {
			a.begin()
			return a.Wire().Post(rotations, api.RotationAsk{Person: "alice", Old: "", Age: ageKey(a), Sealed: "hardware"}, new(api.Challenge))
		}, code: api.CodeBadRequest},
		{what: "an envelope for no reason", do: func(a *arena) error {
			id := a.recorded()
			k := a.pass(a.person("rita"))
			a.begin()
			return a.Wire().By(k).Post("/v1/transcripts/"+id.File()+"/envelope", api.ReadAsk{}, new([]byte))
		}, code: api.CodeBadRequest},
		{what: "an age key that is none", do: func(a *arena) error {
			a.begin()
			return a.Wire().Post(recipients, api.RecipientAsk{Person: "alice", Age: "age1nonsense", Sealed: "passphrase"}, new(api.Challenge))
		}, code: api.CodeBadRequest},
		{what: "an age key of a scrypt passphrase's sort, sealed in no known way", do: func(a *arena) error {
			a.begin()
			return a.Wire().Post(recipients, api.RecipientAsk{Person: "alice", Age: ageKey(a), Sealed: "not at all"}, new(api.Challenge))
		}, code: api.CodeBadRequest},
	}
	// A call is one HTTP request: whatever of it is not what was signed, it is none.
	for _, c := range []struct {
		what string
		bend func(*statement.Call, *http.Request)
		code string
		sum  string
	}{
		{"the path of another call", func(s *statement.Call, _ *http.Request) { s.Path = "/v1/checkpoint" }, api.CodePass, "call_of_another_request"},
		{"another query", func(s *statement.Call, _ *http.Request) { s.Path += "?request=aaa-bbb" }, api.CodePass, "call_of_another_request"},
		{"another method", func(s *statement.Call, _ *http.Request) { s.Method = "DELETE" }, api.CodePass, "call_of_another_request"},
		{"another CA's origin", func(s *statement.Call, _ *http.Request) { s.Origin = "breakglass/demo/other" }, api.CodePass, "call_of_another_request"},
		{"another body", func(s *statement.Call, _ *http.Request) { s.Body[0] ^= 1 }, api.CodePass, "call_of_another_request"},
		{"a time of ten minutes ago", func(s *statement.Call, _ *http.Request) { s.Issued = s.Issued.Add(-10 * time.Minute) }, "clock", "call_clock"},
		{"a time of ten minutes ahead", func(s *statement.Call, _ *http.Request) { s.Issued = s.Issued.Add(10 * time.Minute) }, "clock", "call_clock"},
	} {
		rows = append(rows, attack{what: "a call signed over " + c.what, do: func(a *arena) error {
			w := a.Wire().By(a.pass(a.alice))
			w.Bend = c.bend
			a.begin()
			return w.Get("/v1/sessions", new(any))
		}, code: c.code, sum: c.sum})
	}
	return append(rows,
		attack{what: "a call that repeats another's nonce", do: func(a *arena) error {
			w, n := a.Wire().By(a.pass(a.alice)), statement.NewNonce()
			w.Bend = func(s *statement.Call, _ *http.Request) { s.Nonce = n }
			catest.Must(a.t, w.Get("/v1/sessions", new(any)))
			a.begin()
			return w.Get("/v1/sessions", new(any))
		}, code: api.CodePass, sum: "call_repeated"},
		attack{what: "a call with a signature and no statement", do: func(a *arena) error {
			a.begin()
			return a.raw("GET", "/v1/sessions", nil, func(r *http.Request) { r.Header.Set(api.HeaderSignature, "AAAA") })
		}, code: api.CodePass, sum: "malformed_call"},
		attack{what: "a call signed by alice's hardware key", do: func(a *arena) error {
			a.begin()
			call := &statement.Call{Origin: a.Pins.Site.Origin, Method: "GET", Path: "/v1/sessions", Body: emptyHash(), Issued: a.clock.now().UTC().Truncate(time.Second), Nonce: statement.NewNonce()}
			text, err := statement.Marshal(call)
			catest.Must(a.t, err)
			return a.raw("GET", "/v1/sessions", nil, callHeaders(text, a.alice.Sign(string(text), statement.KindCall.Namespace())))
		}, code: api.CodePass, sum: "bad_call_signature"},
		attack{what: "a call under the key of alice's pass, signed by mallory's", do: func(a *arena) error {
			k := a.pass(a.alice)
			a.begin()
			call := &statement.Call{Origin: a.Pins.Site.Origin, Method: "GET", Path: "/v1/sessions", Body: emptyHash(), Issued: a.clock.now().UTC().Truncate(time.Second), Nonce: statement.NewNonce()}
			text, err := statement.Marshal(call)
			catest.Must(a.t, err)
			sig, err := sshsig.Sign(catest.NewKey(a.t), statement.KindCall.Namespace(), text)
			catest.Must(a.t, err)
			sig.PublicKey = k.PublicKey()
			return a.raw("GET", "/v1/sessions", nil, callHeaders(text, string(sig.Armor())))
		}, code: api.CodePass, sum: "bad_call_signature"},
		attack{what: "a body over the limit", do: func(a *arena) error {
			a.begin()
			return a.Wire().Post(requests, bytes.Repeat([]byte{' '}, api.MaxBody+1), nil)
		}, code: api.CodeBadRequest},
		attack{what: "something behind the JSON", do: func(a *arena) error {
			a.begin()
			return a.Wire().Post(passes, []byte(`{"person":"alice","holder":""}{"person":"mallory"}`), nil)
		}, code: api.CodeBadRequest},
	)
}
