package ca

import (
	"strings"
	"testing"
)

func TestBody(t *testing.T) {
	for _, c := range []struct {
		what, body string
		ok         bool
	}{
		{"an ask", `{"person":"alice","minutes":30,"forwards":["local db01:5432"],"reason":"primary is down – grüße"}`, true},
		{"white space around", " {} \n", true},
		{"an armored signature", `{"sshsig":"-----BEGIN\nx\n"}`, true},
		{"statements in a list", `{"facts":[{"statement":"a\nb\n","sshsig":"c\n"}]}`, true},
		{"nothing", ``, false},
		{"half", `{"person":"alice"`, false},
		{"a second value", `{}{}`, false},
		{"a bracket behind", `{}]`, false},
		{"a member twice", `{"person":"alice","person":"bob"}`, false},
		{"a member twice by its escape", `{"person":"alice","p\u0065rson":"bob"}`, false},
		{"a member twice by its case", `{"person":"alice","Person":"bob"}`, false},
		{"a member in another case", `{"PERSON":"alice"}`, false},
		{"a member with a Kelvin sign", `{"\u212aey":"x"}`, false},
		{"the same member in two objects", `{"facts":[{"statement":"a"},{"statement":"b"}]}`, true},
		{"an escape sequence", `{"reason":"\u001b[2J"}`, false},
		{"a line feed in a reason", `{"reason":"a\nb"}`, false},
		{"a carriage return in a statement", `{"statement":"a\r\n"}`, false},
		{"a NUL", `{"reason":"a\u0000"}`, false},
		{"a C1 control", `{"reason":"\u009b2J"}`, false},
		{"a right-to-left override", `{"reason":"\u202etoor"}`, false},
		{"a zero-width space", `{"person":"al\u200bice"}`, false},
		{"a line separator", `{"reason":"a\u2028b"}`, false},
		{"a lone surrogate", `{"reason":"\ud800"}`, false},
		{"bytes that aren't UTF-8", "{\"reason\":\"\xff\"}", false},
		{"controls in a list", `{"forwards":["ok","\u0007"]}`, false},
		{"too deep", strings.Repeat("[", 40) + strings.Repeat("]", 40), false},
	} {
		if err := checkBody([]byte(c.body)); (err == nil) != c.ok {
			t.Errorf("%s: %v", c.what, err)
		}
	}
}

func FuzzBody(f *testing.F) {
	for _, s := range []string{`{"person":"alice","facts":[{"statement":"a\n"}]}`, `[`, `{"a":1e999}`, `{"a":"\ud83d\ude00"}`, `nul`, `"x"`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if checkBody(b) != nil {
			return
		}
		// What passes is read by encoding/json as what it says: the text holds none of the characters.
		if strings.ContainsAny(string(b), "\x1b\u202e\u2028") {
			t.Fatalf("%q passed", b)
		}
	})
}
