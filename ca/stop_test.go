package ca_test

import (
	"context"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"breakglass/ca/api"
	"breakglass/ca/catest"
	"breakglass/internal/krl"
	"breakglass/internal/name"
	"breakglass/internal/statement"
	"breakglass/ledger"
)

// bobsRecipient is what recordings are sealed to.
const bobsRecipient = "age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p"

// running is a CA with a grant of alice's and a session under it.
type running struct {
	*catest.CA
	alice, bob *catest.Person
	jump       *catest.Jump
	grant      *catest.Grant
	session    *api.SessionAnswer
}

func run(t *testing.T) *running {
	t.Helper()
	r := &running{CA: catest.New(t, catest.Config{})}
	r.alice, r.bob, r.jump = r.Enrol("alice"), r.Enrol("bob"), r.Join("jump-a")
	_, err := r.bob.Recipient(bobsRecipient)
	catest.Must(t, err)
	r.grant, err = r.alice.Request("root", "web01")
	catest.Must(t, err)
	r.session, err = r.jump.Open(r.jump.Question(r.grant))
	catest.Must(t, err)
	return r
}

// TestStopping: who may stop what, and what the ledger then says.
func TestStopping(t *testing.T) {
	ctx := context.Background()
	why := api.StopAsk{Why: "no longer needed"}
	for _, c := range []struct {
		what string
		stop func(*testing.T, *running) (*api.Stopped, error)
		code string
		how  string // of the entry
		by   name.Person
		goes bool // the grant goes on
	}{
		{"anybody with a pass kills a grant", func(t *testing.T, r *running) (*api.Stopped, error) {
			p, err := r.bob.Pass()
			catest.Must(t, err)
			return p.Kill(ctx, r.grant.ID, why)
		}, "", ledger.RevokedByKill, "bob", false},
		{"anybody with a pass kills one session", func(t *testing.T, r *running) (*api.Stopped, error) {
			p, err := r.bob.Pass()
			catest.Must(t, err)
			return p.Kill(ctx, r.grant.ID, api.StopAsk{Why: "what is this", Session: r.session.Session})
		}, "", ledger.RevokedByKill, "bob", true},
		{"a grant's client key ends it", func(t *testing.T, r *running) (*api.Stopped, error) {
			return r.Client(r.grant.Key).End(ctx, r.grant.ID, why)
		}, "", ledger.RevokedByEnd, "alice", false},
		{"its person's pass ends it", func(t *testing.T, r *running) (*api.Stopped, error) {
			p, err := r.alice.Pass()
			catest.Must(t, err)
			return p.End(ctx, r.grant.ID, why)
		}, "", ledger.RevokedByEnd, "alice", false},

		{"nobody kills without a pass", func(t *testing.T, r *running) (*api.Stopped, error) {
			return r.Client(nil).Kill(ctx, r.grant.ID, why)
		}, api.CodePass, "", "", true},
		{"a client key doesn't kill, not even its own grant", func(t *testing.T, r *running) (*api.Stopped, error) {
			return r.Client(r.grant.Key).Kill(ctx, r.grant.ID, why)
		}, api.CodePass, "", "", true},
		{"a stranger's key ends nothing", func(t *testing.T, r *running) (*api.Stopped, error) {
			return r.Client(catest.NewKey(t)).End(ctx, r.grant.ID, why)
		}, api.CodePass, "", "", true},
		{"another grant's client key ends nothing", func(t *testing.T, r *running) (*api.Stopped, error) {
			g, err := r.alice.Request("root", "web01")
			catest.Must(t, err)
			return r.Client(g.Key).End(ctx, r.grant.ID, why)
		}, api.CodePass, "", "", true},
		{"another person's pass does not end, it kills", func(t *testing.T, r *running) (*api.Stopped, error) {
			p, err := r.bob.Pass()
			catest.Must(t, err)
			return p.End(ctx, r.grant.ID, why)
		}, api.CodePass, "", "", true},
		{"a jump's key kills nothing", func(t *testing.T, r *running) (*api.Stopped, error) {
			return r.jump.Client.Kill(ctx, r.grant.ID, why)
		}, api.CodePass, "", "", true},
		{"a kill says why", func(t *testing.T, r *running) (*api.Stopped, error) {
			p, err := r.bob.Pass()
			catest.Must(t, err)
			return p.Kill(ctx, r.grant.ID, api.StopAsk{})
		}, api.CodeBadRequest, "", "", true},
		{"a reason that would drive the terminal of who reads it", func(t *testing.T, r *running) (*api.Stopped, error) {
			p, err := r.bob.Pass()
			catest.Must(t, err)
			return p.Kill(ctx, r.grant.ID, api.StopAsk{Why: "\x1b[2Jgone"})
		}, api.CodeBadRequest, "", "", true},
		{"a session of another grant", func(t *testing.T, r *running) (*api.Stopped, error) {
			p, err := r.bob.Pass()
			catest.Must(t, err)
			return p.Kill(ctx, r.grant.ID, api.StopAsk{Why: "x", Session: "aaa-aaa/1"})
		}, api.CodeBadRequest, "", "", true},
		{"a session that there is not", func(t *testing.T, r *running) (*api.Stopped, error) {
			p, err := r.bob.Pass()
			catest.Must(t, err)
			return p.Kill(ctx, r.grant.ID, api.StopAsk{Why: "x", Session: r.grant.ID.Session(9)})
		}, api.CodeUnknownTarget, "", "", true},
		{"a request that there is not looks like one that is not yours", func(t *testing.T, r *running) (*api.Stopped, error) {
			p, err := r.bob.Pass()
			catest.Must(t, err)
			return p.Kill(ctx, "aaa-aaa", why)
		}, api.CodePass, "", "", true},
		{"a pass of who was revoked since", func(t *testing.T, r *running) (*api.Stopped, error) {
			p, err := r.bob.Pass()
			catest.Must(t, err)
			_, err = order(r.alice, statement.OrderRevokePerson, "bob", "left", statement.Hash{})
			catest.Must(t, err)
			return p.Kill(ctx, r.grant.ID, why)
		}, api.CodePass, "", "", true},
	} {
		t.Run(c.what, func(t *testing.T) {
			r := run(t)
			stopped, err := c.stop(t, r)
			if codeOf(err) != c.code {
				t.Fatalf("%v, want %q", err, c.code)
			}
			if c.code == "" {
				last := r.Entries()[len(r.Entries())-1]
				f, ok := last.Facts.(*ledger.Revoked)
				if !ok || f.How != c.how || last.Subject.Person != c.by || last.Actor != ledger.PersonActor(c.by) {
					t.Errorf("the last entry is %+v by %s", last.Facts, last.Actor)
				}
				if len(stopped.Sessions) != 1 || stopped.Sessions[0] != r.session.Session {
					t.Errorf("stopped %+v", stopped)
				}
			}
			_, err = r.jump.Open(r.jump.Question(r.grant))
			if c.goes != (err == nil) && c.what != "a pass of who was revoked since" { // then nobody could read the recording
				t.Errorf("another session under it: %v", err)
			}
			r.Audit()
		})
	}
}

// TestJumpsHear: what concerns jumps comes at once, proved, in order, and to jumps alone.
func TestJumpsHear(t *testing.T) {
	ctx := context.Background()
	r := run(t)
	start, err := r.jump.Client.JumpOrders(ctx, -1, 0)
	catest.Must(t, err)
	if len(start.Entries) != 0 || start.Index != int64(len(r.Raw()))-1 {
		t.Fatalf("it begins at %+v", start)
	}
	began := time.Now()
	beat, err := r.jump.Client.JumpOrders(ctx, start.Index, time.Second)
	catest.Must(t, err)
	if d := time.Since(began); len(beat.Entries) != 0 || d < 900*time.Millisecond {
		t.Errorf("a heartbeat after %v: %+v", d, beat)
	}
	type heard struct {
		a   *api.JumpOrders
		at  time.Time
		err error
	}
	c := make(chan heard, 1)
	go func() {
		a, err := r.jump.Client.JumpOrders(ctx, beat.Index, 20*time.Second)
		c <- heard{a, time.Now(), err}
	}()
	time.Sleep(100 * time.Millisecond)
	_, err = order(r.alice, statement.OrderRevokeGrant, string(r.grant.ID), "laptop stolen", statement.Hash{})
	catest.Must(t, err)
	answered := time.Now()
	h := <-c
	catest.Must(t, h.err)
	t.Logf("heard %v after the order was answered", h.at.Sub(answered))
	if h.at.Sub(answered) > time.Second {
		t.Errorf("heard late")
	}
	if len(h.a.Entries) != 1 {
		t.Fatalf("%+v", h.a)
	}
	e, err := ledger.Decode([]byte(h.a.Entries[0].Entry))
	catest.Must(t, err)
	if f, ok := e.Facts.(*ledger.Revoked); !ok || f.Target != string(r.grant.ID) || f.Why != "laptop stolen" {
		t.Errorf("%+v", e.Facts)
	}
	// Asked from further back, the same again: whoever was away misses nothing.
	again, err := r.jump.Client.JumpOrders(ctx, start.Index, 0)
	catest.Must(t, err)
	if len(again.Entries) != 1 || again.Entries[0].Entry != h.a.Entries[0].Entry {
		t.Errorf("%+v", again)
	}
	for what, cl := range map[string]interface {
		JumpOrders(context.Context, int64, time.Duration) (*api.JumpOrders, error)
	}{"a stranger": r.Client(catest.NewKey(t)), "nobody": r.Client(nil), "a client key": r.Client(r.grant.Key)} {
		if _, err := cl.JumpOrders(ctx, 0, 0); codeOf(err) != api.CodePass {
			t.Errorf("%s hears: %v", what, err)
		}
	}
	if _, err := r.jump.Client.JumpOrders(ctx, 1<<40, 0); codeOf(err) != api.CodeBadRequest {
		t.Errorf("beyond the ledger: %v", err)
	}
	// A revoked jump hears that, and nothing after it.
	at := int64(len(r.Raw())) - 1
	_, err = order(r.alice, statement.OrderRevokeJump, "jump-a", "rooted", statement.Hash{})
	catest.Must(t, err)
	g, err := r.alice.Request("root", "web01")
	catest.Must(t, err)
	_, err = order(r.alice, statement.OrderRevokeGrant, string(g.ID), "too", statement.Hash{})
	catest.Must(t, err)
	last, err := r.jump.Client.JumpOrders(ctx, at, 0)
	catest.Must(t, err)
	if len(last.Entries) != 1 {
		t.Errorf("a revoked jump hears %d entries", len(last.Entries))
	}
	if _, err := r.jump.Client.HostCerts(ctx, &api.HostCertsAsk{}); codeOf(err) != api.CodePass {
		t.Errorf("a revoked jump's call: %v", err)
	}
	site, err := r.SiteAnswer(ctx)
	catest.Must(t, err)
	if len(site.Site.Jumps) != 0 {
		t.Errorf("the site still names %v", site.Site.Jumps)
	}
	// The same key never joins again; a new one may, by a new invite.
	again2 := func(key, host ssh.Signer) error {
		_, err := r.Client(nil).Join(ctx, &api.JoinAsk{Invite: r.JumpToken("jump-a").Secret, Key: catest.Line(key.PublicKey()), HostKey: catest.Line(host.PublicKey()),
			Addresses: []string{"127.0.0.1:2222"}, Source: []string{"127.0.0.1"}})
		return err
	}
	if err := again2(r.jump.Key, r.jump.HostKey); codeOf(err) != api.CodeRevoked {
		t.Errorf("the revoked key joins: %v", err)
	}
	catest.Must(t, again2(catest.NewKey(t), catest.NewKey(t)))
	r.Audit()
}

// TestRevokingAPersonSaysWhatTheyLeave: and ends all that is theirs, an invite that lies unused too.
func TestRevokingAPersonSaysWhatTheyLeave(t *testing.T) {
	r := run(t)
	unused := r.Token("bob")
	done, err := order(r.alice, statement.OrderRevokePerson, "bob", "left the company", statement.Hash{})
	catest.Must(t, err)
	if l := done.Left; l == nil || len(l.Recipients) != 1 || l.Recipients[0] != bobsRecipient || len(l.Rules) != 2 {
		t.Errorf("left: %+v", done.Left)
	}
	if _, err := r.Stranger("bob").Spend(unused, "again"); codeOf(err) != api.CodeInvite {
		t.Errorf("an invite from before: %v", err)
	}
	if _, err := r.jump.Open(r.jump.Question(r.grant)); err == nil {
		t.Error("a session is sealed to nobody")
	}
	done, err = order(r.alice, statement.OrderRevokePerson, "alice", "I leave", statement.Hash{})
	catest.Must(t, err)
	if l := done.Left; l == nil || len(l.Unreviewed) != 1 || l.Unreviewed[0] != r.grant.ID || len(done.Stopped.Sessions) != 1 {
		t.Errorf("left %+v, stopped %+v", done.Left, done.Stopped)
	}
	if _, err := order(r.alice, statement.OrderInvitePerson, "carol", "", statement.Hash{9}); err == nil {
		t.Error("a revoked operator invites")
	}
	// Invited anew, by whoever may, bob's new key counts; the old one never again.
	again := r.Stranger("bob")
	if _, err := again.Spend(r.Token("bob"), "second"); err != nil {
		t.Fatal(err)
	}
	if _, err := again.Pass(); err != nil {
		t.Errorf("the new key: %v", err)
	}
	if _, err := r.bob.Pass(); err == nil {
		t.Error("the old key counts again")
	}
	r.Audit()
}

// TestKRLNamesWhatIsRevoked: and nothing else, and what it names is a day later gone with what it was about.
func TestKRLNamesWhatIsRevoked(t *testing.T) {
	r := run(t)
	ctx := context.Background()
	list := func() *krl.List { // at once: what was revoked waits for no cache
		t.Helper()
		b, err := r.Client(nil).KRL(ctx)
		catest.Must(t, err)
		l, err := krl.Parse(b)
		catest.Must(t, err)
		return l
	}
	cert := func(a *api.SessionAnswer) ssh.PublicKey {
		k, _, _, _, err := ssh.ParseAuthorizedKey([]byte(a.Opened.Certificate))
		catest.Must(t, err)
		return k
	}
	g2, err := r.alice.Request("root", "web01")
	catest.Must(t, err)
	other, err := r.jump.Open(r.jump.Question(g2))
	catest.Must(t, err)
	before := list()
	if before.Revokes(cert(r.session)) || before.Revokes(cert(other)) {
		t.Error("something is revoked before anything was")
	}
	_, err = order(r.alice, statement.OrderRevokeGrant, string(r.grant.ID), "laptop stolen", statement.Hash{})
	catest.Must(t, err)
	_, err = order(r.alice, statement.OrderRevokeCertificate, "4711", "in sshd's log, and in no entry", statement.Hash{})
	catest.Must(t, err)
	after := list()
	if !after.Revokes(cert(r.session)) || after.Revokes(cert(other)) {
		t.Error("not the session of the revoked grant, or another")
	}
	if after.Version <= before.Version || after.Comment != r.Pins.Site.Origin {
		t.Errorf("version %d after %d, of %q", after.Version, before.Version, after.Comment)
	}
	forged := cert(other).(*ssh.Certificate)
	copied := *forged
	copied.Serial = 4711
	if !after.Revokes(&copied) {
		t.Error("a serial that no entry holds is not refused")
	}
	copied.Serial, copied.KeyId = 1, "breakglass:"+string(r.grant.ID)+":alice"
	if !after.Revokes(&copied) {
		t.Error("a certificate of another serial in the revoked grant's name is not refused")
	}
}
