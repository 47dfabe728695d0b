package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"breakglass/agent/reader"
	"breakglass/ca/api"
	"breakglass/ca/catest"
	"breakglass/internal/softkey"
	"breakglass/transcript"
)

// stockAge is the age that opens post-quantum envelopes: Debian 12's (1.1) knows none. `make tools` installs it.
func stockAge(t *testing.T) string {
	t.Helper()
	tool, err := filepath.Abs(filepath.Join("..", "..", "build", "tools", "age"))
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range []string{tool, "age"} {
		out, err := exec.Command(p, "--version").Output()
		var major, minor int
		if n, _ := fmt.Sscanf(string(out), "v%d.%d", &major, &minor); err == nil && n == 2 && (major > 1 || minor >= 3) {
			return p
		}
	}
	t.Skip("no age 1.3 or newer: make tools")
	return ""
}

// openEnvelope has stock age open an envelope of ours with an exported identity.
func (r *road) openEnvelope(recipient, identity string) {
	r.Helper()
	to, err := transcript.ParseRecipients([]string{recipient})
	if err != nil {
		r.Fatal(err)
	}
	k := transcript.NewKey()
	env, err := transcript.Envelope(to, k)
	if err != nil {
		r.Fatal(err)
	}
	out, err := exec.Command(stockAge(r.T), "-d", "-i", identity, r.write("envelope", string(env), 0o600)).Output()
	if err != nil || !bytes.Equal(out, k[:]) {
		r.Errorf("stock age: %v", err)
	}
}

func TestAReviewersIdentityIsSealedUnderTheirKey(t *testing.T) {
	r := newRoad(t)
	r.ok("breakglass", "enroll", r.ca.Token("bob").String())
	before := r.touches.Load()
	res := r.ok("breakglass", "reviewer", "init", "--json")
	if n := r.touches.Load() - before; n != 3 {
		t.Errorf("%d touches, want one to make the credential, one to derive and one to sign", n)
	}
	var st api.RecipientState
	if err := json.Unmarshal([]byte(res.out), &st); err != nil || !st.Reader || !strings.HasPrefix(st.Age, "age1pq1") {
		t.Errorf("%+v, %v", st, err)
	}
	path := filepath.Join(r.home, "config", readerFile)
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if st, _ := os.Stat(path); st.Mode().Perm() != 0o600 {
		t.Errorf("mode %v", st.Mode())
	}
	f, err := reader.Parse(b)
	if err != nil || f.Recipient != st.Age || len(f.Wraps) != 1 {
		t.Fatalf("%+v, %v", f, err)
	}
	r.wants(1, []string{"identity already"}, "breakglass", "reviewer", "init")
	if out := r.ok("breakglass", "reviewer", "show").out; !strings.Contains(out, string(f.Wraps[0].Name)+"  ") || !strings.Contains(out, "yes") || strings.Contains(out, "SECRET") {
		t.Error(out)
	}
	exported := filepath.Join(r.home, "exported")
	before = r.touches.Load()
	r.ok("breakglass", "reviewer", "export", "-o", exported)
	if n := r.touches.Load() - before; n != 1 {
		t.Errorf("%d touches to open", n)
	}
	r.openEnvelope(st.Age, exported)
	r.wants(1, nil, "breakglass", "reviewer", "export", "-o", exported) // never over another file

	// The PIN left out by the key, nobody touches, wrong PINs.
	fresh := filepath.Join(r.home, "fresh")
	r.key.SetFaults(softkey.Faults{NoUV: true})
	r.wants(12, []string{"verification"}, "breakglass", "reviewer", "export", "-o", fresh)
	r.key.SetFaults(softkey.Faults{DenyTouch: true})
	r.wants(12, []string{"error: no_touch", "hint:"}, "breakglass", "reviewer", "export", "-o", fresh)
	r.key.SetFaults(softkey.Faults{})
	r.write("askpass", "#!/bin/sh\necho 000000\n", 0o700)
	r.wants(12, []string{"takes no more PINs", "hint: unplug the key"}, "breakglass", "reviewer", "export", "-o", fresh)
	if _, err := os.Stat(fresh); err == nil {
		t.Error("wrote something")
	}
}

func TestAnIdentityAndItsKeys(t *testing.T) {
	r := newRoad(t)
	r.ok("breakglass", "enroll", r.ca.Token("bob").String())
	r.ok("breakglass", "reviewer", "init")
	first, fresh := r.key, filepath.Join(r.home, "fresh")
	r.wants(1, []string{"opens it already", "hint: breakglass enroll"}, "breakglass", "reviewer", "add-key")

	// A second key of bob's.
	second, err := softkey.Open(softkey.Config{PIN: pin})
	if err != nil {
		t.Fatal(err)
	}
	defer second.Close()
	r.env = append(r.env, "BREAKGLASS_FIDO2_DEVICE="+second.Path())
	r.wants(12, []string{"none of the keys", "hint: plug in", "breakglass reviewer show"}, "breakglass", "reviewer", "export", "-o", fresh)
	r.ok("breakglass", "enroll", r.ca.Token("bob").String(), "--key-name", "red")
	r.env = append(r.env, "BREAKGLASS_FIDO2_DEVICE="+first.Path()+":"+second.Path())
	r.ok("breakglass", "reviewer", "add-key")
	r.env = append(r.env, "BREAKGLASS_FIDO2_DEVICE="+second.Path())
	r.ok("breakglass", "reviewer", "export", "-o", fresh)

	// Both plugged in: a rotation seals under both, and each opens it.
	r.env = append(r.env, "BREAKGLASS_FIDO2_DEVICE="+first.Path()+":"+second.Path())
	r.ok("breakglass", "reviewer", "rotate")
	for i, k := range []*softkey.Key{first, second} {
		r.env = append(r.env, "BREAKGLASS_FIDO2_DEVICE="+k.Path())
		r.ok("breakglass", "reviewer", "export", "-o", fmt.Sprint(fresh, "both", i))
	}
	// Without the helper there is no way in, and the hint says what is missing.
	r.wants(12, []string{"no_backend", "hint: install breakglass-fido2"}, "env", "BREAKGLASS_FIDO2=/nowhere/breakglass-fido2", filepath.Join(bin, "breakglass"), "reviewer", "export", "-o", fresh+"x")

	// The lines' salts exchanged: neither key opens the file.
	path := filepath.Join(r.home, "config", readerFile)
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	f, err := reader.Parse(good)
	if err != nil || len(f.Wraps) != 2 {
		t.Fatal(err)
	}
	f.Wraps[0].Salt, f.Wraps[1].Salt = f.Wraps[1].Salt, f.Wraps[0].Salt
	r.write(filepath.Join("config", readerFile), string(f.Marshal()), 0o600)
	r.wants(12, []string{"does not open", "hint: put back a copy"}, "breakglass", "reviewer", "export", "-o", fresh+"2")
	r.write(filepath.Join("config", readerFile), string(good), 0o600)
	r.ok("breakglass", "reviewer", "export", "-o", fresh+"3")
	// One of them is lost: its owner is told what that means for what they can read.
	r.wants(0, []string{"opens your reading identity", "breakglass reviewer rotate"}, "breakglass", "lost", "--yes", "key-1")
	r.ok("breakglass", "reviewer", "rotate")
	r.env = append(r.env, "BREAKGLASS_FIDO2_DEVICE="+first.Path())
	r.wants(12, []string{"none of the keys"}, "breakglass", "reviewer", "export", "-o", fresh+"4")
	r.write(filepath.Join("config", readerFile), "garbage\n", 0o600)
	r.wants(1, []string{"not a reader's identity", "hint:"}, "breakglass", "reviewer", "show")
}

func TestAKeyThatCantSeal(t *testing.T) {
	r := newRoadOf(t, catest.Config{}, softkey.Config{NoHMACSecret: true})
	r.ok("breakglass", "enroll", r.ca.Token("bob").String())
	r.wants(12, []string{"hmac-secret", "hint: breakglass reviewer init --passphrase"}, "breakglass", "reviewer", "init")
	if _, err := os.Stat(filepath.Join(r.home, "config", readerFile)); err == nil {
		t.Error("left a file")
	}
}

func TestAReviewersIdentityByPassphrase(t *testing.T) {
	r := newRoad(t)
	r.ok("breakglass", "enroll", r.ca.Token("bob").String())
	var st api.RecipientState
	if err := json.Unmarshal([]byte(r.ok("breakglass", "reviewer", "init", "--passphrase", "--json").out), &st); err != nil || !st.Reader || !strings.HasPrefix(st.Age, "age1pq1") {
		t.Errorf("%+v, %v", st, err)
	}
	path := filepath.Join(r.home, "config", "identity.age")
	b, err := os.ReadFile(path)
	if err != nil || !bytes.HasPrefix(b, []byte("age-encryption.org/v1\n-> scrypt ")) {
		t.Errorf("%v: %.60q", err, b)
	}
	if st, _ := os.Stat(path); st.Mode().Perm() != 0o600 {
		t.Errorf("mode %v", st.Mode())
	}
	r.wants(1, []string{"identity already"}, "breakglass", "reviewer", "init")
	exported := filepath.Join(r.home, "exported")
	r.ok("breakglass", "reviewer", "export", "-o", exported)
	r.openEnvelope(st.Age, exported)
	os.Remove(path)
	r.write("passphrase", "short\n", 0o600)
	r.wants(2, []string{"fewer than 12"}, "breakglass", "reviewer", "init", "--passphrase")
}
