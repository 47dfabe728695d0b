package policytext

import (
	"fmt"
	"slices"
	"sort"
	"strings"
)

// This file shows how one text became another, the same bytes wherever it is made: what owners sign names the SHA-256 of what Diff gives.
//
// Lines that stand once in both texts, in the same order, hold the two together (the longest such series); what lies between is taken as replaced, once
// equal lines at its ends are taken off (the anchored diff of Go's own internal/diff). That is what people would mark, and it takes n log n for n lines,
// where the shortest edit takes n times its length.

const (
	// context is how many unchanged lines stand around a change.
	context = 3
	// MaxDiff bounds, in bytes of a JSON string, what an entry of the ledger holds of a diff; the rest follows from the texts.
	MaxDiff = 8 << 10
)

// shortened begins the last line of a diff that Shorten cut.
const shortened = "\\ Shortened: "

// Diff gives the unified diff between two texts; "" if they are one.
func Diff(before, after string) string {
	if before == after {
		return ""
	}
	x, y := lines(before), lines(after)
	var out strings.Builder
	out.WriteString("--- in force\n+++ proposed\n")
	var hunk []string
	var done, at, count pair // emitted so far, where the hunk begins, its lines
	for _, m := range anchors(x, y) {
		if m.x < done.x { // grown over already
			continue
		}
		start, end := m, m
		for start.x > done.x && start.y > done.y && x[start.x-1] == y[start.y-1] {
			start.x--
			start.y--
		}
		for end.x < len(x) && end.y < len(y) && x[end.x] == y[end.y] {
			end.x++
			end.y++
		}
		for _, s := range x[done.x:start.x] {
			hunk = append(hunk, "-"+s)
			count.x++
		}
		for _, s := range y[done.y:start.y] {
			hunk = append(hunk, "+"+s)
			count.y++
		}
		take := context // after this change
		if len(hunk) > 0 && (end.x < len(x) || end.y < len(y)) {
			take = 2 * context // and before the next, if it follows close
		}
		if len(hunk) > 0 && end.x-start.x <= take {
			for _, s := range x[start.x:end.x] {
				hunk = append(hunk, " "+s)
				count.x++
				count.y++
			}
			done = end
			if end.x < len(x) || end.y < len(y) {
				continue
			}
			start = end
		}
		if len(hunk) > 0 {
			n := min(end.x-start.x, context)
			for _, s := range x[start.x : start.x+n] {
				hunk = append(hunk, " "+s)
				count.x++
				count.y++
			}
			fmt.Fprintf(&out, "@@ -%s +%s @@\n", span(at.x, count.x), span(at.y, count.y))
			for _, s := range hunk {
				out.WriteString(s)
				if !strings.HasSuffix(s, "\n") {
					out.WriteString("\n\\ No newline at end of file\n")
				}
			}
			hunk = hunk[:0]
		}
		if end.x >= len(x) && end.y >= len(y) {
			break
		}
		at = pair{max(start.x, end.x-context), max(start.y, end.y-context)}
		count = pair{}
		for _, s := range x[at.x:end.x] {
			hunk = append(hunk, " "+s)
			count.x++
			count.y++
		}
		done = end
	}
	return out.String()
}

type pair struct{ x, y int }

func span(at, n int) string {
	if n > 0 {
		at++
	}
	return fmt.Sprintf("%d,%d", at, n)
}

func lines(text string) []string {
	l := strings.SplitAfter(text, "\n")
	if l[len(l)-1] == "" {
		l = l[:len(l)-1]
	}
	return l
}

// anchors are the places of the longest series of lines that stand once in each text and come in the same order, between the texts' two ends.
func anchors(x, y []string) []pair {
	type seen struct{ inX, inY, x, y int }
	where := map[string]*seen{}
	for i, s := range x {
		w := where[s]
		if w == nil {
			w = &seen{}
			where[s] = w
		}
		w.inX++
		w.x = i
	}
	for i, s := range y {
		if w := where[s]; w != nil {
			w.inY++
			w.y = i
		}
	}
	var once []pair
	for i, s := range x {
		if w := where[s]; w.inX == 1 && w.inY == 1 {
			once = append(once, pair{i, w.y})
		}
	}
	// The longest rising series of y (patience: each pile's top is the least y that ends a series of that length).
	var piles []int
	before := make([]int, len(once))
	for i, p := range once {
		n := sort.Search(len(piles), func(k int) bool { return once[piles[k]].y >= p.y })
		if before[i] = -1; n > 0 {
			before[i] = piles[n-1]
		}
		if n == len(piles) {
			piles = append(piles, i)
		} else {
			piles[n] = i
		}
	}
	out := []pair{{len(x), len(y)}}
	if len(piles) > 0 {
		for i := piles[len(piles)-1]; i >= 0; i = before[i] {
			out = append(out, once[i])
		}
	}
	out = append(out, pair{0, 0})
	slices.Reverse(out)
	return out
}

// Shorten gives what an entry holds of a diff: all of it, or as many whole lines as fit and a last line that says how many are left out.
func Shorten(diff string) string {
	weight := 0
	for at := 0; at < len(diff); {
		end := len(diff)
		if i := strings.IndexByte(diff[at:], '\n'); i >= 0 {
			end = at + i + 1
		}
		if weight += escaped(diff[at:end]); weight > MaxDiff {
			return fmt.Sprintf("%s%s%d more lines, which follow from the texts\n", diff[:at], shortened, strings.Count(diff[at:], "\n"))
		}
		at = end
	}
	return diff
}

// Shortened tells whether Shorten cut it: no line of a diff begins so by itself.
func Shortened(diff string) bool {
	last := strings.TrimSuffix(diff, "\n")
	return strings.HasPrefix(last[strings.LastIndexByte(last, '\n')+1:], shortened)
}
