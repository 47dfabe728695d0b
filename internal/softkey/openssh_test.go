//go:build linux

package softkey_test

import (
	"bytes"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"breakglass/internal/softkey"
)

// TestMain ignores SIGHUP; see pty.
func TestMain(m *testing.M) {
	signal.Ignore(syscall.SIGHUP)
	os.Exit(m.Run())
}

// stock is the environment of one stock OpenSSH program after another.
type stock struct {
	*testing.T
	dir string
	env []string
}

func newStock(t *testing.T) *stock {
	s := &stock{T: t, dir: t.TempDir()}
	for _, kv := range os.Environ() {
		if !strings.HasPrefix(kv, "SSH_") && !strings.HasPrefix(kv, "DISPLAY=") {
			s.env = append(s.env, kv)
		}
	}
	return s
}

func (s *stock) try(stdin string, name string, args ...string) (string, error) {
	cmd := exec.Command(name, args...)
	cmd.Dir, cmd.Env, cmd.Stdin = s.dir, s.env, strings.NewReader(stdin)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

func (s *stock) run(stdin string, name string, args ...string) string {
	s.Helper()
	out, err := s.try(stdin, name, args...)
	if err != nil {
		s.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return out
}

func (s *stock) read(name string) []byte {
	s.Helper()
	b, err := os.ReadFile(filepath.Join(s.dir, name))
	if err != nil {
		s.Fatal(err)
	}
	return b
}

func (s *stock) write(name, text string) {
	s.Helper()
	if err := os.WriteFile(filepath.Join(s.dir, name), []byte(text), 0o600); err != nil {
		s.Fatal(err)
	}
}

// withProvider builds testdata/skprovider and has OpenSSH use it on the key in state.
func (s *stock) withProvider(state string) {
	s.Helper()
	so := filepath.Join(s.dir, "skprovider.so")
	cmd := exec.Command("go", "build", "-buildmode=c-shared", "-o", so, "breakglass/testdata/skprovider")
	cmd.Dir = filepath.Join("..", "..")
	if out, err := cmd.CombinedOutput(); err != nil {
		s.Fatalf("building the provider: %v\n%s", err, out)
	}
	s.env = append(s.env, "SSH_SK_PROVIDER="+so, "BREAKGLASS_SOFTKEY="+state)
}

// verify has stock ssh-keygen check the signature in msg.sig over msg by the key in id.pub.
func (s *stock) verify(id, msg string) error {
	s.write("allowed", "alice "+string(s.read(id+".pub")))
	out, err := s.try(string(s.read(msg)), "ssh-keygen", "-Y", "verify", "-f", "allowed", "-I", "alice", "-n", "request@breakglass", "-s", msg+".sig")
	if err != nil {
		s.Logf("%s", out)
	}
	return err
}

func (s *stock) flags(msg string) byte {
	s.Helper()
	pem := strings.Split(strings.TrimSpace(string(s.read(msg+".sig"))), "\n")
	s.write("b64", strings.Join(pem[1:len(pem)-1], ""))
	raw := []byte(s.run("", "base64", "-d", "b64"))
	return raw[len(raw)-5] // SSHSIG ends with the signature, and that with flags and counter
}

// TestStockSSHKeygenEnrolsOverThePseudoTerminal goes through OpenSSH's own libfido2 middleware, then
// signs by the provider with the credential made there.
func TestStockSSHKeygenEnrolsOverThePseudoTerminal(t *testing.T) {
	s := newStock(t)
	state := filepath.Join(s.dir, "key")
	var touches atomic.Int32
	k, err := softkey.Open(softkey.Config{StatePath: state, Attestation: softkey.AttestBasic,
		Touch: func(string) bool { touches.Add(1); return true }})
	if err != nil {
		t.Fatal(err)
	}
	defer k.Close()
	s.write("challenge", "a challenge of the CA")
	s.run("", "ssh-keygen", "-q", "-t", "ecdsa-sk", "-N", "", "-f", "id", "-O", "application=ssh:breakglass",
		"-O", "device="+k.Path(), "-O", "challenge=challenge", "-O", "write-attestation=att")
	if touches.Load() != 1 {
		t.Errorf("%d touches", touches.Load())
	}
	if att := s.read("att"); !bytes.Contains(att, []byte("ssh-sk-attest-v01")) || !bytes.Contains(att, []byte("Authenticator Attestation")) {
		t.Errorf("attestation: %q", att)
	}
	s.withProvider(state)
	s.write("msg", "breakglass request v1\n")
	s.run("", "ssh-keygen", "-q", "-Y", "sign", "-f", "id", "-n", "request@breakglass", "msg")
	if err := s.verify("id", "msg"); err != nil {
		t.Errorf("stock ssh-keygen does not verify it: %v", err)
	}
}

func TestStockSSHKeygenWithTheProvider(t *testing.T) {
	s := newStock(t)
	state := filepath.Join(s.dir, "key")
	if _, err := softkey.NewAuthenticator(softkey.Config{StatePath: state, PIN: "123456"}); err != nil {
		t.Fatal(err)
	}
	s.withProvider(state)
	s.run("", "ssh-keygen", "-q", "-t", "ecdsa-sk", "-N", "", "-f", "id", "-O", "application=ssh:breakglass")
	sign := func(msg string, env ...string) (string, error) {
		t.Helper()
		s.write(msg, "breakglass request v1\n")
		keep := s.env
		s.env = append(s.env[:len(s.env):len(s.env)], env...)
		out, err := s.try("", "ssh-keygen", "-q", "-Y", "sign", "-f", "id", "-n", "request@breakglass", msg)
		s.env = keep
		return out, err
	}
	for _, c := range []struct {
		what  string
		env   []string
		flags byte // 0: refused
	}{
		{"touch", nil, softkey.FlagUP},
		{"touch and PIN", []string{"BREAKGLASS_SOFTKEY_PIN=123456"}, softkey.FlagUP | softkey.FlagUV},
		{"wrong PIN", []string{"BREAKGLASS_SOFTKEY_PIN=000000"}, 0},
		{"nobody touches", []string{"BREAKGLASS_SOFTKEY_DENY=1"}, 0},
		{"no key plugged in", []string{"BREAKGLASS_SOFTKEY="}, 0},
	} {
		msg := "msg " + c.what
		out, err := sign(msg, c.env...)
		if (err == nil) != (c.flags != 0) {
			t.Errorf("%s: %v\n%s", c.what, err, out)
			continue
		}
		if err != nil {
			continue
		}
		if err := s.verify("id", msg); err != nil {
			t.Errorf("%s: stock ssh-keygen does not verify it: %v", c.what, err)
		}
		if f := s.flags(msg); f != c.flags {
			t.Errorf("%s: flags %02x, want %02x", c.what, f, c.flags)
		}
		s.write(msg, "breakglass request v1, changed\n")
		if s.verify("id", msg) == nil {
			t.Errorf("%s: verifies over other data", c.what)
		}
	}
}
