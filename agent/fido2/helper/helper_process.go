// Package helper is the client of breakglass-fido2: it starts that program for one operation, shows
// its events to the caller, kills it when the context ends, and turns its errors back into *wire.Error.
//
// It guarantees that no operation outlives its context by more than a moment, whatever the hardware
// does, and that the PIN goes through a pipe alone: never into an argument, the environment or a file.
// It is pure Go and links no libfido2.
package helper

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"

	"breakglass/agent/fido2/wire"
)

const (
	// program is the helper's name, beside our own executable or in PATH.
	program = "breakglass-fido2"
	// killAfter is how long a helper may take to leave once it was told to, before it is killed. It
	// needs wire.Grace itself to make the key stop blinking.
	killAfter = 2 * wire.Grace
	// maxStderr bounds what is kept of the helper's complaints for an error message.
	maxStderr = 4 << 10
)

// Client runs helpers. Its methods may be called at the same time; each call is a process.
type Client struct {
	// Path of the helper; empty: Find looks for it.
	Path string
	// Devices to use; nil: those in wire.DevicesEnv, or else all that are plugged in.
	Devices []string
	// Event is told what happens before the answer; nil is nobody. It is called from the caller's
	// goroutine, never after the call has returned.
	Event func(wire.Event)
}

// Find gives the path of the helper: beside our own executable, else in PATH.
func Find() (string, error) {
	name := program
	if runtime.GOOS == "windows" {
		name += ".exe"
	}
	if self, err := os.Executable(); err == nil {
		p := filepath.Join(filepath.Dir(self), name)
		if st, err := os.Stat(p); err == nil && st.Mode().IsRegular() {
			return p, nil
		}
	}
	p, err := exec.LookPath(name)
	if err != nil {
		return "", &wire.Error{Code: wire.NoBackend, Detail: fmt.Sprintf("%s is neither beside this program nor in PATH", program)}
	}
	return p, nil
}

// List gives what is plugged in.
func (c *Client) List(ctx context.Context) (*wire.Result, error) {
	return c.do(ctx, &wire.Request{Op: wire.OpList})
}

// Probe gives which device holds which of the keys; nothing blinks.
func (c *Client) Probe(ctx context.Context, application string, keys []wire.Key) (*wire.Result, error) {
	return c.do(ctx, &wire.Request{Op: wire.OpProbe, Application: application, Keys: keys})
}

// EnrollRequest asks for a new credential.
type EnrollRequest struct {
	Application string
	Challenge   []byte // hashed with SHA-256 by the helper
	User        string
	PIN         []byte
	UV          bool
	Exclude     []wire.Key // not on a device that holds one of these
}

// Enroll makes a credential on the one device that is plugged in or named by Devices.
func (c *Client) Enroll(ctx context.Context, q EnrollRequest) (*wire.Credential, error) {
	r, err := c.do(ctx, &wire.Request{
		Op: wire.OpEnroll, Application: q.Application, Data: q.Challenge, User: q.User, PIN: q.PIN, UV: q.UV, Keys: q.Exclude,
	})
	if err != nil {
		return nil, err
	}
	if r.Credential == nil {
		return nil, fmt.Errorf("enrolling: %w: no credential in the answer", wire.ErrProtocol)
	}
	return r.Credential, nil
}

// SignRequest asks for a signature.
type SignRequest struct {
	Application string
	Keys        []wire.Key // any of them will do, the first that is here is preferred
	Data        []byte
	PIN         []byte // for the device that is chosen; name one key when you have a PIN
	UV          bool
}

// Signature is an answer to Sign.
type Signature struct {
	*ssh.Signature
	Device       wire.Device
	CredentialID []byte
	Flags        byte
	Counter      uint32
}

// Sign has a key sign Data, with a touch.
func (c *Client) Sign(ctx context.Context, q SignRequest) (*Signature, error) {
	r, err := c.do(ctx, &wire.Request{
		Op: wire.OpSign, Application: q.Application, Keys: q.Keys, Data: q.Data, PIN: q.PIN, UV: q.UV,
	})
	if err != nil {
		return nil, err
	}
	if r.Signature == nil {
		return nil, fmt.Errorf("signing: %w: no signature in the answer", wire.ErrProtocol)
	}
	s := &Signature{Signature: new(ssh.Signature), Device: r.Signature.Device, CredentialID: r.Signature.CredentialID,
		Flags: r.Signature.Flags, Counter: r.Signature.Counter}
	if err := ssh.Unmarshal(r.Signature.SSH, s.Signature); err != nil {
		return nil, fmt.Errorf("signing: %w: %w", wire.ErrProtocol, err)
	}
	return s, nil
}

// NewReader makes a credential that derives secrets, on the one device that is plugged in or named by Devices, with its user verified.
func (c *Client) NewReader(ctx context.Context, q EnrollRequest) (*wire.Credential, error) {
	r, err := c.do(ctx, &wire.Request{
		Op: wire.OpReader, Application: wire.ReaderApplication, Data: q.Challenge, User: q.User, PIN: q.PIN, UV: true, Keys: q.Exclude,
	})
	if err != nil {
		return nil, err
	}
	if r.Credential == nil {
		return nil, fmt.Errorf("making a reader's credential: %w: no credential in the answer", wire.ErrProtocol)
	}
	return r.Credential, nil
}

// DeriveRequest asks for a secret.
type DeriveRequest struct {
	Keys  []wire.Key // any of them will do
	Salts [][]byte   // one for each
	PIN   []byte     // for the device that is chosen; name one key when you have a PIN
}

// Derive has a key give the secret of its salt, with a touch and its user verified. The caller wipes the value.
func (c *Client) Derive(ctx context.Context, q DeriveRequest) (*wire.Secret, error) {
	r, err := c.do(ctx, &wire.Request{Op: wire.OpDerive, Application: wire.ReaderApplication, Keys: q.Keys, Salts: q.Salts, PIN: q.PIN, UV: true})
	if err != nil {
		return nil, err
	}
	if r.Secret == nil || len(r.Secret.Value) != wire.SecretLen {
		return nil, fmt.Errorf("deriving: %w: no secret in the answer", wire.ErrProtocol)
	}
	return r.Secret, nil
}

func (c *Client) devices() []string {
	if c.Devices != nil {
		return c.Devices
	}
	return strings.FieldsFunc(os.Getenv(wire.DevicesEnv), func(r rune) bool { return r == ':' })
}

// do runs one helper.
func (c *Client) do(ctx context.Context, q *wire.Request) (*wire.Result, error) {
	q.Version, q.Devices = wire.Version, c.devices()
	if dl, ok := ctx.Deadline(); ok {
		// The helper's own end comes first where it can, for the better error; ours is the surer one.
		q.TimeoutMS = max(1, (time.Until(dl) - 50*time.Millisecond).Milliseconds())
	}
	path := c.Path
	if path == "" {
		var err error
		if path, err = Find(); err != nil {
			return nil, err
		}
	}
	line, err := json.Marshal(q)
	if err != nil {
		return nil, fmt.Errorf("asking %s: %w", program, err)
	}
	line = append(line, '\n')
	defer clear(line) // the PIN

	cmd := exec.CommandContext(ctx, path)
	// libfido2 waits for a key in ppoll(2), which any signal ends, and takes that for an answer that was lost: Go's scheduler is to send it none (SIGURG).
	cmd.Env = append(os.Environ(), "GODEBUG="+strings.TrimPrefix(os.Getenv("GODEBUG")+",asyncpreemptoff=1", ","))
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return nil, fmt.Errorf("starting %s: %w", program, err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return nil, fmt.Errorf("starting %s: %w", program, err)
	}
	stderr := &head{max: maxStderr}
	cmd.Stderr = stderr
	cmd.Cancel = stdin.Close // the helper's sign to stop, on every system
	cmd.WaitDelay = killAfter
	if err := cmd.Start(); err != nil {
		return nil, &wire.Error{Code: wire.NoBackend, Detail: fmt.Sprintf("starting %s: %v", program, err)}
	}
	res, rerr := c.exchange(stdin, stdout, line)
	stdin.Close()
	late := time.AfterFunc(killAfter, func() { _ = cmd.Process.Kill() }) // it has answered and doesn't go
	werr := cmd.Wait()
	late.Stop()
	if rerr == nil {
		return res, nil
	}
	var we *wire.Error
	switch {
	case ctx.Err() != nil && (!errors.As(rerr, &we) || we.Code == wire.Cancelled):
		// The helper knows only that we went; why is known here.
		code := wire.Cancelled
		if errors.Is(ctx.Err(), context.DeadlineExceeded) {
			code = wire.Timeout
		}
		return nil, &wire.Error{Code: code}
	case errors.As(rerr, &we):
		return nil, we
	case werr != nil:
		return nil, fmt.Errorf("%s: %w (%w): %s", program, rerr, werr, stderr.String())
	}
	return nil, fmt.Errorf("%s: %w", program, rerr)
}

// exchange writes the request and reads up to the last message. When the context ends, a helper that
// hangs is killed by exec.Cmd itself, which ends the reading here.
func (c *Client) exchange(w io.Writer, r io.Reader, line []byte) (*wire.Result, error) {
	if _, err := w.Write(line); err != nil {
		return nil, fmt.Errorf("asking: %w", err)
	}
	sc := bufio.NewScanner(r)
	buf := make([]byte, 64<<10)
	defer clear(buf) // a secret fits; only a longer line makes the scanner take another buffer
	sc.Buffer(buf, wire.MaxLine)
	for sc.Scan() {
		m, err := wire.ParseMessage(sc.Bytes())
		if err != nil {
			return nil, err
		}
		switch {
		case m.Event != nil:
			if c.Event != nil {
				c.Event(*m.Event)
			}
		case m.Error != nil:
			return nil, m.Error
		default:
			return m.Result, nil
		}
	}
	if err := sc.Err(); err != nil {
		return nil, fmt.Errorf("reading the answer: %w", err)
	}
	return nil, errors.New("no answer")
}

// head keeps the beginning of what is written to it.
type head struct {
	max int
	buf bytes.Buffer
}

func (h *head) Write(p []byte) (int, error) {
	h.buf.Write(p[:min(len(p), h.max-h.buf.Len())])
	return len(p), nil
}

func (h *head) String() string { return strings.TrimSpace(h.buf.String()) }
