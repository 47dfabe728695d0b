// The benchmark: the road beside stock OpenSSH on this machine, in one run, interleaved. It prints a line "figure NAME VALUE
// UNIT" for each figure and writes them as a list to -out. A ratio is ours ÷ the peer's; machines are shared and noisy, so
// only ratios within one run mean anything.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"breakglass/internal/road"
)

type figure struct {
	Name  string  `json:"name"`
	Value float64 `json:"value"`
	Unit  string  `json:"unit"`
}

type bench struct {
	*road.Road
	alice   *road.Person
	peer    string // an ssh_config of the stock peer
	figures []figure
}

const reason = "benchmark of the way to the shell, no work done"

func main() {
	bin := flag.String("bin", "build/bin", "where the programs are")
	out := flag.String("out", "build/bench.json", "where the figures go")
	n := flag.Int("n", 20, "runs of each")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	err := run(ctx, *bin, *out, *n)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench: error:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, bin, out string, n int) (err error) {
	dir, err := os.MkdirTemp("", "breakglass-bench-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, road.Remove(dir)) }()
	b := &bench{}
	b.Road, err = road.Start(ctx, road.Config{Dir: dir, Bin: bin, Log: os.Stderr})
	defer func() { b.Road.Stop() }()
	if err != nil {
		return err
	}
	if b.alice, err = b.Enrol(ctx, "alice"); err != nil {
		return err
	}
	bob, err := b.Enrol(ctx, "bob")
	if err != nil {
		return err
	}
	if err := bob.Reader(ctx); err != nil {
		return err
	}
	if err := b.startPeer(ctx); err != nil {
		return err
	}
	defer b.End("peer", false)
	if err := b.timeToShell(ctx, n); err != nil {
		return err
	}
	text, err := json.MarshalIndent(b.figures, "", "  ")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(out), 0o755); err != nil {
		return err
	}
	return os.WriteFile(out, append(text, '\n'), 0o644)
}

func (b *bench) figure(name string, value float64, unit string) {
	fmt.Printf("figure %s %.3f %s\n", name, value, unit)
	b.figures = append(b.figures, figure{name, value, unit})
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
	conf := fmt.Sprintf(`Host target bastion
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
  LogLevel ERROR
Host target
  ProxyJump bastion
`, host, port, b.Login, p, p)
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
			return b.alice.Command(ctx, "breakglass", "ssh", "--reason", reason, target, "--", "true")
		}},
		{"live", func() *exec.Cmd { return b.alice.Command(ctx, "breakglass", "ssh", target, "--", "true") }},
		{"ssh_J", func() *exec.Cmd { return exec.CommandContext(ctx, "ssh", "-F", b.peer, "target", "true") }},
	}
	times := map[string][]time.Duration{}
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
				times[w.name] = append(times[w.name], took)
			}
		}
	}
	ms := func(name string) float64 {
		v := times[name]
		slices.Sort(v)
		return float64(v[len(v)/2].Microseconds()) / 1000
	}
	b.figure("time_to_shell_ms", ms("live"), "ms")
	b.figure("touch_to_shell_ms", ms("fresh"), "ms")
	b.figure("ssh_J_ms", ms("ssh_J"), "ms")
	b.figure("time_to_shell_vs_ssh_J", ms("live")/ms("ssh_J"), "ratio")
	b.figure("touch_to_shell_vs_ssh_J", ms("fresh")/ms("ssh_J"), "ratio")
	return nil
}
