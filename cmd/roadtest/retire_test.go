package roadtest

import (
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"breakglass/internal/road"
)

// thief holds a session CA's private key and signs whatever opens the host.
type thief struct {
	t   *testing.T
	r   *road.Road
	key string // the stolen file
	n   int
}

// try goes into the host with a certificate that no ledger knows.
func (th *thief) try() (string, error) {
	th.t.Helper()
	th.n++
	id := filepath.Join(th.t.TempDir(), "id")
	for _, args := range [][]string{
		{"-q", "-t", "ed25519", "-N", "", "-f", id},
		{"-q", "-s", th.key, "-I", "breakglass:k7f-2mq:bob", "-z", fmt.Sprint(4710 + th.n), "-n", "session:" + th.r.Login + "@" + road.Host, "-V", "-5m:+5m", id + ".pub"},
	} {
		if out, err := exec.CommandContext(th.t.Context(), "ssh-keygen", args...).CombinedOutput(); err != nil {
			th.t.Fatalf("ssh-keygen %v: %v\n%s", args, err, out)
		}
	}
	host, port, _ := strings.Cut(th.r.HostAddress, ":")
	out, err := exec.CommandContext(th.t.Context(), "ssh", "-F", "none", "-i", id, "-o", "IdentitiesOnly=yes", "-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=no",
		"-o", "UserKnownHostsFile=/dev/null", "-p", port, th.r.Login+"@"+host, "echo stolen").CombinedOutput()
	return string(out), err
}

// TestAHostRefusesARetiredKey: a host that nobody visited still lists the old session CA as trusted. The revocation list that it pulls by itself
// takes it away, from a thief who has the key too, and leaves the active one.
func TestAHostRefusesARetiredKey(t *testing.T) {
	list := filepath.Join(t.TempDir(), "breakglass_krl")
	if err := os.WriteFile(list, nil, 0o644); err != nil { // as it is installed: an empty list is a good one
		t.Fatal(err)
	}
	r, alice, _ := start(t, road.Config{HostConfig: "RevokedKeys " + list + "\n"})
	ctx, dir := t.Context(), filepath.Join(r.Dir, "ca")
	ca := func(args ...string) {
		t.Helper()
		if _, err := r.Run(ctx, "breakglass-ca", append(args, "--dir", dir)...); err != nil {
			t.Fatal(err)
		}
	}
	var pins struct {
		Site struct {
			TLS []string `json:"tls"`
		} `json:"site"`
	}
	// pull is the host's timer: the shipped script, with the pins of the site as it is.
	pull := func() {
		t.Helper()
		out, err := alice.Run(ctx, "breakglass", "pins", "--json")
		if err == nil {
			err = json.Unmarshal([]byte(out), &pins)
		}
		if err != nil || len(pins.Site.TLS) == 0 {
			t.Fatalf("%v\n%s", err, out)
		}
		var spki []string
		for _, h := range pins.Site.TLS {
			b, err := hex.DecodeString(h)
			if err != nil {
				t.Fatal(err)
			}
			spki = append(spki, "sha256//"+base64.StdEncoding.EncodeToString(b))
		}
		conf := filepath.Join(t.TempDir(), "krl.conf")
		if err := os.WriteFile(conf, fmt.Appendf(nil, "CA=%q\nPINS=%q\nFILE=%q\n", r.CAAddress, strings.Join(spki, ";"), list), 0o644); err != nil {
			t.Fatal(err)
		}
		cmd := exec.CommandContext(ctx, "../../contrib/hosts/breakglass-krl")
		cmd.Env = append(os.Environ(), "BREAKGLASS_KRL_CONF="+conf)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("the host's script: %v\n%s", err, out)
		}
	}

	old := keysOf(t, r, "session_ca", "active")[0]
	th := &thief{t: t, r: r, key: filepath.Join(t.TempDir(), "session_ca")}
	b, err := os.ReadFile(filepath.Join(dir, "keys", "session_ca"))
	if err == nil {
		err = os.WriteFile(th.key, b, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	pull()
	into(t, r, alice, "before", old)
	if out, err := th.try(); err != nil || !strings.Contains(out, "stolen") {
		t.Fatalf("the key is not as good as it looks: %v\n%s", err, out)
	}

	ca("rotate", "session_ca", "--standby", filepath.Join(dir, "standby-keys", "session_ca"))
	active := keysOf(t, r, "session_ca", "active")[0]
	pull()
	into(t, r, alice, "rotated", active)
	if out, err := th.try(); err != nil {
		t.Fatalf("both are trusted during the overlap: %v\n%s", err, out)
	}

	ca("rotate", "--retire", old)
	pull()
	if out, err := th.try(); err == nil || !strings.Contains(out, "Permission denied") {
		t.Fatalf("the retired key opens the host: %v\n%s", err, out)
	}
	log, err := os.ReadFile(filepath.Join(r.Dir, "sshd.log"))
	if err != nil || !strings.Contains(string(log), "revoked by file "+list) {
		t.Errorf("the host refused it for something else: %v", err)
	}
	into(t, r, alice, "retired", active)
	trusted, err := os.ReadFile(filepath.Join(r.Dir, "host", "setup", "breakglass_session_ca.pub"))
	if err != nil || !strings.Contains(string(trusted), strings.Fields(publicOf(t, th.key))[1]) {
		t.Errorf("the host does not list the old key any more, so this shows nothing: %v", err)
	}
}

// publicOf is the public half of a private key file.
func publicOf(t *testing.T, file string) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "ssh-keygen", "-y", "-f", file).Output()
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}
