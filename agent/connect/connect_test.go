package connect

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	proxyproto "github.com/pires/go-proxyproto"
	"golang.org/x/crypto/ssh"
)

// asConnect in the environment makes the test binary `breakglass connect ADDRESS`.
const asConnect = "CONNECT_TEST_ADDRESS"

func TestMain(m *testing.M) {
	if addr := os.Getenv(asConnect); addr != "" {
		c, err := Dial(context.Background(), []string{addr}, "web01")
		if err == nil {
			err = Hand(c, os.Stdin, os.Stdout)
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// TestPreamble has an independent reader of the PROXY protocol read ours.
func TestPreamble(t *testing.T) {
	p := Preamble("web01")
	h, err := proxyproto.Read(bufio.NewReader(bytes.NewReader(append(p, "SSH-2.0-x\r\n"...))))
	if err != nil {
		t.Fatal(err)
	}
	tlvs, err := h.TLVs()
	if err != nil || len(tlvs) != 1 || tlvs[0].Type != proxyproto.PP2_TYPE_AUTHORITY || string(tlvs[0].Value) != "web01" {
		t.Errorf("%+v, %v", tlvs, err)
	}
	if h.Version != 2 || !h.Command.IsLocal() || len(p) != 16+3+5 {
		t.Errorf("%+v, %d bytes", h, len(p))
	}
}

func TestNoJump(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := ln.Addr().String()
	ln.Close()
	if _, err := Dial(t.Context(), []string{addr, addr}, "web01"); !errors.Is(err, ErrNoJump) || !strings.Contains(err.Error(), addr) {
		t.Errorf("%v", err)
	}
	if _, err := Dial(t.Context(), nil, "web01"); !errors.Is(err, ErrNoJump) {
		t.Errorf("%v", err)
	}
}

// serve is an SSH server that checks the preamble and runs `cat` for every command.
func serve(t *testing.T, host ssh.Signer, user ssh.PublicKey) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	cfg := &ssh.ServerConfig{PublicKeyCallback: func(_ ssh.ConnMetadata, k ssh.PublicKey) (*ssh.Permissions, error) {
		if !bytes.Equal(k.Marshal(), user.Marshal()) {
			return nil, errors.New("another key")
		}
		return nil, nil
	}}
	cfg.AddHostKey(host)
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				pre := make([]byte, len(Preamble("web01")))
				if _, err := io.ReadFull(c, pre); err != nil || !bytes.Equal(pre, Preamble("web01")) {
					return
				}
				_, chans, reqs, err := ssh.NewServerConn(c, cfg)
				if err != nil {
					return
				}
				go ssh.DiscardRequests(reqs)
				for n := range chans {
					ch, reqs, err := n.Accept()
					if err != nil {
						return
					}
					go func() {
						for r := range reqs {
							r.Reply(r.Type == "exec", nil)
							if r.Type == "exec" {
								go func() {
									io.Copy(ch, ch)
									ch.SendRequest("exit-status", false, ssh.Marshal(struct{ Status uint32 }{7}))
									ch.Close()
								}()
							}
						}
					}()
				}
			}()
		}
	}()
	return ln.Addr().String()
}

// TestStockSSHTakesTheSocket runs stock ssh with us as its ProxyCommand, with and without the socket handed over.
func TestStockSSHTakesTheSocket(t *testing.T) {
	dir := t.TempDir()
	key := filepath.Join(dir, "id")
	if out, err := exec.Command("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	text, err := os.ReadFile(key + ".pub")
	if err != nil {
		t.Fatal(err)
	}
	pub, _, _, _, err := ssh.ParseAuthorizedKey(text)
	if err != nil {
		t.Fatal(err)
	}
	_, hostPriv, _ := ed25519.GenerateKey(rand.Reader)
	host, err := ssh.NewSignerFromKey(hostPriv)
	if err != nil {
		t.Fatal(err)
	}
	known := filepath.Join(dir, "known")
	if err := os.WriteFile(known, append([]byte("web01 "), ssh.MarshalAuthorizedKey(host.PublicKey())...), 0o600); err != nil {
		t.Fatal(err)
	}
	addr := serve(t, host, pub)
	self, _ := os.Executable()
	in := make([]byte, 3<<20)
	rand.Read(in)
	for _, fdpass := range []string{"yes", "no"} {
		cmd := exec.Command("ssh", "-F", "none", "-o", "ProxyCommand="+self, "-o", "ProxyUseFdpass="+fdpass, "-o", "IdentitiesOnly=yes",
			"-i", key, "-o", "UserKnownHostsFile="+known, "-o", "BatchMode=yes", "web01", "cat")
		cmd.Env = append(os.Environ(), asConnect+"="+addr)
		cmd.Stdin = bytes.NewReader(in)
		var out, errs bytes.Buffer
		cmd.Stdout, cmd.Stderr = &out, &errs
		begin := time.Now()
		err := cmd.Run()
		var exit *exec.ExitError
		if !errors.As(err, &exit) || exit.ExitCode() != 7 {
			t.Errorf("fdpass %s: %v\n%s", fdpass, err, errs.String())
		}
		if !bytes.Equal(out.Bytes(), in) {
			t.Errorf("fdpass %s: %d bytes came back, %d went", fdpass, out.Len(), len(in))
		}
		t.Logf("fdpass %s: %v", fdpass, time.Since(begin))
	}
}
