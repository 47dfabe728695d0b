package notify

import (
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// manager is a service manager's end.
func manager(t *testing.T, name string) *net.UnixConn {
	t.Helper()
	c, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: name, Net: "unixgram"})
	if err != nil {
		t.Skip("no such socket here:", err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func TestTheManagerIsTold(t *testing.T) {
	for _, name := range []string{filepath.Join(t.TempDir(), "notify"), "@breakglass-notify-test-" + strconv.Itoa(os.Getpid())} {
		c := manager(t, name)
		t.Setenv("NOTIFY_SOCKET", name)
		t.Setenv("WATCHDOG_USEC", "60000000")
		t.Setenv("WATCHDOG_PID", strconv.Itoa(os.Getpid()))
		m, err := Find()
		if err != nil || m.Watchdog() != time.Minute {
			t.Fatalf("%v, %v", m, err)
		}
		for _, k := range []string{"NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"} {
			if v, ok := os.LookupEnv(k); ok {
				t.Errorf("%s is left: %q", k, v)
			}
		}
		for _, c2 := range []struct {
			say  func() error
			want string
		}{
			{m.Ready, "READY=1"},
			{m.Alive, "WATCHDOG=1"},
			{func() error { return m.Status("a\nREADY=1") }, "STATUS=a READY=1"}, // a text makes no line of its own
			{func() error { return m.Stopping("two sessions") }, "STOPPING=1\nSTATUS=two sessions"},
			{func() error { return m.Patience(30 * time.Second) }, "EXTEND_TIMEOUT_USEC=30000000"},
		} {
			if err := c2.say(); err != nil {
				t.Fatal(err)
			}
			b := make([]byte, 256)
			c.SetReadDeadline(time.Now().Add(10 * time.Second))
			n, err := c.Read(b)
			if err != nil || string(b[:n]) != c2.want {
				t.Errorf("%q, %v, want %q", b[:n], err, c2.want)
			}
		}
	}
}

func TestNobodyIsToldNothing(t *testing.T) {
	t.Setenv("NOTIFY_SOCKET", "")
	t.Setenv("WATCHDOG_USEC", "1000000")
	m, err := Find()
	if err != nil || m.Watchdog() != 0 || m.Ready() != nil {
		t.Errorf("%v, %v", m, err)
	}
}

func TestOddEnvironments(t *testing.T) {
	for _, c := range []struct {
		socket, every, pid, want string
		watchdog                 time.Duration
	}{
		{"relative", "", "", "neither a path nor an abstract socket", 0},
		{"vsock:2:1234", "", "", "neither a path nor an abstract socket", 0},
		{"/nowhere/at/all", "x", "", `WATCHDOG_USEC is "x"`, 0},
		{"/nowhere/at/all", "-1", "", `WATCHDOG_USEC is "-1"`, 0},
		{"/nowhere/at/all", "1000", "1", "", 0}, // another process's watchdog
		{"/nowhere/at/all", "1000", "", "", time.Millisecond},
	} {
		t.Setenv("NOTIFY_SOCKET", c.socket)
		t.Setenv("WATCHDOG_USEC", c.every)
		t.Setenv("WATCHDOG_PID", c.pid)
		m, err := Find()
		if (err != nil) != (c.want != "") || err != nil && !strings.Contains(err.Error(), c.want) || m.Watchdog() != c.watchdog {
			t.Errorf("%+v: %v, %v", c, m, err)
		}
		if c.want == "" && m.Ready() == nil {
			t.Errorf("%+v: told nobody", c)
		}
	}
}
