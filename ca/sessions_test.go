package ca_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"io"
	"net/netip"
	"strings"
	"testing"
	"time"

	"filippo.io/age"
	"github.com/google/go-cmp/cmp"
	"golang.org/x/crypto/ssh"

	"breakglass/ca/api"
	"breakglass/ca/catest"
	"breakglass/internal/name"
	"breakglass/internal/sshcert"
	"breakglass/internal/sshsig"
	"breakglass/internal/statement"
	"breakglass/ledger"
	"breakglass/transcript"
)

// stage is a CA with all that a session needs.
type stage struct {
	*catest.CA
	clock      *clock
	alice, bob *catest.Person
	jump       *catest.Jump
	identity   *age.X25519Identity
}

func newStage(t *testing.T) *stage {
	t.Helper()
	return newStageWith(t, catest.Config{})
}

// newStageWith has settings beside the clock.
func newStageWith(t *testing.T, cfg catest.Config) *stage {
	t.Helper()
	s := &stage{clock: &clock{}}
	cfg.Now = s.clock.now
	s.CA = catest.New(t, cfg)
	s.alice, s.bob, s.jump = s.Enrol("alice"), s.Enrol("bob"), s.Join("jump-a")
	var err error
	s.identity, err = age.GenerateX25519Identity()
	catest.Must(t, err)
	r, err := s.bob.Recipient(s.identity.Recipient().String())
	catest.Must(t, err)
	if !r.Reader {
		t.Fatal("bob is no reader")
	}
	return s
}

func (s *stage) grant(t *testing.T) *catest.Grant {
	t.Helper()
	g, err := s.alice.Request("root", "web01")
	catest.Must(t, err)
	return g
}

func TestSessionOpens(t *testing.T) {
	s := newStage(t)
	g := s.grant(t)
	for n := 1; n <= 2; n++ {
		q := s.jump.Question(g)
		a, err := s.jump.Open(q)
		catest.Must(t, err)
		if a.Session != g.ID.Session(n) || a.Person != "alice" || a.Login != "root" || a.Host != "web01" {
			t.Errorf("answer is for %s, %s as %s@%s", a.Session, a.Person, a.Login, a.Host)
		}
		head, err := ledger.OpenCheckpoint(a.Entry.Checkpoint, s.Pins.Site.LedgerKey)
		catest.Must(t, err)
		catest.Must(t, ledger.CheckInclusion([]byte(a.Entry.Entry), a.Entry.Index, a.Entry.Proof, head))
		e, err := ledger.Decode([]byte(a.Entry.Entry))
		catest.Must(t, err)
		f := e.Facts.(*ledger.SessionOpened)
		c, err := sshcert.Parse([]byte(f.Certificate))
		catest.Must(t, err)
		cas, err := api.Keys(s.Pins.Site.SessionCA)
		catest.Must(t, err)
		catest.Must(t, sshcert.Verify(c, sshcert.Session, cas, s.clock.now()))
		if got := c.ValidPrincipals[0]; got != "session:root@web01" {
			t.Errorf("principal %q", got)
		}
		if f.Until.Unix() != g.Until.Unix() || len(f.Recipients) != 1 || f.Readers[0] != "bob" || f.HostKeys[0] != catest.HostKey {
			t.Errorf("the session may: %+v", f)
		}
	}
	s.Audit()
}

// What the policy says of a host's clock is how far its session certificates reach, and the entry says it.
func TestClockSlackOfAHost(t *testing.T) {
	for slack, want := range map[string]time.Duration{"": sshcert.SessionSlack, "20m": 20 * time.Minute, "12h": sshcert.MaxSessionSlack} {
		text := catest.Policy
		if slack != "" {
			text = strings.Replace(text, "[hosts.web01]\n", "[hosts.web01]\nclock_slack = \""+slack+"\"\n", 1)
		}
		s := newStageWith(t, catest.Config{Policy: text})
		a, err := s.jump.Open(s.jump.Question(s.grant(t)))
		catest.Must(t, err)
		e, err := ledger.Decode([]byte(a.Entry.Entry))
		catest.Must(t, err)
		f := e.Facts.(*ledger.SessionOpened)
		c, err := sshcert.Parse([]byte(f.Certificate))
		catest.Must(t, err)
		now := s.clock.now().Unix()
		if int64(c.ValidAfter) != now-int64(want.Seconds()) || int64(c.ValidBefore) != now+int64(want.Seconds()) || f.Slack() != want || (f.ClockSlack != 0) != (slack != "") {
			t.Errorf("%q: from %d to %d s, the entry says %v (%d)", slack, int64(c.ValidAfter)-now, int64(c.ValidBefore)-now, f.Slack(), f.ClockSlack)
		}
		s.Audit()
	}
}

// How long a recording has to stay is what the policy said when its session was opened.
func TestWhatIsKeptOfASession(t *testing.T) {
	text := strings.Replace(catest.Policy, "[hosts.web01]\n", "[always]\nretain_days = 400\n\n[hosts.web01]\n", 1)
	if strings.Contains(catest.Policy, "[always]") {
		text = strings.Replace(catest.Policy, "[always]\n", "[always]\nretain_days = 400\n", 1)
	}
	text = strings.Replace(text, "hosts = [\"web01\", \"lb*\"]\n", "hosts = [\"web01\", \"lb*\"]\nretain_days = 2000\nlegal_hold = true\n", 1)
	s := newStageWith(t, catest.Config{Policy: text})
	a, err := s.jump.Open(s.jump.Question(s.grant(t)))
	catest.Must(t, err)
	if a.Opened.RetainDays != 2000 || !a.Opened.LegalHold {
		t.Errorf("%+v", a.Opened)
	}
	s.Audit()
}

func TestSessionsRefused(t *testing.T) {
	for _, c := range []struct {
		what   string
		change func(s *stage, t *testing.T, q *statement.Session)
		reason string // in the session.refused entry; "" means that no entry is written
	}{
		{"another login than the grant's", func(s *stage, t *testing.T, q *statement.Session) { q.Login = "toor" }, "other_target"},
		{"another host than the grant's", func(s *stage, t *testing.T, q *statement.Session) { q.Host = "db01" }, "other_target"},
		{"a peer that the certificate does not name", func(s *stage, t *testing.T, q *statement.Session) { q.Peer = "203.0.113.9" }, "other_address"},
		{"a grant that has ended", func(s *stage, t *testing.T, q *statement.Session) {
			s.clock.forward(31 * time.Minute)
			q.Issued = s.clock.now().UTC().Truncate(time.Second)
		}, "certificate"},
		{"a session certificate", func(s *stage, t *testing.T, q *statement.Session) {
			g, err := s.alice.Request("root", "web01")
			catest.Must(t, err)
			a, err := s.jump.Open(s.jump.Question(g))
			catest.Must(t, err)
			q.Certificate = a.Opened.Certificate
		}, "certificate"},
		{"a certificate by nobody's CA", func(s *stage, t *testing.T, q *statement.Session) {
			c, err := sshcert.Parse([]byte(q.Certificate))
			catest.Must(t, err)
			g, err := sshcert.ParseGrant(c.CriticalOptions[sshcert.OptionGrant])
			catest.Must(t, err)
			q.Certificate = forge(t, catest.NewKey(t), g, s.clock.now())
		}, "certificate"},
		{"a question asked twice", func(s *stage, t *testing.T, q *statement.Session) {
			_, err := s.jump.Open(q)
			catest.Must(t, err)
		}, ""},
		{"a question of yesterday", func(s *stage, t *testing.T, q *statement.Session) { q.Issued = q.Issued.Add(-24 * time.Hour) }, ""},
		{"a question for another CA", func(s *stage, t *testing.T, q *statement.Session) { q.Origin = "breakglass/other" }, ""},
		{"a jump that never joined", func(s *stage, t *testing.T, q *statement.Session) { q.Jump = "jump-b" }, ""},
	} {
		t.Run(c.what, func(t *testing.T) {
			s := newStage(t)
			q := s.jump.Question(s.grant(t))
			c.change(s, t, q)
			before := len(s.Entries())
			_, err := s.jump.Open(q)
			if err == nil {
				t.Fatal("opened")
			}
			problem(t, err)
			var refused []*ledger.SessionRefused
			for _, e := range s.Entries()[before:] {
				switch f := e.Facts.(type) {
				case *ledger.SessionRefused:
					refused = append(refused, f)
				case *ledger.SessionOpened:
					t.Error("an entry of an opened session")
				}
			}
			switch {
			case c.reason == "" && len(refused) > 0:
				t.Errorf("an entry: %+v", refused[0])
			case c.reason != "" && (len(refused) != 1 || refused[0].Reasons[0].Code != c.reason):
				t.Errorf("entries %+v, want reason %s", refused, c.reason)
			}
		})
	}
}

// forge makes a client certificate under some other key.
func forge(t *testing.T, ca ssh.Signer, g sshcert.Grant, now time.Time) string {
	t.Helper()
	c := sshcert.NewClient(catest.NewKey(t).PublicKey(), "alice", g, nil, now, now.Add(10*time.Minute))
	c.CriticalOptions[sshcert.OptionSourceAddress] = "127.0.0.1/32"
	l, err := sshcert.Lint(c, sshcert.Client)
	catest.Must(t, err)
	out, err := l.Sign(ca)
	catest.Must(t, err)
	return catest.Line(out)
}

func TestNoRecipientNoSession(t *testing.T) {
	c := catest.New(t, catest.Config{})
	alice, j := c.Enrol("alice"), c.Join("jump-a")
	if _, err := alice.Recipient("age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p"); err != nil { // hers doesn't count: she is no reader
		t.Fatal(err)
	}
	g, err := alice.Request("root", "web01")
	catest.Must(t, err)
	_, err = j.Open(j.Question(g))
	p := problem(t, err)
	if len(p.Reasons) == 0 || p.Reasons[0].Code != api.CodeNoRecipient {
		t.Errorf("%+v", p)
	}
}

func body(t *testing.T, f ledger.Facts) string {
	t.Helper()
	b, err := json.Marshal(f)
	catest.Must(t, err)
	return string(b)
}

func TestFacts(t *testing.T) {
	s := newStage(t)
	ctx := context.Background()
	send := func(facts ...api.SignedStatement) (*api.FactsAnswer, error) {
		return s.jump.Client.SendFacts(ctx, &api.FactsAsk{Facts: facts})
	}
	sum := body(t, &ledger.StrangersSummed{From: ledger.At(s.clock.now()), To: ledger.At(s.clock.now()),
		Counts: []ledger.StrangerCount{{Reason: "expired", Network: "203.0.113.0/24", Where: "jump-a", Count: 3}}})
	a, err := send()
	catest.Must(t, err)
	if a.Number != 0 {
		t.Errorf("a new jump has %d facts", a.Number)
	}
	one := s.jump.Fact("strangers.summed", sum, "")
	two := s.jump.Fact("strangers.summed", sum, "")
	if a, err = send(one, two); err != nil || a.Number != 2 || a.Hash != sha256.Sum256([]byte(two.Statement)) {
		t.Fatalf("two facts: %+v, %v", a, err)
	}
	before := len(s.Entries())
	if a, err = send(one, two); err != nil || a.Number != 2 || len(s.Entries()) != before {
		t.Errorf("the same again: %+v, %v, %d entries more", a, err, len(s.Entries())-before)
	}
	other := s.jump.Fact("strangers.summed", sum, "")
	s.jump.Number--
	s.jump.Previous = sha256.Sum256([]byte("another history"))
	if _, err := send(s.jump.Fact("strangers.summed", sum, "")); err == nil {
		t.Error("a fact that names another one before it was taken")
	}
	catest.Must(t, func() error { _, err := send(other); return err }())
	// What nobody may report.
	s.jump.Number, s.jump.Previous = 3, sha256.Sum256([]byte(other.Statement))
	for what, f := range map[string][2]string{
		"a type that is not a jump's":     {"grant.allowed", `{}`},
		"a type that nobody knows":        {"nonsense", `{}`},
		"an unknown field":                {"strangers.summed", `{"surprise":1}`},
		"a session that was never opened": {"session.ended", body(t, &ledger.SessionEnded{})},
	} {
		session := name.SessionID("")
		if strings.HasPrefix(f[0], "session") {
			session = "k7f-2mq/1"
		}
		n, prev := s.jump.Number, s.jump.Previous
		if _, err := send(s.jump.Fact(f[0], f[1], session)); err == nil {
			t.Errorf("%s was taken", what)
		}
		s.jump.Number, s.jump.Previous = n, prev
	}
	s.Audit()
	// A gap shows for ever.
	s.jump.Fact("strangers.summed", sum, "") // never sent
	after := s.jump.Fact("strangers.summed", sum, "")
	if a, err := send(after); err != nil || a.Number != 5 {
		t.Errorf("what comes behind a gap is not lost too: %+v, %v", a, err)
	}
	var gap *ledger.JumpGap
	for _, e := range s.Entries() {
		if f, ok := e.Facts.(*ledger.JumpGap); ok {
			gap = f
		}
	}
	if gap == nil || gap.Have != 3 || gap.Got != 5 {
		t.Errorf("gap %+v", gap)
	}
}

func TestFactsTakeTheJumpsOwnKey(t *testing.T) {
	s := newStage(t)
	f := s.jump.Fact("strangers.summed", body(t, &ledger.StrangersSummed{}), "")
	if _, err := s.Client(catest.NewKey(t)).SendFacts(context.Background(), &api.FactsAsk{Facts: []api.SignedStatement{f}}); err == nil {
		t.Error("somebody else delivered a jump's facts")
	}
	// Delivered by the jump, signed by another.
	sig, err := sshsig.Sign(catest.NewKey(t), statement.KindFact.Namespace(), []byte(f.Statement))
	catest.Must(t, err)
	f.SSHSIG = string(sig.Armor())
	if _, err := s.jump.Client.SendFacts(context.Background(), &api.FactsAsk{Facts: []api.SignedStatement{f}}); err == nil {
		t.Error("a fact with another's signature was taken")
	}
}

// record makes a small recording of an opened session.
func record(t *testing.T, origin string, a *api.SessionAnswer) (stream, envelope []byte, head ledger.Head) {
	t.Helper()
	recipients, err := transcript.ParseRecipients(a.Opened.Recipients)
	catest.Must(t, err)
	key := transcript.NewKey()
	envelope, err = transcript.Envelope(recipients, key)
	catest.Must(t, err)
	w, err := transcript.NewWriter(transcript.Header{Session: a.Session, Jump: "jump-a", Origin: origin, Person: a.Person, Login: a.Login, Host: a.Host, Door: "hop",
		T0: 1, Bind: transcript.SHA256([]byte(a.Entry.Entry)), Env: transcript.SHA256(envelope)}, key)
	catest.Must(t, err)
	stream = append(stream, w.HeaderFrame()...)
	frame, err := w.Seal([]transcript.Event{{T: time.Millisecond, Kind: transcript.KindMark, Data: []byte("hello")}})
	catest.Must(t, err)
	stream = append(stream, frame...)
	end, err := w.End("closed", nil, time.Second)
	catest.Must(t, err)
	stream = append(stream, end...)
	h := w.Head()
	return stream, envelope, ledger.Head{Frames: int64(h.Frames), Chain: statement.Hash(h.Chain), Bytes: int64(len(stream))}
}

func TestTranscript(t *testing.T) {
	s := newStage(t)
	ctx := context.Background()
	g := s.grant(t)
	a, err := s.jump.Open(s.jump.Question(g))
	catest.Must(t, err)
	stream, envelope, head := record(t, s.Pins.Site.Origin, a)
	finish := func() error { return s.jump.Client.FinishTranscript(ctx, a.Session, &api.FinishAsk{Head: head}) }
	if size, err := s.jump.Client.TranscriptSize(ctx, a.Session); err != nil || size.Size != 0 || size.Finished {
		t.Fatalf("before anything: %+v, %v", size, err)
	}
	half := int64(len(stream) / 2)
	for _, p := range []struct{ from, to int64 }{{0, half}, {half / 2, int64(len(stream))}} { // the second overlaps, as a retry does
		if _, err := s.jump.Client.PutTranscript(ctx, a.Session, p.from, stream[p.from:p.to]); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := s.jump.Client.PutTranscript(ctx, a.Session, int64(len(stream))+5, []byte("x")); err == nil {
		t.Error("a piece behind the end was taken")
	}
	if _, err := s.Client(catest.NewKey(t)).PutTranscript(ctx, a.Session, int64(len(stream)), []byte("x")); err == nil {
		t.Error("a stranger wrote into a recording")
	}
	if _, err := s.jump.Client.PutTranscript(ctx, "k7f-2mq/1", 0, []byte("x")); err == nil {
		t.Error("a recording of a session that was never opened was taken")
	}
	catest.Must(t, s.jump.Client.PutEnvelope(ctx, a.Session, envelope))
	if err := finish(); err == nil {
		t.Error("finished before the jump's fact told the end")
	}
	ended := s.jump.Fact("session.ended", body(t, &ledger.SessionEnded{Reason: "closed", Exit: "0", Seconds: 1, Head: head, Envelope: sha256.Sum256(envelope)}), a.Session)
	_, err = s.jump.Client.SendFacts(ctx, &api.FactsAsk{Facts: []api.SignedStatement{ended}})
	catest.Must(t, err)
	wrong := head
	wrong.Chain[0] ^= 1
	if err := s.jump.Client.FinishTranscript(ctx, a.Session, &api.FinishAsk{Head: wrong, SHA256: sha256.Sum256(stream)}); err == nil {
		t.Error("another head than the fact's was taken")
	}
	if err := s.jump.Client.FinishTranscript(ctx, a.Session, &api.FinishAsk{Head: head, SHA256: sha256.Sum256(stream[1:])}); err == nil {
		t.Error("another hash than the stream's was taken")
	}
	catest.Must(t, finish())
	catest.Must(t, finish()) // heard twice, said once
	stored := 0
	for _, e := range s.Entries() {
		if e.Type() == "transcript.stored" {
			stored++
		}
	}
	if stored != 1 {
		t.Errorf("%d entries say that it is stored", stored)
	}

	// Reading: by pass, by a reader, after an entry.
	if _, err := s.Client(nil).Transcript(ctx, a.Session); problem(t, err).Code != api.CodePass {
		t.Errorf("without a pass: %v", err)
	}
	if _, err := s.Client(g.Key).Transcript(ctx, a.Session); problem(t, err).Code != api.CodePass {
		t.Errorf("with the grant's own key: %v", err)
	}
	theirs, err := s.alice.Pass()
	catest.Must(t, err)
	before := len(s.Entries())
	if _, err := theirs.Envelope(ctx, a.Session, api.ReadAsk{Why: "curious"}); err == nil {
		t.Error("who is no reader got the envelope")
	}
	if len(s.Entries()) != before {
		t.Error("a reading was recorded that did not happen")
	}
	reader, err := s.bob.Pass()
	catest.Must(t, err)
	body, err := reader.Transcript(ctx, a.Session)
	catest.Must(t, err)
	got, err := io.ReadAll(body)
	catest.Must(t, err)
	body.Close()
	if !bytes.Equal(got, stream) {
		t.Error("another stream came back")
	}
	env, err := reader.Envelope(ctx, a.Session, api.ReadAsk{Why: "review of k7f"})
	catest.Must(t, err)
	if !bytes.Equal(env, envelope) {
		t.Error("another envelope came back")
	}
	rd, err := transcript.NewReader(bytes.NewReader(got))
	catest.Must(t, err)
	if _, err := transcript.OpenEnvelope(rd.Header(), env, s.identity); err != nil {
		t.Error(err)
	}
	last := s.Entries()[len(s.Entries())-1]
	if f, ok := last.Facts.(*ledger.TranscriptRead); !ok || f.Why != "review of k7f" || last.Actor != "person:bob" || last.Subject.Session != a.Session {
		t.Errorf("the last entry is %s: %+v", last.Type(), last)
	}

	// The person's own client sees the state, the pass sees all.
	st, err := s.Client(g.Key).Request(ctx, g.ID)
	catest.Must(t, err)
	if st.State != "allowed" || len(st.Sessions) != 1 || !st.Sessions[0].Stored || st.Sessions[0].State != "ended" || st.Sessions[0].Bytes != head.Bytes {
		t.Errorf("state %+v", st)
	}
	ev, err := reader.Evidence(ctx, g.ID)
	catest.Must(t, err)
	cp, err := ledger.OpenCheckpoint(ev.Checkpoint, s.Pins.Site.LedgerKey)
	catest.Must(t, err)
	audit := ledger.NewAudit(ledger.AuditConfig{LedgerKey: s.Pins.Site.LedgerKey, Part: true})
	for _, e := range ev.Entries {
		catest.Must(t, ledger.CheckInclusion([]byte(e.Entry), e.Index, e.Proof, cp))
		audit.Add(e.Index, []byte(e.Entry))
	}
	findings, _ := audit.Findings()
	for _, f := range findings {
		t.Errorf("evidence: %v", f)
	}
	if gr := audit.Grant(g.ID); gr == nil || gr.Allowed == nil || len(gr.Sessions) != 1 || gr.Sessions[0].Stored == nil || gr.Policy == "" {
		t.Errorf("the evidence does not tell the grant's whole story: %+v", gr)
	}
	s.Audit()
}

func TestReadingTakesAPass(t *testing.T) {
	s := newStage(t)
	g := s.grant(t)
	ctx := context.Background()
	for who, c := range map[string]*catest.Grant{"nobody": nil, "a key that stands for nothing": {Key: catest.NewKey(t)}, "another request's client key": {Key: s.grant(t).Key}} {
		cl := s.Client(nil)
		if c != nil {
			cl = s.Client(c.Key)
		}
		for what, read := range map[string]func() error{
			"the request":  func() error { _, err := cl.Request(ctx, g.ID); return err },
			"the sessions": func() error { _, err := cl.Sessions(ctx, ""); return err },
			"its sessions": func() error { _, err := cl.Sessions(ctx, g.ID); return err },
			"the evidence": func() error { _, err := cl.Evidence(ctx, g.ID); return err },
			"an entry":     func() error { _, err := cl.Entry(ctx, 1); return err },
			"a recording":  func() error { _, err := cl.Transcript(ctx, g.ID.Session(1)); return err },
			"an envelope":  func() error { _, err := cl.Envelope(ctx, g.ID.Session(1), api.ReadAsk{Why: "x"}); return err },
		} {
			if p := problem(t, read()); p.Code != api.CodePass || len(p.Next) == 0 {
				t.Errorf("%s reads %s: %s", who, what, p.Code)
			}
		}
	}
	reader, err := s.bob.Pass()
	catest.Must(t, err)
	if _, err := reader.Request(ctx, g.ID); err != nil {
		t.Errorf("with a pass: %v", err)
	}
	s.clock.forward(16 * time.Minute)
	if _, err := reader.Request(ctx, g.ID); problem(t, err).Code != api.CodePass {
		t.Errorf("with a pass of 16 minutes ago: %v", err)
	}
	// Public: head, proofs, site.
	if _, err := s.Client(nil).Checkpoint(ctx); err != nil {
		t.Error(err)
	}
	if _, err := s.Client(nil).Site(ctx); err != nil {
		t.Error(err)
	}
}

func TestHostCertificates(t *testing.T) {
	s := newStage(t)
	ctx := context.Background()
	cas, err := api.Keys(s.Pins.Site.HostCA)
	catest.Must(t, err)
	names := func(a *api.HostCertsAnswer) map[string]bool {
		out := map[string]bool{}
		for _, line := range a.Certificates {
			c, err := sshcert.Parse([]byte(line))
			catest.Must(t, err)
			catest.Must(t, sshcert.Verify(c, sshcert.Host, cas, s.clock.now()))
			if !bytes.Equal(c.Key.Marshal(), s.jump.HostKey.PublicKey().Marshal()) {
				t.Error("over another key than the jump's")
			}
			for _, p := range c.ValidPrincipals {
				out[p] = true
			}
		}
		return out
	}
	a, err := s.jump.Client.HostCerts(ctx, &api.HostCertsAsk{})
	catest.Must(t, err)
	got := names(a)
	if !got["web01"] || !got["db01"] || got["lb*"] || got["lb01"] {
		t.Errorf("ahead: %v", got)
	}
	if h := a.Hints["web01"]; len(h) != 1 || h[0] != "127.0.0.1:2200" {
		t.Errorf("hints %v", a.Hints)
	}
	if a, err := s.jump.Client.HostCerts(ctx, &api.HostCertsAsk{Host: "lb01"}); err == nil && len(a.Certificates) > 0 {
		t.Error("a name that a pattern covers got a certificate at a stranger's wish")
	}
	if _, err := s.alice.Request("root", "lb01"); err != nil {
		t.Fatal(err)
	}
	a, err = s.jump.Client.HostCerts(ctx, &api.HostCertsAsk{Host: "lb01"})
	catest.Must(t, err)
	if got := names(a); !got["lb01"] {
		t.Errorf("under a live grant: %v", got)
	}
	if _, err := s.Client(catest.NewKey(t)).HostCerts(ctx, &api.HostCertsAsk{}); err == nil {
		t.Error("a stranger got host certificates")
	}
	s.Audit()
}

func TestHostKnownByNameOnly(t *testing.T) {
	up := true
	s := &stage{clock: &clock{}}
	s.CA = catest.New(t, catest.Config{Resolve: func(_ context.Context, host string) ([]netip.Addr, error) {
		if !up || host != "lb01.test" {
			return nil, errors.New("no answer")
		}
		return []netip.Addr{netip.MustParseAddr("192.0.2.7"), netip.MustParseAddr("2001:db8::7")}, nil
	}})
	s.alice, s.bob, s.jump = s.Enrol("alice"), s.Enrol("bob"), s.Join("jump-a")
	_, err := s.bob.Recipient("age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p")
	catest.Must(t, err)
	g, err := s.alice.Request("root", "lb01")
	catest.Must(t, err)
	a, err := s.jump.Open(s.jump.Question(g))
	catest.Must(t, err)
	if d := cmp.Diff([]string{"192.0.2.7:22", "[2001:db8::7]:22"}, a.Opened.Addresses); d != "" {
		t.Error(d)
	}
	up = false
	_, err = s.jump.Open(s.jump.Question(g))
	if p := problem(t, err); p.Reasons[0].Code != "address_unknown" {
		t.Errorf("without a name server: %+v", p)
	}
	other, err := s.alice.Request("root", "web01")
	catest.Must(t, err)
	if _, err := s.jump.Open(s.jump.Question(other)); err != nil {
		t.Errorf("a host with an address needs none: %v", err)
	}
	s.Audit()
}
