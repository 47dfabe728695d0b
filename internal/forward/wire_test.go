package forward_test

import (
	"testing"

	"golang.org/x/crypto/ssh"

	"breakglass/internal/forward"
)

func dial(host string, port uint32) []byte {
	return ssh.Marshal(struct {
		H string
		P uint32
		O string
		F uint32
	}{host, port, "127.0.0.1", 4711})
}

func listen(bind string, port uint32) []byte {
	return ssh.Marshal(struct {
		B string
		P uint32
	}{bind, port})
}

func texts(list ...string) (out []byte) {
	for _, s := range list {
		out = append(out, ssh.Marshal(struct{ S string }{s})...)
	}
	return out
}

func TestOf(t *testing.T) {
	for _, c := range []struct {
		typ  string
		data []byte
		want string // "": refused
	}{
		{forward.OpenLocal, dial("db01", 5432), "local db01:5432"},
		{forward.OpenLocal, dial("DB01", 5432), "local db01:5432"},
		{forward.OpenLocal, dial("::1", 80), "local [::1]:80"},
		{forward.OpenLocal, dial("::ffff:10.0.0.1", 80), "local 10.0.0.1:80"},
		{forward.OpenLocal, dial("", 80), ""},
		{forward.OpenLocal, dial("db01", 0), ""},
		{forward.OpenLocal, dial("db01", 65536+22), ""}, // must not wrap around
		{forward.OpenLocal, dial("db01:22 local x", 22), ""},
		{forward.OpenLocal, dial("010.0.0.1", 22), ""},
		{forward.OpenLocal, dial("fe80::1%eth0", 22), ""},
		{forward.OpenLocal, dial("*", 22), ""},
		{forward.OpenLocal, append(dial("db01", 22), 0), ""},
		{forward.OpenLocal, nil, ""},
		{forward.OpenRemote, dial("localhost", 8080), "remote localhost:8080"},
		{forward.Listen, listen("localhost", 0), "remote localhost:0"},
		{forward.Listen, listen("0.0.0.0", 80), "remote 0.0.0.0:80"},
		{forward.Listen, listen("", 80), ""},
		{forward.Listen, listen("*", 80), ""},
		{forward.Cancel, listen("localhost", 80), "remote localhost:80"},
		{forward.OpenLocalUnix, append(texts("/run/docker.sock", ""), 0, 0, 0, 0), "local-unix /run/docker.sock"},
		{forward.OpenLocalUnix, append(texts("/run/../etc/x", ""), 0, 0, 0, 0), ""},
		{forward.OpenLocalUnix, append(texts("run/x", ""), 0, 0, 0, 0), ""},
		{forward.OpenLocalUnix, append(texts("/run/x\x00y", ""), 0, 0, 0, 0), ""},
		{forward.OpenRemoteUnix, texts("/tmp/s", ""), "remote-unix /tmp/s"},
		{forward.ListenUnix, texts("/tmp/s"), "remote-unix /tmp/s"},
		{forward.CancelUnix, texts("/tmp/s"), "remote-unix /tmp/s"},
		{"session", nil, ""},
		{"x11", dial("a", 1), ""},
	} {
		f, err := forward.Of(c.typ, c.data)
		switch {
		case c.want == "" && err == nil:
			t.Errorf("%s %q is taken for %q", c.typ, c.data, f)
		case c.want != "" && (err != nil || f.String() != c.want):
			t.Errorf("%s %q: %q, %v; want %q", c.typ, c.data, f, err, c.want)
		}
	}
}

// FuzzOf: whatever comes over the wire is refused, or is one forward that a policy could have written, and no pattern.
func FuzzOf(f *testing.F) {
	f.Add(forward.OpenLocal, dial("db01", 22))
	f.Add(forward.Listen, listen("::1", 0))
	f.Add(forward.ListenUnix, texts("/tmp/s"))
	f.Fuzz(func(t *testing.T, typ string, data []byte) {
		fw, err := forward.Of(typ, data)
		if err != nil {
			return
		}
		again, err := forward.Parse(fw.String())
		if err != nil || again != fw || fw.AnyPort {
			t.Fatalf("%s %q is %q, and that reads back as %q, %v", typ, data, fw, again, err)
		}
	})
}
