package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/term"

	"breakglass/ca"
	"breakglass/ca/custody"
)

// maxPassphrase bounds what is read as a passphrase, in bytes: a wrong descriptor must not fill memory.
const maxPassphrase = 4 << 10

// passphrase reads one: from the descriptor fd, or, if fd is negative, from the terminal, which shows nothing. It is never an argument or
// in the environment, which others on the machine can see.
func (a *app) passphrase(fd int, prompt string, twice bool) ([]byte, error) {
	if fd >= 0 {
		f := os.NewFile(uintptr(fd), "passphrase")
		if f == nil {
			return nil, usagef("descriptor %d is not open", fd)
		}
		defer f.Close()
		b, err := io.ReadAll(io.LimitReader(f, maxPassphrase))
		if err != nil {
			return nil, fmt.Errorf("reading the passphrase: %w", err)
		}
		return bytes.TrimRight(b, "\r\n"), nil
	}
	tty, err := os.OpenFile("/dev/tty", os.O_RDWR, 0)
	if err != nil {
		return nil, withHint(errors.New("a passphrase is needed, and there is no terminal to ask on"),
			"a service has it as the credential "+ca.CredentialPassphrase+" (LoadCredentialEncrypted=)", "or give a descriptor: --passphrase-fd 3 3<FILE")
	}
	defer tty.Close()
	ask := func(p string) ([]byte, error) {
		fmt.Fprint(tty, p+": ")
		defer fmt.Fprintln(tty)
		return term.ReadPassword(int(tty.Fd()))
	}
	first, err := ask(prompt)
	if err != nil || !twice {
		return first, err
	}
	second, err := ask("again")
	if err != nil {
		return nil, err
	}
	defer custody.Wipe(second)
	if !bytes.Equal(first, second) {
		return nil, errors.New("the two passphrases differ")
	}
	return first, nil
}

// config opens the CA of --dir in this process.
func (a *app) config(fd int) ca.Config {
	return ca.Config{Dir: a.dir, Credentials: os.Getenv("CREDENTIALS_DIRECTORY"), Passphrase: func() ([]byte, error) {
		return a.passphrase(fd, "passphrase of the CA's keys", false)
	}}
}
