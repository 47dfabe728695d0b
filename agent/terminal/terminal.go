// Package terminal speaks with the person: reason, PIN, passphrase, and the line that says which key to touch.
//
// It guarantees that nothing it shows or asks goes to stdout or is read from stdin (both belong to the remote command, to scp,
// rsync and git), that it never waits for an answer where nobody can give one, and that a terminal whose echo was off gets it back
// when a question is interrupted. A PIN comes from the terminal, or from SSH_ASKPASS as ssh(1) describes it.
package terminal

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"time"

	"golang.org/x/term"

	"breakglass/agent/keys"
	"breakglass/internal/name"
)

// maxAnswer bounds a typed line.
const maxAnswer = 4 << 10

// ErrNobody says that there is no terminal to ask on.
var ErrNobody = errors.New("no terminal to ask on")

// Config of a Terminal.
type Config struct {
	Stderr *os.File
	Getenv func(string) string
	// Interrupt ends with Ctrl-C; nil never does.
	Interrupt context.Context
	// Silent asks nobody and shows nothing: `ensure` where it may not ask.
	Silent bool
}

// Terminal is the person.
type Terminal struct {
	cfg  Config
	live bool // stderr is a terminal: lines may be rewritten
}

// New looks whether stderr is a terminal.
func New(cfg Config) *Terminal {
	return &Terminal{cfg: cfg, live: !cfg.Silent && term.IsTerminal(int(cfg.Stderr.Fd()))}
}

// Live says whether stderr is a terminal.
func (t *Terminal) Live() bool { return t.live }

// Interactive says whether somebody can be asked: there is a controlling terminal and we are in its foreground.
func (t *Terminal) Interactive() bool {
	if t.cfg.Silent {
		return false
	}
	f, err := openTTY()
	if err != nil {
		return false
	}
	defer f.Close()
	return foreground(f)
}

// Say writes a line to stderr.
func (t *Terminal) Say(format string, a ...any) {
	if !t.cfg.Silent {
		fmt.Fprintf(t.cfg.Stderr, format+"\n", a...)
	}
}

// Ask asks for a line.
func (t *Terminal) Ask(ctx context.Context, prompt string) (string, error) {
	if !t.Interactive() {
		return "", ErrNobody
	}
	f, err := openTTY()
	if err != nil {
		return "", ErrNobody
	}
	defer f.Close()
	fmt.Fprint(f, prompt)
	type line struct {
		s   string
		err error
	}
	got := make(chan line, 1)
	go func() { // ends with the process if the question is interrupted
		s, err := bufio.NewReader(io.LimitReader(f, maxAnswer)).ReadString('\n')
		got <- line{s, err}
	}()
	select {
	case <-ctx.Done():
		fmt.Fprintln(f)
		return "", ctx.Err()
	case l := <-got:
		if l.err != nil {
			fmt.Fprintln(f)
			return "", fmt.Errorf("reading the answer: %w", l.err)
		}
		return strings.TrimSpace(l.s), nil
	}
}

// Secret asks for a line that isn't shown.
func (t *Terminal) Secret(ctx context.Context, prompt string) ([]byte, error) {
	if program := t.askpass(); program != "" {
		return t.runAskpass(ctx, program, prompt)
	}
	if !t.Interactive() {
		return nil, ErrNobody
	}
	f, err := openTTY()
	if err != nil {
		return nil, ErrNobody
	}
	defer f.Close()
	fd := int(f.Fd())
	state, err := term.GetState(fd)
	if err != nil {
		return nil, fmt.Errorf("asking: %w", err)
	}
	fmt.Fprint(f, prompt)
	type line struct {
		b   []byte
		err error
	}
	got := make(chan line, 1)
	go func() {
		b, err := term.ReadPassword(fd)
		got <- line{b, err}
	}()
	select {
	case <-ctx.Done():
		_ = term.Restore(fd, state) // the echo, or the person's shell stays dark
		fmt.Fprintln(f)
		return nil, ctx.Err()
	case l := <-got:
		fmt.Fprintln(f)
		if l.err != nil {
			return nil, fmt.Errorf("reading the answer: %w", l.err)
		}
		return l.b, nil
	}
}

// askpass is the program to ask with, by ssh's rules (ssh(1), SSH_ASKPASS_REQUIRE): force and prefer win over a terminal, without
// either it stands in for a missing terminal where there is a display.
func (t *Terminal) askpass() string {
	program := t.cfg.Getenv("SSH_ASKPASS")
	if program == "" || t.cfg.Silent {
		return ""
	}
	switch t.cfg.Getenv("SSH_ASKPASS_REQUIRE") {
	case "never":
		return ""
	case "force", "prefer":
		return program
	}
	if !t.Interactive() && (t.cfg.Getenv("DISPLAY") != "" || t.cfg.Getenv("WAYLAND_DISPLAY") != "") {
		return program
	}
	return ""
}

func (t *Terminal) runAskpass(ctx context.Context, program, prompt string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, program, strings.TrimSpace(prompt))
	cmd.Stderr = t.cfg.Stderr
	out, err := cmd.Output()
	if err != nil {
		clear(out)
		return nil, fmt.Errorf("asking with %s: %w", program, err)
	}
	for i, b := range out {
		if b == '\n' || b == '\r' {
			clear(out[i:])
			return out[:i], nil
		}
	}
	return out, nil
}

// PIN is keys.Prompter's. The validity of a statement does not end a question: whoever types slowly gets a new statement.
func (t *Terminal) PIN(_ context.Context, key name.Key, note string) ([]byte, error) {
	ctx := t.cfg.Interrupt
	if ctx == nil {
		ctx = context.Background()
	}
	if note != "" {
		t.Say("%s", note)
	}
	pin, err := t.Secret(ctx, fmt.Sprintf("PIN for security key %s: ", key))
	if errors.Is(err, ErrNobody) {
		return nil, keys.ErrNoPIN
	}
	return pin, err
}

// Touch is keys.Prompter's: one line with the seconds left, rewritten on a terminal only.
func (t *Terminal) Touch(waiting []name.Key, all int, until time.Time) func() {
	if t.cfg.Silent {
		return func() {}
	}
	var names []string
	for _, k := range waiting {
		names = append(names, string(k))
	}
	text := fmt.Sprintf("Touch your key (%s)", strings.Join(names, ", "))
	if all > 1 {
		text = fmt.Sprintf("Touch your key (%d of your %d: %s)", len(waiting), all, strings.Join(names, ", "))
	}
	return t.Wait(text, until)
}

// Wait shows text with the time left until done is called.
func (t *Terminal) Wait(text string, until time.Time) (done func()) {
	if t.cfg.Silent {
		return func() {}
	}
	if !t.live {
		t.Say("%s", text)
		return func() {}
	}
	stop, stopped := make(chan struct{}), make(chan struct{})
	show := func() {
		fmt.Fprintf(t.cfg.Stderr, "\r%s … %d s ", text, max(0, int(time.Until(until).Round(time.Second).Seconds())))
	}
	show()
	go func() {
		defer close(stopped)
		tick := time.NewTicker(time.Second)
		defer tick.Stop()
		for {
			select {
			case <-stop:
				return
			case <-tick.C:
				show()
			}
		}
	}()
	var once sync.Once
	return func() {
		once.Do(func() {
			close(stop)
			<-stopped
			fmt.Fprintf(t.cfg.Stderr, "\r%s%s\n", text, strings.Repeat(" ", len(" … 999 s ")))
		})
	}
}
