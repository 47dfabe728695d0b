package transcript

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// SealFinished makes what is finished in a store's directory immutable, and says how many files it sealed now. It is for a process that has CAP_LINUX_IMMUTABLE and
// does nothing else, beside a service that hasn't and so can't undo it (contrib/systemd). The directory is the service's, who may be an intruder by now: links
// aren't followed, and what isn't a finished file of the directory's own owner is left alone.
func SealFinished(dir string) (sealed int, err error) {
	fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return 0, fmt.Errorf("sealing %s: %w", dir, err)
	}
	d := os.NewFile(uintptr(fd), dir)
	defer d.Close()
	var owner unix.Stat_t
	if err := unix.Fstat(fd, &owner); err != nil {
		return 0, fmt.Errorf("sealing %s: %w", dir, err)
	}
	list, err := d.ReadDir(-1)
	if err != nil {
		return 0, err
	}
	var failed error
	for _, e := range list {
		n := e.Name()
		if !e.Type().IsRegular() || !strings.HasSuffix(n, suffixWhole) && !strings.HasSuffix(n, suffixEnvelope) && !strings.HasPrefix(n, prefixCheck) {
			continue
		}
		now, err := sealOne(fd, n, owner.Uid)
		if err != nil {
			failed = errors.Join(failed, fmt.Errorf("sealing %s: %w", n, err))
		}
		if now {
			sealed++
		}
	}
	return sealed, failed
}

func sealOne(dir int, name string, owner uint32) (bool, error) {
	fd, err := unix.Openat(dir, name, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return false, err
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return false, err
	}
	if st.Mode != unix.S_IFREG|modeStored || st.Nlink != 1 || st.Uid != owner {
		return false, nil // not finished, or somebody else's
	}
	flags, err := unix.IoctlGetInt(fd, unix.FS_IOC_GETFLAGS)
	if err != nil || flags&immutableFlag != 0 {
		return false, err
	}
	return true, unix.IoctlSetPointerInt(fd, unix.FS_IOC_SETFLAGS, flags|immutableFlag)
}
