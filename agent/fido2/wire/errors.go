package wire

import "fmt"

// Code is why an operation failed: what the person has to do differs for each.
type Code string

const (
	NoDevice        Code = "no_device"        // nothing is plugged in
	ManyDevices     Code = "many_devices"     // enroll: say which
	NoCredential    Code = "no_credential"    // no device here holds one of the keys
	AlreadyEnrolled Code = "already_enrolled" // enroll: the device holds one of the keys
	PINRequired     Code = "pin_required"
	PINInvalid      Code = "pin_invalid"      // Retries says how many are left
	PINBlocked      Code = "pin_blocked"      // for good: only a reset of the key helps
	PINAuthBlocked  Code = "pin_auth_blocked" // three wrong in a row: unplug it and plug it in again
	PINNotSet       Code = "pin_not_set"      // verification is wanted and the key has no PIN to do it
	UVInvalid       Code = "uv_invalid"       // finger not recognised: try again or use the PIN
	UVBlocked       Code = "uv_blocked"       // finger refused for now: use the PIN
	NoTouch         Code = "no_touch"         // the user did not touch in the key's own time
	Cancelled       Code = "cancelled"        // the client went away
	Timeout         Code = "timeout"          // Request.TimeoutMS passed, perhaps in a key that answers nothing
	Unplugged       Code = "unplugged"        // the device went away, or could not be read
	BadAnswer       Code = "bad_answer"       // the key's answer isn't what was asked for: broken or lying
	Unsupported     Code = "unsupported"      // the device is no FIDO2 key, or can't do this
	NotAllowed      Code = "not_allowed"      // the key refused
	BadRequest      Code = "bad_request"      // the client's fault
	NoBackend       Code = "no_backend"       // this helper was built without libfido2
	Failed          Code = "failed"           // anything else; Detail says what
)

// Error is a failed operation. errors.Is compares the Code alone: errors.Is(err, wire.NoTouch.Err()).
type Error struct {
	Code    Code   `json:"code"`
	Detail  string `json:"detail,omitempty"`
	Device  string `json:"device,omitempty"`  // path, where one device is meant
	Retries *int   `json:"retries,omitempty"` // PIN tries left, where the key said
}

// Err is an error of that code, to compare with.
func (c Code) Err() error { return &Error{Code: c} }

func (e *Error) Error() string {
	s := e.text()
	if e.Retries != nil {
		s += fmt.Sprintf(", %d tries left", *e.Retries)
	}
	if e.Detail != "" {
		s += ": " + e.Detail
	}
	if e.Device != "" {
		s += " (" + e.Device + ")"
	}
	return s
}

// Is says whether target is an Error of the same Code.
func (e *Error) Is(target error) bool {
	t, ok := target.(*Error)
	return ok && t.Code == e.Code
}

func (e *Error) text() string {
	switch e.Code {
	case NoDevice:
		return "no security key is plugged in"
	case ManyDevices:
		return "several security keys are plugged in"
	case NoCredential:
		return "no security key here holds an enrolled credential"
	case AlreadyEnrolled:
		return "this security key is enrolled already"
	case PINRequired:
		return "the security key wants its PIN"
	case PINInvalid:
		return "wrong PIN"
	case PINBlocked:
		return "the security key's PIN is blocked"
	case PINAuthBlocked:
		return "the security key takes no more PINs until it is plugged in again"
	case PINNotSet:
		return "the security key has no PIN"
	case UVInvalid:
		return "the security key did not recognise its user"
	case UVBlocked:
		return "the security key's own verification is blocked"
	case NoTouch:
		return "the security key was not touched"
	case Cancelled:
		return "cancelled before the security key answered"
	case Timeout:
		return "the security key did not answer in time"
	case Unplugged:
		return "the security key went away"
	case BadAnswer:
		return "the security key gave a wrong answer"
	case Unsupported:
		return "the device can't do this"
	case NotAllowed:
		return "the security key refused"
	case BadRequest:
		return "bad request"
	case NoBackend:
		return "this helper was built without libfido2"
	case Failed:
		return "the security key failed"
	}
	return string(e.Code)
}
