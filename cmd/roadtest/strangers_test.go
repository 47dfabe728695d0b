package roadtest

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"database/sql"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"filippo.io/torchwood"
	"golang.org/x/crypto/ssh"

	"breakglass/internal/loopback"
	"breakglass/internal/road"
	"breakglass/ledger"
)

// Checkers and witnesses that others wrote, on our ledger. They are what `make tools` builds.

// tool finds such a program.
func tool(t *testing.T, name string) string {
	t.Helper()
	if p, err := filepath.Abs(filepath.Join("..", "..", "build", "tools", name)); err == nil {
		if _, err := os.Stat(p); err == nil {
			return p
		}
	}
	p, err := exec.LookPath(name)
	if err != nil {
		if os.Getenv("CI") != "" {
			t.Fatalf("%s is missing: make tools", name)
		}
		t.Skipf("%s is missing: make tools", name)
	}
	return p
}

// stockWitness is litewitness with its key in a stock ssh-agent.
type stockWitness struct {
	address, db, vkey string
}

func startWitness(t *testing.T, name string) *stockWitness {
	t.Helper()
	program := tool(t, "litewitness")
	dir, err := os.MkdirTemp("", "bgw") // short: a socket stands in it
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	pub, priv, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	block, err := ssh.MarshalPrivateKey(priv, "")
	if err != nil {
		t.Fatal(err)
	}
	key := filepath.Join(dir, "key")
	if err := os.WriteFile(key, pem.EncodeToMemory(block), 0o600); err != nil {
		t.Fatal(err)
	}
	sock := filepath.Join(dir, "agent")
	spawn := func(cmd *exec.Cmd) {
		t.Helper()
		var log bytes.Buffer
		cmd.Stdout, cmd.Stderr = &log, &log
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			cmd.Process.Kill()
			cmd.Wait()
			if t.Failed() {
				t.Logf("%s says:\n%s", cmd.Path, tail(log.String(), 20))
			}
		})
	}
	spawn(exec.Command("ssh-agent", "-D", "-a", sock))
	add := func() error {
		cmd := exec.Command("ssh-add", key)
		cmd.Env = append(os.Environ(), "SSH_AUTH_SOCK="+sock)
		return cmd.Run()
	}
	for end := time.Now().Add(waitTime); add() != nil; time.Sleep(50 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("the agent takes no key")
		}
	}
	ports, err := loopback.Addresses(1)
	if err != nil {
		t.Fatal(err)
	}
	w := &stockWitness{address: ports[0], db: filepath.Join(dir, "witness.db"), vkey: cosignatureVKey(name, pub)}
	sshPub, err := ssh.NewPublicKey(pub)
	if err != nil {
		t.Fatal(err)
	}
	spawn(exec.Command(program, "-name", name, "-db", w.db, "-ssh-agent", sock, "-listen", w.address, "-key", ssh.FingerprintSHA256(sshPub)))
	for end := time.Now().Add(waitTime); ; time.Sleep(50 * time.Millisecond) {
		c, err := net.Dial("tcp", w.address)
		if err == nil {
			c.Close()
			return w
		}
		if time.Now().After(end) {
			t.Fatal(err)
		}
	}
}

// cosignatureVKey writes a key as C2SP signed-note has those of cosignature/v1.
func cosignatureVKey(name string, pub ed25519.PublicKey) string {
	typed := append([]byte{4}, pub...)
	h := sha256.Sum256(append([]byte(name+"\n"), typed...))
	return fmt.Sprintf("%s+%08x+%s", name, binary.BigEndian.Uint32(h[:]), base64.StdEncoding.EncodeToString(typed))
}

// knows tells the witness of a log, as its own tool would.
func (w *stockWitness) knows(t *testing.T, s ledger.Site) {
	t.Helper()
	db, err := sql.Open("sqlite3", "file:"+w.db+"?_busy_timeout=10000")
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	none := sha256.Sum256(nil)
	if _, err := db.Exec(`INSERT INTO log (origin, tree_size, tree_hash) VALUES ($1, 0, $2)`, s.Origin, base64.StdEncoding.EncodeToString(none[:])); err != nil {
		t.Fatal(err)
	}
	if _, err := db.Exec(`INSERT INTO key (origin, key) VALUES ($1, $2)`, s.Origin, s.LedgerKey); err != nil {
		t.Fatal(err)
	}
}

// add posts a head and gives the witness's answer.
func (w *stockWitness) add(t *testing.T, old int64, proof []string, note string) (int, string) {
	t.Helper()
	body := fmt.Sprintf("old %d\n%s\n%s", old, strings.Join(proof, ""), note)
	resp, err := http.Post("http://"+w.address+"/add-checkpoint", "text/plain", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, _ := io.ReadAll(resp.Body)
	return resp.StatusCode, string(b)
}

// A witness that others wrote cosigns our ledger, verify demands its cosignature beside a jump's, and it refuses a history that was made with the stolen
// ledger key; a checker that others wrote proves the ledger from its tiles.
func TestStockWitnessAndChecker(t *testing.T) {
	fsck := tool(t, "fsck")
	w := startWitness(t, "witness.example/w1")
	r, alice, bob := start(t, road.Config{})
	ctx := t.Context()
	// It comes to a site that has run without it.
	dir := filepath.Join(r.Dir, "ca")
	if out, err := r.Run(ctx, "breakglass-ca", "witnesses", "set", "--witness", w.vkey+" http://"+w.address, "--quorum", "9", "--dir", dir); err == nil {
		t.Errorf("a quorum that can't be reached:\n%s", out)
	}
	if out, err := r.Run(ctx, "breakglass-ca", "witnesses", "set", "--witness", w.vkey+" http://"+w.address, "--quorum", "2", "--dir", dir); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	site := siteOf(t, r, bob)
	w.knows(t, site)
	if _, err := alice.Run(ctx, "breakglass", "ssh", "--reason", reason, alice.Target(), "--", "echo seen"); err != nil {
		t.Fatal(err)
	}
	id, err := newest(ctx, bob)
	if err != nil {
		t.Fatal(err)
	}
	// The witness is asked again within half a minute of its first refusal: it didn't know the ledger.
	var out string
	for end := time.Now().Add(2 * time.Minute); ; time.Sleep(time.Second) {
		out, err = bob.Run(ctx, "breakglass", "verify", id)
		if err == nil || time.Now().After(end) {
			break
		}
	}
	if err != nil || !strings.Contains(out, "cosigned by jump-a, w1 (2 of 2 wanted)") {
		t.Fatalf("%v\n%s", err, out)
	}
	status, err := r.Run(ctx, "breakglass-ca", "status", "--dir", filepath.Join(r.Dir, "ca"))
	if err != nil || !strings.Contains(status, "witness.example/w1: ") || strings.Contains(status, "NEVER") {
		t.Errorf("%v\n%s", err, status)
	}

	// A bundle under those pins needs both, whoever signs: with the jump's cosignature alone it proves nothing.
	bundle := filepath.Join(t.TempDir(), "b")
	pins := filepath.Join(t.TempDir(), "pins")
	if text, err := bob.Run(ctx, "breakglass", "pins", "--json"); err != nil || os.WriteFile(pins, []byte(text), 0o600) != nil {
		t.Fatal(err)
	}
	if text, err := bob.Run(ctx, "breakglass", "pins", "--offline"); err != nil || !strings.Contains(text, "witness     witness.example/w1 by http") || !strings.Contains(text, "quorum      2 of 2 have to cosign") {
		t.Errorf("%v\n%s", err, text)
	}
	if text, err := bob.Run(ctx, "breakglass", "pins", "--offline", "--tlog-policy"); err != nil {
		t.Error(err)
	} else if _, err := torchwood.ParsePolicy([]byte(text)); err != nil {
		t.Errorf("%v\n%s", err, text)
	}
	for end := time.Now().Add(time.Minute); ; time.Sleep(time.Second) {
		if _, err := bob.Run(ctx, "breakglass", "bundle", id, "-o", bundle, "--force"); err == nil {
			break
		} else if time.Now().After(end) {
			t.Fatal(err)
		}
	}
	if out, err := bob.Run(ctx, "breakglass", "verify", bundle, "--sealed", "--trust", pins); err != nil || !strings.HasPrefix(out, "VERIFIED sealed") {
		t.Errorf("%v\n%s", err, out)
	}
	b, err := os.ReadFile(bundle)
	if err != nil {
		t.Fatal(err)
	}
	name := []byte("— witness.example/w1 ")
	if !bytes.Contains(b, []byte(`\u2014 witness.example`)) && !bytes.Contains(b, name) {
		t.Fatal("the bundle holds no cosignature of the witness")
	}
	other := bytes.ReplaceAll(b, name, []byte("— witness.example/w2 "))
	if err := os.WriteFile(bundle+"2", other, 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := bob.Run(ctx, "breakglass", "verify", bundle+"2", "--sealed", "--trust", pins); err == nil || !strings.Contains(out, "cosigned by 1 of 2 wanted") {
		t.Errorf("without the witness: %v\n%s", err, out)
	}

	// The stock checker proves all tiles; a bit in one of them, and it doesn't.
	tiles := filepath.Join(t.TempDir(), "tiles")
	if _, err := r.Run(ctx, "breakglass-ca", "ledger", "tiles", tiles, "--dir", filepath.Join(r.Dir, "ca")); err != nil {
		t.Fatal(err)
	}
	check := func() (string, error) {
		srv := httptest.NewServer(http.FileServer(http.Dir(tiles)))
		defer srv.Close()
		out, err := exec.CommandContext(ctx, fsck, "--storage_url="+srv.URL+"/", "--public_key="+filepath.Join(tiles, "key"), "--ui=false").CombinedOutput()
		if err == nil && !bytes.Contains(out, []byte("Successfully")) { // it says so, and ends with 0
			err = errors.New("not proved")
		}
		return string(out), err
	}
	if out, err := check(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
	// So do we, without the CA: and say which tile.
	ours := func() (string, error) {
		return r.Run(ctx, "breakglass-ca", "ledger", "verify", "--tiles", tiles, "--trust", pins)
	}
	if out, err := ours(); err != nil || !strings.HasPrefix(out, "VERIFIED\n") {
		t.Errorf("%v\n%s", err, out)
	}
	hashes, _ := filepath.Glob(filepath.Join(tiles, "tile", "0", "000.p", "*"))
	if len(hashes) != 1 {
		t.Fatalf("hash tiles: %q", hashes)
	}
	h, err := os.ReadFile(hashes[0])
	if err != nil || os.WriteFile(hashes[0], change(h, 40), 0o600) != nil {
		t.Fatal(err)
	}
	if out, err := ours(); err == nil || !strings.HasPrefix(out, "FAILED\n") || !strings.Contains(out, "tile/0/000.p/") {
		t.Errorf("%v\n%s", err, out)
	}
	if err := os.WriteFile(hashes[0], h, 0o600); err != nil {
		t.Fatal(err)
	}
	found, _ := filepath.Glob(filepath.Join(tiles, "tile", "entries", "000.p", "*"))
	if len(found) != 1 {
		t.Fatalf("entry bundles: %q", found)
	}
	e, err := os.ReadFile(found[0])
	if err != nil {
		t.Fatal(err)
	}
	e[len(e)/2] ^= 1
	if err := os.WriteFile(found[0], e, 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := check(); err == nil {
		t.Errorf("a changed entry passes the checker:\n%s", out)
	}

	// The ledger's key is stolen, and history rewritten with it: of the same size, longer, and as if the witness were new.
	skey, err := os.ReadFile(filepath.Join(r.Dir, "ca", "keys", "ledger"))
	if err != nil {
		t.Fatal(err)
	}
	var fork ledger.Memory
	for i, e := range entries(t, r) {
		b, err := ledger.Encode(e)
		if err != nil {
			t.Fatal(err)
		}
		if i == 5 {
			b = bytes.Replace(b, []byte(`"v":1`), []byte(`"v":2`), 1)
		}
		if err := fork.Append(b); err != nil {
			t.Fatal(err)
		}
	}
	known := w.size(t, site.Origin)
	for _, size := range []int64{known, fork.Size()} {
		for _, old := range []int64{known, 0} {
			proof, err := ledger.ProveConsistency(old, size, &fork)
			if err != nil {
				t.Fatal(err)
			}
			var lines []string
			for _, h := range proof {
				lines = append(lines, base64.StdEncoding.EncodeToString(h[:])+"\n")
			}
			status, answer := w.add(t, old, lines, forged(t, string(skey), &fork, size))
			if status != http.StatusConflict && status != http.StatusUnprocessableEntity {
				t.Errorf("a forged head of %d entries, old %d: %d %q", size, old, status, answer)
			}
		}
	}
}

func (w *stockWitness) size(t *testing.T, origin string) (n int64) {
	t.Helper()
	db, err := sql.Open("sqlite3", "file:"+w.db+"?_busy_timeout=10000")
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if err := db.QueryRow(`SELECT tree_size FROM log WHERE origin = $1`, origin).Scan(&n); err != nil || n == 0 {
		t.Fatal(n, err)
	}
	return n
}

// forged is a head signed with the ledger's own key.
func forged(t *testing.T, skey string, tree *ledger.Memory, size int64) string {
	t.Helper()
	s, err := ledger.NewSigner(skey)
	at, err2 := tree.Checkpoint(size)
	if err := errors.Join(err, err2); err != nil {
		t.Fatal(err)
	}
	n, err := ledger.Checkpoint{Origin: s.Name(), Size: at.Size, Root: at.Root}.Sign(s)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// siteOf is what a person pins.
func siteOf(t *testing.T, r *road.Road, p *road.Person) ledger.Site {
	t.Helper()
	text, err := p.Run(t.Context(), "breakglass", "pins", "--json")
	if err != nil {
		t.Fatal(err)
	}
	var pins struct {
		Site ledger.Site `json:"site"`
	}
	if err := json.Unmarshal([]byte(text), &pins); err != nil {
		t.Fatal(err)
	}
	return pins.Site
}
