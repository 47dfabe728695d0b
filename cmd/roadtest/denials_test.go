package roadtest

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/tls"
	"database/sql"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	_ "github.com/mattn/go-sqlite3" // the driver "sqlite3"
	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"

	"breakglass/ca/api"
	"breakglass/internal/name"
	"breakglass/internal/road"
	"breakglass/internal/softkey"
	"breakglass/internal/sshcert"
	"breakglass/ledger"
)

// waitTime bounds every wait for something that comes at once on a machine with nothing else to do.
const waitTime = 30 * time.Second

// refused runs a command that must fail and gives its exit status and what the person reads.
func refused(t *testing.T, cmd *exec.Cmd) (int, string) {
	t.Helper()
	var errs bytes.Buffer
	cmd.Stderr = &errs
	out, err := cmd.Output()
	var x *exec.ExitError
	if !errors.As(err, &x) {
		t.Fatalf("%s: %v, want a failure\n%s%s", strings.Join(cmd.Args, " "), err, out, errs.String())
	}
	return x.ExitCode(), errs.String()
}

// entries reads every entry of the road's ledger beside the running CA.
func entries(t *testing.T, r *road.Road) []*ledger.Entry {
	t.Helper()
	db, err := sql.Open("sqlite3", "file:"+filepath.Join(r.Dir, "ca", "ca.db")+"?_query_only=true&_busy_timeout=10000")
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	rows, err := db.Query(`SELECT bytes FROM entries ORDER BY idx`)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	var out []*ledger.Entry
	for rows.Next() {
		var b []byte
		if err := rows.Scan(&b); err != nil {
			t.Fatal(err)
		}
		e, err := ledger.Decode(b)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, e)
	}
	return out
}

// entry waits for an entry with facts of type F that fits.
func entry[F ledger.Facts](t *testing.T, r *road.Road, fits func(F) bool) F {
	t.Helper()
	for end := time.Now().Add(waitTime); ; time.Sleep(200 * time.Millisecond) {
		for _, e := range entries(t, r) {
			if f, ok := e.Facts.(F); ok && fits(f) {
				return f
			}
		}
		if time.Now().After(end) {
			var none F
			t.Fatalf("no entry of %T", none)
		}
	}
}

// logged waits until a program's log, from a byte on, holds the text, and gives that part of the log.
func logged(t *testing.T, r *road.Road, program string, from int, want string) string {
	t.Helper()
	for end := time.Now().Add(waitTime); ; time.Sleep(50 * time.Millisecond) {
		text, _ := os.ReadFile(filepath.Join(r.Dir, program+".log"))
		if part := string(text[from:]); strings.Contains(part, want) {
			return part
		} else if time.Now().After(end) {
			t.Fatalf("%s.log does not say %q:\n%s", program, want, part)
		}
	}
}

func logSize(r *road.Road, program string) int {
	text, _ := os.ReadFile(filepath.Join(r.Dir, program+".log"))
	return len(text)
}

// grantSocket is the ssh-agent socket of alice's grant.
func grantSocket(t *testing.T, ctx context.Context, alice *road.Person) string {
	t.Helper()
	out, err := alice.Run(ctx, "breakglass", "grants", "--json")
	if err != nil {
		t.Fatal(err)
	}
	var list []struct {
		Socket string `json:"socket"`
	}
	err = json.Unmarshal([]byte(out), &list)
	for _, g := range list { // one that another has replaced has none
		if g.Socket != "" {
			return g.Socket
		}
	}
	t.Fatalf("%v: %s", err, out)
	return ""
}

// knock offers signers to the jump from an address, for a host, and says whether it let them in.
func knock(t *testing.T, r *road.Road, from, host, login string, signers ...ssh.Signer) error {
	t.Helper()
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}, Timeout: waitTime}
	nc, err := d.Dial("tcp", r.JumpAddress)
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	// PROXY protocol v2, command LOCAL, one TLV: PP2_TYPE_AUTHORITY.
	io.WriteString(nc, "\r\n\r\n\x00\r\nQUIT\n\x20\x00\x00"+string(rune(len(host)+3))+"\x02\x00"+string(rune(len(host)))+host)
	c, _, _, err := ssh.NewClientConn(nc, r.JumpAddress, &ssh.ClientConfig{User: login, Auth: []ssh.AuthMethod{ssh.PublicKeys(signers...)},
		HostKeyCallback: ssh.InsecureIgnoreHostKey(), Timeout: waitTime}) // judged by the other tests
	if err == nil {
		c.Close()
	}
	return err
}

// caSigns reads a private key of the CA: what an intruder there would have.
func caSigns(t *testing.T, r *road.Road, key string) ssh.Signer {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(r.Dir, "ca", "keys", key))
	if err != nil {
		t.Fatal(err)
	}
	s, err := ssh.ParsePrivateKey(b)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// TestDenials goes through what the road refuses, each where it is refused and as the person reads it. What one house refuses by
// itself is in that house's tests (ca/denials_test.go, jump/refuse_test.go); here stand the refusals that span houses.
func TestDenials(t *testing.T) {
	r, alice := begin(t, road.Config{})
	ctx := t.Context()
	target := alice.Target()
	request := func() *exec.Cmd { return alice.Command(ctx, "breakglass", "request", "--reason", reason, target) }
	enter := func(args ...string) *exec.Cmd {
		return alice.Command(ctx, "breakglass", append([]string{"ssh", "--reason", reason, target, "--"}, args...)...)
	}

	t.Run("no reader is enrolled: no session", func(t *testing.T) {
		_, text := refused(t, enter("true"))
		if !strings.Contains(text, "no_recipient") {
			t.Errorf("the person reads:\n%s", text)
		}
		if !strings.Contains(text, "breakglass: hint: have a reader run: breakglass reviewer init") {
			t.Errorf("no hint:\n%s", text)
		}
		for _, e := range entries(t, r) {
			if _, ok := e.Facts.(*ledger.SessionOpened); ok {
				t.Error("a session was opened")
			}
		}
		entry(t, r, func(f *ledger.SessionRefused) bool { return f.Reasons[0].Code == api.CodeNoRecipient })
	})
	bob := reader(t, r)

	if _, err := output(request()); err != nil {
		t.Fatal(err)
	}
	socket := grantSocket(t, ctx, alice)
	ac, err := net.Dial("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer ac.Close()
	mine, err := agent.NewClient(ac).Signers()
	if err != nil || len(mine) == 0 {
		t.Fatalf("%d keys in the grant's agent: %v", len(mine), err)
	}

	t.Run("a client certificate offered straight to the host stands in sshd's log", func(t *testing.T) {
		from := logSize(r, "sshd")
		h, port, _ := net.SplitHostPort(r.HostAddress)
		known := filepath.Join(t.TempDir(), "known_hosts")
		if err := os.WriteFile(known, []byte("["+h+"]:"+port+" "+r.HostKey+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		straight := func() {
			t.Helper()
			status, text := refused(t, exec.CommandContext(ctx, "ssh", "-F", "none", "-p", port, "-l", r.Login, "-o", "IdentityAgent="+socket, "-o", "BatchMode=yes",
				"-o", "UserKnownHostsFile="+known, "-o", "GlobalKnownHostsFile=/dev/null", "-o", "StrictHostKeyChecking=yes", h, "true"))
			if status != 255 || !strings.Contains(text, "Permission denied") {
				t.Errorf("status %d\n%s", status, text)
			}
		}
		straight()
		// Another CA than the one for sessions signed it, and the line names the request and the person.
		if part := logged(t, r, "sshd", from, ":alice"); !strings.Contains(part, "Failed publickey for "+r.Login) || strings.Contains(part, "Accepted") {
			t.Errorf("sshd.log:\n%s", part)
		}
		// A host that trusts the client CA by mistake, and lets its principals in, still refuses: for the option that no sshd knows.
		for file, line := range map[string]string{"breakglass_session_ca.pub": string(ssh.MarshalAuthorizedKey(caSigns(t, r, "client_ca").PublicKey())),
			"breakglass_principals/" + r.Login: sshcert.ClientPrincipal("alice") + "\n"} {
			path := filepath.Join(r.Dir, "host", "setup", file)
			saved, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			defer os.WriteFile(path, saved, 0o644)
			if err := os.WriteFile(path, append(bytes.Clone(saved), line...), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		from = logSize(r, "sshd")
		straight()
		if part := logged(t, r, "sshd", from, sshcert.OptionGrant); !strings.Contains(part, "ritical option") || strings.Contains(part, "Accepted publickey") {
			t.Errorf("sshd.log:\n%s", part)
		}
	})

	t.Run("at the jump, counted in the minute's sum", func(t *testing.T) {
		_, priv, err := ed25519.GenerateKey(rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		thief, err := ssh.NewSignerFromKey(priv)
		if err != nil {
			t.Fatal(err)
		}
		grant := sshcert.Grant{Request: "k7f-2mq", Login: name.Login(r.Login), Host: road.Host}
		here := []netip.Addr{netip.MustParseAddr("127.0.0.1")}
		sealed, err := sshcert.Lint(sshcert.NewSession(thief.PublicKey(), "alice", grant, here, false, time.Now(), sshcert.SessionSlack), sshcert.Session)
		if err != nil {
			t.Fatal(err)
		}
		cert, err := sealed.Sign(caSigns(t, r, "session_ca"))
		if err != nil {
			t.Fatal(err)
		}
		session, err := ssh.NewCertSigner(cert, thief)
		if err != nil {
			t.Fatal(err)
		}
		old, err := sshcert.Lint(sshcert.NewClient(thief.PublicKey(), "alice", grant, here, time.Now().Add(-time.Hour), time.Now().Add(-30*time.Minute)), sshcert.Client)
		if err != nil {
			t.Fatal(err)
		}
		if cert, err = old.Sign(caSigns(t, r, "client_ca")); err != nil {
			t.Fatal(err)
		}
		expired, err := ssh.NewCertSigner(cert, thief)
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range []struct {
			what, from, host, login string
			keys                    []ssh.Signer
		}{
			{"a session certificate", "127.0.0.1", road.Host, r.Login, []ssh.Signer{session}},
			{"an expired certificate", "127.0.0.1", road.Host, r.Login, []ssh.Signer{expired}},
			{"the certificate from another address", "127.0.0.2", road.Host, r.Login, mine},
			{"the certificate for another host", "127.0.0.1", "web02", r.Login, mine},
			{"the certificate for another login", "127.0.0.1", road.Host, "nobody", mine},
		} {
			if err := knock(t, r, c.from, c.host, c.login, c.keys...); err == nil {
				t.Errorf("%s was let in", c.what)
			}
		}
		r.End("jump", false) // it tells the sum as it goes
		if err := r.StartJump(ctx); err != nil {
			t.Fatal(err)
		}
		counted := map[string]int64{}
		entry(t, r, func(f *ledger.StrangersSummed) bool {
			for _, l := range f.Counts {
				if l.Where == road.Jump {
					counted[l.Reason] += l.Count
				}
			}
			for _, reason := range []string{"wrong_certificate", "expired", "other_source", "other_host", "other_login"} {
				if counted[reason] == 0 {
					return false
				}
			}
			return true
		})
	})

	t.Run("a host with another key than the policy's", func(t *testing.T) {
		key := filepath.Join(r.Dir, "host", "host_key")
		saved, err := os.ReadFile(key)
		if err != nil {
			t.Fatal(err)
		}
		restart := func(text []byte) {
			t.Helper()
			r.End("sshd", false)
			if err := os.WriteFile(key, text, 0o600); err != nil {
				t.Fatal(err)
			}
			if err := r.StartHost(ctx); err != nil {
				t.Fatal(err)
			}
		}
		other := filepath.Join(t.TempDir(), "key")
		if out, err := exec.CommandContext(ctx, "ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", other).CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		text, err := os.ReadFile(other)
		if err != nil {
			t.Fatal(err)
		}
		restart(text)
		defer restart(saved)
		from := logSize(r, "sshd")
		status, said := refused(t, enter("touch "+filepath.Join(r.Dir, "reached")))
		if status != 255 || !strings.Contains(said, "IS NOT WHO IT SHOULD BE") || !strings.Contains(said, "hint: ") {
			t.Errorf("status %d\n%s", status, said)
		}
		f := entry(t, r, func(*ledger.HostKeyMismatch) bool { return true })
		if f.Address != r.HostAddress || len(f.Wanted) != 1 || f.Seen == f.Wanted[0] {
			t.Errorf("entry: %+v", f)
		}
		part := logged(t, r, "sshd", from, "Connection closed")
		if strings.Contains(part, "Accepted") || strings.Contains(part, "ssh2") {
			t.Errorf("something of the session reached it:\n%s", part)
		}
		if _, err := os.Stat(filepath.Join(r.Dir, "reached")); err == nil {
			t.Error("the command ran")
		}
	})

	t.Run("reading without a pass", func(t *testing.T) {
		if _, err := output(enter("echo something to read")); err != nil {
			t.Fatal(err)
		}
		id, err := newest(ctx, bob)
		if err != nil {
			t.Fatal(err)
		}
		request, _, _ := strings.Cut(id, "/")
		web := &http.Client{Timeout: waitTime, Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}} // a stranger judges nobody
		for _, path := range []string{"/v1/sessions", "/v1/transcripts/" + strings.Replace(id, "/", ".", 1), "/v1/evidence/" + request, "/v1/entries/3", "/v1/requests/" + request} {
			res, err := web.Get("https://" + r.CAAddress + path)
			if err != nil {
				t.Fatal(err)
			}
			body, _ := io.ReadAll(res.Body)
			res.Body.Close()
			var p api.Problem
			if err := json.Unmarshal(body, &p); err != nil || res.StatusCode != http.StatusUnauthorized || p.Code != api.CodePass {
				t.Errorf("GET %s: %s\n%s", path, res.Status, body)
			}
		}
	})

	t.Run("the CA is down: what runs lives on, nothing new begins", func(t *testing.T) {
		cmd := enter("cat")
		in, err := cmd.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		var out lockedBuffer
		cmd.Stdout = &out
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		io.WriteString(in, "before\n")
		out.waitFor(t, len("before\n"))
		r.End("ca", true)
		io.WriteString(in, "while it is down\n")
		out.waitFor(t, len("before\nwhile it is down\n"))
		if status, text := refused(t, enter("true")); status != 255 || !strings.Contains(text, "hint: ") {
			t.Errorf("a new session on the live grant: status %d\n%s", status, text)
		}
		if status, text := refused(t, request()); status != 13 || !strings.Contains(text, "ca_unreachable") || !strings.Contains(text, "hint: ") {
			t.Errorf("a new grant: status %d\n%s", status, text)
		}
		in.Close()
		if err := cmd.Wait(); err != nil {
			t.Errorf("the running session: %v", err)
		}
		if err := r.StartCA(ctx); err != nil {
			t.Fatal(err)
		}
		id, err := newest(ctx, bob)
		if err != nil {
			t.Fatal(err)
		}
		if text, err := bob.Run(ctx, "breakglass", "export", id, "--text"); err != nil || !strings.Contains(text, "while it is down") {
			t.Errorf("transcript: %v\n%s", err, tail(text, 20))
		}
	})

	t.Run("the jump is down", func(t *testing.T) {
		r.End("jump", false)
		_, text := refused(t, enter("true"))
		if !strings.Contains(text, "jump_unreachable") || !strings.Contains(text, "hint: ") {
			t.Errorf("the person reads:\n%s", text)
		}
		if status, text := refused(t, alice.Command(ctx, "breakglass", "connect", road.Host)); status != 255 || !strings.Contains(text, "jump_unreachable") || !strings.Contains(text, "hint: ") {
			t.Errorf("connect: status %d\n%s", status, text)
		}
		if err := r.StartJump(ctx); err != nil {
			t.Fatal(err)
		}
	})

	// Last, since a cloned key is suspended.
	for _, c := range []struct {
		what   string
		faults softkey.Faults
		code   string
	}{
		{"a key that signs without a touch", softkey.Faults{NoUP: true}, "no_touch"},
		{"a key that signs without its PIN", softkey.Faults{NoUV: true}, "no_pin"},
		{"a key whose counter stands still", softkey.Faults{FrozenCounter: true}, "late"},
	} {
		t.Run(c.what, func(t *testing.T) {
			alice.Key.SetFaults(c.faults)
			defer alice.Key.SetFaults(softkey.Faults{})
			status, text := refused(t, request())
			if status != 12 || !strings.Contains(text, "error: "+c.code+": ") || !strings.Contains(text, "hint: ") {
				t.Errorf("status %d, want 12 and %s\n%s", status, c.code, text)
			}
			entry(t, r, func(f *ledger.RequestDenied) bool { return len(f.Reasons) > 0 && f.Reasons[0].Code == c.code })
		})
	}
	ledgerIsFine(t, r, bob)
}

func output(cmd *exec.Cmd) (string, error) {
	out, err := cmd.Output()
	var x *exec.ExitError
	if errors.As(err, &x) {
		err = errors.Join(err, errors.New(string(x.Stderr)))
	}
	return string(out), err
}
