package policy

import (
	"bytes"
	"fmt"
	"sort"
	"strings"
	"unicode/utf8"
)

// Fault is one thing wrong with a policy file, at its place.
type Fault struct {
	File         string // of the set; of a policy of one file empty
	Line, Column int    // in File, from 1; the column counts bytes
	Message      string // what is wrong
	Hint         string // what to write instead; may be empty
	text         string // the line as it stands in the file, or of a long one what is around the fault
	lead         int    // how much of text stands before the fault, in bytes
	width        int    // of the marked text, in bytes
	offset       int    // in the whole text
}

// LoadError is every fault that loading a policy found. Its text shows each with line and caret.
type LoadError struct {
	File   string // of a set, where its files are
	Faults []Fault
}

func (e *LoadError) Error() string {
	var b strings.Builder
	for i, f := range e.Faults {
		if i > 0 {
			b.WriteString("\n")
		}
		fmt.Fprintf(&b, "%s:%d: %s", At(e.File, f.File, f.Line), f.Column, f.Message)
		if f.Hint != "" {
			b.WriteString("; " + f.Hint)
		}
		number := fmt.Sprintf("%5d", f.Line)
		fmt.Fprintf(&b, "\n%s | %s\n%s | %s", number, printable(f.text), strings.Repeat(" ", len(number)), f.carets())
	}
	return b.String()
}

// carets marks the fault under its line. Tabs stay tabs, so that the caret stands where the terminal put the text.
func (f Fault) carets() string {
	lead := f.text[:f.lead]
	var b strings.Builder
	for _, r := range lead {
		if r == '\t' {
			b.WriteByte('\t')
		} else {
			b.WriteByte(' ')
		}
	}
	marked := f.text[len(lead):min(len(lead)+f.width, len(f.text))]
	b.WriteString(strings.Repeat("^", max(1, utf8.RuneCountInString(marked))))
	return b.String()
}

// printable keeps a hostile file from writing to the terminal of whoever checks it.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r == '\t' || r >= ' ' && r != 0x7f && !(r >= 0x80 && r < 0xa0) && r != utf8.RuneError {
			return r
		}
		return '?'
	}, s)
}

// faults collects what is wrong while a file is compiled.
type faults struct {
	src   []byte // the whole text
	parts []part // its files
	lines []int  // the offset of each line's start in src
	ix    *index
	list  []Fault
}

// maxFaults keeps a file that is no policy at all from burying its first fault.
const maxFaults = 100

// maxShown is how much of a line an error shows, in bytes: a key line is some 400 at most.
const maxShown = 600

func newFaults(src []byte) faults {
	f := faults{src: src, lines: []int{0}, ix: newIndex(len(src))}
	for i, c := range src {
		if c == '\n' {
			f.lines = append(f.lines, i+1)
		}
	}
	return f
}

// lineAt gives the line of an offset in its file, from 1, and where that line starts.
func (c *faults) lineAt(offset int) (line, start int) {
	line = sort.SearchInts(c.lines, offset+1)
	return line - c.partAt(offset).line + 1, c.lines[line-1]
}

// at reports a fault at the value under path or, where nothing is written there, at the closest thing around it.
func (c *faults) at(path []string, hint, format string, args ...any) {
	c.span(c.ix.value(path), hint, format, args...)
}

// key reports a fault at the key or table header of path.
func (c *faults) key(path []string, hint, format string, args ...any) {
	c.span(c.ix.key(path), hint, format, args...)
}

func (c *faults) span(s span, hint, format string, args ...any) {
	if len(c.list) >= maxFaults {
		panic(enough{})
	}
	start := min(s.offset, len(c.src))
	line, begin := c.lineAt(start)
	end := len(c.src)
	if i := bytes.IndexByte(c.src[begin:], '\n'); i >= 0 {
		end = begin + i
	}
	text := strings.TrimSuffix(string(c.src[begin:max(begin, end)]), "\r")
	lead := min(start-begin, len(text))
	if len(text) > maxShown {
		from := max(0, lead-maxShown/2)
		text, lead = text[from:min(from+maxShown, len(text))], lead-from
	}
	c.list = append(c.list, Fault{
		File:    c.partAt(start).name,
		Line:    line,
		Column:  start - begin + 1,
		Message: printable(fmt.Sprintf(format, args...)),
		Hint:    printable(hint),
		text:    text,
		lead:    lead,
		width:   s.length,
		offset:  start,
	})
}

// err is nil or the LoadError with the faults in the order of the file.
func (c *faults) err(filename string) error {
	if len(c.list) == 0 {
		return nil
	}
	sort.SliceStable(c.list, func(i, j int) bool { return c.list[i].offset < c.list[j].offset })
	return &LoadError{File: filename, Faults: c.list}
}

// suggest finds the known word closest to a misspelt one and gives it as a hint: `did you mean "@oncall"?`. Where none is close, it says what is known.
func suggest(word string, known []string) string {
	if hint := didYouMean(word, known); hint != "" || len(known) == 0 {
		return hint
	}
	return "known are " + firstOf(known)
}

// didYouMean is suggest where there is another hint if no word is close.
func didYouMean(word string, known []string) string {
	limit := min(max(len(word)/3, 1)+1, 4)
	best, distance := "", limit
	for _, k := range known {
		d := editDistance(strings.ToLower(word), k, limit)
		if d < distance || d == distance && best != "" && k < best {
			best, distance = k, d
		}
	}
	if best == "" {
		return ""
	}
	return fmt.Sprintf("did you mean %q?", best)
}

// editDistance is how many letters have to be put in, left out, changed, or swapped with the next, to make b of a; it gives up (as limit) when that
// can't be below limit.
func editDistance(a, b string, limit int) int {
	if len(a)-len(b) >= limit || len(b)-len(a) >= limit {
		return limit
	}
	before, last, row := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := 1; i <= len(a); i++ {
		before, last, row = last, row, before
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := last[j-1]
			if a[i-1] != b[j-1] {
				cost++
			}
			row[j] = min(cost, last[j]+1, row[j-1]+1)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
		}
	}
	return min(row[len(b)], limit)
}
