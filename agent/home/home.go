// Package home is where a person's side keeps its files.
//
// It guarantees to its callers that the run directory, where the sockets of live grants stand, is a real directory of this
// user that nobody else may enter, and that what it writes is whole after a power cut. No private key ever lies in either
// directory: client keys are in the background process's memory, a reviewer's identity is sealed under a passphrase.
//
//	config/pins            what a token pinned: the site's keys and addresses, a checkpoint (api.Pins)
//	config/config.toml     who the person is, their enrolled keys by name
//	config/identity.reader a reviewer's age identities, sealed under hardware keys (package agent/reader)
//	config/identity.age    or under a passphrase (stock `age -d` opens it)
//	config/known_hosts     the host CA, for stock ssh
//	config/ssh_config      the block that `breakglass config install` wrote
//	run/control.sock       the background process
//	run/LOGIN@HOST.sock    the ssh-agent of that grant
package home

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"

	"breakglass/ca/api"
	"breakglass/internal/durable"
)

// Env overrides both directories as a whole: tests, the demo and several installations side by side.
const Env = "BREAKGLASS_HOME"

// ErrNotEnrolled says that this machine has never seen a token.
var ErrNotEnrolled = errors.New("not enrolled on this machine")

// Home names the two directories.
type Home struct {
	Config string
	Run    string
}

// Find says where they are; it makes nothing.
func Find(getenv func(string) string) (Home, error) {
	if h := getenv(Env); h != "" {
		abs, err := filepath.Abs(h)
		if err != nil {
			return Home{}, fmt.Errorf("finding %s: %w", Env, err)
		}
		return Home{filepath.Join(abs, "config"), filepath.Join(abs, "run")}, nil
	}
	var h Home
	if d := getenv("XDG_CONFIG_HOME"); filepath.IsAbs(d) {
		h.Config = filepath.Join(d, "breakglass")
	} else {
		u, err := os.UserHomeDir()
		if err != nil {
			return Home{}, fmt.Errorf("finding the configuration: %w", err)
		}
		h.Config = filepath.Join(u, ".config", "breakglass")
	}
	if d := getenv("XDG_RUNTIME_DIR"); filepath.IsAbs(d) {
		h.Run = filepath.Join(d, "breakglass")
	} else {
		// Not os.TempDir: TMPDIR may differ between two terminals, and the sockets' paths have to be short.
		h.Run = filepath.Join(tempDir(), "breakglass-"+strconv.Itoa(os.Getuid()))
	}
	return h, nil
}

// Path of a file in the configuration.
func (h Home) Path(name string) string { return filepath.Join(h.Config, name) }

// Socket of a grant or of the background process.
func (h Home) Socket(name string) string { return filepath.Join(h.Run, name+".sock") }

// MakeRun makes the run directory, or refuses one that another user could have prepared (a name under /tmp is anybody's).
func (h Home) MakeRun() error {
	if err := os.MkdirAll(filepath.Dir(h.Run), 0o700); err != nil {
		return fmt.Errorf("making the run directory: %w", err)
	}
	if err := os.Mkdir(h.Run, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("making the run directory: %w", err)
	}
	return checkPrivate(h.Run)
}

// MakeConfig makes the configuration directory.
func (h Home) MakeConfig() error {
	if err := durable.MkdirAll(h.Config, 0o700); err != nil {
		return fmt.Errorf("making the configuration directory: %w", err)
	}
	return nil
}

// Pins reads what was pinned.
func (h Home) Pins() (api.Pins, error) {
	b, err := os.ReadFile(h.Path("pins"))
	if errors.Is(err, fs.ErrNotExist) {
		return api.Pins{}, fmt.Errorf("%w: no %s", ErrNotEnrolled, h.Path("pins"))
	}
	if err != nil {
		return api.Pins{}, fmt.Errorf("reading the pins: %w", err)
	}
	p, err := api.ParsePins(b)
	if err != nil {
		return api.Pins{}, fmt.Errorf("reading %s: %w", h.Path("pins"), err)
	}
	return p, nil
}
