package ca_test

import (
	"context"
	"os"
	"testing"

	"breakglass/ca"
	"breakglass/ca/catest"
)

func TestInitClosesItsDirectory(t *testing.T) {
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	cfg := ca.InitConfig{Dir: dir, PolicyName: "policy.toml", Policy: []byte(catest.Policy), Listen: []string{"127.0.0.1:1"}}
	if _, err := ca.Init(context.Background(), cfg); err != nil {
		t.Fatal(err)
	}
	s, err := os.Stat(dir)
	if err != nil || s.Mode().Perm() != 0o700 {
		t.Errorf("mode %v, %v", s.Mode(), err)
	}
	// A second one would make other keys for the same name.
	if _, err := ca.Init(context.Background(), cfg); err == nil {
		t.Error("a second init over the first passed")
	}
}
