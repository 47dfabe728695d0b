// Package wire is what the breakglass-fido2 helper and its client say to each other: types only, pure
// Go, so that breakglass builds without cgo and without libfido2.
//
// # Protocol, version 1
//
// The client starts the helper, writes one Request as one line of JSON on its stdin and keeps stdin
// open. The helper writes lines of JSON on its stdout, each one Message: any number with Event set,
// then exactly one last with Result or Error set; then it exits, 0 after a Result and 1 after an
// Error. The client ends everything by closing stdin (or SIGTERM, or SIGKILL): the helper cancels what
// the key is doing, so that it stops blinking, and exits; a key that doesn't even answer that holds it
// up by Grace at most.
//
// []byte is base64 as encoding/json has it. Unknown fields are refused on both sides: both are of one
// build. One process serves one request, so that what libfido2 and its binding leak (memory, the PIN
// in it) dies with it.
//
// # What a signature is over
//
// The helper hashes Request.Data with SHA-256 and hands that to the key as clientDataHash, for sign
// and enroll alike, as OpenSSH does (PROTOCOL.u2f).
package wire

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"
)

const (
	// Version of the protocol; another is refused.
	Version = 1
	// MaxLine bounds a line in both directions: a statement, a few dozen credentials and a
	// certificate fit many times.
	MaxLine = 1 << 20
	// MaxKeys bounds the credentials of one request: each costs a question to each device.
	MaxKeys = 32
	// Grace is how long the helper waits for a key to obey a cancellation before it exits anyway.
	Grace = 500 * time.Millisecond
	// DevicesEnv names device paths, separated by colons, that are used in place of those found by
	// udev: the seam for tests and the demo (/dev/pts/N).
	DevicesEnv = "BREAKGLASS_FIDO2_DEVICE"
)

// Op is an operation.
type Op string

const (
	OpList   Op = "list"   // what is plugged in
	OpProbe  Op = "probe"  // which device holds which credential; nothing blinks
	OpEnroll Op = "enroll" // a new credential
	OpSign   Op = "sign"   // a signature by a credential
	// OpReader makes a credential that derives secrets, and OpDerive has it give one. Both are for ReaderApplication alone, as sign and enroll are
	// for any other: what unseals a reader's identity signs nothing, and what signs a request unseals nothing.
	OpReader Op = "reader"
	OpDerive Op = "derive"
)

const (
	// ReaderApplication is the relying party of the credentials under which reading identities are sealed.
	ReaderApplication = "breakglass-reader"
	// SecretLen is the length of a salt and of what is derived from it (CTAP 2.1 section 12.5).
	SecretLen = 32
)

// Key is an enrolled credential.
type Key struct {
	CredentialID []byte `json:"credential_id"`
	// PublicKey in ssh wire format, sk-ecdsa with application; the helper checks each signature with it.
	PublicKey []byte `json:"public_key"`
}

// Request is the only line that the helper reads.
type Request struct {
	Version int `json:"version"`
	Op      Op  `json:"op"`
	// Devices are the paths to use; none: all that udev finds.
	Devices []string `json:"devices,omitempty"`
	// Application is the FIDO relying party id; "ssh:breakglass". All but list need it.
	Application string `json:"application,omitempty"`
	// Keys, the preferred first: of sign and probe the candidates, of enroll those that must not be on
	// the device already.
	Keys []Key `json:"keys,omitempty"`
	// Data is what sign signs; of enroll, the challenge. See the package comment.
	Data []byte `json:"data,omitempty"`
	// User is the person's name, which enroll stores on the key.
	User string `json:"user,omitempty"`
	// PIN goes to one device only.
	PIN []byte `json:"pin,omitempty"`
	// UV: the user must be verified, by PIN or by the key itself. Reader and derive always verify.
	UV bool `json:"uv,omitempty"`
	// Salts of derive, one a key, in the order of Keys.
	Salts [][]byte `json:"salts,omitempty"`
	// TimeoutMS bounds the whole request; 0 is none, and the client's own.
	TimeoutMS int64 `json:"timeout_ms,omitempty"`
}

// Event is what happens before the answer.
type Event struct {
	Event string `json:"event"` // EventTouch
	// Device that waits for its user.
	Device Device `json:"device"`
	// CredentialID it is asked for; none at enroll.
	CredentialID []byte `json:"credential_id,omitempty"`
}

// EventTouch: the device begins to blink. It is sent when the command goes to the key; with a PIN in
// it, the key blinks once it has accepted that.
const EventTouch = "touch"

// Device is a key that is plugged in.
type Device struct {
	Path         string `json:"path"`
	Manufacturer string `json:"manufacturer,omitempty"`
	Product      string `json:"product,omitempty"`
	VendorID     uint16 `json:"vendor_id,omitempty"`
	ProductID    uint16 `json:"product_id,omitempty"`
	// The rest is filled by list and probe only.
	AAGUID []byte `json:"aaguid,omitempty"`
	PINSet bool   `json:"pin_set,omitempty"`
	UV     bool   `json:"uv,omitempty"` // verifies its user by itself, and is set up to
}

// Holding says that Device holds the credential.
type Holding struct {
	Device       Device `json:"device"`
	CredentialID []byte `json:"credential_id"`
}

// Signature is what sign gives. Flags and counter are the key's words: judging them is the CA's.
type Signature struct {
	Device       Device `json:"device"`
	CredentialID []byte `json:"credential_id"`
	// SSH is the signature in ssh wire format: string format, string Marshal{R, S}, flags, counter.
	SSH     []byte `json:"ssh"`
	Flags   byte   `json:"flags"`
	Counter uint32 `json:"counter"`
}

// Credential is what enroll gives.
type Credential struct {
	Device       Device `json:"device"`
	CredentialID []byte `json:"credential_id"`
	PublicKey    []byte `json:"public_key"` // ssh wire format
	AuthData     []byte `json:"auth_data"`  // raw, not wrapped in CBOR
	// The attestation over AuthData ‖ SHA-256(Request.Data). The helper doesn't judge it.
	Format      string `json:"format"`         // "packed", "none", …
	Certificate []byte `json:"cert,omitempty"` // DER, the leaf alone; none in self attestation
	Signature   []byte `json:"sig,omitempty"`  // DER
}

// Result is the answer; the field of the operation is set.
type Result struct {
	Devices    []Device    `json:"devices,omitempty"`    // list, probe
	Holdings   []Holding   `json:"holdings,omitempty"`   // probe, in the order of Request.Keys
	Unreadable []Unusable  `json:"unreadable,omitempty"` // list, probe: devices that gave an error
	Signature  *Signature  `json:"signature,omitempty"`
	Credential *Credential `json:"credential,omitempty"`
	Secret     *Secret     `json:"secret,omitempty"`
}

// Secret is what derive gives. It goes through the pipe alone, as the PIN does.
type Secret struct {
	Device       Device `json:"device"`
	CredentialID []byte `json:"credential_id"`
	Value        []byte `json:"value"` // SecretLen bytes
}

// Unusable is a device that could not be asked, and why.
type Unusable struct {
	Path  string `json:"path"`
	Error *Error `json:"error"`
}

// Message is one line from the helper: exactly one field is set.
type Message struct {
	Event  *Event  `json:"event,omitempty"`
	Result *Result `json:"result,omitempty"`
	Error  *Error  `json:"error,omitempty"`
}

// ErrProtocol is wrapped by what the Read functions return for a line that is no message.
var ErrProtocol = errors.New("not the breakglass-fido2 protocol")

// ParseRequest reads the line of a request.
func ParseRequest(line []byte) (*Request, error) {
	var r Request
	if err := strict(line, &r); err != nil {
		return nil, err
	}
	if r.Version != Version {
		return nil, fmt.Errorf("%w: version %d, want %d", ErrProtocol, r.Version, Version)
	}
	return &r, r.check()
}

func (r *Request) check() error {
	bad := func(format string, a ...any) error {
		return &Error{Code: BadRequest, Detail: fmt.Sprintf(format, a...)}
	}
	switch r.Op {
	case OpList, OpProbe, OpEnroll, OpSign, OpReader, OpDerive:
	default:
		return bad("unknown operation %q", r.Op)
	}
	if r.Op != OpList && r.Application == "" {
		return bad("%s needs an application", r.Op)
	}
	if reads := r.Op == OpReader || r.Op == OpDerive; r.Op != OpList && r.Op != OpProbe && reads != (r.Application == ReaderApplication) {
		return bad("%s is not for application %q", r.Op, r.Application)
	}
	if (r.Op == OpSign || r.Op == OpProbe || r.Op == OpDerive) && len(r.Keys) == 0 {
		return bad("%s needs a key", r.Op)
	}
	if (r.Op == OpSign || r.Op == OpEnroll || r.Op == OpReader) && len(r.Data) == 0 {
		return bad("%s needs data", r.Op)
	}
	if (r.Op == OpEnroll || r.Op == OpReader) && r.User == "" {
		return bad("%s needs a user", r.Op)
	}
	if want := len(r.Keys); r.Op == OpDerive && len(r.Salts) != want || r.Op != OpDerive && len(r.Salts) > 0 {
		return bad("derive needs a salt for each key, and nothing else takes one")
	}
	for i, s := range r.Salts {
		if len(s) != SecretLen { // libfido2 takes two salts as one of twice the length
			return bad("salt %d has %d bytes, want %d", i, len(s), SecretLen)
		}
	}
	if len(r.Keys) > MaxKeys {
		return bad("%d keys, at most %d", len(r.Keys), MaxKeys)
	}
	for i, k := range r.Keys {
		// The binding panics on an empty slice.
		if len(k.CredentialID) == 0 {
			return bad("key %d has no credential id", i)
		}
		if (r.Op == OpSign || r.Op == OpDerive) && len(k.PublicKey) == 0 {
			return bad("key %d has no public key", i)
		}
	}
	if bytes.IndexByte(r.PIN, 0) >= 0 { // would end early in C
		return bad("a PIN has no zero byte")
	}
	if r.TimeoutMS < 0 {
		return bad("negative timeout")
	}
	return nil
}

// ParseMessage reads one line from the helper.
func ParseMessage(line []byte) (*Message, error) {
	var m Message
	if err := strict(line, &m); err != nil {
		return nil, err
	}
	n := 0
	for _, set := range []bool{m.Event != nil, m.Result != nil, m.Error != nil} {
		if set {
			n++
		}
	}
	if n != 1 {
		return nil, fmt.Errorf("%w: a message is one of event, result, error", ErrProtocol)
	}
	return &m, nil
}

// strict refuses unknown fields and whatever follows the value.
func strict(line []byte, v any) error {
	d := json.NewDecoder(bytes.NewReader(line))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		return fmt.Errorf("%w: %w", ErrProtocol, err)
	}
	if _, err := d.Token(); err != io.EOF {
		return fmt.Errorf("%w: more than one value on a line", ErrProtocol)
	}
	return nil
}
