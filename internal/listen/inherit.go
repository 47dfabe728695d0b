//go:build unix

package listen

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

const (
	// firstInherited is SD_LISTEN_FDS_START of sd_listen_fds(3).
	firstInherited = 3
	// maxInherited bounds LISTEN_FDS: beyond it a service has been handed something that is no list of addresses.
	maxInherited = 64
)

// ErrInherited says that the sockets which the service manager handed over are not what the configuration names.
var ErrInherited = errors.New("the sockets that were handed over do not fit")

// Env is the process's environment.
type Env interface {
	Get(key string) string
	Unset(key string) error
}

// OS is the environment of this process.
type OS struct{}

func (OS) Get(key string) string  { return os.Getenv(key) }
func (OS) Unset(key string) error { return os.Unsetenv(key) }

// Open gives the listeners of a service: those that its service manager opened for it (systemd's socket activation, sd_listen_fds(3)), or else
// its addresses by All. Sockets that are handed over outlive the process and may be shared by several: what connects while one ends
// waits in the queue of all.
//
// What is handed over must be exactly what the configuration names, all of it TCP and listening: a jump that listens elsewhere than it says
// would be looked for in vain, and one that takes any descriptor for a listener could be handed the wrong end of something.
// The variables are unset, so that no child takes the sockets for its own.
func Open(addresses []string, env Env) (ls []net.Listener, inherited bool, err error) {
	n, names, err := announced(env)
	if err != nil {
		return nil, false, fmt.Errorf("%w: %w", ErrInherited, err)
	}
	if n == 0 {
		ls, err := All(addresses)
		return ls, false, err
	}
	defer func() {
		if err != nil {
			for _, l := range ls {
				err = errors.Join(err, l.Close())
			}
			ls = nil
		}
	}()
	for i := range n {
		l, err := take(firstInherited+i, names[i])
		if err != nil {
			return ls, true, fmt.Errorf("%w: descriptor %d (%s): %w", ErrInherited, firstInherited+i, names[i], err)
		}
		ls = append(ls, l)
	}
	return ls, true, fits(ls, addresses)
}

// announced reads what the service manager says it has handed over. What it says to another process is not for this one.
func announced(env Env) (n int, names []string, err error) {
	const pidKey, countKey, namesKey = "LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"
	pid, count, list := env.Get(pidKey), env.Get(countKey), env.Get(namesKey)
	for _, k := range []string{pidKey, countKey, namesKey} {
		err = errors.Join(err, env.Unset(k))
	}
	if err != nil || pid == "" || count == "" {
		return 0, nil, err
	}
	if p, err := strconv.Atoi(pid); err != nil || p <= 0 {
		return 0, nil, fmt.Errorf("%s is %q", pidKey, pid)
	} else if p != os.Getpid() {
		return 0, nil, nil
	}
	if n, err = strconv.Atoi(count); err != nil || n < 0 || n > maxInherited {
		return 0, nil, fmt.Errorf("%s is %q, want 0 to %d", countKey, count, maxInherited)
	}
	if list == "" {
		return n, slices.Repeat([]string{"unknown"}, n), nil // what sd_listen_fds_with_names says then
	}
	if names = strings.Split(list, ":"); len(names) != n {
		return 0, nil, fmt.Errorf("%s names %d of %d", namesKey, len(names), n)
	}
	return n, names, nil
}

// take makes a listener of a descriptor that is a listening TCP socket.
func take(fd int, name string) (net.Listener, error) {
	unix.CloseOnExec(fd)
	for _, o := range []struct {
		option, want int
		what         string
	}{{unix.SO_TYPE, unix.SOCK_STREAM, "not a stream socket"}, {unix.SO_ACCEPTCONN, 1, "not listening"}} {
		v, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, o.option)
		if err != nil {
			return nil, fmt.Errorf("not a socket: %w", err)
		}
		if v != o.want {
			return nil, errors.New(o.what)
		}
	}
	sa, err := unix.Getsockname(fd)
	if err != nil {
		return nil, err
	}
	switch sa.(type) {
	case *unix.SockaddrInet4, *unix.SockaddrInet6:
	default:
		return nil, errors.New("neither IPv4 nor IPv6")
	}
	f := os.NewFile(uintptr(fd), name)
	l, err := net.FileListener(f) // of a copy
	return l, errors.Join(err, f.Close())
}

// fits holds the listeners against the configuration: the same addresses, each once, in any order.
func fits(ls []net.Listener, addresses []string) error {
	var have, want []netip.AddrPort
	for _, l := range ls {
		have = append(have, l.Addr().(*net.TCPAddr).AddrPort())
	}
	for _, a := range addresses {
		ap, err := netip.ParseAddrPort(a)
		if err != nil {
			return fmt.Errorf("listening on %q: want IP:PORT: %w", a, err)
		}
		want = append(want, ap)
	}
	for _, l := range [][]netip.AddrPort{have, want} {
		for i, a := range l {
			l[i] = netip.AddrPortFrom(a.Addr().Unmap(), a.Port())
		}
		slices.SortFunc(l, netip.AddrPort.Compare)
	}
	if !slices.Equal(have, want) {
		return fmt.Errorf("%w: handed over %v, configured %v", ErrInherited, have, want)
	}
	return nil
}
