//go:build linux || darwin

package background

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"breakglass/agent/home"
)

// Command is the hidden command of breakglass that calls Run.
const Command = "agent"

// Start starts the background process from our own executable, in a session of its own, so that a lost terminal doesn't end it.
func Start(h home.Home) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer null.Close()
	cmd := exec.Command(self, Command)
	// Nothing of the terminal's stays open in it: a pipe held open here would make `breakglass ssh h true | cat` wait for minutes.
	cmd.Stdin, cmd.Stdout, cmd.Stderr = null, null, null
	cmd.Dir = "/"
	cmd.Env = keep(os.Environ())
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return err
	}
	return cmd.Process.Release()
}

// keep leaves it what it needs to find the same directories, and no secret that a shell may have exported.
func keep(env []string) []string {
	var out []string
	for _, e := range env {
		switch k, _, _ := strings.Cut(e, "="); k {
		case home.Env, "HOME", "XDG_RUNTIME_DIR", "XDG_CONFIG_HOME", "PATH", "LANG", "TZ":
			out = append(out, e)
		}
	}
	return out
}

// lock takes the run directory for this process; false: another has it.
func lock(path string) (release func(), ok bool, err error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, false, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		f.Close()
		if err == unix.EWOULDBLOCK {
			return nil, false, nil
		}
		return nil, false, fmt.Errorf("locking %s: %w", path, err)
	}
	return func() { f.Close() }, true, nil
}
