package journal

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// What a power cut leaves of a real filesystem: it is told to go down without writing its log (FS_IOC_SHUTDOWN, FS_SHUTDOWN_FLAGS_NOLOGFLUSH; ext4's EXT4_IOC_SHUTDOWN
// is the same), in the middle of writing, and is mounted again.
const (
	fsIocShutdown = 0x8004587d
	noLogFlush    = 2
)

// filesystems that are tried, and how an image of one is made.
var filesystems = map[string]struct {
	size int64
	mkfs []string
}{
	"ext4": {64 << 20, []string{"mkfs.ext4", "-q", "-F"}},
	"xfs":  {320 << 20, []string{"mkfs.xfs", "-q", "-f"}},
}

// TestPowerCutsOfARealFilesystem: of what was acknowledged nothing is missing. It needs root and loop devices.
func TestPowerCutsOfARealFilesystem(t *testing.T) {
	for fs, how := range filesystems {
		t.Run(fs, func(t *testing.T) {
			d := newDisk(t, fs, how.size, how.mkfs)
			rounds, acked := count(6), 0
			for round := range rounds {
				d.mount()
				dir := filepath.Join(d.at, "journal")
				cmd := exec.Command(os.Args[0])
				cmd.Env = append(os.Environ(), childEnv+"="+dir)
				cmd.Stderr = os.Stderr
				out, err := cmd.StdoutPipe()
				if err != nil {
					t.Fatal(err)
				}
				if err := cmd.Start(); err != nil {
					t.Fatal(err)
				}
				root, err := os.Open(d.at)
				if err != nil {
					t.Fatal(err)
				}
				cut := make(chan error, 1)
				begun := make(chan struct{})
				go func() {
					<-begun
					time.Sleep(time.Duration(20+round*7%100) * time.Millisecond)
					cut <- unix.IoctlSetPointerInt(int(root.Fd()), fsIocShutdown, noLogFlush)
					time.Sleep(5 * time.Millisecond) // whoever would acknowledge now would lie
					cmd.Process.Kill()
				}()
				last, n := acknowledged(out, func() { close(begun) })
				acked += n
				cmd.Wait()
				if len(last) == 0 {
					t.Fatalf("round %d: nothing was acknowledged", round)
				}
				if err := <-cut; err != nil {
					t.Fatalf("round %d: shutting %s down: %v", round, fs, err)
				}
				root.Close()
				d.unmount()
				d.mount()

				j, rec, err := Open(Config{Dir: dir, SegmentSize: 256 << 10, Segments: 8})
				if err != nil || len(rec.Damage) > 0 {
					t.Fatalf("round %d: %v %v", round, err, rec.Damage)
				}
				holds(t, round, j, rec, last)
				if err := j.Close(); err != nil {
					t.Fatal(err)
				}
				d.unmount()
				if t.Failed() {
					t.FailNow()
				}
			}
			t.Logf("%s: %d power cuts, %d acknowledged, 0 missing", fs, rounds, acked)
		})
	}
}

// disk is a filesystem in a file.
type disk struct {
	t               *testing.T
	fs, image, loop string
	at              string
	mounted         bool
}

func newDisk(t *testing.T, fs string, size int64, mkfs []string) *disk {
	t.Helper()
	d := &disk{t: t, fs: fs, image: filepath.Join(t.TempDir(), "image"), at: t.TempDir()}
	if os.Geteuid() != 0 {
		t.Skip("only root mounts")
	}
	if err := os.WriteFile(d.image, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(d.image, size); err != nil {
		t.Fatal(err)
	}
	program, err := exec.LookPath(mkfs[0])
	if err != nil && os.Getenv("CI") != "" {
		t.Fatalf("%s is missing: make deps", mkfs[0])
	}
	if err != nil {
		t.Skipf("no %s here: %v", mkfs[0], err)
	}
	if b, err := exec.Command(program, append(mkfs[1:], d.image)...).CombinedOutput(); err != nil {
		t.Fatalf("%v: %v\n%s", mkfs, err, b)
	}
	b, err := exec.Command("losetup", "--find", "--show", d.image).CombinedOutput()
	if err != nil {
		t.Skipf("this machine gives no loop device: %v: %s", err, b)
	}
	d.loop = string(bytes.TrimSpace(b))
	t.Cleanup(func() {
		if d.mounted {
			d.unmount()
		}
		exec.Command("losetup", "--detach", d.loop).Run()
	})
	if err := unix.Mount(d.loop, d.at, d.fs, 0, ""); err != nil {
		t.Skipf("this machine mounts no %s: %v", d.fs, err)
	}
	d.mounted = true
	d.unmount()
	return d
}

func (d *disk) mount() {
	d.t.Helper()
	if err := unix.Mount(d.loop, d.at, d.fs, 0, ""); err != nil {
		d.t.Fatalf("mounting %s: %v", d.fs, err)
	}
	d.mounted = true
}

func (d *disk) unmount() {
	d.t.Helper()
	var err error
	for range 500 { // whoever was killed may still have its files
		if err = unix.Unmount(d.at, 0); err != unix.EBUSY {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	if err != nil {
		d.t.Fatalf("unmounting %s: %v", d.fs, err)
	}
	d.mounted = false
}
