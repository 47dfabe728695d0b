package agent

import (
	"context"
	"errors"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"breakglass/agent/background"
	"breakglass/ca/api"
	"breakglass/ca/api/client"
	"breakglass/internal/name"
	"breakglass/internal/sshcert"
	"breakglass/internal/statement"
)

// slowCA is a CA whose rule wants approvals; it can be told to misbehave.
type slowCA struct {
	*fakeCA
	now     time.Time
	asked   []api.Ask
	signed  map[name.RequestID]*statement.Request
	kinds   []string
	states  chan *api.RequestState // what the long-poll answers, one after the other
	unheard int                    // this many polls find nobody
}

func (f *slowCA) Ask(_ context.Context, q api.Ask) (*api.Challenge, error) {
	f.asked = append(f.asked, q)
	var err error
	if f.pub, _, _, _, err = ssh.ParseAuthorizedKey([]byte(q.ClientKey)); err != nil {
		f.t.Fatal(err)
	}
	st := honest(f.pub)
	st.Nonce, st.Request, st.Of, st.Minutes, st.Reason = statement.NewNonce(), q.Kind, q.Of, q.Minutes, q.Reason
	st.Issued = f.now
	st.Expires = f.now.Add(statement.Validity)
	if q.Kind == "" {
		st.Request = statement.RequestNew
	} else {
		st.ID = "x2x-2xx"
	}
	if f.bend != nil {
		f.bend(st)
	}
	f.st = st
	f.signed[st.ID] = st
	ch := challenge(f.t, st, string(st.ID))
	ch.Keys = []api.KeyHandle{f.hand}
	return ch, nil
}

// SignRequest lets overrides through, and has everything else wait.
func (f *slowCA) SignRequest(_ context.Context, id string, _ api.Signed) (*api.Granted, error) {
	f.kinds = append(f.kinds, f.st.Request)
	if f.st.Request == statement.RequestOverride {
		return f.grant(f.signed[f.st.Of], 30*time.Minute), nil
	}
	w := &api.Waiting{ID: f.st.ID, Rule: "oncall-db", Needed: 1, Approvers: []api.Asked{{Person: "bob"}}, Now: f.now, Expires: f.now.Add(30 * time.Minute)}
	if f.st.Request == statement.RequestExtend {
		w.Of = f.st.Of
	}
	return nil, w
}

// grant issues what a statement asked for.
func (f *slowCA) grant(st *statement.Request, d time.Duration) *api.Granted {
	f.t.Helper()
	until := f.now.Add(d)
	l, err := sshcert.Lint(sshcert.NewClient(f.pub, "alice", sshcert.Grant{Request: st.ID, Login: st.Login, Host: st.Host},
		[]netip.Addr{netip.MustParseAddr("198.51.100.7")}, f.now, until), sshcert.Client)
	if err != nil {
		f.t.Fatal(err)
	}
	cert, err := l.Sign(f.key)
	if err != nil {
		f.t.Fatal(err)
	}
	return &api.Granted{ID: st.ID, Person: "alice", Login: st.Login, Host: st.Host, Certificate: authorized(cert), Rule: "oncall-db", Minutes: int(d.Minutes()), Until: until, Forwards: st.Forwards}
}

func (f *slowCA) waiting(id name.RequestID, version int64, given int) *api.RequestState {
	return &api.RequestState{ID: id, State: "open", Version: version, Now: f.now, Waiting: &api.Waiting{ID: id, Needed: 1, Given: given, Now: f.now, Expires: f.now.Add(time.Minute)}}
}

func slow(t *testing.T) (*Agent, *slowCA, *memorySigner, *background.Client) {
	t.Helper()
	a, f, m, bg := newFixture(t)
	s := &slowCA{fakeCA: f, now: time.Now().UTC().Truncate(time.Second), signed: map[name.RequestID]*statement.Request{}, states: make(chan *api.RequestState, 8)}
	a.cfg.CA = s
	a.cfg.Await = func(ctx context.Context, signer ssh.Signer, id name.RequestID, _ time.Duration, since int64) (*api.RequestState, error) {
		if string(signer.PublicKey().Marshal()) != string(s.pub.Marshal()) {
			t.Error("another key reads the request")
		}
		if s.unheard > 0 {
			s.unheard--
			return nil, client.ErrUnreachable
		}
		select {
		case st := <-s.states:
			return st, nil
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	a.cfg.State = func(_ context.Context, _ ssh.Signer, id name.RequestID) (*api.RequestState, error) {
		text, err := statement.Marshal(s.signed[id])
		return &api.RequestState{ID: id, Statement: string(text)}, err
	}
	return a, s, m, bg
}

// ask has alice ask, and wait.
func ask(t *testing.T, a *Agent) *api.Waiting {
	t.Helper()
	_, err := a.Request(t.Context(), want)
	w, ok := client.NotGranted(err)
	if !ok {
		t.Fatal(err)
	}
	return w
}

func TestARequestWaitsInTheBackgroundProcess(t *testing.T) {
	a, f, m, bg := slow(t)
	w := ask(t, a)
	list, err := bg.Waiting(t.Context())
	if err != nil || len(list) != 1 || list[0].ID != w.ID || list[0].Host != "web01" || list[0].Left < 29*60 {
		t.Fatalf("%+v, %v", list, err)
	}
	// Ctrl-C ends the wait, and nothing else.
	ctx, stop := context.WithCancel(t.Context())
	f.states <- f.waiting(w.ID, 3, 0)
	if _, err := a.Await(ctx, w.ID, func(st *api.RequestState) { stop() }); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	if list, err := bg.Waiting(t.Context()); err != nil || len(list) != 1 {
		t.Errorf("%+v, %v", list, err)
	}
	// Whoever comes next goes on with it; a CA that is away for a while is asked again.
	f.unheard = 1
	var given []int
	f.states <- f.waiting(w.ID, 4, 1)
	f.states <- &api.RequestState{ID: w.ID, State: "allowed", Version: 6, Now: f.now, Granted: f.grant(f.signed[w.ID], 20*time.Minute)}
	g, err := a.Await(t.Context(), w.ID, func(st *api.RequestState) { given = append(given, st.Waiting.Given) })
	if err != nil || g.Left != 20*time.Minute || len(given) != 1 || given[0] != 1 {
		t.Fatalf("%+v, %v, shown %v", g, err, given)
	}
	if live, err := bg.Live(t.Context(), "root", "web01", time.Minute); err != nil || live == nil || live.Socket != g.Socket {
		t.Errorf("%+v, %v", live, err)
	}
	if list, err := bg.Waiting(t.Context()); err != nil || len(list) != 0 || m.count != 1 {
		t.Errorf("%+v, %v, %d touches", list, err, m.count)
	}
	if _, err := a.Await(t.Context(), w.ID, nil); !errors.Is(err, ErrNotWaiting) {
		t.Errorf("twice: %v", err)
	}
}

func TestADeniedRequestLeavesNoKey(t *testing.T) {
	a, f, _, bg := slow(t)
	w := ask(t, a)
	f.states <- &api.RequestState{ID: w.ID, State: "denied", Version: 5, Problem: &api.Problem{Code: api.CodeDenied, Detail: "bob said no"}}
	var p *api.Problem
	if _, err := a.Await(t.Context(), w.ID, nil); !errors.As(err, &p) || p.Code != api.CodeDenied {
		t.Errorf("%v", err)
	}
	if list, err := bg.Waiting(t.Context()); err != nil || len(list) != 0 {
		t.Errorf("%+v, %v", list, err)
	}
}

// TestAGrantThatWasStoppedMeanwhileIsNone: somebody let alice in and somebody else stopped it, before her machine heard of either.
func TestAGrantThatWasStoppedMeanwhileIsNone(t *testing.T) {
	a, f, _, bg := slow(t)
	w := ask(t, a)
	f.states <- &api.RequestState{ID: w.ID, State: "revoked", Version: 7, Now: f.now, Granted: f.grant(f.signed[w.ID], 20*time.Minute)}
	var p *api.Problem
	if _, err := a.Await(t.Context(), w.ID, nil); !errors.As(err, &p) || p.Code != api.CodeGrantEnded || len(p.Next) == 0 {
		t.Errorf("%v", err)
	}
	if list, err := bg.Waiting(t.Context()); err != nil || len(list) != 0 {
		t.Errorf("%+v, %v", list, err)
	}
}

// TestWhatIsGrantedAtLastIsHeldAgainstWhatWasSignedAtFirst: also by another process than the one that asked.
func TestWhatIsGrantedAtLastIsHeldAgainstWhatWasSignedAtFirst(t *testing.T) {
	for what, bend := range map[string]func(f *slowCA, g *api.Granted){
		"another host": func(_ *slowCA, g *api.Granted) { g.Host = "db01" },
		"another certificate": func(f *slowCA, g *api.Granted) {
			f.pub = newKey(f.t).PublicKey()
			*g = *f.grant(f.signed[g.ID], time.Minute)
		},
		"another CA":     func(f *slowCA, g *api.Granted) { f.key = newKey(f.t); *g = *f.grant(f.signed[g.ID], time.Minute) },
		"more minutes":   func(_ *slowCA, g *api.Granted) { g.Minutes = 600 },
		"a forward more": func(_ *slowCA, g *api.Granted) { g.Forwards = []string{"local *:*"} },
	} {
		a, f, _, bg := slow(t)
		w := ask(t, a)
		pub := f.pub
		g := f.grant(f.signed[w.ID], 20*time.Minute)
		bend(f, g)
		f.pub = pub
		f.states <- &api.RequestState{ID: w.ID, State: "allowed", Version: 6, Now: f.now, Granted: g}
		if _, err := a.Await(t.Context(), w.ID, nil); !errors.Is(err, ErrAnswer) {
			t.Errorf("%s: %v", what, err)
		}
		if live, err := bg.Live(t.Context(), "root", "web01", 0); err != nil || live != nil {
			t.Errorf("%s: alive %+v, %v", what, live, err)
		}
	}
}

func TestAnOverrideSignsTheSameWords(t *testing.T) {
	a, f, m, bg := slow(t)
	w := ask(t, a)
	for what, bend := range map[string]func(*statement.Request){
		"more minutes":    func(s *statement.Request) { s.Minutes = 600 },
		"another host":    func(s *statement.Request) { s.Host = "db01" },
		"another request": func(s *statement.Request) { s.Of = "zzz-zzz" },
		"a new request":   func(s *statement.Request) { s.Request, s.Of = statement.RequestNew, "" },
	} {
		m.count, f.bend = 0, bend
		if _, err := a.Override(t.Context(), w.ID); !errors.Is(err, ErrStatement) || m.count != 0 {
			t.Errorf("%s: %v, %d touches", what, err, m.count)
		}
	}
	f.bend = nil
	g, err := a.Override(t.Context(), w.ID)
	if err != nil || g.ID != w.ID || m.count != 1 || f.kinds[len(f.kinds)-1] != statement.RequestOverride {
		t.Fatalf("%+v, %v", g, err)
	}
	if q := f.asked[len(f.asked)-1]; q.Of != w.ID || q.Reason != want.Reason || q.Minutes != want.Minutes || q.ClientKey != f.asked[0].ClientKey {
		t.Errorf("%+v", q)
	}
	if live, err := bg.Live(t.Context(), "root", "web01", time.Minute); err != nil || live == nil {
		t.Errorf("%+v, %v", live, err)
	}
	if _, err := a.Override(t.Context(), "zzz-zzz"); !errors.Is(err, ErrNotWaiting) {
		t.Errorf("a request of another machine: %v", err)
	}
}

// TestAnExtensionReplacesTheCertificate: for the same key, on the same socket, with a later end; anything else is refused.
func TestAnExtensionReplacesTheCertificate(t *testing.T) {
	a, f, _, bg := slow(t)
	w := ask(t, a)
	first := f.grant(f.signed[w.ID], 10*time.Minute)
	f.states <- &api.RequestState{ID: w.ID, State: "allowed", Version: 6, Now: f.now, Granted: first}
	g, err := a.Await(t.Context(), w.ID, nil)
	if err != nil {
		t.Fatal(err)
	}
	live, err := bg.Live(t.Context(), "root", "web01", 0)
	if err != nil || live == nil {
		t.Fatalf("%+v, %v", live, err)
	}
	_, err = a.Extend(t.Context(), live, 25, "still restoring the database", "")
	ext, ok := client.NotGranted(err)
	if !ok || ext.Of != w.ID {
		t.Fatalf("%v", err)
	}
	if q := f.asked[len(f.asked)-1]; q.Kind != statement.RequestExtend || q.Minutes != 25 || q.Reason != "still restoring the database" || q.Login != "root" || q.ClientKey != f.asked[0].ClientKey {
		t.Errorf("%+v", q)
	}
	if list, err := bg.Waiting(t.Context()); err != nil || len(list) != 1 || list[0].ID != ext.ID || list[0].Of != w.ID {
		t.Errorf("%+v, %v", list, err)
	}
	other := f.grant(&statement.Request{ID: "zzz-zzz", Login: "root", Host: "web01"}, 25*time.Minute)
	for what, bad := range map[string]*api.Granted{"no later end": first, "another grant": other, "more than asked": f.grant(f.signed[w.ID], 40*time.Minute)} {
		f.states <- &api.RequestState{ID: ext.ID, State: "allowed", Version: 7, Now: f.now, Granted: bad}
		if _, err := a.Await(t.Context(), ext.ID, nil); !errors.Is(err, ErrAnswer) {
			t.Errorf("%s: %v", what, err)
		}
	}
	longer := f.grant(f.signed[w.ID], 25*time.Minute)
	f.states <- &api.RequestState{ID: ext.ID, State: "allowed", Version: 7, Now: f.now, Granted: longer}
	h, err := a.Await(t.Context(), ext.ID, nil)
	if err != nil || h.ID != w.ID || h.Socket != g.Socket || h.Left != 25*time.Minute {
		t.Fatalf("%+v, %v", h, err)
	}
	live, err = bg.Live(t.Context(), "root", "web01", 20*time.Minute)
	if err != nil || live == nil || live.Certificate != longer.Certificate {
		t.Errorf("%+v, %v", live, err)
	}
	if list, err := bg.Waiting(t.Context()); err != nil || len(list) != 0 {
		t.Errorf("%+v, %v", list, err)
	}
	// What the CA says was signed then is not believed: nor that more was to be forwarded than was granted, for the person would sign for that now.
	wider := honest(f.pub)
	wider.ID, wider.Forwards = w.ID, append(wider.Forwards, "local vault:8200")
	right := f.signed[w.ID]
	f.signed[w.ID] = wider
	if _, err := a.Extend(t.Context(), live, 25, "", ""); !errors.Is(err, ErrAnswer) {
		t.Errorf("with another forward: %v", err)
	}
	f.signed[w.ID] = right
	f.signed[w.ID] = honest(newKey(t).PublicKey())
	if _, err := a.Extend(t.Context(), live, 25, "", ""); !errors.Is(err, ErrAnswer) {
		t.Errorf("another request's words: %v", err)
	}
}
