//go:build unix

package listen

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// The test binary is also the service that is handed sockets: it opens what its arguments name, says how it went, and serves until its input ends.
const roleEnv = "BREAKGLASS_LISTEN_TEST"

func TestMain(m *testing.M) {
	if os.Getenv(roleEnv) != "" {
		os.Exit(service(os.Args[1:]))
	}
	os.Exit(m.Run())
}

func service(addresses []string) int {
	ls, inherited, err := Open(addresses, OS{})
	for _, k := range []string{"LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"} {
		if _, ok := os.LookupEnv(k); ok {
			fmt.Println("still there:", k)
			return 1
		}
	}
	if err != nil {
		fmt.Println(errors.Is(err, ErrInherited), err)
		return 1
	}
	fmt.Println("inherited", inherited)
	l := Merge(ls)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			io.WriteString(c, l.Addr().String())
			c.Close()
		}
	}()
	io.Copy(io.Discard, os.Stdin)
	return 0
}

// activate starts the service as systemd does: descriptors from 3 on, and its own process id in LISTEN_PID.
func activate(t *testing.T, env []string, files []*os.File, addresses ...string) (said string, stop func()) {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	// PID stands for what only the child knows.
	cmd := exec.Command("sh", append([]string{"-c", `if [ "$LISTEN_PID" = PID ]; then LISTEN_PID=$$; fi; exec "$0" "$@"`, exe}, addresses...)...)
	cmd.Env = append(append(os.Environ(), roleEnv+"=1"), env...)
	cmd.ExtraFiles = files
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	stop = func() {
		in.Close()
		cmd.Wait()
	}
	t.Cleanup(stop)
	b := make([]byte, 4096)
	n, _ := out.Read(b)
	return strings.TrimSpace(string(b[:n])), stop
}

// socket gives a listening socket as a file.
func socket(t *testing.T, address string) (file *os.File, real string) {
	t.Helper()
	l, err := net.Listen("tcp", address)
	if err != nil {
		t.Skip("no such address here:", err)
	}
	f, err := l.(*net.TCPListener).File()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close(); l.Close() })
	return f, l.Addr().String()
}

func TestWhatIsHandedOverIsServed(t *testing.T) {
	one, a := socket(t, "127.0.0.1:0")
	two, b := socket(t, "127.0.0.1:0")
	for _, env := range [][]string{
		{"LISTEN_PID=PID", "LISTEN_FDS=2"},
		{"LISTEN_PID=PID", "LISTEN_FDS=2", "LISTEN_FDNAMES=first:second"},
	} {
		said, stop := activate(t, env, []*os.File{one, two}, b, a) // in any order
		if said != "inherited true" {
			t.Fatalf("%v: %s", env, said)
		}
		for _, address := range []string{a, b} {
			c, err := net.DialTimeout("tcp", address, 10*time.Second)
			if err != nil {
				t.Fatal(err)
			}
			if got, err := io.ReadAll(c); err != nil || len(got) == 0 {
				t.Errorf("%s: %q, %v", address, got, err)
			}
			c.Close()
		}
		stop()
	}
}

// Without a word for this process it opens its own, and leaves descriptors alone.
func TestWhatIsForAnotherIsLeftAlone(t *testing.T) {
	file, _ := socket(t, "127.0.0.1:0")
	for _, env := range [][]string{{}, {"LISTEN_PID=1", "LISTEN_FDS=1"}, {"LISTEN_PID=PID", "LISTEN_FDS=0"}, {"LISTEN_FDS=1"}, {"LISTEN_PID=PID"}} {
		if said, stop := activate(t, env, []*os.File{file}, "127.0.0.1:0"); said != "inherited false" {
			t.Errorf("%v: %s", env, said)
		} else {
			stop()
		}
	}
}

func TestWhatDoesNotFitIsRefused(t *testing.T) {
	listening, a := socket(t, "127.0.0.1:0")
	plain, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer plain.Close()
	c, err := net.Dial("tcp", a)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	connected, err := c.(*net.TCPConn).File()
	if err != nil {
		t.Fatal(err)
	}
	defer connected.Close()
	u, err := net.Listen("unix", filepath.Join(t.TempDir(), "s"))
	if err != nil {
		t.Fatal(err)
	}
	defer u.Close()
	local, err := u.(*net.UnixListener).File()
	if err != nil {
		t.Fatal(err)
	}
	defer local.Close()
	p, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	datagrams, err := p.(*net.UDPConn).File()
	if err != nil {
		t.Fatal(err)
	}
	defer datagrams.Close()
	good := []string{"LISTEN_PID=PID", "LISTEN_FDS=1"}
	for _, c := range []struct {
		what  string
		env   []string
		files []*os.File
		at    []string
		want  string
	}{
		{"another address", good, []*os.File{listening}, []string{"127.0.0.1:1"}, "handed over [" + a + "], configured [127.0.0.1:1]"},
		{"one too few", good, []*os.File{listening}, []string{a, "127.0.0.1:1"}, "handed over [" + a + "]"},
		{"the same twice", []string{"LISTEN_PID=PID", "LISTEN_FDS=2"}, []*os.File{listening, listening}, []string{a}, "handed over [" + a + " " + a + "]"},
		{"no socket", good, []*os.File{plain}, []string{a}, "descriptor 3 (unknown): not a socket"},
		{"a connection", append(good, "LISTEN_FDNAMES=odd"), []*os.File{connected}, []string{a}, "descriptor 3 (odd): not listening"},
		{"a Unix socket", good, []*os.File{local}, []string{a}, "neither IPv4 nor IPv6"},
		{"datagrams", good, []*os.File{datagrams}, []string{a}, "not a stream socket"},
		{"nothing there", good, nil, []string{a}, "descriptor 3 (unknown)"},
		{"no number", []string{"LISTEN_PID=PID", "LISTEN_FDS=x"}, nil, []string{a}, `LISTEN_FDS is "x"`},
		{"too many", []string{"LISTEN_PID=PID", "LISTEN_FDS=65"}, nil, []string{a}, `LISTEN_FDS is "65"`},
		{"fewer than none", []string{"LISTEN_PID=PID", "LISTEN_FDS=-1"}, nil, []string{a}, `LISTEN_FDS is "-1"`},
		{"no process", []string{"LISTEN_PID=me", "LISTEN_FDS=1"}, []*os.File{listening}, []string{a}, `LISTEN_PID is "me"`},
		{"names that don't fit", append(good, "LISTEN_FDNAMES=a:b"), []*os.File{listening}, []string{a}, "LISTEN_FDNAMES names 2 of 1"},
	} {
		if said, _ := activate(t, c.env, c.files, c.at...); !strings.HasPrefix(said, "true ") || !strings.Contains(said, c.want) {
			t.Errorf("%s: %s", c.what, said)
		}
	}
}

// watched says when it has accepted.
type watched struct {
	net.Listener
	accepted chan struct{}
}

func (w watched) Accept() (net.Conn, error) {
	c, err := w.Listener.Accept()
	if err == nil {
		w.accepted <- struct{}{}
	}
	return c, err
}

// One that is closed loses nothing that it had accepted.
func TestAMergedListenerLosesNothing(t *testing.T) {
	var ls []net.Listener
	accepted := make(chan struct{}, 2)
	for range 2 {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		ls = append(ls, watched{l, accepted})
	}
	addresses := []string{ls[0].Addr().String(), ls[1].Addr().String()}
	l := Merge(ls)
	var conns []net.Conn
	for _, a := range addresses {
		c, err := net.Dial("tcp", a)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		conns = append(conns, c)
	}
	for range conns {
		<-accepted
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	for range conns {
		c, err := l.Accept()
		if err != nil {
			t.Fatalf("lost: %v", err)
		}
		io.WriteString(c, "served")
		c.Close()
	}
	if _, err := l.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("afterwards: %v", err)
	}
	for _, c := range conns {
		if got, err := io.ReadAll(c); err != nil || string(got) != "served" {
			t.Errorf("%q, %v", got, err)
		}
	}
}
