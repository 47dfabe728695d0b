package sshcert

import (
	"errors"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"
)

func via(t testing.TB) *ssh.Certificate {
	return NewVia(signer(t).PublicKey(), "alice", "k7f-2mq", "jump", "bastion1", addrs[:1], now)
}

// TestVia: what passes a bastion opens nothing else, and nothing that opens something else passes one.
func TestVia(t *testing.T) {
	ca := signer(t)
	l, err := Lint(via(t), Via)
	if err != nil {
		t.Fatal(err)
	}
	c, err := l.Sign(ca)
	if err != nil {
		t.Fatal(err)
	}
	if err := Verify(c, Via, []ssh.PublicKey{ca.PublicKey()}, now); err != nil {
		t.Fatal(err)
	}
	for _, k := range []Kind{Client, Session, Host} {
		if err := Verify(c, k, []ssh.PublicKey{ca.PublicKey()}, now); !errors.Is(err, ErrLint) {
			t.Errorf("a via certificate as %s: %v", k, err)
		}
	}
	for k, c := range map[Kind]*ssh.Certificate{Client: client(t), Session: session(t), Host: host(t)} {
		if _, err := Lint(c, Via); !errors.Is(err, ErrLint) {
			t.Errorf("a %s certificate as via: %v", k, err)
		}
	}
	for what, change := range map[string]func(c *ssh.Certificate){
		"a terminal":               func(c *ssh.Certificate) { c.Extensions[ExtensionPTY] = "" },
		"a forwarded agent":        func(c *ssh.Certificate) { c.Extensions["permit-agent-forwarding"] = "" },
		"no touch":                 func(c *ssh.Certificate) { c.Extensions["no-touch-required"] = "" },
		"no forwarding":            func(c *ssh.Certificate) { clear(c.Extensions) },
		"a command of its own":     func(c *ssh.Certificate) { c.CriticalOptions[OptionForceCommand] = "sh" },
		"no forced command":        func(c *ssh.Certificate) { delete(c.CriticalOptions, OptionForceCommand) },
		"no source":                func(c *ssh.Certificate) { delete(c.CriticalOptions, OptionSourceAddress) },
		"a network for a source":   func(c *ssh.Certificate) { c.CriticalOptions[OptionSourceAddress] = "10.0.0.0/8" },
		"another option":           func(c *ssh.Certificate) { c.CriticalOptions["verify-required"] = "" },
		"a host's principal":       func(c *ssh.Certificate) { c.ValidPrincipals = []string{"session:jump@bastion1"} },
		"two principals":           func(c *ssh.Certificate) { c.ValidPrincipals = append(c.ValidPrincipals, "session:root@web01") },
		"no principal":             func(c *ssh.Certificate) { c.ValidPrincipals = nil },
		"a principal of no login":  func(c *ssh.Certificate) { c.ValidPrincipals = []string{"via:bastion1"} },
		"a principal of a pattern": func(c *ssh.Certificate) { c.ValidPrincipals = []string{"via:jump@*"} },
		"an hour":                  func(c *ssh.Certificate) { c.ValidBefore += uint64(time.Hour / time.Second) },
		"a host certificate":       func(c *ssh.Certificate) { c.CertType = ssh.HostCert },
	} {
		c := via(t)
		change(c)
		if _, err := Lint(c, Via); !errors.Is(err, ErrLint) {
			t.Errorf("with %s: %v", what, err)
		}
	}
}
