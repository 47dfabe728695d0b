package ca_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"breakglass/ca/api"
	"breakglass/ca/catest"
	"breakglass/internal/softkey"
	"breakglass/internal/sshsig"
	"breakglass/internal/statement"
	"breakglass/ledger"
)

// counted is a body that says how much of it was read.
type counted struct {
	io.Reader
	n int
}

func (c *counted) Read(p []byte) (int, error) {
	n, err := c.Reader.Read(p)
	c.n += n
	return n, err
}

// signed puts headers over body into r.
func signed(t *testing.T, s *stage, r *http.Request, k ssh.Signer, body []byte) {
	t.Helper()
	text, err := statement.Marshal(&statement.Call{Origin: s.Pins.Site.Origin, Method: r.Method, Path: r.URL.RequestURI(), Body: sha256.Sum256(body),
		Issued: s.clock.now().UTC().Truncate(time.Second), Nonce: statement.NewNonce()})
	catest.Must(t, err)
	sig, err := sshsig.Sign(k, statement.KindCall.Namespace(), text)
	catest.Must(t, err)
	r.Header.Set(api.HeaderCall, base64.StdEncoding.EncodeToString(text))
	r.Header.Set(api.HeaderSignature, base64.StdEncoding.EncodeToString(sig.Armor()))
}

// Thousands of connections with a body of megabytes each would fill the CA's memory: nobody but a jump is listened to that long.
func TestAStrangersLargeBodyIsNotRead(t *testing.T) {
	s := newStage(t)
	g := s.grant(t)
	h := s.CA.CA.Handler()
	large := bytes.Repeat([]byte{'x'}, 1<<20)
	for who, key := range map[string]ssh.Signer{"nobody": nil, "a key that stands for nothing": catest.NewKey(t), "a client key": g.Key} {
		for _, call := range []string{"POST /v1/facts", "PUT /v1/transcripts/k7f-2mq.1?offset=0", "PUT /v1/transcripts/k7f-2mq.1/envelope"} {
			method, path, _ := strings.Cut(call, " ")
			b := &counted{Reader: bytes.NewReader(large)}
			r := httptest.NewRequest(method, path, b)
			r.RemoteAddr = "127.0.0.1:4000"
			if key != nil {
				signed(t, s, r, key, large)
			}
			w := httptest.NewRecorder()
			h.ServeHTTP(w, r)
			if w.Code != 401 || b.n != 0 {
				t.Errorf("%s, %s: status %d after %d bytes", who, call, w.Code, b.n)
			}
		}
	}
	// A jump is listened to, and its body is still the one that it signed.
	r := httptest.NewRequest("POST", "/v1/facts", strings.NewReader(`{"facts":[]} `))
	r.RemoteAddr = "127.0.0.1:4000"
	signed(t, s, r, s.jump.Key, []byte(`{"facts":[]}`))
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	if w.Code != 401 {
		t.Errorf("a jump's call with another body: status %d", w.Code)
	}
	r = httptest.NewRequest("POST", "/v1/facts", strings.NewReader(`{"facts":[]}`))
	r.RemoteAddr = "127.0.0.1:4000"
	signed(t, s, r, s.jump.Key, []byte(`{"facts":[]}`))
	w = httptest.NewRecorder()
	h.ServeHTTP(w, r)
	if w.Code != 200 {
		t.Errorf("a jump's call: status %d %s", w.Code, w.Body)
	}
}

// Only in-memory keys sign calls: what another kind of key costs to check is never paid.
func TestACallByAnotherKindOfKeyIsRefused(t *testing.T) {
	s := newStage(t)
	k, err := rsa.GenerateKey(rand.Reader, 2048)
	catest.Must(t, err)
	signer, err := ssh.NewSignerFromKey(k)
	catest.Must(t, err)
	alg, err := ssh.NewSignerWithAlgorithms(signer.(ssh.AlgorithmSigner), []string{ssh.KeyAlgoRSASHA512})
	catest.Must(t, err)
	r := httptest.NewRequest("GET", "/v1/checkpoint", nil)
	r.RemoteAddr = "127.0.0.1:4000"
	signed(t, s, r, alg, nil)
	w := httptest.NewRecorder()
	s.CA.CA.Handler().ServeHTTP(w, r)
	if w.Code != 401 {
		t.Errorf("status %d", w.Code)
	}
}

// A question that no jump signed is a stranger's: summed, and it comes near neither the writer nor a name server.
func TestAQuestionByNoJumpIsSummed(t *testing.T) {
	s := newStage(t)
	q := s.jump.Question(s.grant(t))
	forger := &catest.Jump{CA: s.CA, Name: "jump-a", Key: catest.NewKey(t), Client: s.Client(nil)}
	before := len(s.Entries())
	for range 5 {
		if _, err := forger.Open(q); problem(t, err).Code != api.CodeRefused {
			t.Error(err)
		}
	}
	if n := len(s.Entries()); n != before {
		t.Errorf("%d entries by a stranger", n-before)
	}
	s.Stop()
	s.Start()
	var sum int64
	for _, e := range s.Entries() {
		if f, ok := e.Facts.(*ledger.StrangersSummed); ok {
			for _, c := range f.Counts {
				if c.Reason == "unknown_jump" {
					sum += c.Count
				}
			}
		}
	}
	if sum != 5 {
		t.Errorf("%d summed", sum)
	}
}

// Keys of a join are proved by nobody: another jump's would turn that jump's calls into the newcomer's.
func TestAJumpCantJoinWithAnothersKey(t *testing.T) {
	policy := strings.Replace(catest.Policy, "[hosts.web01]", "[jumps.jump-b]\naddress = [\"127.0.0.1:2223\"]\nsource = [\"127.0.0.1/32\"]\n\n[hosts.web01]", 1)
	c := catest.New(t, catest.Config{Policy: policy})
	a := c.Join("jump-a")
	own := catest.Line(catest.NewKey(t).PublicKey())
	for what, keys := range map[string][2]string{
		"its key":               {catest.Line(a.Key.PublicKey()), own},
		"its host key":          {own, catest.Line(a.HostKey.PublicKey())},
		"its key as host key":   {own, catest.Line(a.Key.PublicKey())},
		"its host key as a key": {catest.Line(a.HostKey.PublicKey()), own},
	} {
		_, err := c.Client(nil).Join(context.Background(), &api.JoinAsk{Invite: c.JumpToken("jump-b").Secret, Key: keys[0], HostKey: keys[1],
			Addresses: []string{"127.0.0.1:2223"}, Source: []string{"127.0.0.1"}})
		if p := problem(t, err); p.Code != api.CodeConflict {
			t.Errorf("%s: %v", what, err)
		}
	}
	if _, err := a.Client.SendFacts(context.Background(), &api.FactsAsk{}); err != nil {
		t.Errorf("jump-a: %v", err)
	}
}

// A reader's identity is public; who names it as their own must not take the reader's recordings away.
func TestNobodyTakesAReadersIdentity(t *testing.T) {
	s := newStage(t)
	if _, err := s.alice.Recipient(s.identity.Recipient().String()); problem(t, err).Code != api.CodeConflict {
		t.Errorf("alice takes bob's: %v", err)
	}
	a, err := s.jump.Open(s.jump.Question(s.grant(t)))
	catest.Must(t, err)
	if len(a.Opened.Readers) != 1 || a.Opened.Readers[0] != "bob" {
		t.Errorf("sealed to %v", a.Opened.Readers)
	}
	if _, err := s.bob.Recipient(s.identity.Recipient().String()); err != nil {
		t.Errorf("bob names his own again: %v", err)
	}
}

// A pass reads only from where the policy lets anybody ask.
func TestAPassReadsNothingFromARefusedPlace(t *testing.T) {
	clk := &clock{}
	policy := strings.Replace(catest.Policy, `trusted = ["here"]`, "countries = [\"DE\"]\ntrusted = [\"here\"]", 1)
	c := catest.New(t, catest.Config{Now: clk.now, Policy: policy})
	bob := c.Enrol("bob")
	ctx := context.Background()
	key := catest.NewKey(t)
	ch, err := c.Client(nil).Pass(ctx, api.PassAsk{Person: "bob", Holder: catest.Line(key.PublicKey())})
	catest.Must(t, err)
	_, err = c.Client(nil).SignPass(ctx, ch.ID, api.Signed{SSHSIG: bob.Sign(ch)})
	catest.Must(t, err)
	for from, want := range map[string]int{"127.0.0.1:4000": 200, "203.0.113.9:4000": 401} {
		r := httptest.NewRequest("GET", "/v1/sessions", nil)
		r.RemoteAddr = from
		signed(t, &stage{CA: c, clock: clk}, r, key, nil)
		w := httptest.NewRecorder()
		c.CA.Handler().ServeHTTP(w, r)
		if w.Code != want {
			t.Errorf("from %s: status %d, want %d", from, w.Code, want)
		}
	}
}

// The number of keys must not tell who is enrolled: some unknown names have two, and the same two each time.
func TestDecoysComeInOnesAndTwos(t *testing.T) {
	c := catest.New(t, catest.Config{})
	ctx := context.Background()
	count := map[int]int{}
	for i := range 40 {
		ask := api.Ask{Person: "nobody-" + string(rune('a'+i%26)) + string(rune('a'+i/26)), Login: "root", Host: "web01", Reason: catest.Reason, ClientKey: catest.Line(catest.NewKey(t).PublicKey())}
		one, err := c.Client(nil).Ask(ctx, ask)
		catest.Must(t, err)
		again, err := c.Client(nil).Ask(ctx, ask)
		catest.Must(t, err)
		count[len(one.Keys)]++
		if len(one.Keys) != len(again.Keys) {
			t.Fatalf("%s: %d keys, then %d", ask.Person, len(one.Keys), len(again.Keys))
		}
		for k := range one.Keys {
			if one.Keys[k].PublicKey != again.Keys[k].PublicKey || k > 0 && (one.Keys[0].Name == one.Keys[1].Name || one.Keys[0].PublicKey == one.Keys[1].PublicKey) {
				t.Errorf("%s: %+v, then %+v", ask.Person, one.Keys, again.Keys)
			}
		}
	}
	if len(count) != 2 || count[1] == 0 || count[2] == 0 {
		t.Errorf("keys shown: %v", count)
	}
}

// What became of a key stands beside what it signed: a bundle without the suspension would show a signature that looks good.
func TestEvidenceTellsOfASuspendedKey(t *testing.T) {
	s := newStage(t)
	g := s.grant(t)
	s.clock.forward(2 * time.Second)
	s.alice.Key.SetFaults(softkey.Faults{FrozenCounter: true})
	if _, err := s.alice.Request("root", "web01"); problem(t, err).Code != api.CodeLate {
		t.Fatal(err)
	}
	reader, err := s.bob.Pass()
	catest.Must(t, err)
	ev, err := reader.Evidence(context.Background(), g.ID)
	catest.Must(t, err)
	n := 0
	for _, e := range ev.Entries {
		if x, err := ledger.Decode([]byte(e.Entry)); err == nil && x.Type() == "key.suspended" {
			n++
		}
	}
	if n != 1 {
		t.Errorf("%d suspensions in the evidence", n)
	}
}

// A key that signs for a pass without a touch is not passed over in silence: a valid signature makes the refusal an entry.
func TestAPassWithoutATouchIsAnEntry(t *testing.T) {
	s := newStage(t)
	ctx := context.Background()
	ch, err := s.Client(nil).Pass(ctx, api.PassAsk{Person: "bob", Holder: catest.Line(catest.NewKey(t).PublicKey())})
	catest.Must(t, err)
	if _, err := s.Client(nil).SignPass(ctx, ch.ID, api.Signed{SSHSIG: s.bob.SignSilently(ch)}); problem(t, err).Code != api.CodeNoTouch {
		t.Fatal(err)
	}
	var denied []*ledger.Entry
	for _, e := range s.Entries() {
		if e.Type() == "act.denied" {
			denied = append(denied, e)
		}
	}
	if len(denied) != 1 {
		t.Fatalf("%d entries tell of it", len(denied))
	}
	e := denied[0]
	if f := e.Facts.(*ledger.ActDenied); len(f.Reasons) != 1 || f.Reasons[0].Code != api.CodeNoTouch || e.Statement != ch.Statement || e.Subject.Person != "bob" {
		t.Errorf("%+v", e)
	}
	s.Audit()
}
