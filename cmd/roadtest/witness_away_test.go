package roadtest

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"breakglass/internal/road"
)

// The only witness is away: everything goes on, verify says that it is unwitnessed, and what was decided meanwhile is cosigned when it is back.
func TestWitnessesAreAway(t *testing.T) {
	r, alice, bob := start(t, road.Config{})
	ctx := t.Context()
	if _, err := alice.Run(ctx, "breakglass", "ssh", "--reason", reason, alice.Target(), "--", "echo witnessed"); err != nil {
		t.Fatal(err)
	}
	first, err := newest(ctx, bob)
	if err != nil {
		t.Fatal(err)
	}
	// The jump is the witness. What it can't do now is let people in; the CA decides all the same.
	r.End("jump", true)
	out, err := alice.Run(ctx, "breakglass", "request", "--reason", reason, "--json", alice.Target())
	if err != nil {
		t.Fatalf("no grant without a witness: %v", err)
	}
	var asked struct {
		Request string `json:"request"`
		ID      string `json:"id"`
	}
	if err := json.Unmarshal([]byte(out), &asked); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	id := asked.Request + asked.ID
	out, err = bob.Run(ctx, "breakglass", "verify", id)
	if err == nil || !strings.HasPrefix(out, "VERIFIED-UNTIL") || !strings.Contains(out, "cosigned by 0 of 1 wanted") {
		t.Errorf("without its witness: %v\n%s", err, out)
	}
	var status struct {
		Entries   int64 `json:"entries"`
		Witnesses struct {
			Quorum   int   `json:"quorum"`
			Cosigned int64 `json:"cosigned"`
		} `json:"witnesses"`
	}
	look := func() {
		t.Helper()
		out, err := r.Run(ctx, "breakglass-ca", "status", "--json", "--dir", filepath.Join(r.Dir, "ca"))
		if err == nil {
			err = json.Unmarshal([]byte(out), &status)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	look()
	if w := status.Witnesses; w.Quorum != 1 || w.Cosigned >= status.Entries || w.Cosigned == 0 {
		t.Errorf("%+v", status)
	}
	if err := r.StartJump(ctx); err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(waitTime); ; time.Sleep(200 * time.Millisecond) {
		if look(); status.Witnesses.Cosigned == status.Entries {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("never cosigned: %+v", status)
		}
	}
	for _, id := range []string{first, id} {
		if out, err := bob.Run(ctx, "breakglass", "verify", id); err != nil || !strings.HasPrefix(out, "VERIFIED\n") || !strings.Contains(out, "cosigned by jump-a (1 of 1 wanted)") {
			t.Errorf("%s, with the witness back: %v\n%s", id, err, out)
		}
	}
	// It was killed in the middle of its work and has one history.
	if refused, _ := filepath.Glob(filepath.Join(r.Dir, "jump", "witness", "refused-*")); len(refused) != 0 {
		text, _ := os.ReadFile(refused[0])
		t.Errorf("it refused:\n%s", text)
	}
}
