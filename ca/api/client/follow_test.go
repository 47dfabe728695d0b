package client_test

import (
	"errors"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"breakglass/ca/api"
	"breakglass/ca/api/client"
	"breakglass/ledger"
)

// memory is a client.Memory that lives as long as the test.
type memory struct {
	mu    sync.Mutex
	note  string
	fails error
}

func (m *memory) Last() (string, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.note, m.fails
}

func (m *memory) Save(note string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.note = note
	return m.fails
}

func (f *fake) serveHead(size func() int64) {
	f.mux.HandleFunc("GET /v1/checkpoint", func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, f.head(size())) })
}

func TestTheHeadGrowsAndIsKept(t *testing.T) {
	f := newFake(t)
	f.serveHead(func() int64 { return f.log.Size() })
	m := &memory{}
	c := f.client(func(cfg *client.Config) { cfg.Memory = m })
	for range 5 {
		f.add("more")
		got, err := c.Checkpoint(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if m.note != got {
			t.Errorf("kept %q, want %q", m.note, got)
		}
	}
	// An older head than the newest is no rollback, if it is of the same history: answers cross on the way.
	if _, err := c.CheckCheckpoint(t.Context(), f.head(3)); err != nil {
		t.Errorf("an older head: %v", err)
	}
	if m.note != f.head(f.log.Size()) {
		t.Error("the older head was kept")
	}
}

// TestARestoredCAIsARollback has a client remember more than the CA's ledger holds now.
func TestARestoredCAIsARollback(t *testing.T) {
	f := newFake(t)
	f.serveHead(func() int64 { return f.log.Size() })
	m := &memory{}
	pins := f.pins()
	same := func(cfg *client.Config) { cfg.Memory, cfg.Pins = m, pins }
	f.add("lost")
	f.add("lost too")
	if _, err := f.client(same).Checkpoint(t.Context()); err != nil {
		t.Fatal(err)
	}
	kept := m.note
	f.mu.Lock() // the backup
	first := f.texts[0]
	f.log, f.texts = ledger.Memory{}, nil
	f.mu.Unlock()
	f.addBytes(first)
	for _, text := range []string{"shorter", "as long", "longer"} {
		f.add(text)
		if _, err := f.client(same).Checkpoint(t.Context()); !errors.Is(err, client.ErrRollback) {
			t.Errorf("%s: %v", text, err)
		}
	}
	if m.note != kept {
		t.Error("what was seen before was given up")
	}
}

// TestAForkIsSeenByCallsAtOnce shows two histories that both continue what the client knows, to two calls at the same time.
func TestAForkIsSeenByCallsAtOnce(t *testing.T) {
	a := newFake(t)
	b := newFake(t)
	b.signer, b.vkey = a.signer, a.vkey
	b.log, b.texts = ledger.Memory{}, nil
	b.addBytes(a.texts[0])
	for _, s := range []string{"1", "2"} {
		a.add("a" + s)
		b.add("b" + s)
	}
	b.add("b3")
	// Both clients share nothing; one client asks a CA that answers each proof from the fitting history, but slowly.
	forked := newFake(t)
	forked.signer, forked.vkey = a.signer, a.vkey
	arrived := make(chan struct{}, 2)
	proceed := make(chan struct{})
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/proof/consistency", func(w http.ResponseWriter, r *http.Request) {
		side := a
		if strings.HasSuffix(r.URL.RawQuery, "to=4") {
			side = b
		}
		select {
		case arrived <- struct{}{}:
			<-proceed
		default:
		}
		side.consistency(w, r)
	})
	forked.Config.Handler = mux
	pins := forked.pins()
	pins.Checkpoint = a.head(1)
	c := forked.client(func(cfg *client.Config) { cfg.Pins = pins })
	errs := make(chan error, 2)
	for _, head := range []string{a.head(3), b.head(4)} {
		go func() { _, err := c.CheckCheckpoint(t.Context(), head); errs <- err }()
	}
	for range 2 {
		select {
		case <-arrived:
		case <-time.After(10 * time.Second):
			t.Fatal("the calls did not both ask for a proof")
		}
	}
	close(proceed)
	one, two := <-errs, <-errs
	if (one == nil) == (two == nil) || !errors.Is(errors.Join(one, two), client.ErrRollback) {
		t.Errorf("want one of the two refused: %v, %v", one, two)
	}
}

func TestTwoHeadsOfOneSizeAreAFork(t *testing.T) {
	f := newFake(t)
	c := f.client()
	f.add("seen")
	if _, err := c.CheckCheckpoint(t.Context(), f.head(2)); err != nil {
		t.Fatal(err)
	}
	first := f.texts[0]
	f.log, f.texts = ledger.Memory{}, nil
	f.addBytes(first)
	f.add("another")
	if _, err := c.CheckCheckpoint(t.Context(), f.head(2)); !errors.Is(err, client.ErrRollback) {
		t.Error(err)
	}
}

// TestABusyCAIsNoRollback keeps a false alarm away: only a CA that says it has no such size goes back.
func TestABusyCAIsNoRollback(t *testing.T) {
	f := newFake(t)
	f.add("more")
	f.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		problem(w, api.Problem{Status: 429, Code: api.CodeTooMany, Detail: "slower"})
	})
	_, err := f.client().CheckCheckpoint(t.Context(), f.head(2))
	var p *api.Problem
	if errors.Is(err, client.ErrRollback) || !errors.As(err, &p) || p.Code != api.CodeTooMany {
		t.Error(err)
	}
}

func TestAHeadThatCantBeKeptIsNotBelieved(t *testing.T) {
	f := newFake(t)
	f.add("more")
	full := errors.New("disk full")
	m := &memory{}
	c := f.client(func(cfg *client.Config) { cfg.Memory = m })
	m.fails = full
	if _, err := c.CheckCheckpoint(t.Context(), f.head(2)); !errors.Is(err, full) {
		t.Error(err)
	}
}

func TestAnEntryIsProved(t *testing.T) {
	f := newFake(t)
	for _, text := range []string{"one", "two", "more", "four", "five", "six"} {
		f.add(text)
	}
	good := f.proven(3, 7)
	c := f.client()
	e, err := c.CheckEntry(t.Context(), good, good.Checkpoint)
	if err != nil {
		t.Fatal(err)
	}
	if e.Type() != "ca.started" {
		t.Errorf("%s", e.Type())
	}
	foreign := newFake(t)
	for what, mangle := range map[string]func(*api.ProvenEntry){
		"another entry's text": func(e *api.ProvenEntry) { e.Entry = string(f.texts[2]) },
		"a changed byte":       func(e *api.ProvenEntry) { e.Entry = strings.Replace(e.Entry, "more", "mort", 1) },
		"another index":        func(e *api.ProvenEntry) { e.Index++ },
		"a shorter proof":      func(e *api.ProvenEntry) { e.Proof = e.Proof[1:] },
		"a changed proof":      func(e *api.ProvenEntry) { e.Proof[0][0] ^= 1 },
		"no checkpoint":        func(e *api.ProvenEntry) { e.Checkpoint = "" },
		"a stranger's head":    func(e *api.ProvenEntry) { e.Checkpoint = foreign.head(1) },
	} {
		bad := f.proven(3, 7)
		mangle(&bad)
		if _, err := c.CheckEntry(t.Context(), bad, bad.Checkpoint); !errors.Is(err, client.ErrProof) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

func TestTheSiteIsWhatItsEntrySays(t *testing.T) {
	f := newFake(t)
	site := f.pins().Site
	text, err := ledger.Encode(&ledger.Entry{Time: ledger.At(time.Unix(1000, 0)), Actor: ledger.ActorRoot, Facts: &ledger.SiteChanged{Site: site, Why: "test"}})
	if err != nil {
		t.Fatal(err)
	}
	n := f.addBytes(text)
	answer := api.SiteAnswer{Site: site, Entry: f.proven(n, n+1)}
	f.mux.HandleFunc("GET /v1/site", func(w http.ResponseWriter, _ *http.Request) { writeJSON(t, w, answer) })
	c := f.client()
	if _, err := c.Site(t.Context()); err != nil {
		t.Error(err)
	}
	answer.Site.HostCA = []string{authorized(sshKey(t).PublicKey())}
	if _, err := c.Site(t.Context()); !errors.Is(err, client.ErrProof) {
		t.Errorf("a host CA that no entry names: %v", err)
	}
	answer.Site, answer.Entry = site, f.proven(0, n+1)
	if _, err := c.Site(t.Context()); !errors.Is(err, client.ErrProof) {
		t.Errorf("an entry of another type: %v", err)
	}
}
