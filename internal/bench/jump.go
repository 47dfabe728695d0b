package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"
)

// What passes through the jump, beside what passes through stock OpenSSH: one target directly, and the same behind a stock bastion
// (`ssh -J`), with one cipher on every leg. Ours is recorded and durable before it is passed on; theirs isn't recorded. Interleaved: each
// thing is done over each way before the next thing is done.

const (
	// cipher of every leg: the jump's own choice toward hosts, and what OpenSSH's clients take when they may choose among GCMs.
	cipher = "aes128-gcm@openssh.com"
	// strokes of a round of echoes: enough for a p99 in all rounds together.
	strokes = 400
	// drainTimeout bounds the wait until the journal's recordings are in the store.
	drainTimeout = 2 * time.Minute
	// stuck is when one measurement is given up.
	stuck = 2 * time.Minute
)

// Ways to the target, in the order in which they take turns.
const (
	direct = "ssh"
	viaJ   = "ssh_J"
	ours   = "jump"
	// intercepted is stock `ssh -J` through our jump, which answers the channel itself.
	intercepted = "intercepted"
)

// ways of echo; bulk goes intercepted, too.
var (
	ways     = []string{direct, viaJ, ours}
	bulkWays = []string{direct, viaJ, ours, intercepted}
)

// jump measures the jump as it stands in people's way.
func (b *bench) jump(ctx context.Context) error {
	if err := b.people(ctx); err != nil {
		return err
	}
	if err := b.roomToRecord(ctx); err != nil {
		return err
	}
	if b.cfg.only == "jump" { // else it was measured as a part of its own
		if err := b.timeToShell(ctx, b.cfg.runs); err != nil {
			return err
		}
	}
	// One grant for everything that follows.
	if out, err := b.alice.Command(ctx, "breakglass", "ssh", "--reason", reason, b.alice.Target(), "--", "true").CombinedOutput(); err != nil {
		return fmt.Errorf("a grant: %w\n%s", err, out)
	}
	if err := b.installConfig(ctx); err != nil {
		return err
	}
	return errors.Join(b.echo(ctx), b.bulk(ctx), b.many(ctx), b.alice.EndAgent(ctx))
}

// installConfig writes what plain ssh reads. The cipher stands in it, for -c isn't passed on to the outer connection of -J.
func (b *bench) installConfig(ctx context.Context) error {
	own := filepath.Join(b.Dir, "alice_ssh_config")
	if _, err := b.alice.Run(ctx, "breakglass", "config", "install", "--file", own); err != nil {
		return err
	}
	b.plain = filepath.Join(b.Dir, "bench_ssh_config")
	return os.WriteFile(b.plain, fmt.Appendf(nil, "Ciphers %s\nInclude %s\n", cipher, own), 0o600)
}

// over is a command run on the target over a way; tty gives it a terminal.
func (b *bench) over(ctx context.Context, way string, tty bool, command string) *exec.Cmd {
	var args []string
	if tty {
		args = []string{"-tt"}
	}
	switch way {
	case direct:
		return exec.CommandContext(ctx, "ssh", append(args, "-F", b.peer, "direct", command)...)
	case viaJ:
		return exec.CommandContext(ctx, "ssh", append(args, "-F", b.peer, "target", command)...)
	}
	if way == intercepted {
		return b.alice.Command(ctx, "ssh", append(args, "-F", b.plain, "-J", "jump-a", b.alice.Target(), command)...)
	}
	args = append([]string{"ssh", "-c", cipher}, args...)
	return b.alice.Command(ctx, "breakglass", append(args, b.alice.Target(), "--", command)...)
}

// remote is a command that runs on the target, and its two ends.
type remote struct {
	cmd *exec.Cmd
	in  io.WriteCloser
	out *bufio.Reader
	err strings.Builder
}

// begin runs a command that says "ready" first, so that neither login nor start are in what is measured.
func (b *bench) begin(ctx context.Context, way string, tty bool, command string) (*remote, error) {
	r := &remote{cmd: b.over(ctx, way, tty, command)}
	r.cmd.Stderr = &r.err
	var err error
	if r.in, err = r.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := r.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	r.out = bufio.NewReaderSize(out, 256<<10)
	if err := r.cmd.Start(); err != nil {
		return nil, err
	}
	line, err := r.out.ReadString('\n')
	if err != nil || strings.TrimSpace(line) != "ready" {
		r.in.Close()
		return nil, fmt.Errorf("%s: said %q: %w", way, line, errors.Join(err, r.cmd.Wait(), errors.New(r.err.String())))
	}
	return r, nil
}

// end closes the command's input and waits for it.
func (r *remote) end() error {
	r.in.Close()
	if _, err := io.Copy(io.Discard, r.out); err != nil {
		return err
	}
	if err := r.cmd.Wait(); err != nil {
		return fmt.Errorf("%w\n%s", err, r.err.String())
	}
	return nil
}

// echo measures single keystrokes on a raw terminal, until each has come back.
func (b *bench) echo(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, stuck)
	defer cancel()
	total := b.cfg.rounds * strokes
	open := map[string]*remote{}
	for _, w := range ways {
		// A raw terminal knows no end of input: dd ends by itself. It holds nothing back, as head would.
		r, err := b.begin(ctx, w, true, fmt.Sprintf(`stty raw -echo; printf 'ready\n'; exec dd bs=1 count=%d status=none`, total))
		if err != nil {
			return err
		}
		defer r.cmd.Process.Kill() // of no effect once it has ended
		open[w] = r
	}
	took := map[string][]float64{}
	const turn = 20 // strokes on one way before the next has its turn
	key := []byte{'x'}
	for i := range total / turn {
		for _, w := range ways {
			r := open[w]
			for range turn {
				start := time.Now()
				if _, err := r.in.Write(key); err != nil {
					return fmt.Errorf("%s: typing: %w", w, err)
				}
				if c, err := r.out.ReadByte(); err != nil || c != key[0] {
					return fmt.Errorf("%s: typed %q, read %q: %w", w, key[0], c, err)
				}
				if i > 0 { // the first turn warms up
					took[w] = append(took[w], float64(time.Since(start).Microseconds())/1000)
				}
			}
		}
	}
	for _, w := range ways {
		b.figure("echo_p50_"+w, percentile(took[w], 50), "ms")
		b.figure("echo_p99_"+w, percentile(took[w], 99), "ms")
	}
	b.figure("echo_p50_vs_ssh_J", percentile(took[ours], 50)/percentile(took[viaJ], 50), "ratio")
	for _, w := range ways {
		if err := open[w].end(); err != nil {
			return fmt.Errorf("%s: %w", w, err)
		}
	}
	return nil
}

// percentile of what is not empty; it sorts v.
func percentile(v []float64, p int) float64 {
	slices.Sort(v)
	return v[min(len(v)*p/100, len(v)-1)]
}

// roomToRecord sets the journal so that the largest recording fits: it leaves the jump only when its session has ended.
func (b *bench) roomToRecord(ctx context.Context) error {
	const segmentMiB, atLeast = 16, 16 // the shipped configuration's
	segments := max(atLeast, 2*b.cfg.bulk/segmentMiB+2)
	if segments == atLeast {
		return nil
	}
	path := filepath.Join(b.Dir, "jump", "config.toml")
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	line := regexp.MustCompile(`(?m)^segments = \d+$`)
	if len(line.FindAll(text, -1)) != 1 {
		return fmt.Errorf("%s: not one line of segments", path)
	}
	b.End("jump", false)
	if err := os.WriteFile(path, line.ReplaceAll(text, fmt.Appendf(nil, "segments = %d", segments)), 0o600); err != nil {
		return err
	}
	return b.StartJump(ctx)
}

// state is what breakglass-jump says of itself.
type state struct {
	Sessions int `json:"sessions"`
	Unsent   int `json:"unsent"`
}

// drained waits until no session runs and every recording is in the store: the sending is no part of the next measurement, whosever it is.
func (b *bench) drained(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, drainTimeout)
	defer cancel()
	for quiet := 0; quiet < 2; { // the status is up to a second old, so one look isn't enough
		out, err := b.Run(ctx, "breakglass-jump", "status", "--json", "--dir", filepath.Join(b.Dir, "jump"))
		if err != nil {
			return err
		}
		var s state
		if err := json.Unmarshal([]byte(out), &s); err != nil {
			return fmt.Errorf("the jump's status: %w", err)
		}
		if quiet++; s.Sessions != 0 || s.Unsent != 0 {
			quiet = 0
		}
		time.Sleep(700 * time.Millisecond)
	}
	return ctx.Err()
}
