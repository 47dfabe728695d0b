//go:build unix

package geo_test

import (
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"breakglass/policy/geo"
)

// TestAPipeIsNotWaitedFor: whoever may put a file where the database is, can't keep the CA from starting, nor from looking at its policy.
func TestAPipeIsNotWaitedFor(t *testing.T) {
	path := filepath.Join(t.TempDir(), "country.mmdb")
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- geo.New(geo.Config{Country: path}).Reload() }()
	select {
	case err := <-done:
		if err == nil || !strings.Contains(err.Error(), "no regular file") {
			t.Error(err)
		}
	case <-time.After(5 * time.Second):
		t.Error("it waits for the pipe")
	}
}
