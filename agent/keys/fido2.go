package keys

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/crypto/ssh"

	"breakglass/agent/fido2/helper"
	"breakglass/agent/fido2/wire"
	"breakglass/ca/api"
	"breakglass/internal/name"
	"breakglass/internal/sshsig"
)

const (
	// pinTries is how often we ask: a key takes no more than three wrong PINs in a row before it wants to be plugged in again.
	pinTries = 3
	// probeTime bounds the question which device holds which key.
	probeTime = 10 * time.Second
	// probeTries is how often a device that gives no answer is asked.
	probeTries = 2
)

// FIDO2 signs with libfido2, in the helper process.
type FIDO2 struct {
	Path   string // of the helper; empty: helper.Find
	Prompt Prompter

	// pin is kept between two touches of one command: a statement that expired while the PIN was typed, or a reading identity's touch after the pass's.
	pin    []byte
	pinFor []byte // credential id
	pinAt  string // and the device that took it
}

// Forget wipes the PIN.
func (f *FIDO2) Forget() {
	clear(f.pin)
	f.pin, f.pinFor, f.pinAt = nil, nil, ""
}

// TakePIN takes over what another was told in the same command.
func (f *FIDO2) TakePIN(from *FIDO2) {
	f.pin, f.pinFor, f.pinAt = from.pin, from.pinFor, from.pinAt
	from.pin = nil
	from.Forget()
}

// pinOf is the PIN that the device took a moment ago, for this or another of its credentials.
func (f *FIDO2) pinOf(credential []byte, device string) []byte {
	if f.pin != nil && (len(credential) > 0 && bytes.Equal(f.pinFor, credential) || f.pinAt == device) {
		return f.pin
	}
	return nil
}

// askPIN asks, and keeps the answer for the next touch.
func (f *FIDO2) askPIN(ctx context.Context, key name.Key, note string, credential []byte, device string) error {
	f.Forget()
	pin, err := f.Prompt.PIN(ctx, key, note)
	f.pin, f.pinFor, f.pinAt = pin, credential, device
	return err
}

// wrongPIN says whether that was it, and what to tell.
func wrongPIN(err error) (note string, wrong bool) {
	var we *wire.Error
	if !errors.As(err, &we) || we.Code != wire.PINInvalid {
		return "", false
	}
	if we.Retries != nil {
		return fmt.Sprintf("wrong PIN, %d tries left", *we.Retries), true
	}
	return "wrong PIN", true
}

type candidate struct {
	name name.Key
	pub  ssh.PublicKey
	wire wire.Key
}

// Sign finds out without a touch which device holds which key, and has only the holders blink. Verification is always asked
// for where the key can do it.
func (f *FIDO2) Sign(ctx context.Context, statement []byte, namespace string, keys []api.KeyHandle) (*sshsig.Signature, error) {
	var cands []candidate
	var wk []wire.Key
	for _, k := range keys {
		pub, err := parse(k)
		if err != nil {
			return nil, err
		}
		c := candidate{k.Name, pub, wire.Key{CredentialID: k.CredentialID, PublicKey: pub.Marshal()}}
		cands, wk = append(cands, c), append(wk, c.wire)
	}
	if len(cands) == 0 {
		return nil, ErrNotHere
	}
	r, err := f.holders(ctx, api.Application, wk)
	if err != nil {
		return nil, notHere(err)
	}
	// A key that verifies by itself needs no PIN: all of those may blink, the first touched wins. Else the first holder, by the
	// order of the CA's list, is asked for its PIN: a PIN tried on another key would cost that one a try.
	h := r.Holdings[0]
	if h.Device.PINSet && !h.Device.UV {
		return f.withPIN(ctx, statement, namespace, find(cands, h.CredentialID), len(keys), h.Device.Path)
	}
	uv := h.Device.UV
	var hold []candidate
	for _, x := range r.Holdings {
		if x.Device.UV == uv && (uv || !x.Device.PINSet) {
			hold = append(hold, find(cands, x.CredentialID))
		}
	}
	return f.touch(ctx, statement, namespace, hold, len(keys), nil, uv)
}

// holders asks which devices hold one of the keys. A device that gave no answer may be the one that does: a key is busy for a moment after
// another program, or the enrolment before this signature, let go of it. So it is asked once more, and then its own reason is told, for "not
// here" would send the person looking for a key that is in the machine.
func (f *FIDO2) holders(ctx context.Context, application string, wk []wire.Key) (*wire.Result, error) {
	ctx, cancel := context.WithTimeout(ctx, probeTime)
	defer cancel()
	for try := 1; ; try++ {
		r, err := (&helper.Client{Path: f.Path}).Probe(ctx, application, wk)
		switch {
		case err != nil:
			return nil, err
		case len(r.Holdings) > 0:
			return r, nil
		case len(r.Unreadable) == 0:
			return nil, wire.NoCredential.Err()
		case try == probeTries:
			return nil, fmt.Errorf("%w: %w", ErrNotHere, r.Unreadable[0].Error) // another backend may reach it still
		}
	}
}

func find(cands []candidate, id []byte) candidate {
	for _, c := range cands {
		if bytes.Equal(c.wire.CredentialID, id) {
			return c
		}
	}
	return candidate{} // the helper answers only with what it was asked
}

func (f *FIDO2) withPIN(ctx context.Context, statement []byte, namespace string, c candidate, all int, device string) (*sshsig.Signature, error) {
	note, wrong := "", false
	for try := 1; ; try++ {
		if f.pinOf(c.wire.CredentialID, device) == nil {
			if err := f.askPIN(ctx, c.name, note, c.wire.CredentialID, device); err != nil {
				return nil, err
			}
		}
		sig, err := f.touch(ctx, statement, namespace, []candidate{c}, all, f.pin, true)
		if note, wrong = wrongPIN(err); !wrong {
			return sig, err
		}
		f.Forget()
		if try == pinTries {
			return nil, err
		}
	}
}

func (f *FIDO2) touch(ctx context.Context, statement []byte, namespace string, hold []candidate, all int, pin []byte, uv bool) (*sshsig.Signature, error) {
	until := deadline(ctx)
	ctx, cancel := context.WithDeadline(ctx, until)
	defer cancel()
	var wk []wire.Key
	var names []name.Key
	for _, c := range hold {
		wk, names = append(wk, c.wire), append(names, c.name)
	}
	var done func()
	h := &helper.Client{Path: f.Path, Event: func(e wire.Event) {
		if e.Event == wire.EventTouch && done == nil {
			done = f.Prompt.Touch(names, all, until)
		}
	}}
	s, err := h.Sign(ctx, helper.SignRequest{
		Application: api.Application, Keys: wk, Data: sshsig.SignedData(namespace, statement), PIN: pin, UV: uv,
	})
	if done != nil {
		done()
	}
	if err != nil {
		return nil, notHere(err)
	}
	c := find(hold, s.CredentialID)
	if c.pub == nil {
		return nil, wire.BadAnswer.Err()
	}
	return &sshsig.Signature{PublicKey: c.pub, Namespace: namespace, Inner: *s.Signature}, nil
}

// notHere marks the errors after which another backend may still reach the key.
func notHere(err error) error {
	for _, c := range []wire.Code{wire.NoBackend, wire.NoDevice, wire.NoCredential} {
		if errors.Is(err, c.Err()) {
			return fmt.Errorf("%w: %w", ErrNotHere, err)
		}
	}
	return err
}

// Enrol makes a new credential for challenge on the one key that is plugged in. exclude are the person's keys so far.
func (f *FIDO2) Enrol(ctx context.Context, key name.Key, person name.Person, challenge []byte, exclude []wire.Key) (*wire.Credential, error) {
	lctx, cancel := context.WithTimeout(ctx, probeTime)
	defer cancel()
	r, err := (&helper.Client{Path: f.Path}).List(lctx)
	if err != nil {
		return nil, err
	}
	if len(r.Devices) == 0 {
		return nil, wire.NoDevice.Err()
	}
	uv, wantPIN := r.Devices[0].UV, r.Devices[0].PINSet && !r.Devices[0].UV
	note := ""
	for try := 1; ; try++ {
		var pin []byte
		if wantPIN && len(r.Devices) == 1 {
			if pin, err = f.Prompt.PIN(ctx, key, note); err != nil {
				return nil, err
			}
			uv = true
		}
		c, err := f.enrolOnce(ctx, key, person, challenge, exclude, pin, uv)
		if err == nil && len(pin) > 0 {
			f.pin, f.pinFor, f.pinAt = pin, c.CredentialID, c.Device.Path // the second touch follows at once
			return c, nil
		}
		clear(pin)
		again, wrong := wrongPIN(err)
		if !wrong || try == pinTries {
			return c, err
		}
		note = again
	}
}

func (f *FIDO2) enrolOnce(ctx context.Context, key name.Key, person name.Person, challenge []byte, exclude []wire.Key, pin []byte, uv bool) (*wire.Credential, error) {
	until := deadline(ctx)
	ctx, cancel := context.WithDeadline(ctx, until)
	defer cancel()
	var done func()
	h := &helper.Client{Path: f.Path, Event: func(e wire.Event) {
		if e.Event == wire.EventTouch && done == nil {
			done = f.Prompt.Touch([]name.Key{key}, 1, until)
		}
	}}
	c, err := h.Enroll(ctx, helper.EnrollRequest{
		Application: api.Application, Challenge: challenge, User: string(person), PIN: pin, UV: uv, Exclude: exclude,
	})
	if done != nil {
		done()
	}
	return c, err
}
