package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"breakglass/ca/catest"
	"breakglass/internal/attest/attesttest"
	"breakglass/internal/softkey"
	"breakglass/ledger"
)

// production is a site that takes only the vendor's keys.
func production(v *attesttest.Vendor) catest.Config {
	return catest.Config{Policy: strings.Replace(catest.Policy, `"demo"`, `"production"`, 1) + "\n" + v.PolicyText(), Vendor: v}
}

func (r *road) enrolled() (out []*ledger.KeyEnrolled) {
	for _, e := range r.ca.Entries() {
		if f, ok := e.Facts.(*ledger.KeyEnrolled); ok {
			out = append(out, f)
		}
	}
	return out
}

// Real libfido2 in the real helper, a key of a listed model, a production CA: it is enrolled, and the audit finds it proved.
func TestAListedKeyEnrolsInProduction(t *testing.T) {
	v := attesttest.New(t)
	r := newRoadOf(t, production(v), v.Key(pin))
	r.enroll()
	if n := r.touches.Load(); n != 2 {
		t.Errorf("%d touches", n)
	}
	if k := r.enrolled(); len(k) != 1 || k[0].Software || k[0].Attestation.Model != v.Name {
		t.Errorf("recorded %+v", k)
	}
	r.ca.Audit()
}

func TestTheSoftwareKeyEnrolsNowhereButInADemo(t *testing.T) {
	v := attesttest.New(t)
	for what, c := range map[string]struct {
		key softkey.Config
		why string
	}{
		"as it is":                           {softkey.Config{}, "software key"},
		"with a root of its own":             {softkey.Config{Attestation: softkey.AttestBasic}, "software key"},
		"lying about its model":              {softkey.Config{AAGUID: v.AAGUID, Attestation: softkey.AttestBasic}, "no root"},
		"lying about its model, by its word": {softkey.Config{AAGUID: v.AAGUID}, "signed for itself"},
	} {
		r := newRoadOf(t, production(v), c.key)
		before := r.touches.Load()
		r.wants(exitDenied, []string{"attestation_refused", c.why, v.Name}, "breakglass", "enroll", r.ca.Token("alice").String())
		if n := r.touches.Load() - before; n != 1 { // it is not asked to sign for what is refused
			t.Errorf("%s: %d touches", what, n)
		}
		if len(r.enrolled()) != 0 {
			t.Errorf("%s: enrolled", what)
		}
	}
}

// A laptop with stock tools: ssh-keygen makes the credential over its own libfido2.
func TestStockSSHKeygenEnrolsInProduction(t *testing.T) {
	v := attesttest.New(t)
	r := newRoadOf(t, production(v), v.Key(pin))
	res := r.ok("breakglass", "enroll", "--ssh-keygen", "--key-name", "stock", r.ca.Token("alice").String())
	for _, text := range []string{"ssh-keygen -t ecdsa-sk", "-O application=ssh:breakglass", "-O write-attestation=", "stock is enrolled for alice"} {
		if !strings.Contains(res.err, text) {
			t.Errorf("said no %q:\n%s", text, res.err)
		}
	}
	if k := r.enrolled(); len(k) != 1 || k[0].Software || k[0].Attestation.Model != v.Name || len(k[0].Attestation.Chain) != 2 {
		t.Errorf("recorded %+v", k)
	}
	if res := r.ok("breakglass", "keys"); !strings.Contains(res.out, "stock") {
		t.Errorf("keys:\n%s", res.out)
	}
	r.ca.Audit()
}

// The same in two steps, for a key that is plugged in elsewhere, with the command as it was printed.
func TestEnrollingInTwoSteps(t *testing.T) {
	v := attesttest.New(t)
	r := newRoadOf(t, production(v), v.Key(pin))
	dir := t.TempDir()
	file := func(n string) string { return filepath.Join(dir, n) }
	token := r.ca.Token("alice").String()
	finish := []string{"breakglass", "enroll", token, "--key-file", file("id"), "--attestation", file("attestation")}
	r.wants(exitUsage, []string{"no enrolment was begun", "--challenge-out"}, finish[0], finish[1:]...)
	keygen := func(challenge string) {
		t.Helper()
		printed := r.ok("breakglass", "enroll", token, "--challenge-out", challenge).out
		cmd := exec.Command("sh", "-c", strings.TrimSpace(printed)+" -q -O device="+r.key.Path())
		cmd.Dir, cmd.Env = dir, r.env
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%s: %v\n%s", printed, err, out)
		}
	}
	keygen(file("challenge"))
	// The files of another key, and a challenge that was given out anew meanwhile.
	for n, to := range map[string]string{"id": "other", "id.pub": "other.pub", "attestation": "old"} {
		if err := os.Rename(file(n), file(to)); err != nil {
			t.Fatal(err)
		}
	}
	keygen(file("challenge"))
	r.wants(exitUsage, []string{"not the files of one new security key", "another key"}, "breakglass", "enroll", token, "--key-file", file("other"), "--attestation", file("attestation"))
	r.wants(exitUsage, []string{"ssh-keygen"}, "breakglass", "enroll", token, "--key-file", file("id"), "--attestation", file("id"))
	r.wants(exitUsage, []string{"go together"}, "breakglass", "enroll", token, "--key-file", file("id"))
	r.wants(exitUsage, []string{"three ways"}, "breakglass", "enroll", token, "--ssh-keygen", "--challenge-out", file("x"))
	r.wants(exitUsage, []string{"is of key"}, "breakglass", "enroll", token, "--key-name", "another", "--key-file", file("id"), "--attestation", file("attestation"))
	r.wants(exitDenied, []string{"attestation_refused", "attestation's signature"}, "breakglass", "enroll", token, "--key-file", file("other"), "--attestation", file("old"))
	// The challenge is used up by that: again, and right.
	for _, n := range []string{"id", "id.pub", "attestation"} {
		if err := os.Remove(file(n)); err != nil {
			t.Fatal(err)
		}
	}
	keygen(file("challenge"))
	r.ok(finish[0], finish[1:]...)
	if k := r.enrolled(); len(k) != 1 || k[0].Attestation.Model != v.Name {
		t.Errorf("recorded %+v", k)
	}
	r.wants(exitUsage, []string{"no enrolment was begun"}, finish[0], append([]string{"enroll", "--key-name", "two"}, finish[2:]...)...)
	r.ca.Audit()
}
