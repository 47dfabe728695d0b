package oncall_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"breakglass/internal/name"
	"breakglass/policy"
	"breakglass/policy/oncall"
)

const list = `# platform
alice
bob 2026-11-24T08:00:00Z 2026-11-25T08:00:00Z # Tuesday
	bob 2026-12-01T09:00:00+01:00   2026-12-02T09:00:00+01:00` + "\r\n" + `

# carol
`

func TestOn(t *testing.T) {
	l, err := oncall.Parse([]byte(list))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		what, who, at string
		want          policy.Tri
	}{
		{"a name alone is always on call", "alice", "2030-01-01T00:00:00Z", policy.Yes},
		{"a turn begins at its beginning", "bob", "2026-11-24T08:00:00Z", policy.Yes},
		{"not a second earlier", "bob", "2026-11-24T07:59:59Z", policy.No},
		{"and is over at its end", "bob", "2026-11-25T08:00:00Z", policy.No},
		{"not a second earlier", "bob", "2026-11-25T07:59:59Z", policy.Yes},
		{"a turn in another zone is the same moment", "bob", "2026-12-01T08:00:00Z", policy.Yes},
		{"a second turn ends too", "bob", "2026-12-02T08:00:00Z", policy.No},
		{"a comment is nobody", "carol", "2026-11-24T08:00:00Z", policy.No},
		{"whoever isn't named is not on call", "dan", "2026-11-24T08:00:00Z", policy.No},
	} {
		at, err := time.Parse(time.RFC3339, c.at)
		if err != nil {
			t.Fatal(err)
		}
		if got := l.On(name.Person(c.who), at); got != c.want {
			t.Errorf("%s: %s at %s: %s", c.what, c.who, c.at, got)
		}
	}
	if got := l.On("alice", time.Time{}); got != policy.Unknown {
		t.Errorf("at an unknown time alice is on call: %s", got)
	}
	if n := l.People(time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)); n != 2 {
		t.Errorf("%d people on call", n)
	}
}

func TestParseRefuses(t *testing.T) {
	for _, c := range []struct{ what, text, want string }{
		{"a name that is none", "alice\nBob\n", "line 2: "},
		{"one time", "alice 2026-11-24T08:00:00Z\n", "line 1: 2 words"},
		{"two people on a line", "alice bob\n", "line 1: 2 words"},
		{"three people on a line", "alice bob carol", "want times like"},
		{"a time without its zone", "alice 2026-11-24T08:00:00 2026-11-25T08:00:00\n", "want times like"},
		{"a date", "alice 2026-11-24 2026-11-25\n", "want times like"},
		{"a turn that ends before it begins", "# x\n\nalice 2026-11-25T08:00:00Z 2026-11-24T08:00:00Z\n", "line 3: "},
		{"a turn of no length", "alice 2026-11-25T08:00:00Z 2026-11-25T08:00:00Z\n", "is not before"},
		{"a time that would read as always", "alice 0001-01-01T00:00:00Z 2026-11-25T08:00:00Z\n", "no such turn"},
		{"a group", "@oncall\n", "line 1: "},
		{"a no-break space", "alice\u00a0\n", "line 1: "},
		{"bytes that are no text", "alice # \xff\n", "not UTF-8"},
		{"a byte order mark", "\ufeffalice\n", "line 1: "},
		{"a long line", "alice #" + strings.Repeat("x", 600), "longer than"},
		{"a long file", strings.Repeat("alice\n", oncall.MaxBytes/6+1), "more than"},
	} {
		l, err := oncall.Parse([]byte(c.text))
		if !errors.Is(err, oncall.ErrSyntax) || l != nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", c.what, err, c.want)
		}
	}
}

// FuzzParse: whatever the file, only people whom it names at the start of a line are on call by it.
func FuzzParse(f *testing.F) {
	f.Add(list)
	f.Add("alice 2026-11-24T08:00:00Z 2026-11-25T08:00:00Z\nbob")
	f.Add("#\n\n\talice\r\n")
	f.Add("alice 0001-01-01T00:00:00Z 9999-12-31T23:59:59Z")
	at := time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)
	f.Fuzz(func(t *testing.T, text string) {
		if len(text) > oncall.MaxBytes/2 {
			return // what is added below would make it too long
		}
		l, err := oncall.Parse([]byte(text))
		if err != nil {
			if !errors.Is(err, oncall.ErrSyntax) || l != nil {
				t.Fatal(err)
			}
			return
		}
		for _, p := range []name.Person{"alice", "bob", "mallory"} {
			named := false
			for line := range strings.SplitSeq(text, "\n") {
				named = named || strings.HasPrefix(strings.TrimLeft(line, " \t"), string(p))
			}
			if on := l.On(p, at); on == policy.Unknown || on == policy.Yes && !named {
				t.Fatalf("%s: %s", p, on)
			}
		}
		// What is added to a good file can't take anybody off it, and a bad line spoils all of it.
		if more, err := oncall.Parse([]byte(text + "\nmallory\n")); err != nil || more.On("mallory", at) != policy.Yes || more.On("alice", at) != l.On("alice", at) {
			t.Fatalf("%v", err)
		}
		if _, err := oncall.Parse([]byte(text + "\n?\n")); err == nil {
			t.Fatal("a bad line is taken")
		}
	})
}
