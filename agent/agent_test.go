package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/crypto/ssh"

	"breakglass/agent/background"
	"breakglass/agent/home"
	"breakglass/agent/keys"
	"breakglass/ca/api"
	"breakglass/ca/api/client"
	"breakglass/internal/name"
	"breakglass/internal/softkey"
	"breakglass/internal/sshcert"
	"breakglass/internal/sshsig"
	"breakglass/internal/statement"
)

// fakeCA answers as the CA does, and can be told to misbehave.
type fakeCA struct {
	CA
	t     *testing.T
	key   ssh.Signer // client CA
	asked []api.Ask
	bend  func(*statement.Request)
	lose  bool // the answer to the signature doesn't arrive
	kept  *api.Granted
	st    *statement.Request
	pub   ssh.PublicKey
	hand  api.KeyHandle

	tokens int // given out by Seen, if families
	dual   bool
}

func (f *fakeCA) Ask(_ context.Context, q api.Ask) (*api.Challenge, error) {
	f.asked = append(f.asked, q)
	var err error
	if f.pub, _, _, _, err = ssh.ParseAuthorizedKey([]byte(q.ClientKey)); err != nil {
		f.t.Fatal(err)
	}
	f.st = honest(f.pub)
	f.st.Nonce = statement.NewNonce()
	if f.bend != nil {
		f.bend(f.st)
	}
	ch := challenge(f.t, f.st, "k7f-2mq")
	ch.Keys = []api.KeyHandle{f.hand}
	return ch, nil
}

// Seen is that of a CA with one family of addresses, or two.
func (f *fakeCA) Seen(context.Context, string) []api.Seen {
	if !f.dual {
		return nil
	}
	f.tokens++
	return []api.Seen{{Address: "2001:db8::7", Token: fmt.Sprintf("token %d", f.tokens)}}
}

func (f *fakeCA) SignRequest(_ context.Context, id string, s api.Signed) (*api.Granted, error) {
	text, err := statement.Marshal(f.st)
	if err != nil {
		f.t.Fatal(err)
	}
	sig, err := sshsig.Parse([]byte(s.SSHSIG))
	if err == nil {
		pub, _, _, _, _ := ssh.ParseAuthorizedKey([]byte(f.hand.PublicKey))
		err = sig.Verify(pub, statement.KindRequest.Namespace(), text)
	}
	if err != nil {
		return nil, &api.Problem{Status: 403, Code: api.CodeRefused, Detail: err.Error()}
	}
	until := f.st.Issued.Add(30 * time.Minute)
	l, err := sshcert.Lint(sshcert.NewClient(f.pub, "alice", sshcert.Grant{Request: f.st.ID, Login: "root", Host: "web01"},
		[]netip.Addr{netip.MustParseAddr("198.51.100.7")}, f.st.Issued, until), sshcert.Client)
	if err != nil {
		f.t.Fatal(err)
	}
	cert, err := l.Sign(f.key)
	if err != nil {
		f.t.Fatal(err)
	}
	f.kept = &api.Granted{ID: f.st.ID, Person: "alice", Login: "root", Host: "web01", Certificate: authorized(cert), Rule: "oncall-web",
		Minutes: 30, Until: until, Forwards: f.st.Forwards}
	if f.lose {
		return nil, client.ErrUnreachable
	}
	return f.kept, nil
}

// memorySigner is a security key in memory that counts what it signed.
type memorySigner struct {
	auth  *softkey.Authenticator
	cred  []byte
	pub   ssh.PublicKey
	count int
	slow  int // this many times the statement ends before the touch
}

func (m *memorySigner) Sign(ctx context.Context, st []byte, ns string, _ []api.KeyHandle) (*sshsig.Signature, error) {
	m.count++
	if m.slow > 0 {
		m.slow--
		<-ctx.Done()
		return nil, keys.ErrRefused
	}
	sig, err := m.auth.SignSK(api.Application, sshsig.SignedData(ns, st), m.cred, true)
	if err != nil {
		return nil, err
	}
	return &sshsig.Signature{PublicKey: m.pub, Namespace: ns, Inner: *sig}, nil
}

func newFixture(t *testing.T) (*Agent, *fakeCA, *memorySigner, *background.Client) {
	t.Helper()
	dir, err := os.MkdirTemp("", "bg")
	if err != nil {
		t.Fatal(err)
	}
	h := home.Home{Config: filepath.Join(dir, "config"), Run: filepath.Join(dir, "run")}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	bg := &background.Client{Home: h, Start: func(home.Home) error {
		running.Go(func() { background.Run(ctx, background.Config{Home: h, Log: slog.New(slog.DiscardHandler)}) })
		return nil
	}}
	t.Cleanup(func() { cancel(); running.Wait(); os.RemoveAll(dir) })
	auth, err := softkey.NewAuthenticator(softkey.Config{})
	if err != nil {
		t.Fatal(err)
	}
	e, err := auth.Enroll(api.Application, []byte("challenge"), true)
	if err != nil {
		t.Fatal(err)
	}
	m := &memorySigner{auth: auth, cred: e.CredentialID, pub: e.PublicKey}
	f := &fakeCA{t: t, key: newKey(t), hand: api.KeyHandle{Name: "yubi-desk", PublicKey: authorized(e.PublicKey), CredentialID: e.CredentialID, Application: api.Application}}
	s := seen
	s.Site.ClientCA = []string{authorized(f.key.PublicKey())}
	a := New(Config{CA: f, Signer: m, Keys: bg, Seen: func() Seen { return s }})
	return a, f, m, bg
}

func TestARequestEndsInAGrantThatSSHFinds(t *testing.T) {
	a, f, m, bg := newFixture(t)
	g, err := a.Request(t.Context(), want)
	if err != nil {
		t.Fatal(err)
	}
	if g.Left != 30*time.Minute || m.count != 1 || f.asked[0].Host != "web01" {
		t.Errorf("left %v, %d touches, asked %+v", g.Left, m.count, f.asked)
	}
	if live, err := bg.Live(t.Context(), "root", "web01", time.Minute); err != nil || live == nil || live.Socket != g.Socket {
		t.Errorf("live %+v, %v", live, err)
	}
}

// TestALyingCAGetsNoSignature: the key isn't even asked, and no key stays behind.
func TestALyingCAGetsNoSignature(t *testing.T) {
	a, f, m, bg := newFixture(t)
	f.bend = func(s *statement.Request) { s.Host = "db01" }
	if _, err := a.Request(t.Context(), want); !errors.Is(err, ErrStatement) {
		t.Errorf("%v", err)
	}
	if m.count != 0 {
		t.Error("the key was asked")
	}
	if gs, _, err := bg.Grants(t.Context()); err != nil || len(gs) != 0 {
		t.Errorf("%+v, %v", gs, err)
	}
}

// TestAnAnswerThatIsLostIsAskedFor: the touch was given once.
func TestAnAnswerThatIsLostIsAskedFor(t *testing.T) {
	a, f, m, _ := newFixture(t)
	f.lose = true
	if _, err := a.Request(t.Context(), want); !errors.Is(err, client.ErrUnreachable) {
		t.Errorf("without a way to ask: %v", err)
	}
	m.count = 0
	a.cfg.State = func(_ context.Context, s ssh.Signer, id name.RequestID) (*api.RequestState, error) {
		if id != "k7f-2mq" || string(s.PublicKey().Marshal()) != string(f.pub.Marshal()) {
			t.Errorf("asked for %s by another key", id)
		}
		return &api.RequestState{ID: id, State: "allowed", Granted: f.kept}, nil
	}
	if g, err := a.Request(t.Context(), want); err != nil || g.ID != "k7f-2mq" || m.count != 1 {
		t.Errorf("%+v, %v, %d touches", g, err, m.count)
	}
	a.cfg.State = func(context.Context, ssh.Signer, name.RequestID) (*api.RequestState, error) {
		return nil, &api.Problem{Code: api.CodeNotFound}
	}
	if _, err := a.Request(t.Context(), want); !errors.Is(err, client.ErrUnreachable) {
		t.Errorf("the signature never arrived: %v", err)
	}
}

// TestAStatementThatEndedIsReplaced: a slow PIN gets a new one, but not for ever.
func TestAStatementThatEndedIsReplaced(t *testing.T) {
	a, f, m, _ := newFixture(t)
	key := newKey(t).PublicKey()
	for _, c := range []struct {
		slow, asked int
		want        error
	}{{0, 1, nil}, {1, 2, nil}, {2, 3, nil}, {3, 3, ErrTooSlow}} {
		synctest.Test(t, func(t *testing.T) {
			f.asked, m.slow = nil, c.slow
			_, err := a.sign(t.Context(), func() (*api.Challenge, error) {
				return f.Ask(t.Context(), api.Ask{ClientKey: authorized(key)})
			}, func(ch *api.Challenge) (statement.Statement, error) {
				return CheckRequest(ch, want, key, seen)
			})
			if !errors.Is(err, c.want) || len(f.asked) != c.asked {
				t.Errorf("%d slow touches: %v after %d statements", c.slow, err, len(f.asked))
			}
		})
	}
	// One that isn't touched in time by the key's own clock is not asked for again: the person walked away.
	f.asked, m.slow = nil, 0
	f.hand.PublicKey = authorized(newKey(t).PublicKey())
	if _, err := a.Request(t.Context(), want); err == nil || len(f.asked) != 1 {
		t.Errorf("refused by the CA: %v after %d statements", err, len(f.asked))
	}
}

// TestEachStatementCarriesFreshTokens: those of the first have ended with it.
func TestEachStatementCarriesFreshTokens(t *testing.T) {
	a, f, m, _ := newFixture(t)
	f.dual, m.slow = true, 2
	key := newKey(t).PublicKey()
	synctest.Test(t, func(t *testing.T) {
		if _, _, _, _, err := a.signRequest(t.Context(), want, key); err != nil {
			t.Fatal(err)
		}
	})
	var got []string
	for _, q := range f.asked {
		got = append(got, q.Seen...)
	}
	if want := []string{"token 1", "token 2", "token 3"}; !slices.Equal(got, want) {
		t.Errorf("asked with %q, want %q", got, want)
	}
}

func TestAWrongClockIsSaidAndDecidesNothing(t *testing.T) {
	a, _, _, _ := newFixture(t)
	var said []string
	a.cfg.Warn = func(s string) { said = append(said, s) }
	a.cfg.Now = func() time.Time { return time.Date(2026, 11, 24, 5, 0, 0, 0, time.UTC) }
	if _, err := a.Request(t.Context(), want); err != nil {
		t.Fatal(err)
	}
	if len(said) != 1 || said[0] != "this machine's clock says 2026-11-24T05:00:00Z, the CA's 2026-11-24T03:00:00Z (2h0m0s off); the CA's counts" {
		t.Errorf("said %q", said)
	}
}
