//go:build cgo && !nolibfido2

package fido2

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	libfido2 "github.com/keys-pub/go-libfido2"

	"breakglass/agent/fido2/wire"
)

// cancelEvery is how often a call under way is cancelled: the binding drops a Cancel that comes before
// its open has finished.
const cancelEvery = 20 * time.Millisecond

// List gives the keys that udev knows of.
func List() ([]wire.Device, error) {
	locs, err := libfido2.DeviceLocations()
	if err != nil {
		return nil, &wire.Error{Code: wire.Failed, Detail: fmt.Sprintf("looking for security keys: %v", err)}
	}
	var out []wire.Device
	for _, l := range locs {
		out = append(out, wire.Device{
			Path: l.Path, Manufacturer: l.Manufacturer, Product: l.Product,
			VendorID: uint16(l.VendorID), ProductID: uint16(l.ProductID), // the binding's int16 is a mistake
		})
	}
	return out, nil
}

// opening is how often a key that is there and gives no answer is asked what it is, with a pause between.
const (
	opening   = 3
	openPause = 150 * time.Millisecond
)

// device is an opened path with what its getInfo said.
type device struct {
	path       string
	dev        *libfido2.Device
	aaguid     []byte
	extensions []string
	pinSet, uv bool
}

func open(ctx context.Context, path string) (*device, error) {
	if _, err := os.Stat(path); err != nil { // libfido2 says "internal error"
		return nil, &wire.Error{Code: wire.Unplugged, Device: path, Detail: "not there"}
	}
	dev, err := libfido2.NewDevice(path)
	if err != nil {
		return nil, typed(path, err)
	}
	d := &device{path: path, dev: dev}
	info, err := call(ctx, d, dev.Info)
	for try := 1; try < opening && (errors.Is(err, wire.Unplugged.Err()) || errors.Is(err, wire.Unsupported.Err())); try++ {
		// A key that somebody else is just speaking to loses an answer. Asking what it is again makes nothing blink. One whose first answer was lost passes for a
		// key of before FIDO2: libfido2 falls back (fido_dev_open).
		if _, serr := os.Stat(path); serr != nil {
			break
		}
		select {
		case <-time.After(openPause):
		case <-ctx.Done():
			return nil, err
		}
		info, err = call(ctx, d, dev.Info)
	}
	if err != nil {
		return nil, err
	}
	d.aaguid, d.extensions = info.AAGUID, info.Extensions
	for _, o := range info.Options {
		switch o.Name {
		case "clientPin":
			d.pinSet = o.Value == libfido2.True
		case "uv":
			d.uv = o.Value == libfido2.True
		}
	}
	return d, nil
}

// Describe asks the key at dev.Path what it is.
func Describe(ctx context.Context, dev wire.Device) (wire.Device, error) {
	d, err := open(ctx, dev.Path)
	if err != nil {
		return dev, err
	}
	dev.AAGUID, dev.PINSet, dev.UV = d.aaguid, d.pinSet, d.uv
	return dev, nil
}

// Probe gives those of the credentials that the key at path holds. It asks with neither touch nor PIN
// (an assertion with up=false, one credential at a time: keys answer an allow list with one).
func Probe(ctx context.Context, path, application string, ids [][]byte) ([][]byte, error) {
	d, err := open(ctx, path)
	if err != nil {
		return nil, err
	}
	var held [][]byte
	for _, id := range ids {
		_, err := call(ctx, d, func() (*libfido2.Assertion, error) {
			return d.dev.Assertion(application, make([]byte, 32), [][]byte{id}, "", &libfido2.AssertionOpts{UP: libfido2.False})
		})
		switch {
		case err == nil:
			held = append(held, id)
		case errors.Is(err, wire.NoCredential.Err()):
		default:
			return nil, err
		}
	}
	return held, nil
}

// verification decides how the user is verified, before the key is asked anything: a key that blinks
// only to say then that it wants a PIN wastes a touch.
func (d *device) verification(want bool, pin []byte) (uv libfido2.OptionValue, err error) {
	switch {
	case len(pin) > 0 && !d.pinSet:
		return "", &wire.Error{Code: wire.PINNotSet, Device: d.path}
	case len(pin) > 0, !want:
		return libfido2.Default, nil
	case d.uv:
		return libfido2.True, nil
	case d.pinSet:
		return "", &wire.Error{Code: wire.PINRequired, Device: d.path}
	}
	return "", &wire.Error{Code: wire.PINNotSet, Device: d.path, Detail: "set one first"}
}

// MakeCredential makes an ES256 credential that isn't resident. credProtect is level 2
// (userVerificationOptionalWithCredentialIDList): level 3 would hide it from Probe, and verification
// is proved to the CA by the flag in each signature anyway.
func MakeCredential(ctx context.Context, dev wire.Device, q *CredentialRequest) (*wire.Credential, error) {
	d, err := open(ctx, dev.Path)
	if err != nil {
		return nil, err
	}
	uv, err := d.verification(q.UV, q.PIN)
	if err != nil {
		return nil, err
	}
	opts := &libfido2.MakeCredentialOpts{UV: uv}
	if slices.Contains(d.extensions, string(libfido2.CredProtectExtension)) {
		opts.CredProtect = libfido2.CredProtectUVOptionalWithID
	}
	if q.HMACSecret {
		if err := d.givesSecrets(); err != nil {
			return nil, err
		}
		opts.Extensions = []libfido2.Extension{libfido2.HMACSecretExtension}
	}
	att, err := call(ctx, d, func() (*libfido2.Attestation, error) {
		return d.dev.MakeCredential(q.ChallengeHash,
			libfido2.RelyingParty{ID: q.Application, Name: q.Application},
			// The same user id again would make some keys replace a resident credential; ours aren't.
			libfido2.User{ID: []byte(q.User), Name: q.User, DisplayName: q.User},
			libfido2.ES256, string(q.PIN), opts)
	})
	if err != nil {
		return nil, d.withRetries(ctx, err)
	}
	c, err := checkCredential(q, newCredential{
		id: att.CredentialID, pubKey: att.PubKey, authDataCBOR: att.AuthData,
		cert: att.Cert, sig: att.Sig, format: att.Format,
	})
	if err != nil {
		return nil, typed(d.path, err)
	}
	c.Device = dev
	return c, nil
}

// Assert has the key at dev sign, with a touch. No extensions are asked for: their output would have
// no room in an ssh signature.
func Assert(ctx context.Context, dev wire.Device, q *AssertionRequest) (*Assertion, error) {
	if _, err := parsePublicKey(q.Key.PublicKey, q.Application); err != nil {
		return nil, err // before the touch
	}
	d, err := open(ctx, dev.Path)
	if err != nil {
		return nil, err
	}
	uv, err := d.verification(q.UV, q.PIN)
	if err != nil {
		return nil, err
	}
	as, err := call(ctx, d, func() (*libfido2.Assertion, error) {
		return d.dev.Assertion(q.Application, q.DataHash, [][]byte{q.Key.CredentialID}, string(q.PIN),
			&libfido2.AssertionOpts{UP: libfido2.True, UV: uv})
	})
	if err != nil {
		return nil, d.withRetries(ctx, err)
	}
	a, err := checkAssertion(q, as.CredentialID, as.AuthDataCBOR, as.Sig)
	if err != nil {
		return nil, typed(d.path, err)
	}
	return a, nil
}

// givesSecrets refuses a key without the extension before it blinks.
func (d *device) givesSecrets() error {
	if !slices.Contains(d.extensions, string(libfido2.HMACSecretExtension)) {
		return &wire.Error{Code: wire.Unsupported, Device: d.path, Detail: "it has no hmac-secret, so it can't seal anything"}
	}
	return nil
}

// Derive has the key at dev give the secret that belongs to credential and salt, with a touch and the user verified. The caller wipes it; what libfido2
// and its binding keep of it dies with the process.
func Derive(ctx context.Context, dev wire.Device, q *DeriveRequest) (*[SecretLen]byte, error) {
	if err := q.check(); err != nil {
		return nil, err // before the touch
	}
	d, err := open(ctx, dev.Path)
	if err != nil {
		return nil, err
	}
	if err := d.givesSecrets(); err != nil {
		return nil, err
	}
	uv, err := d.verification(true, q.PIN)
	if err != nil {
		return nil, err
	}
	as, err := call(ctx, d, func() (*libfido2.Assertion, error) {
		return d.dev.Assertion(q.Application, q.DataHash, [][]byte{q.Key.CredentialID}, string(q.PIN), &libfido2.AssertionOpts{
			UP: libfido2.True, UV: uv, HMACSalt: q.Salt, Extensions: []libfido2.Extension{libfido2.HMACSecretExtension}})
	})
	if err != nil {
		return nil, d.withRetries(ctx, err)
	}
	defer clear(as.HMACSecret)
	s, err := checkSecret(q, as.CredentialID, as.AuthDataCBOR, as.Sig, as.HMACSecret)
	if err != nil {
		return nil, typed(d.path, err)
	}
	return s, nil
}

// withRetries adds the PIN tries left to a PIN error; only the key knows them.
func (d *device) withRetries(ctx context.Context, err error) error {
	var we *wire.Error
	if !errors.As(err, &we) || we.Code != wire.PINInvalid {
		return err
	}
	if n, rerr := call(ctx, d, d.dev.RetryCount); rerr == nil {
		we.Retries = &n
	}
	return err
}

// call runs one blocking call of the binding. When ctx ends it has the key cancel until the call
// returns, and gives up on it after wire.Grace: a key that answers nothing can't be cancelled, and the
// call then hangs until the process ends.
func call[T any](ctx context.Context, d *device, f func() (T, error)) (T, error) {
	type result struct {
		v   T
		err error
	}
	var zero T
	if ctx.Err() != nil {
		return zero, ended(ctx, d.path)
	}
	done := make(chan result, 1)
	go func() {
		v, err := f()
		done <- result{v, err}
	}()
	select {
	case r := <-done:
		if r.err != nil {
			return zero, typed(d.path, r.err)
		}
		return r.v, nil
	case <-ctx.Done():
	}
	grace := time.NewTimer(wire.Grace)
	defer grace.Stop()
	tick := time.NewTicker(cancelEvery)
	defer tick.Stop()
	for {
		_ = d.dev.Cancel() // its failure shows in the call's not returning
		select {
		case <-done:
			return zero, ended(ctx, d.path)
		case <-grace.C:
			return zero, ended(ctx, d.path)
		case <-tick.C:
		}
	}
}

func ended(ctx context.Context, path string) error {
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return &wire.Error{Code: wire.Timeout, Device: path}
	}
	return &wire.Error{Code: wire.Cancelled, Device: path}
}

// typed gives each error of libfido2 its code.
func typed(path string, err error) error {
	var we *wire.Error
	if errors.As(err, &we) {
		if we.Device == "" {
			we.Device = path
		}
		return we
	}
	return &wire.Error{Code: code(err), Device: path, Detail: err.Error()}
}

func code(err error) wire.Code {
	// CTAP 2.1 section 8.2; those that the binding has no name for come as a number.
	var n libfido2.Error
	if errors.As(err, &n) {
		switch n.Code {
		case 0x2f: // USER_ACTION_TIMEOUT: the user walked away
			return wire.NoTouch
		case 0x32:
			return wire.PINBlocked
		case 0x3c:
			return wire.UVBlocked
		case 0x3f:
			return wire.UVInvalid
		case 0x19:
			return wire.AlreadyEnrolled
		case 0x26, 0x16:
			return wire.Unsupported
		}
		return wire.Failed
	}
	for _, c := range []struct {
		err  error
		code wire.Code
	}{
		{libfido2.ErrActionTimeout, wire.NoTouch}, // 0x3a
		{libfido2.ErrUserPresenceRequired, wire.NoTouch},
		{libfido2.ErrNoCredentials, wire.NoCredential},
		{libfido2.ErrInvalidCredential, wire.NoCredential},
		{libfido2.ErrPinRequired, wire.PINRequired},
		{libfido2.ErrPinInvalid, wire.PINInvalid},
		{libfido2.ErrPinAuthBlocked, wire.PINAuthBlocked},
		{libfido2.ErrPinNotSet, wire.PINNotSet},
		{libfido2.ErrKeepaliveCancel, wire.Cancelled},
		{libfido2.ErrOperationDenied, wire.NotAllowed},
		{libfido2.ErrNotAllowed, wire.NotAllowed},
		{libfido2.ErrTX, wire.Unplugged},
		{libfido2.ErrRX, wire.Unplugged},
		{libfido2.ErrNotFIDO2, wire.Unsupported},
		{libfido2.ErrUnsupportedOption, wire.Unsupported},
		{libfido2.ErrInvalidOption, wire.Unsupported},
		{libfido2.ErrInvalidCommand, wire.Unsupported},
		{libfido2.ErrRXInvalidCBOR, wire.BadAnswer},
		{libfido2.ErrRXNotCBOR, wire.BadAnswer},
	} {
		if errors.Is(err, c.err) {
			return c.code
		}
	}
	return wire.Failed
}
