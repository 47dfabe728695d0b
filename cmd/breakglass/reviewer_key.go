package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/crypto/ssh"

	"breakglass/agent/fido2/wire"
	"breakglass/agent/home"
	"breakglass/agent/keys"
	"breakglass/agent/reader"
	"breakglass/ca/api"
	"breakglass/internal/durable"
	"breakglass/internal/name"
)

// This file seals an identity under hardware keys: under those that their owner enrolled, each on the device that holds it.

const (
	// plugTime is how long somebody with one socket may take to change keys, and plugEvery how often it is looked.
	plugTime  = 2 * time.Minute
	plugEvery = 500 * time.Millisecond
)

// sealUnderKeys lets in each enrolled key of the person that is plugged in.
func (a *app) sealUnderKeys(ctx context.Context, who home.Person, box *reader.Opened) error {
	here, err := a.enrolledHere(ctx, who)
	if err != nil {
		return err
	}
	for _, h := range here {
		if err := a.letIn(ctx, who.Person, box, h); err != nil {
			return err
		}
	}
	return nil
}

// plugged is one enrolled key that is here.
type plugged struct {
	name   name.Key
	device wire.Device
}

// enrolledHere are the person's enrolled keys that are plugged in, one a device.
func (a *app) enrolledHere(ctx context.Context, who home.Person) ([]plugged, error) {
	var wk []wire.Key
	for _, k := range who.Keys {
		pub, _, _, _, err := ssh.ParseAuthorizedKey([]byte(k.PublicKey))
		if err != nil {
			return nil, fmt.Errorf("reading key %s: %w", k.Name, err)
		}
		wk = append(wk, wire.Key{CredentialID: k.CredentialID, PublicKey: pub.Marshal()})
	}
	if len(wk) == 0 {
		return nil, keys.ErrNotHere
	}
	hold, err := a.self().Reading().Holders(ctx, api.Application, wk)
	if err != nil {
		return nil, err
	}
	var out []plugged
	seen := map[string]bool{}
	for _, h := range hold {
		for i, k := range wk {
			if bytes.Equal(k.CredentialID, h.CredentialID) && !seen[h.Device.Path] {
				seen[h.Device.Path] = true
				out = append(out, plugged{who.Keys[i].Name, h.Device})
			}
		}
	}
	return out, nil
}

// letIn makes a credential that derives on the key, and has it derive at once: that it can is known before anything depends on it.
func (a *app) letIn(ctx context.Context, person name.Person, box *reader.Opened, p plugged) error {
	fido := a.self().Reading()
	var exclude []wire.Key
	for _, w := range box.Wraps {
		exclude = append(exclude, w.Key)
	}
	cred, err := fido.NewDeriver(ctx, p.name, person, p.device, exclude)
	if errors.Is(err, wire.Unsupported.Err()) {
		return withStatus(exitKey, fmt.Errorf("key %s: %w", p.name, err), "breakglass reviewer init --passphrase   seals it by a passphrase")
	}
	if err != nil {
		return fmt.Errorf("making a reading credential on %s: %w", p.name, err)
	}
	k := wire.Key{CredentialID: cred.CredentialID, PublicKey: cred.PublicKey}
	salt := reader.NewSalt()
	_, secret, err := fido.Derive(ctx, []keys.Deriver{{Name: p.name, Key: k, Salt: salt}})
	if err != nil {
		return fmt.Errorf("sealing under %s: %w", p.name, err)
	}
	defer clear(secret[:])
	return box.Add(p.name, k, salt, secret)
}

// derivers are the credentials of a file that are plugged in.
func (a *app) derivers(ctx context.Context, f *reader.File) (map[string]bool, error) {
	var wk []wire.Key
	for _, w := range f.Wraps {
		wk = append(wk, w.Key)
	}
	hold, err := a.self().Reading().Holders(ctx, wire.ReaderApplication, wk)
	here := map[string]bool{}
	for _, h := range hold {
		here[string(h.CredentialID)] = true
	}
	if errors.Is(err, keys.ErrNotHere) && !errors.Is(err, wire.NoBackend.Err()) {
		err = nil
	}
	return here, err
}

func (a *app) reviewerAddKey(ctx context.Context) error {
	who, err := a.home.LoadPerson()
	if err != nil {
		return err
	}
	o, err := a.openIdentity(ctx)
	if err != nil {
		return err
	}
	defer o.wipe()
	if o.box == nil {
		return withHint(errors.New("your identity is sealed by a passphrase, which opens it wherever you are"), "breakglass reviewer rotate   makes another, sealed under your keys")
	}
	further, err := a.furtherKeys(ctx, who, &o.box.File)
	if err != nil {
		return err
	}
	for _, p := range further {
		if err := a.letIn(ctx, who.Person, o.box, p); err != nil {
			return err
		}
		// After each: a key that is let in stays so, whatever becomes of the next.
		if err := durable.WriteFile(a.home.Path(readerFile), o.box.Marshal(), 0o600); err != nil {
			return fmt.Errorf("writing the identity: %w", err)
		}
		a.term.Say("%s opens your identity now, too.", p.name)
	}
	if a.json {
		return a.reviewerShow(ctx)
	}
	return nil
}

// furtherKeys waits for an enrolled key that doesn't open the file yet: somebody may have one socket.
func (a *app) furtherKeys(ctx context.Context, who home.Person, f *reader.File) ([]plugged, error) {
	in := map[name.Key]bool{}
	for _, w := range f.Wraps {
		in[w.Name] = true
	}
	left := 0
	for _, k := range who.Keys {
		if !in[k.Name] {
			left++
		}
	}
	if left == 0 {
		return nil, withHint(errors.New("every enrolled key of yours opens it already"), "breakglass enroll TOKEN   enrols another")
	}
	until := time.Now().Add(plugTime)
	for asked := false; ; asked = true {
		here, err := a.enrolledHere(ctx, who)
		if err != nil && !errors.Is(err, keys.ErrNotHere) {
			return nil, err
		}
		var out []plugged
		for _, p := range here {
			if !in[p.name] {
				out = append(out, p)
			}
		}
		if len(out) > 0 {
			return out, nil
		}
		if !a.term.Interactive() || time.Now().After(until) {
			return nil, withStatus(exitKey, errors.New("no further enrolled key of yours is plugged in"), "plug in the key to add, and again: breakglass reviewer add-key", "breakglass keys   lists yours")
		}
		if !asked {
			a.term.Say("Now plug in the key to add.")
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(plugEvery):
		}
	}
}
