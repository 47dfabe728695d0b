package policytext

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestADiffShowsWhatChanged(t *testing.T) {
	for _, c := range []struct{ what, before, after, want string }{
		{"nothing", "a\nb\n", "a\nb\n", ""},
		{"a line more", "a\nb\nc\nd\ne\nf\ng\n", "a\nb\nc\nd\nnew\ne\nf\ng\n", "@@ -2,6 +2,7 @@\n b\n c\n d\n+new\n e\n f\n g\n"},
		{"a line changed", "a\nb\nc\n", "a\nB\nc\n", "@@ -1,3 +1,3 @@\n a\n-b\n+B\n c\n"},
		{"all of it", "a\n", "b\n", "@@ -1,1 +1,1 @@\n-a\n+b\n"},
		{"from nothing", "", "a\n", "@@ -0,0 +1,1 @@\n+a\n"},
		{"the last line feed", "a\nb", "a\nb\n", "@@ -1,2 +1,2 @@\n a\n-b\n\\ No newline at end of file\n+b\n"},
		{"two far apart", "a\n1\n2\n3\n4\n5\n6\n7\n8\nz\n", "A\n1\n2\n3\n4\n5\n6\n7\n8\nZ\n", "@@ -1,4 +1,4 @@\n-a\n+A\n 1\n 2\n 3\n@@ -7,4 +7,4 @@\n 6\n 7\n 8\n-z\n+Z\n"},
	} {
		want := c.want
		if want != "" {
			want = "--- in force\n+++ proposed\n" + want
		}
		if got := Diff(c.before, c.after); got != want {
			t.Errorf("%s:\n%s\nwant:\n%s", c.what, got, want)
		}
	}
}

// TestTheDiffIsAFormat: owners signed the hash of one, so the same texts give the same bytes for ever.
func TestTheDiffIsAFormat(t *testing.T) {
	dir := filepath.Join("testdata", "v1")
	read := func(n string) string {
		b, err := os.ReadFile(filepath.Join(dir, n))
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	if got := Diff(read("before.toml"), read("after.toml")); got != read("diff.txt") {
		t.Errorf("the diff of testdata/v1 changed; v1 is final:\n%s", got)
	}
}

// apply is what patch does.
func apply(t testing.TB, before, diff string) string {
	x := lines(before)
	var out strings.Builder
	at := 0
	all := lines(diff)
	for i, l := range all {
		if i < 2 || strings.HasPrefix(l, "\\") {
			continue
		}
		text := l[1:]
		if i+1 < len(all) && strings.HasPrefix(all[i+1], "\\") {
			text = strings.TrimSuffix(text, "\n")
		}
		switch l[0] {
		case '@':
			var from, n int
			fmt.Sscanf(l, "@@ -%d,%d", &from, &n)
			if n > 0 {
				from--
			}
			for ; at < from; at++ {
				out.WriteString(x[at])
			}
		case ' ', '-':
			if x[at] != text {
				t.Fatalf("line %d is %q, the diff says %q", at+1, x[at], text)
			}
			if at++; l[0] == ' ' {
				out.WriteString(text)
			}
		case '+':
			out.WriteString(text)
		}
	}
	for ; at < len(x); at++ {
		out.WriteString(x[at])
	}
	return out.String()
}

func FuzzDiff(f *testing.F) {
	f.Add("a\nb\nc\n", "a\nc\n")
	f.Add("a\na\nb\na\n", "b\na\na")
	f.Add("", "x")
	f.Add(strings.Repeat("same\n", 20)+"one\n"+strings.Repeat("same\n", 9), strings.Repeat("same\n", 22))
	f.Fuzz(func(t *testing.T, before, after string) {
		d := Diff(before, after)
		if (d == "") != (before == after) {
			t.Fatal("an empty diff of different texts, or the reverse")
		}
		if got := apply(t, before, d); got != after {
			t.Fatalf("the diff leads to %q, not %q:\n%s", got, after, d)
		}
		if Shortened(d) || Shortened(Shorten(d)) != (Shorten(d) != d) {
			t.Fatalf("what is whole and what was cut are not told apart:\n%s", d)
		}
	})
}

func TestALongDiffIsShortenedAndQuick(t *testing.T) {
	before := hosts(20000)
	after := hosts(100) + before[len(before)/2:] + hosts(7)
	start := time.Now()
	d := Diff(before, after)
	if took := time.Since(start); took > 5*time.Second {
		t.Errorf("it took %v", took)
	}
	if got := apply(t, before, d); got != after {
		t.Error("the diff leads elsewhere")
	}
	s := Shorten(d)
	if len(s) > MaxDiff+100 || !Shortened(s) || Shortened(d) || !strings.HasPrefix(d, s[:MaxDiff/2]) || len(s) < MaxDiff/2 {
		t.Errorf("%d bytes became %d", len(d), len(s))
	}
	if d := Diff("a\n", "b\n"); Shorten(d) != d {
		t.Error("a short one is cut")
	}
}
