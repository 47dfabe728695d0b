package ca_test

import (
	"strings"
	"time"

	"breakglass/ca/api"
	"breakglass/ca/catest"
	"breakglass/internal/sshsig"
)

// enrolmentAttacks are on tokens and on the steps by which a key becomes somebody's.
func enrolmentAttacks() []attack {
	// half is an enrolment of the newcomer's up to the statement.
	half := func(a *arena) (*keyed, *api.Challenge) {
		p := a.stranger("newcomer")
		ch, err := a.enrolKey(p, a.Token("newcomer").Secret, "main")
		catest.Must(a.t, err)
		return p, ch
	}
	rows := []attack{
		{what: "a token that nobody gave", do: func(a *arena) error {
			a.begin()
			return a.enrol(a.stranger("newcomer"), strings.Repeat("A", 43), "main")
		}, code: api.CodeInvite, sum: "invite_refused"},
		{what: "a token that was used", do: func(a *arena) error {
			t := a.Token("newcomer").Secret
			catest.Must(a.t, a.enrol(a.stranger("newcomer"), t, "main"))
			a.begin()
			return a.enrol(a.stranger("newcomer"), t, "second")
		}, code: api.CodeInvite, sum: "invite_refused"},
		{what: "a token of the day before yesterday", do: func(a *arena) error {
			t := a.Token("newcomer").Secret
			a.clock.forward(25 * time.Hour)
			a.begin()
			return a.enrol(a.stranger("newcomer"), t, "main")
		}, code: api.CodeInvite, sum: "invite_refused"},
		{what: "a token that expires between the steps", do: func(a *arena) error {
			t := a.Token("newcomer").Secret
			a.clock.forward(24*time.Hour - 20*time.Second)
			p := a.stranger("newcomer")
			ch, err := a.enrolKey(p, t, "main")
			catest.Must(a.t, err)
			a.clock.forward(30 * time.Second)
			a.begin()
			return a.answer(enrolments, ch.ID, p.sign(ch))
		}, code: api.CodeInvite},
		{what: "a jump's token for a person", do: func(a *arena) error {
			t := a.JumpToken("jump-a").Secret
			a.begin()
			return a.enrol(a.stranger("jump-a"), t, "main")
		}, code: api.CodeInvite, sum: "invite_refused"},
		{what: "a person's token for a jump", do: func(a *arena) error {
			t := a.Token("newcomer").Secret
			a.begin()
			return a.join(t, catest.Line(catest.NewKey(a.t).PublicKey()), catest.Line(catest.NewKey(a.t).PublicKey()), "127.0.0.1")
		}, code: api.CodeInvite, sum: "invite_refused"},
		{what: "one token in two enrolments at once", do: func(a *arena) error {
			t := a.Token("newcomer").Secret
			one, two := a.stranger("newcomer"), a.stranger("newcomer")
			first, err := a.enrolKey(one, t, "main")
			catest.Must(a.t, err)
			second, err := a.enrolKey(two, t, "other")
			catest.Must(a.t, err)
			catest.Must(a.t, a.answer(enrolments, first.ID, one.sign(first)))
			a.begin()
			return a.answer(enrolments, second.ID, two.sign(second))
		}, code: api.CodeInvite},
		{what: "an enrolment signed by another key than the new one", do: func(a *arena) error {
			_, ch := half(a)
			a.begin()
			return a.answer(enrolments, ch.ID, a.alice.sign(ch))
		}, code: api.CodeRefused, sum: "bad_signature"},
		{what: "an enrolment whose key was not touched", do: func(a *arena) error {
			p, ch := half(a)
			a.begin()
			return a.answer(enrolments, ch.ID, p.bent(ch, func(b *catest.Bent) { b.Flags = 0 }))
		}, code: api.CodeNoTouch},
		{what: "an enrolment without a PIN", do: func(a *arena) error {
			p, ch := half(a)
			a.begin()
			return a.answer(enrolments, ch.ID, p.bent(ch, func(b *catest.Bent) { b.Flags = sshsig.FlagUserPresent }))
		}, code: api.CodeNoPIN},
		{what: "an enrolment signed in a request's namespace", do: func(a *arena) error {
			p, ch := half(a)
			a.begin()
			return a.answer(enrolments, ch.ID, p.bent(ch, func(b *catest.Bent) { b.Namespace = "request@breakglass" }))
		}, code: api.CodeRefused, sum: "bad_signature"},
		{what: "an enrolment's answer sent twice", do: func(a *arena) error {
			p, ch := half(a)
			sig := p.sign(ch)
			catest.Must(a.t, a.answer(enrolments, ch.ID, sig))
			a.begin()
			return a.answer(enrolments, ch.ID, sig)
		}, code: api.CodeExpired, sum: "unknown_statement"},
		{what: "an enrolment's second step for another one's id", do: func(a *arena) error {
			a.begin()
			p := a.stranger("newcomer")
			return a.Wire().Post(enrolments+"/0123456789abcdef/key", api.EnrolKey{PublicKey: catest.Line(p.Public()), CredentialID: p.credential}, new(api.Challenge))
		}, code: api.CodeExpired, sum: "unknown_statement"},
		{what: "alice's key enrolled once more, as mallory's", do: func(a *arena) error {
			a.person("mallory")
			t := a.Token("mallory").Secret
			p := &keyed{OpenKey: a.alice.OpenKey, a: a, name: "mallory", credential: a.alice.credential}
			ch, err := a.enrolKey(p, t, "second")
			if err != nil {
				a.begin()
				return err
			}
			a.begin()
			return a.answer(enrolments, ch.ID, p.sign(ch))
		}, code: api.CodeConflict},
		{what: "alice's key enrolled once more, as her own second one", do: func(a *arena) error {
			t := a.Token("alice").Secret
			ch, err := a.enrolKey(a.alice, t, "second")
			if err != nil {
				a.begin()
				return err
			}
			a.begin()
			return a.answer(enrolments, ch.ID, a.alice.sign(ch))
		}, code: api.CodeConflict},
		{what: "a second key under the first one's name", do: func(a *arena) error {
			t := a.Token("alice").Secret
			a.begin()
			return a.enrol(a.stranger("alice"), t, "main")
		}, code: api.CodeConflict},
		{what: "a key of another application", do: func(a *arena) error {
			t := a.Token("newcomer").Secret
			e := new(api.EnrolChallenge)
			catest.Must(a.t, a.Wire().Post(enrolments, api.EnrolAsk{Invite: t, Key: "main"}, e))
			a.begin()
			return a.Wire().Post(enrolments+"/"+e.ID+"/key", api.EnrolKey{PublicKey: catest.Line(a.stranger("newcomer").For("ssh:")), CredentialID: []byte("x")}, new(api.Challenge))
		}, code: api.CodeBadRequest},
		{what: "a plain key instead of a hardware key", do: func(a *arena) error {
			t := a.Token("newcomer").Secret
			e := new(api.EnrolChallenge)
			catest.Must(a.t, a.Wire().Post(enrolments, api.EnrolAsk{Invite: t, Key: "main"}, e))
			a.begin()
			return a.Wire().Post(enrolments+"/"+e.ID+"/key", api.EnrolKey{PublicKey: catest.Line(catest.NewKey(a.t).PublicKey()), CredentialID: []byte("x")}, new(api.Challenge))
		}, code: api.CodeBadRequest},
		{what: "a certificate instead of a hardware key", do: func(a *arena) error {
			g, t := a.grant(a.alice), a.Token("newcomer").Secret
			e := new(api.EnrolChallenge)
			catest.Must(a.t, a.Wire().Post(enrolments, api.EnrolAsk{Invite: t, Key: "main"}, e))
			a.begin()
			return a.Wire().Post(enrolments+"/"+e.ID+"/key", api.EnrolKey{PublicKey: g.Certificate, CredentialID: []byte("x")}, new(api.Challenge))
		}, code: api.CodeBadRequest},
		{what: "a credential id longer than CTAP has", do: func(a *arena) error {
			t := a.Token("newcomer").Secret
			e := new(api.EnrolChallenge)
			catest.Must(a.t, a.Wire().Post(enrolments, api.EnrolAsk{Invite: t, Key: "main"}, e))
			a.begin()
			return a.Wire().Post(enrolments+"/"+e.ID+"/key", api.EnrolKey{PublicKey: catest.Line(a.stranger("newcomer").Public()), CredentialID: make([]byte, 1024)}, new(api.Challenge))
		}, code: api.CodeBadRequest},
	}
	for _, l := range [][2]string{{"origin", "breakglass/demo/other"}, {"epoch", "2"}, {"enrolment", "0123456789abcdef"}, {"person", "alice"}, {"key", "other"},
		{"public-key", "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ5AobeHMSqrBgw1ztgTrX9OZTRDv0fzJPBNrmXHRTPm"}, {"credential", strings.Repeat("0", 64)}, {"invite", strings.Repeat("0", 64)}} {
		rows = append(rows, attack{series: "an enrolment changed before it was signed", what: "an enrolment whose line " + l[0] + " the client changed before it signed", do: func(a *arena) error {
			p, ch := half(a)
			a.begin()
			return a.answer(enrolments, ch.ID, p.Sign(changeLine(a, ch.Statement, l[0], l[1]), ch.Namespace))
		}, code: api.CodeRefused, sum: "bad_signature"})
	}
	return rows
}
