package ca_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"

	"breakglass/ca"
	"breakglass/ca/api"
	"breakglass/ca/catest"
	"breakglass/internal/sshcert"
	"breakglass/internal/statement"
)

// standby is the place of a demo CA's standby key, as init left it.
func standby(c *catest.CA, key string) string {
	return "file:" + filepath.Join(c.Dir, "standby-keys", key)
}

func signer(t *testing.T, line string) string {
	t.Helper()
	cert, err := sshcert.Parse([]byte(line))
	catest.Must(t, err)
	return ssh.FingerprintSHA256(cert.SignatureKey)
}

func TestRotationOverlaps(t *testing.T) {
	s := newStage(t)
	ctx := context.Background()
	before := s.grant(t)
	old := signer(t, before.Certificate)
	rotated := map[string]*ca.Rotated{}
	for _, k := range []string{ca.KeyClientCA, ca.KeySessionCA, ca.KeyHostCA, ca.KeyTLS} {
		r, err := s.Rotate(ctx, &ca.RotateAsk{Key: k, Standby: standby(s.CA, k)})
		catest.Must(t, err)
		if r.Order != "" || r.Active == r.Old || r.Standby == r.Active {
			t.Errorf("%s: %+v", k, r)
		}
		rotated[k] = r
	}
	if rotated[ca.KeyClientCA].Old != old {
		t.Errorf("the old client CA is %s, rotated was %s", old, rotated[ca.KeyClientCA].Old)
	}
	after := s.grant(t)
	if got := signer(t, after.Certificate); got != rotated[ca.KeyClientCA].Active {
		t.Errorf("a certificate after the rotation is by %s", got)
	}
	for name, g := range map[string]*catest.Grant{"by the old key": before, "by the new key": after} {
		a, err := s.jump.Open(s.jump.Question(g))
		if err != nil {
			t.Fatalf("a certificate %s: %v", name, err)
		}
		if got := signer(t, a.Opened.Certificate); got != rotated[ca.KeySessionCA].Active {
			t.Errorf("a session of a certificate %s is by %s", name, got)
		}
	}
	s.Stop()
	s.Start() // what the configuration names is what the ledger calls active
	a, err := s.jump.Open(s.jump.Question(before))
	catest.Must(t, err)
	if got := signer(t, a.Opened.Certificate); got != rotated[ca.KeySessionCA].Active {
		t.Errorf("after a restart a session is by %s", got)
	}
	for _, r := range rotated {
		if _, err := s.Retire(ctx, r.Old); err != nil {
			t.Errorf("retiring %s: %v", r.Key, err)
		}
	}
	if _, err := s.jump.Open(s.jump.Question(before)); err == nil {
		t.Error("a certificate by a retired key opens a session")
	}
	if _, err := s.jump.Open(s.jump.Question(after)); err != nil {
		t.Errorf("and one by the active key: %v", err)
	}
	keys, err := s.Keys(ctx)
	catest.Must(t, err)
	states := map[string]int{}
	for _, k := range keys {
		states[k.State]++
	}
	if states["active"] != 5 || states["trusted"] != 4 || states["retired"] != 4 {
		t.Errorf("%v", states)
	}
	s.Audit()
}

func TestWhatIsNoRotation(t *testing.T) {
	s := newStage(t)
	ctx := context.Background()
	keys, err := s.Keys(ctx)
	catest.Must(t, err)
	foreign := filepath.Join(t.TempDir(), "k")
	other := catest.New(t, catest.Config{})
	b, err := os.ReadFile(filepath.Join(other.Dir, "standby-keys", ca.KeySessionCA))
	catest.Must(t, err)
	catest.Must(t, os.WriteFile(foreign, b, 0o600))
	size := len(s.Raw())
	for name, q := range map[string]*ca.RotateAsk{
		"the active key":             {Key: ca.KeySessionCA, Standby: "file:" + filepath.Join(s.Dir, "keys", ca.KeySessionCA)},
		"another CA's standby":       {Key: ca.KeySessionCA, Standby: "file:" + foreign},
		"the standby of another key": {Key: ca.KeySessionCA, Standby: standby(s.CA, ca.KeyClientCA)},
		"a TLS key as an SSH key":    {Key: ca.KeySessionCA, Standby: standby(s.CA, ca.KeyTLS)},
		"the ledger's key":           {Key: ca.KeyLedger, Standby: standby(s.CA, ca.KeyTLS)},
		"a file that is not there":   {Key: ca.KeySessionCA, Standby: "file:" + filepath.Join(s.Dir, "none")},
		"no place":                   {Key: ca.KeySessionCA, Standby: "somewhere"},
	} {
		if r, err := s.Rotate(ctx, q); err == nil {
			t.Errorf("%s: %+v", name, r)
		}
	}
	for name, fp := range map[string]string{"the active key": keys[0].Fingerprint, "an unknown key": "SHA256:" + strings.Repeat("A", 43), "nothing": ""} {
		if _, err := s.Retire(ctx, fp); err == nil {
			t.Errorf("retired %s", name)
		}
	}
	if n := len(s.Raw()); n != size {
		t.Errorf("%d entries by what was refused", n-size)
	}
}

// TestACrashBetweenTheLedgerAndTheConfiguration: both places stand there, in either order; the ledger decides.
func TestACrashBetweenTheLedgerAndTheConfiguration(t *testing.T) {
	s := newStage(t)
	path := filepath.Join(s.Dir, "config.toml")
	before, err := os.ReadFile(path)
	catest.Must(t, err)
	r, err := s.Rotate(context.Background(), &ca.RotateAsk{Key: ca.KeySessionCA, Standby: standby(s.CA, ca.KeySessionCA)})
	catest.Must(t, err)
	one := "session_ca = ['file:keys/session_ca']"
	if !strings.Contains(string(before), one) {
		t.Fatalf("no %s in\n%s", one, before)
	}
	for _, both := range []string{"['file:keys/session_ca', '" + r.Place + "']", "['" + r.Place + "', 'file:keys/session_ca']"} {
		s.Stop()
		catest.Must(t, os.WriteFile(path, []byte(strings.Replace(string(before), one, "session_ca = "+both, 1)), 0o600))
		s.Start()
		a, err := s.jump.Open(s.jump.Question(s.grant(t)))
		catest.Must(t, err)
		if got := signer(t, a.Opened.Certificate); got != r.Active {
			t.Errorf("%s: a session is by %s", both, got)
		}
	}
	s.Stop()
	catest.Must(t, os.WriteFile(path, before, 0o600)) // restored from before the rotation
	_, err = ca.Open(ca.Config{Dir: s.Dir})
	if err == nil || !strings.Contains(err.Error(), r.Active) {
		t.Errorf("with the old key alone: %v", err)
	}
}

func TestProductionKeepsNoPlainKey(t *testing.T) {
	cfg := ca.InitConfig{Dir: filepath.Join(t.TempDir(), "ca"), PolicyName: "policy.toml", Policy: []byte(productionPolicy), Listen: []string{"127.0.0.1:1"}}
	if _, err := ca.Init(context.Background(), cfg); !errors.Is(err, ca.ErrPlainKey) {
		t.Errorf("init: %v", err)
	}
	c := catest.New(t, catest.Config{Policy: productionPolicy})
	c.Stop()
	secret, err := os.ReadFile(filepath.Join(filepath.Dir(c.Dir), "credentials", "breakglass-ca-session_ca"))
	catest.Must(t, err)
	catest.Must(t, os.WriteFile(filepath.Join(c.Dir, "keys", "session_ca"), secret, 0o600))
	path := filepath.Join(c.Dir, "config.toml")
	b, err := os.ReadFile(path)
	catest.Must(t, err)
	catest.Must(t, os.WriteFile(path, []byte(strings.Replace(string(b), "credential:breakglass-ca-session_ca", "file:keys/session_ca", 1)), 0o600))
	if _, err := ca.Open(ca.Config{Dir: c.Dir, Credentials: filepath.Join(filepath.Dir(c.Dir), "credentials")}); !errors.Is(err, ca.ErrPlainKey) {
		t.Errorf("serving: %v", err)
	}
	err = filepath.WalkDir(c.Dir, func(p string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() || p == filepath.Join(c.Dir, "keys", "session_ca") || strings.Contains(p, "ca.db") {
			return err
		}
		if b, err := os.ReadFile(p); err == nil && strings.Contains(string(b), "PRIVATE KEY") {
			t.Errorf("%s holds a plain key", p)
		}
		return nil
	})
	catest.Must(t, err)
}

// TestARotationAfterTheFoundingTakesAnOperator prepares on the CA's machine and orders from the operator's.
func TestARotationAfterTheFoundingTakesAnOperator(t *testing.T) {
	s := newStage(t) // of the demo profile, where local root could, and an order works too
	alice, bob := s.alice, s.bob
	if _, err := order(alice, statement.OrderRotateKey, "session_ca:SHA256:"+strings.Repeat("A", 43), "", statement.Hash{}); codeOf(err) != api.CodeConflict {
		t.Errorf("with nothing prepared: %v", err)
	}
	r, err := s.Rotate(context.Background(), &ca.RotateAsk{Key: ca.KeySessionCA, Standby: standby(s.CA, ca.KeySessionCA)})
	catest.Must(t, err)
	target := "session_ca:" + r.Old
	if _, err := order(bob, statement.OrderRetireKey, target, "leaked", statement.Hash{}); codeOf(err) != api.CodeNotOperator {
		t.Errorf("by who is no operator: %v", err)
	}
	if _, err := order(alice, statement.OrderRetireKey, "client_ca:"+r.Old, "leaked", statement.Hash{}); err == nil {
		t.Error("a session CA retired as a client CA")
	}
	if _, err := order(alice, statement.OrderRetireKey, "session_ca:"+r.Active, "leaked", statement.Hash{}); codeOf(err) != api.CodeConflict {
		t.Errorf("the active key: %v", err)
	}
	if _, err := order(alice, statement.OrderRetireKey, target, "leaked", statement.Hash{}); err != nil {
		t.Error(err)
	}
	if _, err := order(alice, statement.OrderRetireKey, target, "leaked", statement.Hash{}); err == nil {
		t.Error("retired twice")
	}
	s.Audit()
}

// TestAProductionRotation: what is prepared on the CA's machine changes nothing before an operator ordered exactly that key.
func TestAProductionRotation(t *testing.T) {
	w := newTown(t)
	ctx := context.Background()
	ask := func(passphrase string) (*ca.Rotated, error) {
		return w.Rotate(ctx, &ca.RotateAsk{Key: ca.KeyClientCA, Standby: "sealed:" + filepath.Join(w.Dir, "standby-keys", "client_ca.age"), Passphrase: []byte(passphrase)})
	}
	if _, err := ask("some other passphrase"); err == nil {
		t.Error("a standby opened under another passphrase")
	}
	r, err := ask(catest.StandbyPassphrase)
	catest.Must(t, err)
	if r.Order != "client_ca:"+r.Active {
		t.Fatalf("%+v", r)
	}
	g, err := w.desk["alice"].Request("root", "web01")
	catest.Must(t, err)
	if got := signer(t, g.Certificate); got != r.Old {
		t.Errorf("before the order a certificate is by %s", got)
	}
	_, err = order(w.desk["alice"], statement.OrderRotateKey, r.Order, "", statement.Hash{})
	w.wants("an owner who is no operator", api.CodeNotOperator, err)
	_, err = order(w.desk["olga"], statement.OrderRotateKey, "client_ca:"+r.Old, "", statement.Hash{})
	w.wants("another key than the prepared one", api.CodeConflict, err)
	_, err = order(w.desk["olga"], statement.OrderRotateKey, r.Order, "", statement.Hash{})
	w.wants("the operator", "", err)
	_, err = order(w.desk["olga"], statement.OrderRotateKey, r.Order, "", statement.Hash{})
	w.wants("once more", api.CodeConflict, err)
	g, err = w.desk["alice"].Request("root", "web01")
	catest.Must(t, err)
	if got := signer(t, g.Certificate); got != r.Active {
		t.Errorf("after the order a certificate is by %s", got)
	}
	if q, err := w.Retire(ctx, r.Old); err != nil || q.Order != "client_ca:"+r.Old {
		t.Errorf("local root retires: %+v, %v", q, err)
	}
	_, err = order(w.desk["olga"], statement.OrderRetireKey, "client_ca:"+r.Old, "rotated", statement.Hash{})
	w.wants("the operator retires it", "", err)
	w.Stop()
	if !r.Asks { // the others are credentials
		t.Error("nobody was told that the next start wants a passphrase")
	}
	catest.Must(t, os.WriteFile(filepath.Join(filepath.Dir(w.Dir), "credentials", ca.CredentialPassphrase), []byte(catest.StandbyPassphrase+"\n"), 0o400))
	w.Start() // with what the ledger says, though local root alone wrote the configuration
	g, err = w.desk["alice"].Request("root", "web01")
	catest.Must(t, err)
	if got := signer(t, g.Certificate); got != r.Active {
		t.Errorf("after a restart a certificate is by %s", got)
	}
	w.Audit()
}
