package softkey

import (
	"bytes"
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/crypto/ssh"
)

const app = "ssh:breakglass"

func newKey(t testing.TB, cfg Config) *Authenticator {
	t.Helper()
	a, err := NewAuthenticator(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func enrolled(t testing.TB, a *Authenticator) *Enrollment {
	t.Helper()
	e, err := a.Enroll(app, []byte("challenge"), true)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// TestSignSK: what x/crypto makes of each honest and each faulty signature.
func TestSignSK(t *testing.T) {
	a := newKey(t, Config{})
	e := enrolled(t, a)
	for _, c := range []struct {
		what   string
		faults Faults
		uv     bool
		flags  byte
		ok     bool // x/crypto accepts it
	}{
		{"touch", Faults{}, false, FlagUP, true},
		{"touch and PIN", Faults{}, true, FlagUP | FlagUV, true},
		{"no presence flag", Faults{NoUP: true}, true, FlagUV, false},
		{"no verification flag", Faults{NoUV: true}, true, FlagUP, true},
		{"forged verification flag", Faults{ForgedUV: true}, false, FlagUP | FlagUV, true},
		{"other application", Faults{WrongRPIDHash: true}, true, FlagUP | FlagUV, false},
		{"bad signature", Faults{BadSignature: true}, true, FlagUP | FlagUV, false},
	} {
		a.SetFaults(c.faults)
		sig, err := a.SignSK(app, []byte("data"), e.CredentialID, c.uv)
		if err != nil {
			t.Fatalf("%s: %v", c.what, err)
		}
		if sig.Rest[0] != c.flags || len(sig.Rest) != 5 {
			t.Errorf("%s: rest %x, want flags %02x", c.what, sig.Rest, c.flags)
		}
		if err := e.PublicKey.Verify([]byte("data"), sig); (err == nil) != c.ok {
			t.Errorf("%s: x/crypto says %v, want ok=%v", c.what, err, c.ok)
		}
	}
	a.SetFaults(Faults{})
	if _, err := a.SignSK("ssh:other", []byte("data"), e.CredentialID, true); !errors.Is(err, ErrNoCredential) {
		t.Errorf("for another application: %v", err)
	}
	a.SetFaults(Faults{DenyTouch: true})
	if _, err := a.SignSK(app, []byte("data"), e.CredentialID, true); !errors.Is(err, ErrNoTouch) {
		t.Errorf("nobody touches: %v", err)
	}
}

func counter(t *testing.T, a *Authenticator, e *Enrollment) uint32 {
	t.Helper()
	sig, err := a.SignSK(app, []byte("data"), e.CredentialID, true)
	if err != nil {
		t.Fatal(err)
	}
	return binary.BigEndian.Uint32(sig.Rest[1:])
}

func TestStateLivesInTheFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "key")
	a := newKey(t, Config{StatePath: path, PIN: "123456"})
	e := enrolled(t, a)
	if c := counter(t, a, e); c != 1 {
		t.Errorf("first counter is %d", c)
	}
	st, err := os.Stat(path)
	if err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", st.Mode(), err)
	}
	b := newKey(t, Config{StatePath: path, PIN: "ignored: there is one"})
	if c := counter(t, b, e); c != 2 {
		t.Errorf("counter after plugging in again is %d", c)
	}
	if c := counter(t, a, e); c != 3 { // two processes on one file
		t.Errorf("counter of the first is %d", c)
	}
	a.SetFaults(Faults{FrozenCounter: true})
	if c := counter(t, a, e); c != 3 {
		t.Errorf("frozen counter is %d", c)
	}
	if err := b.VerifyPIN("123456"); err != nil {
		t.Error(err)
	}
	if err := b.VerifyPIN("654321"); !errors.Is(err, ctapPINInvalid) {
		t.Errorf("wrong PIN: %v", err)
	}
	if err := os.WriteFile(path, []byte(`{"version":9}`), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := NewAuthenticator(Config{StatePath: path}); err == nil {
		t.Error("a state file of another version passed")
	}
}

func TestSigner(t *testing.T) {
	a := newKey(t, Config{})
	e := enrolled(t, a)
	var s ssh.Signer = a.Signer(e.PublicKey, app, e.CredentialID, true)
	sig, err := s.Sign(nil, []byte("data"))
	if err != nil {
		t.Fatal(err)
	}
	if err := s.PublicKey().Verify([]byte("data"), sig); err != nil {
		t.Error(err)
	}
}

// FuzzCommand: whatever a platform sends, the key answers with a status and stays alive.
func FuzzCommand(f *testing.F) {
	a := newKey(f, Config{PIN: "123456", BuiltInUV: true})
	e := enrolled(f, a)
	f.Add([]byte{cmdGetInfo})
	for cmd, v := range map[byte]any{
		cmdClientPIN:    pinRequest{Protocol: 2, Sub: subKeyAgreement},
		cmdGetAssertion: getAssertionRequest{RPID: app, ClientDataHash: make([]byte, 32), Allow: []credDescriptor{{e.CredentialID, "public-key"}}, Options: map[string]bool{"up": false}},
	} {
		b, err := encode(v)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(append([]byte{cmd}, b...))
	}
	q := makeCredentialRequest{ClientDataHash: make([]byte, 32), Params: []infoAlgorithm{{coseES256, "public-key"}}, Options: map[string]bool{"uv": true}}
	q.RP.ID, q.User.ID = app, []byte{1}
	b, err := encode(q)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(append([]byte{cmdMakeCredential}, b...))
	f.Fuzz(func(t *testing.T, msg []byte) {
		if out := a.handle(t.Context(), msg, func(byte) {}); len(out) == 0 || out[0] != 0 && len(out) != 1 {
			t.Errorf("%x: answered %x", msg, out)
		}
		if out := a.handle(t.Context(), []byte{cmdGetInfo}, func(byte) {}); !bytes.HasPrefix(out, []byte{0}) {
			t.Errorf("%x: then getInfo gives %x", msg, out)
		}
	})
}
