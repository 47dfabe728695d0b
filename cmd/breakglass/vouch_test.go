package main

import (
	"context"
	"strings"
	"testing"
	"time"

	"breakglass/agent"
	"breakglass/agent/terminal"
	"breakglass/ca/api"
	"breakglass/internal/name"
)

func TestWhenToWarnOfARenewal(t *testing.T) {
	now := time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)
	day := 24 * time.Hour
	for _, c := range []struct {
		left time.Duration
		want string // "" is silence
	}{
		{90 * day, ""},
		{15 * day, ""},
		{14 * day, ""},
		{14*day - time.Minute, "ends in 13 days"},
		{8 * day, "ends in 8 days"},
		{7*day - time.Minute, "ends in 6 days, on"},
		{day + time.Hour, "ends in 1 day, on"},
		{day - time.Minute, "WITHIN A DAY"},
		{0, "ended on"},
		{-3 * day, "ended on"},
	} {
		got := renewWarning(now.Add(c.left), now)
		if (c.want == "") != (got == "") || !strings.Contains(got, c.want) {
			t.Errorf("%v before: %q, want %q", c.left, got, c.want)
		}
	}
}

func TestAVoucherNamesOneKeyAndHearsIt(t *testing.T) {
	key := func(p name.Person, k name.Key, fp string) unvouched {
		return unvouched{&agent.NewKey{Person: p, Key: k, Fingerprint: fp}, api.Enrolment{}}
	}
	keys := []unvouched{key("alice", "desk", "SHA256:aaaaAAAA1111"), key("alice", "safe", "SHA256:bbbbBBBB2222"), key("bob", "desk", "SHA256:ccccCCCC3333")}
	for _, c := range []struct {
		args string
		want string // the fingerprint, or in the error
	}{
		{"bob", "SHA256:ccccCCCC3333"},
		{"alice safe", "SHA256:bbbbBBBB2222"},
		{"alice", "2 keys of alice wait"},
		{"bob safe", `no key of "bob safe" waits`},
		{"carol", `no key of "carol" waits`},
	} {
		k, err := pick(keys, strings.Fields(c.args))
		switch {
		case err == nil && k.Fingerprint != c.want:
			t.Errorf("%s: %s", c.args, k.Fingerprint)
		case err != nil && !strings.Contains(err.Error(), c.want):
			t.Errorf("%s: %v", c.args, err)
		}
	}
	a := &app{term: terminal.New(terminal.Config{Silent: true, Getenv: func(string) string { return "" }})}
	for typed, ok := range map[string]bool{"AAAA1111": true, " AAAA1111 ": true, "aaaa1111": false, "AAAA111": false, "aaaaAAAA1111": false, "BBBB2222": false} {
		if err := a.heard(context.Background(), keys[0], typed); (err == nil) != ok {
			t.Errorf("heard %q: %v", typed, err)
		}
	}
}
