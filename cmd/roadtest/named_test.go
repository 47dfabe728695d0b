package roadtest

import (
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

var (
	// named is a command as texts name it: quoted, in backticks, or at the beginning of a line of an example.
	named = regexp.MustCompile("(?m)(?:[\"`]|^(?:[a-z]+)?\\$? *|: |&& )(breakglass(?:-ca|-jump)?)((?: [a-z][a-z-]*)+)([^\"`\\n#()&]*)")
	flag  = regexp.MustCompile(`--[a-z][a-z-]*`)
	// other is what begins as a command does and is none: prose, the softkey's vendor, what ssh runs and not a person, and a hint of the policy
	// that a golden file holds fast.
	other = []string{"user", "opens", "test", "connect", "drill"}
)

// texts are the files that tell somebody what to type.
func texts(t *testing.T) []string {
	t.Helper()
	var out []string
	err := filepath.WalkDir("../..", func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && slices.Contains([]string{".git", "build", "testdata"}, d.Name()):
			return filepath.SkipDir
		case strings.HasSuffix(path, "_test.go"):
		case strings.HasSuffix(path, ".go"), strings.HasSuffix(path, ".md"), strings.HasSuffix(path, ".service"), strings.HasSuffix(path, ".sh"):
			out = append(out, path)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// TestCommandsThatTextsNameExist holds README, hints and helps against the programs: somebody at night types what they say.
func TestCommandsThatTextsNameExist(t *testing.T) {
	helps := map[string]string{}
	help := func(words ...string) string {
		key := strings.Join(words, " ")
		if _, ok := helps[key]; !ok {
			out, _ := exec.CommandContext(t.Context(), filepath.Join(bin, words[0]), append(words[1:], "--help")...).CombinedOutput()
			helps[key] = string(out)
		}
		return helps[key]
	}
	is := func(words []string) bool {
		return strings.Contains(help(words...), "\n  "+strings.Join(words, " ")+" ") || strings.Contains(help(words...), "\n  "+strings.Join(words, " ")+"\n")
	}
	seen := 0
	for _, path := range texts(t) {
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range named.FindAllStringSubmatch(string(b), -1) {
			program, words, rest := m[1], strings.Fields(m[2]), m[3]
			// "breakglass request v1" is the first line of a statement.
			if words[len(words)-1] == "v" || slices.Contains(other, words[0]) || words[0] == "help" || words[0] == "exit" {
				continue
			}
			command := []string{program, words[0]}
			if !is(command) {
				t.Errorf("%s names %q: there is no such command", path, program+m[2])
				continue
			}
			if len(words) > 1 && is(append(slices.Clone(command), words[1])) {
				command = append(command, words[1])
			}
			if strings.HasPrefix(strings.TrimLeft(rest, " "), "%") && strings.Contains(help(command...), "[command]") {
				continue // which command of the group, the program fills in
			}
			for _, f := range flag.FindAllString(rest, -1) {
				if !strings.Contains(help(command...), f) {
					t.Errorf("%s: %q: %s has no %s", path, strings.TrimSpace(m[0]), strings.Join(command, " "), f)
				}
			}
			seen++
		}
	}
	if seen < 100 {
		t.Errorf("%d commands are named: the texts are not read any more", seen)
	}
}
