package ca_test

import (
	"context"
	"errors"
	"time"

	"breakglass/ca/api"
	"breakglass/ca/catest"
	"breakglass/internal/attest"
	"breakglass/internal/name"
	"breakglass/internal/softkey"
	"breakglass/internal/statement"
)

// inTown is an arena around a production site, founded: two keys each, attested, and olga operates it.
func inTown(t *town) *arena {
	a := &arena{CA: t.CA, t: t.t, clock: t.clock, town: t, people: map[name.Person]*keyed{}, jumps: map[name.Jump]*catest.Jump{}}
	a.before = len(a.Raw())
	return a
}

// attested goes through an enrolment, with change in what is shown of the new key.
func (a *arena) attested(p *catest.Person, t api.Token, key string, change func(*api.EnrolKey)) error {
	a.t.Helper()
	e := new(api.EnrolChallenge)
	catest.Must(a.t, a.Wire().Post(enrolments, api.EnrolAsk{Invite: t.Secret, Key: key}, e))
	cred, err := p.Key.Enroll(api.Application, e.Challenge, true)
	catest.Must(a.t, err)
	p.Credential = cred
	q := api.EnrolKey{PublicKey: catest.Line(cred.PublicKey), CredentialID: cred.CredentialID, Format: cred.Format, AuthData: cred.AuthData, Cert: cred.Cert, Signature: cred.Signature}
	change(&q)
	ch := new(api.Challenge)
	if err := a.Wire().Post(enrolments+"/"+e.ID+"/key", q, ch); err != nil {
		return err
	}
	return a.answer(enrolments, ch.ID, p.Sign(ch))
}

// townAttacks are on a production site: what one operator tries alone, keys that nobody vouched for, and keys that prove no make.
func townAttacks() []attack {
	about := func(who name.Person, reason string) []due { return []due{{"act.denied", who, reason}} }
	// invited has olga invite somebody, and keeps the token for herself: what she enrols with it is her own hardware.
	invited := func(a *arena, who, key string) *catest.Person { return a.town.desk["olga"].Invited(who, key) }
	token := func(a *arena, who string) api.Token {
		t, err := a.town.desk["olga"].Invite(who)
		catest.Must(a.t, err)
		return t
	}
	rows := []attack{
		{what: "a key that an operator enrolled as alice's opens something", do: func(a *arena) error {
			fake := invited(a, "alice", "fake-1")
			a.begin()
			_, err := fake.Request("root", "web01")
			return err
		}, code: api.CodeDenied, due: []due{{"request.denied", "alice", "key_pending"}}},
		{what: "a key that an operator enrolled as alice's reads", do: func(a *arena) error {
			fake := invited(a, "alice", "fake-2")
			a.begin()
			_, err := fake.Pass()
			return err
		}, code: "key_pending", due: about("alice", "key_pending")},
		{what: "a key that an operator enrolled as alice's vouches for itself", do: func(a *arena) error {
			fake := invited(a, "alice", "fake-3")
			a.begin()
			_, err := fake.Vouch(fake)
			return err
		}, code: "key_pending", due: about("alice", "key_pending")},
		{what: "an operator vouches for it twice", do: func(a *arena) error {
			fake := invited(a, "alice", "fake-4")
			_, err := a.town.desk["olga"].Vouch(fake)
			catest.Must(a.t, err)
			a.begin()
			_, err = a.town.desk["olga"].Vouch(fake)
			return err
		}, code: api.CodeApproved, due: about("olga", api.CodeApproved)},
		{what: "an operator vouches for it with each of her keys", do: func(a *arena) error {
			fake := invited(a, "alice", "fake-5")
			_, err := a.town.desk["olga"].Vouch(fake)
			catest.Must(a.t, err)
			a.begin()
			_, err = a.town.safe["olga"].Vouch(fake)
			return err
		}, code: api.CodeApproved, due: about("olga", api.CodeApproved)},
		{what: "a key that one operator vouched for opens something", do: func(a *arena) error {
			fake := invited(a, "alice", "fake-6")
			_, err := a.town.desk["olga"].Vouch(fake)
			catest.Must(a.t, err)
			a.clock.forward(61 * time.Minute) // were it one yes, it would have cooled off
			a.begin()
			_, err = fake.Request("root", "web01")
			return err
		}, code: api.CodeDenied, due: []due{{"request.denied", "alice", "key_pending"}}},
		{what: "a key that two vouched for, before it has cooled off", do: func(a *arena) error {
			fresh := invited(a, "dan", "fresh")
			for _, p := range []name.Person{"bob", "carol"} {
				_, err := a.town.desk[p].Vouch(fresh)
				catest.Must(a.t, err)
			}
			a.begin()
			_, err := fresh.Request("root", "web01")
			return err
		}, code: api.CodeDenied, due: []due{{"request.denied", "dan", "key_pending"}}},
		{what: "an approval of one enrolment given to another", do: func(a *arena) error {
			one, two := invited(a, "alice", "fake-7"), invited(a, "carol", "fake-8")
			id, _ := one.Enrolment()
			_, other := two.Enrolment()
			a.begin()
			_, err := a.town.desk["bob"].SignVerdict(api.ApprovalAsk{About: statement.AboutEnrolment, Of: id, Hash: other, Verdict: statement.Approve})
			return err
		}, code: api.CodeOtherEnrolment, due: about("bob", api.CodeOtherEnrolment)},
		{what: "vouching for an enrolment that nobody made", do: func(a *arena) error {
			a.begin()
			_, err := a.town.desk["bob"].Vouch(a.Stranger("alice"))
			return err
		}, code: api.CodeNotFound, due: about("bob", api.CodeNotFound)},
		{what: "an order by a key of an operator's that nobody vouched for", do: func(a *arena) error {
			third := invited(a, "olga", "third")
			a.begin()
			_, err := third.Invite("mallory")
			return err
		}, code: "key_pending", due: about("olga", "key_pending")},
		{what: "an invite by local root after the founding", do: func(a *arena) error {
			a.begin()
			_, err := a.Invite(context.Background(), api.ForPerson, "alice")
			return err
		}, code: api.CodeOperatorNeeded},
		{what: "a second founding", do: func(a *arena) error {
			a.begin()
			_, err := a.town.desk["alice"].SignFounding(api.FoundingAsk{Owners: []name.Person{"alice"}, Keys: []string{a.town.desk["alice"].Fingerprint()}})
			return err
		}, code: api.CodeFounded, due: about("alice", api.CodeFounded)},
		{what: "another person's key reported as lost", do: func(a *arena) error {
			a.begin()
			_, err := a.town.desk["olga"].Lose(a.town.desk["alice"].Fingerprint(), "found it")
			return err
		}, code: api.CodeNotFound, due: about("olga", api.CodeNotFound)},
		{what: "a key that reports itself as lost", do: func(a *arena) error {
			a.begin()
			_, err := a.town.desk["bob"].Lose(a.town.desk["bob"].Fingerprint(), "in my hand")
			return err
		}, code: api.CodeOtherKey, due: about("bob", api.CodeOtherKey)},
		{what: "a renewal of a key signed by another of the person's", do: func(a *arena) error {
			a.begin()
			_, err := a.town.desk["bob"].Prove(a.town.safe["bob"].Fingerprint())
			return err
		}, code: api.CodeOtherKey, due: about("bob", api.CodeOtherKey)},
		{what: "a renewal of a key signed by another person's", do: func(a *arena) error {
			a.begin()
			ch := a.ask("/v1/renewals", api.RenewalAsk{Person: "bob", Key: a.town.desk["bob"].Fingerprint()})
			return a.answer("/v1/renewals", ch.ID, a.town.desk["olga"].Sign(ch))
		}, code: api.CodeRefused, sum: "wrong_key"},

		{what: "a software key at a production site", do: func(a *arena) error {
			t := token(a, "carol")
			p := a.With("carol", softkey.Config{PIN: catest.PIN})
			a.begin()
			return a.attested(p, t, "soft", func(*api.EnrolKey) {})
		}, code: api.CodeAttestation, sum: string(attest.ModelCode)},
		{what: "a key without attestation at a production site", do: func(a *arena) error {
			t := token(a, "carol")
			p := a.Stranger("carol")
			a.begin()
			return a.attested(p, t, "bare", func(q *api.EnrolKey) { q.Format, q.AuthData, q.Cert, q.Signature = "", nil, nil, nil })
		}, code: api.CodeAttestation, sum: string(attest.Missing)},
		{what: "an attestation in the format that says nothing", do: func(a *arena) error {
			t := token(a, "carol")
			p := a.Stranger("carol")
			a.begin()
			return a.attested(p, t, "none", func(q *api.EnrolKey) { q.Format, q.Cert, q.Signature = "none", nil, nil })
		}, code: api.CodeAttestation, sum: string(attest.None)},
		{what: "an attestation over another enrolment's challenge", do: func(a *arena) error {
			t := token(a, "carol")
			p := a.Stranger("carol")
			old := *p.Credential
			a.begin()
			return a.attested(p, t, "replayed", func(q *api.EnrolKey) {
				q.PublicKey, q.CredentialID, q.AuthData, q.Signature = catest.Line(old.PublicKey), old.CredentialID, old.AuthData, old.Signature
			})
		}, code: api.CodeAttestation, sum: string(attest.Signature)},
		{what: "the attestation of one key for another", do: func(a *arena) error {
			t := token(a, "carol")
			p, other := a.Stranger("carol"), catest.NewOpenKey(a.t)
			a.begin()
			return a.attested(p, t, "swapped", func(q *api.EnrolKey) { q.PublicKey = catest.Line(other.Public()) })
		}, code: api.CodeAttestation, sum: string(attest.Key)},
		{what: "an attestation with one bit of its authenticator data changed", do: func(a *arena) error {
			t := token(a, "carol")
			p := a.Stranger("carol")
			a.begin()
			return a.attested(p, t, "bit", func(q *api.EnrolKey) { q.AuthData[36] ^= 1 }) // of the counter
		}, code: api.CodeAttestation, sum: string(attest.Signature)},
	}
	for i := range rows {
		rows[i].series, rows[i].town = "a production site", true
	}
	return rows
}

// honestly is how an arena's honest person gets in.
func (a *arena) honestly() error {
	if a.town == nil {
		_, err := a.request(a.alice, nil)
		return err
	}
	_, err := a.town.desk["alice"].Request("root", "web01")
	if p := new(api.Problem); errors.As(err, &p) && p.Code == api.CodeDenied {
		return errors.New(p.Reasons[0].Code)
	}
	return err
}
