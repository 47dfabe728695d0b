package softkey

import (
	"fmt"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// pty is a pseudo-terminal that passes for a hidraw device.
//
// A program that opens the slave without O_NOCTTY (libfido2 does) while it is a session leader without
// a terminal gets it as controlling terminal, and SIGHUP when the key is unplugged: such a program,
// a test run under setsid for example, has to ignore SIGHUP.
type pty struct {
	*os.File // the master
	slave    *os.File
	name     string
}

// openPTY keeps a slave end open for as long as the key lives: on the last close of the slave the
// kernel would reset the terminal to cooked mode, and the master would read EIO.
func openPTY() (device, error) {
	// Non-blocking from the start, so that Close wakes up a Read; never File.Fd, which would make it
	// blocking again and races with Close.
	fd, err := unix.Open("/dev/ptmx", unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("opening /dev/ptmx: %w", err)
	}
	if err := unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("unlocking pseudo-terminal: %w", err)
	}
	n, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("naming pseudo-terminal: %w", err)
	}
	name := "/dev/pts/" + strconv.Itoa(n)
	sfd, err := unix.Open(name, unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("opening %s: %w", name, err)
	}
	p := &pty{File: os.NewFile(uintptr(fd), "/dev/ptmx"), slave: os.NewFile(uintptr(sfd), name), name: name}
	if err := setRaw(sfd); err != nil {
		p.Close()
		return nil, fmt.Errorf("setting %s raw: %w", name, err)
	}
	return p, nil
}

// setRaw is cfmakeraw with VMIN = 64: poll says readable only when a whole report is there, which is
// what libfido2 takes for granted of hidraw.
func setRaw(fd int) error {
	t, err := unix.IoctlGetTermios(fd, unix.TCGETS)
	if err != nil {
		return err
	}
	t.Iflag &^= unix.IGNBRK | unix.BRKINT | unix.PARMRK | unix.ISTRIP | unix.INLCR | unix.IGNCR | unix.ICRNL | unix.IXON
	t.Oflag &^= unix.OPOST
	t.Lflag &^= unix.ECHO | unix.ECHONL | unix.ICANON | unix.ISIG | unix.IEXTEN
	t.Cflag = t.Cflag&^(unix.CSIZE|unix.PARENB) | unix.CS8
	t.Cc[unix.VMIN], t.Cc[unix.VTIME] = reportLen, 0
	return unix.IoctlSetTermios(fd, unix.TCSETS, t)
}

func (p *pty) path() string { return p.name }

func (p *pty) flush() error {
	c, err := p.slave.SyscallConn()
	if err != nil {
		return err
	}
	var ferr error
	if err := c.Control(func(fd uintptr) { ferr = unix.IoctlSetInt(int(fd), unix.TCFLSH, unix.TCIFLUSH) }); err != nil {
		return err
	}
	return ferr
}

func (p *pty) Close() error {
	err := p.File.Close()
	if serr := p.slave.Close(); err == nil {
		err = serr
	}
	return err
}
