// Package notify tells the service manager how the service stands: sd_notify(3), in a datagram on the socket that NOTIFY_SOCKET names.
//
// Without a service manager every call does nothing. A message that can't be sent is an error for the log and for nothing else: no service stops
// because nobody listens to it.
package notify

import (
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"time"
)

// Manager is who started us; the zero value is nobody.
type Manager struct {
	address  string
	watchdog time.Duration
}

// Find reads the environment, and takes the variables out of it so that no child speaks in our name.
func Find() (Manager, error) {
	const socketKey, everyKey, pidKey = "NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"
	socket, every, pid := os.Getenv(socketKey), os.Getenv(everyKey), os.Getenv(pidKey)
	for _, k := range []string{socketKey, everyKey, pidKey} {
		if err := os.Unsetenv(k); err != nil {
			return Manager{}, err
		}
	}
	if socket == "" {
		return Manager{}, nil
	}
	if socket[0] != '/' && socket[0] != '@' {
		return Manager{}, fmt.Errorf("%s is %q: neither a path nor an abstract socket", socketKey, socket)
	}
	m := Manager{address: socket} // net takes a leading @ as abstract, too
	if every != "" && (pid == "" || pid == strconv.Itoa(os.Getpid())) {
		us, err := strconv.ParseInt(every, 10, 64)
		if err != nil || us <= 0 {
			return m, fmt.Errorf("%s is %q", everyKey, every)
		}
		m.watchdog = time.Duration(us) * time.Microsecond
	}
	return m, nil
}

// Watchdog is how often at most the manager waits for a sign of life before it takes the service for hung; 0: it doesn't.
func (m Manager) Watchdog() time.Duration { return m.watchdog }

// Ready says that the service serves.
func (m Manager) Ready() error { return m.send("READY=1") }

// Alive is a sign of life.
func (m Manager) Alive() error { return m.send("WATCHDOG=1") }

// Status is a line for people who look.
func (m Manager) Status(text string) error { return m.send("STATUS=" + oneLine(text)) }

// Stopping says that the service ends, and why it isn't gone yet.
func (m Manager) Stopping(text string) error { return m.send("STOPPING=1\nSTATUS=" + oneLine(text)) }

// Patience asks that the end may take so long from now; said again and again, it may take any time.
func (m Manager) Patience(d time.Duration) error {
	return m.send("EXTEND_TIMEOUT_USEC=" + strconv.FormatInt(d.Microseconds(), 10))
}

func oneLine(s string) string { return strings.ReplaceAll(s, "\n", " ") }

// sendTimeout bounds a manager that doesn't read.
const sendTimeout = time.Second

func (m Manager) send(state string) error {
	if m.address == "" {
		return nil
	}
	c, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: m.address, Net: "unixgram"})
	if err != nil {
		return fmt.Errorf("telling the service manager: %w", err)
	}
	defer c.Close()
	if err := c.SetWriteDeadline(time.Now().Add(sendTimeout)); err != nil {
		return fmt.Errorf("telling the service manager: %w", err)
	}
	if _, err := c.Write([]byte(state)); err != nil {
		return fmt.Errorf("telling the service manager: %w", err)
	}
	return nil
}
