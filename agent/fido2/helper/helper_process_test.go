package helper

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"breakglass/agent/fido2/wire"
)

// script is a helper that misbehaves.
func script(t *testing.T, body string) *Client {
	t.Helper()
	p := filepath.Join(t.TempDir(), "helper")
	if err := os.WriteFile(p, []byte("#!/bin/sh\n"+body+"\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	return &Client{Path: p, Devices: []string{}}
}

func TestHelpersThatMisbehave(t *testing.T) {
	for _, c := range []struct {
		what, body string
		want       error // nil: any
	}{
		{"says nothing and goes", "read l", nil},
		{"talks garbage", "read l; echo hello", wire.ErrProtocol},
		{"answers with a result and an error", `read l; echo '{"result":{},"error":{"code":"failed"}}'`, wire.ErrProtocol},
		{"fails with a code", `read l; echo '{"error":{"code":"no_touch"}}'; exit 1`, wire.NoTouch.Err()},
		{"ignores everything", "trap '' TERM; while :; do sleep 0.05; done", wire.Timeout.Err()},
		{"answers and stays", `read l; echo '{"error":{"code":"no_touch"}}'; exec 1>&-; while :; do sleep 0.05; done`, wire.NoTouch.Err()},
	} {
		t.Run(c.what, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
			defer cancel()
			start := time.Now()
			_, err := script(t, c.body).List(ctx)
			if err == nil || c.want != nil && !errors.Is(err, c.want) {
				t.Errorf("got %v, want %v", err, c.want)
			}
			if d := time.Since(start); d > 2*time.Second+2*killAfter {
				t.Errorf("took %v", d)
			}
		})
	}
	if _, err := (&Client{Path: filepath.Join(t.TempDir(), "none")}).List(t.Context()); !errors.Is(err, wire.NoBackend.Err()) {
		t.Errorf("no helper at all: %v", err)
	}
}

func TestEventsComeBeforeTheAnswer(t *testing.T) {
	c := script(t, `read l; echo '{"event":{"event":"touch","device":{"path":"/dev/x"}}}'; echo '{"result":{"devices":[{"path":"/dev/x"}]}}'`)
	var events []wire.Event
	c.Event = func(e wire.Event) { events = append(events, e) }
	r, err := c.List(t.Context())
	if err != nil || len(r.Devices) != 1 || len(events) != 1 || events[0].Device.Path != "/dev/x" {
		t.Errorf("%+v, %+v, %v", events, r, err)
	}
}

// TestThePINIsInThePipeAlone: neither argument nor environment.
func TestThePINIsInThePipeAlone(t *testing.T) {
	out := filepath.Join(t.TempDir(), "seen")
	c := script(t, `{ echo "args: $*"; env; } > `+out+`; read l; echo '{"error":{"code":"no_touch"}}'`)
	_, err := c.Sign(t.Context(), SignRequest{Application: "ssh:breakglass", Keys: []wire.Key{{CredentialID: []byte("i"), PublicKey: []byte("p")}}, Data: []byte("x"), PIN: []byte("918273")})
	if !errors.Is(err, wire.NoTouch.Err()) {
		t.Fatal(err)
	}
	b, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range []string{"918273", "OTE4Mjcz"} {
		if len(b) == 0 || bytes.Contains(b, []byte(s)) {
			t.Errorf("the helper's arguments or environment have the PIN: %s", b)
		}
	}
}
