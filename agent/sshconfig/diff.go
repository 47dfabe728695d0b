package sshconfig

import (
	"fmt"
	"strings"
)

// Diff shows what changes from old to new, as far as whole lines between a common beginning and end; "" if nothing does.
func Diff(path, old, new string) string {
	if old == new {
		return ""
	}
	a, b := lines(old), lines(new)
	for len(a) > 0 && len(b) > 0 && a[0] == b[0] {
		a, b = a[1:], b[1:]
	}
	for len(a) > 0 && len(b) > 0 && a[len(a)-1] == b[len(b)-1] {
		a, b = a[:len(a)-1], b[:len(b)-1]
	}
	var w strings.Builder
	fmt.Fprintf(&w, "--- %s\n", path)
	for _, l := range a {
		fmt.Fprintf(&w, "-%s\n", l)
	}
	for _, l := range b {
		fmt.Fprintf(&w, "+%s\n", l)
	}
	return w.String()
}

func lines(s string) []string {
	if s == "" {
		return nil
	}
	return strings.Split(strings.TrimSuffix(s, "\n"), "\n")
}
