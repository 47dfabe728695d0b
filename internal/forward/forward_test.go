package forward_test

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"breakglass/internal/forward"
)

func TestParse(t *testing.T) {
	for _, c := range []struct{ in, want string }{
		{"local db01:5432", "local db01:5432"},
		{"local DB01.Example.net:5432", "local db01.example.net:5432"},
		{"local 10.0.0.1:*", "local 10.0.0.1:*"},
		{"local [2001:DB8::0:1]:22", "local [2001:db8::1]:22"},
		{"local [::ffff:10.0.0.1]:22", "local 10.0.0.1:22"},
		{"remote localhost:0", "remote localhost:0"},
		{"remote 0.0.0.0:*", "remote 0.0.0.0:*"},
		{"local-unix /run/docker.sock", "local-unix /run/docker.sock"},
		{"remote-unix /tmp/x", "remote-unix /tmp/x"},
	} {
		f, err := forward.Parse(c.in)
		if err != nil || f.String() != c.want {
			t.Errorf("%q: %q, %v", c.in, f, err)
		}
		g, err := forward.Parse(f.String())
		if err != nil || g != f {
			t.Errorf("%q does not read back: %q, %v", f, g, err)
		}
		b, err := json.Marshal(f)
		var h forward.Forward
		if err != nil || json.Unmarshal(b, &h) != nil || h != f {
			t.Errorf("%q through JSON: %s %v", f, b, h)
		}
	}
	for _, bad := range []string{
		"", "local", "local ", "local db01", "local :22", "local db01:", "local db01:0", "local db01:65536", "local db01:022", "local db01:+1", "local db01:22 ",
		"local  db01:22", "LOCAL db01:22", "dynamic 1080", "local ::1:22", "local [10.0.0.1]:22", "local [fe80::1%eth0]:22", "local *:22", "local a,b:22",
		"local 010.0.0.1:22", "local 1:22", "local -x:22", "local .x:22", "local a\nb:22", "local é:22", "remote *:8080",
		"local-unix x", "local-unix /", "local-unix /a/../b", "local-unix /a//b", "local-unix /a/", "local-unix /a b", "local-unix /a\x00", "local-unix /" + strings.Repeat("a", 107),
	} {
		if f, err := forward.Parse(bad); err == nil || !errors.Is(err, forward.ErrInvalid) {
			t.Errorf("%q passed as %q, %v", bad, f, err)
		}
	}
}

func TestAllows(t *testing.T) {
	for _, c := range []struct {
		rule, asked string
		ok          bool
	}{
		{"local a:1", "local a:1", true},
		{"local a:1", "local a:2", false},
		{"local a:1", "local b:1", false},
		{"local a:1", "remote a:1", false},
		{"local a:*", "local a:1", true},
		{"local a:*", "local a:*", true},
		{"local a:1", "local a:*", false},
		{"remote a:*", "remote a:0", true},
		{"remote a:0", "remote a:*", false},
		{"local 10.0.0.1:1", "local [::ffff:10.0.0.1]:1", true},
		{"local-unix /a", "local-unix /a", true},
		{"local-unix /a", "local-unix /a/b", false},
		{"local-unix /a", "remote-unix /a", false},
	} {
		r, err := forward.Parse(c.rule)
		if err != nil {
			t.Fatal(err)
		}
		q, err := forward.Parse(c.asked)
		if err != nil {
			t.Fatal(err)
		}
		if r.Allows(q) != c.ok {
			t.Errorf("%q allows %q: %v", c.rule, c.asked, !c.ok)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{"local db01:5432", "remote [::1]:*", "local-unix /run/x", "local [::ffff:1.2.3.4]:1", "remote localhost:0"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		fw, err := forward.Parse(s)
		if err != nil {
			return
		}
		again, err := forward.Parse(fw.String())
		if err != nil || again != fw || !fw.Allows(fw) {
			t.Fatalf("%q reads back as %q, %v", fw, again, err)
		}
		if strings.ContainsAny(fw.String(), "\n\r\x00") {
			t.Fatalf("%q holds a control character", fw)
		}
	})
}
