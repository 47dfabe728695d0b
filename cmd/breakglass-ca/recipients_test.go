package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"filippo.io/age"

	"breakglass/ca"
	"breakglass/ca/catest"
)

// TestPolicyCheckLooksAtReaders: a policy that would have nobody read, or two kinds of recipient in one envelope, is found before it is signed.
func TestPolicyCheckLooksAtReaders(t *testing.T) {
	c := catest.New(t, catest.Config{})
	carol, bob := c.Enrol("carol"), c.Enrol("bob")
	classical, err := age.GenerateX25519Identity()
	catest.Must(t, err)
	hybrid, err := age.GenerateHybridIdentity()
	catest.Must(t, err)
	_, err = carol.Recipient(classical.Recipient().String()) // carol is no reader yet
	catest.Must(t, err)
	_, err = bob.Recipient(hybrid.Recipient().String())
	catest.Must(t, err)
	stop, err := serveAdmin(c.Dir, c.CA)
	catest.Must(t, err)
	defer stop()
	for _, x := range []struct {
		readers, want string
		fails         bool
	}{
		{`["bob"]`, "", false},
		{`["bob", "carol"]`, "two kinds", true},
		{`["alice"]`, "none of its readers has an identity", true},
	} {
		file := filepath.Join(t.TempDir(), "policy.toml")
		catest.Must(t, os.WriteFile(file, []byte(strings.Replace(catest.Policy, `readers = ["bob"]`, "readers = "+x.readers, 1)), 0o600))
		out, err := runs(t, "policy", "check", file, "--dir", c.Dir)
		if (err != nil) != x.fails || !strings.Contains(out, x.want) || x.want == "" && (strings.Contains(out, "two kinds") || strings.Contains(out, "none of its readers")) {
			t.Errorf("readers = %s: %v\n%s", x.readers, err, out)
		}
	}

	out, err := runs(t, "recipients", "--dir", c.Dir)
	if err != nil || !strings.Contains(out, "carol   passphrase  no: no reader") || !strings.Contains(out, "all post-quantum; the set is entry") {
		t.Errorf("recipients: %v\n%s", err, out)
	}
	for _, line := range strings.Split(out, "\n") {
		if len(line) > 80 {
			t.Errorf("too long for a terminal: %q", line)
		}
	}
	var l ca.RecipientList
	out, err = runs(t, "recipients", "--json", "--dir", c.Dir)
	if err != nil || json.Unmarshal([]byte(out), &l) != nil || len(l.Recipients) != 2 || !l.Recipients[1].Counts || l.Recipients[0].Counts {
		t.Errorf("recipients --json: %v\n%s", err, out)
	}
	if out, err = runs(t, "recipients", "check", "--dir", c.Dir); err != nil || !strings.Contains(out, "bob alone can read") || !strings.Contains(out, "hint: ") {
		t.Errorf("recipients check: %v\n%s", err, out)
	}
}

// TestARecoveryFileIsOneRecipient: whatever else is in it, the secret half above all, goes nowhere.
func TestARecoveryFileIsOneRecipient(t *testing.T) {
	id, err := age.GenerateHybridIdentity()
	catest.Must(t, err)
	good := id.Recipient().String()
	for what, text := range map[string]string{
		"nothing": "", "two": good + "\n" + good + "\n", "the secret half": id.String() + "\n", "another word": "hello\n",
	} {
		file := filepath.Join(t.TempDir(), "recovery.pub")
		catest.Must(t, os.WriteFile(file, []byte(text), 0o600))
		if got, err := readRecovery(file); err == nil || strings.Contains(err.Error(), "AGE-SECRET") {
			t.Errorf("%s: %q, %v", what, got, err)
		}
	}
	file := filepath.Join(t.TempDir(), "recovery.pub")
	catest.Must(t, os.WriteFile(file, []byte("# made in the vault\n\n"+good+"\n"), 0o600))
	if got, err := readRecovery(file); err != nil || got != good {
		t.Errorf("%q, %v", got, err)
	}
}
