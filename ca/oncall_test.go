package ca

import (
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"breakglass/policy"
)

// TestAHungFileSystemHoldsNobodyUp: a list that can't be looked at in time is unknown, whoever asks meanwhile doesn't wait for it at all and
// starts no second look, and once the file system is back the list is known again.
func TestAHungFileSystemHoldsNobodyUp(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "sre.txt"), []byte("alice\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	rosters := []*policy.Roster{{Name: "sre", File: "sre.txt", MaxAge: time.Hour}}
	l := newOnCallLists(dir)
	var hangs atomic.Bool
	var looks atomic.Int32
	back := make(chan struct{})
	l.file = func(path string, last *onCallFile) *onCallFile {
		looks.Add(1)
		if hangs.Load() {
			<-back
		}
		return readOnCall(path, last)
	}
	known := func() bool {
		x := l.look(rosters)["sre.txt"]
		return x != nil && x.fault == "" && x.list.On("alice", time.Now()) == policy.Yes
	}
	if !known() {
		t.Fatal("alice is not on call by a list that can be read")
	}

	hangs.Store(true)
	start := time.Now()
	if l.look(rosters) != nil {
		t.Error("a list that hangs is known")
	}
	if took := time.Since(start); took < onCallWait {
		t.Errorf("gave up after %v, before %v", took, onCallWait)
	}
	var others sync.WaitGroup
	start = time.Now()
	for range 200 { // one after another within each they would take onCallWait every time
		others.Go(func() {
			for range 100 {
				if l.look(rosters) != nil {
					t.Error("a list that hangs is known to somebody else")
				}
			}
		})
	}
	others.Wait()
	if took := time.Since(start); took > 50*onCallWait {
		t.Errorf("the others waited too: %v", took)
	}
	if n := looks.Load(); n != 2 {
		t.Errorf("%d looks, want the good one and the one that hangs", n)
	}

	hangs.Store(false)
	close(back)
	for deadline := time.Now().Add(30 * time.Second); !known(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the file system is back, and the list is not known")
		}
	}
}

// TestPeopleReadWhyAListIsNotKnown: that it takes too long, of the person's decision and of the status.
func TestPeopleReadWhyAListIsNotKnown(t *testing.T) {
	p, err := policy.Parse("p.toml", []byte(strings.ReplaceAll(`profile = "demo"
[site]
name = "t"
owners = ["alice"]
operators = ["alice"]
readers = ["alice"]
[people.alice]
[oncall.sre]
file = "sre.txt"
[hosts.web01]
address = ["10.0.0.1:22"]
host_keys = ["KEY"]
[[rule]]
name = "r"
why = "w"
who = ["alice"]
hosts = ["web01"]
logins = ["root"]
minutes = 5
oncall = ["sre"]
`, "KEY", "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHdFt/hc1p+UaYXzM+kRk6MxNFL6+TNyilBfU67tbDOO")))
	if err != nil {
		t.Fatal(err)
	}
	l := newOnCallLists(t.TempDir())
	back := make(chan struct{})
	defer close(back)
	l.file = func(path string, last *onCallFile) *onCallFile {
		<-back
		return readOnCall(path, last)
	}
	const want = "reading the list takes too long"
	if f := l.facts(p, "alice", time.Now()); len(f) != 1 || f[0].On != policy.Unknown || f[0].Doubt != want {
		t.Errorf("facts %+v", f)
	}
	if s := l.status(p, time.Now()); len(s) != 1 || s[0].Fault != want || s[0].People != 0 || !s[0].Written.IsZero() {
		t.Errorf("status %+v", s)
	}
}
