package contrib_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"breakglass/ca/api"
	"breakglass/ca/catest"
	"breakglass/internal/krl"
	"breakglass/internal/loopback"
	"breakglass/internal/statement"
)

// host is a stock sshd whose RevokedKeys the script keeps, and certificates that a jump would show it.
type host struct {
	t       *testing.T
	dir     string
	address string
	login   string
	list    string // RevokedKeys
}

func startHost(t *testing.T, sessionCA []string) *host {
	t.Helper()
	sshd, err := exec.LookPath("/usr/sbin/sshd")
	if err != nil {
		t.Skip("no sshd here")
	}
	me, err := user.Current()
	catest.Must(t, err)
	h := &host{t: t, dir: t.TempDir(), login: me.Username}
	h.list = filepath.Join(h.dir, "breakglass_krl")
	write := func(name, text string) string {
		p := filepath.Join(h.dir, name)
		catest.Must(t, os.WriteFile(p, []byte(text), 0o600))
		return p
	}
	if os.Getuid() == 0 {
		catest.Must(t, os.MkdirAll("/run/sshd", 0o755)) // sshd's privilege separation directory
	}
	key := filepath.Join(h.dir, "host_key")
	if out, err := exec.Command("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	free, err := loopback.Addresses(1)
	catest.Must(t, err)
	h.address = free[0]
	ca := write("ca.pub", strings.Join(sessionCA, "\n")+"\n")
	principals := write("principals", "session:"+h.login+"@web01\n")
	write("breakglass_krl", "") // an empty list is a good one
	conf := write("sshd_config", fmt.Sprintf("ListenAddress %s\nHostKey %s\nPidFile none\nStrictModes no\nUsePAM no\nPermitRootLogin prohibit-password\nPasswordAuthentication no\n"+
		"KbdInteractiveAuthentication no\nAuthorizedKeysFile none\nTrustedUserCAKeys %s\nAuthorizedPrincipalsFile %s\nRevokedKeys %s\nLogLevel VERBOSE\n", h.address, key, ca, principals, h.list))
	log, err := os.Create(filepath.Join(h.dir, "sshd.log"))
	catest.Must(t, err)
	cmd := exec.Command(sshd, "-D", "-e", "-f", conf)
	cmd.Stderr = log
	catest.Must(t, cmd.Start())
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait(); log.Close() })
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		if c, err := net.Dial("tcp", h.address); err == nil {
			c.Close()
			return h
		} else if time.Now().After(end) {
			t.Fatal(err)
		}
	}
}

// lets says whether the host lets a certificate in.
func (h *host) lets(c ssh.Signer) bool {
	h.t.Helper()
	cl, err := ssh.Dial("tcp", h.address, &ssh.ClientConfig{User: h.login, Auth: []ssh.AuthMethod{ssh.PublicKeys(c)}, HostKeyCallback: ssh.InsecureIgnoreHostKey()})
	if err == nil {
		cl.Close()
	}
	return err == nil
}

// pull runs the script against addresses whose server's key is pinned.
func (h *host) pull(addresses, pins, origin string) (string, error) {
	h.t.Helper()
	conf := filepath.Join(h.dir, "krl.conf")
	catest.Must(h.t, os.WriteFile(conf, []byte(fmt.Sprintf("CA=%q\nPINS=%q\nFILE=%q\nORIGIN=%q\n", addresses, pins, h.list, origin)), 0o600))
	cmd := exec.Command("hosts/breakglass-krl")
	cmd.Env = append(os.Environ(), "BREAKGLASS_KRL_CONF="+conf)
	out, err := cmd.CombinedOutput()
	left, gerr := filepath.Glob(h.list + ".new.*")
	if gerr != nil || len(left) > 0 {
		h.t.Errorf("the script left %v behind: %v", left, gerr)
	}
	return string(out), err
}

func pin(hexes ...string) string {
	var out []string
	for _, s := range hexes {
		b, err := hex.DecodeString(s)
		if err != nil {
			panic(err)
		}
		out = append(out, "sha256//"+base64.StdEncoding.EncodeToString(b))
	}
	return strings.Join(out, ";")
}

// impostor serves what it is told, with a key of its own, which its second result pins.
func impostor(t *testing.T, answer http.HandlerFunc) (address, pinned string) {
	t.Helper()
	pub, priv, err := ed25519.GenerateKey(rand.Reader)
	catest.Must(t, err)
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, pub, priv)
	catest.Must(t, err)
	spki, err := x509.MarshalPKIXPublicKey(pub)
	catest.Must(t, err)
	s := httptest.NewUnstartedServer(answer)
	s.TLS = &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: priv}}}
	s.StartTLS()
	t.Cleanup(s.Close)
	sum := sha256.Sum256(spki)
	return s.Listener.Addr().String(), pin(hex.EncodeToString(sum[:]))
}

func TestHostsRefuseWhatWasRevoked(t *testing.T) {
	me, err := user.Current()
	catest.Must(t, err)
	c := catest.New(t, catest.Config{Policy: strings.ReplaceAll(catest.Policy, `"root"`, fmt.Sprintf("%q", me.Username))})
	h := startHost(t, c.Pins.Site.SessionCA)
	alice, bob := c.Enrol("alice"), c.Enrol("bob")
	_, err = bob.Recipient("age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p")
	catest.Must(t, err)
	jump := c.Join("jump-a")
	// session is a session certificate under a new grant, as the host is shown it.
	session := func() (*catest.Grant, ssh.Signer) {
		t.Helper()
		g, err := alice.Request(me.Username, "web01")
		catest.Must(t, err)
		key := catest.NewKey(t)
		q := jump.Question(g)
		q.Key = catest.Line(key.PublicKey())
		a, err := jump.Open(q)
		catest.Must(t, err)
		pub, _, _, _, err := ssh.ParseAuthorizedKey([]byte(a.Opened.Certificate))
		catest.Must(t, err)
		s, err := ssh.NewCertSigner(pub.(*ssh.Certificate), key)
		catest.Must(t, err)
		return g, s
	}
	revokedGrant, revoked := session()
	_, good := session()
	if !h.lets(revoked) || !h.lets(good) {
		t.Fatal("the host lets nobody in")
	}
	ch, err := alice.Client.Order(context.Background(), api.OrderAsk{Person: "alice", Act: statement.OrderRevokeGrant, Target: string(revokedGrant.ID), Reason: "laptop stolen"})
	catest.Must(t, err)
	_, err = alice.Client.SignOrder(context.Background(), ch.ID, api.SignedOrder{SSHSIG: alice.Sign(ch)})
	catest.Must(t, err)

	pins, origin := pin(c.Pins.Site.TLS...), c.Pins.Site.Origin
	if out, err := h.pull("127.0.0.1:1 "+c.Address, pins, origin); err != nil { // the first address is dead
		t.Fatalf("%v\n%s", err, out)
	}
	if h.lets(revoked) {
		t.Error("the host lets in what was revoked")
	}
	if !h.lets(good) {
		t.Error("the host refuses what was not revoked")
	}

	kept, err := os.ReadFile(h.list)
	catest.Must(t, err)
	list, err := krl.Parse(kept)
	catest.Must(t, err)
	older := *list
	older.Version--
	old, err := older.Marshal()
	catest.Must(t, err)
	other := *list
	other.Version, other.Comment = other.Version+5, "somebody.else/demo"
	foreign, err := other.Marshal()
	catest.Must(t, err)
	serve := func(b []byte) func() (string, string) {
		return func() (string, string) {
			return impostor(t, func(w http.ResponseWriter, r *http.Request) { w.Write(b) })
		}
	}
	for _, bad := range []struct {
		what   string
		server func() (address, pins string)
	}{
		{"a list that was cut off", serve(kept[:len(kept)-3])},
		{"something else", serve([]byte("<html>log in to the network</html>"))},
		{"the common mistake in the magic", serve(append([]byte("SSHKRL\x00\x00"), kept[8:]...))},
		{"nothing", serve(nil)},
		{"an older list", serve(old)},
		{"a list of another installation", serve(foreign)},
		{"a list without an end", func() (string, string) {
			return impostor(t, func(w http.ResponseWriter, r *http.Request) {
				for b := bytes.Repeat([]byte("x"), 1<<20); ; {
					if _, err := w.Write(b); err != nil {
						return
					}
				}
			})
		}},
		{"an error with a list in it", func() (string, string) {
			return impostor(t, func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(500); w.Write(kept) })
		}},
		{"a redirect", func() (string, string) {
			return impostor(t, func(w http.ResponseWriter, r *http.Request) {
				http.Redirect(w, r, "https://"+c.Address+"/v1/krl", http.StatusFound)
			})
		}},
		{"a good list by a server that is not pinned", func() (string, string) {
			address, _ := impostor(t, func(w http.ResponseWriter, r *http.Request) { w.Write(kept) })
			return address, pins
		}},
		{"nobody answers", func() (string, string) { return "127.0.0.1:1", pins }},
	} {
		address, pinned := bad.server()
		out, err := h.pull(address, pinned, origin)
		if err == nil || !strings.Contains(out, "stays as it is") {
			t.Errorf("%s: %v\n%s", bad.what, err, out)
		}
		if now, err := os.ReadFile(h.list); err != nil || !bytes.Equal(now, kept) {
			t.Errorf("%s: the list on the host changed: %v", bad.what, err)
		}
	}
	if !h.lets(good) || h.lets(revoked) {
		t.Error("after all that the host lets in others than before")
	}

	// Why all this: with a list that it can't read, sshd lets nobody in. The next run mends it.
	catest.Must(t, os.WriteFile(h.list, []byte("SSHKRL\x00\x00"), 0o644))
	if h.lets(good) {
		t.Error("sshd lets somebody in with a list that it can't read: this test has learnt something new")
	}
	if out, err := h.pull(c.Address, pins, origin); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if !h.lets(good) || h.lets(revoked) {
		t.Error("the list was not mended")
	}
	// The example's keys are the script's, each with the form that curl takes.
	example, err := os.ReadFile("hosts/breakglass-krl.conf")
	catest.Must(t, err)
	for _, want := range []string{"\nCA=", "\nPINS=\"sha256//", "\nFILE=/etc/ssh/breakglass_krl\n", "\nORIGIN="} {
		if !strings.Contains(string(example), want) {
			t.Errorf("the example configuration lacks %q", want)
		}
	}
}
