package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"breakglass/internal/road"
)

const reason = "benchmark of the way to the shell, no work done"

// shell measures the ways to a shell.
func (b *bench) shell(ctx context.Context) error {
	if err := b.people(ctx); err != nil {
		return err
	}
	return errors.Join(b.timeToShell(ctx, b.cfg.runs), b.alice.EndAgent(ctx))
}

// people sets up who asks, who reads, and the stock peer; once.
func (b *bench) people(ctx context.Context) error {
	if b.alice != nil {
		return nil
	}
	alice, err := b.Enrol(ctx, "alice")
	if err != nil {
		return err
	}
	bob, err := b.Enrol(ctx, "bob")
	if err != nil {
		return err
	}
	if err := bob.Reader(ctx); err != nil {
		return err
	}
	b.alice = alice
	return b.startPeer(ctx)
}

// startPeer starts a second stock sshd, the bastion of stock `ssh -J`, and writes the ssh_config that goes through it to another
// that is the target: the same programs on both legs, an ordinary key, nothing recorded.
func (b *bench) startPeer(ctx context.Context) error {
	p := filepath.Join(b.Dir, "peer")
	if err := os.MkdirAll(p, 0o700); err != nil {
		return err
	}
	if err := exec.CommandContext(ctx, "ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", p+"/id").Run(); err != nil {
		return fmt.Errorf("ssh-keygen: %w", err)
	}
	if err := b.StartPeer(ctx, p); err != nil {
		return err
	}
	host, port, _ := strings.Cut(b.PeerAddress, ":")
	known := fmt.Sprintf("[%s]:%s %s\n", host, port, b.HostKey)
	conf := fmt.Sprintf(`Host target bastion direct
  HostName %s
  Port %s
  User %s
  IdentityFile %s/id
  IdentitiesOnly yes
  IdentityAgent none
  UserKnownHostsFile %s/known_hosts
  GlobalKnownHostsFile none
  StrictHostKeyChecking yes
  BatchMode yes
  Ciphers %s
  LogLevel ERROR
Host target
  ProxyJump bastion
`, host, port, b.Login, p, p, cipher)
	b.peer = filepath.Join(p, "ssh_config")
	return errors.Join(os.WriteFile(p+"/known_hosts", []byte(known), 0o600), os.WriteFile(b.peer, []byte(conf), 0o600))
}

// timeToShell runs `true` over each way in turn. "fresh" is the whole of it but the human: a new request, a software key that is
// touched at once, the certificate, the jump, the shell. "live" has the grant already, as each further ssh, scp or git does.
func (b *bench) timeToShell(ctx context.Context, n int) error {
	target := b.Login + "@" + road.Host
	ways := []struct {
		name string
		cmd  func() *exec.Cmd
	}{
		{"fresh", func() *exec.Cmd {
			return b.alice.Command(ctx, "breakglass", "ssh", "-c", cipher, "--reason", reason, target, "--", "true")
		}},
		{"live", func() *exec.Cmd { return b.alice.Command(ctx, "breakglass", "ssh", "-c", cipher, target, "--", "true") }},
		{"ssh_J", func() *exec.Cmd { return exec.CommandContext(ctx, "ssh", "-F", b.peer, "target", "true") }},
		{"ssh", func() *exec.Cmd { return exec.CommandContext(ctx, "ssh", "-F", b.peer, "direct", "true") }},
	}
	times := map[string][]float64{}
	for i := range n + 1 { // the first round warms up and is not counted
		for _, w := range ways {
			if w.name == "fresh" { // forget the grant of the round before
				if err := b.alice.EndAgent(ctx); err != nil {
					return err
				}
			}
			cmd := w.cmd()
			start := time.Now()
			out, err := cmd.CombinedOutput()
			took := time.Since(start)
			if err != nil {
				return fmt.Errorf("%s: %w\n%s", w.name, err, out)
			}
			if i > 0 {
				times[w.name] = append(times[w.name], float64(took.Microseconds())/1000)
			}
		}
	}
	ms := func(name string) float64 { return median(times[name]) }
	b.figure("time_to_shell_ms", ms("live"), "ms")
	b.figure("touch_to_shell_ms", ms("fresh"), "ms")
	b.figure("ssh_J_ms", ms("ssh_J"), "ms")
	b.figure("ssh_ms", ms("ssh"), "ms")
	b.figure("time_to_shell_vs_ssh_J", ms("live")/ms("ssh_J"), "ratio")
	b.figure("touch_to_shell_vs_ssh_J", ms("fresh")/ms("ssh_J"), "ratio")
	return nil
}
