// Package road sets up the whole road on this machine, in one directory, out of the shipped programs and a stock sshd:
// a CA, a jump, a host, and people with software keys. The demo, the whole-road tests and the benchmarks stand on it.
// Everything listens on 127.0.0.1, and Stop leaves no process behind.
//
// It drives the programs as a person would, by their command lines; the one thing that it links is internal/softkey.
package road

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"breakglass/internal/loopback"
	"breakglass/internal/softkey"
)

// Names that the road's policy uses.
const (
	Host = "web01"
	Jump = "jump-a"
	// PIN of every software key.
	PIN = "1234"
	// Passphrase of every reader's identity.
	Passphrase = "correct horse battery staple"
	// startTimeout bounds the wait for a program to answer.
	startTimeout = 20 * time.Second
	// stopTimeout is how long a program may take to end before it is killed.
	stopTimeout = 10 * time.Second
)

// Config says where and with what.
type Config struct {
	Dir string    // made if missing; everything lies in it
	Bin string    // where the four programs are
	Log io.Writer // one line a step; nil is silence
	// Policy is a text/template over Values; empty is the demo's.
	Policy string
	// Touch is asked for each touch of a person's key; nil always touches.
	Touch func(person, op string) bool
	// Geo is a MaxMind database for the CA's config; empty is none.
	Geo string
	// Init are more arguments of `breakglass-ca init`.
	Init []string
	// Proxy, if not nil, puts a proxy in front of a service and gives the address where people reach it.
	Proxy func(address string) string
	// Passphrase seals the CA's keys, as a production site must; empty leaves them in plain files.
	Passphrase string
	// Make is the configuration of people's keys beside their PIN and place: a test's vendor. The zero value is the demo's key.
	Make softkey.Config
	// HostConfig are more lines of the host's sshd_config.
	HostConfig string
	// Values are more that the policy template may name, as {{.More.X}}.
	More map[string]string
}

// Road is everything running.
type Road struct {
	Config
	Login       string // the Unix account on the host: whoever runs this
	CAAddress   string
	JumpAddress string
	jumpReached string // where people reach it
	HostAddress string
	HostKey     string // authorized_keys form
	PeerAddress string // of StartPeer's sshd
	People      map[string]*Person

	jumps []string // of JoinJump
	mu    sync.Mutex
	procs map[string]*Proc
}

// Person has a home of their own and a software key in the machine.
type Person struct {
	Name string
	Home string       // BREAKGLASS_HOME
	Key  *softkey.Key // the one in the machine
	road *Road
	keys map[string]*softkey.Key // all of theirs, by name
}

// Proc is a program that the road started.
type Proc struct {
	Cmd  *exec.Cmd
	Log  string // its output
	done chan struct{}
}

// Start brings up host, CA and jump. Stop must be called also after an error.
func Start(ctx context.Context, cfg Config) (*Road, error) {
	dir, err := filepath.Abs(cfg.Dir)
	if err != nil {
		return nil, err
	}
	bin, err := filepath.Abs(cfg.Bin)
	if err != nil {
		return nil, err
	}
	cfg.Dir, cfg.Bin = dir, bin
	r := &Road{Config: cfg, People: map[string]*Person{}, procs: map[string]*Proc{}}
	u, err := user.Current()
	if err != nil {
		return r, err
	}
	r.Login = u.Username
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return r, err
	}
	ports, err := loopback.Addresses(4)
	if err != nil {
		return r, err
	}
	r.CAAddress, r.JumpAddress, r.HostAddress, r.PeerAddress = ports[0], ports[1], ports[2], ports[3]
	for _, step := range []func(context.Context) error{r.makeHostKey, r.startCA, r.startJump, r.StartHost} {
		if err := step(ctx); err != nil {
			return r, err
		}
	}
	return r, nil
}

func (r *Road) say(format string, a ...any) {
	if r.Log != nil {
		fmt.Fprintf(r.Log, format+"\n", a...)
	}
}

// Run runs a program of the road to its end and gives its standard output.
func (r *Road) Run(ctx context.Context, program string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, filepath.Join(r.Bin, program), args...)
	cmd.Env = append(os.Environ(), r.caEnv()...)
	return output(cmd)
}

func output(cmd *exec.Cmd) (string, error) {
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		return out.String(), fmt.Errorf("%s: %w\n%s", strings.Join(cmd.Args, " "), err, errs.String())
	}
	return out.String(), nil
}

// spawn starts a program that stays, and waits until its address answers.
func (r *Road) spawn(ctx context.Context, name, address string, env []string, program string, args ...string) error {
	return r.start(ctx, name, address, env, nil, program, args...)
}

// start is spawn with descriptors for the program, from 3 on.
func (r *Road) start(ctx context.Context, name, address string, env []string, files []*os.File, program string, args ...string) error {
	logPath := filepath.Join(r.Dir, name+".log")
	f, err := os.OpenFile(logPath, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	cmd := exec.Command(program, args...)
	cmd.Stdout, cmd.Stderr, cmd.ExtraFiles = f, f, files
	cmd.Env = append(os.Environ(), env...)
	cmd.SysProcAttr = leavesNothing()
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("starting %s: %w", name, err)
	}
	p := &Proc{Cmd: cmd, Log: logPath, done: make(chan struct{})}
	go func() { cmd.Wait(); close(p.done) }()
	r.mu.Lock()
	r.procs[name] = p
	r.mu.Unlock()
	deadline := time.Now().Add(startTimeout)
	for {
		c, err := net.DialTimeout("tcp", address, time.Second)
		if err == nil {
			c.Close()
			return nil
		}
		select {
		case <-p.done:
			text, _ := os.ReadFile(logPath)
			return fmt.Errorf("%s ended at its start:\n%s", name, text)
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(20 * time.Millisecond):
		}
		if time.Now().After(deadline) {
			text, _ := os.ReadFile(logPath)
			return fmt.Errorf("%s does not answer on %s:\n%s", name, address, text)
		}
	}
}

// Ended is closed when the program has ended.
func (p *Proc) Ended() <-chan struct{} { return p.done }

// Proc gives a running program: "ca", "jump", "sshd", or what JoinJump made.
func (r *Road) Proc(name string) *Proc {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.procs[name]
}

// End ends one program and waits for it; kill says how.
func (r *Road) End(name string, kill bool) {
	r.mu.Lock()
	p := r.procs[name]
	delete(r.procs, name)
	r.mu.Unlock()
	if p == nil {
		return
	}
	if kill {
		p.Cmd.Process.Kill()
		<-p.done
		return
	}
	p.Cmd.Process.Signal(os.Interrupt)
	if strings.HasPrefix(name, "jump") {
		p.Cmd.Process.Signal(syscall.SIGTERM) // a second time: it is not to wait for its people
	}
	select {
	case <-p.done:
	case <-time.After(stopTimeout):
		p.Cmd.Process.Kill()
		<-p.done
	}
}

// Stop ends everything: the people's background processes first, the CA last, so that what the jump still has to say arrives.
func (r *Road) Stop() {
	if r == nil {
		return
	}
	for _, p := range r.People {
		p.stopAgent()
		for _, k := range p.keys {
			k.Close()
		}
	}
	for _, n := range append(r.jumps, "jump", "ca", "sshd") {
		r.End(n, false)
	}
}

func (r *Road) path(parts ...string) string {
	return filepath.Join(append([]string{r.Dir}, parts...)...)
}

func (r *Road) makeHostKey(ctx context.Context) error {
	r.say("host     a stock sshd of its own, %s@%s on %s", r.Login, Host, r.HostAddress)
	if err := os.MkdirAll(r.path("host"), 0o700); err != nil {
		return err
	}
	if _, err := os.Stat(r.path("host", "host_key")); errors.Is(err, os.ErrNotExist) {
		if _, err := output(exec.CommandContext(ctx, "ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", Host, "-f", r.path("host", "host_key"))); err != nil {
			return err
		}
	}
	pub, err := os.ReadFile(r.path("host", "host_key.pub"))
	if err != nil {
		return err
	}
	f := strings.Fields(string(pub))
	r.HostKey = f[0] + " " + f[1]
	return nil
}

// StartHost starts the sshd that trusts the session CA, set up by what `breakglass-ca host setup` wrote.
func (r *Road) StartHost(ctx context.Context) error {
	return r.startSSHD(ctx, "sshd", r.HostAddress, r.path("host", "host_key"), fmt.Sprintf("AuthorizedKeysFile none\nTrustedUserCAKeys %s\nAuthorizedPrincipalsFile %s\n",
		r.path("host", "setup", "breakglass_session_ca.pub"), r.path("host", "setup", "breakglass_principals", "%u"))+r.HostConfig)
}

// StartPeer starts another sshd with the host's key that knows nothing of us and takes dir/id.pub: what we are measured beside.
func (r *Road) StartPeer(ctx context.Context, dir string) error {
	return r.startSSHD(ctx, "peer", r.PeerAddress, r.path("host", "host_key"), fmt.Sprintf("AuthorizedKeysFile %s\n", filepath.Join(dir, "id.pub")))
}

// NewHostKey makes the key of a host that the policy doesn't know yet, and gives its public half.
func (r *Road) NewHostKey(ctx context.Context, host string) (string, error) {
	if _, err := output(exec.CommandContext(ctx, "ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", host, "-f", r.path("host", host+"_key"))); err != nil {
		return "", err
	}
	pub, err := os.ReadFile(r.path("host", host+"_key.pub"))
	if err != nil {
		return "", err
	}
	f := strings.Fields(string(pub))
	return f[0] + " " + f[1], nil
}

// StartNewHost sets a host of NewHostKey up, which the policy knows by now, and starts its sshd on PeerAddress.
func (r *Road) StartNewHost(ctx context.Context, host string) error {
	setup := r.path("host", host)
	if _, err := r.Run(ctx, "breakglass-ca", "host", "setup", host, "--dir", r.path("ca"), "--out", setup); err != nil {
		return err
	}
	return r.startSSHD(ctx, host, r.PeerAddress, r.path("host", host+"_key"), fmt.Sprintf("AuthorizedKeysFile none\nTrustedUserCAKeys %s\nAuthorizedPrincipalsFile %s\n",
		filepath.Join(setup, "breakglass_session_ca.pub"), filepath.Join(setup, "breakglass_principals", "%u")))
}

func (r *Road) startSSHD(ctx context.Context, name, address, key, access string) error {
	sshd, err := exec.LookPath("sshd")
	if err != nil {
		sshd = "/usr/sbin/sshd" // not in everybody's PATH
	}
	if os.Getuid() == 0 {
		if err := os.MkdirAll("/run/sshd", 0o755); err != nil { // sshd's privilege separation directory
			return err
		}
	}
	home := r.path("host", "home") // not the real one: its .bashrc is not ours to run
	if err := os.MkdirAll(home, 0o700); err != nil {
		return err
	}
	conf := r.path("host", name+"_config")
	text := fmt.Sprintf(`ListenAddress %s
HostKey %s
PidFile none
StrictModes no
UsePAM no
PermitRootLogin prohibit-password
PasswordAuthentication no
KbdInteractiveAuthentication no
LogLevel VERBOSE
MaxStartups 1000
MaxSessions 100
AcceptEnv LANG LC_*
SetEnv HOME=%s
Subsystem sftp internal-sftp
%s`, address, key, home, access)
	if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
		return err
	}
	if _, err := output(exec.CommandContext(ctx, sshd, "-t", "-f", conf)); err != nil {
		return err
	}
	return r.spawn(ctx, name, address, nil, sshd, "-D", "-e", "-f", conf)
}
