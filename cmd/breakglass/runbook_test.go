package main

import (
	"errors"
	"net"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"

	"breakglass/agent/home"
	"breakglass/ca/api"
	"breakglass/ca/catest"
	"breakglass/internal/softkey"
)

// heldKey is an ssh-agent that holds one security key.
type heldKey struct {
	agent.ExtendedAgent
	auth *softkey.Authenticator
	pub  ssh.PublicKey
	cred []byte
}

func (h heldKey) List() ([]*agent.Key, error) {
	return []*agent.Key{{Format: h.pub.Type(), Blob: h.pub.Marshal(), Comment: "yubi-desk"}}, nil
}

func (h heldKey) Sign(k ssh.PublicKey, data []byte) (*ssh.Signature, error) {
	if string(k.Marshal()) != string(h.pub.Marshal()) {
		return nil, errors.New("another key")
	}
	return h.auth.SignSK(api.Application, data, h.cred, true)
}

func (h heldKey) SignWithFlags(k ssh.PublicKey, data []byte, _ agent.SignatureFlags) (*ssh.Signature, error) {
	return h.Sign(k, data)
}

func (h heldKey) Extension(string, []byte) ([]byte, error) { return nil, agent.ErrExtensionUnsupported }

// serveKey makes an ssh-agent of a key that the person has enrolled with breakglass.
func (r *road) serveKey() string {
	r.Helper()
	who, err := home.Home{Config: filepath.Join(r.home, "config")}.LoadPerson()
	if err != nil {
		r.Fatal(err)
	}
	pub, _, _, _, err := ssh.ParseAuthorizedKey([]byte(who.Keys[0].PublicKey))
	if err != nil {
		r.Fatal(err)
	}
	sock := filepath.Join(r.home, "agent.sock")
	ln, err := net.Listen("unix", sock)
	if err != nil {
		r.Fatal(err)
	}
	r.Cleanup(func() { ln.Close() })
	h := heldKey{auth: r.key.Authenticator(), pub: pub, cred: who.Keys[0].CredentialID}
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go func() { defer c.Close(); _ = agent.ServeAgent(h, c) }()
		}
	}()
	return sock
}

// TestTheRunbookOpensAHost runs the recipe that is printed for paper: curl, jq, ssh-keygen and ssh, nothing of ours.
func TestTheRunbookOpensAHost(t *testing.T) {
	for _, tool := range []string{"curl", "jq", "bash", "xargs"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Fatalf("the recipe needs %s: %v", tool, err)
		}
	}
	r := newRoad(t)
	r.enroll()
	script := r.write("runbook.sh", r.ok("breakglass", "runbook").out, 0o600)
	sock := r.serveKey()
	paper := []string{"PATH=/usr/bin:/bin", "SSH_AUTH_SOCK=" + sock}
	res := r.with(strings.NewReader("through the jump"), paper, "sh", script, "root", "web01", catest.Reason, "cat; exit 9")
	if res.status != 9 || res.out != "through the jump" {
		t.Fatalf("status %d, %q\n%s", res.status, res.out, res.err)
	}
	if !strings.Contains(res.err, "\nhost: web01\n") {
		t.Errorf("the statement isn't shown:\n%s", res.err)
	}
	res = r.with(nil, paper, "sh", script, "postgres", "web01", catest.Reason)
	if res.status != 1 || !strings.Contains(res.err, "denied: ") {
		t.Errorf("denied: status %d\n%s", res.status, res.err)
	}
}

// TestTheOtherBackendsSign: an ssh-agent that holds the key, and stock ssh-keygen, where there is no helper.
func TestTheOtherBackendsSign(t *testing.T) {
	r := newRoad(t)
	r.enroll()
	sock := r.serveKey()
	for _, b := range []string{"ssh-agent", "ssh-keygen"} {
		res := r.with(nil, []string{"BREAKGLASS_SIGNER=" + b, "SSH_AUTH_SOCK=" + sock}, "breakglass", "request", "--reason", catest.Reason, "root@web01")
		if res.status != 0 {
			t.Errorf("%s: status %d\n%s", b, res.status, res.err)
		}
	}
	// Without being told: the helper's device holds none of the keys, the agent does.
	res := r.with(nil, []string{"BREAKGLASS_FIDO2_DEVICE=/dev/null", "SSH_AUTH_SOCK=" + sock}, "breakglass", "request", "--reason", catest.Reason, "root@web01")
	if res.status != 0 {
		t.Errorf("found by itself: status %d\n%s", res.status, res.err)
	}
	r.wants(12, []string{"hint: "}, "env", "BREAKGLASS_FIDO2_DEVICE=/dev/null", filepath.Join(bin, "breakglass"), "request", "--reason", catest.Reason, "root@web01")
}
