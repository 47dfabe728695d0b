package ca_test

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"

	"filippo.io/age"

	"breakglass/ca/api"
	"breakglass/ca/catest"
	"breakglass/ca/state"
	"breakglass/internal/statement"
	"breakglass/ledger"
)

// fault stands in the place of the ledger's commits.
type fault struct{ mode atomic.Int32 }

const (
	healthy   = iota
	lost      // the commit fails and did not persist
	persisted // the commit persists and is reported as failed
)

var errFault = errors.New("input/output error, says the test")

func (f *fault) commit(commit func() error) error {
	switch f.mode.Load() {
	case lost:
		return errFault
	case persisted:
		if err := commit(); err != nil {
			return err
		}
		return errFault
	}
	return commit()
}

// during runs fn while commits fail.
func (f *fault) during(mode int32, fn func() error) error {
	f.mode.Store(mode)
	defer f.mode.Store(healthy)
	return fn()
}

// faulty is a CA whose commits can be made to fail, with all that the steps need.
type faulty struct {
	*catest.CA
	t          *testing.T
	fault      fault
	clock      clock
	n          int // makes names that are new
	alice, bob *catest.Person
	jump       *catest.Jump
	town       *town // of newFaultyTown
}

func newFaulty(t *testing.T) *faulty {
	s := &faulty{t: t}
	s.CA = catest.New(t, catest.Config{Policy: faultyPolicy, Limits: many, Commit: s.fault.commit, Now: s.clock.now})
	s.alice, s.bob, s.jump = s.Enrol("alice"), s.Enrol("bob"), s.Join("jump-a")
	_, err := s.bob.Recipient(s.age())
	catest.Must(t, err)
	return s
}

func (s *faulty) age() string {
	id, err := age.GenerateX25519Identity()
	catest.Must(s.t, err)
	return id.Recipient().String()
}

func (s *faulty) count(typ ledger.Type) (n int) {
	for _, e := range s.Entries() {
		if e.Type() == typ {
			n++
		}
	}
	return n
}

// attempt is one try at something gated: act is its last call, the one that records and then acts. stood, where it is set, is how whoever
// asked finds out that it stands.
type attempt struct {
	act   func() error
	stood func() error
}

var ctx = context.Background()

// gate is something gated and the entry that stands for it. begin does all that comes before the last call.
type gate struct {
	name  string
	typ   ledger.Type
	begin func(*faulty) attempt
	// again: the same act may be sent again as it is, and counts once.
	again bool
}

// gated lists what goes through the gate of a CA as catest makes it; faults_people_test.go has what people do to keys, approvals and sites.
var gated = []gate{
	{"an invite", "invite.created", func(s *faulty) attempt {
		return attempt{act: func() error { _, err := s.Invite(ctx, api.ForPerson, "carol"); return err }}
	}, false},
	{"an enrolment", "key.enrolled", func(s *faulty) attempt {
		p := s.Stranger("carol")
		s.n++
		e, err := p.Client.Enrol(ctx, api.EnrolAsk{Invite: s.Token("carol").Secret, Key: fmt.Sprintf("key-%d", s.n)})
		catest.Must(s.t, err)
		cred, err := p.Key.Enroll(api.Application, e.Challenge, true)
		catest.Must(s.t, err)
		p.Credential = cred
		ch, err := p.Client.EnrolKey(ctx, e.ID, api.EnrolKey{PublicKey: catest.Line(cred.PublicKey), CredentialID: cred.CredentialID,
			Format: cred.Format, AuthData: cred.AuthData, Cert: cred.Cert, Signature: cred.Signature})
		catest.Must(s.t, err)
		return attempt{act: func() error {
			_, err := p.Client.SignEnrolment(ctx, ch.ID, api.Signed{SSHSIG: p.Sign(ch)})
			return err
		}}
	}, false},
	{"a request", "certificate.issued", func(s *faulty) attempt {
		key := catest.NewKey(s.t)
		ch, err := s.alice.Client.Ask(ctx, s.alice.Want(key.PublicKey()))
		catest.Must(s.t, err)
		return attempt{
			act: func() error {
				g, err := s.alice.Client.SignRequest(ctx, ch.ID, api.Signed{SSHSIG: s.alice.Sign(ch)})
				if err != nil && g != nil {
					s.t.Errorf("an error and a certificate: %v", g.Certificate)
				}
				return err
			},
			stood: func() error {
				var r statement.Request
				if err := statement.Parse([]byte(ch.Statement), &r); err != nil {
					return err
				}
				st, err := s.Client(key).Request(ctx, r.ID)
				if err != nil {
					return err
				}
				if st.State != "allowed" || st.Granted == nil || st.Granted.Certificate == "" {
					return fmt.Errorf("its client key reads %+v", st)
				}
				return nil
			},
		}
	}, false},
	{"a refused request", "request.denied", func(s *faulty) attempt {
		q := s.bob.Want(catest.NewKey(s.t).PublicKey()) // no rule for bob
		ch, err := s.bob.Client.Ask(ctx, q)
		catest.Must(s.t, err)
		return attempt{act: func() error {
			_, err := s.bob.Client.SignRequest(ctx, ch.ID, api.Signed{SSHSIG: s.bob.Sign(ch)})
			if p := new(api.Problem); errors.As(err, &p) && p.Code == api.CodeDenied {
				return nil
			}
			return err
		}}
	}, false},
	{"a pass", "pass.granted", func(s *faulty) attempt {
		ch, err := s.bob.Client.Pass(ctx, api.PassAsk{Person: "bob", Holder: catest.Line(catest.NewKey(s.t).PublicKey())})
		catest.Must(s.t, err)
		return attempt{act: func() error {
			_, err := s.bob.Client.SignPass(ctx, ch.ID, api.Signed{SSHSIG: s.bob.Sign(ch)})
			return err
		}}
	}, false},
	{"a recipient", "recipient.added", func(s *faulty) attempt {
		ch, err := s.bob.Client.Recipient(ctx, api.RecipientAsk{Person: "bob", Age: s.age(), Sealed: "passphrase"})
		catest.Must(s.t, err)
		return attempt{act: func() error {
			_, err := s.bob.Client.SignRecipient(ctx, ch.ID, api.Signed{SSHSIG: s.bob.Sign(ch)})
			return err
		}}
	}, false},
	{"a join", "jump.joined", func(s *faulty) attempt {
		key, host := catest.NewKey(s.t), catest.NewKey(s.t)
		token := s.JumpToken("jump-a")
		return attempt{act: func() error {
			_, err := s.Client(nil).Join(ctx, &api.JoinAsk{Invite: token.Secret, Key: catest.Line(key.PublicKey()), HostKey: catest.Line(host.PublicKey()),
				Addresses: []string{"127.0.0.1:2222"}, Source: []string{"127.0.0.1"}})
			return err
		}}
	}, false},
	{"a session", "session.opened", func(s *faulty) attempt {
		g, err := s.alice.Request("root", "web01")
		catest.Must(s.t, err)
		q := s.jump.Question(g)
		return attempt{act: func() error { _, err := s.jump.Open(q); return err }}
	}, false},
	{"a fact of a jump", "strangers.summed", func(s *faulty) attempt {
		f := s.jump.Fact("strangers.summed", `{"from":"2026-01-01T00:00:00.000000Z","to":"2026-01-01T00:01:00.000000Z","counts":[]}`, "")
		return attempt{act: func() error {
			_, err := s.jump.Client.SendFacts(ctx, &api.FactsAsk{Facts: []api.SignedStatement{f}})
			return err
		}}
	}, true},
	{"a host certificate", "certificate.issued", func(s *faulty) attempt {
		return attempt{act: func() error { _, err := s.jump.Client.HostCerts(ctx, &api.HostCertsAsk{}); return err }}
	}, false},
	{"an approval", "approval.given", func(s *faulty) attempt {
		a, err := s.alice.Ask("root", "db01", nil)
		catest.Must(s.t, err)
		return attempt{act: func() error { _, err := s.bob.Verdict(a, statement.Approve, nil); return err }}
	}, false},
	{"an extension", "grant.extended", func(s *faulty) attempt {
		key := catest.NewKey(s.t)
		q := s.alice.Want(key.PublicKey())
		q.Minutes = 5
		g, err := s.alice.Signed(q)
		catest.Must(s.t, err)
		ch, err := s.alice.Client.Ask(ctx, catest.Again(q, statement.RequestExtend, g.ID, 20))
		catest.Must(s.t, err)
		return attempt{
			act: func() error {
				g, err := s.alice.Client.SignRequest(ctx, ch.ID, api.Signed{SSHSIG: s.alice.Sign(ch)})
				if err != nil && g != nil {
					s.t.Errorf("an error and a certificate: %v", g.Certificate)
				}
				return err
			},
			stood: func() error {
				st, err := s.Client(key).Request(ctx, g.ID)
				if err == nil && !st.Granted.Until.After(g.Until) {
					err = fmt.Errorf("its client key reads an end at %v", st.Granted.Until)
				}
				return err
			},
		}
	}, false},
	{"a revocation", "revoked", func(s *faulty) attempt {
		g, err := s.alice.Request("root", "web01")
		catest.Must(s.t, err)
		ch, err := s.alice.Client.Order(ctx, api.OrderAsk{Person: "alice", Act: statement.OrderRevokeGrant, Target: string(g.ID), Reason: "the laptop was stolen"})
		catest.Must(s.t, err)
		return attempt{act: func() error {
			_, err := s.alice.Client.SignOrder(ctx, ch.ID, api.SignedOrder{SSHSIG: s.alice.Sign(ch)})
			return err
		}}
	}, false},
}

// TestCommitFails: for each gated step, a commit that fails hands nothing out, and asking again works; one that persisted all the same stands
// in the ledger, is never written over, and whoever asked can find out.
func TestCommitFails(t *testing.T) { commitFails(t, newFaulty, gated) }

func commitFails(t *testing.T, start func(*testing.T) *faulty, gates []gate) {
	for _, g := range gates {
		for mode, what := range map[int32]string{lost: "did not persist", persisted: "persisted"} {
			t.Run(g.name+"/"+what, func(t *testing.T) { g.fails(t, start(t), mode) })
		}
	}
}

func (g gate) fails(t *testing.T, s *faulty, mode int32) {
	st := g.begin(s)
	started := len(s.Raw())
	before := s.count(g.typ)
	s.unknown(s.fault.during(mode, st.act))
	want := before
	if mode == persisted {
		want++
	}
	if n := s.count(g.typ); n != want {
		t.Fatalf("%d entries %s, want %d", n, g.typ, want)
	}
	if n := len(s.Raw()); mode == lost && n != started {
		t.Errorf("%d entries after a commit that did not persist, %d before", n, started)
	}
	// The writer goes on from what stands, not from what it thought.
	if g.again {
		catest.Must(t, st.act())
		want = before + 1
	} else {
		if mode == persisted && st.stood != nil {
			catest.Must(t, st.stood())
		}
		next := g.begin(s)
		want = s.count(g.typ) + 1 // its beginning may have left one of its own
		catest.Must(t, next.act())
	}
	if n := s.count(g.typ); n != want {
		t.Errorf("%d entries %s after asking again, want %d", n, g.typ, want)
	}
	s.Audit()
	s.Stop()
	s.Start()
	if n := s.count(g.typ); n != want {
		t.Errorf("%d entries %s after a start, want %d", n, g.typ, want)
	}
	if mode == persisted && st.stood != nil {
		catest.Must(t, st.stood())
	}
	s.Audit()
}

// unknown demands that whoever asked is told that it is not known whether it stands, and nothing else.
func (s *faulty) unknown(err error) {
	s.t.Helper()
	if p := new(api.Problem); errors.As(err, &p) && p.Code != api.CodeUnknown {
		s.t.Fatalf("the client reads %s: %v", p.Code, err)
	} else if !errors.As(err, &p) && !errors.Is(err, state.ErrUnknown) {
		s.t.Fatalf("got %v", err)
	}
}
