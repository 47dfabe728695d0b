package roadtest

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"breakglass/internal/road"
)

// TestSoakDDEitherWay moves more than the journal holds through one session each way: eight MiB times N, four gigabytes in a soak. What came out is what went
// in; the recording says so by hash, and the jump's memory stays within what a few sessions take.
func TestSoakDDEitherWay(t *testing.T) {
	r, alice, bob := start(t, road.Config{})
	ctx := t.Context()
	target := alice.Target()
	if _, err := alice.Run(ctx, "breakglass", "request", "--reason", reason, target); err != nil {
		t.Fatal(err)
	}
	size := int64(min(8*count(t, 2), 4000)) << 20
	most := func() int64 { return peak(t, r.Proc("jump").Cmd.Process.Pid) }
	if _, err := alice.Run(ctx, "breakglass", "ssh", target, "--", "true"); err != nil {
		t.Fatal(err)
	}
	before := most()
	data := func() io.Reader { return io.LimitReader(rand.NewChaCha8([32]byte{7}), size) }
	sum := sha256.New()
	if _, err := io.Copy(sum, data()); err != nil {
		t.Fatal(err)
	}
	want := hex.EncodeToString(sum.Sum(nil))
	file := t.TempDir() + "/data"
	for _, way := range []string{"up", "down"} {
		t.Run(way, func(t *testing.T) {
			began := time.Now()
			var errs bytes.Buffer
			got := sha256.New()
			command := "dd status=none bs=1M of=" + file
			if way == "down" {
				command = "dd status=none bs=1M if=" + file
			}
			cmd := alice.Command(ctx, "breakglass", "ssh", target, "--", command)
			cmd.Stdout, cmd.Stderr = got, &errs
			if way == "up" {
				cmd.Stdin = data()
			}
			if err := cmd.Run(); err != nil {
				t.Fatalf("%v\n%s", err, errs.String())
			}
			if way == "up" {
				f, err := os.Open(file)
				if err != nil {
					t.Fatal(err)
				}
				defer f.Close()
				if _, err := io.Copy(got, f); err != nil {
					t.Fatal(err)
				}
			}
			if hex.EncodeToString(got.Sum(nil)) != want {
				t.Error("other bytes arrived than were sent")
			}
			t.Logf("%d MiB %s in %v, at most %d MiB of the jump's memory more than before", size>>20, way, time.Since(began).Round(time.Millisecond), (most()-before)>>20)
			id := storedLast(t, bob)
			out, err := bob.Run(ctx, "breakglass", "export", id, "--hashes")
			if err != nil || !strings.Contains(out, want) {
				t.Errorf("%s has no stream with that hash: %v\n%s", id, err, tail(out, 20))
			}
		})
	}
	// Buffers of a few uploads and of what is on its way; not what passed.
	if grown := most() - before; grown > 256<<20 {
		t.Errorf("the jump took %d MiB more", grown>>20)
	}
}

// storedLast waits longer than newest does: gigabytes are read back before they count as stored.
func storedLast(t *testing.T, bob *road.Person) string {
	t.Helper()
	for end := time.Now().Add(10 * time.Minute); ; {
		id, err := newest(t.Context(), bob)
		if err == nil {
			return id
		}
		if time.Now().After(end) {
			t.Fatal(err)
		}
	}
}

// peak is the most memory in bytes that a process has had.
func peak(t *testing.T, pid int) int64 {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Skip("no /proc here")
	}
	for line := range strings.Lines(string(b)) {
		if rest, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			kib, err := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(rest), " kB"), 10, 64)
			if err != nil {
				t.Fatal(err)
			}
			return kib << 10
		}
	}
	t.Fatal("no VmHWM")
	return 0
}
