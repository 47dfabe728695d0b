package custody_test

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"breakglass/ca/custody"
	"breakglass/internal/loopback"
	"breakglass/internal/sshcert"
)

// tokenModule is SoftHSM2's PKCS#11 module, wherever the system has it.
func tokenModule(t *testing.T) string {
	t.Helper()
	for _, p := range []string{"/usr/lib/softhsm/libsofthsm2.so", "/usr/lib/x86_64-linux-gnu/softhsm/libsofthsm2.so", "/usr/lib64/softhsm/libsofthsm.so"} {
		if _, err := os.Stat(p); err == nil {
			if p, err = filepath.EvalSymlinks(p); err == nil { // ssh-agent allows modules by their real path
				return p
			}
		}
	}
	t.Skip("no SoftHSM2 here: make deps installs it")
	return ""
}

func command(t *testing.T, env []string, name string, args ...string) string {
	t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Env = append(os.Environ(), env...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s %v: %v\n%s", name, args, err, out)
	}
	return string(out)
}

// TestAStockSSHDTakesWhatATokenSigned keeps the session CA in a PKCS#11 token that a stock ssh-agent holds: the private key never is in this process.
func TestAStockSSHDTakesWhatATokenSigned(t *testing.T) {
	module := tokenModule(t)
	for _, p := range []string{"softhsm2-util", "pkcs11-tool", "ssh-agent", "ssh-add", "/usr/sbin/sshd"} {
		if _, err := exec.LookPath(p); err != nil {
			t.Skipf("no %s here", p)
		}
	}
	dir := t.TempDir()
	at := func(n string) string { return filepath.Join(dir, n) }
	must(t, os.Mkdir(at("tokens"), 0o700))
	must(t, os.WriteFile(at("softhsm2.conf"), []byte("directories.tokendir = "+at("tokens")+"\nobjectstore.backend = file\nlog.level = ERROR\n"), 0o600))
	must(t, os.WriteFile(at("askpass"), []byte("#!/bin/sh\necho 1234\n"), 0o700))
	socket := at("a")
	env := []string{"SOFTHSM2_CONF=" + at("softhsm2.conf"), "SSH_AUTH_SOCK=" + socket, "SSH_ASKPASS=" + at("askpass"), "SSH_ASKPASS_REQUIRE=force"}
	command(t, env, "softhsm2-util", "--init-token", "--free", "--label", "ca", "--so-pin", "4321", "--pin", "1234")
	command(t, env, "pkcs11-tool", "--module", module, "--token-label", "ca", "--login", "--pin", "1234", "--keypairgen", "--key-type", "EC:prime256v1", "--id", "01", "--label", "session_ca")

	begin := func() (stop func()) {
		t.Helper()
		agent := exec.Command("ssh-agent", "-D", "-a", socket, "-P", filepath.Dir(module)+"/*")
		agent.Env = append(os.Environ(), env...)
		must(t, agent.Start())
		stopped := false
		stop = func() {
			if !stopped {
				stopped = true
				agent.Process.Kill()
				agent.Wait()
				os.Remove(socket)
			}
		}
		t.Cleanup(stop)
		for end := time.Now().Add(5 * time.Second); ; time.Sleep(10 * time.Millisecond) {
			if _, err := os.Stat(socket); err == nil {
				break
			} else if time.Now().After(end) {
				t.Fatal("ssh-agent does not answer")
			}
		}
		command(t, env, "ssh-add", "-s", module)
		return stop
	}
	stop := begin()
	var ca ssh.PublicKey
	var line string
	for l := range strings.Lines(command(t, env, "ssh-add", "-L")) {
		if k, _, _, _, err := ssh.ParseAuthorizedKey([]byte(l)); err == nil {
			ca, line = k, l
		}
	}
	if ca == nil || ca.Type() != ssh.KeyAlgoECDSA256 {
		t.Fatal("the agent has no P-256 key")
	}
	k, err := (&custody.Keeper{AgentSocket: socket}).Load(custody.Place{Kind: custody.Agent, At: ssh.FingerprintSHA256(ca)})
	must(t, err)

	_, priv, err := ed25519.GenerateKey(rand.Reader)
	must(t, err)
	block, err := ssh.MarshalPrivateKey(priv, "")
	must(t, err)
	must(t, os.WriteFile(at("id"), pem.EncodeToMemory(block), 0o600))
	subject, err := ssh.NewSignerFromKey(priv)
	must(t, err)
	g := sshcert.Grant{Request: "k7f-2mq", Login: "root", Host: "web01"}
	here := []netip.Addr{netip.MustParseAddr("127.0.0.1")}
	certify := func() (*ssh.Certificate, error) {
		return k.Certify(sshcert.NewSession(subject.PublicKey(), "alice", g, here, false, time.Now(), sshcert.SessionSlack), sshcert.Session, func(*ssh.Certificate) error { return nil })
	}
	client, err := k.Certify(sshcert.NewClient(subject.PublicKey(), "alice", g, here, time.Now(), time.Now().Add(time.Minute)), sshcert.Client, func(*ssh.Certificate) error { return nil })
	must(t, err)
	must(t, sshcert.Verify(client, sshcert.Client, []ssh.PublicKey{ca}, time.Now()))
	session, err := certify()
	must(t, err)
	must(t, os.WriteFile(at("id-cert.pub"), ssh.MarshalAuthorizedKey(session), 0o600))

	address, log := sshd(t, dir, line)
	host, port, _ := net.SplitHostPort(address)
	login := command(t, nil, "id", "-un")
	out := command(t, nil, "ssh", "-F", "none", "-i", at("id"), "-o", "IdentitiesOnly=yes", "-o", "IdentityAgent=none", "-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=no",
		"-o", "UserKnownHostsFile=/dev/null", "-p", port, strings.TrimSpace(login)+"@"+host, "echo", "from the token")
	if !strings.Contains(out, "from the token") {
		t.Errorf("%s\n%s", out, log())
	}
	if want := fmt.Sprintf("ID %s (serial %d) CA ECDSA %s", session.KeyId, session.Serial, ssh.FingerprintSHA256(ca)); !strings.Contains(log(), want) {
		t.Errorf("sshd's log lacks %q:\n%s", want, log())
	}

	stop()
	if _, err := certify(); err == nil {
		t.Error("signed without the token's agent")
	}
	begin()
	if _, err := certify(); err != nil {
		t.Errorf("the agent is back: %v", err)
	}
}

// sshd is a stock one that trusts the CA for root@web01.
func sshd(t *testing.T, dir, ca string) (address string, log func() string) {
	t.Helper()
	at := func(n string) string { return filepath.Join(dir, n) }
	free, err := loopback.Addresses(1)
	must(t, err)
	address = free[0]
	command(t, nil, "ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", at("host_key"))
	must(t, os.WriteFile(at("ca.pub"), []byte(ca), 0o600))
	must(t, os.WriteFile(at("principals"), []byte("session:root@web01\n"), 0o600))
	must(t, os.WriteFile(at("sshd_config"), []byte("ListenAddress "+address+"\nHostKey "+at("host_key")+"\nPidFile none\nStrictModes no\nUsePAM no\nPermitRootLogin prohibit-password\n"+
		"PasswordAuthentication no\nAuthorizedKeysFile none\nTrustedUserCAKeys "+at("ca.pub")+"\nAuthorizedPrincipalsFile "+at("principals")+"\nSetEnv HOME="+dir+"\n"), 0o600))
	if os.Getuid() == 0 {
		must(t, os.MkdirAll("/run/sshd", 0o755))
	}
	f, err := os.Create(at("sshd.log"))
	must(t, err)
	cmd := exec.Command("/usr/sbin/sshd", "-D", "-e", "-f", at("sshd_config"))
	cmd.Stderr = f
	must(t, cmd.Start())
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait(); f.Close() })
	for end := time.Now().Add(5 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		if c, err := net.Dial("tcp", address); err == nil {
			c.Close()
			break
		} else if time.Now().After(end) {
			t.Fatal(err)
		}
	}
	return address, func() string { b, _ := os.ReadFile(at("sshd.log")); return string(b) }
}
