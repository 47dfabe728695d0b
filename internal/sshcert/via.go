package sshcert

import (
	"fmt"
	"net/netip"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"

	"breakglass/internal/name"
)

// OptionForceCommand has sshd run its value whatever is asked for: a shell, a command or a subsystem (sshd_config, ForceCommand).
const OptionForceCommand = "force-command"

// viaCommand is what a via certificate's holder gets who asks a bastion for more than a forward.
const viaCommand = "exit 1"

// ViaPrincipal is the one principal of a via certificate; that bastion alone lists it. It has a prefix of its own, so that what opens a bastion never
// opens a host of the same name, and what opens a host never a bastion.
func ViaPrincipal(l name.Login, v name.Via) string { return "via:" + string(l) + "@" + string(v) }

// NewVia is the unsigned certificate by which a jump passes an SSH bastion for one session; jump is the jump's address as the bastion sees it.
func NewVia(key ssh.PublicKey, p name.Person, r name.RequestID, l name.Login, v name.Via, jump []netip.Addr, now time.Time) *ssh.Certificate {
	c := template(key, ssh.UserCert, KeyID(r, p), []string{ViaPrincipal(l, v)}, now.Add(-SessionSlack), now.Add(SessionSlack))
	c.CriticalOptions = map[string]string{OptionSourceAddress: sources(jump), OptionForceCommand: viaCommand}
	c.Extensions = map[string]string{ExtensionPortForwards: ""}
	return c
}

// checkVia lints what is a via certificate's own: Check did what user certificates have in common.
func checkVia(c *ssh.Certificate, life time.Duration) error {
	s, ok := strings.CutPrefix(c.ValidPrincipals[0], "via:")
	login, via, ok2 := strings.Cut(s, "@")
	l, err1 := name.ParseLogin(login)
	v, err2 := name.ParseVia(via)
	if !ok || !ok2 || err1 != nil || err2 != nil || c.ValidPrincipals[0] != ViaPrincipal(l, v) {
		return fmt.Errorf("%w: principal %q", ErrLint, c.ValidPrincipals[0])
	}
	if len(c.CriticalOptions) != 2 || c.CriticalOptions[OptionForceCommand] != viaCommand || life > 2*SessionSlack {
		return fmt.Errorf("%w: options %v, lifetime %v", ErrLint, c.CriticalOptions, life)
	}
	if v, ok := c.Extensions[ExtensionPortForwards]; !ok || v != "" || len(c.Extensions) != 1 {
		return fmt.Errorf("%w: extensions %v", ErrLint, c.Extensions)
	}
	return nil
}
