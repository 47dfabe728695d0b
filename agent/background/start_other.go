//go:build !linux && !darwin

package background

import (
	"errors"

	"breakglass/agent/home"
)

// Command is the hidden command of breakglass that calls Run.
const Command = "agent"

// errSystem: Windows' ssh speaks to its agent over named pipes and can't tell us who connects to a Unix socket.
var errSystem = errors.New("grants are held on Linux and macOS only; on this system use the recipe of `breakglass runbook`")

// Start is refused.
func Start(home.Home) error { return errSystem }

func lock(string) (func(), bool, error) { return nil, false, errSystem }
