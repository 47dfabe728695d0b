// Package background is the process that holds a person's in-memory keys: for each grant the client key and an ssh-agent
// socket whose list has that one certificate, and for reading the key that a pass names.
//
// It guarantees:
//   - to the person: a grant outlives the terminal that it was asked in, and no private key is ever on a disk, in an
//     argument, in the environment or on a wire; a key is wiped when its grant ends, and the process ends with the last.
//   - to the jump and the CA: a client key signs two things only, a login (an SSH userauth request) by its own certificate as its own
//     login, and calls under the namespace call@breakglass. It is no oracle for other signatures, not even to a program that got hold
//     of the socket.
//   - to the person against others on the machine: the sockets stand in a directory of mode 0700 and each connection's user is
//     asked from the kernel (SO_PEERCRED).
//
// Ends are counted on the monotonic clock from what the CA said is left, so that a wrong clock of this machine ends nothing.
//
// # The control socket
//
// One JSON object a line, answered by one; several in a row may come on a connection. Both sides are one build: the version is
// compared and unknown fields are refused. See request and Answer.
package background

import (
	"errors"
	"time"

	"breakglass/ca/api"
	"breakglass/internal/name"
)

const (
	// version of the control protocol.
	version = 1
	// controlName is the control socket's name in the run directory.
	controlName = "control"
	// maxLine bounds a control message; a Granted with a certificate and some jumps has a few KiB.
	maxLine = 256 << 10
	// maxKeys bounds what is held: a loop in a script can't fill memory.
	maxKeys = 64
	// keyLifetime is how long a key without a use is kept: somebody types a reason and a PIN. While its request waits for approvals it is held longer.
	keyLifetime = 30 * time.Minute
	// idleGrace is how long the process stays with nothing to hold, so that a request's next step finds it.
	idleGrace = 10 * time.Second
	// maxSocket is the shortest limit on a Unix socket's path among the systems (sun_path of 104 with its zero on macOS).
	maxSocket = 103
)

var (
	// ErrNotRunning says that there is no background process.
	ErrNotRunning = errors.New("no background process")
	// ErrNoKey says that the key or grant has ended.
	ErrNoKey = errors.New("no such key: its grant has ended")
	// ErrForbidden says that the key doesn't sign that.
	ErrForbidden = errors.New("the key does not sign that")
)

// request is one line to the background process; the op says which fields are set.
type request struct {
	Version int            `json:"version"`
	Op      string         `json:"op"`
	Key     string         `json:"key,omitempty"`     // fingerprint of the public half: sign, install, install_pass, drop
	Granted *api.Granted   `json:"granted,omitempty"` // install
	Seconds int            `json:"seconds,omitempty"` // install, install_pass: what is left of it, by the CA's clock
	Data    []byte         `json:"data,omitempty"`    // sign
	Request name.RequestID `json:"request,omitempty"` // end
	Person  name.Person    `json:"person,omitempty"`  // install_pass
	Until   time.Time      `json:"until,omitzero"`    // install_pass: as the CA said it
	Waiting *Waiting       `json:"waiting,omitempty"` // hold
}

const (
	opNewKey      = "new_key"
	opInstall     = "install"
	opInstallPass = "install_pass"
	opHold        = "hold"
	opSign        = "sign"
	opList        = "list"
	opEnd         = "end"
	opDrop        = "drop"
	opStop        = "stop"
)

// Answer is one line back.
type Answer struct {
	Error     string    `json:"error,omitempty"`
	Code      string    `json:"code,omitempty"`       // "no_key", "forbidden"
	PublicKey string    `json:"public_key,omitempty"` // new_key, authorized_keys form
	Socket    string    `json:"socket,omitempty"`     // install
	Signature []byte    `json:"signature,omitempty"`  // sign: SSH wire format
	Grants    []Grant   `json:"grants,omitempty"`     // list
	Pass      *Pass     `json:"pass,omitempty"`       // list
	Waiting   []Waiting `json:"waiting,omitempty"`    // list
}

// Grant is a live grant.
type Grant struct {
	api.Granted
	Key    string `json:"key"`    // the client key's fingerprint
	Socket string `json:"socket"` // empty once a newer grant of the same login@host has taken it
	Left   int    `json:"left"`   // seconds
}

// Pass is a live pass.
type Pass struct {
	Person    name.Person `json:"person"`
	Key       string      `json:"key"`
	PublicKey string      `json:"public_key"`
	Until     time.Time   `json:"until"`
	Left      int         `json:"left"`
}
