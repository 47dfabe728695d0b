// Package custody says where the CA's private keys come from, and lets nobody have them.
//
// It guarantees to the CA:
//   - a Key signs nothing but a certificate that was linted, and hands it out only after record returned nil for it: there is no other way
//     to a CA key, so none is used without its entry.
//   - a key that is not there just now (an agent that died, a token that was pulled) is ErrUnavailable: nothing was signed; the
//     same Key works again when its place is back.
//   - a key that was loaded is the one that was named: an agent's proved it by a signature.
//   - no error, log line or file of this package holds a secret, but the file that was asked for.
//
// A place is one line, as config.toml has it:
//
//	sealed:PATH             an age file under a passphrase (scrypt); stock `age -d` opens it
//	credential:NAME         a file of $CREDENTIALS_DIRECTORY: systemd's LoadCredentialEncrypted= (systemd.exec(5))
//	agent:SHA256:FINGERPRINT  a key in an ssh-agent, also one that holds a PKCS#11 token; ed25519 or ecdsa-sha2-nistp256
//	file:PATH               a plain file, mode 0600: for the demo profile alone
//
// What cannot be promised: Go's collector may have copied a key or a passphrase before it is overwritten. A core file is what would show
// it, and the unit forbids one.
package custody

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"
)

// Kind is how a key is kept.
type Kind string

const (
	Sealed     Kind = "sealed"
	Credential Kind = "credential"
	Agent      Kind = "agent"
	File       Kind = "file"
)

var (
	// ErrUnavailable says that the key can't be used now, and that nothing was signed.
	ErrUnavailable = errors.New("the CA key can't be used now")
	// ErrPlace is wrapped by what is wrong with a place.
	ErrPlace = errors.New("no place for a key")
	// ErrPassphrase says that a sealed file did not open.
	ErrPassphrase = errors.New("wrong passphrase")
)

// Place is where a key is.
type Place struct {
	Kind Kind
	// At is a path, a credential's name or a fingerprint, as Kind says.
	At string
}

func (p Place) String() string { return string(p.Kind) + ":" + p.At }

// ParsePlace reads a place.
func ParsePlace(s string) (Place, error) {
	kind, at, ok := strings.Cut(s, ":")
	p := Place{Kind(kind), at}
	bad := func(why string) (Place, error) {
		return Place{}, fmt.Errorf("%w: %q: %s", ErrPlace, s, why)
	}
	if !ok || at == "" || strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r == 0x7f }) {
		return bad("want sealed:PATH, credential:NAME, agent:SHA256:FINGERPRINT or file:PATH")
	}
	switch p.Kind {
	case Sealed, File:
	case Credential: // a name, never a way out of the directory
		if at != filepath.Base(at) || at == "." || at == ".." {
			return bad("a credential's name has no slash")
		}
	case Agent: // SHA-256 in unpadded base64
		if rest, ok := strings.CutPrefix(at, "SHA256:"); !ok || len(rest) != 43 {
			return bad("want agent:SHA256:FINGERPRINT, as `ssh-add -l` prints it")
		}
	default:
		return bad("want sealed:, credential:, agent: or file:")
	}
	return p, nil
}
