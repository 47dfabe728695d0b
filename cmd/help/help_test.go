package help

import (
	"bytes"
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

func TestWrap(t *testing.T) {
	tests := []struct{ name, in, want string }{
		{"what fits stays", "one\ntwo\n\n  three\n", "one\ntwo\n\n  three\n"},
		{"a paragraph with a long line flows", strings.Repeat("word ", 17) + "end\nand on", strings.TrimSpace(strings.Repeat("word ", 16)) + "\nword end and on"},
		{"a flag hangs under its column", "      --reason TEXT   " + strings.Repeat("why ", 20), "      --reason TEXT   " + strings.TrimSpace(strings.Repeat("why ", 14)) + "\n" + strings.Repeat(" ", 22) + strings.TrimSpace(strings.Repeat("why ", 6))},
		{"a word that is longer than a line stays whole", strings.Repeat("x", 90), strings.Repeat("x", 90)},
		{"a command that goes on is indented", "  " + strings.Repeat("abcd ", 16), "  " + strings.TrimSpace(strings.Repeat("abcd ", 15)) + "\n      abcd"},
		{"characters count, not bytes", strings.Repeat("…", 80), strings.Repeat("…", 80)},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := Wrap(tt.in); got != tt.want {
				t.Errorf("got\n%s\nwant\n%s", got, tt.want)
			}
		})
	}
}

func TestFitCoversWhatHangsBelow(t *testing.T) {
	root := &cobra.Command{Use: "tool", Short: strings.Repeat("root ", 20)}
	sub := &cobra.Command{Use: "sub", Short: "s", Long: strings.Repeat("below ", 30), Run: func(*cobra.Command, []string) {}}
	root.AddCommand(sub)
	Fit(root)
	for _, args := range [][]string{{"--help"}, {"sub", "--help"}, {"help", "sub"}} {
		var b bytes.Buffer
		root.SetOut(&b)
		root.SetArgs(args)
		if err := root.Execute(); err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(b.String(), "Usage:") {
			t.Errorf("%v prints no help:\n%s", args, b.String())
		}
		for l := range strings.SplitSeq(b.String(), "\n") {
			if len(l) > Width {
				t.Errorf("%v: %d columns: %s", args, len(l), l)
			}
		}
	}
}
