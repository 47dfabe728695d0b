package ca

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"net/netip"
	"time"

	"golang.org/x/crypto/ssh"

	"breakglass/ca/api"
	"breakglass/ca/state"
	"breakglass/internal/attest"
	"breakglass/internal/name"
	"breakglass/internal/skfile"
	"breakglass/internal/sshsig"
	"breakglass/internal/statement"
	"breakglass/ledger"
)

// enrolTime is how long the client data of an enrolment waits for its key: somebody may first read how ssh-keygen is called, carry a file,
// and set a PIN. It is 32 random bytes that only the invite's holder gets, so age takes nothing from it.
const enrolTime = 10 * time.Minute

// enrolment is what is known between the steps.
type enrolment struct {
	person    name.Person
	key       name.Key
	invite    statement.Hash
	challenge []byte
	// after the second step:
	public      ssh.PublicKey
	credential  []byte
	attestation *attest.Attestation // nil: none came
}

func inviteRefused() *api.Problem {
	return &api.Problem{Status: 403, Code: api.CodeInvite, Detail: "the token is unknown, was used, or is older than a day", Next: []string{"ask an operator for a new one: breakglass-ca invite NAME"}}
}

// invite finds a live invite by its secret.
func (c *CA) invite(tx *state.Tx, secret, kind string) (state.Invite, statement.Hash, error) {
	b, err := base64.RawURLEncoding.Strict().DecodeString(secret)
	if err != nil || len(b) != 32 {
		return state.Invite{}, statement.Hash{}, inviteRefused()
	}
	h := statement.Hash(sha256.Sum256(b))
	i, err := tx.Invite(h)
	if errors.Is(err, state.ErrNotFound) || err == nil && (i.Used || i.For != kind || c.now().After(i.Expires)) {
		return i, h, inviteRefused()
	}
	return i, h, err
}

// enrol shows an invite and gets the client data that the authenticator attests. Nothing is spent yet.
func (c *CA) enrol(ctx context.Context, q *api.EnrolAsk, from netip.Addr) (*api.EnrolChallenge, error) {
	key, err := name.ParseKey(q.Key)
	if err != nil {
		return nil, badRequest("%v", err)
	}
	e := &enrolment{key: key, challenge: make([]byte, attest.ChallengeSize)}
	rand.Read(e.challenge)
	if err := c.state.View(ctx, func(tx *state.Tx) error {
		i, h, err := c.invite(tx, q.Invite, api.ForPerson)
		if err != nil {
			return err
		}
		e.person, e.invite = name.Person(i.Name), h
		keys, err := tx.Keys(e.person)
		for _, k := range keys {
			if k.Name == key {
				return &api.Problem{Status: 409, Code: api.CodeConflict, Detail: "you have a key of that name", Next: []string{"breakglass enroll TOKEN --key-name another"}}
			}
		}
		return err
	}); err != nil {
		if pr := new(api.Problem); errors.As(err, &pr) && pr.Code == api.CodeInvite {
			c.strangers.add("invite_refused", from)
		}
		return nil, err
	}
	now := c.now()
	ch := &challenge{id: newID(), enrol: e, issued: now, expires: now.Add(enrolTime)}
	user := sha256.Sum256([]byte("breakglass user\x00" + string(e.person)))
	return &api.EnrolChallenge{ID: ch.id, Person: e.person, Challenge: e.challenge, Profile: string(c.policy.Load().Profile), UserID: user[:]}, c.keep(ch)
}

// enrolKey takes the new credential and gives the statement that it has to sign.
func (c *CA) enrolKey(ctx context.Context, id string, q *api.EnrolKey, from netip.Addr) (*api.Challenge, error) {
	ch := c.enrolling.take(id)
	if ch == nil {
		c.strangers.add("unknown_statement", from)
		return nil, expired()
	}
	pub, err := parseKey(q.PublicKey)
	if err != nil {
		return nil, badRequest("public_key: %v", err)
	}
	if app, err := sshsig.Application(pub); err != nil || app != api.Application {
		return nil, badRequest("public_key: want %s with application %s", sshsig.KeyAlgoSK, api.Application)
	}
	if len(q.CredentialID) == 0 || len(q.CredentialID) > attest.MaxCredential || max(len(q.AuthData), len(q.Cert), len(q.Signature)) > attest.MaxPart {
		return nil, badRequest("credential or attestation is missing or too long")
	}
	e := *ch.enrol
	e.public, e.credential = pub, q.CredentialID
	st := &statement.Enrolment{ID: newID(), Person: e.person, Key: e.key, PublicKey: authorized(pub), Credential: sha256.Sum256(e.credential), Invite: e.invite}
	if q.Format != "" {
		e.attestation = &attest.Attestation{Format: q.Format, Challenge: e.challenge, AuthData: q.AuthData, Cert: q.Cert, Chain: q.Chain, Signature: q.Signature}
		if len(q.Challenge) > 0 {
			e.attestation.Challenge = q.Challenge
		}
		st.Attestation = sha256.Sum256(q.AuthData)
	}
	// Before anybody is asked for another touch; the writer judges it again.
	if judged, err := c.attested(c.policy.Load(), &e, from); err != nil {
		return nil, err
	} else if a := e.attestation; judged == nil && a != nil { // recorded all the same: no more of it than what it can be
		if a.Format != attest.Packed && a.Format != "none" {
			return nil, badRequest("format %.32q: want packed or none", a.Format)
		}
		a.Challenge = e.challenge
	}
	site, err := c.site(ctx)
	if err != nil {
		return nil, err
	}
	st.Origin, st.Epoch = site.Site.Origin, site.Site.Epoch
	st.Checkpoint, st.Nonce, st.Issued, st.Expires = c.moment()
	next, err := c.hand(st, st.ID, e.person, true)
	if err != nil {
		return nil, err
	}
	next.enrol = &e
	flags := byte(skfile.FlagUserPresence)
	if c.policy.Load().Always.UV { // or stock ssh-keygen would not ask for the PIN that is wanted
		flags |= skfile.FlagUserVerification
	}
	h, err := handle(e.key, pub.Marshal(), e.credential, flags)
	if err != nil {
		return nil, err
	}
	return &api.Challenge{ID: next.id, Statement: string(next.text), Namespace: statement.KindEnrolment.Namespace(), Keys: []api.KeyHandle{h}}, c.keep(next)
}

// signEnrolment takes the new key's first signature, spends the invite and records the key.
func (c *CA) signEnrolment(ctx context.Context, id, armored, code string, from netip.Addr) (*api.Enrolled, error) {
	ch := c.challenges.take(id)
	if ch == nil || ch.enrol == nil || ch.st == nil {
		c.strangers.add("unknown_statement", from)
		return nil, expired()
	}
	e := ch.enrol
	sig, err := sshsig.Parse([]byte(armored))
	if err == nil {
		err = sig.Verify(e.public, ch.st.Kind().Namespace(), ch.text)
	}
	var touch sshsig.Touch
	if err == nil {
		touch, err = sig.Touch()
	}
	if err != nil {
		c.strangers.add("bad_signature", from)
		return nil, refused()
	}
	fp := ssh.FingerprintSHA256(e.public)
	a := &act{ch: ch, sig: sig, touch: touch, key: state.Key{Fingerprint: fp, Person: e.person, Name: e.key}}
	if r := judgeTouch(a.key, touch, c.policy.Load().Always.UV); r != nil {
		return nil, keyProblem(*r)
	}
	out := &api.Enrolled{Person: e.person, Key: e.key, Fingerprint: fp}
	var refusal *api.Problem
	err = c.state.Do(ctx, func(tx *state.Tx) error {
		refusal = nil
		// The policy may have changed since the statement was handed out: what it says now counts.
		p := c.policy.Load()
		judged, err := c.attested(p, e, from)
		if err != nil {
			return err
		}
		if _, err := tx.Key(fp); !errors.Is(err, state.ErrNotFound) {
			return errors.Join(err, &api.Problem{Status: 409, Code: api.CodeConflict, Detail: "this key is enrolled already"})
		}
		if i, err := tx.Invite(e.invite); err != nil || i.Used || c.now().After(i.Expires) {
			return errors.Join(err, inviteRefused())
		}
		if err := c.another(tx, e); err != nil {
			return err
		}
		f := &ledger.KeyEnrolled{
			Name: e.key, PublicKey: authorized(e.public), CredentialID: e.credential, Application: api.Application, Counter: touch.Counter,
			Flags: touch.Flags, Invite: e.invite, Attestation: recorded(e.attestation, judged, p), Software: judged == nil,
		}
		if refusal, err = c.recovers(tx, e.person, code, f); err != nil || refusal != nil { // what the code left behind stays, though it is refused
			return err
		}
		if _, _, err = tx.Append(a.signed(c.entry(ledger.PersonActor(e.person), ledger.Subject{Person: e.person, Key: fp}, f))); err != nil {
			return err
		}
		return c.tellEnrolled(tx, fp, out)
	})
	if err != nil {
		return nil, err
	}
	if refusal != nil {
		return nil, refusal
	}
	return out, nil
}
