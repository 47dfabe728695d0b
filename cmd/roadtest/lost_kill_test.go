package roadtest

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"breakglass/internal/road"
)

// kills is how often each program is killed, a little later each time.
const kills = 8

// killed runs a program and kills it after a while; whether it had ended by then is no matter.
func killed(t *testing.T, after time.Duration, program string, args ...string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), filepath.Join(bin, program), args...)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	time.Sleep(after)
	cmd.Process.Kill()
	cmd.Wait()
}

// TestKilledWhileItIsSaved: backup, restore, the tail's return and a succession are killed at any moment. What is left is nothing, or whole, or refused;
// and doing it again does it.
func TestKilledWhileItIsSaved(t *testing.T) {
	r, alice, _ := start(t, road.Config{})
	ctx, dir, away := t.Context(), filepath.Join(r.Dir, "ca"), t.TempDir()
	standby := filepath.Join(away, "standby")
	if err := os.Rename(filepath.Join(dir, "standby-keys"), standby); err != nil {
		t.Fatal(err)
	}
	ca := func(args ...string) error {
		_, err := r.Run(ctx, "breakglass-ca", args...)
		return err
	}
	whole := 0
	for n := range kills {
		to := filepath.Join(away, "backup-"+string(rune('a'+n)))
		killed(t, time.Duration(n*n)*4*time.Millisecond, "breakglass-ca", "backup", to, "--dir", dir)
		if _, err := os.Stat(to); err == nil { // it has its name once it is whole
			whole++
			if err := ca("restore", to, "--dir", filepath.Join(away, "checked-"+string(rune('a'+n)))); err != nil {
				t.Errorf("a backup that has its name: %v", err)
			}
			continue
		}
		if err := ca("restore", to+".partial", "--dir", filepath.Join(away, "never")); err == nil {
			t.Error("an unfinished backup was restored")
		}
		if err := ca("backup", to, "--dir", dir); err != nil {
			t.Errorf("once more: %v", err)
		}
		if _, err := os.Stat(to + ".partial"); err == nil {
			t.Error("the unfinished one stays")
		}
	}
	t.Logf("%d of %d backups ended before they were killed", whole, kills)
	backup := filepath.Join(away, "backup-a")
	for n := range 40 { // entries for a tail
		if err := ca("invite", "--dir", dir, []string{"alice", "bob"}[n%2]); err != nil {
			t.Fatal(err)
		}
	}
	size := cosigned(t, r)
	r.End("ca", true)
	if err := burn(r); err != nil {
		t.Fatal(err)
	}
	for n := range kills {
		killed(t, time.Duration(n*n)*3*time.Millisecond, "breakglass-ca", "restore", backup, "--dir", dir)
		if _, err := os.Stat(filepath.Join(dir, "restoring")); err == nil {
			if err := ca("status", "--dir", dir); err == nil || !strings.Contains(err.Error(), "did not end") {
				t.Errorf("half a restore is a CA: %v", err)
			}
		} else if _, err := os.Stat(filepath.Join(dir, "ca.db")); err == nil {
			break // it is whole
		}
	}
	if _, err := os.Stat(filepath.Join(dir, "frozen.json")); err != nil {
		if err := ca("restore", backup, "--dir", dir); err != nil {
			t.Fatal(err)
		}
	}
	for n := range kills { // while the tail comes back
		if err := r.StartCA(ctx); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Duration(n) * 40 * time.Millisecond)
		r.End("ca", true)
	}
	if err := r.StartCA(ctx); err != nil {
		t.Fatal(err)
	}
	thawed(t, r)
	if n, _ := caStatus(t, r); n < size {
		t.Errorf("%d entries are back of %d", n, size)
	}
	if out, err := alice.Run(ctx, "breakglass", "ssh", "--reason", reason, r.Login+"@"+road.Host, "--", "echo", "back"); err != nil || !strings.Contains(out, "back") {
		t.Error(out, err)
	}

	last := filepath.Join(away, "last")
	if err := ca("backup", last, "--dir", dir); err != nil {
		t.Fatal(err)
	}
	r.End("ca", true)
	if err := burn(r); err != nil {
		t.Fatal(err)
	}
	args := []string{"succeed", "init", "--from", last, "--standby", standby, "--listen", r.CAAddress, "--dir", dir}
	unsigned := func() bool {
		_, begun := os.Stat(filepath.Join(dir, "restoring"))
		_, made := os.Stat(filepath.Join(dir, "succession.json"))
		return begun != nil && made == nil
	}
	for n := range kills {
		if killed(t, time.Duration(n*n)*3*time.Millisecond, "breakglass-ca", args...); unsigned() {
			break // it is whole
		}
	}
	if !unsigned() {
		if err := ca(args...); err != nil {
			t.Fatal(err)
		}
	}
	if err := r.StartCA(ctx); err != nil {
		t.Fatal(err)
	}
	if _, err := alice.Run(ctx, "breakglass", "succeed", "--yes"); err != nil {
		t.Fatal(err)
	}
	r.End("ca", true) // perhaps between the last signature and the first entry
	for range 3 {
		if err := r.StartCA(ctx); err != nil {
			t.Fatal(err)
		}
		r.End("ca", true)
	}
	if err := r.StartCA(ctx); err != nil {
		t.Fatal(err)
	}
	if err := alice.EndAgent(ctx); err != nil {
		t.Fatal(err)
	}
	var err error
	for end := time.Now().Add(patience); ; time.Sleep(300 * time.Millisecond) {
		var out string
		if out, err = alice.Run(ctx, "breakglass", "ssh", "--reason", reason, r.Login+"@"+road.Host, "--", "echo", "succeeded"); err == nil && strings.Contains(out, "succeeded") {
			return
		}
		if time.Now().After(end) {
			t.Fatal(err)
		}
	}
}

// TestABackupWithoutRoom: a disk that is full leaves nothing behind, the service goes on, and what to do is said.
func TestABackupWithoutRoom(t *testing.T) {
	r, alice := begin(t, road.Config{})
	ctx, dir, small := t.Context(), filepath.Join(r.Dir, "ca"), t.TempDir()
	if out, err := exec.CommandContext(ctx, "mount", "-t", "tmpfs", "-o", "size=160k", "tmpfs", small).CombinedOutput(); err != nil {
		t.Skipf("no file system can be mounted here: %s", out)
	}
	t.Cleanup(func() { exec.Command("umount", small).Run() })
	_, err := r.Run(ctx, "breakglass-ca", "backup", filepath.Join(small, "backup"), "--dir", dir)
	if err == nil || !strings.Contains(err.Error(), "room") || !strings.Contains(err.Error(), "hint: breakglass-ca backup") {
		t.Errorf("%v", err)
	}
	if es, err := os.ReadDir(small); err != nil || len(es) != 0 {
		t.Errorf("left behind: %v, %v", es, err)
	}
	if _, err := alice.Run(ctx, "breakglass", "status"); err != nil {
		t.Error(err)
	}
	if _, err := r.Run(ctx, "breakglass-ca", "backup", filepath.Join(t.TempDir(), "backup"), "--dir", dir); err != nil {
		t.Error(err)
	}
}
