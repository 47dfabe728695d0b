// Package softkey is a FIDO2 security key in software: a CTAP 2.1 authenticator that speaks CTAPHID
// over a pseudo-terminal, so that the real, unmodified libfido2 (and stock ssh-keygen) can be tested
// with no hardware, no root and no kernel module.
//
// It is for tests and for the demo only. Its private keys lie in a file, so it guarantees nothing
// about who holds them: no shipped program links it (internal/deptest), and a CA of the production
// profile enrols none of its keys.
//
// Why a pseudo-terminal works: libfido2 takes any character device for a key. It only opens the path
// read-write and falls back to 64-byte reports when the hidraw ioctls fail.
//
// What is covered: authenticatorGetInfo, MakeCredential (ES256; packed self, packed basic and none
// attestation), GetAssertion (allow list, up=false), ClientPIN with protocols one and two, built-in
// user verification, credProtect, hmac-secret, Selection; CTAPHID INIT, PING, WINK, CBOR, CANCEL with keepalives.
// Not covered: resident credentials, U2F, Ed25519.
//
// The same authenticator answers in process, with no CTAP at all: Authenticator.Enroll, SignSK and
// Signer give sk-ecdsa-sha2-nistp256@openssh.com keys and signatures to tests that want to be fast.
package softkey

import (
	"context"
	"fmt"
	"log/slog"
	"time"
)

const (
	// touchTimeout is how long a key blinks before it gives up; CTAP 2.1 section 6.1.2 leaves it to
	// the platform, and keys take 10 to 30 s.
	touchTimeout = 30 * time.Second
	// denyAfter is how long DenyTouch and a walked-away user take to become a timeout. Short, since
	// tests wait for it.
	denyAfter = 200 * time.Millisecond
)

// Attestation says what a new credential tells of its maker (WebAuthn section 6.5.4).
type Attestation string

const (
	// AttestSelf is "packed" signed by the credential itself: proves nothing about the maker.
	AttestSelf Attestation = "self"
	// AttestBasic is "packed" signed by a certificate under this key's own throw-away root.
	AttestBasic Attestation = "basic"
	// AttestNone is format "none", an empty statement.
	AttestNone Attestation = "none"
)

// Config makes a key.
type Config struct {
	// StatePath is the file (0600) that holds private keys, PIN and counter; several processes may
	// use one file at the same time. Empty: in memory, gone with the key.
	StatePath string
	// PIN is set on a key that has none yet; on a key that has one it is ignored.
	PIN string
	// AAGUID is the model; the zero value is this package's own.
	AAGUID [16]byte
	// Attestation of new credentials; empty is AttestSelf.
	Attestation Attestation
	// Batch attests instead of a throw-away root of the key's own, on a new key with AttestBasic: a test's vendor.
	Batch *Batch
	// PINProtocols are the PIN/UV auth protocols that the key knows, the preferred first; nil is both, two first. A platform takes the first it knows too.
	PINProtocols []int
	// NoHMACSecret makes a key that lacks the extension, as old ones do.
	NoHMACSecret bool
	// BuiltInUV makes the key verify its user by itself, as one with a fingerprint reader does: a
	// touch then is a verification too.
	BuiltInUV bool
	// Touch is asked for each touch with "enroll", "sign" or "select" and answers whether the user
	// touched. It may block (the key blinks as long). False: the user walks away. Nil: always touched.
	// An answer that comes after the key gave up is dropped.
	Touch func(op string) bool
	// TouchTimeout is how long the key blinks; 0 is 30 s.
	TouchTimeout time.Duration
	// Faults that the key starts with.
	Faults Faults
	// Log gets each command at debug level; nil is silence.
	Log *slog.Logger
}

// Faults make the key lie or fail, so that tests see each check fire. The zero value is an honest key.
type Faults struct {
	NoUP          bool          // signs without the user presence flag
	NoUV          bool          // signs without the user verification flag, whatever was verified
	ForgedUV      bool          // sets the user verification flag though nobody was verified
	WrongRPIDHash bool          // signs for another relying party
	BadSignature  bool          // the signature doesn't verify
	BackedUp      bool          // new credentials say that they are synced to other devices
	FrozenCounter bool          // the counter does not rise, as a cloned key's wouldn't
	LongAuthData  bool          // appends extension data that nobody asked for
	UVMismatch    bool          // the finger is not recognised
	DenyTouch     bool          // the user walks away: CTAP 0x2f after a short time
	TouchDelay    time.Duration // how long the user takes
	Tarpit        bool          // takes every byte and never answers
}

// Key is an Authenticator plugged in at a device path.
type Key struct {
	auth *Authenticator
	tr   *transport
}

// Open plugs a key in. It answers at Path until Close.
func Open(cfg Config) (*Key, error) {
	a, err := NewAuthenticator(cfg)
	if err != nil {
		return nil, err
	}
	tr, err := openTransport(a)
	if err != nil {
		return nil, fmt.Errorf("opening the software key's device: %w", err)
	}
	return &Key{auth: a, tr: tr}, nil
}

// Path is what libfido2 opens, /dev/pts/N.
func (k *Key) Path() string { return k.tr.path() }

// Authenticator is the key behind the device, for what a test wants to do past CTAP.
func (k *Key) Authenticator() *Authenticator { return k.auth }

// SetFaults changes the faults from the next command on.
func (k *Key) SetFaults(f Faults) { k.auth.SetFaults(f) }

// Close unplugs the key: a client in the middle of something gets a read error.
func (k *Key) Close() error { return k.tr.close() }

// Serve plugs a key in, calls ready with its path, and unplugs it when ctx ends. It is the whole of
// what a demo's main has to call.
func Serve(ctx context.Context, cfg Config, ready func(path string)) error {
	k, err := Open(cfg)
	if err != nil {
		return err
	}
	ready(k.Path())
	<-ctx.Done()
	return k.Close()
}
