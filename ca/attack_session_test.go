package ca_test

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/crypto/ssh"

	"breakglass/ca/api"
	"breakglass/ca/catest"
	"breakglass/internal/name"
	"breakglass/internal/sshcert"
	"breakglass/internal/sshsig"
	"breakglass/internal/statement"
	"breakglass/ledger"
)

// raw makes a call with headers of its own.
func (a *arena) raw(method, path string, body []byte, change func(*http.Request)) error {
	r := httptest.NewRequest(method, path, bytes.NewReader(body))
	r.RemoteAddr = catest.Here
	change(r)
	w := httptest.NewRecorder()
	a.CA.CA.Handler().ServeHTTP(w, r)
	if w.Code < 300 {
		return nil
	}
	p := new(api.Problem)
	if err := json.Unmarshal(w.Body.Bytes(), p); err != nil {
		return fmt.Errorf("status %d: %s", w.Code, w.Body)
	}
	return p
}

func callHeaders(text []byte, armored string) func(*http.Request) {
	return func(r *http.Request) {
		r.Header.Set(api.HeaderCall, base64.StdEncoding.EncodeToString(text))
		r.Header.Set(api.HeaderSignature, base64.StdEncoding.EncodeToString([]byte(armored)))
	}
}

func emptyHash() statement.Hash { return sha256.Sum256(nil) }

// join spends a jump's token.
func (a *arena) join(secret, key, hostKey, source string) error {
	return a.Wire().Post("/v1/jumps", api.JoinAsk{Invite: secret, Key: key, HostKey: hostKey, Addresses: []string{"127.0.0.1:2222"}, Source: []string{source}}, new(api.JoinAnswer))
}

// question is an honest jump's about a live grant of alice's, with all that a session needs.
func (a *arena) question() (*catest.Jump, *catest.Grant, *statement.Session) {
	a.t.Helper()
	j := a.jump("jump-a")
	a.reader()
	g := a.grant(a.alice)
	return j, g, j.Question(g)
}

// open asks as the jump.
func (a *arena) open(j *catest.Jump, q *statement.Session) (*api.SessionAnswer, error) {
	out := new(api.SessionAnswer)
	s := j.SignStatement(q)
	return out, a.Wire().Post("/v1/sessions", s, out)
}

// recorded is a session of alice's whose recording is stored.
func (a *arena) recorded() name.SessionID {
	a.t.Helper()
	j, _, q := a.question()
	s, err := a.open(j, q)
	catest.Must(a.t, err)
	stream, envelope, head := record(a.t, a.Pins.Site.Origin, s)
	w := a.Wire().By(j.Key)
	path := "/v1/transcripts/" + s.Session.File()
	catest.Must(a.t, w.Do("PUT", path+"?offset=0", stream, new(any)))
	catest.Must(a.t, w.Do("PUT", path+"/envelope", envelope, nil))
	catest.Must(a.t, a.send(j, j.Fact("session.ended", body(a.t, &ledger.SessionEnded{Reason: "closed", Seconds: 1, Head: head, Envelope: sha256.Sum256(envelope)}), s.Session)))
	catest.Must(a.t, w.Post(path+"/finish", api.FinishAsk{Head: head, SHA256: sha256.Sum256(stream)}, nil))
	return s.Session
}

// send delivers facts as the jump.
func (a *arena) send(j *catest.Jump, facts ...api.SignedStatement) error {
	return a.Wire().By(j.Key).Post("/v1/facts", api.FactsAsk{Facts: facts}, new(api.FactsAnswer))
}

// stolen is the client CA's key, as who has the CA's disk has it.
func (a *arena) stolen() ssh.Signer {
	a.t.Helper()
	b, err := os.ReadFile(filepath.Join(a.Dir, "keys", "client_ca"))
	catest.Must(a.t, err)
	s, err := ssh.ParsePrivateKey(b)
	catest.Must(a.t, err)
	return s
}

// withoutRecord makes a client certificate for alice with the CA's own key, past the CA.
func (a *arena) withoutRecord(g sshcert.Grant) string {
	a.t.Helper()
	now := a.clock.now()
	c := sshcert.NewClient(catest.NewKey(a.t).PublicKey(), "alice", g, nil, now, now.Add(10*time.Minute))
	c.CriticalOptions[sshcert.OptionSourceAddress] = "127.0.0.1/32"
	catest.Must(a.t, c.SignCert(rand.Reader, a.stolen()))
	return catest.Line(c)
}

// refusedSession is the entry of a jump's question that was refused.
func refusedSession(who name.Person, reason string) []due {
	return []due{{"session.refused", who, reason}}
}

// sessionAttacks are a jump's, or of who would be one.
func sessionAttacks() []attack {
	// asked bends an honest question.
	asked := func(change func(*arena, *catest.Grant, *statement.Session)) func(*arena) error {
		return func(a *arena) error {
			j, g, q := a.question()
			change(a, g, q)
			a.begin()
			_, err := a.open(j, q)
			return err
		}
	}
	return []attack{
		{what: "a session for another login than the grant's", do: asked(func(_ *arena, _ *catest.Grant, q *statement.Session) { q.Login = "deploy" }),
			code: api.CodeSession, due: refusedSession("alice", "other_target")},
		{what: "a session on another host than the grant's", do: asked(func(_ *arena, _ *catest.Grant, q *statement.Session) { q.Host = "web02" }),
			code: api.CodeSession, due: refusedSession("alice", "other_target")},
		{what: "a session from another address than the certificate's", do: asked(func(_ *arena, _ *catest.Grant, q *statement.Session) { q.Peer = "127.0.0.2" }),
			code: api.CodeSession, due: refusedSession("alice", "other_address")},
		{what: "a session after the grant's end", do: func(a *arena) error {
			j, g, _ := a.question()
			a.clock.forward(31 * time.Minute)
			a.begin()
			_, err := a.open(j, j.Question(g))
			return err
		}, code: api.CodeSession, due: refusedSession("", "certificate")},
		{what: "a session with a certificate by a CA of the jump's own", do: asked(func(a *arena, g *catest.Grant, q *statement.Session) {
			q.Certificate = forge(a.t, catest.NewKey(a.t), sshcert.Grant{Request: g.ID, Login: "root", Host: "web01"}, a.clock.now())
		}), code: api.CodeSession, due: refusedSession("", "certificate")},
		{what: "a certificate made with the stolen key of the CA, for a grant that never was", do: asked(func(a *arena, _ *catest.Grant, q *statement.Session) {
			q.Certificate = a.withoutRecord(sshcert.Grant{Request: "aaa-bbb", Login: "root", Host: "web01"})
		}), code: api.CodeSession, due: refusedSession("alice", "certificate_unrecorded")},
		{what: "a certificate made with the stolen key of the CA, for a grant that is alive", do: asked(func(a *arena, g *catest.Grant, q *statement.Session) {
			q.Certificate = a.withoutRecord(sshcert.Grant{Request: g.ID, Login: "root", Host: "web01"})
		}), code: api.CodeSession, due: refusedSession("alice", "certificate_unrecorded")},
		{what: "a certificate made with the stolen key of the CA, for a live grant and another host", do: asked(func(a *arena, g *catest.Grant, q *statement.Session) {
			q.Host, q.Certificate = "db01", a.withoutRecord(sshcert.Grant{Request: g.ID, Login: "root", Host: "db01"})
		}), code: api.CodeSession, due: refusedSession("alice", "certificate_unrecorded")},
		{what: "a session certificate instead of a client certificate", do: func(a *arena) error {
			j, g, q := a.question()
			s, err := a.open(j, q)
			catest.Must(a.t, err)
			again := j.Question(g)
			again.Certificate = s.Opened.Certificate
			a.begin()
			_, err = a.open(j, again)
			return err
		}, code: api.CodeSession, due: refusedSession("", "certificate")},
		{what: "a host certificate instead of a client certificate", do: func(a *arena) error {
			j, g, _ := a.question()
			out := new(api.HostCertsAnswer)
			catest.Must(a.t, a.Wire().By(j.Key).Post("/v1/hostcerts", api.HostCertsAsk{}, out))
			q := j.Question(g)
			q.Certificate = out.Certificates[0]
			a.begin()
			_, err := a.open(j, q)
			return err
		}, code: api.CodeSession, due: refusedSession("", "certificate")},
		{what: "a question asked twice", do: func(a *arena) error {
			j, _, q := a.question()
			_, err := a.open(j, q)
			catest.Must(a.t, err)
			a.begin()
			_, err = a.open(j, q)
			return err
		}, code: api.CodeExpired},
		{what: "a question of yesterday", do: asked(func(_ *arena, _ *catest.Grant, q *statement.Session) { q.Issued = q.Issued.Add(-24 * time.Hour) }),
			code: "clock"},
		{what: "a question for another CA", do: asked(func(_ *arena, _ *catest.Grant, q *statement.Session) { q.Origin = "breakglass/demo/other" }),
			code: api.CodeRefused, sum: "unknown_jump"},
		{what: "a question in another jump's name", do: func(a *arena) error {
			b := a.jump("jump-b")
			_, g, _ := a.question()
			q := b.Question(g)
			q.Jump = "jump-a"
			a.begin()
			_, err := a.open(b, q)
			return err
		}, code: api.CodeRefused, sum: "unknown_jump"},
		{what: "a question by a jump that never joined", do: func(a *arena) error {
			_, g, _ := a.question()
			b := &catest.Jump{CA: a.CA, Name: "jump-b", Key: catest.NewKey(a.t)}
			a.begin()
			_, err := a.open(b, b.Question(g))
			return err
		}, code: api.CodeRefused, sum: "unknown_jump"},
		{what: "a question signed as a fact", do: func(a *arena) error {
			j, _, q := a.question()
			text, err := statement.Marshal(q)
			catest.Must(a.t, err)
			sig, err := sshsig.Sign(j.Key, statement.KindFact.Namespace(), text)
			catest.Must(a.t, err)
			a.begin()
			return a.Wire().Post("/v1/sessions", api.SignedStatement{Statement: string(text), SSHSIG: string(sig.Armor())}, new(api.SessionAnswer))
		}, code: api.CodeRefused, sum: "unknown_jump"},
		{what: "a question changed after the jump signed it", do: func(a *arena) error {
			j, _, q := a.question()
			s := j.SignStatement(q)
			s.Statement = changeLine(a, s.Statement, "host", "db01")
			a.begin()
			return a.Wire().Post("/v1/sessions", s, new(api.SessionAnswer))
		}, code: api.CodeRefused, sum: "unknown_jump"},
		{what: "a session while nobody could read its recording", do: func(a *arena) error {
			j, g := a.jump("jump-a"), a.grant(a.alice)
			a.begin()
			_, err := a.open(j, j.Question(g))
			return err
		}, code: api.CodeSession, due: refusedSession("alice", api.CodeNoRecipient)},
		{what: "a session under the grant of a key that was suspended since", do: func(a *arena) error {
			j, g, q := a.question()
			_ = g
			a.clock.forward(2 * time.Second)
			ch := a.askFor(a.alice, nil)
			if err := a.answer(requests, ch.ID, a.alice.bent(ch, func(b *catest.Bent) { b.Counter = 1 })); problem(a.t, err).Code != api.CodeLate {
				return err
			}
			a.begin()
			_, err := a.open(j, q)
			return err
		}, code: api.CodeSession, due: refusedSession("alice", "key_suspended"), shut: "her key is suspended"},

		{what: "facts delivered by a key that is no jump's", do: func(a *arena) error {
			j := a.jump("jump-a")
			f := j.Fact("strangers.summed", `{"from":"2026-01-01T00:00:00.000000Z","to":"2026-01-01T00:00:00.000000Z","counts":[]}`, "")
			a.begin()
			return a.Wire().By(catest.NewKey(a.t)).Post("/v1/facts", api.FactsAsk{Facts: []api.SignedStatement{f}}, nil)
		}, code: api.CodePass},
		{what: "a jump's fact delivered by another jump", do: func(a *arena) error {
			j, b := a.jump("jump-a"), a.jump("jump-b")
			f := j.Fact("strangers.summed", `{"from":"2026-01-01T00:00:00.000000Z","to":"2026-01-01T00:00:00.000000Z","counts":[]}`, "")
			a.begin()
			return a.send(b, f)
		}, code: api.CodeBadRequest},
		{what: "a fact that grants", do: func(a *arena) error {
			j := a.jump("jump-a")
			a.begin()
			return a.send(j, j.Fact("grant.allowed", "{}", ""))
		}, code: api.CodeBadRequest},
		{what: "a fact that enrols a key", do: func(a *arena) error {
			j := a.jump("jump-a")
			a.begin()
			return a.send(j, j.Fact("key.enrolled", "{}", ""))
		}, code: api.CodeBadRequest},
		{what: "a fact about another jump's session", do: func(a *arena) error {
			j, _, q := a.question()
			b := a.jump("jump-b")
			s, err := a.open(j, q)
			catest.Must(a.t, err)
			a.begin()
			return a.send(b, b.Fact("session.ended", body(a.t, &ledger.SessionEnded{Reason: "closed"}), s.Session))
		}, code: api.CodeBadRequest},
		{what: "a second end of a session", do: func(a *arena) error {
			j, _, q := a.question()
			s, err := a.open(j, q)
			catest.Must(a.t, err)
			end := body(a.t, &ledger.SessionEnded{Reason: "closed"})
			catest.Must(a.t, a.send(j, j.Fact("session.ended", end, s.Session)))
			a.begin()
			return a.send(j, j.Fact("session.ended", end, s.Session))
		}, code: api.CodeBadRequest},
		{what: "a fork of a jump's facts", do: func(a *arena) error {
			j := a.jump("jump-a")
			sum := `{"from":"2026-01-01T00:00:00.000000Z","to":"2026-01-01T00:00:00.000000Z","counts":[]}`
			catest.Must(a.t, a.send(j, j.Fact("strangers.summed", sum, "")))
			j.Previous = sha256.Sum256([]byte("another history"))
			a.begin()
			return a.send(j, j.Fact("strangers.summed", sum, ""))
		}, code: api.CodeConflict},
		{what: "another fact under a number that is there", do: func(a *arena) error {
			j := a.jump("jump-a")
			catest.Must(a.t, a.send(j, j.Fact("strangers.summed", `{"from":"2026-01-01T00:00:00.000000Z","to":"2026-01-01T00:00:00.000000Z","counts":[]}`, "")))
			j.Number, j.Previous = 0, statement.Hash{}
			a.begin()
			return a.send(j, j.Fact("strangers.summed", `{"from":"2026-01-01T00:00:00.000000Z","to":"2026-01-02T00:00:00.000000Z","counts":[]}`, ""))
		}, code: api.CodeConflict},
		{what: "a fact for another CA", do: func(a *arena) error {
			j := a.jump("jump-a")
			s := j.SignStatement(&statement.Fact{Origin: "breakglass/demo/other", Machine: "jump-a", Number: 1, Time: a.clock.now().UTC().Truncate(time.Second), Type: "strangers.summed",
				Body: `{"from":"2026-01-01T00:00:00.000000Z","to":"2026-01-01T00:00:00.000000Z","counts":[]}`})
			a.begin()
			return a.send(j, s)
		}, code: api.CodeBadRequest},

		{what: "a recording written by who is no jump", do: func(a *arena) error {
			j, g, q := a.question()
			s, err := a.open(j, q)
			catest.Must(a.t, err)
			a.begin()
			return a.Wire().By(g.Key).Do("PUT", "/v1/transcripts/"+s.Session.File()+"?offset=0", []byte("x"), nil)
		}, code: api.CodePass},
		{what: "a recording written by another jump", do: func(a *arena) error {
			j, _, q := a.question()
			b := a.jump("jump-b")
			s, err := a.open(j, q)
			catest.Must(a.t, err)
			a.begin()
			return a.Wire().By(b.Key).Do("PUT", "/v1/transcripts/"+s.Session.File()+"?offset=0", []byte("x"), nil)
		}, code: api.CodeNotFound},
		{what: "a recording finished with another head than the jump's fact tells", do: func(a *arena) error {
			j, _, q := a.question()
			s, err := a.open(j, q)
			catest.Must(a.t, err)
			stream, envelope, head := record(a.t, a.Pins.Site.Origin, s)
			w, path := a.Wire().By(j.Key), "/v1/transcripts/"+s.Session.File()
			catest.Must(a.t, w.Do("PUT", path+"?offset=0", stream, nil))
			catest.Must(a.t, w.Do("PUT", path+"/envelope", envelope, nil))
			catest.Must(a.t, a.send(j, j.Fact("session.ended", body(a.t, &ledger.SessionEnded{Reason: "closed", Head: head, Envelope: sha256.Sum256(envelope)}), s.Session)))
			head.Frames++
			a.begin()
			return w.Post(path+"/finish", api.FinishAsk{Head: head, SHA256: sha256.Sum256(stream)}, nil)
		}, code: api.CodeConflict},
		{what: "host certificates for a person's client key", do: func(a *arena) error {
			g := a.grant(a.alice)
			a.begin()
			return a.Wire().By(g.Key).Post("/v1/hostcerts", api.HostCertsAsk{}, nil)
		}, code: api.CodePass},
		{what: "a host certificate for a name that no live grant names", do: func(a *arena) error {
			j := a.jump("jump-a")
			a.begin()
			return a.Wire().By(j.Key).Post("/v1/hostcerts", api.HostCertsAsk{Host: "lb01"}, nil)
		}, code: api.CodeNotFound},
		{what: "a host certificate for a host that the policy does not know", do: func(a *arena) error {
			j := a.jump("jump-a")
			a.begin()
			return a.Wire().By(j.Key).Post("/v1/hostcerts", api.HostCertsAsk{Host: "github.com"}, nil)
		}, code: api.CodeNotFound},

		{what: "a jump's token used twice", do: func(a *arena) error {
			t := a.JumpToken("jump-a").Secret
			catest.Must(a.t, a.join(t, catest.Line(catest.NewKey(a.t).PublicKey()), catest.Line(catest.NewKey(a.t).PublicKey()), "127.0.0.1"))
			a.begin()
			return a.join(t, catest.Line(catest.NewKey(a.t).PublicKey()), catest.Line(catest.NewKey(a.t).PublicKey()), "127.0.0.1")
		}, code: api.CodeInvite, sum: "invite_refused"},
		{what: "a jump that joins with another jump's key", do: func(a *arena) error {
			j, t := a.jump("jump-a"), a.JumpToken("jump-b").Secret
			a.begin()
			return a.join(t, catest.Line(j.Key.PublicKey()), catest.Line(catest.NewKey(a.t).PublicKey()), "127.0.0.1")
		}, code: api.CodeConflict},
		{what: "a jump that joins as a source that the policy does not give it", do: func(a *arena) error {
			t := a.JumpToken("jump-a").Secret
			a.begin()
			return a.join(t, catest.Line(catest.NewKey(a.t).PublicKey()), catest.Line(catest.NewKey(a.t).PublicKey()), "10.9.9.9")
		}, code: api.CodeInvite, sum: "invite_refused"},
		{what: "a jump that joins with alice's hardware key", do: func(a *arena) error {
			t := a.JumpToken("jump-a").Secret
			a.begin()
			return a.join(t, catest.Line(a.alice.Public()), catest.Line(catest.NewKey(a.t).PublicKey()), "127.0.0.1")
		}, code: api.CodeBadRequest},
	}
}
