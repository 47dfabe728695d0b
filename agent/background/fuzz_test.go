package background

import (
	"encoding/json"
	"log/slog"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"breakglass/agent/home"
)

// FuzzControl: nothing that comes over the control socket crashes the process that holds the keys, or gets a private half out.
func FuzzControl(f *testing.F) {
	for _, s := range []string{
		`{"version":1,"op":"list"}`, `{"version":1,"op":"new_key"}`, `{"version":1,"op":"drop","key":"SHA256:x"}`,
		`{"version":1,"op":"install","key":"SHA256:x","seconds":60,"granted":{"id":"k7f-2mq"}}`,
		`{"version":1,"op":"install_pass","key":"SHA256:x","seconds":60,"person":"alice"}`,
		`{"version":1,"op":"sign","key":"SHA256:x","data":"U1NIU0lH"}`, `{"version":1,"op":"end","request":"k7f-2mq"}`, `{}`, `[]`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, line []byte) {
		s := &server{cfg: Config{Home: home.Home{Run: t.TempDir()}, IdleGrace: time.Hour}, log: slog.New(slog.DiscardHandler), stop: func() {}, keys: map[string]*held{}}
		s.idle = time.AfterFunc(time.Hour, func() {})
		defer s.idle.Stop()
		a := s.answer(line)
		if _, err := json.Marshal(a); err != nil {
			t.Fatal(err)
		}
		if len(a.Signature) > 0 {
			t.Fatal("signed for a key that it doesn't hold")
		}
		for fp := range s.keys {
			s.dropLocked(fp)
		}
	})
}

// FuzzLogin: whatever is signed is a login as root by the certificate, and nothing else.
func FuzzLogin(f *testing.F) {
	k, err := newMemoryKey()
	if err != nil {
		f.Fatal(err)
	}
	cert := &ssh.Certificate{Key: k.public, CertType: ssh.UserCert, SignatureKey: k.public, Signature: &ssh.Signature{Format: ssh.KeyAlgoED25519}}
	b := cert.Marshal()
	f.Add(userauth("root", "ssh-connection", "publickey", ssh.CertAlgoED25519v01, b, true))
	f.Add(userauth("bob", "ssh-connection", "publickey", ssh.CertAlgoED25519v01, b, true))
	f.Add(userauth("root", "ssh-connection", "publickey-hostbound-v00@openssh.com", ssh.CertAlgoED25519v01, b, true))
	f.Fuzz(func(t *testing.T, data []byte) {
		if _, err := k.signLogin(cert, func(user string) bool { return user == "root" }, data); err != nil {
			return
		}
		var w struct {
			Session []byte
			Type    byte
			User    string
			Rest    []byte `ssh:"rest"`
		}
		if ssh.Unmarshal(data, &w) != nil || w.Type != 50 || w.User != "root" {
			t.Fatalf("signed %q", data)
		}
	})
}
