package roadtest

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"breakglass/internal/road"
)

// bin holds the programs, built from this tree once for all tests.
var bin string

func TestMain(m *testing.M) {
	os.Exit(func() int {
		dir, err := os.MkdirTemp("", "breakglass-roadtest-")
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		defer os.RemoveAll(dir)
		bin = dir
		for pkg, cgo := range map[string]string{"breakglass": "0", "breakglass-jump": "0", "breakglass-ca": "1", "breakglass-fido2": "1"} {
			cmd := exec.Command("go", "build", "-o", dir+"/", "../"+pkg)
			cmd.Env = append(os.Environ(), "CGO_ENABLED="+cgo)
			if out, err := cmd.CombinedOutput(); err != nil {
				fmt.Fprintf(os.Stderr, "building %s: %v\n%s", pkg, err, out)
				return 1
			}
		}
		return m.Run()
	}())
}

const reason = "sso is down, web01 serves 500, INC-4711"

// start brings up a road with alice, who breaks the glass, and bob, who reads.
func start(t *testing.T, cfg road.Config) (r *road.Road, alice, bob *road.Person) {
	t.Helper()
	r, alice = begin(t, cfg)
	return r, alice, reader(t, r)
}

// reader enrols bob, so that recordings can be sealed to somebody.
func reader(t *testing.T, r *road.Road) *road.Person {
	t.Helper()
	bob, err := r.Enrol(t.Context(), "bob")
	if err != nil {
		t.Fatal(err)
	}
	if err := bob.Reader(t.Context()); err != nil {
		t.Fatal(err)
	}
	return bob
}

// begin brings up a road with alice alone: nobody can read yet.
func begin(t *testing.T, cfg road.Config) (r *road.Road, alice *road.Person) {
	t.Helper()
	cfg.Dir, cfg.Bin = t.TempDir(), bin
	if testing.Verbose() {
		cfg.Log = os.Stderr
	}
	ctx := t.Context()
	r, err := road.Start(ctx, cfg)
	t.Cleanup(func() {
		r.Stop()
		if t.Failed() {
			for _, name := range []string{"ca", "jump", "sshd"} {
				text, _ := os.ReadFile(filepath.Join(r.Dir, name+".log"))
				t.Logf("%s.log ends:\n%s", name, tail(string(text), 25))
			}
		}
		if err := road.Remove(r.Dir); err != nil {
			t.Error(err)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	if alice, err = r.Enrol(ctx, "alice"); err != nil {
		t.Fatal(err)
	}
	return r, alice
}

func tail(s string, lines int) string {
	f := strings.Split(s, "\n")
	return strings.Join(f[max(0, len(f)-lines):], "\n")
}

// session is what `breakglass sessions --json` says.
type session struct {
	ID     string    `json:"id"`
	State  string    `json:"state"`
	Stored bool      `json:"stored"`
	Opened time.Time `json:"opened"`
}

func sessions(ctx context.Context, bob *road.Person) ([]session, error) {
	out, err := bob.Run(ctx, "breakglass", "sessions", "--json")
	if err != nil {
		return nil, err
	}
	var list struct {
		Sessions []session `json:"sessions"`
	}
	err = json.Unmarshal([]byte(out), &list)
	return list.Sessions, err
}

// newest waits until the newest session is in the store and gives its id.
func newest(ctx context.Context, bob *road.Person) (string, error) {
	for end := time.Now().Add(30 * time.Second); ; time.Sleep(100 * time.Millisecond) {
		list, err := sessions(ctx, bob)
		if err != nil {
			return "", err
		}
		var last session
		for _, s := range list {
			if s.Opened.After(last.Opened) || last.ID == "" {
				last = s
			}
		}
		if last.Stored {
			return last.ID, nil
		}
		if time.Now().After(end) {
			return "", fmt.Errorf("the newest session is not in the store: %+v", list)
		}
	}
}

// TestScripts runs the stock tools, each against the same road.
func TestScripts(t *testing.T) {
	r, alice, bob := start(t, road.Config{})
	ctx := t.Context()
	target := r.Login + "@" + road.Host
	if _, err := alice.Run(ctx, "breakglass", "request", "--reason", reason, target); err != nil {
		t.Fatal(err)
	}
	// Stock ssh reads the account's own ~/.ssh/config whatever HOME says, so the scripts name the written one by -F.
	confPath := filepath.Join(alice.Home, "plain_ssh_config")
	if _, err := alice.Run(ctx, "breakglass", "config", "install", "--file", confPath); err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob("testdata/script/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatal("no scripts", err)
	}
	params := testscript.Params{
		RequireExplicitExec: true,
		Setup: func(e *testscript.Env) error {
			e.Vars = append(e.Vars, alice.Env()...)
			e.Vars = append(e.Vars, "TARGET="+target, "LOGIN="+r.Login, "HOST="+road.Host, "CONF="+confPath,
				"GIT_SSH_COMMAND=ssh -F "+confPath, "GIT_CONFIG_GLOBAL=/dev/null", "GIT_AUTHOR_NAME=a", "GIT_AUTHOR_EMAIL=a@example.net",
				"GIT_COMMITTER_NAME=a", "GIT_COMMITTER_EMAIL=a@example.net", "REASON="+reason)
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			// random FILE BYTES writes bytes that no compression or text handling leaves alone by luck.
			"random": func(ts *testscript.TestScript, neg bool, args []string) {
				n, err := strconv.Atoi(args[1])
				ts.Check(err)
				b := make([]byte, n)
				rand.Read(b)
				ts.Check(os.WriteFile(ts.MkAbs(args[0]), b, 0o600))
			},
			// status N COMMAND... runs a command and demands its exit status; its output becomes stdout and stderr.
			"status": func(ts *testscript.TestScript, neg bool, args []string) {
				err := ts.Exec(args[1], args[2:]...)
				got := 0
				if x, ok := err.(*exec.ExitError); ok {
					got = x.ExitCode()
				} else {
					ts.Check(err)
				}
				if strconv.Itoa(got) != args[0] {
					ts.Fatalf("exit status %d, want %s", got, args[0])
				}
			},
			// recorded [TEXT...] exports the newest session's transcript as bob and demands each text in it.
			"recorded": func(ts *testscript.TestScript, neg bool, args []string) {
				id, err := newest(ctx, bob)
				ts.Check(err)
				out, err := bob.Run(ctx, "breakglass", "export", id, "--text")
				ts.Check(err)
				files, err := bob.Run(ctx, "breakglass", "export", id, "--hashes") // names what sftp and scp carried
				ts.Check(err)
				out += files
				for _, want := range args {
					if strings.Contains(out, want) == neg {
						ts.Fatalf("transcript of %s (%d bytes): %q, found %v\n%s", id, len(out), want, !neg, tail(out, 40))
					}
				}
			},
			// hashes FILE DIRECTION demands the file's SHA-256 among the newest transcript's transfers and streams.
			"hashes": func(ts *testscript.TestScript, neg bool, args []string) {
				b, err := os.ReadFile(ts.MkAbs(args[0]))
				ts.Check(err)
				sum := sha256.Sum256(b)
				id, err := newest(ctx, bob)
				ts.Check(err)
				out, err := bob.Run(ctx, "breakglass", "export", id, "--hashes")
				ts.Check(err)
				if strings.Contains(out, hex.EncodeToString(sum[:])) == neg {
					ts.Fatalf("transcript of %s: hash of %s found: %v\n%s", id, args[0], !neg, tail(out, 40))
				}
			},
			// verified demands that the newest session's request verifies.
			"verified": func(ts *testscript.TestScript, neg bool, args []string) {
				id, err := newest(ctx, bob)
				ts.Check(err)
				out, err := bob.Run(ctx, "breakglass", "verify", id)
				ts.Check(err)
				if !strings.HasPrefix(out, "VERIFIED\n") {
					ts.Fatalf("%s", out)
				}
			},
		},
	}
	for _, f := range files {
		// One after the other: each looks at the newest session. testscript's own subtests run side by side and end with their parent.
		t.Run(strings.TrimSuffix(filepath.Base(f), ".txtar"), func(t *testing.T) {
			p := params
			p.Files = []string{f}
			testscript.Run(t, p)
		})
	}
}

// count is how often a long test repeats: N, small here, more in CI, whole in make soak.
func count(t *testing.T, def int) int {
	n, err := strconv.Atoi(os.Getenv("N"))
	if err != nil || n < 1 {
		return def
	}
	return n
}
