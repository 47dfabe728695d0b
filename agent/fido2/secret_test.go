//go:build cgo && !nolibfido2

package fido2

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"github.com/keys-pub/go-libfido2"

	"breakglass/agent/fido2/wire"
	"breakglass/internal/softkey"
)

func newReader(t *testing.T, k *softkey.Key, pin string) (*wire.Credential, error) {
	t.Helper()
	h := sha256.Sum256([]byte("challenge"))
	return MakeCredential(within(t, 10*time.Second), wire.Device{Path: k.Path()},
		&CredentialRequest{Application: wire.ReaderApplication, ChallengeHash: h[:], User: "bob", PIN: []byte(pin), UV: true, HMACSecret: true})
}

func reader(t *testing.T, k *softkey.Key, pin string) wire.Key {
	t.Helper()
	c, err := newReader(t, k, pin)
	if err != nil {
		t.Fatalf("making a reader's credential: %v", err)
	}
	return wire.Key{CredentialID: c.CredentialID, PublicKey: c.PublicKey}
}

func derive(t *testing.T, k *softkey.Key, key wire.Key, salt []byte, pin string) (*[SecretLen]byte, error) {
	t.Helper()
	h := make([]byte, 32)
	rand.Read(h)
	return Derive(within(t, 10*time.Second), wire.Device{Path: k.Path()}, &DeriveRequest{
		Application: wire.ReaderApplication, Key: key, Salt: salt, DataHash: h, PIN: []byte(pin)})
}

func TestDeriveThroughLibfido2(t *testing.T) {
	for _, protocol := range []int{1, 2} {
		t.Run(fmt.Sprint("protocol ", protocol), func(t *testing.T) {
			k := plug(t, softkey.Config{PIN: "123456", PINProtocols: []int{protocol}})
			key := reader(t, k, "123456")
			salts := [][]byte{bytes.Repeat([]byte{1}, 32), bytes.Repeat([]byte{2}, 32)}
			var got [2]*[SecretLen]byte
			for i, salt := range salts {
				want, err := k.Authenticator().Secret(wire.ReaderApplication, key.CredentialID, salt, true)
				if err != nil {
					t.Fatal(err)
				}
				for range 2 { // the same each time
					if got[i], err = derive(t, k, key, salt, "123456"); err != nil {
						t.Fatal(err)
					}
					if !bytes.Equal(got[i][:], want) {
						t.Errorf("salt %d: got %x, the key gave %x", i, got[i][:], want)
					}
				}
			}
			if *got[0] == *got[1] {
				t.Error("two salts give one secret")
			}
			// Two salts at once are the binding's to ask for; the key answers both.
			dev, err := libfido2.NewDevice(k.Path())
			if err != nil {
				t.Fatal(err)
			}
			as, err := dev.Assertion(wire.ReaderApplication, make([]byte, 32), [][]byte{key.CredentialID}, "123456", &libfido2.AssertionOpts{
				UP: libfido2.True, HMACSalt: bytes.Join(salts, nil), Extensions: []libfido2.Extension{libfido2.HMACSecretExtension}})
			if err != nil || !bytes.Equal(as.HMACSecret, append(got[0][:], got[1][:]...)) {
				t.Errorf("two salts: %v", err)
			}
		})
	}
}

func TestWhatDerivesNothing(t *testing.T) {
	salt := bytes.Repeat([]byte{7}, 32)
	state := filepath.Join(t.TempDir(), "key")
	k := plug(t, softkey.Config{PIN: "123456", StatePath: state})
	key := reader(t, k, "123456")
	_, err := derive(t, k, key, salt, "")
	wantCode(t, "no PIN", err, wire.PINRequired)
	_, err = derive(t, k, key, salt[:31], "123456")
	wantCode(t, "a short salt", err, wire.BadRequest)
	_, err = derive(t, k, key, append(salt, salt...), "123456")
	wantCode(t, "two salts as one", err, wire.BadRequest)
	_, err = derive(t, k, key, salt, "000000")
	wantCode(t, "wrong PIN", err, wire.PINInvalid)

	// The credential that signs requests derives nothing, and this one signs none.
	signs := enroll(t, k, "123456")
	_, err = derive(t, k, wire.Key{CredentialID: signs.CredentialID, PublicKey: signs.PublicKey}, salt, "123456")
	wantCode(t, "a request's credential", err, wire.BadRequest)
	_, err = derive(t, k, wire.Key{CredentialID: signs.CredentialID, PublicKey: key.PublicKey}, salt, "123456")
	wantCode(t, "a request's credential under another's public key", err, wire.NoCredential)
	_, err = assertion(t, k, &wire.Credential{CredentialID: key.CredentialID, PublicKey: key.PublicKey}, "a statement", "123456", true)
	wantCode(t, "a reader's credential signs a request", err, wire.BadRequest)
	_, err = assertion(t, k, &wire.Credential{CredentialID: key.CredentialID, PublicKey: signs.PublicKey}, "a statement", "123456", true)
	wantCode(t, "a reader's credential signs under a request's public key", err, wire.NoCredential)

	for _, c := range []struct {
		what   string
		faults softkey.Faults
		code   wire.Code
	}{
		{"not verified, whatever was asked", softkey.Faults{NoUV: true}, wire.BadAnswer},
		{"no touch in the flags", softkey.Faults{NoUP: true}, wire.BadAnswer},
		{"another relying party", softkey.Faults{WrongRPIDHash: true}, wire.BadAnswer},
		{"a bad signature", softkey.Faults{BadSignature: true}, wire.BadAnswer},
		{"an extension that is none", softkey.Faults{LongAuthData: true}, wire.BadAnswer},
		{"nobody touches", softkey.Faults{DenyTouch: true}, wire.NoTouch},
	} {
		k.SetFaults(c.faults)
		_, err := derive(t, k, key, salt, "123456")
		wantCode(t, c.what, err, c.code)
	}
	k.SetFaults(softkey.Faults{})

	other := plug(t, softkey.Config{PIN: "123456"})
	_, err = derive(t, other, key, salt, "123456")
	wantCode(t, "another key", err, wire.NoCredential)

	old := plug(t, softkey.Config{PIN: "123456", NoHMACSecret: true})
	_, err = newReader(t, old, "123456")
	wantCode(t, "a key without hmac-secret", err, wire.Unsupported)

	for range 8 {
		again := plug(t, softkey.Config{StatePath: state}) // plugged in anew, for a key takes three wrong ones in a row
		_, err = derive(t, again, key, salt, "999999")
		again.Close()
	}
	wantCode(t, "too many wrong PINs", err, wire.PINBlocked)
	k2 := plug(t, softkey.Config{StatePath: state})
	_, err = derive(t, k2, key, salt, "123456")
	wantCode(t, "the right one after that", err, wire.PINBlocked)
}

// TestTheFinger: a key that verifies by itself takes no PIN, and gives the verified user's secret.
func TestTheFinger(t *testing.T) {
	k := plug(t, softkey.Config{BuiltInUV: true})
	key := reader(t, k, "")
	salt := bytes.Repeat([]byte{3}, 32)
	got, err := derive(t, k, key, salt, "")
	if err != nil {
		t.Fatal(err)
	}
	if want, err := k.Authenticator().Secret(wire.ReaderApplication, key.CredentialID, salt, true); err != nil || !bytes.Equal(got[:], want) {
		t.Errorf("got another secret than the verified user's (%v)", err)
	}
}

func FuzzCheckSecret(f *testing.F) {
	k, err := softkey.NewAuthenticator(softkey.Config{})
	if err != nil {
		f.Fatal(err)
	}
	e, err := k.Enroll(wire.ReaderApplication, []byte("c"), true)
	if err != nil {
		f.Fatal(err)
	}
	q := &DeriveRequest{Application: wire.ReaderApplication, Key: wire.Key{CredentialID: e.CredentialID, PublicKey: e.PublicKey.Marshal()}, DataHash: make([]byte, 32)}
	f.Add([]byte{0x58, 0x25}, []byte("sig"))
	f.Add(append([]byte{0x58, 0x26}, make([]byte, 38)...), []byte{0x30, 0})
	f.Fuzz(func(t *testing.T, authData, sig []byte) {
		if s, err := checkSecret(q, nil, authData, sig, make([]byte, 32)); err == nil {
			t.Fatalf("took %x, signed by nobody: %x", authData, s)
		}
	})
}
