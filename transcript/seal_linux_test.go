package transcript

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
	"time"
)

const checkEnv = "BREAKGLASS_TEST_CHECK_STORE"

// init makes the test binary the service that checks, which has no right.
func init() {
	dir := os.Getenv(checkEnv)
	if dir == "" {
		return
	}
	s := &FileStore{Dir: dir}
	tried, left, err := s.Check()
	text := ""
	if err != nil {
		text = err.Error()
	}
	json.NewEncoder(os.Stdout).Encode([]any{tried, left, text})
	os.Exit(0)
}

// sealable is a directory that is somebody else's, where the flag can be set.
func sealable(t *testing.T) string {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("only root seals for others")
	}
	dir, err := os.MkdirTemp("", "store")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	mutable(t, dir)
	probe := filepath.Join(dir, "probe")
	if err := os.WriteFile(probe, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := setImmutable(probe); err != nil {
		t.Skipf("no immutable flag here: %v", err)
	}
	if err := clearImmutable(probe); err != nil {
		t.Fatal(err)
	}
	os.Remove(probe)
	if err := os.Chown(dir, 65534, 65534); err != nil {
		t.Fatal(err)
	}
	return dir
}

// What is finished, and of the directory's owner, is sealed, and nothing that an intruder in the service could put there instead.
func TestSealFinished(t *testing.T) {
	dir := sealable(t)
	other := filepath.Join(t.TempDir(), "other.transcript")
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	put := func(name string, mode os.FileMode, owner int) {
		t.Helper()
		p := filepath.Join(dir, name)
		must(os.WriteFile(p, []byte(name), 0o600))
		must(os.Chmod(p, mode))
		must(os.Chown(p, owner, owner))
	}
	put("k7f-2mq.1.transcript", modeStored, 65534)
	put("k7f-2mq.1.envelope", modeStored, 65534)
	put(".check-1", modeStored, 65534)
	put("k7f-2mq.2.part", modeStored, 65534)
	put("k7f-2mq.3.transcript", 0o600, 65534)
	put("k7f-2mq.4.transcript", modeStored, 0)
	put("k7f-2mq.5.transcript", modeStored, 65534)
	must(os.Link(filepath.Join(dir, "k7f-2mq.5.transcript"), filepath.Join(dir, "k7f-2mq.6.transcript")))
	must(os.WriteFile(other, nil, modeStored))
	must(os.Chown(other, 65534, 65534))
	must(os.Symlink(other, filepath.Join(dir, "k7f-2mq.7.transcript")))
	fifo := filepath.Join(dir, "k7f-2mq.8.transcript")
	must(syscall.Mkfifo(fifo, modeStored))
	t.Cleanup(func() { os.Remove(fifo) }) // before the flags are taken off, which opens all
	must(os.Mkdir(filepath.Join(dir, "k7f-2mq.9.transcript"), 0o700))
	n, err := SealFinished(dir)
	if n != 3 || err != nil {
		t.Errorf("%d sealed, %v", n, err)
	}
	var sealed []string
	files, err := os.ReadDir(dir)
	must(err)
	for _, f := range files {
		if f.Type().IsRegular() && isImmutable(filepath.Join(dir, f.Name())) {
			sealed = append(sealed, f.Name())
		}
	}
	if want := []string{".check-1", "k7f-2mq.1.envelope", "k7f-2mq.1.transcript"}; !slices.Equal(sealed, want) {
		t.Errorf("sealed %q, want %q", sealed, want)
	}
	if isImmutable(other) {
		clearImmutable(other)
		t.Error("followed a link")
	}
	if n, err := SealFinished(dir); n != 0 || err != nil {
		t.Errorf("again: %d sealed, %v", n, err)
	}
	link := filepath.Join(t.TempDir(), "store")
	must(os.Symlink(dir, link))
	if n, err := SealFinished(link); err == nil {
		t.Errorf("a link in the directory's place: %d sealed", n)
	}
}

// A service without the right, beside a process that has it: what is finished can't be changed by the service, and there is nothing left to prove.
func TestCheckBesideASealer(t *testing.T) {
	dir := sealable(t)
	stop := make(chan struct{})
	done := make(chan struct{})
	go func() { // the path unit
		defer close(done)
		for {
			select {
			case <-stop:
				return
			case <-time.After(20 * time.Millisecond):
				SealFinished(dir)
			}
		}
	}()
	defer func() { close(stop); <-done }()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	mine := filepath.Join(dir, "program") // where nobody else may look
	b, err := os.ReadFile(exe)
	if err != nil || os.WriteFile(mine, b, 0o755) != nil || os.Chown(mine, 65534, 65534) != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(mine)
	cmd.Dir = "/"
	cmd.Env = append(os.Environ(), checkEnv+"="+dir)
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	var got []any
	if err := json.Unmarshal(out, &got); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if tried, _ := got[0].([]any); len(tried) != 6 || got[1] != nil || got[2] != "" {
		t.Errorf("tried %v, left %v, error %v", got[0], got[1], got[2])
	}
}
