package roadtest

import (
	"context"
	"strings"
	"testing"
	"time"

	"breakglass/internal/road"
)

// ended waits for the person's shell to end, which said want, and gives the time that passed since the stop was answered.
func ended(t *testing.T, x *terminal, since time.Time, want string) time.Duration {
	t.Helper()
	x.wait()
	took := time.Since(since)
	if !strings.Contains(x.text(), want) {
		t.Errorf("the person doesn't read %q:\n%s", want, tail(x.text(), 12))
	}
	return took
}

// A live shell ends within a second of the order, whatever was revoked; the person reads by whom and why.
func TestALiveShellEndsWithARevocation(t *testing.T) {
	_, alice, bob := start(t, road.Config{})
	ctx := t.Context()
	open := func() (*terminal, string) {
		x := openTerminal(t, alice.Command(ctx, "breakglass", "ssh", "--reason", reason, alice.Target()))
		x.until("recorded")
		x.typ("PS1='> '; echo sum $((40+2))\r")
		x.until("sum 42")
		return x, running(ctx, t, bob)
	}
	for _, c := range []struct {
		what string
		stop func(id string) (string, error)
		want string
	}{
		{"revoke grant", func(id string) (string, error) {
			return alice.Run(ctx, "breakglass-ca", "revoke", "grant", strings.Split(id, "/")[0], "--reason", "laptop stolen")
		}, "revoked by alice: laptop stolen"},
	} {
		x, id := open()
		began := time.Now()
		out, err := c.stop(id)
		if err != nil {
			t.Fatalf("%s: %v\n%s", c.what, err, out)
		}
		answered := time.Now()
		took := ended(t, x, answered, c.want)
		t.Logf("%s: command %v, then %v until the shell was gone", c.what, answered.Sub(began).Round(time.Millisecond), took.Round(time.Millisecond))
		if took > time.Second {
			t.Errorf("%s: the shell ended %v after the answer", c.what, took)
		}
	}
}

// running is the id of the session that runs.
func running(ctx context.Context, t *testing.T, p *road.Person) string {
	t.Helper()
	list, err := sessions(ctx, p)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range list {
		if s.State == "open" {
			return s.ID
		}
	}
	t.Fatalf("no session runs: %+v", list)
	return ""
}
