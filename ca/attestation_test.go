package ca_test

import (
	"bytes"
	"context"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"breakglass/ca"
	"breakglass/ca/api"
	"breakglass/ca/catest"
	"breakglass/internal/attest"
	"breakglass/internal/attest/attesttest"
	"breakglass/internal/softkey"
	"breakglass/ledger"
	"breakglass/policy"
)

// vendorPolicy is catest's default as a production policy that lists v.
func vendorPolicy(v *attesttest.Vendor) string {
	return strings.Replace(catest.Policy, `profile = "demo"`, `profile = "production"`, 1) + "\n" + v.PolicyText()
}

func lastOf[F ledger.Facts](t *testing.T, c *catest.CA) (f F, found bool) {
	t.Helper()
	for _, e := range c.Entries() {
		if x, ok := e.Facts.(F); ok {
			f, found = x, true
		}
	}
	return f, found
}

// TestAProductionSiteEnrolsHardwareOnly bends what a person sends at enrolment. Each refusal has its reason, is summed and enrols nothing;
// what goes in verifies again in the audit.
func TestAProductionSiteEnrolsHardwareOnly(t *testing.T) {
	v, other := attesttest.New(t), attesttest.New(t)
	c := catest.New(t, catest.Config{Policy: vendorPolicy(v), Vendor: v})
	aaguid, _ := attesttest.OIDs()
	ctx := context.Background()
	key := func(cfg softkey.Config) func() *catest.Person {
		return func() *catest.Person { return c.With("alice", cfg) }
	}
	hard := func() *catest.Person { return c.Stranger("alice") }
	other.AAGUID = v.AAGUID
	forged := other.Key(catest.PIN)
	soft := v.Batch(func(l *x509.Certificate) {
		a := attest.SoftwareAAGUID()
		l.ExtraExtensions = []pkix.Extension{v.OctetString(aaguid, a[:])}
	})
	synced := v.Key(catest.PIN)
	synced.Faults.BackedUp = true
	web := v.Key(catest.PIN)
	web.Faults.WrongRPIDHash = true
	untouched := v.Key(catest.PIN)
	untouched.Faults.NoUP = true
	broken := v.Key(catest.PIN)
	broken.Faults.BadSignature = true
	old := v.Key(catest.PIN)
	old.Batch = v.Batch(func(l *x509.Certificate) { l.ExtraExtensions = l.ExtraExtensions[:1] })
	replay := c.Stranger("alice").Credential // good, and over another challenge
	want := map[string]int64{}
	for _, r := range []struct {
		what string
		code attest.Code
		who  func() *catest.Person
		bend func(*api.EnrolKey)
	}{
		{"the software key as it is", attest.ModelCode, key(softkey.Config{PIN: catest.PIN}), nil},
		{"the software key with its own root", attest.ModelCode, key(softkey.Config{PIN: catest.PIN, Attestation: softkey.AttestBasic}), nil},
		{"the software key with a batch certificate of the listed vendor", attest.ModelCode, key(softkey.Config{PIN: catest.PIN, Attestation: softkey.AttestBasic, Batch: soft}), nil},
		{"the software key that says it is another model", attest.Self, key(softkey.Config{PIN: catest.PIN, AAGUID: v.AAGUID}), nil},
		{"the software key that says so, and its own root", attest.Chain, key(softkey.Config{PIN: catest.PIN, AAGUID: v.AAGUID, Attestation: softkey.AttestBasic}), nil},
		{"a key that attests nothing", attest.None, key(softkey.Config{PIN: catest.PIN, AAGUID: v.AAGUID, Attestation: softkey.AttestNone}), nil},
		{"nothing attested", attest.Missing, hard, func(q *api.EnrolKey) { q.Format = "" }},
		{"a U2F key", attest.Format, hard, func(q *api.EnrolKey) { q.Format = "fido-u2f" }},
		{"a passkey that syncs", attest.Backup, key(synced), nil},
		{"a credential for a web site", attest.Application, key(web), nil},
		{"a credential made without a touch", attest.Flags, key(untouched), nil},
		{"a signature that does not verify", attest.Signature, key(broken), nil},
		{"another maker's key that says it is this model", attest.Chain, key(forged), nil},
		{"firmware that the certificate doesn't say", attest.Firmware, key(old), nil},
		{"an attestation of an earlier enrolment", attest.Signature, hard, func(q *api.EnrolKey) {
			q.PublicKey, q.CredentialID, q.AuthData, q.Cert, q.Signature = catest.Line(replay.PublicKey), replay.CredentialID, replay.AuthData, replay.Cert, replay.Signature
		}},
		{"the same, with its own challenge beside", attest.Challenge, hard, func(q *api.EnrolKey) {
			q.PublicKey, q.CredentialID, q.AuthData, q.Cert, q.Signature = catest.Line(replay.PublicKey), replay.CredentialID, replay.AuthData, replay.Cert, replay.Signature
			q.Challenge = bytes.Repeat([]byte{1}, attest.ChallengeSize)
		}},
		{"the attestation of another key", attest.Key, hard, func(q *api.EnrolKey) { q.PublicKey = catest.Line(replay.PublicKey) }},
		{"another credential id", attest.Key, hard, func(q *api.EnrolKey) { q.CredentialID[0] ^= 1 }},
		{"the certificate taken off", attest.Self, hard, func(q *api.EnrolKey) { q.Cert = nil }},
		{"another key's certificate", attest.Signature, hard, func(q *api.EnrolKey) { q.Cert = v.Batch(nil).Cert }},
		{"a byte after the authenticator data", attest.Format, hard, func(q *api.EnrolKey) { q.AuthData = append(q.AuthData, 0) }},
		{"too many certificates beside", attest.Format, hard, func(q *api.EnrolKey) { q.Chain = slices.Repeat([][]byte{q.Cert}, 9) }},
	} {
		t.Run(r.what, func(t *testing.T) {
			p := r.who()
			ask, err := p.Client.Enrol(ctx, api.EnrolAsk{Invite: c.Token("alice").Secret, Key: "main"})
			catest.Must(t, err)
			p.Credential, err = p.Key.Enroll(api.Application, ask.Challenge, true)
			catest.Must(t, err)
			q := enrolKey(p.Credential)
			if r.bend != nil {
				r.bend(&q)
			}
			_, err = p.Client.EnrolKey(ctx, ask.ID, q)
			pr := problem(t, err)
			if pr.Code != api.CodeAttestation || len(pr.Reasons) != 1 || pr.Reasons[0].Code != string(r.code) || len(pr.Next) == 0 || pr.Status != 403 {
				t.Errorf("got %d %s %v %v, want %s", pr.Status, pr.Code, pr.Reasons, pr.Next, r.code)
			}
			want[string(r.code)]++
			// The client data is used, whatever came of it.
			if _, err = p.Client.EnrolKey(ctx, ask.ID, enrolKey(p.Credential)); problem(t, err).Code != api.CodeExpired {
				t.Errorf("a second try with the same client data: %v", err)
			}
		})
	}
	if _, found := lastOf[*ledger.KeyEnrolled](t, c); found {
		t.Error("a key was enrolled")
	}
	// Two keys of one person are two: another credential, another name.
	c.Enrol("alice")
	if _, err := c.With("alice", v.Key(catest.PIN)).Spend(c.Token("alice"), "spare"); err != nil {
		t.Errorf("a second key: %v", err)
	}
	if _, err := c.Stranger("alice").Spend(c.Token("alice"), "soft"); problem(t, err).Code != api.CodeConflict {
		t.Errorf("two keys of one name: %v", err)
	}
	f, _ := lastOf[*ledger.KeyEnrolled](t, c)
	if f.Software || f.Attestation == nil || f.Attestation.Model != v.Name || f.Attestation.Firmware != "5.7.1" || len(f.Attestation.Chain) != 2 ||
		f.Attestation.Root.String() != hex.EncodeToString(v.Model().Roots[0][:]) {
		t.Errorf("recorded: %+v", f)
	}
	c.Stop()
	c.Start()
	summed := map[string]int64{}
	for _, e := range c.Entries() {
		if f, ok := e.Facts.(*ledger.StrangersSummed); ok {
			for _, n := range f.Counts {
				summed[n.Reason] += n.Count
			}
		}
	}
	for code, n := range want {
		if summed[code] != n {
			t.Errorf("summed %s: %d, want %d", code, summed[code], n)
		}
	}
	c.Audit()
}

func enrolKey(e *softkey.Enrollment) api.EnrolKey {
	return api.EnrolKey{PublicKey: catest.Line(e.PublicKey), CredentialID: bytes.Clone(e.CredentialID), Format: e.Format, AuthData: bytes.Clone(e.AuthData),
		Cert: e.Cert, Signature: e.Signature}
}

// TestTheFirstSignatureIsTheNewKeys has the key that was attested sign: no other one may, and it must have been touched.
func TestTheFirstSignatureIsTheNewKeys(t *testing.T) {
	v := attesttest.New(t)
	c := catest.New(t, catest.Config{Policy: vendorPolicy(v), Vendor: v})
	ctx := context.Background()
	for what, r := range map[string]struct {
		code string
		sign func(p *catest.Person, ch *api.Challenge) string
	}{
		"another key of the same batch": {api.CodeRefused, func(_ *catest.Person, ch *api.Challenge) string { return c.Stranger("alice").Sign(ch) }},
		"without a touch":               {api.CodeNoTouch, func(p *catest.Person, ch *api.Challenge) string { return p.SignSilently(ch) }},
		"without a PIN":                 {api.CodeNoPIN, func(p *catest.Person, ch *api.Challenge) string { return p.SignText(ch.Statement, ch.Namespace, false) }},
		"under another namespace":       {api.CodeRefused, func(p *catest.Person, ch *api.Challenge) string { return p.SignText(ch.Statement, "file", true) }},
		"of other words": {api.CodeRefused, func(p *catest.Person, ch *api.Challenge) string {
			return p.SignText(ch.Statement+"x", ch.Namespace, true)
		}},
	} {
		p := c.Stranger("alice")
		ask, err := p.Client.Enrol(ctx, api.EnrolAsk{Invite: c.Token("alice").Secret, Key: "main"})
		catest.Must(t, err)
		p.Credential, err = p.Key.Enroll(api.Application, ask.Challenge, true)
		catest.Must(t, err)
		ch, err := p.Client.EnrolKey(ctx, ask.ID, enrolKey(p.Credential))
		catest.Must(t, err)
		if _, err := p.Client.SignEnrolment(ctx, ch.ID, api.Signed{SSHSIG: r.sign(p, ch)}); problem(t, err).Code != r.code {
			t.Errorf("%s: %v, want %s", what, err, r.code)
		}
	}
	if _, found := lastOf[*ledger.KeyEnrolled](t, c); found {
		t.Error("a key was enrolled")
	}
}

// TestADemoThatListsModelsJudgesThem: who names hardware wants hardware.
func TestADemoThatListsModelsJudgesThem(t *testing.T) {
	v := attesttest.New(t)
	c := catest.New(t, catest.Config{Policy: catest.Policy + "\n" + v.PolicyText(), Vendor: v})
	alice := c.Enrol("alice")
	if f, _ := lastOf[*ledger.KeyEnrolled](t, c); f.Software {
		t.Error("recorded as a software key")
	}
	if st, err := c.Status(context.Background()); err != nil || len(st.Rootless) != 0 {
		t.Errorf("status: %+v, %v", st, err)
	}
	// Whoever has the bundle alone sees what the key proved, and by which policy that was enough.
	g, err := alice.Request("root", "web01")
	catest.Must(t, err)
	reader, err := alice.Pass()
	catest.Must(t, err)
	bundle, err := reader.Evidence(context.Background(), g.ID)
	catest.Must(t, err)
	audit := ledger.NewAudit(ledger.AuditConfig{LedgerKey: c.Pins.Site.LedgerKey, Part: true})
	for _, e := range bundle.Entries {
		audit.Add(e.Index, []byte(e.Entry))
	}
	if fs, _ := audit.Findings(); len(fs) > 0 || audit.Grant(g.ID).Key.Model != v.Name {
		t.Errorf("bundle: %v, %+v", fs, audit.Grant(g.ID).Key)
	}
	if _, err := c.With("bob", softkey.Config{PIN: catest.PIN}).Spend(c.Token("bob"), "soft"); problem(t, err).Code != api.CodeAttestation {
		t.Errorf("a software key: %v", err)
	}
	c.Audit()
}

// TestWithoutTheMakersCertificatesNobodyEnrolsButTheCAServes: those who are enrolled must get in all the same.
func TestWithoutTheMakersCertificatesNobodyEnrolsButTheCAServes(t *testing.T) {
	v := attesttest.New(t)
	c := catest.New(t, catest.Config{Policy: vendorPolicy(v), Vendor: v})
	c.Stop()
	config := filepath.Join(c.Dir, "config.toml")
	b, err := os.ReadFile(config)
	catest.Must(t, err)
	catest.Must(t, os.WriteFile(config, bytes.ReplaceAll(b, []byte("root.pem"), []byte("gone.pem")), 0o600))
	c.Start()
	_, err = c.Stranger("alice").Spend(c.Token("alice"), "main")
	if pr := problem(t, err); pr.Code != api.CodeAttestation || pr.Reasons[0].Code != string(attest.Chain) {
		t.Errorf("enrolled by: %v", err)
	}
	if st, err := c.Status(context.Background()); err != nil || !slices.Equal(st.Rootless, []string{v.Name}) {
		t.Errorf("status: %+v, %v", st, err)
	}
	for what, f := range map[string]ca.FileAttestation{
		"a file that is not there": {Roots: []string{"/nonexistent/root.pem"}},
		"a file that is no PEM":    {Intermediates: []string{config}},
	} {
		if _, err := ca.Init(context.Background(), ca.InitConfig{Dir: t.TempDir(), PolicyName: "p", Policy: []byte(vendorPolicy(v)), Listen: []string{"127.0.0.1:1"}, Attestation: f}); err == nil {
			t.Errorf("init took %s", what)
		}
	}
}

// TestModelsReadAlike: the ledger's auditor reads the models of a policy without package policy, and must see the same.
func TestModelsReadAlike(t *testing.T) {
	v, w := attesttest.New(t), attesttest.New(t)
	text := vendorPolicy(v) + "\n" + strings.Replace(w.PolicyText(), "firmware", "#", 1)
	p, err := policy.Load("test", []byte(text))
	catest.Must(t, err)
	got, err := attest.Models(text)
	catest.Must(t, err)
	if len(got) != 2 || len(p.Enrolment.Models) != 2 {
		t.Fatalf("%d and %d models", len(got), len(p.Enrolment.Models))
	}
	for i, m := range p.Enrolment.Models {
		if g := got[i]; g.Name != m.Name || g.AAGUID != m.AAGUID || g.Firmware != m.Firmware || !slices.Equal(g.Roots, m.Roots) {
			t.Errorf("read %+v and %+v", g, m)
		}
	}
	soft := strings.Replace(v.PolicyText(), attest.FormatAAGUID(v.AAGUID), attest.FormatAAGUID(attest.SoftwareAAGUID()), 1)
	if _, err := policy.Load("test", []byte(vendorPolicy(w)+"\n"+soft)); err == nil {
		t.Error("a production policy may list the software key")
	}
}

// TestWhatTheWriterFindsCounts: the attestation is judged again when the key signs, by the clock and the policy of that moment.
func TestWhatTheWriterFindsCounts(t *testing.T) {
	v, clk := attesttest.New(t), &clock{}
	c := catest.New(t, catest.Config{Policy: vendorPolicy(v), Vendor: v, Now: clk.now})
	cfg := v.Key(catest.PIN)
	cfg.Batch = v.Batch(func(l *x509.Certificate) { l.NotAfter = clk.now().Add(20 * time.Second) })
	p := c.With("alice", cfg)
	ctx, token := context.Background(), c.Token("alice")
	begin := func() *api.Challenge {
		ask, err := p.Client.Enrol(ctx, api.EnrolAsk{Invite: token.Secret, Key: "main"})
		catest.Must(t, err)
		p.Credential, err = p.Key.Enroll(api.Application, ask.Challenge, true)
		catest.Must(t, err)
		ch, err := p.Client.EnrolKey(ctx, ask.ID, enrolKey(p.Credential))
		catest.Must(t, err)
		return ch
	}
	ch := begin()
	clk.forward(30 * time.Second)
	_, err := p.Client.SignEnrolment(ctx, ch.ID, api.Signed{SSHSIG: p.Sign(ch)})
	if pr := problem(t, err); pr.Code != api.CodeAttestation || pr.Reasons[0].Code != string(attest.Chain) {
		t.Errorf("a certificate that expired meanwhile: %v", err)
	}
	if _, found := lastOf[*ledger.KeyEnrolled](t, c); found {
		t.Error("a key was enrolled")
	}
	// The client data waits ten minutes for a key, and no longer.
	p = c.Stranger("alice")
	for _, w := range []struct {
		wait time.Duration
		code string
	}{{9 * time.Minute, ""}, {11 * time.Minute, api.CodeExpired}} {
		ask, err := p.Client.Enrol(ctx, api.EnrolAsk{Invite: token.Secret, Key: "main"})
		catest.Must(t, err)
		cred, err := p.Key.Enroll(api.Application, ask.Challenge, true)
		catest.Must(t, err)
		clk.forward(w.wait)
		_, err = p.Client.EnrolKey(ctx, ask.ID, enrolKey(cred))
		if w.code == "" && err != nil || w.code != "" && problem(t, err).Code != w.code {
			t.Errorf("after %v: %v, want %q", w.wait, err, w.code)
		}
	}
}

// TestAHundredKeysRaceForOneInvite: one is enrolled, and the others are told why not.
func TestAHundredKeysRaceForOneInvite(t *testing.T) {
	const racers = 100
	v := attesttest.New(t)
	c := catest.New(t, catest.Config{Policy: vendorPolicy(v), Vendor: v, Limits: ca.FileLimits{Network: 1e4, NetworkBurst: 1e4, All: 1e4, AllBurst: 1e4}})
	ctx, token := context.Background(), c.Token("alice")
	type ready struct {
		p  *catest.Person
		id string
		s  string
	}
	var all []ready
	for i := range racers {
		p := c.Stranger("alice")
		ask, err := p.Client.Enrol(ctx, api.EnrolAsk{Invite: token.Secret, Key: fmt.Sprintf("key-%d", i)})
		catest.Must(t, err)
		p.Credential, err = p.Key.Enroll(api.Application, ask.Challenge, true)
		catest.Must(t, err)
		ch, err := p.Client.EnrolKey(ctx, ask.ID, enrolKey(p.Credential))
		catest.Must(t, err)
		all = append(all, ready{p, ch.ID, p.Sign(ch)})
	}
	errs := make([]error, racers)
	var wg sync.WaitGroup
	start := make(chan struct{})
	for i, r := range all {
		wg.Go(func() {
			<-start
			_, errs[i] = r.p.Client.SignEnrolment(ctx, r.id, api.Signed{SSHSIG: r.s})
		})
	}
	close(start)
	wg.Wait()
	won := 0
	for _, err := range errs {
		if err == nil {
			won++
		} else if problem(t, err).Code != api.CodeInvite {
			t.Errorf("lost by %v", err)
		}
	}
	entries := 0
	for _, e := range c.Entries() {
		if e.Type() == "key.enrolled" {
			entries++
		}
	}
	if won != 1 || entries != 1 {
		t.Errorf("%d won, %d entries", won, entries)
	}
	c.Audit()
}
