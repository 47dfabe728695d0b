package roadtest

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"breakglass/internal/road"
)

// patience is how long what happens by itself may take on a busy machine.
const patience = 90 * time.Second

// frozen is what `breakglass-ca status` says of a CA that issues nothing; nil: all is well.
type frozen struct {
	Why   string   `json:"why"`
	From  string   `json:"from"`
	Waits []string `json:"waits"`
}

func caStatus(t *testing.T, r *road.Road) (entries int64, f *frozen) {
	t.Helper()
	out, err := r.Run(t.Context(), "breakglass-ca", "status", "--dir", filepath.Join(r.Dir, "ca"), "--json")
	if err != nil {
		t.Fatal(err)
	}
	var s struct {
		Entries int64   `json:"entries"`
		Frozen  *frozen `json:"frozen"`
	}
	if err := json.Unmarshal([]byte(out), &s); err != nil {
		t.Fatal(err)
	}
	return s.Entries, s.Frozen
}

// cosigned waits until the jump keeps as much of the ledger as the CA has.
func cosigned(t *testing.T, r *road.Road) int64 {
	t.Helper()
	var size int64
	for end := time.Now().Add(patience); ; time.Sleep(100 * time.Millisecond) {
		n, _ := caStatus(t, r)
		if size = headSize(filepath.Join(r.Dir, "jump", "witness", "head")); size >= n {
			return size
		}
		if time.Now().After(end) {
			t.Fatalf("the jump keeps %d entries, the CA has %d", size, n)
		}
	}
}

// headSize is how many entries the head in a file signs; 0 where there is none.
func headSize(path string) (size int64) {
	if b, err := os.ReadFile(path); err == nil {
		if lines := strings.Split(string(b), "\n"); len(lines) > 2 {
			json.Unmarshal([]byte(lines[1]), &size)
		}
	}
	return size
}

// thawed waits until the CA goes on.
func thawed(t *testing.T, r *road.Road) {
	t.Helper()
	for end := time.Now().Add(patience); ; time.Sleep(200 * time.Millisecond) {
		n, f := caStatus(t, r)
		if f == nil {
			return
		}
		if time.Now().After(end) {
			log, _ := os.ReadFile(filepath.Join(r.Dir, "jump.log"))
			t.Fatalf("still frozen with %d entries: %+v\n%s", n, f, ending(log))
		}
	}
}

func ending(b []byte) []byte { return b[max(0, len(b)-3000):] }

// TestACAThatBurnsComesBack: the CA is killed and its directory deleted, an old backup is restored, and its jump brings back all that came after it: whoever
// had a grant has it, and what they did is read.
func TestACAThatBurnsComesBack(t *testing.T) {
	r, alice, _ := start(t, road.Config{})
	ctx, dir, backup := t.Context(), filepath.Join(r.Dir, "ca"), filepath.Join(t.TempDir(), "backup")
	if _, err := r.Run(ctx, "breakglass-ca", "backup", backup, "--dir", dir); err != nil {
		t.Fatal(err)
	}
	if out, err := alice.Run(ctx, "breakglass", "ssh", "--reason", reason, r.Login+"@"+road.Host, "--", "echo", "before-it-burned"); err != nil || !strings.Contains(out, "before-it-burned") {
		t.Fatal(out, err)
	}
	before, err := alice.Run(ctx, "breakglass", "sessions", "--json")
	if err != nil {
		t.Fatal(err)
	}
	pins, err := alice.Run(ctx, "breakglass", "pins", "--json")
	if err != nil {
		t.Fatal(err)
	}
	trust := filepath.Join(t.TempDir(), "pins")
	if err := os.WriteFile(trust, []byte(pins), 0o600); err != nil {
		t.Fatal(err)
	}
	size := cosigned(t, r)
	r.End("ca", true)
	if err := burn(r); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Run(ctx, "breakglass-ca", "restore", backup, "--dir", dir, "--trust", trust); err != nil {
		t.Fatal(err)
	}
	if err := r.StartCA(ctx); err != nil {
		t.Fatal(err)
	}
	thawed(t, r)
	if n, _ := caStatus(t, r); n < size {
		t.Errorf("%d entries are back of %d", n, size)
	}
	after, err := alice.Run(ctx, "breakglass", "sessions", "--json")
	if err != nil || after != before {
		t.Errorf("sessions were\n%s\nare\n%s, %v", before, after, err)
	}
	if out, err := alice.Run(ctx, "breakglass", "ssh", "--reason", reason, r.Login+"@"+road.Host, "--", "echo", "it-goes-on"); err != nil || !strings.Contains(out, "it-goes-on") {
		t.Error(out, err)
	}
	verified(t, r, trust)
	// Somebody puts the old database back under the service's own files: noticed at the start, and mended alike.
	size = cosigned(t, r)
	for end := time.Now().Add(patience); headSize(filepath.Join(dir, "head")) < size; time.Sleep(100 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("no head is written beside the ledger")
		}
	}
	r.End("ca", true)
	old, err := os.ReadFile(filepath.Join(backup, "ca.db"))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range []string{"ca.db-wal", "ca.db-shm"} {
		os.Remove(filepath.Join(dir, f))
	}
	if err := os.WriteFile(filepath.Join(dir, "ca.db"), old, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := r.StartCA(ctx); err != nil {
		t.Fatal(err)
	}
	thawed(t, r)
	if out, err := alice.Run(ctx, "breakglass", "ssh", "--reason", reason, r.Login+"@"+road.Host, "--", "echo", "once-more"); err != nil || !strings.Contains(out, "once-more") {
		t.Error(out, err)
	}
	verified(t, r, trust)
}

// burn takes all that the CA's machine has away.
func burn(r *road.Road) error {
	road.Mutable(r.Dir)
	return os.RemoveAll(filepath.Join(r.Dir, "ca"))
}

func verified(t *testing.T, r *road.Road, trust string) {
	t.Helper()
	out, err := r.Run(t.Context(), "breakglass-ca", "ledger", "verify", "--trust", trust, "--dir", filepath.Join(r.Dir, "ca"))
	if err != nil || !strings.HasPrefix(out, "VERIFIED\n") {
		t.Errorf("%v\n%s", err, out)
	}
}

// TestAForkOnTheRoad: a CA that went on from an old copy, all of whose own memory was put back with it, is shown its fork by its jump, and issues nothing more.
func TestAForkOnTheRoad(t *testing.T) {
	r, alice, _ := start(t, road.Config{})
	ctx, dir, copied := t.Context(), filepath.Join(r.Dir, "ca"), filepath.Join(t.TempDir(), "machine")
	r.End("ca", false)
	if out, err := exec.CommandContext(ctx, "cp", "-a", dir, copied).CombinedOutput(); err != nil { // the snapshot of a virtual machine
		t.Fatalf("%v\n%s", err, out)
	}
	if err := r.StartCA(ctx); err != nil {
		t.Fatal(err)
	}
	into := func(marker string) error {
		out, err := alice.Run(ctx, "breakglass", "ssh", "--reason", reason, r.Login+"@"+road.Host, "--", "echo", marker)
		if err == nil && !strings.Contains(out, marker) {
			t.Errorf("no %s in %s", marker, out)
		}
		return err
	}
	if err := into("before"); err != nil {
		t.Fatal(err)
	}
	cosigned(t, r)
	r.End("ca", true)
	if err := burn(r); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(copied, dir); err != nil {
		t.Fatal(err)
	}
	if err := r.StartCA(ctx); err != nil {
		t.Fatal(err)
	}
	var f *frozen
	for end := time.Now().Add(patience); f == nil; time.Sleep(200 * time.Millisecond) {
		if _, f = caStatus(t, r); f == nil && time.Now().After(end) {
			log, _ := os.ReadFile(filepath.Join(r.Dir, "jump.log"))
			t.Fatalf("nobody noticed\n%s", ending(log))
		}
	}
	if f.Why != "forked" || !strings.Contains(f.From, "jump") {
		t.Errorf("%+v", f)
	}
	out, err := r.Run(ctx, "breakglass-ca", "status", "--dir", dir)
	if err != nil || !strings.Contains(out, "FORKED") || !strings.Contains(out, "breakglass-ca restore BACKUP") {
		t.Errorf("%v\n%s", err, out)
	}
	n, _ := caStatus(t, r)
	if err := alice.EndAgent(ctx); err != nil { // her grant of before is alive
		t.Fatal(err)
	}
	if err := into("after"); err == nil {
		t.Error("it let somebody in")
	}
	r.End("ca", true)
	if err := r.StartCA(ctx); err != nil {
		t.Fatal(err)
	}
	if m, f := caStatus(t, r); m != n || f == nil {
		t.Errorf("%d entries, had %d; %+v", m, n, f)
	}
}

// TestSuccessionOnTheRoad: the CA is gone for good, with its directory; what is left is a backup and the standby keys. Its founder signs, and host, jump and
// clients go on without anybody touching them.
func TestSuccessionOnTheRoad(t *testing.T) {
	r, alice, bob := start(t, road.Config{})
	ctx, dir, away := t.Context(), filepath.Join(r.Dir, "ca"), t.TempDir()
	standby, backup := filepath.Join(away, "standby"), filepath.Join(away, "backup")
	if err := os.Rename(filepath.Join(dir, "standby-keys"), standby); err != nil {
		t.Fatal(err)
	}
	into(t, r, alice, "before", keysOf(t, r, "session_ca", "active")[0])
	if _, err := r.Run(ctx, "breakglass-ca", "backup", backup, "--dir", dir); err != nil {
		t.Fatal(err)
	}
	r.End("ca", true)
	if err := burn(r); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Run(ctx, "breakglass-ca", "succeed", "init", "--from", backup, "--standby", standby, "--listen", r.CAAddress, "--dir", dir); err != nil {
		t.Fatal(err)
	}
	if err := r.StartCA(ctx); err != nil {
		t.Fatal(err)
	}
	if _, err := alice.Run(ctx, "breakglass", "ssh", "--reason", reason, r.Login+"@"+road.Host, "--", "true"); err == nil || !strings.Contains(err.Error(), "founders have not signed") {
		t.Errorf("before anybody signed: %v", err)
	}
	cmd := alice.Command(ctx, "breakglass", "succeed", "--yes")
	var said bytes.Buffer
	cmd.Stderr = &said
	if err := cmd.Run(); err != nil || !strings.Contains(said.String(), "That is enough") {
		t.Fatalf("%v\n%s", err, said.String())
	}
	for end := time.Now().Add(patience); ; time.Sleep(200 * time.Millisecond) { // it serves by itself
		if b, err := os.ReadFile(filepath.Join(r.Dir, "jump.log")); err == nil && bytes.Contains(b, []byte("THE CA WAS REPLACED")) && bytes.Contains(b, []byte("set aside")) {
			break
		} else if time.Now().After(end) {
			ca, _ := os.ReadFile(filepath.Join(r.Dir, "ca.log"))
			t.Fatalf("the jump did not follow:\n%s\n%s", ending(b), ending(ca))
		}
	}
	var err error
	for end := time.Now().Add(patience); ; time.Sleep(300 * time.Millisecond) { // the jump begins anew
		var out string
		if out, err = alice.Run(ctx, "breakglass", "ssh", "--reason", reason, r.Login+"@"+road.Host, "--", "echo", "succeeded"); err == nil && strings.Contains(out, "succeeded") {
			break
		}
		if time.Now().After(end) {
			log, _ := os.ReadFile(filepath.Join(r.Dir, "jump.log"))
			t.Fatalf("%v\n%s", err, ending(log))
		}
	}
	into(t, r, alice, "after", keysOf(t, r, "session_ca", "active")[0]) // the host trusted it since it was set up
	cmd = bob.Command(ctx, "breakglass", "sessions")
	said.Reset()
	cmd.Stderr = &said
	if err := cmd.Run(); err != nil || !strings.Contains(said.String(), "THE CA WAS REPLACED") || !strings.Contains(said.String(), "signed by alice") {
		t.Errorf("%v\n%s", err, said.String())
	}
	if _, err := os.Stat(filepath.Join(bob.Home, "config", "pins.epoch-1")); err != nil {
		t.Error(err)
	}
	pins, err := bob.Run(ctx, "breakglass", "pins", "--json")
	if err != nil {
		t.Fatal(err)
	}
	trust := filepath.Join(away, "pins")
	if err := os.WriteFile(trust, []byte(pins), 0o600); err != nil {
		t.Fatal(err)
	}
	verified(t, r, trust)
}
