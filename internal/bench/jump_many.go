package main

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"

	"breakglass/internal/proxyproto"
)

// Many sessions at once, between Go clients in this process and a Go host in it: what is measured of the jump is then not the memory and the
// start of a thousand programs. Each is a connection of its own under one grant, with its own entry and recording.

const (
	// sink is the Go host, as the policy has it.
	sink = "sink01"
	// busy sessions type pace keystrokes a second each: a person in a hurry, or a screen that moves.
	busy = 64
	pace = 20
	// opening is how many sessions open at once.
	opening = 4
	// settle is what the jump gets to come to rest before its memory is read.
	settle = 2 * time.Second
)

// sinkPolicy makes the sink a host like the other.
const sinkPolicy = `
[hosts.` + sink + `]
address   = ["{{.More.SinkAddress}}"]
host_keys = ["{{.More.SinkKey}}"]
groups    = ["web"]
`

// many measures idle and busy sessions, and what they leave.
func (b *bench) many(ctx context.Context) error {
	target := b.Login + "@" + sink
	if out, err := b.alice.Command(ctx, "breakglass", "ssh", "--reason", reason, target, "--", "true").CombinedOutput(); err != nil {
		return fmt.Errorf("a grant for %s: %w\n%s", sink, err, out)
	}
	conn, err := net.Dial("unix", filepath.Join(b.alice.Home, "run", target+".sock"))
	if err != nil {
		return err
	}
	defer conn.Close()
	keys, err := agent.NewClient(conn).Signers()
	if err != nil || len(keys) != 1 {
		return fmt.Errorf("the grant's agent has %d keys: %w", len(keys), err)
	}
	// What is left of a session that came and went in a fresh process is what a jump holds anyway.
	if err := b.freshJump(ctx); err != nil {
		return err
	}
	if err := b.hold(ctx, keys[0], opening, func([]*typist) error { return nil }); err != nil {
		return err
	}
	goroutines, err := b.goroutines(ctx)
	if err != nil {
		return err
	}
	// Of a process that has served nobody yet: what it needs once is in the figure too, and weighs less the more sessions there are. After
	// sessions that have ended, what the collector gives back would make the next ones look small.
	time.Sleep(settle)
	before, err := b.rss()
	if err != nil {
		return err
	}
	if err := b.hold(ctx, keys[0], opening, func([]*typist) error { return nil }); err != nil {
		return err
	}
	files, err := b.files()
	if err != nil {
		return err
	}
	if err := b.hold(ctx, keys[0], b.cfg.idle, func([]*typist) error {
		time.Sleep(settle)
		after, err := b.rss()
		b.figure("idle_sessions", float64(b.cfg.idle), "count")
		b.figure("idle_session_kib", float64(after-before)/float64(b.cfg.idle), "KiB")
		return err
	}); err != nil {
		return err
	}
	if err := b.hold(ctx, keys[0], busy, b.busy); err != nil {
		return err
	}
	left, err := b.files()
	if err != nil {
		return err
	}
	b.figure("descriptors_left", float64(left-files), "count")
	alive, err := b.goroutines(ctx)
	if err != nil {
		return err
	}
	b.figure("goroutines_left", float64(alive-goroutines), "count")
	return nil
}

func (b *bench) freshJump(ctx context.Context) error {
	b.End("jump", false)
	return b.StartJump(ctx)
}

// typist is a client with a terminal on the sink.
type typist struct {
	client  *ssh.Client
	session *ssh.Session
	in      io.Writer
	out     io.Reader
}

// hold opens n sessions, lets f work with them, and closes them until the jump has told of all and sent all.
func (b *bench) hold(ctx context.Context, key ssh.Signer, n int, f func([]*typist) error) error {
	all := make([]*typist, n)
	errs := make([]error, n)
	next := make(chan int)
	var wg sync.WaitGroup
	for range opening {
		wg.Go(func() {
			for i := range next {
				all[i], errs[i] = b.sit(key)
			}
		})
	}
	for i := range n {
		next <- i
	}
	close(next)
	wg.Wait()
	err := errors.Join(errs...)
	if err == nil {
		err = f(all)
	}
	for _, t := range all {
		if t != nil {
			t.client.Close()
		}
	}
	return errors.Join(err, b.drained(ctx))
}

// sit opens a recorded session with a terminal on the sink, through the jump in one hop.
func (b *bench) sit(key ssh.Signer) (*typist, error) {
	nc, err := net.DialTimeout("tcp", b.JumpAddress, 10*time.Second)
	if err != nil {
		return nil, err
	}
	preamble := proxyproto.Append(nil, proxyproto.Header{Local: true, TLVs: []proxyproto.TLV{{Type: proxyproto.TypeAuthority, Value: []byte(sink)}}})
	if _, err := nc.Write(preamble); err != nil {
		nc.Close()
		return nil, err
	}
	// The jump's host certificate is what stock clients check, in the other measurements; here it is a process that we started.
	c, chans, reqs, err := ssh.NewClientConn(nc, b.JumpAddress, &ssh.ClientConfig{User: b.Login, Auth: []ssh.AuthMethod{ssh.PublicKeys(key)},
		HostKeyCallback: ssh.InsecureIgnoreHostKey(), Timeout: time.Minute, Config: ssh.Config{Ciphers: []string{cipher}}})
	if err != nil {
		nc.Close()
		return nil, err
	}
	t := &typist{client: ssh.NewClient(c, chans, reqs)}
	if err := t.start(); err != nil {
		t.client.Close()
		return nil, err
	}
	return t, nil
}

func (t *typist) start() (err error) {
	if t.session, err = t.client.NewSession(); err != nil {
		return err
	}
	if t.in, err = t.session.StdinPipe(); err != nil {
		return err
	}
	if t.out, err = t.session.StdoutPipe(); err != nil {
		return err
	}
	if err := t.session.RequestPty("xterm", 24, 80, nil); err != nil {
		return err
	}
	if err := t.session.Shell(); err != nil {
		return err
	}
	_, err = t.stroke()
	return err
}

// stroke types a key and waits until it is back.
func (t *typist) stroke() (time.Duration, error) {
	start := time.Now()
	if _, err := t.in.Write([]byte{'x'}); err != nil {
		return 0, err
	}
	var c [1]byte
	_, err := io.ReadFull(t.out, c[:])
	return time.Since(start), err
}

// busy has everybody type for a span, each at their own moments.
func (b *bench) busy(all []*typist) error {
	var mu sync.Mutex
	var took []float64
	errs := make([]error, len(all))
	var wg sync.WaitGroup
	began := time.Now()
	for i, t := range all {
		wg.Go(func() {
			time.Sleep(time.Second / pace * time.Duration(i) / time.Duration(len(all)))
			tick := time.NewTicker(time.Second / pace)
			defer tick.Stop()
			for time.Since(began) < b.cfg.span {
				d, err := t.stroke()
				if err != nil {
					errs[i] = err
					return
				}
				mu.Lock()
				took = append(took, float64(d.Microseconds())/1000)
				mu.Unlock()
				<-tick.C
			}
		})
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		return err
	}
	b.figure("busy64_strokes_per_s", float64(len(took))/time.Since(began).Seconds(), "1/s")
	b.figure("busy64_echo_p50_ms", percentile(took, 50), "ms")
	b.figure("busy64_echo_p99_ms", percentile(took, 99), "ms")
	return nil
}

// sinkHost is a host that gives terminals and echoes what is typed.
type sinkHost struct {
	listener net.Listener
	config   *ssh.ServerConfig
}

// newSink listens as the sink, and gives what the policy has to say of it.
func newSink() (*sinkHost, map[string]string, error) {
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	signer, err := ssh.NewSignerFromKey(key)
	if err != nil {
		return nil, nil, err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, nil, err
	}
	h := &sinkHost{l, &ssh.ServerConfig{NoClientAuth: true}} // what the jump's login is worth is no part of this
	h.config.AddHostKey(signer)
	return h, map[string]string{"SinkAddress": l.Addr().String(), "SinkKey": strings.TrimSpace(string(ssh.MarshalAuthorizedKey(signer.PublicKey())))}, nil
}

// serve ends when the listener is closed.
func (h *sinkHost) serve() {
	for {
		nc, err := h.listener.Accept()
		if err != nil {
			return
		}
		go func() {
			defer nc.Close()
			c, chans, reqs, err := ssh.NewServerConn(nc, h.config)
			if err != nil {
				return
			}
			defer c.Close()
			go ssh.DiscardRequests(reqs)
			for n := range chans {
				if n.ChannelType() != "session" {
					n.Reject(ssh.UnknownChannelType, "sessions only")
					continue
				}
				if ch, reqs, err := n.Accept(); err == nil {
					go echoing(ch, reqs)
				}
			}
		}()
	}
}

// echoing answers one session: a shell echoes, a command ends at once.
func echoing(ch ssh.Channel, reqs <-chan *ssh.Request) {
	for r := range reqs {
		r.Reply(true, nil)
		switch r.Type {
		case "shell":
			go func() {
				io.CopyBuffer(struct{ io.Writer }{ch}, struct{ io.Reader }{ch}, make([]byte, 64))
				ch.Close()
			}()
		case "exec":
			ch.SendRequest("exit-status", false, []byte{0, 0, 0, 0})
			ch.Close()
		}
	}
}

// rss is the jump's resident memory in KiB.
func (b *bench) rss() (int, error) {
	text, err := os.ReadFile(b.proc("status"))
	if err != nil {
		return 0, err
	}
	m := regexp.MustCompile(`(?m)^VmRSS:\s+(\d+) kB$`).FindSubmatch(text)
	if m == nil {
		return 0, fmt.Errorf("%s has no VmRSS", b.proc("status"))
	}
	return strconv.Atoi(string(m[1]))
}

// files is how many descriptors the jump has, but for its idle connections to the CA, of which it keeps some for the next question.
func (b *bench) files() (int, error) {
	_, port, err := net.SplitHostPort(b.CAAddress)
	if err != nil {
		return 0, err
	}
	n, err := strconv.Atoi(port)
	if err != nil {
		return 0, err
	}
	table, err := os.ReadFile(b.proc("net/tcp"))
	if err != nil {
		return 0, err
	}
	toCA := map[string]bool{}
	for line := range strings.Lines(string(table)) { // proc_pid_net(5): sl local remote state queues timer retransmits uid timeout inode
		if f := strings.Fields(line); len(f) > 9 && strings.HasSuffix(f[2], fmt.Sprintf(":%04X", n)) {
			toCA["socket:["+f[9]+"]"] = true
		}
	}
	open, err := os.ReadDir(b.proc("fd"))
	if err != nil {
		return 0, err
	}
	count := 0
	for _, e := range open {
		if to, err := os.Readlink(b.proc("fd/" + e.Name())); err == nil && !toCA[to] {
			count++
		}
	}
	return count, nil
}

// goroutines asks the jump by SIGQUIT, which ends it with a list of them, and starts it anew. What serves connections to the CA isn't
// counted, as in files.
func (b *bench) goroutines(ctx context.Context) (int, error) {
	p := b.Proc("jump")
	before, err := os.Stat(p.Log)
	if err != nil {
		return 0, err
	}
	if err := p.Cmd.Process.Signal(syscall.SIGQUIT); err != nil {
		return 0, err
	}
	b.End("jump", false) // waits for it
	log, err := os.ReadFile(p.Log)
	if err != nil {
		return 0, err
	}
	n := 0
	for _, stack := range strings.Split(string(log[before.Size():]), "\n\n") {
		if strings.HasPrefix(stack, "goroutine ") && !strings.Contains(stack, "net/http.(*persistConn)") {
			n++
		}
	}
	if n == 0 {
		return 0, errors.New("the jump ended without a list of goroutines")
	}
	return n, b.StartJump(ctx)
}

func (b *bench) proc(name string) string {
	return filepath.Join("/proc", strconv.Itoa(b.Proc("jump").Cmd.Process.Pid), name)
}
