package connect

import (
	"strings"
	"testing"
	"unicode"
)

// FuzzJudge: whatever a machine says that claims to be a jump, only an identification is taken for one, and what a person is shown of the rest is
// one short line that drives no terminal.
func FuzzJudge(f *testing.F) {
	for _, s := range []string{"SSH-2.0-x\r\n", "breakglass: this jump is full\r\n", "", "S", "ssh-2.0", "\x1b[2J\x1b]0;x\a", "HTTP/1.1 400\r\n\r\n", strings.Repeat("a", 2000),
		"SSH\r\n", "breakglass: \xff\xfe\u202e\r\n", "\r\nSSH-2.0-x\r\n"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, said []byte) {
		first := said[:min(len(said), len(identification))]
		err := judge(first, strings.NewReader(string(said)))
		if (err == nil) != strings.HasPrefix(string(said), identification) {
			t.Fatalf("%q: %v", said, err)
		}
		if err == nil {
			return
		}
		text := err.Error()
		if len(text) > 10*maxRefusal || strings.ContainsFunc(text, func(r rune) bool { return !unicode.IsPrint(r) }) {
			t.Errorf("shown: %q", text)
		}
	})
}
