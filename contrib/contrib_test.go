// Package contrib_test keeps the examples of this directory true: stock tools read them, and those that a program also writes are
// what it writes.
package contrib_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"breakglass/agent/sshconfig"
)

// example is the installation that ssh/breakglass.conf shows.
var example = sshconfig.Block{
	Program: "/usr/bin/breakglass", Run: "/run/user/1000/breakglass", KnownHosts: "/home/alice/.config/breakglass/known_hosts",
	Hosts: []string{"web*", "db*"}, JumpSocket: "/run/user/1000/breakglass/jumps.sock",
	Jumps: []sshconfig.Jump{{Name: "jump-a", IP: "203.0.113.10", Port: "22"}},
}

func TestSSHConfigIsWhatInstallWrites(t *testing.T) {
	want, err := example.Text()
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile("ssh/breakglass.conf")
	if err != nil {
		t.Fatal(err)
	}
	if os.Getenv("UPDATE") != "" {
		head, _, ok := strings.Cut(string(text), "# Written by")
		if !ok {
			t.Fatal("no place for it: a line that begins with # Written by")
		}
		text = []byte(head + want)
		if err := os.WriteFile("ssh/breakglass.conf", text, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if !strings.HasSuffix(string(text), want) {
		t.Error("ssh/breakglass.conf ends otherwise; UPDATE=1 go test ./contrib writes it anew")
	}
}

// TestSSHDReadsTheDropIn has the stock sshd judge it.
func TestSSHDReadsTheDropIn(t *testing.T) {
	sshd, err := exec.LookPath("/usr/sbin/sshd")
	if err != nil {
		t.Skip("no sshd here")
	}
	key := filepath.Join(t.TempDir(), "host_key")
	if out, err := exec.Command("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	drop, err := filepath.Abs("sshd/50-breakglass.conf")
	if err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command(sshd, "-T", "-f", drop, "-h", key).CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, want := range []string{"trustedusercakeys /etc/ssh/breakglass_session_ca.pub\n", "authorizedprincipalsfile /etc/ssh/breakglass_principals/%u\n"} {
		if !strings.Contains(string(out), want) {
			t.Errorf("sshd -T does not say %q", want)
		}
	}
}

// TestSSHDReadsTheBastion: for the account alone, and every way but the forwards is shut.
func TestSSHDReadsTheBastion(t *testing.T) {
	sshd, err := exec.LookPath("/usr/sbin/sshd")
	if err != nil {
		t.Skip("no sshd here")
	}
	key := filepath.Join(t.TempDir(), "host_key")
	if out, err := exec.Command("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for user, want := range map[string][]string{
		"jump": {"trustedusercakeys /etc/ssh/breakglass_session_ca.pub\n", "allowtcpforwarding local\n", "permitopen 10.0.1.11:22 10.0.1.12:22\n", "permitlisten none\n",
			"allowstreamlocalforwarding no\n", "permittty no\n", "forcecommand exit 1\n", "permittunnel no\n", "authorizedkeysfile none\n"},
		"root": {"trustedusercakeys none\n", "authorizedprincipalsfile none\n", "forcecommand none\n"},
	} {
		out, err := exec.Command(sshd, "-T", "-f", "sshd/60-breakglass-bastion.conf", "-h", key, "-C", "user="+user+",host=h,addr=10.0.0.2").CombinedOutput()
		if err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		for _, w := range want {
			if !strings.Contains(string(out), w) {
				t.Errorf("%s: sshd -T does not say %q", user, w)
			}
		}
	}
}

// TestSSHDReadsTheRevocationLine: the line that comes last of all.
func TestSSHDReadsTheRevocationLine(t *testing.T) {
	sshd, err := exec.LookPath("/usr/sbin/sshd")
	if err != nil {
		t.Skip("no sshd here")
	}
	key := filepath.Join(t.TempDir(), "host_key")
	if out, err := exec.Command("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	drop, err := filepath.Abs("hosts/60-breakglass-krl.conf")
	if err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command(sshd, "-T", "-f", drop, "-h", key).CombinedOutput()
	if err != nil || !strings.Contains(string(out), "revokedkeys /etc/ssh/breakglass_krl\n") {
		t.Errorf("%v\n%s", err, out)
	}
}

// TestTheUnitsAreHardened has systemd score them, offline.
func TestTheUnitsAreHardened(t *testing.T) {
	analyze, err := exec.LookPath("systemd-analyze")
	if err != nil {
		t.Skip("no systemd-analyze here")
	}
	// Tenths of what systemd-analyze security may say; up to 1.9 is "OK". They listen and keep state, which cost most of it.
	for u, maxExposure := range map[string]int{
		"breakglass-ca.service":      15,
		"breakglass-ca-seal.service": 15,
		"breakglass-jump@.service":   15,
		"breakglass-jump.service":    16, // opens a port below 1024 itself
	} {
		out, err := exec.Command(analyze, "security", "--offline=yes", "--no-pager", "--threshold="+strconv.Itoa(maxExposure), "systemd/"+u).CombinedOutput()
		if err != nil {
			t.Errorf("%s: %v\n%s", u, err, out)
		}
		if !strings.Contains(string(out), "Overall exposure level") {
			t.Errorf("%s was not scored:\n%s", u, out)
		}
	}
}

// TestUnits has systemd judge the units, with a program that is on every machine in place of ours.
func TestUnits(t *testing.T) {
	analyze, err := exec.LookPath("systemd-analyze")
	if err != nil {
		t.Skip("no systemd-analyze here")
	}
	units, err := filepath.Glob("systemd/*.service")
	if err != nil || len(units) != 4 {
		t.Fatalf("%v, %v", units, err)
	}
	own, err := filepath.Glob("hosts/*.service")
	if err != nil || len(own) != 1 {
		t.Fatalf("%v, %v", own, err)
	}
	dir := t.TempDir()
	for _, u := range append(units, own...) {
		text, err := os.ReadFile(u)
		if err != nil {
			t.Fatal(err)
		}
		program, args := "/usr/bin/"+strings.TrimSuffix(strings.TrimSuffix(filepath.Base(u), ".service"), "@"), " serve"
		if strings.HasSuffix(u, "-seal.service") {
			program, args = "/usr/bin/breakglass-ca", " store seal"
		}
		if strings.HasSuffix(u, "@.service") {
			args += " --dir /var/lib/breakglass-jump-%i"
		}
		if filepath.Dir(u) == "hosts" {
			program, args = "/usr/local/sbin/"+strings.TrimSuffix(filepath.Base(u), ".service"), ""
		}
		if !strings.Contains(string(text), "ExecStart="+program+args+"\n") {
			t.Errorf("%s does not start %s", u, program)
		}
		copied := filepath.Join(dir, filepath.Base(u))
		if err := os.WriteFile(copied, []byte(strings.ReplaceAll(string(text), "ExecStart="+program, "ExecStart=/bin/true")), 0o644); err != nil {
			t.Fatal(err)
		}
		if out, err := exec.Command(analyze, "verify", "--man=no", copied).CombinedOutput(); err != nil || strings.Contains(string(out), "breakglass") {
			t.Errorf("%s: %v\n%s", u, err, out)
		}
	}
	// The path, with the service that it starts beside it.
	path := filepath.Join(dir, "breakglass-ca-seal.path")
	if text, err := os.ReadFile("systemd/breakglass-ca-seal.path"); err != nil || os.WriteFile(path, text, 0o644) != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command(analyze, "verify", "--man=no", path).CombinedOutput(); err != nil || strings.Contains(string(out), "breakglass") {
		t.Errorf("%v\n%s", err, out)
	}
	// The socket, with the services that share it beside it.
	text, err := os.ReadFile("systemd/breakglass-jump.socket")
	if err != nil {
		t.Fatal(err)
	}
	copied := filepath.Join(dir, "breakglass-jump.socket")
	if err := os.WriteFile(copied, text, 0o644); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command(analyze, "verify", "--man=no", copied).CombinedOutput(); err != nil || strings.Contains(string(out), "breakglass") {
		t.Errorf("%v\n%s", err, out)
	}
}
