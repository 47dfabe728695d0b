package catest

import (
	"context"
	"crypto/sha256"

	"golang.org/x/crypto/ssh"

	"breakglass/ca/api"
	"breakglass/ca/api/client"
	"breakglass/internal/name"
	"breakglass/internal/softkey"
	"breakglass/internal/sshsig"
	"breakglass/internal/statement"
)

// PIN is every software key's.
const PIN = "123456"

// Person holds a software key.
type Person struct {
	CA         *CA
	Name       name.Person
	Key        *softkey.Authenticator
	Credential *softkey.Enrollment
	Client     *client.Client // signs no calls
}

// Enrol invites a person and enrols a software key.
func (c *CA) Enrol(person string) *Person {
	c.T.Helper()
	p := c.Stranger(person)
	_, err := p.Spend(c.Token(person), "soft")
	Must(c.T, err)
	return p
}

// Stranger has a key that is not enrolled.
func (c *CA) Stranger(person string) *Person {
	c.T.Helper()
	cfg := softkey.Config{PIN: PIN}
	if v := c.cfg.Vendor; v != nil {
		cfg = v.Key(PIN)
	}
	return c.With(person, cfg)
}

// With is Stranger with a key of that configuration, whose PIN is PIN.
func (c *CA) With(person string, cfg softkey.Config) *Person {
	c.T.Helper()
	key, err := softkey.NewAuthenticator(cfg)
	Must(c.T, err)
	Must(c.T, key.VerifyPIN(PIN))
	p := &Person{CA: c, Name: name.Person(person), Key: key, Client: c.Client(nil)}
	p.Credential, err = key.Enroll(api.Application, []byte("nobody asked"), true)
	Must(c.T, err)
	return p
}

// Spend enrols the person's key with a token, or fails as the CA does.
func (p *Person) Spend(t api.Token, keyName string) (*api.Enrolled, error) {
	return p.SpendWith(t, keyName, "")
}

// SpendWith is the same with a code of the person's other channel.
func (p *Person) SpendWith(t api.Token, keyName, code string) (*api.Enrolled, error) {
	ctx := context.Background()
	e, err := p.Client.Enrol(ctx, api.EnrolAsk{Invite: t.Secret, Key: keyName})
	if err != nil {
		return nil, err
	}
	cred, err := p.Key.Enroll(api.Application, e.Challenge, true)
	if err != nil {
		return nil, err
	}
	p.Credential = cred
	ch, err := p.Client.EnrolKey(ctx, e.ID, api.EnrolKey{PublicKey: Line(cred.PublicKey), CredentialID: cred.CredentialID,
		Format: cred.Format, AuthData: cred.AuthData, Cert: cred.Cert, Signature: cred.Signature})
	if err != nil {
		return nil, err
	}
	return p.Client.SignEnrolment(ctx, ch.ID, api.Signed{SSHSIG: p.Sign(ch), TOTP: code})
}

// Sign touches the key, with the PIN given, for the challenge as it stands.
func (p *Person) Sign(ch *api.Challenge) string { return p.SignText(ch.Statement, ch.Namespace, true) }

// SignText touches the key for any text.
func (p *Person) SignText(text, namespace string, pin bool) string {
	p.CA.T.Helper()
	sig, err := p.Key.SignSK(api.Application, sshsig.SignedData(namespace, []byte(text)), p.Credential.CredentialID, pin)
	Must(p.CA.T, err)
	return p.armor(sig, namespace)
}

// SignSilently signs without a touch.
func (p *Person) SignSilently(ch *api.Challenge) string {
	p.CA.T.Helper()
	sig, err := p.Key.SignSilently(api.Application, sshsig.SignedData(ch.Namespace, []byte(ch.Statement)), p.Credential.CredentialID)
	Must(p.CA.T, err)
	return p.armor(sig, ch.Namespace)
}

func (p *Person) armor(sig *ssh.Signature, namespace string) string {
	s := &sshsig.Signature{PublicKey: p.Credential.PublicKey, Namespace: namespace, Inner: *sig}
	return string(s.Armor())
}

// Want is an ask of root on web01; key is the client key.
func (p *Person) Want(key ssh.PublicKey) api.Ask {
	return api.Ask{Person: string(p.Name), Login: "root", Host: "web01", Reason: Reason, ClientKey: Line(key)}
}

// Grant is an allowed request with its client key.
type Grant struct {
	*api.Granted
	Key ssh.Signer
}

// Request asks for login@host and signs.
func (p *Person) Request(login, host string) (*Grant, error) {
	g := &Grant{Key: NewKey(p.CA.T)}
	q := p.Want(g.Key.PublicKey())
	q.Login, q.Host = login, host
	ch, err := p.Client.Ask(context.Background(), q)
	if err != nil {
		return nil, err
	}
	g.Granted, err = p.Client.SignRequest(context.Background(), ch.ID, api.Signed{SSHSIG: p.Sign(ch)})
	return g, err
}

// Pass is a client that reads under a new pass.
func (p *Person) Pass() (*client.Client, error) {
	holder := NewKey(p.CA.T)
	ch, err := p.Client.Pass(context.Background(), api.PassAsk{Person: string(p.Name), Holder: Line(holder.PublicKey())})
	if err != nil {
		return nil, err
	}
	if _, err := p.Client.SignPass(context.Background(), ch.ID, api.Signed{SSHSIG: p.Sign(ch)}); err != nil {
		return nil, err
	}
	return p.CA.Client(holder), nil
}

// Recipient records an age public key as the person's.
func (p *Person) Recipient(age string) (*api.RecipientState, error) {
	ch, err := p.Client.Recipient(context.Background(), api.RecipientAsk{Person: string(p.Name), Age: age, Sealed: "passphrase"})
	if err != nil {
		return nil, err
	}
	return p.Client.SignRecipient(context.Background(), ch.ID, api.Signed{SSHSIG: p.Sign(ch)})
}

// Jump has joined; it counts its facts.
type Jump struct {
	CA       *CA
	Name     name.Jump
	Key      ssh.Signer
	HostKey  ssh.Signer
	Client   *client.Client
	Number   int64
	Previous statement.Hash
}

// Join invites a jump and lets it join.
func (c *CA) Join(jump string) *Jump {
	c.T.Helper()
	return c.JoinWith(c.JumpToken(jump), jump)
}

// JoinWith lets it join with an invite.
func (c *CA) JoinWith(t api.Token, jump string) *Jump {
	c.T.Helper()
	j := &Jump{CA: c, Name: name.Jump(jump), Key: NewKey(c.T), HostKey: NewKey(c.T)}
	_, err := c.Client(nil).Join(context.Background(), &api.JoinAsk{Invite: t.Secret, Key: Line(j.Key.PublicKey()),
		HostKey: Line(j.HostKey.PublicKey()), Addresses: []string{"127.0.0.1:2222"}, Source: []string{"127.0.0.1"}})
	Must(c.T, err)
	j.Client = c.Client(j.Key)
	return j
}

// SignStatement signs a statement with the jump's key.
func (j *Jump) SignStatement(st statement.Statement) api.SignedStatement {
	j.CA.T.Helper()
	text, err := statement.Marshal(st)
	Must(j.CA.T, err)
	sig, err := sshsig.Sign(j.Key, st.Kind().Namespace(), text)
	Must(j.CA.T, err)
	return api.SignedStatement{Statement: string(text), SSHSIG: string(sig.Armor())}
}

// Question asks for a session under g as an honest jump would.
func (j *Jump) Question(g *Grant) *statement.Session {
	now := j.CA.now()
	return &statement.Session{Origin: j.CA.Pins.Site.Origin, Jump: j.Name, Issued: now, Nonce: statement.NewNonce(), Certificate: g.Certificate,
		Login: g.Login, Host: g.Host, Peer: "127.0.0.1", SSHSession: "0badc0de", Key: Line(NewKey(j.CA.T).PublicKey()),
		Journal: statement.Checkpoint{Size: j.Number, Root: j.Previous}, Door: "preamble"}
}

// Open asks for a session.
func (j *Jump) Open(q *statement.Session) (*api.SessionAnswer, error) {
	s := j.SignStatement(q)
	return j.Client.OpenSession(context.Background(), &s)
}

// Fact makes the jump's next fact; it counts as told when this returns.
func (j *Jump) Fact(typ, body string, session name.SessionID) api.SignedStatement {
	j.CA.T.Helper()
	s := j.SignStatement(&statement.Fact{Origin: j.CA.Pins.Site.Origin, Machine: string(j.Name), Number: j.Number + 1, Previous: j.Previous,
		Time: j.CA.now(), Type: typ, Session: session, Body: body})
	j.Number++
	j.Previous = sha256.Sum256([]byte(s.Statement))
	return s
}
