// Package help prints the programs' --help so that it fits a terminal of 80 columns: what a person reads at night on
// somebody else's laptop. Words are moved to the next line, under where their column begins; none is changed or left out.
package help

import (
	"fmt"
	"regexp"
	"strings"
	"unicode/utf8"

	"github.com/spf13/cobra"
)

const (
	// Width is what every line fits, where its words do.
	Width = 80
	// column is the furthest right that a line's second column may begin: a gap behind it is one of the text.
	column = 45
)

// Fit makes c and all that hangs below it, unless it prints its help itself, keep to Width.
func Fit(c *cobra.Command) {
	c.SetHelpFunc(func(cmd *cobra.Command, _ []string) {
		text := cmd.Long
		if text == "" {
			text = cmd.Short
		}
		fmt.Fprint(cmd.OutOrStdout(), Wrap(strings.TrimSpace(text)+"\n\n"+cmd.UsageString()))
	})
}

// Wrap breaks lines longer than Width between words. Lines of plain text that follow each other are one paragraph if any of them is
// too long; an indented line hangs under its second column, if it has one.
func Wrap(text string) string {
	var out []string
	var paragraph []string
	end := func() {
		long := false
		for _, l := range paragraph {
			long = long || utf8.RuneCountInString(l) > Width
		}
		if long {
			paragraph = []string{strings.Join(paragraph, " ")}
		}
		for _, l := range paragraph {
			out = append(out, broken(l)...)
		}
		paragraph = nil
	}
	for l := range strings.SplitSeq(text, "\n") {
		l = strings.TrimRight(l, " ")
		if l == "" || l[0] == ' ' {
			end()
			out = append(out, broken(l)...)
			continue
		}
		paragraph = append(paragraph, l)
	}
	end()
	return strings.Join(out, "\n")
}

// gap is where a line's second column begins: what is typed, two spaces or more, what it does.
var gap = regexp.MustCompile(`^ +\S.*?\s{2,}`)

// broken is a line as lines that fit.
func broken(l string) []string {
	if utf8.RuneCountInString(l) <= Width {
		return []string{l}
	}
	hang := len(l) - len(strings.TrimLeft(l, " "))
	head := l[:hang]
	if g := gap.FindString(l); g != "" && utf8.RuneCountInString(g) <= column {
		head, hang = g, utf8.RuneCountInString(g)
	} else if hang > 0 { // a command that goes on is told from the next one
		hang += 4
	}
	var out []string
	line := head
	empty := true
	for _, word := range strings.Fields(l[len(head):]) {
		switch {
		case empty:
			line += word
		case utf8.RuneCountInString(line)+1+utf8.RuneCountInString(word) <= Width:
			line += " " + word
		default:
			out = append(out, line)
			line = strings.Repeat(" ", hang) + word
		}
		empty = false
	}
	return append(out, line)
}
