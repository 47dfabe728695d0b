// Package keys has a person's hardware key sign a statement, by whatever this machine offers: libfido2 through the
// breakglass-fido2 helper, else an ssh-agent that holds the key, else stock `ssh-keygen -Y sign`.
//
// It guarantees that a signature handed out is an SSHSIG under the namespace that was asked, over exactly those bytes, by one of the keys that
// were named, and that no PIN goes anywhere but into the helper's pipe. What the flags and the counter say is the CA's to judge.
//
// It signs what it is given: that the bytes say what the person asked for is checked before (package agent), for every kind.
package keys

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/crypto/ssh"

	"breakglass/ca/api"
	"breakglass/internal/name"
	"breakglass/internal/sshsig"
)

// TouchTime is how long a key is waited for, where the statement leaves more: keys themselves give up after about 30 s.
const TouchTime = 30 * time.Second

var (
	// ErrNotHere says that this way of signing reaches none of the keys: the next may.
	ErrNotHere = errors.New("no enrolled security key is here")
	// ErrRefused says that a key was reached through another program, which says no more than that it didn't sign: not touched, wrong
	// PIN, unplugged.
	ErrRefused = errors.New("the security key did not sign")
	// ErrNoPIN says that a PIN is wanted and there is nobody to ask.
	ErrNoPIN = errors.New("the security key wants its PIN and there is no terminal to ask on")
)

// Signer has one of the keys sign statement under namespace, with a touch. ctx ends with the statement's validity.
type Signer interface {
	Sign(ctx context.Context, statement []byte, namespace string, keys []api.KeyHandle) (*sshsig.Signature, error)
}

// Prompter is the person at the terminal.
type Prompter interface {
	// PIN asks for a key's PIN; note says what was wrong with the last one, or "". ErrNoPIN if there is nobody.
	PIN(ctx context.Context, key name.Key, note string) ([]byte, error)
	// Touch says that the keys wait for a touch, out of all of the person's, until done is called.
	Touch(waiting []name.Key, all int, until time.Time) (done func())
}

// Backends tries each in turn until one reaches a key.
type Backends []Signer

// Sign is Signer's. The last error that says more than "not here" is the one returned.
func (b Backends) Sign(ctx context.Context, statement []byte, namespace string, keys []api.KeyHandle) (*sshsig.Signature, error) {
	var first error
	for _, s := range b {
		sig, err := s.Sign(ctx, statement, namespace, keys)
		if err == nil {
			if err := check(sig, statement, namespace, keys); err != nil {
				return nil, err
			}
			return sig, nil
		}
		if first == nil {
			first = err
		}
		if !errors.Is(err, ErrNotHere) {
			return nil, err
		}
	}
	if first == nil {
		first = ErrNotHere
	}
	return nil, first
}

// check is the promise of the package.
func check(sig *sshsig.Signature, statement []byte, namespace string, keys []api.KeyHandle) error {
	for _, k := range keys {
		pub, err := parse(k)
		if err != nil {
			return err
		}
		err = sig.Verify(pub, namespace, statement)
		if err == nil {
			return nil
		}
		if !errors.Is(err, sshsig.ErrKey) {
			return fmt.Errorf("checking the key's signature: %w", err)
		}
	}
	return fmt.Errorf("checking the key's signature: %w", sshsig.ErrKey)
}

// parse reads a handle's public key and holds it against what every enrolled key is: a CA that names another kind of key
// gets no signature from it.
func parse(k api.KeyHandle) (ssh.PublicKey, error) {
	pub, _, _, _, err := ssh.ParseAuthorizedKey([]byte(k.PublicKey))
	if err != nil {
		return nil, fmt.Errorf("reading key %s: %w", k.Name, err)
	}
	app, err := sshsig.Application(pub)
	if err != nil {
		return nil, fmt.Errorf("reading key %s: %w", k.Name, err)
	}
	if app != api.Application || k.Application != api.Application {
		return nil, fmt.Errorf("reading key %s: it is for application %q, not %q", k.Name, app, api.Application)
	}
	return pub, nil
}

// deadline bounds a touch.
func deadline(ctx context.Context) time.Time {
	until := time.Now().Add(TouchTime)
	if dl, ok := ctx.Deadline(); ok && dl.Before(until) {
		until = dl
	}
	return until
}
