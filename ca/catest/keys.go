package catest

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"

	"golang.org/x/crypto/ssh"

	"breakglass/ca/api"
	"breakglass/internal/name"
	"breakglass/internal/statement"
	"breakglass/ledger"
)

// EnrolKey invites a person and enrols one more key of that name.
func (c *CA) EnrolKey(person, key string) *Person {
	c.T.Helper()
	p := c.Stranger(person)
	_, err := p.Spend(c.Token(person), key)
	Must(c.T, err)
	return p
}

// Fingerprint is the key's.
func (p *Person) Fingerprint() string { return ssh.FingerprintSHA256(p.Credential.PublicKey) }

// Enrolment finds the entry by which the key was enrolled: the statement's id, and what vouching for it signs.
func (p *Person) Enrolment() (id string, signed statement.Hash) {
	p.CA.T.Helper()
	for _, e := range p.CA.Entries() {
		if _, ok := e.Facts.(*ledger.KeyEnrolled); ok && e.Subject.Key == p.Fingerprint() {
			var st statement.Enrolment
			Must(p.CA.T, statement.Parse([]byte(e.Statement), &st))
			return st.ID, statement.SignedHash(e.Statement, e.SSHSIG)
		}
	}
	return "0000000000000000", sha256.Sum256([]byte("of nobody"))
}

// Vouch says yes to another key.
func (p *Person) Vouch(q *Person) (*api.ApprovalState, error) {
	id, signed := q.Enrolment()
	return p.SignVerdict(api.ApprovalAsk{About: statement.AboutEnrolment, Of: id, Hash: signed, Verdict: statement.Approve})
}

// SignVerdict signs any approval.
func (p *Person) SignVerdict(q api.ApprovalAsk) (*api.ApprovalState, error) {
	q.Person = string(p.Name)
	ch, err := p.Client.Approve(context.Background(), q)
	if err != nil {
		return nil, err
	}
	return p.Client.SignApproval(context.Background(), ch.ID, api.Signed{SSHSIG: p.Sign(ch)})
}

// Found reads what there is to be founded, and signs it.
func (p *Person) Found() (*api.FoundingState, error) {
	cl, err := p.Pass()
	if err != nil {
		return nil, err
	}
	f, err := cl.Founding(context.Background())
	if err != nil {
		return nil, err
	}
	return p.SignFounding(api.FoundingAsk{Policy: f.Policy, Owners: f.Owners, Keys: f.Keys})
}

// SignFounding signs any.
func (p *Person) SignFounding(q api.FoundingAsk) (*api.FoundingState, error) {
	q.Person = string(p.Name)
	ch, err := p.Client.Found(context.Background(), q)
	if err != nil {
		return nil, err
	}
	return p.Client.SignFounding(context.Background(), ch.ID, api.Signed{SSHSIG: p.Sign(ch)})
}

// Renew has this key prove that it is there.
func (p *Person) Renew() (*api.RenewalState, error) { return p.Prove(p.Fingerprint()) }

// Prove is the same for a statement about any key.
func (p *Person) Prove(fingerprint string) (*api.RenewalState, error) {
	ch, err := p.Client.Renew(context.Background(), api.RenewalAsk{Person: string(p.Name), Key: fingerprint})
	if err != nil {
		return nil, err
	}
	return p.Client.SignRenewal(context.Background(), ch.ID, api.Signed{SSHSIG: p.Sign(ch)})
}

// Lose reports a key as lost, with this one.
func (p *Person) Lose(fingerprint, reason string) (*api.LossState, error) {
	ch, err := p.Client.Lose(context.Background(), api.LossAsk{Person: string(p.Name), Key: fingerprint, Reason: reason})
	if err != nil {
		return nil, err
	}
	return p.Client.SignLoss(context.Background(), ch.ID, api.Signed{SSHSIG: p.Sign(ch)})
}

// Founded enrols two keys of each person and has the owners found the site. It gives the first and the second key of each.
func (c *CA) Founded(people, owners []name.Person) (first, second map[name.Person]*Person) {
	c.T.Helper()
	first, second = map[name.Person]*Person{}, map[name.Person]*Person{}
	for _, p := range people {
		first[p], second[p] = c.EnrolKey(string(p), "desk"), c.EnrolKey(string(p), "safe")
	}
	for i, o := range owners {
		f, err := first[o].Found()
		Must(c.T, err)
		if f.Founded != (i == len(owners)-1) {
			c.T.Fatalf("after %s signed: founded %v, missing %v", o, f.Founded, f.Missing)
		}
	}
	return first, second
}

// Invite orders an invite, as an operator after the founding has to.
func (p *Person) Invite(person string) (api.Token, error) {
	secret := make([]byte, 32)
	rand.Read(secret)
	ch, err := p.Client.Order(context.Background(), api.OrderAsk{Person: string(p.Name), Act: statement.OrderInvitePerson, Target: person, Detail: sha256.Sum256(secret)})
	if err != nil {
		return api.Token{}, err
	}
	_, err = p.Client.SignOrder(context.Background(), ch.ID, api.SignedOrder{SSHSIG: p.Sign(ch)})
	return api.Token{Secret: base64.RawURLEncoding.EncodeToString(secret)}, err
}

// Invited has the operator invite a person, who enrols a key of that name. It counts for nothing yet.
func (p *Person) Invited(person, key string) *Person {
	p.CA.T.Helper()
	t, err := p.Invite(person)
	Must(p.CA.T, err)
	q := p.CA.Stranger(person)
	_, err = q.Spend(t, key)
	Must(p.CA.T, err)
	return q
}
