//go:build cgo && !nolibfido2

package main

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/signal"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"breakglass/agent/fido2/helper"
	"breakglass/agent/fido2/wire"
	"breakglass/internal/softkey"
)

const (
	app = "ssh:breakglass"
	// asHelper in the environment makes the test binary the helper itself.
	asHelper = "BREAKGLASS_FIDO2_TEST_HELPER"
)

func TestMain(m *testing.M) {
	if os.Getenv(asHelper) != "" {
		main()
		os.Exit(0)
	}
	signal.Ignore(syscall.SIGHUP) // see softkey's pty
	os.Exit(m.Run())
}

type bench struct {
	*testing.T
	client  *helper.Client
	touched []string // devices that were said to blink
}

func start(t *testing.T, keys ...*softkey.Key) *bench {
	t.Helper()
	t.Setenv(asHelper, "1")
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	b := &bench{T: t, client: &helper.Client{Path: self, Devices: []string{}}}
	for _, k := range keys {
		b.client.Devices = append(b.client.Devices, k.Path())
	}
	b.client.Event = func(e wire.Event) {
		if e.Event == wire.EventTouch {
			b.touched = append(b.touched, e.Device.Path)
		}
	}
	return b
}

func plug(t *testing.T, cfg softkey.Config) *softkey.Key {
	t.Helper()
	k, err := softkey.Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { k.Close() })
	return k
}

func (b *bench) ctx(d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(b.Context(), d)
	b.Cleanup(cancel)
	return ctx
}

func (b *bench) enroll(k *softkey.Key, pin string) wire.Key {
	b.Helper()
	c := *b.client
	c.Devices = []string{k.Path()}
	cr, err := c.Enroll(b.ctx(20*time.Second), helper.EnrollRequest{
		Application: app, Challenge: []byte("challenge"), User: "alice", PIN: []byte(pin), UV: pin != "",
	})
	if err != nil {
		b.Fatalf("enrolling: %v", err)
	}
	b.touched = nil
	return wire.Key{CredentialID: cr.CredentialID, PublicKey: cr.PublicKey}
}

func (b *bench) sign(pin string, uv bool, keys ...wire.Key) (*helper.Signature, error) {
	b.touched = nil
	return b.client.Sign(b.ctx(20*time.Second), helper.SignRequest{
		Application: app, Keys: keys, Data: []byte("a statement"), PIN: []byte(pin), UV: uv,
	})
}

func (b *bench) wantCode(what string, err error, code wire.Code) {
	b.Helper()
	if !errors.Is(err, code.Err()) {
		b.Errorf("%s: got %v, want code %s", what, err, code)
	}
}

func TestEnrolAndSign(t *testing.T) {
	k := plug(t, softkey.Config{PIN: "123456", Attestation: softkey.AttestBasic})
	b := start(t, k)
	key := b.enroll(k, "123456")
	s, err := b.sign("123456", true, key)
	if err != nil {
		t.Fatal(err)
	}
	pub, err := ssh.ParsePublicKey(key.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	if err := pub.Verify([]byte("a statement"), s.Signature); err != nil {
		t.Error(err)
	}
	if s.Flags != softkey.FlagUP|softkey.FlagUV || s.Counter == 0 || !bytes.Equal(s.CredentialID, key.CredentialID) || s.Device.Path != k.Path() {
		t.Errorf("got %+v", s)
	}
	if len(b.touched) != 1 || b.touched[0] != k.Path() {
		t.Errorf("said to blink: %v", b.touched)
	}
	r, err := b.client.List(b.ctx(5 * time.Second))
	if err != nil || len(r.Devices) != 1 || !r.Devices[0].PINSet || r.Devices[0].UV || len(r.Devices[0].AAGUID) != 16 {
		t.Errorf("list: %+v, %v", r, err)
	}
	_, err = b.client.Enroll(b.ctx(5*time.Second), helper.EnrollRequest{
		Application: app, Challenge: []byte("c"), User: "alice", PIN: []byte("123456"), UV: true, Exclude: []wire.Key{key}})
	b.wantCode("enrolling a key twice", err, wire.AlreadyEnrolled)
}

func TestPINThroughTheHelper(t *testing.T) {
	k := plug(t, softkey.Config{PIN: "123456"})
	b := start(t, k)
	key := b.enroll(k, "123456")
	_, err := b.sign("", true, key)
	b.wantCode("no PIN", err, wire.PINRequired)
	if len(b.touched) != 0 {
		t.Error("no PIN: the key was said to blink")
	}
	_, err = b.sign("000000", true, key)
	b.wantCode("wrong PIN", err, wire.PINInvalid)
	var we *wire.Error
	if errors.As(err, &we); we == nil || we.Retries == nil || *we.Retries != 7 {
		t.Errorf("wrong PIN: %v, want 7 tries left", err)
	}
	if _, err = b.sign("123456", true, key); err != nil {
		t.Errorf("right PIN: %v", err)
	}
}

func TestOnlyTheHolderBlinks(t *testing.T) {
	var strangers, holders atomic.Int32
	stranger := plug(t, softkey.Config{PIN: "111111", Touch: func(string) bool { strangers.Add(1); return true }})
	holder := plug(t, softkey.Config{PIN: "222222", Touch: func(string) bool { holders.Add(1); return true }})
	b := start(t, stranger, holder)
	other := b.enroll(stranger, "111111") // somebody else's credential: not offered below
	key := b.enroll(holder, "222222")
	strangers.Store(0)
	holders.Store(0)
	s, err := b.sign("222222", true, key)
	if err != nil {
		t.Fatal(err)
	}
	if s.Device.Path != holder.Path() || strangers.Load() != 0 || holders.Load() != 1 {
		t.Errorf("%s signed, the stranger blinked %d times, the holder %d", s.Device.Path, strangers.Load(), holders.Load())
	}
	// The stranger was not tried with a PIN that isn't its own.
	if err := stranger.Authenticator().VerifyPIN("111111"); err != nil {
		t.Errorf("stranger's PIN: %v", err)
	}
	r, err := b.client.Probe(b.ctx(5*time.Second), app, []wire.Key{key, other})
	if err != nil || len(r.Holdings) != 2 || r.Holdings[0].Device.Path != holder.Path() || r.Holdings[1].Device.Path != stranger.Path() {
		t.Errorf("probe: %+v, %v", r, err)
	}
	b.client.Devices = []string{stranger.Path()}
	_, err = b.sign("222222", true, key)
	b.wantCode("the holder is not plugged in", err, wire.NoCredential)
	b.client.Devices = []string{stranger.Path(), holder.Path()}
	_, err = b.client.Enroll(b.ctx(5*time.Second), helper.EnrollRequest{Application: app, Challenge: []byte("c"), User: "alice"})
	b.wantCode("enrolling with two plugged in", err, wire.ManyDevices)
}

func TestTheFirstTouchedOfTwoHoldersWins(t *testing.T) {
	slow := plug(t, softkey.Config{})
	quick := plug(t, softkey.Config{})
	b := start(t, slow, quick)
	keys := []wire.Key{b.enroll(slow, ""), b.enroll(quick, "")}
	slow.SetFaults(softkey.Faults{TouchDelay: time.Minute})
	quick.SetFaults(softkey.Faults{TouchDelay: 200 * time.Millisecond})
	s, err := b.sign("", false, keys...)
	if err != nil || s.Device.Path != quick.Path() {
		t.Fatalf("got %+v, %v", s, err)
	}
	if len(b.touched) != 2 {
		t.Errorf("said to blink: %v", b.touched)
	}
}

func TestWhenTheHardwareFails(t *testing.T) {
	k := plug(t, softkey.Config{})
	b := start(t, k)
	key := b.enroll(k, "")
	k.SetFaults(softkey.Faults{DenyTouch: true})
	_, err := b.sign("", false, key)
	b.wantCode("the user walks away", err, wire.NoTouch)
	for name, f := range map[string]softkey.Faults{
		"other application": {WrongRPIDHash: true}, "bad signature": {BadSignature: true}, "extensions": {LongAuthData: true},
	} {
		k.SetFaults(f)
		_, err := b.sign("", false, key)
		b.wantCode(name, err, wire.BadAnswer)
	}
	k.SetFaults(softkey.Faults{TouchDelay: 300 * time.Millisecond})
	go func() { time.Sleep(150 * time.Millisecond); k.Close() }()
	_, err = b.sign("", false, key)
	b.wantCode("unplugged while blinking", err, wire.Unplugged)
}

func TestAKeyThatAnswersNothing(t *testing.T) {
	tar := plug(t, softkey.Config{Faults: softkey.Faults{Tarpit: true}})
	good := plug(t, softkey.Config{})
	b := start(t, tar)
	key := b.enroll(good, "")
	begin := time.Now()
	_, err := b.client.Sign(b.ctx(700*time.Millisecond), helper.SignRequest{Application: app, Keys: []wire.Key{key}, Data: []byte("x")})
	b.wantCode("alone", err, wire.Timeout)
	if d := time.Since(begin); d > 4*time.Second {
		t.Errorf("it took %v to give up", d)
	}
	b.client.Devices = []string{tar.Path(), good.Path()}
	if s, err := b.sign("", false, key); err != nil || s.Device.Path != good.Path() {
		t.Errorf("beside a good one: %+v, %v", s, err)
	}
}

func TestCancellingStopsTheBlinking(t *testing.T) {
	k := plug(t, softkey.Config{})
	b := start(t, k)
	key := b.enroll(k, "")
	k.SetFaults(softkey.Faults{TouchDelay: time.Minute})
	ctx, cancel := context.WithCancel(t.Context())
	b.client.Event = func(wire.Event) { cancel() }
	_, err := b.client.Sign(ctx, helper.SignRequest{Application: app, Keys: []wire.Key{key}, Data: []byte("x")})
	b.wantCode("Ctrl-C", err, wire.Cancelled)
	k.SetFaults(softkey.Faults{})
	b.client.Event = nil
	if _, err := b.sign("", false, key); err != nil {
		t.Errorf("the next one: %v", err)
	}
}

// TestDevicesFromTheEnvironment is the seam of tests and demo.
func TestDevicesFromTheEnvironment(t *testing.T) {
	k := plug(t, softkey.Config{})
	b := start(t)
	b.client.Devices = nil
	t.Setenv(wire.DevicesEnv, k.Path())
	r, err := b.client.List(b.ctx(5 * time.Second))
	if err != nil || len(r.Devices) != 1 || r.Devices[0].Path != k.Path() {
		t.Errorf("got %+v, %v", r, err)
	}
}

// TestRun is the protocol itself: one request, typed refusals.
func TestRun(t *testing.T) {
	for name, c := range map[string]struct {
		in   string
		code wire.Code
	}{
		"not JSON":         {"hello\n", wire.BadRequest},
		"no line":          {"", wire.BadRequest},
		"other version":    {`{"version":2,"op":"list"}` + "\n", wire.BadRequest},
		"unknown field":    {`{"version":1,"op":"list","argv":1}` + "\n", wire.BadRequest},
		"unknown op":       {`{"version":1,"op":"reset"}` + "\n", wire.BadRequest},
		"empty credential": {`{"version":1,"op":"probe","application":"a","keys":[{"credential_id":"","public_key":""}]}` + "\n", wire.BadRequest},
	} {
		t.Run(name, func(t *testing.T) {
			var out bytes.Buffer
			if run(t.Context(), bytes.NewBufferString(c.in), &out) {
				t.Fatalf("gave a result: %s", out.Bytes())
			}
			m, err := wire.ParseMessage(bytes.TrimSpace(out.Bytes()))
			if err != nil || m.Error == nil || c.code != "" && m.Error.Code != c.code {
				t.Errorf("got %s, %v; want code %s", out.Bytes(), err, c.code)
			}
		})
	}
}

func TestDeriveThroughTheHelper(t *testing.T) {
	k := plug(t, softkey.Config{PIN: "123456"})
	b := start(t, k)
	c, err := b.client.NewReader(b.ctx(20*time.Second), helper.EnrollRequest{Challenge: []byte("challenge"), User: "bob", PIN: []byte("123456")})
	if err != nil {
		t.Fatal(err)
	}
	key, salt := wire.Key{CredentialID: c.CredentialID, PublicKey: c.PublicKey}, bytes.Repeat([]byte{5}, wire.SecretLen)
	derive := func(pin string, keys ...wire.Key) (*wire.Secret, error) {
		b.touched = nil
		q := helper.DeriveRequest{Keys: keys, PIN: []byte(pin)}
		for range keys {
			q.Salts = append(q.Salts, salt)
		}
		return b.client.Derive(b.ctx(20*time.Second), q)
	}
	want, err := k.Authenticator().Secret(wire.ReaderApplication, key.CredentialID, salt, true)
	if err != nil {
		t.Fatal(err)
	}
	s, err := derive("123456", key)
	if err != nil || !bytes.Equal(s.Value, want) || !bytes.Equal(s.CredentialID, key.CredentialID) || len(b.touched) != 1 {
		t.Errorf("got %v, %v, touched %v", s, err, b.touched)
	}
	_, err = derive("", key)
	b.wantCode("no PIN", err, wire.PINRequired)
	if len(b.touched) != 0 {
		t.Error("no PIN: the key was said to blink")
	}
	_, err = derive("000000", key)
	b.wantCode("wrong PIN", err, wire.PINInvalid)
	_, err = b.client.Derive(b.ctx(20*time.Second), helper.DeriveRequest{Keys: []wire.Key{key}, PIN: []byte("123456")})
	b.wantCode("no salt", err, wire.BadRequest)
	// Each operation has its applications, whatever credential is named.
	_, err = b.client.Sign(b.ctx(20*time.Second), helper.SignRequest{Application: wire.ReaderApplication, Keys: []wire.Key{key}, Data: []byte("a statement"), PIN: []byte("123456"), UV: true})
	b.wantCode("a reader's credential signs", err, wire.BadRequest)
	_, err = b.client.Enroll(b.ctx(20*time.Second), helper.EnrollRequest{Application: wire.ReaderApplication, Challenge: []byte("c"), User: "bob", PIN: []byte("123456")})
	b.wantCode("a reader's credential that signs is enrolled", err, wire.BadRequest)

	// A key that hangs is given up, and the helper with it.
	k.SetFaults(softkey.Faults{Tarpit: true})
	_, err = b.client.Derive(b.ctx(2*time.Second), helper.DeriveRequest{Keys: []wire.Key{key}, Salts: [][]byte{salt}, PIN: []byte("123456")})
	if err == nil {
		t.Error("a key that answers nothing derived")
	}
	k.Close()
	_, err = b.client.Derive(b.ctx(5*time.Second), helper.DeriveRequest{Keys: []wire.Key{key}, Salts: [][]byte{salt}, PIN: []byte("123456")})
	if err == nil {
		t.Error("an unplugged key derived")
	}
}
