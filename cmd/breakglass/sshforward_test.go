package main

import (
	"slices"
	"strings"
	"testing"
)

func TestForwardsAreAskedForAsSSHTakesThem(t *testing.T) {
	for _, c := range []struct{ options, want string }{
		{"-L 8080:db01:5432", "local db01:5432"},
		{"-L 127.0.0.1:8080:db01:5432", "local db01:5432"},
		{"-L [::1]:8080:[2001:db8::1]:5432", "local [2001:db8::1]:5432"},
		{"-L *:8080:db01:5432", "local db01:5432"},
		{"-L :8080:db01:5432", "local db01:5432"},
		{"-L 8080:/run/docker.sock", "local-unix /run/docker.sock"},
		{"-L /tmp/here:/run/docker.sock", "local-unix /run/docker.sock"},
		{"-L /tmp/here:db01:5432", "local db01:5432"},
		{"-R 8080:localhost:80", "remote localhost:8080"},
		{"-R 0.0.0.0:8080:localhost:80", "remote 0.0.0.0:8080"},
		{"-R 0:localhost:80", "remote localhost:0"},
		{"-R 1080", "remote localhost:1080"},
		{"-R 127.0.0.1:1080", "remote 127.0.0.1:1080"},
		{"-R 8080:/tmp/here", "remote localhost:8080"},
		{"-R [::1]:8080:/tmp/here", "remote [::1]:8080"},
		{"-R /tmp/there:localhost:80", "remote-unix /tmp/there"},
		{"-W db01:22", "local db01:22"},
		{"-v -L 1:a:2 -p 22 -R 3:b:4", "local a:2,remote localhost:3"},
		// What only the jump, or nobody, can tell.
		{"-D 1080", ""},
		{"-o LocalForward=1:a:2", ""},
		{"-R :8080:localhost:80", ""}, // every address: no policy can say that
		{"-L 8080", ""},
		{"-L [::1:8080:a:1", ""},
		{"-L", ""},
		{"-L 8080:db01:http", ""},
	} {
		var want []string
		if c.want != "" {
			want = strings.Split(c.want, ",")
		}
		if got := forwardsOf(strings.Fields(c.options)); !slices.Equal(got, want) {
			t.Errorf("%s: %q, want %q", c.options, got, want)
		}
	}
}
