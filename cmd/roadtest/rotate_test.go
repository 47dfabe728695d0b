package roadtest

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"breakglass/internal/road"
)

// keysOf lists the CA's keys of a kind and state.
func keysOf(t *testing.T, r *road.Road, key, state string) []string {
	t.Helper()
	out, err := r.Run(t.Context(), "breakglass-ca", "keys", "--dir", filepath.Join(r.Dir, "ca"), "--json")
	if err != nil {
		t.Fatal(err)
	}
	var list struct {
		Keys []struct{ Key, State, Fingerprint string }
	}
	if err := json.Unmarshal([]byte(out), &list); err != nil {
		t.Fatal(err)
	}
	var fps []string
	for _, k := range list.Keys {
		if k.Key == key && k.State == state {
			fps = append(fps, k.Fingerprint)
		}
	}
	return fps
}

// into runs a command on the host and demands that its sshd named the CA key.
func into(t *testing.T, r *road.Road, alice *road.Person, marker, ca string) {
	t.Helper()
	out, err := alice.Run(t.Context(), "breakglass", "ssh", "--reason", reason, r.Login+"@"+road.Host, "--", "echo", marker)
	if err != nil || !strings.Contains(out, marker) {
		t.Fatalf("%s: %v\n%s", marker, err, out)
	}
	log, err := os.ReadFile(filepath.Join(r.Dir, "sshd.log"))
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(string(log), "\n")
	for i := len(lines) - 1; i >= 0; i-- {
		if strings.Contains(lines[i], "Accepted publickey") {
			if !strings.Contains(lines[i], "CA ED25519 "+ca) {
				t.Errorf("%s: sshd says %s, want %s", marker, lines[i], ca)
			}
			return
		}
	}
	t.Errorf("%s: sshd accepted nobody", marker)
}

// TestRotationOnTheRoad rotates every key twice while everything runs, and holds the host's own log against the ledger: nobody touches the host for
// the first, and between the two it gets the new list.
func TestRotationOnTheRoad(t *testing.T) {
	r, alice, _ := start(t, road.Config{})
	ctx, dir := t.Context(), filepath.Join(r.Dir, "ca")
	ca := func(args ...string) string {
		t.Helper()
		out, err := r.Run(ctx, "breakglass-ca", append(args, "--dir", dir)...)
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	into(t, r, alice, "before", keysOf(t, r, "session_ca", "active")[0])
	for round, name := range []string{"first", "second"} {
		for _, k := range []string{"client_ca", "session_ca", "host_ca", "tls"} {
			file := filepath.Join(dir, "standby-keys", k)
			if round > 0 {
				found, err := filepath.Glob(file + "-*")
				if err != nil || len(found) != 1 {
					t.Fatalf("the new standby %s: %v, %v", k, found, err)
				}
				file = found[0]
			}
			ca("rotate", k, "--standby", file)
		}
		if round == 0 {
			into(t, r, alice, name, keysOf(t, r, "session_ca", "active")[0])
			ca("host", "setup", road.Host, "--out", filepath.Join(r.Dir, "host", "setup")) // at leisure, before the next
			for _, k := range []string{"session_ca", "host_ca", "tls"} {                   // alice's certificate, by the old client CA, is alive
				ca("rotate", "--retire", keysOf(t, r, k, "trusted")[0])
			}
		}
		// A client follows the site with each new request. Hers is alive already; between two rotations it has to be heard of once.
		if _, err := alice.Run(ctx, "breakglass", "pins"); err != nil {
			t.Fatal(err)
		}
		into(t, r, alice, name+" again", keysOf(t, r, "session_ca", "active")[0])
	}
	into(t, r, alice, "after", keysOf(t, r, "session_ca", "active")[0])
	r.End("jump", false) // what it heard it has kept
	if err := r.StartJump(ctx); err != nil {
		t.Fatal(err)
	}
	into(t, r, alice, "restarted", keysOf(t, r, "session_ca", "active")[0])

	log := filepath.Join(r.Dir, "sshd.log")
	if out := ca("reconcile", log); !strings.HasPrefix(out, "RECONCILED\n") {
		t.Errorf("the host's log: %s", out)
	}
	stolen(t, r, dir, log)
}

// stolen signs a certificate with the CA's own key, behind the CA's back, goes into the host with it, and demands that reconcile names it.
func stolen(t *testing.T, r *road.Road, dir, log string) {
	t.Helper()
	ctx, tmp := t.Context(), t.TempDir()
	run := func(name string, args ...string) {
		t.Helper()
		if out, err := exec.CommandContext(ctx, name, args...).CombinedOutput(); err != nil {
			t.Fatalf("%s %v: %v\n%s", name, args, err, out)
		}
	}
	found, err := filepath.Glob(filepath.Join(dir, "keys", "session_ca-*"))
	if err != nil || len(found) == 0 {
		t.Fatal(found, err)
	}
	newest := found[0]
	for _, f := range found {
		a, err1 := os.Stat(f)
		b, err2 := os.Stat(newest)
		if err1 == nil && err2 == nil && a.ModTime().After(b.ModTime()) {
			newest = f
		}
	}
	id := filepath.Join(tmp, "id")
	run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", id)
	run("ssh-keygen", "-q", "-s", newest, "-I", "breakglass:k7f-2mq:bob", "-z", "4711", "-n", "session:"+r.Login+"@"+road.Host, "-V", "-5m:+5m", id+".pub")
	host, port, _ := strings.Cut(r.HostAddress, ":")
	run("ssh", "-F", "none", "-i", id, "-o", "IdentitiesOnly=yes", "-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-p", port, r.Login+"@"+host, "true")
	for end := time.Now().Add(5 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		out, err := r.Run(ctx, "breakglass-ca", "reconcile", log, "--dir", dir, "--json")
		var got struct {
			Verdict  string
			Findings []struct{ Code, Serial string }
		}
		if err != nil && strings.Contains(out, `"unrecorded"`) {
			if e := json.Unmarshal([]byte(out), &got); e != nil || got.Verdict != "FAILED" || len(got.Findings) != 1 || got.Findings[0].Serial != "4711" || !strings.Contains(err.Error(), "exit status 20") {
				t.Errorf("%v, %v\n%s", err, e, out)
			}
			return
		}
		if time.Now().After(end) {
			t.Fatalf("nobody misses the stolen certificate: %v\n%s", err, out)
		}
	}
}
