package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"golang.org/x/crypto/ssh"

	"breakglass/agent/fido2"
	"breakglass/agent/fido2/wire"
)

// probeTimeout bounds the questions to one device that need no person: a key that hangs must not keep
// the others from being asked.
const probeTimeout = 4 * time.Second

// operation is one request.
type operation struct {
	q     *wire.Request
	event func(wire.Event)
}

func (o *operation) do(ctx context.Context) (*wire.Result, error) {
	devs, err := o.devices()
	if err != nil {
		return nil, err
	}
	switch o.q.Op {
	case wire.OpList:
		return o.list(ctx, devs), nil
	case wire.OpProbe:
		return o.probe(ctx, devs)
	case wire.OpEnroll:
		return o.enroll(ctx, devs)
	case wire.OpSign:
		return o.sign(ctx, devs)
	case wire.OpReader:
		return o.enroll(ctx, devs)
	case wire.OpDerive:
		return o.derive(ctx, devs)
	}
	return nil, &wire.Error{Code: wire.BadRequest, Detail: fmt.Sprintf("unknown operation %q", o.q.Op)}
}

// devices are those of the request, or those that udev knows.
func (o *operation) devices() ([]wire.Device, error) {
	if len(o.q.Devices) == 0 {
		return fido2.List()
	}
	var out []wire.Device
	for _, p := range o.q.Devices {
		out = append(out, wire.Device{Path: p})
	}
	return out, nil
}

// each asks all devices at once and gives the answers in the order of devs.
func each[T any](ctx context.Context, devs []wire.Device, f func(context.Context, wire.Device) (T, error)) ([]T, []error) {
	out, errs := make([]T, len(devs)), make([]error, len(devs))
	var wg sync.WaitGroup
	for i, d := range devs {
		wg.Go(func() {
			ctx, cancel := context.WithTimeout(ctx, probeTimeout)
			defer cancel()
			out[i], errs[i] = f(ctx, d)
		})
	}
	wg.Wait()
	return out, errs
}

func unusable(d wire.Device, err error) wire.Unusable {
	var we *wire.Error
	if !errors.As(err, &we) {
		we = &wire.Error{Code: wire.Failed, Device: d.Path, Detail: err.Error()}
	}
	return wire.Unusable{Path: d.Path, Error: we}
}

func (o *operation) list(ctx context.Context, devs []wire.Device) *wire.Result {
	r := &wire.Result{}
	full, errs := each(ctx, devs, fido2.Describe)
	for i, d := range full {
		if errs[i] != nil {
			r.Unreadable = append(r.Unreadable, unusable(d, errs[i]))
			continue
		}
		r.Devices = append(r.Devices, d)
	}
	return r
}

// probe finds who holds what; the holdings come in the order of the request's keys.
func (o *operation) probe(ctx context.Context, devs []wire.Device) (*wire.Result, error) {
	if len(devs) == 0 {
		return nil, wire.NoDevice.Err()
	}
	ids := make([][]byte, len(o.q.Keys))
	for i, k := range o.q.Keys {
		ids[i] = k.CredentialID
	}
	type answer struct {
		dev  wire.Device
		held [][]byte
	}
	answers, errs := each(ctx, devs, func(ctx context.Context, d wire.Device) (answer, error) {
		d, err := fido2.Describe(ctx, d)
		if err != nil {
			return answer{d, nil}, err
		}
		held, err := fido2.Probe(ctx, d.Path, o.q.Application, ids)
		return answer{d, held}, err
	})
	r := &wire.Result{}
	for i, a := range answers {
		if errs[i] != nil {
			r.Unreadable = append(r.Unreadable, unusable(devs[i], errs[i]))
			continue
		}
		r.Devices = append(r.Devices, a.dev)
	}
	for _, id := range ids {
		for i, a := range answers {
			for _, h := range a.held {
				if errs[i] == nil && bytes.Equal(h, id) {
					r.Holdings = append(r.Holdings, wire.Holding{Device: a.dev, CredentialID: id})
				}
			}
		}
	}
	return r, nil
}

// holders is probe for an operation that needs a holder; it says best why there is none.
func (o *operation) holders(ctx context.Context, devs []wire.Device) ([]wire.Holding, error) {
	r, err := o.probe(ctx, devs)
	if err != nil {
		return nil, err
	}
	if len(r.Holdings) > 0 {
		return r.Holdings, nil
	}
	if err := ctx.Err(); err != nil {
		return nil, cause(err)
	}
	if len(r.Devices) == 0 { // none could be asked: the first's reason is the person's
		return nil, r.Unreadable[0].Error
	}
	return nil, &wire.Error{Code: wire.NoCredential, Detail: fmt.Sprintf("asked %d of %d devices", len(r.Devices), len(devs))}
}

func cause(err error) error {
	if errors.Is(err, context.DeadlineExceeded) {
		return wire.Timeout.Err()
	}
	return wire.Cancelled.Err()
}

func (o *operation) enroll(ctx context.Context, devs []wire.Device) (*wire.Result, error) {
	switch len(devs) {
	case 0:
		return nil, wire.NoDevice.Err()
	case 1:
	default: // a new credential on the wrong one of two keys would be found out at 3 a.m.
		return nil, &wire.Error{Code: wire.ManyDevices, Detail: "leave only the one to enrol, or name its device"}
	}
	if len(o.q.Keys) > 0 {
		r, err := o.probe(ctx, devs)
		if err != nil {
			return nil, err
		}
		if len(r.Unreadable) > 0 { // unknown is the bad case
			return nil, r.Unreadable[0].Error
		}
		if len(r.Holdings) > 0 {
			return nil, &wire.Error{Code: wire.AlreadyEnrolled, Device: devs[0].Path}
		}
	}
	hash := sha256.Sum256(o.q.Data)
	o.event(wire.Event{Event: wire.EventTouch, Device: devs[0]})
	c, err := fido2.MakeCredential(ctx, devs[0], &fido2.CredentialRequest{
		Application: o.q.Application, ChallengeHash: hash[:], User: o.q.User, PIN: o.q.PIN, UV: o.q.UV || o.q.Op == wire.OpReader,
		HMACSecret: o.q.Op == wire.OpReader,
	})
	if err != nil {
		return nil, err
	}
	return &wire.Result{Credential: c}, nil
}

// sign finds the holders without touch and has them sign. With a PIN only the first is asked: a PIN
// sent to the wrong key costs it a try. Without one, all holders blink and the first touched wins.
func (o *operation) sign(ctx context.Context, devs []wire.Device) (*wire.Result, error) {
	won, err := race(ctx, o, devs, o.signWith)
	if err != nil {
		return nil, err
	}
	return &wire.Result{Signature: won}, nil
}

// race has those who hold one of the keys blink, and gives what the first touched answers.
func race[T any](ctx context.Context, o *operation, devs []wire.Device, with func(context.Context, wire.Holding) (*T, error)) (*T, error) {
	hold, err := o.holders(ctx, devs)
	if err != nil {
		return nil, err
	}
	hold = onePerDevice(hold)
	if len(o.q.PIN) > 0 {
		hold = hold[:1]
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	type answer struct {
		v   *T
		err error
	}
	answers := make(chan answer, len(hold))
	for _, h := range hold {
		go func() {
			v, err := with(ctx, h)
			answers <- answer{v, err}
		}()
	}
	var first error
	var won *T
	for range hold { // wait for the losers too: they have to stop blinking
		a := <-answers
		switch {
		case a.err == nil && won == nil:
			won = a.v
			cancel()
		case a.err != nil && first == nil:
			first = a.err
		}
	}
	if won == nil {
		return nil, first
	}
	return won, nil
}

// onePerDevice keeps the first key of each device: a device can blink for one at a time.
func onePerDevice(in []wire.Holding) []wire.Holding {
	var out []wire.Holding
	seen := map[string]bool{}
	for _, h := range in {
		if !seen[h.Device.Path] {
			seen[h.Device.Path] = true
			out = append(out, h)
		}
	}
	return out
}

// asked is the number of the request's key that a device holds.
func (o *operation) asked(id []byte) int {
	return slices.IndexFunc(o.q.Keys, func(k wire.Key) bool { return bytes.Equal(k.CredentialID, id) })
}

// canVerify goes by the probe, so that no key is said to blink that then only asks for its PIN.
func (o *operation) canVerify(d wire.Device, uv bool) error {
	switch {
	case !uv || len(o.q.PIN) > 0 || d.UV:
		return nil
	case d.PINSet:
		return &wire.Error{Code: wire.PINRequired, Device: d.Path}
	}
	return &wire.Error{Code: wire.PINNotSet, Device: d.Path}
}

// derive has a holder give its secret. Verification is not the client's to wave: the secret of a user who only touched is another one, and a
// stolen key would give it to anybody.
func (o *operation) derive(ctx context.Context, devs []wire.Device) (*wire.Result, error) {
	won, err := race(ctx, o, devs, o.deriveWith)
	if err != nil {
		return nil, err
	}
	return &wire.Result{Secret: won}, nil
}

func (o *operation) deriveWith(ctx context.Context, h wire.Holding) (*wire.Secret, error) {
	if err := o.canVerify(h.Device, true); err != nil {
		return nil, err
	}
	i := o.asked(h.CredentialID)
	var hash [32]byte
	rand.Read(hash[:]) // of nothing: the signature only shows that the answer is this credential's, and is new
	o.event(wire.Event{Event: wire.EventTouch, Device: h.Device, CredentialID: h.CredentialID})
	s, err := fido2.Derive(ctx, h.Device, &fido2.DeriveRequest{Application: o.q.Application, Key: o.q.Keys[i], Salt: o.q.Salts[i], DataHash: hash[:], PIN: o.q.PIN})
	if err != nil {
		return nil, err
	}
	return &wire.Secret{Device: h.Device, CredentialID: h.CredentialID, Value: s[:]}, nil
}

func (o *operation) signWith(ctx context.Context, h wire.Holding) (*wire.Signature, error) {
	key := o.q.Keys[o.asked(h.CredentialID)]
	if err := o.canVerify(h.Device, o.q.UV); err != nil {
		return nil, err
	}
	hash := sha256.Sum256(o.q.Data)
	o.event(wire.Event{Event: wire.EventTouch, Device: h.Device, CredentialID: h.CredentialID})
	a, err := fido2.Assert(ctx, h.Device, &fido2.AssertionRequest{
		Application: o.q.Application, Key: key, DataHash: hash[:], PIN: o.q.PIN, UV: o.q.UV,
	})
	if err != nil {
		return nil, err
	}
	return &wire.Signature{
		Device: h.Device, CredentialID: h.CredentialID, SSH: ssh.Marshal(a.Signature()),
		Flags: a.Flags, Counter: a.Counter,
	}, nil
}
