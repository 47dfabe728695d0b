package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"breakglass/ca/catest"
)

// TestCheckAsksTheServiceForKeys: who has no key that counts is a warning where the CA's service runs, and nothing is said of it where none does.
func TestCheckAsksTheServiceForKeys(t *testing.T) {
	c := catest.New(t, catest.Config{})
	c.Enrol("alice")
	file := filepath.Join(t.TempDir(), "policy.toml")
	catest.Must(t, os.WriteFile(file, []byte(catest.Policy), 0o600))

	before, err := runs(t, "policy", "check", file, "--dir", c.Dir)
	if err != nil || strings.Contains(before, "key that counts") || strings.Contains(before, "keys that count") {
		t.Errorf("no service runs: %v\n%s", err, before)
	}
	stop, err := serveAdmin(c.Dir, c.CA)
	catest.Must(t, err)
	out, err := runs(t, "policy", "check", file, "--dir", c.Dir)
	if err != nil || !strings.Contains(out, "bob has no key that counts") || strings.Contains(out, "alice has no key that counts") {
		t.Errorf("a service runs: %v\n%s", err, out)
	}
	if !strings.Contains(out, "breakglass-ca invite person bob") {
		t.Errorf("not told what to do:\n%s", out)
	}
	stop()
	if after, err := runs(t, "policy", "check", file, "--dir", c.Dir); err != nil || after != before {
		t.Errorf("the service has gone: %v\n%s\nwant:\n%s", err, after, before)
	}
}
