package roadtest

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"breakglass/internal/loopback"
	"breakglass/internal/road"
)

// jumpB is the second jump.
const jumpB = "jump-b"

// twoJumps is the demo's policy with another jump, at address or at the first's.
func twoJumps(address string) road.Config {
	return road.Config{
		Policy: strings.Replace(carols(), "[jumps.{{.Jump}}]", "[jumps."+jumpB+"]\naddress = [\"{{or .More.Other .JumpAddress}}\"]\nsource  = [\"127.0.0.1/32\"]\n\n[jumps.{{.Jump}}]", 1),
		More:   map[string]string{"Other": address},
	}
}

// over opens a shell through a jump.
func over(t *testing.T, p *road.Person, jump string) *terminal {
	t.Helper()
	x := openTerminal(t, p.Command(t.Context(), "breakglass", "ssh", "--reason", reason, "--jump", jump, p.Target()))
	x.until("recorded")
	x.typ("PS1='> '; echo sum $((40+2))\r")
	x.until("sum 42")
	return x
}

// onJump is a session as `breakglass sessions --json` has it.
type onJump struct {
	ID    string `json:"id"`
	Jump  string `json:"jump"`
	State string `json:"state"`
}

func byJump(t *testing.T, p *road.Person) []onJump {
	t.Helper()
	out, err := p.Run(t.Context(), "breakglass", "sessions", "--json")
	if err != nil {
		t.Fatal(err)
	}
	var list struct {
		Sessions []onJump `json:"sessions"`
	}
	if err := json.Unmarshal([]byte(out), &list); err != nil {
		t.Fatal(err)
	}
	return list.Sessions
}

// Two jumps joined to one CA: a person reaches either by its name, and whichever answers without one; a stop reaches the session wherever it runs.
func TestTwoJumps(t *testing.T) {
	free, err := loopback.Addresses(1)
	if err != nil {
		t.Fatal(err)
	}
	r, alice, bob := start(t, twoJumps(free[0]))
	ctx := t.Context()
	if err := r.JoinJump(ctx, jumpB, free[0]); err != nil {
		t.Fatal(err)
	}
	if err := r.StartOther(ctx, jumpB, free[0]); err != nil {
		t.Fatal(err)
	}
	target := alice.Target()
	code, out := says(t, alice, "ssh", "--reason", reason, "--jump", "jump-x", target, "true")
	if code == 0 || !strings.Contains(out, `no jump is named "jump-x": there is jump-a, jump-b`) {
		t.Errorf("a jump that isn't there: %d\n%s", code, out)
	}

	if code, out := says(t, alice, "ssh", "--reason", reason, "--jump", "jump", target, "echo got in"); code != 0 || !strings.Contains(out, "got in") {
		t.Errorf("one of several of a name: %d\n%s", code, out)
	}

	// One grant, a session on each; who kills doesn't know which jump holds it.
	first, second := over(t, alice, road.Jump), over(t, alice, jumpB)
	open := map[string]string{}
	for _, s := range byJump(t, bob) {
		if s.State == "open" {
			open[s.Jump] = s.ID
		}
	}
	if len(open) != 2 {
		t.Fatalf("open: %v", open)
	}
	text, err := bob.Run(ctx, "breakglass", "sessions")
	for _, j := range []string{road.Jump, jumpB} {
		if err != nil || !strings.Contains(text, j) {
			t.Errorf("%s is not in the list: %v\n%s", j, err, text)
		}
		stands(t, r, j, "1 running", open[j], "alice", target)
		ca, err := r.Run(ctx, "breakglass-ca", "status", "--dir", filepath.Join(r.Dir, "ca"))
		if err != nil || !strings.Contains(ca, j+" at ") || strings.Count(ca, "1 session,") != 2 || strings.Count(ca, "heard ") != 2 {
			t.Errorf("%v\n%s", err, ca)
		}
	}
	if out, err := alice.Run(ctx, "breakglass", "extend", strings.Split(open[jumpB], "/")[0]); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, x := range []*terminal{first, second} {
		x.until("your grant was extended: it ends at ")
	}
	if out, err := bob.Run(ctx, "breakglass", "kill", open[jumpB], "--reason", "what is this"); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	ended(t, second, time.Now(), "revoked by bob: what is this")
	first.typ("echo still $((50+1))\r")
	first.until("still 51")
	second = over(t, alice, jumpB)
	if out, err := bob.Run(ctx, "breakglass", "kill", strings.Split(open[jumpB], "/")[0], "--reason", "stop it all"); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	ended(t, first, time.Now(), "revoked by bob: stop it all")
	ended(t, second, time.Now(), "revoked by bob: stop it all")

	// Either is down in turn, or hangs: the person, who names none, gets in through the other.
	address := map[string]string{road.Jump: r.JumpAddress, jumpB: free[0]}
	conf := filepath.Join(alice.Home, "plain_ssh_config")
	if out, err := alice.Run(ctx, "breakglass", "config", "install", "--file", conf); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	through := func(up, what string) {
		t.Helper()
		for _, how := range []*exec.Cmd{alice.Command(ctx, "breakglass", "ssh", "--reason", reason, target, "echo got in"), alice.Command(ctx, "ssh", "-F", conf, target, "echo got in")} {
			if out, err := how.CombinedOutput(); err != nil || !strings.Contains(string(out), "got in") {
				t.Errorf("%s: %v: %v\n%s", what, how.Args, err, out)
			}
			if s := byJump(t, bob)[0]; s.Jump != up { // nothing runs: the newest comes first
				t.Errorf("%s: went through %s: %+v", what, s.Jump, s)
			}
		}
	}
	r.End(jumpB, false)
	through(road.Jump, "one is down")
	stop := hangs(t, address[jumpB])
	through(road.Jump, "one hangs")
	_, out = says(t, alice, "status")
	for _, want := range []string{jumpB + " at " + address[jumpB] + ": it takes connections and says nothing", road.Jump + " at " + address[road.Jump] + ", "} {
		if !strings.Contains(out, want) {
			t.Errorf("status doesn't say %q:\n%s", want, out)
		}
	}
	stop()
	if err := r.StartOther(ctx, jumpB, address[jumpB]); err != nil {
		t.Fatal(err)
	}
	r.End("jump", false)
	through(jumpB, "the other is down")
	stop = hangs(t, address[road.Jump])
	through(jumpB, "the other hangs")
	stop()
	out, err = r.Run(ctx, "breakglass-ca", "status", "--dir", filepath.Join(r.Dir, "ca"))
	if err != nil || !strings.Contains(out, "0 sessions") {
		t.Errorf("%v\n%s", err, out)
	}
}

// hangs takes connections and says nothing.
func hangs(t *testing.T, address string) (stop func()) {
	t.Helper()
	l, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	var conns []net.Conn
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			conns = append(conns, c)
			mu.Unlock()
		}
	}()
	return func() {
		l.Close()
		mu.Lock()
		defer mu.Unlock()
		for _, c := range conns {
			c.Close()
		}
	}
}

// knocks connects again and again, as clients do, and hears the jump's identification each time, until stop; it gives how often.
func knocks(t *testing.T, address string) (stop func() int) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	n := 0
	go func() {
		defer close(done)
		for ; ctx.Err() == nil; time.Sleep(20 * time.Millisecond) {
			c, err := net.DialTimeout("tcp", address, 20*time.Second)
			if err != nil {
				t.Errorf("refused: %v", err)
				return
			}
			c.SetDeadline(time.Now().Add(20 * time.Second))
			c.Write([]byte("SSH-2.0-knock\r\n"))
			b := make([]byte, len("SSH-2.0-breakglass"))
			_, err = io.ReadFull(c, b)
			c.Close()
			if err != nil || string(b) != "SSH-2.0-breakglass" {
				t.Errorf("not served: %q, %v", b, err)
				return
			}
			n++
		}
	}()
	var once sync.Once
	stop = func() int {
		once.Do(cancel)
		<-done
		return n
	}
	t.Cleanup(func() { stop() })
	return stop
}

// One jump takes the listener over from another, as systemd hands it to both: nobody is refused, and who is in the middle of something finishes it.
func TestAJumpIsReplacedWithoutAnybodyNoticing(t *testing.T) {
	r, alice, bob := start(t, twoJumps(""))
	ctx := t.Context()
	r.End("jump", false)
	l, err := net.Listen("tcp", r.JumpAddress)
	if err != nil {
		t.Fatal(err)
	}
	shared := l.(*net.TCPListener)
	defer shared.Close()
	if err := r.JoinJump(ctx, jumpB, r.JumpAddress); err != nil {
		t.Fatal(err)
	}
	heard := manager(t, filepath.Join(t.TempDir(), "notify"))
	if err := r.StartShared(ctx, road.Jump, shared, "NOTIFY_SOCKET="+heard.name, "WATCHDOG_USEC=60000000"); err != nil {
		t.Fatal(err)
	}
	heard.until("READY=1", "WATCHDOG=1")
	target := alice.Target()
	in, to := io.Pipe()
	received := filepath.Join(t.TempDir(), "received")
	up := alice.Command(ctx, "breakglass", "ssh", "--reason", reason, target, "cat > "+received+"; echo all")
	var out lockedBuffer
	up.Stdin, up.Stdout, up.Stderr = in, &out, &out
	if err := up.Start(); err != nil {
		t.Fatal(err)
	}
	half := bytes.Repeat([]byte("0123456789abcdef"), 1<<16)
	if _, err := to.Write(half); err != nil {
		t.Fatal(err)
	}
	arrived := func(n int) {
		t.Helper()
		for end := time.Now().Add(30 * time.Second); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
			if st, err := os.Stat(received); err == nil && st.Size() >= int64(n) {
				return
			}
		}
		t.Fatalf("%d bytes do not arrive:\n%s", n, out.String())
	}
	arrived(len(half))
	x := shell(t, alice)
	stop := knocks(t, r.JumpAddress)

	ready := manager(t, filepath.Join(t.TempDir(), "notify"))
	if err := r.StartShared(ctx, jumpB, shared, "NOTIFY_SOCKET="+ready.name); err != nil {
		t.Fatal(err)
	}
	ready.until("READY=1") // as `systemctl start` waits for it; its address answers from before it does
	old := r.Proc("jump")
	old.Cmd.Process.Signal(syscall.SIGTERM)
	x.until("this jump goes down at ")
	heard.until("EXTEND_TIMEOUT_USEC=30000000", "STOPPING=1\nSTATUS=draining until ")
	x.until("hint: another way in: breakglass ssh --jump " + jumpB + " " + target)
	stands(t, r, road.Jump, "DRAINING", "2 running")
	for i := range 5 {
		if code, out := says(t, alice, "ssh", "--reason", reason, target, "echo again"); code != 0 || !strings.Contains(out, "again") {
			t.Errorf("%d: %d\n%s", i, code, out)
		}
	}
	select {
	case <-old.Ended():
		t.Fatal("the old one did not wait for its people")
	default:
	}
	// Who was in goes on, and finishes.
	x.typ("echo still $((50+1))\r")
	x.until("still 51")
	x.typ("exit\r")
	if err := x.wait(); err != nil {
		t.Errorf("the shell ended with %v", err)
	}
	if _, err := to.Write(half); err != nil {
		t.Fatal(err)
	}
	to.Close()
	if err := up.Wait(); err != nil || !strings.HasSuffix(out.String(), "all\n") {
		t.Errorf("the transfer: %v\n%s", err, out.String())
	}
	if got, err := os.ReadFile(received); err != nil || !bytes.Equal(got, append(half, half...)) {
		t.Errorf("%d bytes arrived, %v", len(got), err)
	}
	select {
	case <-old.Ended():
	case <-time.After(30 * time.Second):
		t.Fatal("the old one stays")
	}
	if code := old.Cmd.ProcessState.ExitCode(); code != 0 {
		t.Errorf("the old one ended with %d", code)
	}
	if n := stop(); n < 10 {
		t.Errorf("knocked %d times only", n)
	}
	// A second signal doesn't wait for those who are in.
	x = shell(t, alice)
	r.Proc(jumpB).Cmd.Process.Signal(syscall.SIGTERM)
	x.until("this jump goes down at ")
	r.Proc(jumpB).Cmd.Process.Signal(syscall.SIGTERM)
	x.until("session cut: this jump is going down. Nothing shown is missing.")
	x.until("hint: your grant goes on: breakglass ssh --jump " + road.Jump + " " + target)
	x.wait()
	select {
	case <-r.Proc(jumpB).Ended():
	case <-time.After(30 * time.Second):
		t.Fatal("it stays")
	}
	if code := r.Proc(jumpB).Cmd.ProcessState.ExitCode(); code != 0 {
		t.Errorf("cut, it ended with %d", code)
	}
	on := map[string]int{}
	for _, s := range byJump(t, bob) {
		on[s.Jump]++
	}
	if on[road.Jump] != 2 || on[jumpB] != 6 {
		t.Errorf("sessions: %v", on)
	}
	r.End("ca", false)
	if out, err := verifyLedger(ctx, r, bob); err != nil || !strings.HasPrefix(out, "VERIFIED") {
		t.Errorf("%v\n%s", err, out)
	}
}

// listener is a service manager's end of sd_notify(3).
type listener struct {
	t    *testing.T
	name string
	mu   sync.Mutex
	all  []string
}

func manager(t *testing.T, name string) *listener {
	t.Helper()
	c, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: name, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	l := &listener{t: t, name: name}
	go func() {
		b := make([]byte, 4096)
		for {
			n, err := c.Read(b)
			if err != nil {
				return
			}
			l.mu.Lock()
			l.all = append(l.all, string(b[:n]))
			l.mu.Unlock()
		}
	}()
	return l
}

// until waits for messages that begin so.
func (l *listener) until(want ...string) {
	l.t.Helper()
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		l.mu.Lock()
		missing := slices.DeleteFunc(slices.Clone(want), func(w string) bool {
			return slices.ContainsFunc(l.all, func(m string) bool { return strings.HasPrefix(m, w) })
		})
		all := strings.Join(l.all, "\n--\n")
		l.mu.Unlock()
		if len(missing) == 0 {
			return
		}
		if time.Now().After(end) {
			l.t.Fatalf("the service manager doesn't hear %q:\n%s", missing, all)
		}
	}
}

// stands waits until a jump's own status says all that; it may be a second old.
func stands(t *testing.T, r *road.Road, jump string, want ...string) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); ; time.Sleep(100 * time.Millisecond) {
		out, err := r.Run(t.Context(), "breakglass-jump", "status", "--dir", r.JumpDir(jump))
		missing := slices.DeleteFunc(slices.Clone(want), func(w string) bool { return strings.Contains(out, w) })
		if err == nil && len(missing) == 0 {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("%s doesn't say %q: %v\n%s", jump, missing, err, out)
		}
	}
}
