package name

import (
	"errors"
	"strings"
	"testing"
)

func TestNames(t *testing.T) {
	for _, c := range []struct {
		in string
		ok bool
	}{
		{"web01", true}, {"_apt", true}, {"a.b-c_d", true}, {"0", true},
		{"", false}, {"-rf", false}, {".ssh", false}, {"Web", false}, {"a,b", false}, {"a b", false}, {"a/b", false},
		{"*", false}, {"a?", false}, {"!a", false}, {"a\n", false}, {"é", false}, {strings.Repeat("a", MaxLen), true}, {strings.Repeat("a", MaxLen+1), false},
	} {
		_, err := ParseHost(c.in)
		if (err == nil) != c.ok {
			t.Errorf("ParseHost(%q) = %v, want ok=%v", c.in, err, c.ok)
		}
		if err != nil && !errors.Is(err, ErrInvalid) {
			t.Errorf("ParseHost(%q): %v does not wrap ErrInvalid", c.in, err)
		}
	}
}

func TestIDs(t *testing.T) {
	for range 1000 {
		id := NewRequestID()
		got, err := ParseRequestID(strings.ToUpper(string(id)))
		if err != nil || got != id {
			t.Fatalf("ParseRequestID(%q) = %q, %v", id, got, err)
		}
		s, err := ParseSessionID(string(id.Session(12)))
		if err != nil || s.Request() != id || s.N() != 12 {
			t.Fatalf("session of %q: %q, %v", id, s, err)
		}
	}
	for _, bad := range []string{"", "k7f", "k7f-2m1", "k7f-2mq2", "k7f-2mo"} {
		if _, err := ParseRequestID(bad); err == nil {
			t.Errorf("ParseRequestID(%q) passed", bad)
		}
	}
	for _, bad := range []string{"k7f-2mq/", "k7f-2mq/0", "k7f-2mq/01", "k7f-2mq/-1", "k7f-2mq/1/2"} {
		if _, err := ParseSessionID(bad); err == nil {
			t.Errorf("ParseSessionID(%q) passed", bad)
		}
	}
}

func TestSplitTarget(t *testing.T) {
	l, h, err := SplitTarget("root@web01")
	if l != "root" || h != "web01" || err != nil {
		t.Errorf("got %q %q %v", l, h, err)
	}
	if _, _, err := SplitTarget("root@web01@jump"); err == nil {
		t.Error("two @ passed")
	}
	if _, _, err := SplitTarget("@web01"); err == nil {
		t.Error("empty login passed")
	}
}
