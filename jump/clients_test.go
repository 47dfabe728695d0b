package jump

import (
	"encoding/json"
	"fmt"
	"net"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"

	"breakglass/transcript"
)

// tool gives the path of a client that a test needs, or skips.
func tool(t *testing.T, path string) string {
	t.Helper()
	p, err := exec.LookPath(path)
	if err != nil {
		t.Skipf("no %s here", path)
	}
	return p
}

// PuTTY's plink knows certificates since 0.78. The user name names the host.
func TestPlink(t *testing.T) {
	plink, puttygen := tool(t, "plink"), tool(t, "puttygen")
	w := newWorld(t)
	g := w.grant()
	ppk := filepath.Join(w.dir, "id.ppk")
	if r := run(t, nil, puttygen, g.file, "-O", "private", "-o", ppk, "--new-passphrase", "/dev/null", "--certificate", g.file+"-cert.pub"); r.code != 0 {
		t.Fatalf("%+v", r)
	}
	host, port, _ := net.SplitHostPort(w.jump)
	args := []string{"-batch", "-ssh", "-P", port, "-l", w.login + "@web01", "-i", ppk, "-hostkey", ssh.FingerprintSHA256(w.ca.jumpHost.PublicKey()), host}
	r := run(t, strings.NewReader("typed"), plink, append(args, "cat; echo out; echo err >&2; exit 7")...)
	if r.code != 7 || r.stdout != "typedout\n" || !strings.Contains(r.stderr, "err\n") {
		t.Fatalf("%+v", r)
	}
	rec := w.session(g, 1)
	if rec.data(transcript.KindInput, 0) != "typed" || rec.data(transcript.KindOutput, 0) != "typedout\n" || rec.header.Door != transcript.DoorUser {
		t.Errorf("%q", rec.lines())
	}
}

// paramiko is what ansible and many scripts speak with.
func TestParamiko(t *testing.T) {
	const python = "/usr/bin/python3" // the system's, which has the system's packages
	if err := exec.Command(python, "-c", "import paramiko").Run(); err != nil {
		t.Skip("no paramiko here")
	}
	w := newWorld(t)
	g := w.grant()
	host, port, _ := net.SplitHostPort(w.jump)
	there := filepath.Join(w.dir, "there")
	script := fmt.Sprintf(`
import paramiko
k = paramiko.Ed25519Key.from_private_key_file(%q)
k.load_certificate(%q)
c = paramiko.SSHClient()
c.set_missing_host_key_policy(paramiko.AutoAddPolicy())
c.connect(%q, int(%q), username=%q, pkey=k, allow_agent=False, look_for_keys=False)
i, o, e = c.exec_command("cat; echo err >&2; exit 7")
i.write("typed"); i.channel.shutdown_write()
print(o.read().decode(), e.read().decode().strip(), o.channel.recv_exit_status())
s = c.open_sftp()
with s.open(%q, "w") as f: f.write(b"x" * 300000)
print(s.stat(%q).st_size)
c.close()
`, g.file, g.file+"-cert.pub", host, port, w.login+"@web01", there, there)
	r := run(t, nil, python, "-c", script)
	if r.code != 0 || r.stdout != "typed err 7\n300000\n" {
		t.Fatalf("%+v", r)
	}
	rec := w.session(g, 1)
	if !strings.HasPrefix(rec.data(transcript.KindInput, 0), "typed") || strings.Count(rec.data(transcript.KindInput, 0), "x") < 300000 {
		t.Errorf("recorded %d bytes of input", len(rec.data(transcript.KindInput, 0)))
	}
}

// dropbear knows no certificates: whoever comes with it reads so.
func TestAClientWithoutCertificatesIsToldSo(t *testing.T) {
	dbclient, convert := tool(t, "dbclient"), tool(t, "dropbearkey")
	w := newWorld(t)
	key := filepath.Join(w.dir, "dropbear")
	if r := run(t, nil, convert, "-t", "ed25519", "-f", key); r.code != 0 {
		t.Fatalf("%+v", r)
	}
	host, port, _ := net.SplitHostPort(w.jump)
	r := run(t, nil, dbclient, "-y", "-y", "-i", key, "-p", port, "-l", w.login+"@web01", host, "true")
	if r.code == 0 || !strings.Contains(r.stderr, "knows no certificates") || !strings.Contains(r.stderr, "breakglass: hint:") {
		t.Errorf("%+v", r)
	}
	// What it alone is offered lets nobody in who only says that it is one.
	g := w.grant()
	if c, err := ssh.Dial("tcp", w.jump, &ssh.ClientConfig{User: w.login, ClientVersion: "SSH-2.0-dropbear_2022.83", HostKeyCallback: ssh.InsecureIgnoreHostKey(),
		Auth: []ssh.AuthMethod{ssh.PublicKeys(withCert(t, g.cert, g.signer))}}); err == nil {
		c.Close()
		t.Error("a certificate from a client without certificates was taken")
	}
	// Stock ssh, which offers plain keys before the certificate when it has them, comes in and reads nothing of the kind.
	other := filepath.Join(w.dir, "other")
	loadKey(t, w.dir, "other")
	conf, target := w.through("user", g)
	r = run(t, nil, "ssh", "-F", conf, "-o", "IdentityFile="+other, target, "echo in")
	if r.stdout != "in\n" || r.stderr != "" {
		t.Errorf("%+v", r)
	}
}

// Clients of 2019 have nothing newer than these, and come in.
func TestClientsOf2019(t *testing.T) {
	w := newWorld(t)
	for _, c := range []struct{ is, kex, ciphers, macs string }{
		{"OpenSSH 8.0", "curve25519-sha256,curve25519-sha256@libssh.org,ecdh-sha2-nistp256,diffie-hellman-group16-sha512", "chacha20-poly1305@openssh.com,aes128-ctr,aes256-ctr,aes128-gcm@openssh.com", "umac-64-etm@openssh.com,hmac-sha2-256-etm@openssh.com,hmac-sha2-256"},
		{"libssh 0.9", "curve25519-sha256@libssh.org,diffie-hellman-group16-sha512", "aes256-gcm@openssh.com,aes128-gcm@openssh.com,aes256-ctr", "hmac-sha2-256-etm@openssh.com,hmac-sha2-512-etm@openssh.com"},
		{"one without elliptic curves", "diffie-hellman-group16-sha512,diffie-hellman-group14-sha256", "aes128-ctr", "hmac-sha2-512-etm@openssh.com"},
	} {
		g := w.grant()
		conf, target := w.through("hop", g)
		r := run(t, nil, "ssh", "-F", conf, "-o", "KexAlgorithms="+c.kex, "-o", "Ciphers="+c.ciphers, "-o", "MACs="+c.macs, target, "echo in")
		if r.stdout != "in\n" || r.code != 0 {
			t.Errorf("%s: %+v", c.is, r)
		}
	}
	for _, c := range []struct{ is, option string }{
		{"only weak kex", "KexAlgorithms=diffie-hellman-group14-sha1,diffie-hellman-group1-sha1"},
		{"only CBC", "Ciphers=aes128-cbc,3des-cbc"},
		{"only MACs before encryption, and no GCM", "Ciphers=aes128-ctr\nMACs=hmac-sha1"},
	} {
		g := w.grant()
		conf, target := w.through("hop", g)
		args := []string{"-F", conf}
		for o := range strings.SplitSeq(c.option, "\n") {
			args = append(args, "-o", o)
		}
		if r := run(t, nil, "ssh", append(args, target, "true")...); r.code != 255 || !strings.Contains(r.stderr, "Unable to negotiate") {
			t.Errorf("%s: %+v", c.is, r)
		}
	}
}

// ssh-audit finds nothing to fail and nothing to warn about among what it knows.
func TestSSHAudit(t *testing.T) {
	audit := tool(t, "ssh-audit")
	w := newWorld(t)
	host, port, _ := net.SplitHostPort(w.jump)
	r := run(t, nil, audit, "-n", "-l", "warn", "-p", port, host)
	var bad []string
	newer := []string{"mlkem768x25519-sha256", "kex-strict-s-v00@openssh.com", "ext-info-s"} // than what it knows
	for line := range strings.Lines(r.stdout) {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") || slices.ContainsFunc(newer, func(n string) bool { return strings.Contains(line, n) && strings.Contains(line, "unknown algorithm") }) {
			continue
		}
		if strings.Contains(line, "[fail]") || strings.Contains(line, "[warn]") {
			bad = append(bad, line)
		}
	}
	if len(bad) > 0 {
		t.Errorf("ssh-audit:\n%s", strings.Join(bad, "\n"))
	}
	// That it looked at all: its report in JSON names what the jump speaks.
	r = run(t, nil, audit, "-j", "-p", port, host)
	var report struct {
		Kex []struct{ Algorithm string }
		Enc []string
		Mac []string
		Key []struct{ Algorithm string }
	}
	if err := json.Unmarshal([]byte(r.stdout), &report); err != nil {
		t.Fatalf("%v\n%s", err, r.stdout)
	}
	var kex []string
	for _, k := range report.Kex {
		kex = append(kex, k.Algorithm)
	}
	c := cryptoConfig()
	for _, want := range append(c.KeyExchanges, "kex-strict-s-v00@openssh.com") {
		if !slices.Contains(kex, want) {
			t.Errorf("no %s among %v", want, kex)
		}
	}
	if !slices.Equal(report.Enc, c.Ciphers) || !slices.Equal(report.Mac, c.MACs) {
		t.Errorf("ciphers %v, MACs %v", report.Enc, report.Mac)
	}
	for _, k := range report.Key {
		if k.Algorithm != ssh.KeyAlgoED25519 && k.Algorithm != ssh.CertAlgoED25519v01 {
			t.Errorf("host key %s", k.Algorithm)
		}
	}
}

// Both legs speak what stands here, and nothing else: a change is one on purpose.
func TestWhatBothLegsSpeak(t *testing.T) {
	c := cryptoConfig()
	for _, l := range []struct{ got, want []string }{
		{c.KeyExchanges, []string{"mlkem768x25519-sha256", "curve25519-sha256", "diffie-hellman-group16-sha512"}},
		{c.Ciphers, []string{"aes128-gcm@openssh.com", "aes256-gcm@openssh.com", "aes256-ctr", "aes128-ctr"}},
		{c.MACs, []string{"hmac-sha2-256-etm@openssh.com", "hmac-sha2-512-etm@openssh.com"}},
	} {
		if !slices.Equal(l.got, l.want) {
			t.Errorf("%v, want %v", l.got, l.want)
		}
	}
}
