// The demo: a whole break-glass installation on this machine, in one directory, with software keys. With a terminal it
// gives a recorded shell and replays it; without one it runs a scripted session. It exits 0 only when the recording verified.
//
// It is a main of its own because it links the software key, which no shipped program may.
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/creack/pty"
	"golang.org/x/term"

	"breakglass/internal/road"
)

const (
	// reason is what alice says in the scripted session.
	reason = "sso is down, web01 serves 500, INC-4711"
	// storeTimeout is how long the recording may take to reach the store.
	storeTimeout = 30 * time.Second
	// touchDelay lets a person see the prompt before the software key is "touched".
	touchDelay = 700 * time.Millisecond
)

func main() {
	bin := flag.String("bin", "build/bin", "where the programs are")
	dir := flag.String("dir", "", "keep everything in this directory (default: a temporary one)")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	err := run(ctx, *bin, *dir)
	interrupted := ctx.Err() != nil
	stop()
	if interrupted {
		fmt.Fprintln(os.Stderr, "\ndemo: interrupted; what it started has ended")
		os.Exit(130)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "demo: error:", err)
		os.Exit(1)
	}
}

type demo struct {
	*road.Road
	alice, bob  *road.Person
	interactive bool
}

func run(ctx context.Context, bin, dir string) (err error) {
	keep := dir != ""
	if !keep {
		if dir, err = os.MkdirTemp("", "breakglass-demo-"); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, road.Remove(dir)) }()
	} else if entries, _ := os.ReadDir(dir); len(entries) > 0 {
		return fmt.Errorf("%s is not empty: give the demo a directory of its own", dir)
	}
	d := &demo{interactive: term.IsTerminal(int(os.Stdin.Fd())) && term.IsTerminal(int(os.Stdout.Fd()))}
	cfg := road.Config{Dir: dir, Bin: bin, Log: os.Stderr}
	if d.interactive {
		cfg.Touch = func(string, string) bool { time.Sleep(touchDelay); return true }
	}
	fmt.Fprintln(os.Stderr, "This is a DEMO: its keys are files, its policy says so, and it guards nothing.")
	d.Road, err = road.Start(ctx, cfg)
	defer func() { d.Road.Stop() }()
	if err != nil {
		return err
	}
	if d.alice, err = d.Enrol(ctx, "alice"); err != nil {
		return err
	}
	if d.bob, err = d.Enrol(ctx, "bob"); err != nil {
		return err
	}
	var how []string
	if keep { // the software keys end with the demo; what is kept is to be read after that
		how = []string{"--passphrase"}
	}
	if err := d.bob.Reader(ctx, how...); err != nil {
		return err
	}
	if err := d.breakGlass(ctx); err != nil {
		return err
	}
	id, err := d.stored(ctx)
	if err != nil {
		return err
	}
	if err := d.look(ctx, id); err != nil {
		return err
	}
	if keep {
		return d.writeEnv(id)
	}
	fmt.Fprintln(os.Stderr, "\nAll of it is gone now. DEMO_DIR=path make demo keeps it.")
	return nil
}

func (d *demo) say(format string, a ...any) { fmt.Fprintf(os.Stderr, "\n"+format+"\n", a...) }

// breakGlass is alice's part.
func (d *demo) breakGlass(ctx context.Context) error {
	target := d.Login + "@" + road.Host
	if d.interactive {
		d.say("Now you are alice. Say why (20 characters at least); the key's PIN is %s. Leave the shell with exit.\n$ breakglass ssh %s", road.PIN, target)
		cmd := d.alice.Command(ctx, "breakglass", "ssh", target)
		cmd.Env = append(cmd.Env, "SSH_ASKPASS_REQUIRE=never")
		cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
		var exit *exec.ExitError
		if err := cmd.Run(); errors.As(err, &exit) && exit.ExitCode() != 255 {
			return nil // the shell's own last status
		} else if err != nil {
			return fmt.Errorf("alice's shell: %w", err)
		}
		return nil
	}
	d.say("$ breakglass ssh --reason %q %s", reason, target)
	cmd := d.alice.Command(ctx, "breakglass", "ssh", "--reason", reason, target)
	cmd.Env = append(cmd.Env, "TERM=xterm")
	t, err := pty.StartWithSize(cmd, &pty.Winsize{Rows: 24, Cols: 80})
	if err != nil {
		return err
	}
	defer t.Close()
	// What is typed waits in the terminal until the shell reads it; the shell's end is the session's.
	seen := make(chan []byte, 1)
	ready := make(chan struct{})
	go func() {
		var all bytes.Buffer
		b, open := make([]byte, 4096), true
		for {
			n, err := t.Read(b)
			all.Write(b[:n])
			if open && bytes.ContainsAny(all.Bytes(), "#$") && bytes.Contains(all.Bytes(), []byte("recorded")) {
				open = false
				close(ready)
			}
			if err != nil {
				break
			}
		}
		seen <- all.Bytes()
	}()
	select {
	case <-ready:
	case out := <-seen:
		return fmt.Errorf("alice got no shell:\n%s", out)
	case <-time.After(storeTimeout):
		return errors.New("alice got no prompt")
	}
	io.WriteString(t, "id -un; echo the glass is broken\rexit 0\r")
	err = cmd.Wait()
	select {
	case out := <-seen:
		os.Stderr.Write(out)
		if err == nil && !bytes.Contains(out, []byte("\nthe glass is broken")) {
			err = errors.New("the shell did not run the command")
		}
	case <-time.After(5 * time.Second):
	}
	if err != nil {
		return fmt.Errorf("alice's shell: %w", err)
	}
	return d.showCertificate(ctx)
}

// showCertificate prints alice's client certificate as ssh-keygen sees it, out of her background process.
func (d *demo) showCertificate(ctx context.Context) error {
	out, err := d.alice.Run(ctx, "breakglass", "grants", "--json")
	if err != nil {
		return err
	}
	var grants []struct {
		Socket string `json:"socket"`
	}
	if err := json.Unmarshal([]byte(out), &grants); err != nil || len(grants) == 0 {
		return fmt.Errorf("breakglass grants --json: %v: %s", err, out)
	}
	add := d.alice.Command(ctx, "ssh-add", "-L")
	add.Env = append(add.Env, "SSH_AUTH_SOCK="+grants[0].Socket)
	cert, err := add.Output()
	if err != nil {
		return fmt.Errorf("ssh-add -L: %w", err)
	}
	show := exec.CommandContext(ctx, "ssh-keygen", "-L", "-f", "-")
	show.Stdin, show.Stdout, show.Stderr = bytes.NewReader(cert), os.Stdout, os.Stderr
	d.say("The certificate that alice's ssh showed the jump, as ssh-keygen -L prints it:")
	return show.Run()
}

// stored waits until the recording is in the store, and gives its session's id.
func (d *demo) stored(ctx context.Context) (string, error) {
	for end := time.Now().Add(storeTimeout); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
		out, err := d.bob.Run(ctx, "breakglass", "sessions", "--json")
		if err != nil {
			return "", err
		}
		var list struct {
			Sessions []struct {
				ID     string `json:"id"`
				Stored bool   `json:"stored"`
			} `json:"sessions"`
		}
		if err := json.Unmarshal([]byte(out), &list); err != nil {
			return "", fmt.Errorf("breakglass sessions --json: %w: %s", err, out)
		}
		for _, s := range list.Sessions {
			if s.Stored {
				return s.ID, nil
			}
		}
	}
	return "", errors.New("the recording did not reach the store")
}

// look is bob's part: he reads, and verifies with what he pinned at his enrolment.
func (d *demo) look(ctx context.Context, id string) error {
	bundle, pins := filepath.Join(d.Dir, "session.bundle"), filepath.Join(d.Dir, "pins")
	text, err := d.bob.Run(ctx, "breakglass", "pins", "--json")
	if err != nil {
		return err
	}
	if err := os.WriteFile(pins, []byte(text), 0o600); err != nil {
		return err
	}
	steps := [][]string{{"export", id, "--text"}}
	if d.interactive {
		steps[0] = []string{"replay", id, "--speed", "4", "--idle-limit", "500ms"}
	}
	steps = append(steps, []string{"bundle", id, "--envelope", "-o", bundle}, []string{"verify", id}, []string{"verify", bundle, "--trust", pins})
	for _, args := range steps {
		d.say("bob$ breakglass %s", strings.Join(args, " "))
		cmd := d.bob.Command(ctx, "breakglass", args...)
		cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
		if err := cmd.Run(); err != nil {
			return fmt.Errorf("breakglass %s: %w", args[0], err)
		}
	}
	return nil
}

// writeEnv leaves a file to source, so that breakglass works on what the demo kept; nothing runs any more.
func (d *demo) writeEnv(id string) error {
	env := fmt.Sprintf("# . env — breakglass on what the demo kept. Nothing runs any more: look at the bundle.\nexport PATH='%s':\"$PATH\"\nexport BREAKGLASS_HOME='%s'\nexport BREAKGLASS_PASSPHRASE_FILE='%s'\n",
		d.Bin, d.bob.Home, filepath.Join(d.bob.Home, "passphrase"))
	if err := os.WriteFile(filepath.Join(d.Dir, "env"), []byte(env), 0o600); err != nil {
		return err
	}
	d.say(`Kept in %[1]s. To look around:
  . %[1]s/env
  breakglass verify %[1]s/session.bundle --trust %[1]s/pins
  breakglass replay %[1]s/session.bundle --trust %[1]s/pins
  ls %[1]s/ca %[1]s/jump          # session %[2]s: ledger, store, journal`, d.Dir, id)
	return nil
}
