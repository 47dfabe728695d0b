//go:build !linux && !darwin

package terminal

import (
	"os"

	"golang.org/x/term"
)

// openTTY is the console where stdin is one: there is no /dev/tty.
func openTTY() (*os.File, error) {
	if !term.IsTerminal(int(os.Stdin.Fd())) {
		return nil, ErrNobody
	}
	return os.Stdin, nil
}

func foreground(*os.File) bool { return true }
