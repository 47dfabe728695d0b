package deptest

import (
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

type pkg struct {
	ImportPath  string
	Imports     []string
	TestImports []string
}

const module = "breakglass"

func list(t *testing.T, args ...string) []pkg {
	t.Helper()
	cmd := exec.Command("go", append([]string{"list", "-json=ImportPath,Imports,TestImports"}, args...)...)
	cmd.Dir = "../.."
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var all []pkg
	for d := json.NewDecoder(out); ; {
		var p pkg
		if err := d.Decode(&p); err == io.EOF {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		all = append(all, p)
	}
	if err := cmd.Wait(); err != nil {
		t.Fatal(err)
	}
	if len(all) == 0 {
		t.Fatal("go list names no package")
	}
	return all
}

// in says whether a package is one of the trees ("ca" covers ca and ca/state, "ca/api" only that and below).
func in(p string, trees ...string) bool {
	return slices.ContainsFunc(trees, func(t string) bool { return p == t || strings.HasPrefix(p, t+"/") })
}

// walls says for each tree (the longest that fits a package counts) which of our own packages it may import.
var walls = map[string][]string{
	"internal":      {"internal"},
	"policy":        {"internal", "policy"},
	"ledger":        {"internal", "ledger"},
	"transcript":    {"internal", "transcript"},
	"ca/api":        {"internal", "ledger"}, // an answer's entry is the ledger's own type
	"ca/api/client": {"internal", "ledger", "ca/api"},
	"review":        {"internal", "policy", "ledger", "transcript", "ca/api", "review"},
	"ca":            {"internal", "policy", "ledger", "transcript", "review", "ca"},
	"agent":         {"internal", "policy", "ledger", "transcript", "review", "ca/api", "agent"},
	"jump":          {"internal", "policy", "ledger", "transcript", "review", "ca/api", "jump"},
	"drill":         {"internal", "ca/api", "agent", "drill"},
	"cmd":           nil, // everything
}

func TestWalls(t *testing.T) {
	for _, p := range list(t, "./...") {
		path := strings.TrimPrefix(p.ImportPath, module+"/")
		tree := ""
		for w := range walls {
			if in(path, w) && len(w) > len(tree) {
				tree = w
			}
		}
		if tree == "" {
			if !in(path, "testdata", "contrib") {
				t.Errorf("%s stands in no house", path)
			}
			continue
		}
		if walls[tree] == nil {
			continue
		}
		for _, i := range p.Imports {
			i, ours := strings.CutPrefix(i, module+"/")
			if ours && !in(i, walls[tree]...) {
				t.Errorf("%s imports %s; %s may import only %v", path, i, tree, walls[tree])
			}
		}
	}
}

func TestWhatIsLinked(t *testing.T) {
	for _, c := range []struct {
		program string
		not     []string
	}{
		{"./cmd/breakglass", []string{"github.com/keys-pub/go-libfido2", "github.com/mattn/go-sqlite3", "github.com/aws/aws-sdk-go-v2", module + "/internal/softkey"}},
		{"./cmd/breakglass-ca", []string{"github.com/keys-pub/go-libfido2", module + "/internal/softkey"}},
		{"./cmd/breakglass-jump", []string{"github.com/keys-pub/go-libfido2", "github.com/mattn/go-sqlite3", module + "/internal/softkey", module + "/policy"}},
		{"./cmd/breakglass-fido2", []string{"github.com/mattn/go-sqlite3", module + "/internal/softkey"}},
	} {
		for _, p := range list(t, "-deps", c.program) {
			if in(p.ImportPath, c.not...) {
				t.Errorf("%s links %s", c.program, p.ImportPath)
			}
		}
	}
}

// TestPureGo builds the person's program without cgo, also for the systems that it is carried to.
func TestPureGo(t *testing.T) {
	for _, target := range []string{"linux/amd64", "darwin/arm64", "windows/amd64"} {
		goos, goarch, _ := strings.Cut(target, "/")
		cmd := exec.Command("go", "build", "-o", os.DevNull, "./cmd/breakglass")
		cmd.Dir = "../.."
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS="+goos, "GOARCH="+goarch)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("%s: %v\n%s", target, err, out)
		}
	}
}
