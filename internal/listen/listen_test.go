package listen

import (
	"net"
	"strings"
	"testing"
	"time"
)

// free gives a port that nobody has on either family's wildcard.
func free(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "[::]:0")
	if err != nil {
		t.Skip("no IPv6 here:", err)
	}
	defer l.Close()
	_, port, err := net.SplitHostPort(l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	return port
}

func reached(a string) bool {
	c, err := net.DialTimeout("tcp", a, 2*time.Second)
	if err == nil {
		c.Close()
	}
	return err == nil
}

// TestBothFamilies: however an administrator writes it, both families are taken.
func TestBothFamilies(t *testing.T) {
	for _, hosts := range [][]string{{"[::]"}, {"0.0.0.0", "[::]"}, {"[::]", "0.0.0.0"}, {"127.0.0.1", "[::1]"}, {"[::]", "127.0.0.1"}} {
		port := free(t)
		var list []string
		for _, h := range hosts {
			list = append(list, h+":"+port)
		}
		ls, err := All(list)
		if err != nil {
			t.Errorf("%v: %v", list, err)
			continue
		}
		for _, h := range []string{"127.0.0.1", "[::1]"} {
			if !reached(h + ":" + port) {
				t.Errorf("%v: nobody at %s", list, h)
			}
		}
		for _, l := range ls {
			l.Close()
		}
	}
}

// TestOneThatCannotBeHad is named, and none is open.
func TestOneThatCannotBeHad(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	first := "127.0.0.1:" + free(t)
	for _, bad := range []string{taken.Addr().String(), "localhost:1", "192.0.2.1:1"} {
		if ls, err := All([]string{first, bad}); err == nil || !strings.Contains(err.Error(), bad) || ls != nil {
			t.Errorf("%s: %v", bad, err)
		}
		if reached(first) {
			t.Errorf("%s: %s is open all the same", bad, first)
		}
	}
}
