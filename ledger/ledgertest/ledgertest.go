// Package ledgertest makes whole ledgers for tests: every key is real, every statement signed, every certificate linted and
// issued, by the rules of the packages that the CA itself uses. It guarantees to a test that ledger.Verify finds nothing in what it made, until the test
// changes something. No shipped program links it.
package ledgertest

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"iter"
	"net/netip"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/mod/sumdb/note"

	"breakglass/internal/name"
	"breakglass/internal/softkey"
	"breakglass/internal/sshcert"
	"breakglass/internal/sshsig"
	"breakglass/internal/statement"
	"breakglass/ledger"
)

// Origin and application of every log here.
const (
	Origin      = "breakglass.test/demo"
	Application = "ssh:breakglass"
	// Source is where everybody comes from.
	Source = "203.0.113.9"
)

// Policy is the policy that the log adopts; nothing here evaluates it.
const Policy = `profile = "demo"

[site]
name = "test"
owners = ["alice"]
operators = ["alice", "bob"]
readers = ["bob"]

[people.alice]
[people.bob]

[hosts.web01]
address = ["127.0.0.1:22"]
host_keys = ["ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ5AobeHMSqrBgw1ztgTrX9OZTRDv0fzJPBNrmXHRTPm"]

[[rule]]
name = "test"
why = "test"
who = ["alice"]
hosts = ["web01"]
logins = ["root"]
minutes = 30
`

// Log is a ledger being written. Its clock is Now, which tests move.
type Log struct {
	T                           testing.TB
	Now                         time.Time
	VKey                        string
	Site                        ledger.Site
	ClientCA, SessionCA, HostCA ssh.Signer
	Tree                        *ledger.Memory
	Entries                     [][]byte

	// Slack is how far session certificates reach, where it is more than usual; the entries don't say it.
	Slack time.Duration

	// Through gives the via of sessions that are opened; nil: they have none.
	Through func(g *Grant, key ssh.PublicKey) *ledger.SessionVia

	signer  note.Signer
	policy  statement.Hash
	text    string // of the policy
	pieces  map[statement.Hash]bool
	ids     int
	waiting map[name.RequestID]*Waiting
	set     int64                 // the last recipients.changed
	holders map[string]ssh.Signer // of passes
}

// NewKey makes an ed25519 key.
func NewKey(t testing.TB) ssh.Signer {
	t.Helper()
	_, priv, err := ed25519.GenerateKey(rand.Reader)
	must(t, err)
	s, err := ssh.NewSignerFromKey(priv)
	must(t, err)
	return s
}

// Line is a public key or certificate in authorized_keys form, without comment and line feed.
func Line(k ssh.PublicKey) string { return strings.TrimSpace(string(ssh.MarshalAuthorizedKey(k))) }

// New begins a log: site, policy, founding.
func New(t testing.TB) *Log {
	t.Helper()
	l := begin(t, "demo", Policy)
	l.Append(&ledger.Entry{Actor: ledger.ActorRoot, Facts: &ledger.Founding{Policy: l.policy, Owners: []name.Person{"alice"}, Keys: []string{}, How: "demo"}})
	return l
}

func begin(t testing.TB, profile, policy string) *Log {
	t.Helper()
	l := &Log{T: t, Now: time.Date(2026, 11, 24, 3, 0, 0, 0, time.UTC), Tree: &ledger.Memory{},
		ClientCA: NewKey(t), SessionCA: NewKey(t), HostCA: NewKey(t)}
	skey, vkey, err := ledger.GenerateKey(Origin)
	must(t, err)
	l.signer, err = ledger.NewSigner(skey)
	must(t, err)
	l.VKey = vkey
	l.Site = ledger.Site{Name: "test", Profile: profile, Origin: Origin, Epoch: 1, LedgerKey: vkey,
		ClientCA: []string{Line(l.ClientCA.PublicKey())}, SessionCA: []string{Line(l.SessionCA.PublicKey())}, HostCA: []string{Line(l.HostCA.PublicKey())},
		TLS: []string{hex.EncodeToString(make([]byte, 32))}, Addresses: []string{"127.0.0.1:8443"}, Jumps: []ledger.SiteJump{}}
	l.Append(&ledger.Entry{Actor: ledger.ActorRoot, Facts: &ledger.SiteCreated{Site: l.Site}})
	l.policy, l.text, l.pieces = sha256.Sum256([]byte(policy)), policy, map[statement.Hash]bool{}
	l.Append(&ledger.Entry{Actor: ledger.ActorRoot, Facts: &ledger.PolicyAdopted{SHA256: l.policy, Text: policy, How: "init"}})
	return l
}

// Append adds an entry, dated now.
func (l *Log) Append(e *ledger.Entry) int64 {
	l.T.Helper()
	e.Time = ledger.At(l.Now)
	raw, err := ledger.Encode(e)
	must(l.T, err)
	return l.AppendRaw(raw)
}

// AppendRaw adds bytes as they are.
func (l *Log) AppendRaw(raw []byte) int64 {
	l.T.Helper()
	must(l.T, l.Tree.Append(raw))
	l.Entries = append(l.Entries, raw)
	return int64(len(l.Entries)) - 1
}

// Checkpoint is the signed head of all entries.
func (l *Log) Checkpoint() string {
	l.T.Helper()
	p := l.Pin()
	s, err := ledger.Checkpoint{Origin: Origin, Size: p.Size, Root: p.Root}.Sign(l.signer)
	must(l.T, err)
	return s
}

// Pin is the head as statements name it.
func (l *Log) Pin() statement.Checkpoint {
	l.T.Helper()
	p, err := l.Tree.Checkpoint(l.Tree.Size())
	must(l.T, err)
	return p
}

// All gives the entries as Verify wants them.
func All(entries [][]byte) iter.Seq2[[]byte, error] {
	return func(yield func([]byte, error) bool) {
		for _, e := range entries {
			if !yield(e, nil) {
				return
			}
		}
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func marshal(t testing.TB, st statement.Statement) string {
	t.Helper()
	b, err := statement.Marshal(st)
	must(t, err)
	return string(b)
}

// Sign signs a statement and gives both texts.
func Sign(t testing.TB, s ssh.Signer, st statement.Statement) (text, armored string) {
	t.Helper()
	text = marshal(t, st)
	sig, err := sshsig.Sign(s, st.Kind().Namespace(), []byte(text))
	must(t, err)
	return text, string(sig.Armor())
}

// Person holds a software key.
type Person struct {
	Name        name.Person
	Signer      ssh.Signer                                          // gives sk-ecdsa signatures with touch and PIN
	Silent      func(st statement.Statement) (text, armored string) // without touch
	TouchOnly   func(st statement.Statement) (text, armored string) // without PIN
	Fingerprint string
}

// Touch reads what a signature proved.
func (l *Log) Touch(p *Person, armored string) ledger.Touch {
	l.T.Helper()
	sig, err := sshsig.Parse([]byte(armored))
	must(l.T, err)
	t, err := sig.Touch()
	must(l.T, err)
	return ledger.Touch{Key: p.Fingerprint, Flags: t.Flags, Counter: t.Counter}
}

// Enrol invites a person and enrols a key.
func (l *Log) Enrol(p name.Person) *Person {
	l.T.Helper()
	return l.enrol(p, softkey.Config{PIN: "1234"}, []byte("challenge"), func(f *ledger.KeyEnrolled) { f.Software = true })
}

// enrol has a key of that configuration, whose PIN is 1234, enrolled; finish completes what the CA says of it.
func (l *Log) enrol(p name.Person, cfg softkey.Config, challenge []byte, finish func(*ledger.KeyEnrolled)) *Person {
	l.T.Helper()
	key, err := softkey.NewAuthenticator(cfg)
	must(l.T, err)
	must(l.T, key.VerifyPIN("1234"))
	cred, err := key.Enroll(Application, challenge, true)
	must(l.T, err)
	q := &Person{Name: p, Signer: key.Signer(cred.PublicKey, Application, cred.CredentialID, true), Fingerprint: ssh.FingerprintSHA256(cred.PublicKey)}
	q.Silent = func(st statement.Statement) (string, string) {
		text := marshal(l.T, st)
		inner, err := key.SignSilently(Application, sshsig.SignedData(st.Kind().Namespace(), []byte(text)), cred.CredentialID)
		must(l.T, err)
		sig := &sshsig.Signature{PublicKey: cred.PublicKey, Namespace: st.Kind().Namespace(), Inner: *inner}
		return text, string(sig.Armor())
	}
	bare := key.Signer(cred.PublicKey, Application, cred.CredentialID, false)
	q.TouchOnly = func(st statement.Statement) (string, string) { return Sign(l.T, bare, st) }
	invite := statement.Hash(sha256.Sum256([]byte("invite of " + p)))
	l.Append(&ledger.Entry{Actor: ledger.ActorRoot, Subject: ledger.Subject{Person: p},
		Facts: &ledger.InviteCreated{Invite: invite, For: "person", Name: string(p), Expires: ledger.At(l.Now.Add(24 * time.Hour))}})
	text, sig := Sign(l.T, q.Signer, &statement.Enrolment{Origin: Origin, Epoch: 1, Checkpoint: l.Pin(), ID: "e-" + string(p), Nonce: statement.NewNonce(),
		Issued: l.Now, Expires: l.Now.Add(statement.Validity), Person: p, Key: "soft", PublicKey: Line(cred.PublicKey),
		Credential: sha256.Sum256(cred.CredentialID), Attestation: sha256.Sum256(cred.AuthData), Invite: invite})
	t := l.Touch(q, sig)
	f := &ledger.KeyEnrolled{Name: "soft", PublicKey: Line(cred.PublicKey), CredentialID: cred.CredentialID, Application: Application,
		Counter: t.Counter, Flags: t.Flags, Invite: invite,
		Attestation: &ledger.Attestation{Format: cred.Format, Challenge: challenge, AuthData: cred.AuthData, Cert: cred.Cert, Signature: cred.Signature}}
	finish(f)
	l.Append(&ledger.Entry{Actor: ledger.PersonActor(p), Subject: ledger.Subject{Person: p, Key: q.Fingerprint}, Statement: text, SSHSIG: sig, Facts: f})
	return q
}

// Jump is a joined jump; it counts its facts.
type Jump struct {
	Name     name.Jump
	Key      ssh.Signer
	Number   int64
	Previous statement.Hash
}

// Join invites a jump and lets it join.
func (l *Log) Join(j name.Jump) *Jump {
	l.T.Helper()
	out := &Jump{Name: j, Key: NewKey(l.T)}
	invite := statement.Hash(sha256.Sum256([]byte("invite of jump " + j)))
	l.Append(&ledger.Entry{Actor: ledger.ActorRoot, Subject: ledger.Subject{Jump: j},
		Facts: &ledger.InviteCreated{Invite: invite, For: "jump", Name: string(j), Expires: ledger.At(l.Now.Add(24 * time.Hour))}})
	sj := ledger.SiteJump{Name: j, Addresses: []string{"127.0.0.1:2222"}, Source: []string{"127.0.0.1"}, Key: Line(out.Key.PublicKey()), HostKey: Line(NewKey(l.T).PublicKey())}
	l.Append(&ledger.Entry{Actor: ledger.JumpActor(j), Subject: ledger.Subject{Jump: j}, Facts: &ledger.JumpJoined{Jump: sj, Invite: invite}})
	l.Site.Jumps = append(l.Site.Jumps, sj)
	l.Append(&ledger.Entry{Actor: ledger.ActorCA, Facts: &ledger.SiteChanged{Site: l.Site, Why: "jump " + string(j) + " joined"}})
	return out
}

// Recipient adds an age recipient of a person.
func (l *Log) Recipient(p *Person, age string) {
	l.T.Helper()
	text, sig := Sign(l.T, p.Signer, &statement.Recipient{Origin: Origin, Epoch: 1, Checkpoint: l.Pin(), ID: "r-" + string(p.Name), Nonce: statement.NewNonce(),
		Issued: l.Now, Expires: l.Now.Add(statement.Validity), Person: p.Name, Age: age, Sealed: "passphrase"})
	l.Append(&ledger.Entry{Actor: ledger.PersonActor(p.Name), Subject: ledger.Subject{Person: p.Name, Key: p.Fingerprint}, Statement: text, SSHSIG: sig,
		Facts: &ledger.RecipientAdded{Age: age, Sealed: "passphrase"}})
}

// Pass grants a pass and gives its id.
func (l *Log) Pass(p *Person) string {
	l.T.Helper()
	l.ids++
	key := NewKey(l.T)
	id, holder, until := fmt.Sprintf("p-%d", l.ids), Line(key.PublicKey()), l.Now.Add(15*time.Minute)
	if l.holders == nil {
		l.holders = map[string]ssh.Signer{}
	}
	l.holders[id] = key
	text, sig := Sign(l.T, p.Signer, &statement.Pass{Origin: Origin, Epoch: 1, Checkpoint: l.Pin(), ID: id, Nonce: statement.NewNonce(),
		Issued: l.Now, Expires: l.Now.Add(statement.Validity), Person: p.Name, Holder: holder, Until: until, Sources: []string{Source}})
	l.Append(&ledger.Entry{Actor: ledger.PersonActor(p.Name), Subject: ledger.Subject{Person: p.Name, Key: p.Fingerprint}, Statement: text, SSHSIG: sig,
		Facts: &ledger.PassGranted{Pass: id, Holder: holder, Until: ledger.At(until), Sources: []string{Source}, Touch: l.Touch(p, sig)}})
	return id
}

// Grant is an allowed request with its client key and certificate.
type Grant struct {
	Statement   statement.Request
	Subject     ledger.Subject
	Key         ssh.Signer
	Certificate *ssh.Certificate
	Until       time.Time
	Used        ledger.Used
	Sessions    int
}

// Request is an unsigned request of p for root on web01.
func (l *Log) Request(p *Person, key ssh.PublicKey) *statement.Request {
	return &statement.Request{Origin: Origin, Epoch: 1, Checkpoint: l.Pin(), ID: name.NewRequestID(), Request: statement.RequestNew, Nonce: statement.NewNonce(),
		Issued: l.Now, Expires: l.Now.Add(statement.Validity), Person: p.Name, Login: "root", Host: "web01", Minutes: 30, Reason: "web01 serves 500, INC-4711",
		Policy: l.policy, ClientKey: ssh.FingerprintSHA256(key), Sources: []string{Source}}
}

// Grant lets p in: request.opened, grant.allowed, certificate.issued. change, if not nil, edits the statement before it is signed.
func (l *Log) Grant(p *Person, change func(*statement.Request)) *Grant {
	l.T.Helper()
	g := &Grant{Key: NewKey(l.T)}
	st := l.Request(p, g.Key.PublicKey())
	if change != nil {
		change(st)
	}
	text, sig := Sign(l.T, p.Signer, st)
	return l.GrantSigned(p, g, st, text, sig)
}

// GrantSigned goes on with a statement signed in some other way.
func (l *Log) GrantSigned(p *Person, g *Grant, st *statement.Request, text, sig string) *Grant {
	l.T.Helper()
	if g.Key == nil {
		g.Key = NewKey(l.T)
	}
	t := l.Touch(p, sig)
	g.Statement = *st
	g.Subject = ledger.Subject{Request: st.ID, Person: p.Name, Host: st.Host, Login: st.Login}
	g.Until = l.Now.Add(30 * time.Minute)
	g.Used = ledger.Used{Policy: l.policy, Addresses: []ledger.UsedAddress{{Address: Source, Country: "DE", Anonymous: "no"}}, Key: "live", Touch: t}
	l.Append(&ledger.Entry{Actor: ledger.PersonActor(p.Name), Subject: g.Subject, Statement: text, SSHSIG: sig, Facts: &ledger.RequestOpened{Touch: t}})
	l.Append(&ledger.Entry{Actor: ledger.ActorCA, Subject: g.Subject, Facts: &ledger.GrantAllowed{Rule: "test", Why: "test", Minutes: 30, Until: ledger.At(g.Until), Used: g.Used}})
	l.issue(g)
	return g
}

func (l *Log) sign(c *ssh.Certificate, k sshcert.Kind, ca ssh.Signer) *ssh.Certificate {
	l.T.Helper()
	lint, err := sshcert.Lint(c, k)
	must(l.T, err)
	out, err := lint.Sign(ca)
	must(l.T, err)
	return out
}

func issued(c *ssh.Certificate, k sshcert.Kind) *ledger.CertificateIssued {
	return &ledger.CertificateIssued{Kind: string(k), Serial: c.Serial, KeyID: c.KeyId, CA: ssh.FingerprintSHA256(c.SignatureKey),
		Until: ledger.At(time.Unix(int64(c.ValidBefore), 0)), Certificate: Line(c)}
}

// Session is an opened session.
type Session struct {
	ID      name.SessionID
	Subject ledger.Subject
	Index   int64
	Entry   []byte
}

// Open lets j open a session under g, sealed to the recipients of readers.
func (l *Log) Open(g *Grant, j *Jump, recipients []string, readers []name.Person) *Session {
	l.T.Helper()
	g.Sessions++
	s := &Session{ID: g.Statement.ID.Session(g.Sessions), Subject: g.Subject}
	s.Subject.Session, s.Subject.Jump = s.ID, j.Name
	key := NewKey(l.T)
	crt := l.sign(sshcert.NewSession(key.PublicKey(), g.Statement.Person, sshcert.Grant{Request: g.Statement.ID, Login: g.Statement.Login, Host: g.Statement.Host},
		[]netip.Addr{netip.MustParseAddr("127.0.0.1")}, false, l.Now, max(l.Slack, sshcert.SessionSlack)), sshcert.Session, l.SessionCA)
	text, sig := Sign(l.T, j.Key, &statement.Session{Origin: Origin, Jump: j.Name, Issued: l.Now, Nonce: statement.NewNonce(), Certificate: Line(g.Certificate),
		Login: g.Statement.Login, Host: g.Statement.Host, Peer: Source, SSHSession: strings.Repeat("ab", 32), Key: Line(key.PublicKey()),
		Journal: statement.Checkpoint{Size: j.Number, Root: j.Previous}, Door: "preamble"})
	var via *ledger.SessionVia
	if l.Through != nil {
		via = l.Through(g, key.PublicKey())
	}
	s.Index = l.Append(&ledger.Entry{Actor: ledger.JumpActor(j.Name), Subject: s.Subject, Statement: text, SSHSIG: sig,
		Facts: &ledger.SessionOpened{Door: "preamble", Peer: Source, SSHSession: strings.Repeat("ab", 32), Serial: g.Certificate.Serial, Key: Line(key.PublicKey()),
			Certificate: Line(crt), Via: via, Addresses: []string{"127.0.0.1:22"}, HostKeys: []string{Line(NewKey(l.T).PublicKey())}, Until: ledger.At(g.Until),
			IdleSeconds: 900, Recipients: recipients, Readers: readers, Set: l.set, Policy: l.policy, Rule: "test", Used: g.Used}})
	s.Entry = l.Entries[s.Index]
	return s
}

// Fact lets j report of a session (or of itself, with a zero subject).
func (l *Log) Fact(j *Jump, sub ledger.Subject, f ledger.Facts) int64 {
	l.T.Helper()
	body, err := json.Marshal(f)
	must(l.T, err)
	text, sig := Sign(l.T, j.Key, &statement.Fact{Origin: Origin, Machine: string(j.Name), Number: j.Number + 1, Previous: j.Previous, Time: l.Now,
		Type: string(f.EntryType()), Session: sub.Session, Body: string(body)})
	j.Number++
	j.Previous = sha256.Sum256([]byte(text))
	return l.Append(&ledger.Entry{Actor: ledger.JumpActor(j.Name), Subject: sub, Statement: text, SSHSIG: sig, Facts: f})
}

// Prove is the inclusion proof of an entry to the head of all.
func (l *Log) Prove(index int64) []statement.Hash {
	l.T.Helper()
	p, err := ledger.ProveInclusion(l.Tree.Size(), index, l.Tree)
	must(l.T, err)
	return p
}
