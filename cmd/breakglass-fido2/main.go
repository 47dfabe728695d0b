// Command breakglass-fido2 is the hardware key helper of breakglass: the only program that links
// libfido2. Nobody types it; breakglass starts it for one operation and kills it when that takes too
// long. The protocol is specified in breakglass/agent/fido2/wire.
package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"breakglass/agent/fido2/wire"
)

func main() {
	if len(os.Args) > 1 {
		fmt.Fprintln(os.Stderr, "breakglass-fido2: error: this is a part of breakglass that takes no arguments")
		fmt.Fprintln(os.Stderr, "breakglass-fido2: hint: breakglass keys")
		os.Exit(2)
	}
	if err := harden(); err != nil { // a PIN in a core dump is worse than no core dump, and no reason to fail
		fmt.Fprintf(os.Stderr, "breakglass-fido2: %v\n", err)
	}
	// As a session leader without a terminal we would be handed the pseudo-terminal of a test key by
	// libfido2's open, and SIGHUP when it is unplugged. A lost terminal shows as the end of stdin.
	signal.Ignore(syscall.SIGHUP)
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	if !run(ctx, os.Stdin, os.Stdout) {
		os.Exit(1)
	}
}

// run serves one request and says whether it ended in a result. It may leave a goroutine behind that
// hangs in a key that doesn't answer: the process must end after it.
func run(ctx context.Context, stdin io.Reader, stdout io.Writer) bool {
	out := &messages{w: stdout}
	in := bufio.NewReader(io.LimitReader(stdin, wire.MaxLine))
	line, err := in.ReadBytes('\n')
	if err != nil {
		out.fail(&wire.Error{Code: wire.BadRequest, Detail: fmt.Sprintf("reading the request: %v", err)})
		return false
	}
	q, err := wire.ParseRequest(bytes.TrimSuffix(line, []byte("\n")))
	clear(line)
	if err != nil {
		out.fail(err)
		return false
	}
	defer clear(q.PIN)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() { // the client is gone when its end of stdin is
		_, _ = io.Copy(io.Discard, in)
		cancel()
	}()
	if q.TimeoutMS > 0 {
		var stop context.CancelFunc
		ctx, stop = context.WithTimeout(ctx, time.Duration(q.TimeoutMS)*time.Millisecond)
		defer stop()
	}
	o := &operation{q: q, event: out.event}
	res, err := o.do(ctx)
	if err != nil {
		out.fail(err)
		return false
	}
	if res.Secret != nil {
		defer clear(res.Secret.Value)
	}
	return out.send(wire.Message{Result: res}) == nil
}

// messages writes one line at a time: two keys may begin to blink at once.
type messages struct {
	mu sync.Mutex
	w  io.Writer
}

func (m *messages) send(msg wire.Message) error {
	b, err := json.Marshal(msg)
	if err != nil {
		return err
	}
	b = append(b, '\n')
	defer clear(b) // there may be a secret in it
	m.mu.Lock()
	defer m.mu.Unlock()
	_, err = m.w.Write(b)
	return err
}

// event and fail can't do anything about a client that doesn't read: stdin tells that it is gone.
func (m *messages) event(e wire.Event) { _ = m.send(wire.Message{Event: &e}) }

func (m *messages) fail(err error) {
	var we *wire.Error
	if !errors.As(err, &we) {
		code := wire.Failed
		if errors.Is(err, wire.ErrProtocol) {
			code = wire.BadRequest
		}
		we = &wire.Error{Code: code, Detail: err.Error()}
	}
	_ = m.send(wire.Message{Error: we})
}
