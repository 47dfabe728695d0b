package jump

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"filippo.io/age"
	"golang.org/x/crypto/ssh"

	"breakglass/ca/api"
	"breakglass/internal/name"
	"breakglass/internal/sshcert"
	"breakglass/internal/sshsig"
	"breakglass/internal/statement"
	"breakglass/ledger"
	"breakglass/transcript"
)

const testOrigin = "breakglass.test/demo"

// authority is a CA in memory: real keys, real certificates, a real tree. Its keys lie in a directory, so that a jump in a
// process of its own has the same.
type authority struct {
	clientCA, sessionCA, hostCA ssh.Signer
	jumpKey, jumpHost           ssh.Signer
	skey, vkey                  string
	reader                      *age.X25519Identity

	mu        sync.Mutex
	keep      string // a directory: durableca_test.go
	hosts     map[name.Host]*testHost
	tree      ledger.Memory
	opened    map[name.RequestID]int
	facts     []statement.Fact
	signed    []api.SignedStatement
	stored    map[name.SessionID][]byte
	envelopes map[name.SessionID][]byte
	finished  map[name.SessionID]api.FinishAsk
	until     time.Duration                 // grant's rest; an hour if 0
	idle      int                           // seconds
	forwards  []string                      // that every session has
	down      bool                          // answers nothing
	noStore   bool                          // answers nothing about recordings
	slow      time.Duration                 // each call about recordings takes it
	problem   *api.Problem                  // refuses sessions
	mangle    func(*api.SessionAnswer)      // lies
	asked     int                           // sessions asked for
	change    func(o *ledger.SessionOpened) // before the entry is written
	onlyAsked map[name.Host]bool            // names that only a question for them certifies
	orders    []told                        // entries that jumps hear of
	garble    func(*api.JumpOrders)         // lies about them
	jumps     []ledger.SiteJump             // of the site
}

// testHost is a host as the policy has it.
type testHost struct {
	address  string
	hostKeys []string
	hostCAs  []string
	via      *ledger.SessionVia // its certificate is made for each session
	more     []string           // addresses
	ahead    time.Duration      // of the CA's clock
	slack    time.Duration      // that the policy gives it
	unsaid   bool               // in the entry
}

func loadKey(t testing.TB, dir, file string) ssh.Signer {
	path := filepath.Join(dir, file)
	text, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		_, priv, err := ed25519.GenerateKey(rand.Reader)
		check(t, err)
		block, err := ssh.MarshalPrivateKey(priv, "")
		check(t, err)
		text = pem.EncodeToMemory(block)
		check(t, os.WriteFile(path, text, 0o600))
	} else {
		check(t, err)
	}
	s, err := ssh.ParsePrivateKey(text)
	check(t, err)
	check(t, os.WriteFile(path+".pub", ssh.MarshalAuthorizedKey(s.PublicKey()), 0o644))
	return s
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func newAuthority(t testing.TB, dir string) *authority {
	check(t, os.MkdirAll(dir, 0o700))
	a := &authority{
		clientCA: loadKey(t, dir, "client_ca"), sessionCA: loadKey(t, dir, "session_ca"), hostCA: loadKey(t, dir, "host_ca"),
		jumpKey: loadKey(t, dir, "jump"), jumpHost: loadKey(t, dir, "jump_host"),
		hosts: map[name.Host]*testHost{}, opened: map[name.RequestID]int{}, stored: map[name.SessionID][]byte{},
		envelopes: map[name.SessionID][]byte{}, finished: map[name.SessionID]api.FinishAsk{}, onlyAsked: map[name.Host]bool{},
	}
	ledgerFile, readerFile := filepath.Join(dir, "ledger"), filepath.Join(dir, "reader")
	if b, err := os.ReadFile(ledgerFile); err == nil {
		a.skey, a.vkey, _ = strings.Cut(string(b), "\n")
	} else {
		a.skey, a.vkey, err = ledger.GenerateKey(testOrigin)
		check(t, err)
		check(t, os.WriteFile(ledgerFile, []byte(a.skey+"\n"+a.vkey), 0o600))
	}
	if b, err := os.ReadFile(readerFile); err == nil {
		a.reader, err = age.ParseX25519Identity(string(b))
		check(t, err)
	} else {
		a.reader, err = age.GenerateX25519Identity()
		check(t, err)
		check(t, os.WriteFile(readerFile, []byte(a.reader.String()), 0o600))
	}
	return a
}

func (a *authority) site() ledger.Site {
	return ledger.Site{Name: "test", Profile: "demo", Origin: testOrigin, Epoch: 1, LedgerKey: a.vkey,
		ClientCA: []string{authorizedKey(a.clientCA.PublicKey())}, SessionCA: []string{authorizedKey(a.sessionCA.PublicKey())},
		HostCA: []string{authorizedKey(a.hostCA.PublicKey())}, Jumps: a.jumps}
}

func sign(c *ssh.Certificate, k sshcert.Kind, ca ssh.Signer) (*ssh.Certificate, error) {
	l, err := sshcert.Lint(c, k)
	if err != nil {
		return nil, err
	}
	return l.Sign(ca)
}

// client issues a client certificate.
func (a *authority) client(t testing.TB, key ssh.PublicKey, g sshcert.Grant, from string, now time.Time, life time.Duration) *ssh.Certificate {
	c, err := sign(sshcert.NewClient(key, "alice", g, []netip.Addr{netip.MustParseAddr(from)}, now, now.Add(life)), sshcert.Client, a.clientCA)
	check(t, err)
	return c
}

var errDown = errors.New("connection refused")

func (a *authority) OpenSession(ctx context.Context, ask *api.SessionAsk) (*api.SessionAnswer, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.asked++
	if a.down {
		return nil, errDown
	}
	if a.problem != nil {
		return nil, a.problem
	}
	var q statement.Session
	if err := statement.Parse([]byte(ask.Statement), &q); err != nil {
		return nil, err
	}
	sig, err := sshsig.Parse([]byte(ask.SSHSIG))
	if err != nil {
		return nil, err
	}
	if err := sig.Verify(a.jumpKey.PublicKey(), statement.KindSession.Namespace(), []byte(ask.Statement)); err != nil {
		return nil, err
	}
	cert, err := sshcert.Parse([]byte(q.Certificate))
	if err != nil {
		return nil, err
	}
	g, err := sshcert.ParseGrant(cert.CriticalOptions[sshcert.OptionGrant])
	if err != nil {
		return nil, err
	}
	key, err := parseKey(q.Key)
	if err != nil {
		return nil, err
	}
	h := a.hosts[g.Host]
	if h == nil {
		return nil, &api.Problem{Status: 403, Code: api.CodeSession, Detail: "no such host", Next: []string{"breakglass grants"}}
	}
	now := time.Now()
	slack := max(h.slack, sshcert.SessionSlack)
	sess, err := sign(sshcert.NewSession(key, "alice", g, []netip.Addr{netip.MustParseAddr("127.0.0.1")}, len(a.forwards) > 0, now.Add(-h.ahead), slack), sshcert.Session, a.sessionCA)
	if err != nil {
		return nil, err
	}
	left := a.until
	if left == 0 {
		left = time.Hour
	}
	a.opened[g.Request]++
	id := g.Request.Session(a.opened[g.Request])
	o := &ledger.SessionOpened{Door: q.Door, Peer: q.Peer, SSHSession: q.SSHSession, Serial: cert.Serial, Key: q.Key, Certificate: authorizedKey(sess),
		Addresses: []string{h.address}, HostKeys: h.hostKeys, HostCAs: h.hostCAs, Until: ledger.At(now.Add(left)), IdleSeconds: a.idle,
		Recipients: []string{a.reader.Recipient().String()}, Readers: []name.Person{"bob"}, Rule: "test", Forwards: a.forwards}
	if h.slack > sshcert.SessionSlack && !h.unsaid {
		o.ClockSlack = int(h.slack.Seconds())
	}
	o.Addresses = append(o.Addresses, h.more...)
	if h.via != nil {
		v := *h.via
		if v.Kind == ledger.ViaSSH {
			c, err := sign(sshcert.NewVia(key, "alice", g.Request, v.Login, v.Name, []netip.Addr{netip.MustParseAddr("127.0.0.1")}, now), sshcert.Via, a.sessionCA)
			if err != nil {
				return nil, err
			}
			v.Certificate = authorizedKey(c)
		}
		o.Via = &v
	}
	if a.change != nil {
		a.change(o)
	}
	raw, err := ledger.Encode(&ledger.Entry{Time: ledger.At(now), Actor: ledger.JumpActor(q.Jump),
		Subject: ledger.Subject{Request: g.Request, Session: id, Person: "alice", Host: g.Host, Login: g.Login, Jump: q.Jump},
		Facts:   o, Statement: ask.Statement, SSHSIG: ask.SSHSIG})
	if err != nil {
		return nil, err
	}
	if err := a.tree.Append(raw); err != nil {
		return nil, err
	}
	n := a.tree.Size()
	cp, err := a.tree.Checkpoint(n)
	if err != nil {
		return nil, err
	}
	s, err := ledger.NewSigner(a.skey)
	if err != nil {
		return nil, err
	}
	note, err := ledger.Checkpoint{Origin: testOrigin, Size: n, Root: cp.Root}.Sign(s)
	if err != nil {
		return nil, err
	}
	proof, err := ledger.ProveInclusion(n, n-1, &a.tree)
	if err != nil {
		return nil, err
	}
	ans := &api.SessionAnswer{Session: id, Person: "alice", Login: g.Login, Host: g.Host,
		Entry: api.ProvenEntry{Index: n - 1, Entry: string(raw), Proof: proof, Checkpoint: note}, Opened: *o, Now: now}
	if a.mangle != nil {
		a.mangle(ans)
	}
	return ans, nil
}

func (a *authority) HostCerts(ctx context.Context, ask *api.HostCertsAsk) (*api.HostCertsAnswer, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.down {
		return nil, errDown
	}
	out := &api.HostCertsAnswer{Hints: map[name.Host][]string{}}
	names := []string{"jump-a"}
	if ask.Host != "" {
		names = nil
	}
	for h, th := range a.hosts {
		if ask.Host == "" && !a.onlyAsked[h] || ask.Host == string(h) {
			names = append(names, string(h))
			if th.via == nil {
				out.Hints[h] = []string{th.address}
			}
		}
	}
	if len(names) == 0 {
		return nil, &api.Problem{Status: 404, Code: api.CodeNotFound, Detail: "no live grant names that host"}
	}
	slices.Sort(names)
	c, err := sign(sshcert.NewHost(a.jumpHost.PublicKey(), "jump-a", names, time.Now()), sshcert.Host, a.hostCA)
	if err != nil {
		return nil, err
	}
	out.Certificates = []string{authorizedKey(c)}
	return out, nil
}

// SendFacts holds every fact against number, hash and signature, as the CA does.
func (a *authority) SendFacts(ctx context.Context, ask *api.FactsAsk) (*api.FactsAnswer, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.down {
		return nil, errDown
	}
	var last statement.Hash
	if n := len(a.signed); n > 0 {
		last = sha256.Sum256([]byte(a.signed[n-1].Statement))
	}
	for _, s := range ask.Facts {
		sig, err := sshsig.Parse([]byte(s.SSHSIG))
		if err != nil {
			return nil, err
		}
		if err := sig.Verify(a.jumpKey.PublicKey(), statement.KindFact.Namespace(), []byte(s.Statement)); err != nil {
			return nil, err
		}
		var f statement.Fact
		if err := statement.Parse([]byte(s.Statement), &f); err != nil {
			return nil, err
		}
		if f.Number <= int64(len(a.facts)) {
			continue
		}
		if f.Number != int64(len(a.facts))+1 || f.Previous != last {
			return nil, fmt.Errorf("fact %d after %d", f.Number, len(a.facts))
		}
		line, err := json.Marshal(s)
		if err = errors.Join(err, a.kept("facts", append(line, '\n'))); err != nil {
			return nil, err
		}
		a.facts, a.signed = append(a.facts, f), append(a.signed, s)
		last = sha256.Sum256([]byte(s.Statement))
	}
	return &api.FactsAnswer{Number: int64(len(a.facts)), Hash: last}, nil
}

// open is up for the store.
func (a *authority) open() error {
	a.mu.Lock()
	gone, slow := a.down || a.noStore, a.slow
	a.mu.Unlock()
	time.Sleep(slow)
	if gone {
		return errDown
	}
	return nil
}

func (a *authority) TranscriptSize(ctx context.Context, s name.SessionID) (*api.Size, error) {
	if err := a.open(); err != nil {
		return nil, err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	_, done := a.finished[s]
	return &api.Size{Size: int64(len(a.stored[s])), Finished: done}, nil
}

func (a *authority) PutTranscript(ctx context.Context, s name.SessionID, offset int64, piece []byte) (*api.Size, error) {
	if err := a.open(); err != nil {
		return nil, err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if offset != int64(len(a.stored[s])) || len(piece) > api.MaxPiece {
		return nil, fmt.Errorf("piece of %d at %d of %d", len(piece), offset, len(a.stored[s]))
	}
	if err := a.kept(s.File()+"_stream", piece); err != nil {
		return nil, err
	}
	a.stored[s] = append(a.stored[s], piece...)
	return &api.Size{Size: int64(len(a.stored[s]))}, nil
}

func (a *authority) PutEnvelope(ctx context.Context, s name.SessionID, envelope []byte) error {
	if err := a.open(); err != nil {
		return err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.envelopes[s] != nil {
		if !bytes.Equal(a.envelopes[s], envelope) {
			return errors.New("another envelope")
		}
		return nil
	}
	a.envelopes[s] = slices.Clone(envelope)
	return a.kept(s.File()+"_envelope", envelope)
}

// FinishTranscript takes only a head that a fact named before.
func (a *authority) FinishTranscript(ctx context.Context, s name.SessionID, ask *api.FinishAsk) error {
	if err := a.open(); err != nil {
		return err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	o := transcript.VerifyOptions{Final: &transcript.Head{Frames: uint64(ask.Head.Frames), Chain: transcript.Hash(ask.Head.Chain)}, Bytes: map[uint64]int64{}}
	told := false
	for _, f := range a.facts {
		if f.Session != s {
			continue
		}
		var h ledger.SessionHead
		if f.Type == string(h.EntryType()) {
			if err := json.Unmarshal([]byte(f.Body), &h); err != nil {
				return err
			}
			o.Heads = append(o.Heads, transcript.Head{Frames: uint64(h.Head.Frames), Chain: transcript.Hash(h.Head.Chain)})
			o.Bytes[uint64(h.Head.Frames)] = h.Head.Bytes
			continue
		}
		told = told || strings.Contains(f.Body, ask.Head.Chain.String())
	}
	if !told {
		return errors.New("no fact names that head")
	}
	if _, err := transcript.Verify(bytes.NewReader(a.stored[s]), o); err != nil || int64(len(a.stored[s])) != ask.Head.Bytes {
		return fmt.Errorf("stream of %d bytes, head %+v: %w", len(a.stored[s]), ask.Head, err)
	}
	a.finished[s] = *ask
	return nil
}

var randReader = rand.Reader

func parseAddrs(ss ...string) (out []netip.Addr) {
	for _, s := range ss {
		out = append(out, netip.MustParseAddr(s))
	}
	return out
}
