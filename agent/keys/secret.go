package keys

import (
	"bytes"
	"context"
	"crypto/rand"
	"fmt"

	"breakglass/agent/fido2/helper"
	"breakglass/agent/fido2/wire"
	"breakglass/internal/name"
)

// This file asks a key for the secret under which its owner's reading identity is sealed (CTAP 2.1 section 12.5, hmac-secret), and makes the credential
// that gives it. Only the helper can: neither an ssh-agent nor ssh-keygen speaks of it.

// Deriver is a credential that derives, with what it derives from.
type Deriver struct {
	Name name.Key
	Key  wire.Key
	Salt []byte
}

// NewDeriver makes a credential on the one key that is plugged in, or that device names. exclude are those that must not be on it yet.
func (f *FIDO2) NewDeriver(ctx context.Context, key name.Key, person name.Person, device wire.Device, exclude []wire.Key) (*wire.Credential, error) {
	challenge := make([]byte, 32)
	rand.Read(challenge)
	var c *wire.Credential
	err := f.verified(ctx, key, device, nil, func(ctx context.Context, h *helper.Client, pin []byte) (err error) {
		h.Devices = []string{device.Path}
		c, err = h.NewReader(ctx, helper.EnrollRequest{Challenge: challenge, User: string(person), PIN: pin, Exclude: exclude})
		return err
	})
	return c, err
}

// Holders says which devices hold one of the keys, the preferred first; nothing blinks.
func (f *FIDO2) Holders(ctx context.Context, application string, keys []wire.Key) ([]wire.Holding, error) {
	r, err := f.holders(ctx, application, keys)
	if err != nil {
		return nil, notHere(err)
	}
	return r.Holdings, nil
}

// Plugged lists the devices.
func (f *FIDO2) Plugged(ctx context.Context) ([]wire.Device, error) {
	ctx, cancel := context.WithTimeout(ctx, probeTime)
	defer cancel()
	r, err := (&helper.Client{Path: f.Path}).List(ctx)
	if err != nil {
		return nil, err
	}
	if len(r.Devices) == 0 && len(r.Unreadable) > 0 {
		return nil, r.Unreadable[0].Error
	}
	return r.Devices, nil
}

// Derive has the first of those that is here give its secret, with a touch and its user verified, and says which it was. The caller wipes the secret.
func (f *FIDO2) Derive(ctx context.Context, from []Deriver) (int, *[wire.SecretLen]byte, error) {
	keys := make([]wire.Key, len(from))
	for i, d := range from {
		keys[i] = d.Key
	}
	hold, err := f.Holders(ctx, wire.ReaderApplication, keys)
	if err != nil {
		return 0, nil, err
	}
	at := -1
	for i, d := range from {
		if bytes.Equal(d.Key.CredentialID, hold[0].CredentialID) {
			at = i
		}
	}
	if at < 0 {
		return 0, nil, fmt.Errorf("deriving: %w: a device holds what was not asked for", wire.ErrProtocol)
	}
	d := from[at]
	var out [wire.SecretLen]byte
	err = f.verified(ctx, d.Name, hold[0].Device, d.Key.CredentialID, func(ctx context.Context, h *helper.Client, pin []byte) error {
		s, err := h.Derive(ctx, helper.DeriveRequest{Keys: []wire.Key{d.Key}, Salts: [][]byte{d.Salt}, PIN: pin})
		if err != nil {
			return err
		}
		copy(out[:], s.Value)
		clear(s.Value)
		return nil
	})
	if err != nil {
		return 0, nil, notHere(err)
	}
	return at, &out, nil
}

// verified runs what takes a touch and a verified user: by the key itself where it can, else by its PIN, asked for as often as a key takes it.
func (f *FIDO2) verified(ctx context.Context, key name.Key, d wire.Device, credential []byte, do func(context.Context, *helper.Client, []byte) error) error {
	switch {
	case !d.UV && !d.PINSet:
		return &wire.Error{Code: wire.PINNotSet, Device: d.Path}
	case d.UV:
		return f.touched(ctx, key, nil, do)
	}
	note, wrong := "", false
	for try := 1; ; try++ {
		if f.pinOf(credential, d.Path) == nil {
			if err := f.askPIN(ctx, key, note, credential, d.Path); err != nil {
				return err
			}
		}
		err := f.touched(ctx, key, f.pin, do)
		if note, wrong = wrongPIN(err); !wrong {
			return err
		}
		f.Forget()
		if try == pinTries {
			return err
		}
	}
}

func (f *FIDO2) touched(ctx context.Context, key name.Key, pin []byte, do func(context.Context, *helper.Client, []byte) error) error {
	until := deadline(ctx)
	ctx, cancel := context.WithDeadline(ctx, until)
	defer cancel()
	var done func()
	err := do(ctx, &helper.Client{Path: f.Path, Event: func(e wire.Event) {
		if e.Event == wire.EventTouch && done == nil {
			done = f.Prompt.Touch([]name.Key{key}, 1, until)
		}
	}}, pin)
	if done != nil {
		done()
	}
	return err
}
